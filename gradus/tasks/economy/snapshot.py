"""One economy at the end of one month, as a value: what prompts show, what rewards start from, what files hold.

Stored as NPZ or JSON, never pickled. Its id is a hash of its content, so a prompt, a reward and a row of features that
name the same id speak of the same numbers.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradus import durable
from gradus.tasks.economy.errors import SnapshotError

SCHEMA = "gradus.snapshot/1"
RECENT_MONTHS = 3
_HOUSEHOLD = ("wage", "savings", "shown_income", "shown_consumption", "shown_worked", "last_income")
_INTEGERS = ("title", "worked")
_SERIES = ("prices", "mean_wages", "unemployment", "output", "nominal_output", "credits", "imbalances", "rates")
_RECENT = ("income", "consumption", "intended", "tax", "recent_wage")
ARRAYS = (*_HOUSEHOLD, *_INTEGERS, *_SERIES, *_RECENT)
"""The fields of a snapshot that are arrays."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """The state of one economy after month ``month``, with the history that yearly means and prompts need.

    Arrays: households [N]; months [month]; the last three months of households [months, N], oldest first.

    Example:
        Snapshot.from_json(economy.snapshot(0).to_json()).id == economy.snapshot(0).id  # True
    """

    config: Mapping[str, Any]
    """Fields of `EconomyConfig`."""
    month: int
    people_seed: int
    """Decides names, ages, cities and job titles; an economy's own seed where it has one."""
    goods: float
    """Stock (units)."""
    price: float
    """$ per unit."""
    initial_price: float
    rate: float
    """Yearly interest, a fraction."""
    wage: NDArray[np.float64]
    """$ per hour."""
    savings: NDArray[np.float64]
    """$."""
    worked: NDArray[np.int64]
    """1 for those who worked this month."""
    title: NDArray[np.int64]
    """Code of the job, or of the offer of those who did not work: see `titles.py`."""
    shown_income: NDArray[np.float64]
    """What the household is told: the actual flow, or with ``stale_view`` the last one that was not 0."""
    shown_consumption: NDArray[np.float64]
    shown_worked: NDArray[np.float64]
    last_income: NDArray[np.float64]
    """Last income that was not 0."""
    prices: NDArray[np.float64]
    """Month-end prices, from month 1."""
    mean_wages: NDArray[np.float64]
    """Month-end means."""
    unemployment: NDArray[np.float64]
    """Share of households that did not work."""
    output: NDArray[np.float64]
    """Units produced."""
    nominal_output: NDArray[np.float64]
    """$ at the price before the month's change."""
    credits: NDArray[np.float64]
    """$ per household."""
    imbalances: NDArray[np.float64]
    """(demand - supply) / larger of them."""
    rates: NDArray[np.float64]
    """Interest after each month."""
    income: NDArray[np.float64]
    """Of the last months [months, N]."""
    consumption: NDArray[np.float64]
    """Paid."""
    intended: NDArray[np.float64]
    """Wanted to pay."""
    tax: NDArray[np.float64]
    recent_wage: NDArray[np.float64]
    """Hourly wage after the month."""

    def __post_init__(self) -> None:
        for name, array in self.arrays().items():
            shape = shape_of(name, self.month, self.num_households)
            if array.shape != shape:
                raise SnapshotError(f"snapshot: {name} has shape {array.shape}; month {self.month} needs {shape}")
            if not np.isfinite(array).all():
                raise SnapshotError(f"snapshot: {name} holds a value that is not finite")

    @property
    def num_households(self) -> int:
        """N."""
        return len(self.wage)

    @property
    def full_income(self) -> NDArray[np.float64]:
        """$ that each household earns by a whole month of work, before tax [N]."""
        return float(self.config["hours"]) * self.wage

    @cached_property
    def id(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the canonical bytes."""
        return self._digest()[:16]

    def _digest(self) -> str:
        digest = hashlib.sha256(SCHEMA.encode())
        digest.update(json.dumps(self._numbers(), sort_keys=True).encode())
        for name, array in sorted(self.arrays().items()):
            kind = "<i8" if name in _INTEGERS else "<f8"
            digest.update(f"{name}{array.shape}{kind}".encode())
            digest.update(np.ascontiguousarray(array, dtype=kind).tobytes())
        return digest.hexdigest()

    def _numbers(self) -> dict[str, Any]:
        scalars = ("month", "people_seed", "goods", "price", "initial_price", "rate")
        return {"config": dict(self.config), **{name: getattr(self, name) for name in scalars}}

    def header(self) -> dict[str, Any]:
        """All but the arrays, JSON-able, with schema and hash."""
        return {"schema": SCHEMA, "hash": self._digest(), **self._numbers()}

    def arrays(self) -> dict[str, NDArray]:
        """The arrays by name, in the shapes of `shape_of`."""
        return {name: getattr(self, name) for name in ARRAYS}

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping; floats keep every bit."""
        return {**self.header(), "arrays": {name: array.tolist() for name, array in self.arrays().items()}}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Snapshot:
        """Reads what ``to_json`` made. SnapshotError for another schema, a missing part, a wrong hash."""
        if not isinstance(value, Mapping) or value.get("schema") != SCHEMA:
            found = value.get("schema") if isinstance(value, Mapping) else type(value).__name__
            raise SnapshotError(f"snapshot has schema {found!r}; this version reads {SCHEMA!r}")
        arrays = value.get("arrays", {})
        needed = {field.name for field in fields(cls)}
        missing = sorted(needed - set(value) - set(arrays))
        if missing:
            raise SnapshotError(f"snapshot has no {missing[0]!r}; it needs all of: {', '.join(sorted(needed))}")
        numbers = {name: value[name] for name in needed if name in value}
        try:
            read: dict[str, Any] = {
                name: np.asarray(arrays[name], dtype=np.int64 if name in _INTEGERS else np.float64)
                for name in needed & set(arrays)
            }
        except (TypeError, ValueError) as error:
            raise SnapshotError(f"snapshot: an array is not made of numbers ({error})") from None
        n = len(read["wage"])
        for name in _RECENT:
            if read[name].size % max(n, 1):
                raise SnapshotError(f"snapshot: {name} has {read[name].size} entries for {n} households; make it again")
            read[name] = read[name].reshape(-1, n)
        snapshot = cls(**numbers, **read)
        if value.get("hash") != snapshot._digest():
            raise SnapshotError(
                f"snapshot has hash {str(value.get('hash'))[:16]!r}; its content gives {snapshot._digest()[:16]!r}: "
                "it was changed or damaged, so make it again"
            )
        return snapshot

    def to_bytes(self) -> bytes:
        """NPZ, the same bytes for the same content."""
        return npz_bytes(self.header(), self.arrays())

    @classmethod
    def from_bytes(cls, data: bytes) -> Snapshot:
        """Reads what ``to_bytes`` made; nothing is unpickled. SnapshotError where it is something else."""
        header, arrays = from_npz_bytes(data)
        return cls.from_json({**header, "arrays": arrays})

    def save(self, path: Path) -> None:
        """Writes an NPZ file, or JSON where the name ends in ``.json``."""
        is_json = path.suffix == ".json"
        durable.write_bytes(path, json.dumps(self.to_json()).encode() if is_json else self.to_bytes())

    @classmethod
    def load(cls, path: Path) -> Snapshot:
        """Reads a file that ``save`` wrote."""
        data = path.read_bytes()
        if path.suffix != ".json":
            return cls.from_bytes(data)
        try:
            return cls.from_json(json.loads(data))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise SnapshotError(f"{path.name} is no JSON: {error}") from None


def shape_of(name: str, month: int, num_households: int) -> tuple[int, ...]:
    """Shape of the array ``name`` of a snapshot after ``month`` months."""
    if name in _SERIES:
        return (month,)
    return (min(month, RECENT_MONTHS), num_households) if name in _RECENT else (num_households,)


def npz_bytes(header: Mapping[str, Any], arrays: Mapping[str, NDArray]) -> bytes:
    """An NPZ file with ``arrays`` and, as JSON, ``header``; the same bytes for the same content."""
    buffer = io.BytesIO()
    written = np.frombuffer(json.dumps(header, sort_keys=True).encode(), dtype=np.uint8)
    content: dict[str, Any] = {"header": written, **arrays}
    np.savez_compressed(buffer, **content)
    return buffer.getvalue()


def from_npz_bytes(data: bytes) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """(header, arrays) of a file that `npz_bytes` made; nothing is unpickled. SnapshotError where it is something else."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            content = {name: archive[name] for name in archive.files}
        return json.loads(content.pop("header").tobytes()), content
    except (KeyError, OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise SnapshotError(f"no snapshot of {SCHEMA!r} can be read from these bytes: {error}") from None
