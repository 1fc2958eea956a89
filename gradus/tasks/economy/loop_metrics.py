"""What a closed loop is judged by: unemployment, inflation, growth, savings, utility; one value of each per economy.

Shapes: ``B`` economies, ``N`` households.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradus.tasks.economy.simulator import Economy
from gradus.tasks.economy.states import StepResult
from gradus.tasks.economy.values import QUANTITY_UNIT

Floats = NDArray[np.float64]


class Totals:
    """Sums over months that yearly series do not hold, one number per economy.

    Example:
        totals = Totals(2, decided); totals.add(economy.step(work, consumption, shocks)); totals.months  # 1
    """

    def __init__(self, num: int, decided: NDArray[np.bool_]) -> None:
        """``num`` economies; ``decided`` [N] are the households whose own figures are kept apart."""
        self.utility, self.saved, self.income = np.zeros(num), np.zeros(num), np.zeros(num)
        self.own_utility, self.own_idle = np.zeros(num), np.zeros(num)
        self.short_months, self.months, self._decided = np.zeros(num), 0, decided

    def add(self, result: StepResult) -> None:
        """Adds a month."""
        self.months += 1
        utility = np.log1p(result.quantity / QUANTITY_UNIT)
        self.utility += utility.mean(axis=1)
        self.own_utility += utility[:, self._decided].mean(axis=1)
        self.own_idle += 1 - result.worked[:, self._decided].mean(axis=1)
        net = (result.income - result.tax).sum(axis=1) + result.credit * result.income.shape[1]
        self.saved += net - result.consumption.sum(axis=1)
        self.income += net
        self.short_months += result.rationed.any(axis=1)


def metrics_of(economy: Economy, annual: Mapping[str, Floats], totals: Totals) -> dict[str, tuple[float | None, ...]]:
    """Per economy. Inflation counts from the fourth year, when the start is forgotten."""
    state, late = economy.state, annual["inflation"][2:]
    u = annual["unemployment"]
    growth = {name: series[1:] / series[:-1] - 1 for name, series in
              (("nominal_growth", annual["nominal_gdp"]), ("real_growth", annual["real_gdp"]))}  # fmt: skip
    prices = economy.history("prices")
    columns: dict[str, Any] = {
        "inflation_mean": late.mean(axis=0) if len(late) else None,
        "inflation_sd": late.std(axis=0) if len(late) else None,
        "years_in_5_percent_frac": (np.abs(late) <= 0.05).mean(axis=0) if len(late) else None,
        "unemployment_mean": u.mean(axis=0),
        "unemployment_min": u.min(axis=0),
        "unemployment_max": u.max(axis=0),
        **{name: series.mean(axis=0) for name, series in growth.items()},
        "wage_inflation": annual["wage_inflation"].mean(axis=0),
        "gini_savings": gini(state.savings),
        "shortage_months_frac": totals.short_months / totals.months,
        "savings_rate": totals.saved / np.maximum(totals.income, 1e-8),
        "poor_households": (state.savings < 1).sum(axis=1),
        "price_ratio": prices[-1] / (economy.annual()["real_gdp"][0] / economy.history("output")[:12].sum(axis=0)),
        "utility_mean": totals.utility / totals.months,
        "own_utility_mean": totals.own_utility / totals.months,
        "own_unemployment_mean": totals.own_idle / totals.months,
    }
    num = economy.num_economies
    rows = {name: tuple([None] * num if v is None else [float(x) for x in v]) for name, v in columns.items()}
    for name, series in (("phillips_r", annual["wage_inflation"]), ("okun_r_mechanical", growth["real_growth"])):
        change = u[1:] if name == "phillips_r" else np.diff(u, axis=0)
        rows[name] = tuple(_correlation(change[:, b], series[:, b]) for b in range(num))
    return rows


def gini(values: Floats) -> Floats:
    """Gini coefficient of each row [B,N]; 0 where all is equal or nothing there."""
    ordered = np.sort(values, axis=1)
    n = ordered.shape[1]
    total = ordered.sum(axis=1)
    weighted = (ordered * np.arange(1, n + 1)).sum(axis=1)
    return np.where(total > 0, 2 * weighted / (n * np.maximum(total, 1e-12)) - (n + 1) / n, 0.0)


def _correlation(x: Floats, y: Floats) -> float | None:
    if len(x) < 3 or x.std() < 1e-12 or y.std() < 1e-12:
        return None
    return float(np.corrcoef(x, y)[0, 1])
