"""Closed loops of one or two models as a table for people: what the economy does with the policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradus.tasks.economy.closed_loop import MAX_FAILED_FRAC, Loop, differences

SHOWN = {
    "own_unemployment_mean": ("unemployment of its households", "%"),
    "own_utility_mean": ("monthly utility of its households", ""),
    "unemployment_mean": ("unemployment", "%"),
    "unemployment_min": ("unemployment, lowest year", "%"),
    "unemployment_max": ("unemployment, highest year", "%"),
    "inflation_mean": ("inflation from year 4", "%"),
    "inflation_sd": ("inflation, standard deviation", "%"),
    "years_in_5_percent_frac": ("years of inflation within ±5 %", "%"),
    "wage_inflation": ("wage inflation", "%"),
    "nominal_growth": ("nominal growth", "%"),
    "real_growth": ("real growth", "%"),
    "shortage_months_frac": ("months with a shortage", "%"),
    "savings_rate": ("savings rate", "%"),
    "gini_savings": ("Gini of savings", ""),
    "poor_households": ("households with less than $1", ""),
    "price_ratio": ("final price / first price", ""),
    "phillips_r": ("Phillips r (unemployment, wage inflation)", ""),
    "okun_r_mechanical": ("Okun r (mechanical: output counts who works)", ""),
    "utility_mean": ("monthly utility of all", ""),
}
"""Metric to its name and unit; the order of the table."""
STABLE = (0.02, 0.15)
"""Yearly unemployment of an economy that works."""


def loops_of(base: Mapping[str, Any] | None, trained: Mapping[str, Any] | None) -> dict[str, Loop]:
    """The loops that `Loop.to_json` wrote, by model; nothing for one that has not played."""
    return {name: Loop.from_json(one) for name, one in (("base", base), ("trained", trained)) if one}


def loop_table(loops: Mapping[str, Loop]) -> dict[str, Any]:
    """Title, head, rows of text and reading of one or two loops by name; with two, also second minus first, paired."""
    first = next(iter(loops.values()))
    both = list(loops.values())
    gaps = differences(*both) if len(both) == 2 and _is_same_world(*both) else {}
    rows = []
    for metric, (name, unit) in SHOWN.items():
        row = [name, *(_range(loop.summary()[metric], unit) for loop in both)]
        rows.append([*row, _range(gaps[metric], unit, is_gap=True)] if gaps else row)
    return {
        "title": "What the economy does with it",
        "head": ["measure", *loops, *(["trained − base"] if gaps else [])],
        "rows": rows,
        "reading": " ".join(
            [
                f"Of {list(loops)[-1]}: {in_words(both[-1])}",
                f"{len(first.metrics['utility_mean'])} economies of {first.months} months; the policy decides for "
                f"{percent(first.share, digits=0)} of the households. Means, with the range of the middle 90 % of the economies; "
                "both models meet the same shocks.",
                *(f"{name}: {_failed(loop)}; Phillips r {loop.phillips_verdict()}." for name, loop in loops.items()),
                *([] if gaps or len(both) == 1 else ["Not paired: the two were simulated with other settings."]),
            ]
        ),
    }


def _is_same_world(first: Loop, second: Loop) -> bool:
    sizes = {len(values) for loop in (first, second) for values in loop.metrics.values()}
    return first.months == second.months and first.share == second.share and len(sizes) == 1


def in_words(loop: Loop) -> str:
    """What the economy does with a policy, in a sentence."""
    found = {name: entry["mean"] for name, entry in loop.summary().items()}
    years = [share for year in loop.yearly_unemployment for share in year]
    low, high = STABLE
    is_stable = low <= min(years) and max(years) <= high
    bounds = f"{percent(low, digits=0)} and {percent(high, digits=0)}"
    judged = f"all between {bounds}, as in an economy that works" if is_stable else f"not all between {bounds}"
    words = (
        f"Deciding for {percent(loop.share, digits=0)} of the households, it leaves {percent(found['unemployment_mean'])} "
        f"of all and {percent(found['own_unemployment_mean'])} of its own unemployed; single years have "
        f"{percent(min(years))} to {percent(max(years))}, {judged}."
    )
    if found["inflation_sd"] is not None:
        words += f" Inflation varies by {percent(found['inflation_sd'])}."
    return words if loop.is_interpretable else f"{words} {_failed(loop)}."


def _failed(loop: Loop) -> str:
    """Failed answers, which belong beside every number."""
    asked, failed = loop.counts.get("asked", 0), loop.counts.get("failed", 0)
    words = f"{failed:,} of {asked:,} answers could not be read"
    return (
        words
        if loop.is_interpretable
        else f"{words} (more than {percent(MAX_FAILED_FRAC, digits=0)}: not interpretable)"
    )


def _range(found: Mapping[str, Any], unit: str, *, is_gap: bool = False) -> str:
    if found["mean"] is None:
        return "undefined"
    sign, scale, digits = "+" if is_gap else "", 100.0 if unit == "%" else 1.0, 1 if unit == "%" else 2
    mean, low, high = (number(found[name] * scale, digits, sign=sign) for name in ("mean", "low", "high"))
    named = f" {'pp' if is_gap else '%'}" if unit else ""
    return f"{mean}{named} [{low}, {high}]"


def number(value: float, digits: int, *, sign: str = "") -> str:
    """With a typographic minus, and without one before a zero; ``sign="+"`` shows a plus."""
    rounded = round(value, digits) + 0.0  # turns -0.0 into 0.0
    return format(rounded, f"{sign}.{digits}f").replace("-", "−")


def percent(share: float, *, digits: int = 1) -> str:
    """``12.5 %``."""
    return f"{number(100 * share, digits)} %"
