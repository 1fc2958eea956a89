"""Rule policies: what a household could do without a model. They generate data, fill up economies and stand on the ladder.

``decide(view, rng)`` gives work and consumption [B,N]; a rule that spends by what it has earned also has ``consume``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gradus.tasks.economy.parameters import EPSILON
from gradus.tasks.economy.shocks import Shocks
from gradus.tasks.economy.simulator import Economy
from gradus.tasks.economy.states import State, StepResult
from gradus.tasks.economy.values import GRID

Floats = NDArray[np.float64]


class Policy(Protocol):
    """Anything that decides for all households at once.

    Example:
        BufferStock().decide(economy.state, rng)
    """

    def decide(self, view: State, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Work and consumption [B,N], each in [0,1]."""
        ...


def wealth_months(view: State, hours: float = 168.0) -> Floats:
    """Savings at the start of the month, in months of own full-time gross wage [B,N]."""
    return view.savings / (hours * view.wage)


@dataclass(frozen=True, slots=True)
class BufferStock:
    """Works nearly always; spends a smaller share the more it has: what all others do in the counterfactual.

    Example:
        BufferStock().decide(economy.state, rng)
    """

    hours: float = 168.0

    def decide(self, view: State, rng: np.random.Generator | None = None) -> tuple[Floats, Floats]:
        """Draws nothing."""
        return np.full(view.wage.shape, 0.95), buffer_share(wealth_months(view, self.hours))


def buffer_share(wealth: Floats) -> Floats:
    """Consumption share of `BufferStock` by wealth in months."""
    return np.clip(0.20 + 0.60 / (1 + wealth), 0.05, 0.95)


@dataclass(frozen=True, slots=True)
class Constant:
    """The same answer for everybody, always.

    Example:
        Constant(1.0, 0.5)
    """

    work: float = 1.0
    consumption: float = 0.5

    def decide(self, view: State, rng: np.random.Generator | None = None) -> tuple[Floats, Floats]:
        """Draws nothing."""
        return np.full(view.wage.shape, self.work), np.full(view.wage.shape, self.consumption)


@dataclass(frozen=True, slots=True)
class Noisy:
    """State-blind normal draws, clipped to [0,1].

    Example:
        Noisy(0.83, 0.194, 0.694, 0.106)
    """

    work: float = 0.96
    work_sd: float = 0.05
    consumption: float = 0.45
    consumption_sd: float = 0.10

    def decide(self, view: State, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Two draws per household."""
        work = rng.normal(self.work, self.work_sd, view.wage.shape)
        share = rng.normal(self.consumption, self.consumption_sd, view.wage.shape)
        return np.clip(work, 0, 1), np.clip(share, 0, 1)


@dataclass(frozen=True, slots=True)
class Uniform:
    """Any answer, equally likely.

    Example:
        Uniform().decide(economy.state, rng)
    """

    def decide(self, view: State, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Two draws per household."""
        return rng.random(view.wage.shape), rng.random(view.wage.shape)


def len_work(view: State, hours: float = 168.0) -> Floats:
    """Willingness to work by income against savings with interest, to the power 0.1 (Lengnick, as EconAgent uses it)."""
    income = hours * view.wage
    return np.minimum((income / (view.savings * (1 + view.rate)[:, None] + EPSILON)) ** 0.1, 1.0)


def len_share(view: State, income: Floats) -> Floats:
    """Consumption share by price against money at hand, to the power 0.1."""
    return np.minimum((view.price[:, None] / (view.savings + income + EPSILON)) ** 0.1, 1.0)


def cats_share(view: State, income: Floats) -> Floats:
    """Consumption share by income growth and by savings against last income (Gatti et al., as EconAgent uses it)."""
    last = view.last_income + EPSILON
    base = 1 / (1 + view.rate)[:, None]
    growth = income / last - 1
    excess = view.savings / last - base
    share = (1 + (excess - base * growth) / (1 + growth + EPSILON)) * income / (view.savings + income + EPSILON)
    return np.clip(share, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Len:
    """`len_work` and `len_share` of the expected full-time income.

    Example:
        Len().decide(economy.state, rng)
    """

    hours: float = 168.0

    def decide(self, view: State, rng: np.random.Generator | None = None) -> tuple[Floats, Floats]:
        """Draws nothing."""
        return len_work(view, self.hours), len_share(view, self.hours * view.wage)


@dataclass(frozen=True, slots=True)
class Cats:
    """`len_work` and `cats_share` of the expected full-time income.

    Example:
        Cats().decide(economy.state, rng)
    """

    hours: float = 168.0

    def decide(self, view: State, rng: np.random.Generator | None = None) -> tuple[Floats, Floats]:
        """Draws nothing."""
        return len_work(view, self.hours), cats_share(view, self.hours * view.wage)


@dataclass(slots=True)
class Composite:
    """EconAgent's rule-based opponent: each household spends by one of two rules, drawn once, after it knows its income.

    Example:
        play(economy, Composite(), shocks, rng)
    """

    hours: float = 168.0
    is_strict: bool = field(default=True, init=False)
    """Compares the work draw with ``<``, as that rule does."""
    _is_len: NDArray[np.bool_] | None = field(default=None, init=False)

    def decide(self, view: State, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Draws the rule of each household in the first month."""
        if self._is_len is None or self._is_len.shape != view.wage.shape:
            self._is_len = rng.random(view.wage.shape) < 0.5
        return len_work(view, self.hours), self.consume(view, np.ones(view.wage.shape, dtype=bool))

    def consume(self, view: State, worked: NDArray[np.bool_]) -> Floats:
        """Share by realised income, floored to the grid."""
        assert self._is_len is not None
        income = worked * (self.hours * view.wage)
        share = np.where(self._is_len, len_share(view, income), cats_share(view, income))
        return np.clip(np.floor(share / GRID + 1e-9) * GRID, 0.0, 1.0)


POLICIES: dict[str, type[Any]] = {
    "buffer_stock": BufferStock,
    "constant": Constant,
    "noisy": Noisy,
    "uniform": Uniform,
    "len": Len,
    "cats": Cats,
    "composite": Composite,
}


def make_policy(name: str, *numbers: float) -> Policy:
    """A rule by name. ValueError lists the names."""
    if name not in POLICIES:
        raise ValueError(f"policy {name!r} is unknown; there are: {', '.join(POLICIES)}")
    return POLICIES[name](*numbers)


def decisions(policy: Policy, view: State, shocks: Shocks, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Work and consumption of a month [B,N], for rules that spend by what they earn too: these learn the work draw."""
    work, share = policy.decide(view, rng)
    if getattr(policy, "is_strict", False):
        work = (shocks.work_u < work).astype(np.float64)
    consume = getattr(policy, "consume", None)
    if consume is not None:
        share = consume(view, np.broadcast_to(shocks.work_u <= work, view.wage.shape))
    return work, share


def play(economy: Economy, policy: Policy, shocks: Shocks, rng: np.random.Generator) -> StepResult:
    """One month in which every household follows ``policy``."""
    return economy.step(*decisions(policy, economy.state, shocks, rng), shocks)
