"""Numbers of a comparison as text: percentages, differences, p-values."""

from __future__ import annotations

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
    if unit == "share":
        text, scale, show = percent(estimate.value), 100, lambda x: with_minus(f"{x:.1f}")
    else:
        text, scale, show = _three_digits(estimate.value), 1, _three_digits
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} [{show(scale * estimate.low)}, {show(scale * estimate.high)}]"


def difference(line: Line) -> str:
    """A difference with its interval: ``+22.0 pp [+11.6, +32.4]``."""
    d = line.difference
    if d.value is None:
        return d.reason or NOTHING
    if line.unit == "share":
        parts = [signed(100 * x, 1) for x in (d.value, d.low, d.high) if x is not None]
        text = f"{parts[0]} pp"
    else:
        parts = [_signed_number(x) for x in (d.value, d.low, d.high) if x is not None]
        text = parts[0]
    return f"{text} [{parts[1]}, {parts[2]}]" if len(parts) == 3 else text


def change(d: Estimate, unit: str, *tests: str) -> str:
    """A difference in words: ``+22.0 pp, 95 % CI +11.6 to +32.4`` and what ``tests`` add, comma-separated."""
    assert d.value is not None, "a difference in words needs a value"
    scale, decimals, suffix = (100, 1, " pp") if unit == "share" else (1, 3, "")
    interval = f"no interval: {d.reason}"
    if d.low is not None and d.high is not None:
        interval = f"95 % CI {signed(scale * d.low, decimals)} to {signed(scale * d.high, decimals)}"
    return ", ".join([f"{signed(scale * d.value, decimals)}{suffix}", interval, *tests])


def _signed_number(x: float) -> str:
    text = _three_digits(x)
    return text if text.startswith("−") else f"+{text}"


def _three_digits(x: float) -> str:
    """Three significant digits; all digits before the point."""
    return with_minus(f"{x:.0f}") if abs(x) >= 100 else number(x, digits=3)
