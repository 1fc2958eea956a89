"""What the documents say exists: links, files, commands, options, config keys; and the generated page is up to date."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from gradus.cli.main import app
from gradus.config import Config
from gradus.keys import resume_class, schema_leaves, section_of

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FOLDERS = ("gradus/", "tests/", "docs/", "recipes/", "benchmarks/")
"""A code span that begins with one of these is a path of this repository."""
SECTIONS = {name for name, field in Config.model_fields.items() if section_of(field.annotation)}
PROGRAMS = ("gradus ", ".venv/bin/gradus ")

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_KEY = re.compile(r"([a-z]+(?:\.[a-z_0-9]+)+)(?:=.*)?")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(text: str) -> str:
    """A page without its code blocks."""
    return _FENCE.sub("", text)


def spans(text: str) -> list[str]:
    """What stands in backticks, outside code blocks."""
    return [" ".join(match[2].split()) for match in _SPAN.finditer(prose(text))]


def anchors(text: str) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ +(.*?)\s*$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path, text: str) -> Iterator[str]:
    for link in _LINK.findall(_SPAN.sub("", prose(text))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            yield link


def missing_paths(text: str) -> list[str]:
    named = [span for span in spans(text) if span.startswith(FOLDERS) and not re.search(r"[\s<>:]", span)]
    return [span for span in named if not any(ROOT.glob(span.rstrip("/")))]


def commands(text: str) -> Iterator[list[str]]:
    """Uses of our command line, in spans and in code blocks, as words after the program's name."""
    blocks = "\n".join(_FENCE.findall(text)).splitlines()
    for line in [*spans(text), *blocks]:
        for program in PROGRAMS:
            if line.startswith(program):
                yield line.removeprefix(program).partition("#")[0].partition(" && ")[0].split()


def wrong_command(words: list[str]) -> str | None:
    """What a command has that `gradus` does not know: a verb, or an option of it."""
    node: Any = typer.main.get_command(app)
    name = "gradus"
    known = {"--json", "-v", "-q", "-h", "--help"}
    for word in words:
        if word.startswith("-"):
            known |= {option for one in node.params for option in (*one.opts, *one.secondary_opts)}
            if word.partition("=")[0] not in known:
                return f"{name} {word}"
        elif hasattr(node, "commands") and word not in ("VERB", "..."):
            if word not in node.commands:
                return f"{name} {word}"
            node, name = node.commands[word], word
    return None


def wrong_keys(text: str) -> list[str]:
    """Dotted names of sections that are no config key; ``checkpoint.*`` and task options are left alone."""
    found = [match[1] for span in spans(text) if (match := _KEY.fullmatch(span))]
    mine = [key for key in found if key.partition(".")[0] in SECTIONS]
    return [key for key in mine if not any(leaf == key or leaf.startswith(key + ".") for leaf in schema_leaves())]


@pages
def test_links_lead_somewhere(page: Path) -> None:
    assert list(broken_links(page, page.read_text(encoding="utf-8"))) == []


@pages
def test_files_that_are_named_exist(page: Path) -> None:
    assert missing_paths(page.read_text(encoding="utf-8")) == []


@pages
def test_commands_and_options_exist(page: Path) -> None:
    found = [wrong_command(words) for words in commands(page.read_text(encoding="utf-8"))]
    assert [one for one in found if one] == []


@pages
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    lines = [*spans(text), *"\n".join(_FENCE.findall(text)).splitlines()]
    named = [words[1] for words in map(str.split, lines) if len(words) > 1 and words[0] == "make"]
    assert set(named) <= targets


@pages
def test_config_keys_exist(page: Path) -> None:
    assert wrong_keys(page.read_text(encoding="utf-8")) == []


def test_the_config_page_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("make_config", ROOT / "docs" / "make_config.py")
    assert spec is not None
    assert spec.loader is not None
    make_config = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_config)
    is_same = (ROOT / "docs" / "config.md").read_text(encoding="utf-8") == make_config.render()
    assert is_same, "docs/config.md is stale; run: python docs/make_config.py"


def test_every_module_has_its_row_in_the_table_of_changes() -> None:
    table = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("## Where do I change")[2]
    named = [span.rstrip("/") for span in spans(table)]
    documented = {
        path.relative_to(ROOT).as_posix() for folder in ("tasks", "train", "algo", "policy", "rollout", "data")
        for path in (ROOT / "gradus" / folder).glob("*.py") if path.name != "__init__.py"
    }  # fmt: skip
    elsewhere = {
        "gradus/tasks/codes.py",
        "gradus/train/environment.py",
        "gradus/data/problems.py",
        "gradus/rollout/rollout.py",
    }
    assert documented - elsewhere <= set(named)


def test_what_resume_accepts_is_said_in_full() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").partition("## What resume accepts")[2]
    rows = [line for line in text.splitlines() if "| accepted and recorded" in line]
    said = [{span for span in spans(row) if span in schema_leaves()} for row in rows]
    classes = [{leaf for leaf in schema_leaves() if resume_class(leaf) == kind} for kind in ("mutable", "inexact")]
    assert said == classes


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *(one for group in extras.values() for one in group)]
    names = {re.split(r"[\[<>=~! ]", one)[0] for one in needed} - {"gradus"}
    reasons = (ROOT / "docs" / "decisions" / "0001-dependencies.md").read_text(encoding="utf-8")
    assert names <= set(spans(reasons))
    assert {f"## Extra `{name}`" for name in extras} <= set(reasons.splitlines())


def test_the_checks_find_what_is_wrong() -> None:
    page = ROOT / "docs" / "config.md"
    assert list(
        broken_links(page, "[a](no.md) [b](config.md#nothing) [c](config.md#model) `[d](x)` [e](https://x)")
    ) == [
        "no.md",
        "config.md#nothing",
    ]
    assert missing_paths(
        "`gradus/no.py` `gradus/config.py` `tests/algo/` `tests/RUN <x>`\n```\n`gradus/x.py`\n```"
    ) == ["gradus/no.py"]
    assert [
        wrong_command(words) for words in commands("`gradus trian x` `gradus train x --dry` `gradus tasks check x`")
    ] == [
        "gradus trian",
        "train --dry",
        None,
    ]
    assert wrong_keys("`optimizer.lr` `optimizer.learning_rate=1` `model.lora` `sampling`") == ["optimizer.lr"]
