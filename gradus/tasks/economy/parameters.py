"""Parameters of the economy: its config, taxes, first wages, and which levels it may begin with.

The equations are those of EconAgent (ACL 2024, arXiv 2310.10436), from its published description. Money in $, time in
months.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
EPSILON = 1e-8
"""Added to denominators, as in the public code."""
MONTHS_PER_YEAR = 12
BRACKETS = np.array([0.0, 9700.0, 39475.0, 84200.0, 160725.0, 204100.0, 510300.0]) / 12
"""Where each tax bracket starts ($ of monthly income)."""
TAX_RATES = np.array([0.10, 0.12, 0.22, 0.24, 0.32, 0.35, 0.37])
_TAX_OFFSETS = TAX_RATES * BRACKETS - np.concatenate([[0.0], np.cumsum(np.diff(BRACKETS) * TAX_RATES[:-1])])


@dataclass(frozen=True, kw_only=True)
class EconomyConfig:
    """Parameters; the defaults are the published ones.

    Example:
        EconomyConfig(alpha_price=0.2); EconomyConfig.public()
    """

    n: int = 100
    """Households."""
    hours: float = 168.0
    """Working hours of a month."""
    productivity: float = 1.0
    """Units made in an hour."""
    alpha_wage: float = 0.05
    """Largest monthly change of a wage, as a share."""
    alpha_price: float = 0.10
    """Largest monthly change of the price."""
    natural_rate: float = 0.01
    target_inflation: float = 0.02
    natural_unemployment: float = 0.04
    weight_inflation: float = 0.5
    """Of the rate rule."""
    weight_unemployment: float = 0.5
    initial_rate: float = 0.03
    wage_floor: float = 1.0
    """$ per hour."""
    price_floor: float = 1.0
    """$ per unit."""
    participation: Literal["bernoulli", "hours"] = "bernoulli"
    """``bernoulli``: work is the probability of a full month. ``hours``: it is the share of a month."""
    stale_view: bool = False
    """Show households their last income and consumption that were not 0, as the public code does."""
    shortage_notice: Literal["rationed", "never"] = "rationed"
    """Whether a household that could not buy all it wanted is told so."""
    goods_depreciation: float = 0.0
    """Share of the stock that perishes each month, before production."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not np.isfinite(value):
                raise ValueError(f"{field.name}={value} is not finite")
        if self.n < 1:
            raise ValueError(f"n={self.n}; an economy needs at least one household")
        for name in ("hours", "productivity", "wage_floor", "price_floor"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0")
        if not 0 <= self.goods_depreciation <= 1:
            raise ValueError(f"goods_depreciation={self.goods_depreciation} is a share; use 0 to 1")
        for name, known in (("participation", ("bernoulli", "hours")), ("shortage_notice", ("rationed", "never"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r} is unknown; there are: {', '.join(known)}")

    @classmethod
    def public(cls, **changes: Any) -> EconomyConfig:
        """The public code's habits of what is shown. The dynamics are the same."""
        return cls(**{"stale_view": True, "shortage_notice": "never", **changes})


def tax_due(income: ArrayLike) -> Floats:
    """Monthly income tax ($) by brackets: a convex function, so the largest of its tangents."""
    given = np.asarray(income, dtype=np.float64)
    z = np.atleast_1d(given)
    due = z * TAX_RATES[0]
    line = np.empty_like(due)
    for rate, offset in zip(TAX_RATES[1:], _TAX_OFFSETS[1:], strict=True):
        np.multiply(z, rate, out=line)
        line -= offset
        np.maximum(due, line, out=due)
    return np.maximum(due, 0.0, out=due).reshape(given.shape)


@lru_cache(maxsize=16)
def _expected_wages(n: int, seed: int) -> bytes:
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed])))
    drawn = np.minimum(950.0, 949.0 * generator.pareto(8.0, (1000, n)) + 1.0)
    return np.sort(drawn, axis=1).mean(axis=0).tobytes()


def expected_wages(n: int, seed: int = 0) -> Floats:
    """Hourly wages ($), sorted: the mean of a thousand sorted draws of min(950, 949·X + 1), X Lomax with shape 8."""
    if n < 1:
        raise ValueError(f"n={n}; an economy needs at least one household")
    return np.frombuffer(_expected_wages(n, seed)).copy()


def given(name: str, value: ArrayLike | None, default: Floats) -> Floats:
    """A copy of ``value`` in the shape of ``default``, or that. ValueError where it does not fit."""
    if value is None:
        return default
    array = np.array(value, dtype=np.float64)
    try:
        return np.broadcast_to(array, default.shape).copy()
    except ValueError:
        raise ValueError(f"{name} has shape {array.shape}; needed is {default.shape}") from None


def check_level(name: str, array: Floats, *, above: float | None) -> None:
    """ValueError for a level that is not finite, below 0, or not above 0 where ``above`` is given."""
    wrong = ~np.isfinite(array) | ((array <= 0) if above is not None else (array < 0))
    if wrong.any():
        at = tuple(int(axis[0]) for axis in np.nonzero(wrong))
        raise ValueError(
            f"{name}{list(at)}={array[at]} must be {'above 0' if above is not None else '0 or more'}, finite"
        )
