"""Rows of an evaluation, one per completion, as arrays of [problems, completions].

Problems are sorted by id and completions by their index, so that the order of the rows cannot change a result.
Shape suffixes: ``P`` problems, ``K`` completions of one problem.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gradus.evaluation.stats import Floats

Row = Mapping[str, Any]

_LARGE = 1e300


@dataclass(frozen=True)
class Table:
    """All rows of one model, rectangular: every problem has the same number of completions.

    Example:
        Table.of(rows).solve_rates_P  # array([0.25, 1.0, 0.0])
    """

    rows_PK: Sequence[Sequence[Row]]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Table:
        """Groups rows by problem. ValueError where a key is missing, a completion comes twice, or the counts differ."""
        problems: dict[str, dict[int, Row]] = {}
        for number, row in enumerate(rows):
            missing = [key for key in ("problem_id", "sample", "reward", "correct") if key not in row]
            if missing:
                raise ValueError(f"row {number} has no {', '.join(missing)}; an evaluation row needs them")
            if not _is_well_typed(row):
                raise ValueError(
                    f"row {number} is no evaluation row: sample must be an integer, reward a number or null, "
                    "and parts a mapping"
                )
            samples = problems.setdefault(str(row["problem_id"]), {})
            if row["sample"] in samples:
                raise ValueError(
                    f"problem {row['problem_id']!r} has sample {row['sample']} twice; "
                    "give the rows of one evaluation, each completion once"
                )
            samples[row["sample"]] = row
        counts = {len(samples) for samples in problems.values()}
        if len(counts) > 1:
            raise ValueError(
                f"problems have between {min(counts)} and {max(counts)} completions; all need the same number: "
                "evaluate again, or drop the incomplete problems"
            )
        return cls([[samples[index] for index in sorted(samples)] for _, samples in sorted(problems.items())])

    def only(self, keep: Callable[[Row], bool]) -> Table:
        """Returns the problems whose first row satisfies ``keep``."""
        return Table([rows for rows in self.rows_PK if keep(rows[0])])

    @property
    def num_problems(self) -> int:
        """P."""
        return len(self.rows_PK)

    @property
    def num_samples(self) -> int:
        """K; 0 for an empty table."""
        return len(self.rows_PK[0]) if self.rows_PK else 0

    @cached_property
    def problem_ids(self) -> tuple[str, ...]:
        """Sorted."""
        return tuple(str(rows[0]["problem_id"]) for rows in self.rows_PK)

    @cached_property
    def clusters(self) -> list[str] | None:
        """Label per problem, own id where a row has none; None where no two problems share one."""
        labels = [
            f"cluster {c}" if (c := rows[0].get("cluster")) is not None else rows[0]["problem_id"]
            for rows in self.rows_PK
        ]
        return labels if len(set(labels)) < len(labels) else None

    @cached_property
    def num_correct_P(self) -> Floats:
        """Right completions per problem."""
        return self.array("correct").sum(axis=1)

    @cached_property
    def solve_rates_P(self) -> Floats:
        """Share of right completions per problem."""
        return self.num_correct_P / max(1, self.num_samples)

    def array(self, key: str, *, default: float = 0.0) -> Floats:
        """Numbers under ``key`` as [P, K]; ``default`` where a row has none, or none that is finite."""
        return self.map(lambda row: row.get(key, default), default=default)

    def map(self, read: Callable[[Row], Any], *, default: float = 0.0) -> Floats:
        """One number per row as [P, K]; ``default`` where ``read`` gives no finite number."""
        values = [[_number(read(row), default) for row in rows] for rows in self.rows_PK]
        return np.array(values, float).reshape(self.num_problems, max(1, self.num_samples))

    def part_names(self) -> list[str]:
        """All names under ``parts``, sorted."""
        return sorted({name for rows in self.rows_PK for row in rows for name in row.get("parts") or ()})

    def part(self, name: str) -> tuple[Floats, Floats]:
        """Returns the part's values (0 where a row lacks it) and whether each row has it, as [P, K]."""
        has = self.map(lambda row: name in (row.get("parts") or ()))
        return self.map(lambda row: (row.get("parts") or {}).get(name, 0.0)), has


def _is_well_typed(row: Row) -> bool:
    return (
        isinstance(row["sample"], int)
        and isinstance(row["reward"], int | float | None)
        and isinstance(row.get("parts") or {}, Mapping)
    )


def _number(value: Any, default: float) -> float:
    return float(value) if isinstance(value, int | float) and abs(value) < _LARGE else default
