"""What an answer is worth: the household plays it for one month, then lives on by a fixed rule for a year.

Every answer of a context meets the same shocks (common random numbers), and the household's own luck with work is
integrated exactly: values are simulated for "worked" and "did not", and mixed by the willingness answered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gradus.tasks.economy.policies import BufferStock
from gradus.tasks.economy.shocks import ShockSeries
from gradus.tasks.economy.simulator import Economy, tax_due
from gradus.tasks.economy.snapshot import Snapshot
from gradus.tasks.economy.values import GRID_POINTS, QUANTITY_UNIT, Values

Floats = NDArray[np.float64]
MONTHS = 12
"""How long the household is followed."""
DISCOUNT = 0.99
"""Per month."""
SPREAD_MONTHS = 24
"""Savings left at the end are spent over so many months."""
WORK_AFTERWARDS = 0.95
NUM_SHOCK_SETS = {"train": 8, "validation": 32, "test": 32, "given": 32}
"""K of each split."""
_STREAMS = {"train": 810_001, "validation": 810_002, "test": 810_003, "given": 810_004}
"""Root seeds: what judges validation shares no draw with what trained."""
MAX_ROWS = 256
"""Economies simulated at a time: what fits in the cache is fastest."""


def shock_sets(split: str, snapshot: Snapshot, household: int) -> ShockSeries:
    """The K shared futures of a context; they follow from split, snapshot and household alone."""
    num = NUM_SHOCK_SETS[split]
    first = int(snapshot.id[:12], 16) * 1_000_003 + household * 101
    return ShockSeries.draw(_STREAMS[split], [first + k for k in range(num)], MONTHS, snapshot.num_households)


def branch_values(snapshot: Snapshot, household: int, shares: Sequence[float], shocks: ShockSeries) -> Floats:
    """Discounted utility [2, len(shares)]: row 0 if the household does not work in the first month, row 1 if it does.

    Raises ValueError for a household that is none, or a share outside [0,1].
    """
    if not 0 <= household < snapshot.num_households:
        raise ValueError(f"household={household}: the snapshot has 0 to {snapshot.num_households - 1}")
    wanted = np.asarray(shares, dtype=np.float64)
    if not len(wanted) or not ((wanted >= 0) & (wanted <= 1)).all():
        raise ValueError(f"shares={list(shares)} must lie in [0, 1], at least one")
    num_sets = shocks.num_economies
    branches = np.array([(worked, share) for worked in (0.0, 1.0) for share in wanted])
    per_chunk = max(1, MAX_ROWS // num_sets)
    values = [
        _simulated(snapshot, household, branches[at : at + per_chunk], shocks)
        for at in range(0, len(branches), per_chunk)
    ]
    return np.concatenate(values).reshape(2, len(wanted))


def _simulated(snapshot: Snapshot, household: int, branches: Floats, shocks: ShockSeries) -> Floats:
    """Mean value over the shock sets of each (worked, share) branch: variants [branches, sets] of one economy."""
    shape = (len(branches), shocks.num_economies)
    economy = Economy.from_snapshots([snapshot], repeat=shape[0] * shape[1], people=False).reshaped(shape)
    policy = BufferStock(economy.config.hours)
    utility = np.zeros(shape)
    credit = utility
    for month in range(MONTHS):
        drawn = shocks[month]
        work, share = policy.decide(economy.state)
        if month == 0:
            work[..., household], share[..., household] = branches[:, 0, None], branches[:, 1, None]
            drawn.work_u = drawn.work_u.copy()
            drawn.work_u[:, household] = 0.5  # so that willingness 1 works and 0 does not
        result = economy._step(work, share, drawn)
        utility += DISCOUNT**month * np.log1p(result.quantity[..., household] / QUANTITY_UNIT)
        credit = result.credit
    utility += DISCOUNT**MONTHS * _terminal(economy, household, credit)
    return utility.mean(axis=1)


def _terminal(economy: Economy, household: int, credit: Floats) -> Floats:
    """Utility of spending what is left evenly over two years, on top of an expected net income."""
    state = economy.state
    income = economy.config.hours * state.wage[..., household]
    net = (WORK_AFTERWARDS * (income - tax_due(income)) + credit) / state.price
    extra = state.savings[..., household] / state.price / SPREAD_MONTHS
    weight = sum(DISCOUNT**month for month in range(SPREAD_MONTHS))
    return weight * (np.log1p((net + extra) / QUANTITY_UNIT) - np.log1p(net / QUANTITY_UNIT))


_KNOWN: OrderedDict[tuple[str, int, str], Values] = OrderedDict()
_MAX_KNOWN = 4096


def value_table(snapshot: Snapshot, household: int, split: str) -> Values:
    """Values on the whole grid of consumption shares, in the precision that is stored (float32). The last few thousand
    are kept: the memory of good decisions and the training problems are about the same contexts."""
    key = (snapshot.id, household, split)
    if key not in _KNOWN:
        _KNOWN[key] = simulated_table(snapshot, household, split)
        if len(_KNOWN) > _MAX_KNOWN:
            _KNOWN.popitem(last=False)
    return _KNOWN[key]


def simulated_table(snapshot: Snapshot, household: int, split: str) -> Values:
    """`value_table`, simulated now."""
    shares = [point / (GRID_POINTS - 1) for point in range(GRID_POINTS)]
    table = branch_values(snapshot, household, shares, shock_sets(split, snapshot, household))
    return Values.of([float(value) for value in table.astype(np.float32).ravel()])


def live_rewards(
    snapshot: Snapshot,
    household: int,
    answers: Sequence[tuple[float, float]],
    values: Values,
    *,
    split: str,
    shocks: ShockSeries | None = None,
) -> list[float]:
    """Rewards of (work, consumption) answers, simulated now instead of read from the table; scaled by ``values``."""
    drawn = shock_sets(split, snapshot, household) if shocks is None else shocks
    idle, worked = branch_values(snapshot, household, [share for _, share in answers], drawn)
    return [
        values.reward_of(values.mixed(work, float(v1), float(v0)))
        for (work, _), v0, v1 in zip(answers, idle, worked, strict=True)
    ]
