"""Many snapshots in one NPZ file: what prepared data have beside their rows, so that nothing need be simulated again.

One array per field, in which the snapshots' own follow one another; a header in JSON says whose they are. Each snapshot
is checked against its hash when it is taken out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np

from gradus.tasks.economy.errors import SnapshotError
from gradus.tasks.economy.snapshot import ARRAYS, Snapshot, from_npz_bytes, npz_bytes, shape_of

SCHEMA = "gradus.snapshots/1"


def packed(snapshots: Iterable[Snapshot]) -> bytes:
    """The file of these snapshots, each once, in the order of their ids."""
    chosen = sorted({snapshot.id: snapshot for snapshot in snapshots}.values(), key=lambda one: one.id)
    entries = [{"num_households": one.num_households, **one.header()} for one in chosen]
    columns = {name: [one.arrays()[name].ravel() for one in chosen] for name in ARRAYS}
    arrays = {name: np.concatenate(rows) if rows else np.zeros(0) for name, rows in columns.items()}
    return npz_bytes({"schema": SCHEMA, "snapshots": entries}, arrays)


class Archive:
    """The snapshots of a file that `packed` made, by id.

    Example:
        Archive.load(Path("data/economy/snapshots-train.npz"))["4f1c0d7a2b9e6c35"].month  # 24
    """

    def __init__(self, data: bytes) -> None:
        """Raises SnapshotError for bytes that are no such file."""
        header, arrays = from_npz_bytes(data)
        if header.get("schema") != SCHEMA:
            raise SnapshotError(f"snapshots have schema {header.get('schema')!r}; this version reads {SCHEMA!r}")
        if missing := sorted(set(ARRAYS) - set(arrays)):
            raise SnapshotError(f"snapshots have no {missing[0]!r}; they need all of: {', '.join(sorted(ARRAYS))}")
        entries = header["snapshots"]
        self._entries = {entry["hash"][:16]: (number, entry) for number, entry in enumerate(entries)}
        self._arrays = arrays
        self._bounds = {
            name: list(pairwise(accumulate((_size(name, entry) for entry in entries), initial=0))) for name in ARRAYS
        }

    @classmethod
    def load(cls, path: Path) -> Archive:
        """Reads a file."""
        return cls(path.read_bytes())

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, snapshot_id: object) -> bool:
        return snapshot_id in self._entries

    def __getitem__(self, snapshot_id: str) -> Snapshot:
        """The snapshot with this id. KeyError where there is none; SnapshotError where it was changed or damaged."""
        number, entry = self._entries[snapshot_id]
        arrays = {}
        for name, rows in self._arrays.items():
            start, end = self._bounds[name][number]
            arrays[name] = rows[start:end]
        return Snapshot.from_json({**entry, "arrays": arrays})


def _size(name: str, entry: dict) -> int:
    return math.prod(shape_of(name, entry["month"], entry["num_households"]))
