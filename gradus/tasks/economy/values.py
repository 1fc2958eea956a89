"""From the value table of a context to the reward of an answer: look-up, cost of effort, scaling. No NumPy needed.

Table: value of not working (first 51) and of working (last 51) in the first month, by consumption share 0, 0.02, … 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradus.tasks.economy.errors import DataError

GRID_POINTS = 51
GRID = 0.02
"""Step of the grid that decisions are advised to lie on."""
EFFORT = 0.5
"""Weight of the effort cost work³/3. It decides how much everybody works: 0.8 gives about 19 % unemployment."""
QUANTITY_UNIT = 16.8
"""Units of goods that count as one in the utility ln(1 + q): a tenth of a full month's output."""
MIN_GAP = 0.05
"""Contexts whose best answer is hardly better than a random one teach nothing."""
FAILED = -1.0
"""Reward of an answer that cannot be read."""
WORST_VALID = -0.8
"""Bound that rewards of valid answers stay above."""
CORRECT_FROM = 0.9
"""An answer is correct if it earns so much of the distance from random to best."""


def on_grid(work: float, consumption: float) -> bool:
    """Whether both lie on the advised grid."""
    return all(abs(value / GRID - round(value / GRID)) <= 1e-9 for value in (work, consumption))


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """What every answer of one context is worth.

    Example:
        Values.of([0.0] * 51 + [1.0] * 51).reward(1.0, 0.5)
    """

    table: tuple[float, ...]
    j_random: float
    """Mean over the whole 51 x 51 grid."""
    j_oracle: float
    """Best of the grid."""
    oracle_work: float
    oracle_consumption: float

    @classmethod
    def of(cls, table: Sequence[float]) -> Values:
        """Works out the scale from the table. DataError for a table of another length or not finite."""
        if len(table) != 2 * GRID_POINTS or not all(math.isfinite(value) for value in table):
            raise DataError(f"value_table has {len(table)} finite entries at most; needed are {2 * GRID_POINTS}")
        idle, worked = table[:GRID_POINTS], table[GRID_POINTS:]
        works = [point / (GRID_POINTS - 1) for point in range(GRID_POINTS)]
        best, total = (-math.inf, 0.0, 0.0), 0.0
        for point, (v0, v1) in enumerate(zip(idle, worked, strict=True)):
            for work in works:
                j = work * v1 + (1 - work) * v0 - EFFORT * work**3 / 3
                total += j
                if j > best[0]:
                    best = (j, work, works[point])
        return cls(
            table=tuple(table),
            j_random=total / GRID_POINTS**2,
            j_oracle=best[0],
            oracle_work=best[1],
            oracle_consumption=best[2],
        )

    @classmethod
    def from_row(cls, row: Mapping[str, Any], row_id: str) -> Values:
        """Reads the stored columns. DataError, with the row's id, where they cannot be used."""
        table = row.get("value_table")
        if table is None:
            raise DataError(f"{row_id}: the row has no value_table; make it again with `gradus prepare economy`")
        try:
            values = cls(
                table=tuple(float(value) for value in table),
                j_random=float(row["j_random"]),
                j_oracle=float(row["j_oracle"]),
                oracle_work=float(row["oracle_work"]),
                oracle_consumption=float(row["oracle_consumption"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{row_id}: the columns of the value table cannot be read: {error}") from None
        values.check(row_id)
        return values

    def check(self, row_id: str) -> None:
        """DataError for a table that is not finite, or whose best answer is hardly better than a random one."""
        if len(self.table) != 2 * GRID_POINTS or not all(map(math.isfinite, (*self.table, self.j_random))):
            raise DataError(f"{row_id}: value_table must have {2 * GRID_POINTS} finite values")
        if not self.gap >= MIN_GAP:
            raise DataError(f"{row_id}: best and random answer are {self.gap:.3g} apart; at least {MIN_GAP} is needed")

    def to_row(self) -> dict[str, Any]:
        """JSON-able columns."""
        return {
            "value_table": list(self.table),
            "j_random": self.j_random,
            "j_oracle": self.j_oracle,
            "oracle_work": self.oracle_work,
            "oracle_consumption": self.oracle_consumption,
        }

    @property
    def gap(self) -> float:
        """From a random answer to the best."""
        return self.j_oracle - self.j_random

    def _at(self, offset: int, consumption: float) -> float:
        position = consumption * (GRID_POINTS - 1)
        low = min(int(position), GRID_POINTS - 2)
        nearest = round(position)
        if abs(position - nearest) <= 1e-9:
            return self.table[offset + nearest]
        share = position - low
        return (1 - share) * self.table[offset + low] + share * self.table[offset + low + 1]

    @staticmethod
    def mixed(work: float, worked: float, idle: float) -> float:
        """J: expected value of a willingness, less its effort."""
        return work * worked + (1 - work) * idle - EFFORT * work**3 / 3

    def j(self, work: float, consumption: float) -> float:
        """J of an answer, linear between grid points of consumption."""
        return self.mixed(work, self._at(GRID_POINTS, consumption), self._at(0, consumption))

    def reward_of(self, j: float) -> float:
        """J scaled so that random is 0 and best is 1; losses are squashed into (-0.8, 0)."""
        relative = (j - self.j_random) / self.gap
        return min(relative, 1.0) if relative >= 0 else relative / (1 + abs(relative) / abs(WORST_VALID))

    def reward(self, work: float, consumption: float) -> float:
        """Reward of a valid answer, in (-0.8, 1]."""
        return self.reward_of(self.j(work, consumption))
