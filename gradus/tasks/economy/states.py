"""What the simulator gives back: the state after a month, what happened in it, and a whole run.

Shapes: ``B`` economies, ``N`` households, ``T`` months.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is true after a month: ``wage``, ``savings``, ``worked`` [B,N], ``goods``, ``price``, ``rate`` [B].

    Example:
        economy.state.price  # array([135.2])
    """

    wage: Floats
    savings: Floats
    worked: NDArray[np.bool_]
    goods: Floats
    price: Floats
    rate: Floats
    last_income: Floats
    """Last income that was not 0 [B,N]."""
    month: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What happened in a month. Actual flows: 0 where nothing happened.

    Example:
        economy.step(work, consumption, shocks).tax.sum()
    """

    worked: NDArray[np.bool_]
    """[B,N]."""
    income: Floats
    """$ before tax [B,N]."""
    tax: Floats
    intended: Floats
    """$ that the household wanted to spend."""
    consumption: Floats
    """$ paid."""
    quantity: Floats
    """Units bought [B,N]."""
    credit: Floats
    """$ per household [B]."""
    demand: Floats
    """Units [B]."""
    supply: Floats
    """Units after production, before sales [B]."""
    imbalance: Floats
    """(demand - supply) / larger of them [B]."""
    rationed: NDArray[np.bool_]
    """Wanted more than was left [B,N]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """A whole run; the first axis is the month. Stocks and prices are those after the month.

    Example:
        run(economy, work, consumption, shocks).savings.shape  # (months, B, N)
    """

    savings: Floats
    wage: Floats
    income: Floats
    tax: Floats
    consumption: Floats
    quantity: Floats
    worked: NDArray[np.bool_]
    rationed: NDArray[np.bool_]
    credit: Floats
    price: Floats
    goods: Floats
    rate: Floats
    demand: Floats
    supply: Floats
    imbalance: Floats
    annual: dict[str, Floats]
    """Yearly series, see `Economy.annual`."""
