"""Reading a run's recorded completions: filter, sort, and print as text, JSONL or CSV. No torch, no numpy.

Completions are hostile text. They are searched as plain substrings; in the text form every character that a terminal
would act on is shown instead; in CSV no cell can be taken for a formula.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gradus.console import escape
from gradus.jsonl import finite, read_jsonl

Row = dict[str, Any]
Order = Literal["step", "reward", "length"]
Format = Literal["text", "jsonl", "csv"]

_LARGE = 1e300
"""Beyond it a number is taken for damage; integers of any length may be in a file."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_FILE = re.compile(r"step_(\d{6,})\.jsonl")
_COLUMNS = (
    *("step", "problem_id", "domain", "difficulty", "sample", "prompt", "completion", "reward", "parts", "correct"),
    *("status", "why", "num_tokens", "finish", "advantage", "policy_step"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which completions to keep; None keeps all.

    Example:
        Filter(steps=(100, 200), is_correct=False, text="<answer>")
    """

    steps: tuple[int, int] | None = None
    """First and last step."""
    domain: str | None = None
    bucket: str | None = None
    is_correct: bool | None = None
    status: str | None = None
    rewards: tuple[float, float] | None = None
    """Lowest and highest reward; a reward that is no number is in no range."""
    text: str | None = None
    """Substring of prompt or completion; letter case matters."""

    def keeps(self, row: Mapping[str, Any]) -> bool:
        """Whether ``row`` passes."""
        return (
            (self.steps is None or self.steps[0] <= row["step"] <= self.steps[1])
            and (self.domain is None or row.get("domain") == self.domain)
            and (self.bucket is None or row.get("bucket") == self.bucket)
            and (self.is_correct is None or row.get("correct") is self.is_correct)
            and (self.status is None or row.get("status") == self.status)
            and (self.rewards is None or self.rewards[0] <= _number(row, "reward") <= self.rewards[1])
            and (self.text is None or any(self.text in str(row.get(key, "")) for key in ("prompt", "completion")))
        )


def span(text: str) -> tuple[int, int]:
    """Reads ``"100"`` or ``"100:200"`` as first and last step."""
    match = re.fullmatch(r"(\d{1,9})(?::(\d{1,9}))?", text)
    if match is None:
        raise ValueError(f"step={text!r} is no step and no range of steps; write 100 or 100:200")
    return int(match[1]), int(match[2] or match[1])


def bounds(text: str) -> tuple[float, float]:
    """Reads ``"0.5:1"``, ``"0.5:"`` or ``":0.5"`` as lowest and highest reward; a lone number is both."""
    low, colon, high = text.partition(":")
    try:
        found = (float(low or "-inf"), float(high or "inf")) if colon else (float(low), float(low))
    except ValueError:
        found = (math.nan, math.nan)
    if any(math.isnan(bound) for bound in found):
        raise ValueError(f"reward={text!r} is no range of rewards; write 0.5:1, or 0.5: for at least 0.5")
    return found


@dataclass(frozen=True, slots=True)
class Found:
    """Recorded completions.

    Example:
        read(Path("runs/first")).rows[0]["completion"]
    """

    rows: list[Row]
    """Each with its ``step`` and its ``index`` in the step's file: together they name it."""
    num_torn: int
    """Lines that could not be read."""


def read(run_path: Path, keep: Filter = Filter(), order: Order = "step") -> Found:
    """Reads what passes ``keep``: earliest first, or highest reward first, or longest first; ties by step."""
    rows, num_torn = [], 0
    for step, path in step_files(run_path / "rollouts"):
        if keep.steps is not None and not keep.steps[0] <= step <= keep.steps[1]:
            continue
        records = read_jsonl(path)
        num_torn += records.num_torn
        numbered = ({**row, "step": step, "index": index} for index, row in enumerate(records.rows))
        rows += [row for row in numbered if keep.keeps(row)]
    return Found(sorted(rows, key=_ORDERS[order]), num_torn)


def step_files(folder: Path) -> list[tuple[int, Path]]:
    """(step, path) of the JSONL files of a folder that are named after a step, ascending."""
    if not folder.is_dir():
        return []
    found = [(match, path) for path in folder.iterdir() if (match := _FILE.fullmatch(path.name))]
    return sorted((int(match[1]), path) for match, path in found)


def show(rows: Sequence[Row], form: Format = "text") -> str:
    """Rows as text for a terminal, as JSON lines (ASCII), or as CSV; no newline at the end."""
    return _FORMATS[form](rows)


def _as_text(rows: Sequence[Row]) -> str:
    return "\n\n".join(
        f"{escape(_head(row))}\n{_block('prompt', row.get('prompt'))}\n{_block('completion', row.get('completion'))}"
        for row in rows
    )


def _head(row: Row) -> str:
    parts = row.get("parts")
    terms = " ".join(f"{name}={value}" for name, value in parts.items()) if isinstance(parts, Mapping) else ""
    facts = [
        f"step {row['step']}",
        row.get("problem_id"),
        row.get("domain"),
        _JUDGED.get(row.get("correct"), "unjudged"),
    ]
    facts += [
        f"reward {row.get('reward')}",
        terms,
        row.get("why"),
        f"{row.get('num_tokens')} tokens",
        row.get("finish"),
    ]
    return "── " + " · ".join(" ".join(str(fact).split()) for fact in facts if fact not in (None, ""))


def _block(name: str, text: Any) -> str:
    return f"{name}:\n" + "\n".join(f"  {line}" for line in escape(str(text or "")).split("\n"))


def _as_jsonl(rows: Sequence[Row]) -> str:
    return "\n".join(json.dumps(finite(row), allow_nan=False) for row in rows)


def _as_csv(rows: Sequence[Row]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(_COLUMNS)
    writer.writerows([_cell(row.get(name)) for name in _COLUMNS] for row in rows)
    return buffer.getvalue().rstrip("\n")


def _cell(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula gets an apostrophe; nested values become JSON text."""
    if isinstance(value, Mapping | list):
        value = json.dumps(finite(value))
    if isinstance(value, str):
        value = value.encode("utf-8", "backslashreplace").decode()
        return "'" + value if value.lstrip(" \n\x00").startswith(_FORMULA) or value.startswith(_FORMULA) else value
    return "" if value is None else value


def _number(row: Mapping[str, Any], key: str) -> float:
    value = row.get(key)
    return float(value) if isinstance(value, int | float) and abs(value) < _LARGE else math.nan


def _descending(key: str) -> Callable[[Row], Any]:
    """Sort key: highest first, rows without a number last, ties by step and index."""

    def place(row: Row) -> tuple[float, int, int]:
        value = _number(row, key)
        return (math.inf if math.isnan(value) else -value, row["step"], row["index"])

    return place


_JUDGED: Mapping[Any, str] = {True: "right", False: "wrong"}
_ORDERS: Mapping[Order, Callable[[Row], Any]] = {
    "step": lambda row: (row["step"], row["index"]),
    "reward": _descending("reward"),
    "length": _descending("num_tokens"),
}
_FORMATS: Mapping[Format, Callable[[Sequence[Row]], str]] = {"text": _as_text, "jsonl": _as_jsonl, "csv": _as_csv}
