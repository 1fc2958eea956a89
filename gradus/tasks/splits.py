"""Rows of a data set to training, validation and test rows that share no question.

Most sources name train and test; validation is then a fixed 5 % of train, by a hash of the question, so that it does
not depend on order or on how much is read. What the test asks is left out of training, and counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradus.data.intake import Intake
from gradus.types import Split

if TYPE_CHECKING:
    from gradus.data.sources import Row, Source

HELD_OUT_PERCENT = 5
"""Share of a file that is validation; where no test is named, as much again is test."""


def normalized(question: str) -> str:
    """A question without differences of case and blanks."""
    return " ".join(question.casefold().split())


def hash_percent(question: str) -> int:
    """A number from 0 to 99 that depends on the normalized question alone."""
    digest = blake2b(normalized(question).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") * 100 >> 64


def rows(
    source: Source,
    split: Split,
    *,
    question: str,
    columns: Mapping[str, str],
    need: Sequence[str],
    intake: Intake | None = None,
) -> Iterator[tuple[Row, Mapping[str, Any]]]:
    """Yields the rows of a split with their original fields; those that cannot be used are counted in ``intake``.

    Args:
        question: the field that says what is asked.
        columns: our name of a field to the source's, where they differ.
        need: fields that every row must have. Rows written by `gradus prepare` hold them in ``meta``.
    """
    intake = intake or Intake()
    if not source.names_splits or _has_validation(source):
        named = split if source.names_splits else "train"
        for row, fields in _read(source, named, question, columns, need, intake):
            if source.names_splits or _split_of(str(fields[question])) == split:
                yield row, fields
            else:
                intake.num_elsewhere += 1
        return
    if split == "test":
        yield from _read(source, "test", question, columns, need, intake)
        return
    asked = _test_questions(source, question, columns, need)
    for row, fields in _read(source, "train", question, columns, need, intake):
        if normalized(str(fields[question])) in asked:
            intake.drop("also_in_test", row.place)
        elif (hash_percent(str(fields[question])) < HELD_OUT_PERCENT) == (split == "validation"):
            yield row, fields
        else:
            intake.num_elsewhere += 1


def _split_of(question: str) -> Split:
    share = hash_percent(question)
    return "validation" if share < HELD_OUT_PERCENT else "test" if share < 2 * HELD_OUT_PERCENT else "train"


def _has_validation(source: Source) -> bool:
    folder = Path(source.address)
    return folder.is_dir() and any(folder.glob("validation.*"))


def _test_questions(source: Source, question: str, columns: Mapping[str, str], need: Sequence[str]) -> set[str]:
    """Normalized questions of the test split; none where a folder has no test file."""
    folder = Path(source.address)
    if folder.is_dir() and not any(folder.glob("test.*")):
        return set()
    return {normalized(str(fields[question])) for _, fields in _read(source, "test", question, columns, need, Intake())}


def _read(
    source: Source, split: str, question: str, columns: Mapping[str, str], need: Sequence[str], intake: Intake
) -> Iterator[tuple[Row, Mapping[str, Any]]]:
    is_first = True
    for row in source.rows(split, columns=columns, intake=intake):
        fields = _original(row.fields, need)
        missing = [name for name in need if name not in fields]
        if missing and is_first:
            raise ValueError(
                f"{row.place} has no column {missing[0]!r}; there are: {', '.join(row.fields)}. "
                f"Name the one to use, e.g. columns: {{{missing[0]}: {next(iter(row.fields), 'text')}}}"
            )
        is_first = False
        if missing:
            intake.drop("missing_column", row.place)
        elif not isinstance(fields[question], str) or not fields[question].strip():
            intake.drop("no_question", row.place)
        else:
            yield row, fields


def _original(fields: Mapping[str, Any], need: Sequence[str]) -> Mapping[str, Any]:
    """The fields as they were before `gradus prepare`, which keeps them in ``meta``."""
    if all(name in fields for name in need):
        return fields
    holder: Any = fields
    if isinstance(fields.get("extra_info"), Mapping):
        holder = fields["extra_info"]
    meta = holder.get("meta")
    if isinstance(meta, str):
        try:
            meta = json.loads(meta)
        except (ValueError, RecursionError):
            return fields
    return meta if isinstance(meta, Mapping) and all(name in meta for name in need) else fields


def hash_name(question: str) -> str:
    """Eight hexadecimal digits that name a question given by hand."""
    return blake2b(normalized(question).encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
