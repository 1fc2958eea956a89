"""`metrics.jsonl` as columns: one list per metric over the steps of a run, what is missing, and running means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Column = list[float | None]

NOT_FINITE = ("NaN", "Infinity", "-Infinity")
"""How records write numbers that strict JSON cannot hold."""
WINDOW = 20
"""Most steps in a running mean."""
_LARGE = 1e300
_NO_METRICS = ("step", "attempt", "replay")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """All rows of a run.

    Example:
        Metrics.of([{"step": 1, "reward": 0.4}]).columns["reward"]  # [0.4]
    """

    steps: list[int]
    """Ascending; 0 is the base model, which has only an evaluation."""
    columns: dict[str, Column]
    """Metric to its values, one per step; None where the row has none, or none that is finite."""
    not_finite: dict[str, list[int]]
    """Metric to the steps at which it was NaN or infinite."""
    resumed_at: list[int]
    """First step of every later attempt."""
    total_seconds: float
    """Wall time of all attempts, without what a resume has thrown away."""

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> Metrics:
        """Reads rows; of two rows of one step the later one counts, and rows without a step do not."""
        by_step = {row["step"]: row for row in rows if type(row.get("step")) is int and row["step"] >= 0}
        ordered = [by_step[step] for step in sorted(by_step)]
        names = sorted({name for row in ordered for name in row if name not in _NO_METRICS})
        attempts = [row.get("attempt", 1) for row in ordered]
        resumed = [
            row["step"] for row, now, before in zip(ordered[1:], attempts[1:], attempts, strict=False) if now != before
        ]
        seconds: dict[Any, float] = {}
        for attempt, row in zip(attempts, ordered, strict=True):
            seconds[str(attempt)] = max(seconds.get(str(attempt), 0.0), _number(row.get("wall_seconds")) or 0.0)
        return cls(
            steps=sorted(by_step),
            columns={name: [_number(row.get(name)) for row in ordered] for name in names},
            not_finite={
                name: steps
                for name in names
                if (
                    steps := [row["step"] for row in ordered if isinstance(v := row.get(name), str) and v in NOT_FINITE]
                )
            },
            resumed_at=resumed,
            total_seconds=sum(seconds.values()),
        )

    @property
    def last_step(self) -> int:
        """The newest step with a row; 0 without any."""
        return self.steps[-1] if self.steps else 0

    def has(self, name: str) -> bool:
        """Whether the metric has a value, or at least a value that was not finite, at any step."""
        return name in self.not_finite or any(value is not None for value in self.columns.get(name, ()))

    def column(self, name: str) -> Column:
        """The metric's values, one per step; all None where no row has it."""
        return self.columns.get(name, [None] * len(self.steps))

    def values(self, name: str) -> list[float]:
        """The finite values of a metric, in order of steps."""
        return [value for value in self.columns.get(name, ()) if value is not None]

    def width(self, name: str) -> int:
        """Steps in the metric's running mean: 20, or a fifth of its values where there are fewer than 100."""
        return min(WINDOW, max(1, len(self.values(name)) // 5))

    def smooth(self, name: str) -> Column:
        """The metric's running mean."""
        return running_mean(self.column(name), self.width(name))

    def ends(self, name: str) -> tuple[float | None, float | None]:
        """Mean of the first and of the last ``width`` values."""
        values, width = self.values(name), self.width(name)
        return mean(values[:width]), mean(values[-width:])


def running_mean(column: Sequence[float | None], width: int) -> Column:
    """Mean of the values among the ``width`` places around each, fewer at the ends; None where there is no value.

    Centred, because a mean of past steps would lag behind every trend.
    """
    before, after = (width - 1) // 2, width // 2
    means: Column = []
    for place, value in enumerate(column):
        inside = [v for v in column[max(0, place - before) : place + after + 1] if v is not None]
        means.append(None if value is None else math.fsum(inside) / len(inside))
    return means


def mean(values: Sequence[float]) -> float | None:
    """Mean; None of nothing."""
    return math.fsum(values) / len(values) if values else None


def tenths(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean of the first and of the last tenth, at least one value each."""
    size = max(1, len(values) // 10)
    return mean(values[:size]), mean(values[-size:])


def _number(value: Any) -> float | None:
    """A finite number, else None; true and false are no numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGE:
        return None
    return float(value)
