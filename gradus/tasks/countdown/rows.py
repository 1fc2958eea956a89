"""Countdown problems read from files and the Hub: columns, and the two ways to split them."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from gradus.data.intake import Intake
from gradus.tasks.countdown.generate import split_of
from gradus.types import Split

MAX_GIVEN = 8
"""Most numbers a problem may have."""
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_RULE = "give integers of at most 18 digits, for example numbers=[2, 5, 8], target=11"

Raw = tuple[int, tuple[int, ...], int]
"""Row, numbers, target."""


def read_rows(address: str, intake: Intake) -> Iterator[Raw]:
    """Yields row number, numbers and target of every usable row; the others are counted in ``intake``.

    Read are the columns ``target`` and ``nums`` (or ``numbers``), also inside ``truth`` (written by `gradus prepare`)
    or ``reward_model.ground_truth`` (verl's layout). A folder or data set gives its ``train`` rows.
    """
    # Imported here: this module is below the data layer, and its generator needs no reader.
    from gradus.data.sources import Source

    for row in Source(address).rows("train", intake=intake):
        fields = _fields(row.fields)
        if fields is None and row.index == 0:
            raise ValueError(
                f"{row.place} has the columns {', '.join(row.fields)}; Countdown needs target and nums, for example "
                '{"target": 11, "nums": [2, 5, 8]}'
            )
        try:
            if fields is None:
                raise ValueError("columns")
            numbers, target = fields
            yield row.index, *integers(numbers, target)
        except ValueError:
            intake.drop("not_a_problem", row.place)


def _fields(row: Mapping[str, Any]) -> tuple[Any, Any] | None:
    """The columns of a row that hold numbers and target, wherever they are."""
    holder: Any = row.get("truth") or row
    if isinstance(row.get("reward_model"), Mapping):
        holder = row["reward_model"].get("ground_truth")
    if isinstance(holder, str):
        try:
            holder = json.loads(holder)
        except (ValueError, RecursionError):
            return None
    if not isinstance(holder, Mapping) or "target" not in holder:
        return None
    numbers = holder.get("nums", holder.get("numbers"))
    return None if numbers is None else (numbers, holder["target"])


def by_key(rows: Iterable[Raw], split: Split, intake: Intake) -> Iterator[Raw]:
    """The rows whose problem belongs to ``split``: no source or order can leak."""
    for row in rows:
        if split_of(row[1], row[2]) == split:
            yield row
        else:
            intake.num_elsewhere += 1


def by_row(
    rows: Iterator[Raw], split: Split, num_train: int, num_test: int, num_validation: int, intake: Intake
) -> Iterator[Raw]:
    """Splits by row number: first training, then test, then validation, and warns how much of a held-out one leaked."""
    if split == "train":
        yield from islice(rows, num_train)
        return
    trained = [_key(row) for row in islice(rows, num_train)]
    keys = set(trained)
    num_between = sum(1 for _ in islice(rows, num_test)) if split == "validation" else 0
    intake.num_elsewhere += len(trained) + num_between
    held_out = list(islice(rows, num_test if split == "test" else num_validation))
    num_leaked = sum(_key(row) in keys for row in held_out)
    warnings.warn(
        f"countdown: split_by='row' leaks: {num_leaked:,} of {len(held_out):,} {split} problems "
        f"({num_leaked / max(1, len(held_out)):.1%}) are in train, their numbers in some order; use split_by='key'",
        stacklevel=2,
    )
    yield from held_out


def _key(row: Raw) -> tuple[int, ...]:
    return (row[2], *sorted(row[1]))


def integers(numbers: Any, target: Any) -> tuple[tuple[int, ...], int]:
    """Reads numbers and target given as integers, integral floats or digit strings. ValueError where they are not."""
    if isinstance(numbers, (str, bytes, Mapping)) or not isinstance(numbers, Iterable):
        raise ValueError(f"numbers={numbers!r} is not a list; {_RULE}")
    values = tuple(_integer(number, "numbers") for number in islice(numbers, MAX_GIVEN + 1))
    if not 1 <= len(values) <= MAX_GIVEN:
        count = "none" if not values else f"more than {MAX_GIVEN}"
        raise ValueError(f"numbers has {count}; give 1 to {MAX_GIVEN}, for example numbers=[2, 5, 8]")
    return values, _integer(target, "target")


def _integer(value: Any, name: str) -> int:
    if isinstance(value, str):
        if not _INTEGER.fullmatch(value.strip()):
            raise ValueError(f"{name}: {value[:40]!r} is not an integer; {_RULE}")
        return int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name}: {value!r} is not an integer; {_RULE}")
    if abs(value) >= 10**18:
        raise ValueError(f"{name}: {value!r} has more than 18 digits; {_RULE}")
    return value
