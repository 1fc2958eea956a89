"""What a snapshot says in the terms of the original reward: its ``extra_info``, from one month and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradus.tasks.economy.snapshot import Snapshot

FIELDS = (
    *("income", "lump_sum", "tax_paid", "dpi", "wealth", "buffer_ratio", "gt_employed"),
    *("unemployment_rate", "u_mean_12m", "gdp_growth", "wage_inflation", "price_inflation", "r_okun_12m", "r_phil_12m"),
)
"""All that ``seed_facts`` may hold."""
_MIN_PAIRS = 6
_MIN_SD = 1e-8


def seed_facts(snapshot: Snapshot, i: int) -> dict[str, Any]:
    """Fields of the original reward for household ``i``; growth and inflation in percent, unemployment as a share. A
    correlation is left out where fewer than 6 pairs or no variance are there."""
    has_past = snapshot.month > 0
    income = float(snapshot.income[-1, i]) if has_past else 0.0
    tax = float(snapshot.tax[-1, i]) if has_past else 0.0
    credit = float(snapshot.credits[-1]) if has_past else 0.0
    dpi = income + credit - tax
    savings = float(snapshot.savings[i])
    floored = max(dpi, 0.0)
    facts: dict[str, Any] = {
        "income": income,
        "lump_sum": credit,
        "tax_paid": tax,
        "dpi": dpi,
        "wealth": savings,
        "buffer_ratio": 1.0 if dpi <= 1e-6 else (savings + floored) / (floored + 1e-8),
        "gt_employed": int(snapshot.worked[i]),
    }
    if has_past:
        facts["unemployment_rate"] = float(snapshot.unemployment[-1])
        facts["u_mean_12m"] = float(snapshot.unemployment[-12:].mean())
    changes = {
        "gdp_growth": _changes(snapshot.output),
        "wage_inflation": _changes(snapshot.mean_wages),
        "price_inflation": _changes(snapshot.prices),
    }
    facts |= {name: float(series[-1]) for name, series in changes.items() if len(series)}
    u = snapshot.unemployment
    for name, series in (("r_okun_12m", changes["gdp_growth"]), ("r_phil_12m", changes["wage_inflation"])):
        r = _correlation(u[1:][-12:], series[-12:])
        if r is not None:
            facts[name] = r
    return facts


def _changes(series: NDArray[np.float64]) -> NDArray[np.float64]:
    """Percent a year of each month from the second: against the year before, or the month before times 12."""
    values = []
    for month in range(1, len(series)):
        lag = 12 if month >= 12 else 1
        before = max(float(series[month - lag]), 1e-8)
        values.append((float(series[month]) / before - 1) * 100 * (1 if lag == 12 else 12))
    return np.array(values)


def _correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float | None:
    if len(x) < _MIN_PAIRS or x.std() <= _MIN_SD or y.std() <= _MIN_SD:
        return None
    return float(np.corrcoef(x, y)[0, 1])
