"""Rows on disk: strict ASCII JSON, one object per line, readable by every tool and after every kill.

Numbers that are not finite are the strings ``"NaN"``, ``"Infinity"``, ``"-Infinity"``, which strict JSON can hold.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Records:
    """Rows of a JSONL file.

    Example:
        Records(rows=[{"step": 1, "reward": 0.4}], num_torn=0)
    """

    rows: list[dict[str, Any]]
    num_torn: int
    """Lines that are no JSON object: at most the last one after a kill, any after a defect of the disk."""


def read_jsonl(path: Path) -> Records:
    """Reads a JSONL file; a missing one has no rows. Lines that do not parse are left out and counted."""
    rows: list[dict[str, Any]] = []
    num_torn = 0
    if not path.exists():
        return Records(rows, num_torn)
    with path.open("rb") as lines:
        for line in lines:
            row = parse_line(line)
            if row is None:
                num_torn += 1
            else:
                rows.append(row)
    return Records(rows, num_torn)


def parse_line(line: bytes) -> dict[str, Any] | None:
    """The JSON object of one line; None where it is none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def to_line(row: Mapping[str, Any]) -> str:
    """One row as strict ASCII JSON without line breaks."""
    return json.dumps(finite(row), allow_nan=False, separators=(",", ":"))


def finite(value: Any) -> Any:
    """``value`` with NaN and infinities as strings, which strict JSON can hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def to_lines(rows: Sequence[Mapping[str, Any]]) -> str:
    """The text of a JSONL file."""
    return "".join(to_line(row) + "\n" for row in rows)


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object; ValueError naming the file where it is none."""
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not readable JSON ({error}); restore it from a copy of the run") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no JSON object; restore it from a copy of the run")
    return value
