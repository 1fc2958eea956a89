"""`report.html`: one file that opens from disk, without network, and in which no text of a model can do anything.

jinja2 with autoescape; every string is also freed of control and direction characters. Data reach the one script as
JSON in a block that is no script; the script writes them with ``textContent`` only. The content security policy allows
exactly that script by its hash, and nothing from outside.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from gradus.console import escape
from gradus.report.page import Page

_TEMPLATES = Path(__file__).parent / "templates"
NUM_WITHOUT_SCRIPT = 30
"""Completions that are there without JavaScript."""


def render(page: Page) -> str:
    """Returns the whole page."""
    style, script = _asset("style.css"), _asset("browser.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    carried = page.carried
    figures = [*page.curves, *(one for one in (page.pass_at_k, page.maj_at_k) if one)]
    return _environment().get_template("report.html").render(
        page=page,
        comparison=page.comparison,
        policy=policy,
        style=Markup(style),
        script=Markup(script),
        first_rollouts=carried.rows[:NUM_WITHOUT_SCRIPT],
        rollout_data={"rows": carried.rows, "prompts": carried.prompts},
        cursor_data={figure.id: figure.cursor for figure in figures},
    )  # fmt: skip


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _harmless(value: Any) -> Any:
    """What a template puts out: text without characters that hide or reorder it; markup as it is."""
    if isinstance(value, Markup):
        return value
    return escape(value) if isinstance(value, str) else value


def _asset(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")
