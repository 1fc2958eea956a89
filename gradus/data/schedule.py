"""The schedule of a curriculum: which mix of easy, medium and hard problems at which part of the run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from gradus.difficulty import BUCKETS, Bucket


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the run, up to (and without) the fraction ``until`` of its steps, and its bucket weights.

    Example:
        Phase(0.3, (Fraction(7, 10), Fraction(1, 4), Fraction(1, 20)))
    """

    until: float
    weights: tuple[Fraction, Fraction, Fraction]
    """Easy, medium, hard; they sum to 1."""


PhaseLike = Phase | Sequence[float] | Mapping[str, float]
"""A phase as it is written: (until, easy, medium, hard), or a mapping with these keys."""


def read_schedule(rows: Sequence[PhaseLike]) -> tuple[Phase, ...]:
    """Checks a schedule. The last phase may leave out ``until``; it lasts to the end anyway.

    Raises:
        ValueError: weights negative, not finite or all zero; ``until`` not increasing, or the end not reached.
    """
    phases = tuple(_read_phase(row, is_last=index == len(rows) - 1) for index, row in enumerate(rows))
    if not phases:
        raise ValueError("a schedule without phases; give at least one, for example [{until: 1, easy: 1, ..}]")
    bounds = [0.0, *(phase.until for phase in phases)]
    if any(later <= earlier for earlier, later in itertools.pairwise(bounds)):
        raise ValueError(f"until={bounds[1:]} does not increase from above 0; order the phases by it")
    if phases[-1].until < 1:
        raise ValueError(f"the last phase ends at until={phases[-1].until}; leave its until out or make it 1")
    return phases


def _read_phase(row: PhaseLike, *, is_last: bool) -> Phase:
    if isinstance(row, Phase):
        return row
    if isinstance(row, Mapping):
        if unknown := set(row) - {"until", *BUCKETS}:
            raise ValueError(f"phase {dict(row)} has the unknown key {min(unknown)!r}; use until, easy, medium, hard")
        values: list[Any] = [row.get("until"), *(row.get(bucket, 0) for bucket in BUCKETS)]
    else:
        values = list(row)
        if len(values) != 4:
            raise ValueError(f"phase {values} has {len(values)} numbers; give (until, easy, medium, hard)")
    until, *weights = values
    if until is None and is_last:
        until = 1.0
    if not isinstance(until, (int, float)) or not math.isfinite(until):
        raise ValueError(f"until={until!r} of phase {row} is no number; give a fraction of the run")
    return Phase(float(until), _normalised(weights))


def _normalised(weights: Sequence[Any]) -> tuple[Fraction, Fraction, Fraction]:
    for weight in weights:
        if not isinstance(weight, (int, float)) or not math.isfinite(weight) or weight < 0:
            raise ValueError(f"weights {list(weights)} of a phase must be numbers from 0 up")
    # A float stands for the decimal that it prints as, so that quotas of 0.7 and 0.05 add up exactly.
    easy, medium, hard = (Fraction(str(weight)) for weight in weights)
    total = easy + medium + hard
    if total == 0:
        raise ValueError("all weights of a phase are 0; give one of easy, medium, hard a weight")
    return easy / total, medium / total, hard / total


DEFAULT = read_schedule([(0.3, 0.70, 0.25, 0.05), (0.7, 0.40, 0.40, 0.20), (1.0, 0.20, 0.40, 0.40)])
"""Early, mid, late."""


def fraction_at(step: int, max_steps: int) -> float:
    """How much of the run lies behind the 0-based ``step`` that is about to run; above 1 past the end."""
    return step / max(max_steps, 1)


def phase_at(fraction: float, schedule: Sequence[Phase]) -> int:
    """Index of the phase; a boundary belongs to the later one, and the last phase never ends."""
    return next((index for index, phase in enumerate(schedule[:-1]) if fraction < phase.until), len(schedule) - 1)


def weights_at(step: int, max_steps: int, schedule: Sequence[PhaseLike] = DEFAULT) -> dict[Bucket, float]:
    """Bucket weights for the 0-based ``step``.

    Example:
        weights_at(300, 1000)  # {"easy": 0.4, "medium": 0.4, "hard": 0.2}
    """
    phases = read_schedule(schedule)
    weights = phases[phase_at(fraction_at(step, max_steps), phases)].weights
    return {bucket: float(weight) for bucket, weight in zip(BUCKETS, weights, strict=True)}
