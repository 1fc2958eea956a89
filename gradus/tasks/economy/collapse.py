"""Has a policy collapsed? Two questions: does it say the same thing always, and does what it says follow the state?

A spread alone proves nothing: answers drawn at random, blind to the state, are spread too. So the ranks of the answers are
compared with what should move them: work with the real wage, consumption with wealth.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
MIN_ROWS = 100
"""Fewer parsed answers decide nothing but that they are all alike."""
MIN_THETA = 0.2
NUM_PERMUTATIONS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Collapse:
    """What the answers of a policy look like; correlations are None, with a reason, where there is no variance.

    Example:
        collapse([0.8] * 400, [0.3] * 400, real_wage, wealth).verdict  # "constant"
    """

    verdict: str
    num: int
    work_std: float
    consumption_std: float
    top1_frac: float
    """Share of the most frequent pair of answers on the 0.02 grid."""
    top2_frac: float
    num_unique: int
    entropy_bits: float
    rho_work: float | None
    """Spearman correlation of work and ln(168w/P); expected above 0."""
    rho_consumption: float | None
    """Spearman correlation of consumption and wealth in months; expected below 0."""
    p_work: float | None
    """Share of permutations with as large a correlation."""
    p_consumption: float | None
    theta: float
    """Correlations below this could be chance."""
    work_information: float | None
    """Mutual information of work and wage quintiles over the entropy of the quintiles; reported only."""
    consumption_information: float | None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping."""
        return asdict(self)


def ranks(values: ArrayLike) -> Floats:
    """Ranks from 0, ties averaged."""
    array = np.asarray(values, dtype=np.float64)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((ends - counts) + (ends - 1))[inverse] / 2.0


def spearman(x: ArrayLike, y: ArrayLike) -> float | None:
    """Rank correlation; None where one of them does not vary."""
    a, b = ranks(x), ranks(y)
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale > 0 else None


def collapse(
    work: ArrayLike,
    consumption: ArrayLike,
    ln_real_wage: ArrayLike,
    wealth_months: ArrayLike,
    *,
    oracle_work: ArrayLike | None = None,
    seed: int = 0,
) -> Collapse:
    """Judges parsed answers with the state that each was given. ValueError for lengths that differ, or none."""
    w, c, wage, wealth = (np.asarray(v, dtype=np.float64) for v in (work, consumption, ln_real_wage, wealth_months))
    if not len(w) or len({len(w), len(c), len(wage), len(wealth)}) > 1:
        raise ValueError(
            f"work, consumption, wage and wealth have {len(w)}, {len(c)}, {len(wage)}, {len(wealth)} rows; "
            "needed is the same number of each, at least one"
        )
    on_grid = list(zip(np.round(w * 50).astype(int).tolist(), np.round(c * 50).astype(int).tolist(), strict=True))
    counts = sorted(Counter(on_grid).values(), reverse=True)
    shares = np.array(counts) / len(w)
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, len(w)])))
    rho_w, p_w, theta_w = _tested(w, wage, rng)
    rho_c, p_c, theta_c = _tested(c, wealth, rng)
    theta = max(MIN_THETA, theta_w, theta_c)
    stds = float(w.std()), float(c.std())
    top1, top2 = float(shares[0]), float(shares[:2].sum())
    return Collapse(
        verdict=_verdict(len(w), stds, top1, top2, rho_w, rho_c, theta),
        num=len(w),
        work_std=stds[0],
        consumption_std=stds[1],
        top1_frac=top1,
        top2_frac=top2,
        num_unique=len(counts),
        entropy_bits=float(-(shares * np.log2(shares)).sum()) + 0.0,
        rho_work=rho_w,
        rho_consumption=rho_c,
        p_work=p_w,
        p_consumption=p_c,
        theta=theta,
        work_information=information(w, wage),
        consumption_information=information(c, wealth),
        notes=tuple(_notes(w, oracle_work, rho_w, rho_c)),
    )


def of_rows(rows: Sequence[Mapping[str, Any]], *, seed: int = 0) -> Collapse | None:
    """Judges rows with ``work``, ``consumption``, ``ln_real_wage``, ``wealth_months``; None without a parsed one."""
    read = [row for row in rows if row.get("work") is not None]
    if not read:
        return None
    columns = [[float(row[name]) for row in read] for name in ("work", "consumption", "ln_real_wage", "wealth_months")]
    has_oracle = all("oracle_work" in row for row in read)
    oracle = [float(row["oracle_work"]) for row in read] if has_oracle else None
    return collapse(*columns, oracle_work=oracle, seed=seed)


def _tested(answers: Floats, state: Floats, rng: np.random.Generator) -> tuple[float | None, float | None, float]:
    """(correlation, permutation p, 99.5 % quantile of |correlation| by chance)."""
    rho = spearman(answers, state)
    if rho is None:
        return None, None, 0.0
    a, b = ranks(answers), ranks(state)
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float((a * a).sum() * (b * b).sum()))
    chance = np.abs(np.array([float(a @ rng.permutation(b)) for _ in range(NUM_PERMUTATIONS)])) / scale
    p = (1 + int((chance >= abs(rho) - 1e-12).sum())) / (1 + NUM_PERMUTATIONS)
    return rho, p, float(np.quantile(chance, 0.995))


def _verdict(
    num: int,
    stds: tuple[float, float],
    top1: float,
    top2: float,
    rho_w: float | None,
    rho_c: float | None,
    theta: float,
) -> str:
    """The first rule that applies."""
    if max(stds) < 0.02 or top1 >= 0.8:
        return "constant"
    if top1 >= 0.5 or top2 >= 0.8:
        return "few_points"
    if num < MIN_ROWS:
        return "undetermined"
    wage, wealth = rho_w or 0.0, rho_c or 0.0
    if wage <= -theta or wealth >= theta:
        return "reversed"
    if abs(wage) < theta and abs(wealth) < theta:
        return "state_blind"
    return "healthy" if wealth <= -theta else "partial"


def information(answers: Floats, state: Floats) -> float | None:
    """Mutual information of answers (in quintiles) and state quintiles over the entropy of the latter; None where the
    state does not vary."""
    rows, columns = _quintile(answers), _quintile(state)
    table = np.zeros((5, 5))
    np.add.at(table, (rows, columns), 1.0)
    table /= table.sum()
    margins = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True)
    inside = table > 0
    shared = float((table[inside] * np.log2(table[inside] / margins[inside])).sum())
    column = table.sum(axis=0)
    entropy = float(-(column[column > 0] * np.log2(column[column > 0])).sum())
    return shared / entropy if entropy > 0 else None


def _quintile(values: Floats) -> NDArray[np.int64]:
    return np.searchsorted(np.quantile(values, [0.2, 0.4, 0.6, 0.8]), values, side="left")


def _notes(work: Floats, oracle_work: ArrayLike | None, rho_w: float | None, rho_c: float | None) -> list[str]:
    notes = []
    if rho_w is None:
        notes.append("rho_work is null: work or wage does not vary")
    if rho_c is None:
        notes.append("rho_consumption is null: consumption or wealth does not vary")
    if oracle_work is not None:
        shares = [Counter(np.round(np.asarray(v) * 50).astype(int).tolist()).most_common(1)[0][1] / len(work)
                  for v in (work, oracle_work)]  # fmt: skip
        if shares[0] > shares[1] + 0.2:
            notes.append(f"one value of work has {shares[0]:.0%} of the answers; the best ones have {shares[1]:.0%}")
    return notes
