"""The metrics of a run so far, as rules ask for them: last value, means, medians, moving averages, all quick.

A key without data in a row is left out of its series, as it is left out of the row. Numbers that are not finite are kept
apart: they are the string ``"NaN"`` (or an infinity) in a row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import accumulate
from statistics import median
from typing import Any

NUM_REFERENCE = 20
"""The first so many values of a series are its reference."""
SOLVED = "rollout/solve_rate"
"""The metric that says whether the policy gets better."""


class Series:
    """The values of one metric, in order of rows.

    Example:
        series.ema(10), series.reference, series.mean(50)
    """

    def __init__(self) -> None:
        self.values: list[float] = []
        self.steps: list[int] = []
        self._sums, self._squares = [0.0], [0.0]
        self._averages: dict[int, float] = {}
        self._reference: float | None = None

    def add(self, value: float, step: int) -> None:
        """Appends a value."""
        self.values.append(value)
        self.steps.append(step)
        self._sums.append(self._sums[-1] + value)
        self._squares.append(self._squares[-1] + value * value)
        for length, average in self._averages.items():
            self._averages[length] = average + 2 / (length + 1) * (value - average)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def last(self) -> float:
        """The newest value."""
        return self.values[-1]

    @property
    def last_step(self) -> int:
        """Step of the newest value."""
        return self.steps[-1]

    @property
    def reference(self) -> float:
        """Median of the first 20 values; it does not change once there are 20."""
        if self._reference is None or len(self.values) <= NUM_REFERENCE:
            self._reference = median(self.values[:NUM_REFERENCE])
        return self._reference

    def ema(self, length: int) -> float:
        """Exponential moving average; a new value has the weight 2 / (length + 1)."""
        if length not in self._averages:
            weight = 2 / (length + 1)
            self._averages[length] = list(accumulate(self.values, lambda old, new: old + weight * (new - old)))[-1]
        return self._averages[length]

    def mean(self, length: int, *, back: int = 0) -> float:
        """Mean of the last ``length`` values, or of those that ended ``back`` values ago."""
        stop = len(self.values) - back
        start = max(0, stop - length)
        return (self._sums[stop] - self._sums[start]) / (stop - start)

    def median(self, length: int, *, back: int = 0) -> float:
        """Median of the last ``length`` values, or of those that ended ``back`` values ago."""
        stop = len(self.values) - back
        return median(self.values[max(0, stop - length) : stop])

    def squared_error(self, length: int, *, back: int = 0) -> float:
        """Squared standard error of `mean`."""
        stop = len(self.values) - back
        start = max(0, stop - length)
        count = stop - start
        if count < 2:
            return math.inf
        mean = (self._sums[stop] - self._sums[start]) / count
        variance = (self._squares[stop] - self._squares[start]) / count - mean * mean
        return max(0.0, variance) / (count - 1)

    def rise(self, length: int, *, since: int | None = None) -> tuple[float, float]:
        """(change, its standard error) of the mean of the last ``length`` values against the ``length`` before them, or
        against the first ``since``."""
        back = length if since is None else len(self.values) - since
        before = length if since is None else since
        change = self.mean(length) - self.mean(before, back=back)
        return change, math.sqrt(self.squared_error(length) + self.squared_error(before, back=back))


class History:
    """All series of a run.

    Example:
        history.add({"step": 1, "entropy": 0.3}); history.series("entropy").last  # 0.3
    """

    def __init__(self) -> None:
        self._series: dict[str, Series] = {}
        self.row: Mapping[str, Any] = {}
        """The newest row."""
        self.replay = 0
        """Roll-backs before the newest row."""

    def add(self, row: Mapping[str, Any]) -> None:
        """Takes a row of `metrics.jsonl`."""
        self.replay = int(self.row.get("replay", row.get("replay", 0)))
        self.row = row
        for key, value in row.items():
            if isinstance(value, int | float) and math.isfinite(value):
                self._series.setdefault(key, Series()).add(float(value), int(row["step"]))

    def series(self, key: str) -> Series:
        """A metric; empty where no row had it."""
        return self._series.get(key) or Series()

    def has(self, *keys: str) -> bool:
        """Whether the newest row has all of these."""
        return all(isinstance(self.row.get(key), int | float) for key in keys)

    def knows(self, key: str) -> bool:
        """Whether any row had it."""
        return key in self._series

    def not_finite(self, *keys: str) -> bool:
        """Whether the newest row has one of these as a number that is not finite."""
        values = (self.row.get(key) for key in keys)
        return any(
            isinstance(value, str) or (isinstance(value, float) and not math.isfinite(value))
            for value in values
            if value is not None
        )

    def named(self, beginning: str, end: str = "") -> Iterator[str]:
        """Keys of the newest row between two texts, sorted."""
        return iter(sorted(key for key in self.row if key.startswith(beginning) and key.endswith(end)))

    def is_up(self, key: str, length: int, *, since: int | None = None) -> bool:
        """Whether a metric has risen by two standard errors, see `Series.rise`; False without data."""
        series = self.series(key)
        if len(series) < length + (since or length):
            return False
        change, error = series.rise(length, since=since)
        return change > 2 * error

    def is_down(self, key: str, length: int) -> bool:
        """Whether it has fallen by two standard errors against as many values before."""
        series = self.series(key)
        if len(series) < 2 * length:
            return False
        change, error = series.rise(length)
        return change < -2 * error
