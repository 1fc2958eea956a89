"""Numbers of a comparison as text: percentages, differences, p-values."""

from __future__ import annotations

import math

from gradus.evaluation.pairs import Line
from gradus.evaluation.stats import Estimate

NOTHING = "—"


def with_minus(text: str) -> str:
    """A formatted number with a typographic minus and without a negative zero."""
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−", 1) if text.startswith("-") else text


def number(value: float | None, *, digits: int = 6) -> str:
    """``value`` with significant digits; a dash for None."""
    return NOTHING if value is None else with_minus(f"{value:.{digits}g}")


def percent(share: float | None) -> str:
    """A share as ``56.0 %``."""
    return NOTHING if share is None else f"{with_minus(f'{100 * share:.1f}')} %"


def three_decimals(value: float | None) -> str:
    """A reward as ``0.342``."""
    return NOTHING if value is None else with_minus(f"{value:.3f}")


def signed(value: float, decimals: int) -> str:
    """``+22.0`` or ``−5.3``; a zero is ``+0.0``."""
    text = with_minus(f"{value:.{decimals}f}")
    return text if text.startswith("−") else f"+{text}"


def p_value(p: float | None) -> str:
    """``1.1e-4`` below 0.001, else two significant digits."""
    if p is None:
        return NOTHING
    if p < 1e-300:
        return "< 1e-300"
    if p >= 0.001:
        return f"{p:.2g}"
    mantissa, exponent = f"{p:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def value(estimate: Estimate, unit: str) -> str:
    """An estimate in its unit with its interval: ``56.0 % [46.2, 65.3]``; the reason where there is no value."""
    if estimate.value is None:
        return estimate.reason or NOTHING
    scale, decimals, suffix = _written(estimate, unit)
    shown = [
        with_minus(f"{scale * x:.{decimals}f}") for x in (estimate.value, estimate.low, estimate.high) if x is not None
    ]
    text = f"{shown[0]} %" if suffix else shown[0]
    return f"{text} [{shown[1]}, {shown[2]}]" if len(shown) == 3 else text


def difference(line: Line) -> str:
    """A difference with its interval: ``+22.0 pp [+11.6, +32.4]``."""
    d = line.difference
    if d.value is None:
        return d.reason or NOTHING
    scale, decimals, suffix = _written(d, line.unit)
    shown = [signed(scale * x, decimals) for x in (d.value, d.low, d.high) if x is not None]
    return f"{shown[0]}{suffix} [{shown[1]}, {shown[2]}]" if len(shown) == 3 else f"{shown[0]}{suffix}"


def _written(estimate: Estimate, unit: str) -> tuple[float, int, str]:
    """Factor, decimals and suffix of a number and of both ends of its interval: shares as percentages, all else with two
    digits of the interval's half-width, or three of the number where there is none."""
    if unit == "share":
        return 100.0, 1, " pp"
    if estimate.low is not None and estimate.high is not None and estimate.high > estimate.low:
        return 1.0, _decimals((estimate.high - estimate.low) / 2, digits=2), ""
    return 1.0, _decimals(estimate.value or 0.0, digits=3), ""


def _decimals(x: float, *, digits: int) -> int:
    """Decimals that show so many digits of ``x``, 6 at most."""
    return min(6, max(0, digits - 1 - math.floor(math.log10(abs(x))))) if x else digits - 1


def change(d: Estimate, unit: str, *tests: str) -> str:
    """A difference in words: ``+22.0 pp, 95 % CI +11.6 to +32.4`` and what ``tests`` add, comma-separated."""
    assert d.value is not None, "a difference in words needs a value"
    scale, decimals, suffix = (100, 1, " pp") if unit == "share" else (1, 3, "")
    interval = f"no interval: {d.reason}"
    if d.low is not None and d.high is not None:
        interval = f"95 % CI {signed(scale * d.low, decimals)} to {signed(scale * d.high, decimals)}"
    return ", ".join([f"{signed(scale * d.value, decimals)}{suffix}", interval, *tests])
