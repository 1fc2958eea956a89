"""Problems of economic decisions from the files that `gradus prepare economy` writes, checked before any is used."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from gradus.data.sources import Source
from gradus.tasks.economy.contexts import split_of
from gradus.tasks.economy.errors import DataError, LeakageError
from gradus.tasks.economy.reward import SOURCE
from gradus.tasks.economy.values import Values
from gradus.types import SPLITS, Message, Problem, Split

_SHAPING = ("prompt", "lang", "few_shot", "envelope", "reward")
"""Options that are written into the rows."""


def read_problems(source: str, split: Split, limit: int | None, options: Mapping[str, Any]) -> Iterator[Problem]:
    """Yields the rows of a split. DataError for a row that cannot be scored, LeakageError for an economy of another
    split, ValueError for a folder that was prepared with other options."""
    _check_options(Path(source), options)
    rows = Source(source).rows(split, need=("id", "messages", "truth", "domain", "difficulty", "meta"))
    for row in islice(rows, limit):
        yield _problem(row.fields, split)


def _check_options(folder: Path, options: Mapping[str, Any]) -> None:
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        raise ValueError(
            f"source={str(folder)!r} has no manifest.json; write it with: gradus prepare economy --out {folder}"
        )
    made = json.loads(manifest.read_text(encoding="utf-8")).get("options", {})
    wrong = [name for name in _SHAPING if made.get(name) != options[name]]
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"source={str(folder)!r} was prepared with {name}={made.get(name)!r}, and the task has {name}={options[name]!r}; "
            f"set {name}={made.get(name)!r}, or prepare another folder"
        )


def _problem(fields: Mapping[str, Any], split: Split) -> Problem:
    name = str(fields["id"])
    truth, meta = (json.loads(v) if isinstance(v := fields[key], str) else dict(v) for key in ("truth", "meta"))
    if truth.get("data_source") != SOURCE:
        raise DataError(f"{name}: data_source={truth.get('data_source')!r}; rows of {SOURCE!r} are needed")
    Values.from_row(truth, name)
    seed = truth.get("economy_seed")
    if seed is None or split_of(int(seed)) != split:
        home = None if seed is None else split_of(int(seed))
        raise LeakageError(
            f"{name}: economy {seed} belongs to {home or 'no split'}, and stands in {split}; there are {SPLITS}"
        )
    messages = tuple(Message(role=one["role"], content=one["content"]) for one in fields["messages"])
    return Problem(
        id=name,
        task="economy",
        messages=messages,
        truth=truth,
        domain=str(fields["domain"]),
        difficulty=float(fields["difficulty"]),
        meta=meta,
    )
