"""The equations of the simulation once more, household by household in plain Python: what the fast one is compared with."""

from __future__ import annotations

import itertools
from typing import Any

EPS = 1e-8
BRACKETS = [0, 9700, 39475, 84200, 160725, 204100, 510300]
RATES = [0.10, 0.12, 0.22, 0.24, 0.32, 0.35, 0.37]


def naive_tax(income: float) -> float:
    """Bracket by bracket."""
    starts = [start / 12 for start in BRACKETS]
    total = 0.0
    for k, rate in enumerate(RATES):
        size = starts[k + 1] - starts[k] if k + 1 < len(starts) else float("inf")
        total += rate * min(size, max(0.0, income - starts[k]))
    return total


def naive_run(wages, work, share, work_u, order, wage_u, price_u, hours=168.0) -> dict[str, Any]:
    """Everything that one economy does, month by month; actions and draws are lists [month][household]."""
    n = len(wages)
    w, s = list(wages), [0.0] * n
    goods, price, rate = 0.0, sum(wages) / n, 0.03
    first_price = price
    out: dict[str, Any] = {name: [] for name in ("savings", "wage", "consumption", "tax", "income", "credit", "price",
                                                 "goods", "rate", "unemployment", "output", "nominal", "mean_wage")}  # fmt: skip
    year_rates = [rate]
    for t in range(1, len(work) + 1):
        worked = [work_u[t - 1][i] <= work[t - 1][i] for i in range(n)]
        income = [hours * w[i] if worked[i] else 0.0 for i in range(n)]
        output = hours * sum(worked)
        goods += output
        tax, credit = [], 0.0
        for i in range(n):
            s[i] += income[i]
            tax.append(min(naive_tax(income[i]), s[i]))
        credit = sum(tax) / n
        for i in range(n):
            s[i] = s[i] - tax[i] + credit
        intended = [share[t - 1][i] * s[i] for i in range(n)]
        wanted = [c / (price + EPS) for c in intended]
        stock, left, paid, sold = goods, goods, [0.0] * n, 0.0
        for i in order[t - 1]:
            if left >= wanted[i]:
                bought, paid[i] = wanted[i], intended[i]
            else:
                bought = max(left, 0.0)
                paid[i] = bought * price
            left -= wanted[i]
            sold += bought
            s[i] -= paid[i]
        goods = max(goods - sold, 0.0)
        demand = sum(wanted)
        phi = (demand - stock) / (max(demand, stock) + EPS)
        nominal = output * price
        w = [max(w[i] * (1 + wage_u[t - 1][i] * phi * 0.05), 1.0) for i in range(n)]
        price = max(price * (1 + price_u[t - 1] * phi * 0.10), 1.0)
        row = {"consumption": paid, "tax": tax, "income": income, "credit": credit, "price": price, "goods": goods,
               "unemployment": 1 - sum(worked) / n, "output": output, "nominal": nominal, "mean_wage": sum(w) / n}  # fmt: skip
        for name, value in row.items():
            out[name].append(value)
        if t % 12 == 0:
            s = [x * (1 + rate) for x in s]
            if t >= 24:
                now, before = sum(out["price"][-12:]) / 12, sum(out["price"][-24:-12]) / 12
                inflation, u = now / before - 1, sum(out["unemployment"][-12:]) / 12
                rate = max(0.01 + 0.02 + 0.5 * (inflation - 0.02) + 0.5 * (0.04 - u), 0.0)
                year_rates.append(rate)
        out["savings"].append(list(s))
        out["wage"].append(list(w))
        out["rate"].append(rate)
    years = [slice(12 * y, 12 * y + 12) for y in range(len(work) // 12)]
    prices, mean_wages = ([sum(out[k][y]) / 12 for y in years] for k in ("price", "mean_wage"))
    out["annual"] = {
        "inflation": [b / a - 1 for a, b in itertools.pairwise(prices)],
        "wage_inflation": [b / a - 1 for a, b in itertools.pairwise(mean_wages)],
        "unemployment": [sum(out["unemployment"][y]) / 12 for y in years],
        "nominal_gdp": [sum(out["nominal"][y]) for y in years],
        "real_gdp": [sum(out["output"][y]) * first_price for y in years],
        "interest_rate": year_rates,
    }
    return out


def naive_seed_reward(work: float, consumption: float, facts: dict[str, float]) -> float:
    """The original reward of a readable answer, term by term as documented; absent facts are not in the mapping."""

    def band(x: float, lo: float, hi: float) -> float:
        width = max(hi - lo, 1e-6)
        if x < lo:
            return -min((lo - x) / width, 1)
        if x > hi:
            return -min((x - hi) / width, 1)
        return min(max(1 - 2 * abs(x - (lo + hi) / 2) / max(width / 2, 1e-6), -1), 1)

    def near(name: str, target: float) -> float:
        return min(max(1 - abs(facts[name] - target) / 0.25, -1), 1) if name in facts else 0.0

    dpi = facts.get("dpi", facts.get("income", 0) + facts.get("lump_sum", 0) - facts.get("tax_paid", 0))
    usual = (facts.get("wealth", 0) + dpi) / (dpi + 1e-8) if dpi > 1e-6 else 1.0
    ratio = min(max(facts.get("buffer_ratio", usual), 0), 10)
    target = min(max(0.25 + 0.50 * (1 - 1 / (1 + ratio)), 0.10), 0.85)
    micro = min(max(1 - 2 * abs(consumption - target), -1), 1)
    if facts.get("gt_employed") == 1:
        wanted = min(max(0.95 - 0.08 * min(ratio, 6), 0.40), 0.95)
        micro = 0.3 * band(work, wanted - 0.15, wanted + 0.15) + 0.7 * micro
    bands = {"unemployment_rate": (0.02, 0.20, 0.40), "gdp_growth": (-5, 10, 0.30), "wage_inflation": (-3.4, 4.5, 0.20),
             "price_inflation": (-5.5, 8.8, 0.10)}  # fmt: skip
    there = [(band(facts[name], lo, hi), weight) for name, (lo, hi, weight) in bands.items() if name in facts]
    guard = sum(b * w for b, w in there) / sum(w for _, w in there) if there else 0.0
    guard = min(max(guard, -1), 1)
    reg = -0.5 if consumption < 0.05 or consumption > 0.95 else 0.0
    if "r_okun_12m" in facts or "r_phil_12m" in facts:
        past = band(facts["u_mean_12m"], 0.04, 0.15) if "u_mean_12m" in facts else 0.0
        annual = 0.4 * near("r_okun_12m", -0.894) + 0.4 * near("r_phil_12m", -0.676) + 0.2 * past
        annual = min(max(annual, -1), 1)
        return min(max(0.45 * annual + 0.30 * guard + 0.20 * micro + 0.05 * reg, -1), 1)
    return min(max(0.65 * guard + 0.30 * micro + 0.05 * reg, -1), 1)
