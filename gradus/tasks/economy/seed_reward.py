"""The original project's reward, for parity and comparison: mostly a function of the past, which no answer can change.

Formula as documented, with every jump that it has. The audit (`audit.py`) refuses to train on it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

FAILED = -1.0
SOURCE = "econ_agent"
"""The one data source that it pays for."""


def parse_seed(text: object) -> tuple[float, float] | None:
    """(work, consumption) by the original's own loose rule; None where that fails."""
    if not isinstance(text, str):
        return None
    text = text.replace("```json", "").replace("```", "").strip()
    start = text.find("{")
    if start < 0:
        return None
    try:
        value, _ = json.JSONDecoder().raw_decode(text, start)
        if not isinstance(value, dict) or "work" not in value or "consumption" not in value:
            return None
        work, consumption = float(value["work"]), float(value["consumption"])
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None
    return (work, consumption) if 0 <= work <= 1 and 0 <= consumption <= 1 else None


def seed_reward(
    completion: object, extra_info: Mapping[str, Any] | str | None = None, *, data_source: str = SOURCE
) -> float:
    """Reward in [-1, 1]; -1 for an answer that cannot be read, 0 for another data source.

    Example:
        seed_reward('{"work": 0.8, "consumption": 0.6}', {"income": 5000.0, "wealth": 20000.0})
    """
    return seed_parts(completion, extra_info, data_source=data_source)["total"]


def seed_parts(
    completion: object, extra_info: Mapping[str, Any] | str | None = None, *, data_source: str = SOURCE
) -> dict[str, float]:
    """The reward (``total``) with its terms ``annual``, ``guard``, ``micro``, ``reg``, and their weights ``w_...``."""
    if data_source != SOURCE:
        return {"total": 0.0}
    answer = parse_seed(completion)
    if answer is None:
        return {"total": FAILED}
    facts = _Facts(extra_info)
    micro, reg = _micro(*answer, facts), -0.5 if answer[1] < 0.05 or answer[1] > 0.95 else 0.0
    guard = _guard(facts)
    has_annual = facts.get("r_okun_12m") is not None or facts.get("r_phil_12m") is not None
    annual = _annual(facts) if has_annual else 0.0
    weights = (0.45, 0.30, 0.20, 0.05) if has_annual else (0.0, 0.65, 0.30, 0.05)
    terms = (annual, guard, micro, reg)
    names = ("annual", "guard", "micro", "reg")
    total = weights[0] * annual if has_annual else 0.0
    total = total + weights[1] * guard + weights[2] * micro + weights[3] * reg
    parts = dict(zip(names, terms, strict=True)) | {f"w_{n}": w for n, w in zip(names, weights, strict=True)}
    return parts | {"total": _clip(total, -1.0, 1.0)}


class _Facts:
    """Numbers of ``extra_info``; None, text that is no number, NaN and infinity count as absent."""

    def __init__(self, extra_info: Mapping[str, Any] | str | None) -> None:
        if isinstance(extra_info, str):
            try:
                extra_info = json.loads(extra_info)
            except (ValueError, RecursionError):
                extra_info = {}
        self._fields: Mapping[str, Any] = extra_info if isinstance(extra_info, Mapping) else {}

    def get(self, name: str) -> float | None:
        """A field, or None where it is absent."""
        try:
            value = float(self._fields.get(name))  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            return None
        return value if math.isfinite(value) else None

    def value(self, name: str, default: float) -> float:
        """A field with a default."""
        value = self.get(name)
        return default if value is None else value


def _clip(x: float, low: float, high: float) -> float:
    return max(low, min(high, x))


def _band(x: float, low: float, high: float) -> float:
    """1 in the middle, -1 at the inner edges, and from 0 down to -1 outside: it jumps at the edges."""
    width = max(high - low, 1e-6)
    if x < low:
        return -min((low - x) / width, 1.0)
    if x > high:
        return -min((x - high) / width, 1.0)
    middle, half = (low + high) / 2, max(width / 2, 1e-6)
    return _clip(1 - 2 * abs(x - middle) / half, -1.0, 1.0)


def _micro(work: float, consumption: float, facts: _Facts) -> float:
    income, lump_sum, tax = (facts.value(name, 0.0) for name in ("income", "lump_sum", "tax_paid"))
    dpi = facts.value("dpi", income + lump_sum - tax)
    wealth = facts.value("wealth", 0.0)
    buffer = facts.value("buffer_ratio", (wealth + dpi) / (dpi + 1e-8) if dpi > 1e-6 else 1.0)
    buffer = _clip(buffer, 0.0, 10.0)
    target = _clip(0.25 + 0.50 * (1 - 1 / (1 + buffer)), 0.10, 0.85)
    spending = _clip(1 - 2 * abs(consumption - target), -1.0, 1.0)
    if facts.get("gt_employed") != 1:
        return spending
    target = _clip(0.95 - 0.08 * min(buffer, 6.0), 0.40, 0.95)
    return 0.3 * _band(work, target - 0.15, target + 0.15) + 0.7 * spending


_GUARDS = (
    ("unemployment_rate", 0.02, 0.20, 0.40),
    ("gdp_growth", -5.0, 10.0, 0.30),
    ("wage_inflation", -3.4, 4.5, 0.20),
    ("price_inflation", -5.5, 8.8, 0.10),
)


def _guard(facts: _Facts) -> float:
    present = [(facts.get(name), low, high, weight) for name, low, high, weight in _GUARDS]
    terms = [(weight * _band(x, low, high), weight) for x, low, high, weight in present if x is not None]
    if not terms:
        return 0.0
    return _clip(sum(term for term, _ in terms) / sum(weight for _, weight in terms), -1.0, 1.0)


def _correlation(r: float | None, target: float) -> float:
    return 0.0 if r is None else _clip(1 - abs(r - target) / 0.25, -1.0, 1.0)


def _annual(facts: _Facts) -> float:
    mean_unemployment = facts.get("u_mean_12m")
    band = 0.0 if mean_unemployment is None else _band(mean_unemployment, 0.04, 0.15)
    okun = _correlation(facts.get("r_okun_12m"), -0.894)
    phillips = _correlation(facts.get("r_phil_12m"), -0.676)
    return _clip(0.4 * okun + 0.4 * phillips + 0.2 * band, -1.0, 1.0)
