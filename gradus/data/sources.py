"""Rows of data sets, wherever they lie: a file, a folder with a file per split, or the Hugging Face Hub.

Knows nothing of tasks, which build problems from rows. Nothing is opened before the first row is asked for. A row that
cannot be used is left out and counted by reason; above 5 % of them the source is no source. Rows are data: they are
parsed strictly and never executed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradus.data.intake import Intake
from gradus.exits import Code, Exit

ENDINGS = (".jsonl", ".json", ".parquet")
MAX_DROPPED_FRAC = 0.05
MAX_ROW_BYTES = 4 << 20
"""Larger rows are left out: no problem is that long."""
_HUB = re.compile(r"hub:(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?(?:#(?P<config>[\w.-]+))?")


@dataclass(frozen=True, slots=True)
class Row:
    """One row and where it stands.

    Example:
        Row(index=16, fields={"question": "...", "answer": "... #### 18"}, place="train.jsonl:17")
    """

    index: int
    """Position in the source, from 0; rows that were left out count, so that an index never shifts."""
    fields: Mapping[str, Any]
    place: str
    """For messages: file and line, or data set and row."""


class Source:
    """A data set by its address: ``data/x.jsonl``, ``data/gsm8k`` (a folder with ``train.jsonl``, ``test.jsonl``), or
    ``hub:owner/name[@revision][#config]``.

    Example:
        [row.fields["question"] for row in Source("data/gsm8k").rows("train", need=("question", "answer"))]
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.intakes: dict[str, Intake] = {}
        """What became of the rows of each split, in its newest reading."""
        self._hub = _HUB.fullmatch(address)
        if address.startswith("hub:") and self._hub is None:
            raise ValueError(
                f"source={address!r} is not hub:owner/name[@revision][#config]; e.g. hub:openai/gsm8k#main"
            )

    @property
    def names_splits(self) -> bool:
        """Whether the source says which rows are train and test; in a single file every row is in every split."""
        return self._hub is not None or Path(self.address).is_dir()

    @property
    def dropped(self) -> dict[str, Counter[str]]:
        """Rows left out of each split that was read, by reason."""
        return {split: intake.dropped for split, intake in self.intakes.items()}

    def rows(
        self,
        split: str,
        *,
        columns: Mapping[str, str] | None = None,
        need: Sequence[str] = (),
        intake: Intake | None = None,
    ) -> Iterator[Row]:
        """Yields the rows of a split in the order of the source.

        Args:
            columns: our name of a column to the source's, where they differ.
            need: our names of the columns that every row must have.
            intake: where rows are counted; a new one unless given. Callers count there what they leave out themselves.

        Raises:
            ValueError: no such file, split or column. Exit: empty, or too many rows had to be left out.
        """
        intake = self.intakes[split] = intake or Intake()
        num_good = 0
        for row in self._raw(split, intake):
            if problem := _unusable(row.fields):
                intake.drop(problem, row.place)
                continue
            if num_good == 0:
                for ours, theirs in (columns or {}).items():
                    if theirs not in row.fields:
                        raise ValueError(
                            f"{row.place} has no column {theirs!r}, which columns names for {ours!r}; there are: "
                            f"{', '.join(row.fields)}"
                        )
            fields = dict(row.fields)
            fields |= {ours: row.fields[theirs] for ours, theirs in (columns or {}).items() if theirs in row.fields}
            missing = [name for name in need if name not in fields]
            if not missing:
                num_good += 1
                yield Row(row.index, fields, row.place)
            elif num_good:
                intake.drop("missing_column", row.place)
            else:
                raise ValueError(
                    f"{row.place} has no column {missing[0]!r}; there are: {', '.join(row.fields)}. "
                    f"Name the one to use, e.g. columns: {{{missing[0]}: {next(iter(row.fields), 'text')}}}"
                )
        self._judge(split, intake, num_good)

    def fingerprint(self) -> str:
        """SHA-256 over the bytes of all files; of a Hub data set its address, whose revision pins the bytes."""
        digest = hashlib.sha256()
        if self._hub is not None:
            digest.update(self.address.encode())
            return digest.hexdigest()
        path = Path(self.address)
        for file in sorted(entry for entry in path.iterdir() if entry.suffix in ENDINGS) if path.is_dir() else [path]:
            digest.update(f"{file.name}\n".encode())
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()

    def _raw(self, split: str, intake: Intake) -> Iterator[Row]:
        if self._hub is not None:
            return self._from_hub(self._hub, split, intake)
        path = self._file(split)
        readers = {".jsonl": self._from_jsonl, ".json": self._from_json, ".parquet": self._from_parquet}
        if path.suffix not in readers:
            raise ValueError(f"source={self.address!r} is not one of {', '.join(ENDINGS)}; convert it to .jsonl")
        return readers[path.suffix](path, intake)

    def _file(self, split: str) -> Path:
        path = Path(self.address)
        if path.is_file():
            return path
        if not path.is_dir():
            raise ValueError(
                f"source={self.address!r} does not exist; give a file ({', '.join(ENDINGS)}), a folder or hub:"
            )
        candidates = [path / (split + ending) for ending in ENDINGS]
        found = next((candidate for candidate in candidates if candidate.is_file()), None)
        if found is None:
            there = (
                ", ".join(sorted(entry.name for entry in path.iterdir() if entry.suffix in ENDINGS)) or "no data file"
            )
            raise ValueError(
                f"source={self.address!r} has no file for split {split!r}; there is {there}. Add {split}.jsonl"
            )
        return found

    def _from_jsonl(self, path: Path, intake: Intake) -> Iterator[Row]:
        with path.open("rb") as stream:
            while line := stream.readline(MAX_ROW_BYTES + 1):
                index = intake.num_rows
                intake.num_rows += 1
                place = f"{path.name}:{index + 1}"
                if len(line) > MAX_ROW_BYTES:
                    while line and not line.endswith(b"\n"):
                        line = stream.readline(MAX_ROW_BYTES)
                    intake.drop("too_long", place)
                    continue
                fields = _parse(line)
                if isinstance(fields, dict):
                    yield Row(index, fields, place)
                else:
                    intake.drop(fields if line.endswith(b"\n") else "torn_last_line", place)

    def _from_json(self, path: Path, intake: Intake) -> Iterator[Row]:
        try:
            rows = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{path} is not JSON ({error}); give a list of objects, or one object per line in .jsonl"
            ) from None
        if not isinstance(rows, list):
            raise ValueError(f"{path} holds no list; give a list of objects, or one object per line in .jsonl")
        for index, fields in enumerate(rows):
            intake.num_rows += 1
            if isinstance(fields, dict):
                yield Row(index, fields, f"{path.name}[{index}]")
            else:
                intake.drop("broken_line", f"{path.name}[{index}]")

    def _from_parquet(self, path: Path, intake: Intake) -> Iterator[Row]:
        try:
            import pyarrow.parquet as parquet
        except ImportError:
            raise ValueError(
                f"{path} needs the package pyarrow; install gradus[train], or convert it to .jsonl"
            ) from None
        try:
            file = parquet.ParquetFile(path)
        except (ValueError, OSError) as error:  # pyarrow's own errors are of these two
            raise ValueError(f"{path} is no parquet file ({error}); write it again, or convert it to .jsonl") from None
        for batch in file.iter_batches(batch_size=1024):
            for fields in batch.to_pylist():
                index = intake.num_rows
                intake.num_rows += 1
                yield Row(index, fields, f"{path.name}[{index}]")

    def _from_hub(self, hub: re.Match[str], split: str, intake: Intake) -> Iterator[Row]:
        if os.environ.get("GRADUS_OFFLINE") == "1":
            raise ValueError(
                f"source={self.address!r} is on the Hub and GRADUS_OFFLINE=1 forbids it; give a local file or folder"
            )
        try:
            from datasets import load_dataset
        except ImportError:
            raise ValueError(f"source={self.address!r} needs the package datasets; install gradus[train]") from None
        rows = load_dataset(hub["name"], hub["config"], split=split, revision=hub["revision"])
        for index, fields in enumerate(rows):
            intake.num_rows += 1
            yield Row(index, dict(fields), f"{hub['name']}/{split}[{index}]")

    def _judge(self, split: str, intake: Intake, num_good: int) -> None:
        """Called after the last row. A line torn at the end is what a killed writer leaves, not a bad source."""
        if num_good and intake.num_bad <= MAX_DROPPED_FRAC * intake.num_rows:
            if torn := intake.dropped["torn_last_line"]:
                warnings.warn(
                    f"source={self.address!r}: its last line is cut off and left out ({torn} row); was its writer stopped?",
                    stacklevel=2,
                )
            return
        reasons = ", ".join(
            f"{count} {reason}, first at {', '.join(intake.places.get(reason, [])[:3]) or 'an unknown place'}"
            for reason, count in intake.dropped.most_common()
            if count
        )
        raise Exit(
            Code.NOTHING_USABLE,
            f"source={self.address!r}: {intake.num_bad} of {intake.num_rows} rows of split {split!r} cannot be used"
            + (f" ({reasons})" if reasons else "")
            + f"; there must be some, and at most {MAX_DROPPED_FRAC:.0%} may be left out",
            hint="repair the source, map its columns, or give another one",
        )


def _parse(line: bytes) -> dict[str, Any] | str:
    """One JSON object, or why there is none: NaN, Infinity and a key given twice are no JSON."""
    try:
        fields = json.loads(line, parse_constant=_refuse, object_pairs_hook=_unique)
    except UnicodeDecodeError:
        return "wrong_encoding"
    except (ValueError, RecursionError):
        return "broken_line"
    return fields if isinstance(fields, dict) else "broken_line"


def _unusable(value: Any) -> str:
    """Why the texts of a row, at any depth, cannot be used, or "": too long together, or half a character."""
    num_bytes, waiting = 0, [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            try:
                num_bytes += len(value.encode())
            except UnicodeEncodeError:
                return "wrong_encoding"
            if num_bytes > MAX_ROW_BYTES:
                return "too_long"
        elif isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, (list, tuple)):
            waiting += value
    return ""


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("duplicate key")
    return fields
