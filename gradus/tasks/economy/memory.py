"""Good decisions to show as examples: those of training economies that earned well, found by similarity of the situation.

No validation or test economy can enter, and no context is shown a decision of its own economy.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradus.tasks.economy.contexts import FIRST_SEED, NUM_ECONOMIES, Context, features, regime
from gradus.tasks.economy.counterfactual import value_table
from gradus.tasks.economy.decision import canonical
from gradus.tasks.economy.errors import LeakageError
from gradus.tasks.economy.values import Values

FEATURES = ("ln_real_wage", "ln_wealth", "ln_credit", "imbalance", "worked", "inflation")
BEST_CONSTANT = (1.0, 0.42)
"""Work and consumption of the best state-blind answer on the training contexts; a test works it out again."""
QUANTILE = 0.7
MIN_GOOD = 30
"""Strata with fewer good rows are named."""


def candidate(context: Context, values: Values) -> dict[str, Any]:
    """The logged decision of a context as a row, scored like an answer in training; employed or not, with both keys."""
    snapshot, i = context.snapshot, context.household
    work, consumption = context.logged
    income = float(snapshot.full_income[i])
    return {
        "id": f"memory/{context.economy_seed}/{context.month}/{i}",
        "economy_seed": context.economy_seed,
        "month": context.month,
        "household": i,
        "stratum": f"{regime(snapshot)}/{int(snapshot.worked[i])}",
        "work": work,
        "consumption": consumption,
        "reward": values.reward(work, consumption),
        "constant_reward": values.reward(*BEST_CONSTANT),
        "income": income,
        "savings": float(snapshot.savings[i]),
        "price": snapshot.price,
        "real_wage": float(snapshot.wage[i]) / snapshot.price,
        "worked": int(snapshot.worked[i]),
        "decision": canonical(work, consumption),
        "features": [features(snapshot, i)[name] for name in FEATURES],
    }


def good_rows(candidates: Iterable[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Rows worth showing, and the strata (regime/worked) that have fewer than 30 of them, with their count.

    Good: at least the 70 % quantile of its stratum, and more than the best constant earns there on average.
    """
    strata: dict[str, list[Mapping[str, Any]]] = {}
    for row in candidates:
        strata.setdefault(row["stratum"], []).append(row)
    kept: list[dict[str, Any]] = []
    thin: dict[str, int] = {}
    for stratum, rows in sorted(strata.items()):
        least = float(np.quantile([row["reward"] for row in rows], QUANTILE))
        constant = math.fsum(row["constant_reward"] for row in rows) / len(rows)
        good = [dict(row) for row in rows if row["reward"] >= least and row["reward"] > constant]
        kept += good
        if len(good) < MIN_GOOD:
            thin[stratum] = len(good)
    return sorted(kept, key=lambda row: row["id"]), thin


def is_training_seed(seed: int) -> bool:
    """Whether an economy may be remembered."""
    return FIRST_SEED["train"] <= seed < FIRST_SEED["train"] + NUM_ECONOMIES["train"]


@dataclass(frozen=True, slots=True)
class Memory:
    """Good decisions with the scale of their features.

    Example:
        Memory.of(rows).nearest(features, economy_seed=1_000_000, k=3)
    """

    rows: tuple[dict[str, Any], ...]
    center: tuple[float, ...]
    """Median of each feature."""
    scale: tuple[float, ...]
    """Its interquartile range; 1 where that is 0."""
    thin: Mapping[str, int]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], thin: Mapping[str, int] | None = None) -> Memory:
        """Checks the rows and fits the scale. LeakageError for a row that is not of a training economy, ValueError for
        a repeated one."""
        for row in rows:
            if not is_training_seed(int(row["economy_seed"])):
                raise LeakageError(
                    f"memory row {row['id']} is of economy {row['economy_seed']}, which is no training economy; "
                    f"training seeds are {FIRST_SEED['train']} to {NUM_ECONOMIES['train'] - 1}"
                )
        repeated = [key for key, count in Counter(row["id"] for row in rows).items() if count > 1]
        if repeated:
            raise ValueError(f"memory holds {repeated[0]} twice; each household and month may be there once")
        matrix = np.array([row["features"] for row in rows], dtype=np.float64).reshape(-1, len(FEATURES))
        if not len(matrix):
            return cls((), (0.0,) * len(FEATURES), (1.0,) * len(FEATURES), dict(thin or {}))
        low, middle, high = np.quantile(matrix, [0.25, 0.5, 0.75], axis=0)
        spread = np.where(high - low > 0, high - low, 1.0)
        return cls(tuple(dict(row) for row in rows), tuple(middle.tolist()), tuple(spread.tolist()), dict(thin or {}))

    @classmethod
    def build(cls, contexts: Iterable[Context]) -> Memory:
        """Scores the logged decisions of training contexts and keeps the good ones."""
        rows = []
        for context in contexts:
            if not is_training_seed(context.economy_seed):
                raise LeakageError(f"context {context.id} is no training context; its decision may not be remembered")
            rows.append(candidate(context, value_table(context.snapshot, context.household, "train")))
        return cls.of(*good_rows(rows))

    def nearest(self, query: Mapping[str, float], *, economy_seed: int | None, k: int) -> list[dict[str, Any]]:
        """The k nearest rows, nearest first, ties by id: at most one per economy, never of the query's own. Fewer where
        there are not enough economies."""
        if k < 1 or not self.rows:
            return []
        point = np.array([query[name] for name in FEATURES])
        matrix = np.array([row["features"] for row in self.rows])
        distance = np.sqrt((((matrix - point) / np.array(self.scale)) ** 2).sum(axis=1))
        ranked = sorted(zip(distance.tolist(), [row["id"] for row in self.rows], range(len(matrix)), strict=True))
        found: list[dict[str, Any]] = []
        seen = {economy_seed}
        for _, _, index in ranked:
            row = self.rows[index]
            if row["economy_seed"] not in seen:
                seen.add(row["economy_seed"])
                found.append(row)
                if len(found) == k:
                    break
        return found


def copied(examples: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Few-shot copy: the mean of the examples, what any few-shot policy must beat."""
    num = len(examples)
    return sum(float(e["work"]) for e in examples) / num, sum(float(e["consumption"]) for e in examples) / num
