"""The recorded completions that a report carries, in the form its browser reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradus.console import escape
from gradus.jsonl import finite

MAX_BYTES = 4_000_000
"""Of all texts together, as they are written into the page."""
MAX_TEXT = 4000
"""Characters of one text."""
_FACTS = ("domain", "bucket", "correct", "status", "reward", "num_tokens", "finish", "advantage", "policy_step", "why")


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """The chosen completions.

    Example:
        carry(found.rows, max_rollouts=2000).rows[0]["id"]  # "r-10-0"
    """

    rows: list[dict[str, Any]]
    prompts: list[str]
    """Each once; rows hold its place."""
    num_recorded: int


def carry(rows: Sequence[Mapping[str, Any]], *, max_rollouts: int) -> Carried:
    """Chooses at most ``max_rollouts`` completions and 4 MB, the same number of every step as far as there are so many,
    and makes their text harmless: characters that reorder or hide text are written out."""
    chosen: list[dict[str, Any]] = []
    prompts: dict[str, int] = {}
    num_bytes = 0
    for row in sorted(rows, key=lambda row: (row["index"], row["step"])):
        text, prompt = _cut(row.get("completion")), _cut(row.get("prompt"))
        num_bytes += _written(text) + (0 if prompt in prompts else _written(prompt))
        if len(chosen) == max_rollouts or num_bytes > MAX_BYTES:
            break
        chosen.append(_entry(row, text, prompts.setdefault(prompt, len(prompts))))
    chosen.sort(key=lambda entry: (entry["step"], entry["index"]))
    return Carried(rows=chosen, prompts=list(prompts), num_recorded=len(rows))


def _entry(row: Mapping[str, Any], text: str, prompt: int) -> dict[str, Any]:
    parts = row.get("parts")
    return {
        "id": f"r-{row['step']}-{row['index']}",
        "step": row["step"],
        "index": row["index"],
        "problem_id": escape(str(row.get("problem_id", ""))),
        "prompt": prompt,
        "completion": text,
        "parts": [[escape(str(k)), _plain(v)] for k, v in parts.items()] if isinstance(parts, Mapping) else [],
        **{key: _plain(row.get(key)) for key in _FACTS},
    }


def _plain(value: Any) -> Any:
    """A JSON value that the browser can show: text made harmless, everything nested as text."""
    if value is None or isinstance(value, bool | int | float):
        return finite(value)
    return escape(value if isinstance(value, str) else json.dumps(finite(value)))[:MAX_TEXT]


def _cut(text: Any) -> str:
    shown = escape(str(text or ""))
    if len(shown) <= MAX_TEXT:
        return shown
    return f"{shown[:MAX_TEXT]}\n… {len(shown) - MAX_TEXT} more characters: gradus rollouts"


def _written(text: str) -> int:
    """Bytes of the text inside the page's JSON, where every ``<``, ``>``, ``&`` and ``'`` takes six."""
    return len(json.dumps(text)) + 5 * sum(map(text.count, "<>&'"))
