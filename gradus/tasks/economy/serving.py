"""Who gets the goods of a month when there are not enough for all: households are served in a drawn order.

Shapes: ``B`` economies (axes of variants may stand before), ``N`` households, ``R`` economies in which goods may run out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gradus.tasks.economy.shocks import Shocks

Floats = NDArray[np.float64]


def served(
    wanted: Floats, intended: Floats, demand: Floats, supply: Floats, price: Floats, shocks: Shocks
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """(units, $ paid, was it less than wanted) of each household [B,N]. Only where goods may run out does order matter.

    ``wanted`` in units and ``intended`` in $ [B,N]; ``demand`` and ``supply`` in units, ``price`` in $ [B]. Demand adds
    up in the order of serving, so there is one place at which goods run out: who comes before it gets all, who stands
    there gets the rest, who comes after gets nothing.
    """
    rationed = np.zeros(wanted.shape, dtype=bool)
    rows = np.nonzero((demand * (1 + 1e-9) >= supply).ravel())[0]
    if not len(rows):
        return wanted, intended, rationed
    n = wanted.shape[-1]
    order, rank = shocks.order_of(rows)
    wanted_RN, supply_R = wanted.reshape(-1, n)[rows], supply.ravel()[rows]
    up_to = np.take(wanted_RN, order + (np.arange(len(rows)) * n)[:, None])
    np.cumsum(up_to, axis=1, out=up_to)
    num_full = (up_to <= supply_R[:, None]).sum(axis=1)  # up_to never falls
    is_cut = num_full < n
    if not is_cut.all():
        rows, order, rank, num_full = rows[is_cut], order[is_cut], rank[is_cut], num_full[is_cut]
        up_to, wanted_RN, supply_R = up_to[is_cut], wanted_RN[is_cut], supply_R[is_cut]
    each = np.arange(len(rows))
    before = np.where(num_full > 0, up_to[each, num_full - 1], 0.0)
    is_short = rank >= num_full[:, None]
    bought = np.where(is_short, 0.0, wanted_RN)
    bought[each, order[each, num_full]] = np.maximum(supply_R - before, 0.0)
    quantity, paid = wanted.copy(), intended.copy()
    price_R = np.broadcast_to(price, demand.shape).ravel()[rows]
    quantity.reshape(-1, n)[rows], rationed.reshape(-1, n)[rows] = bought, is_short
    paid_RN = paid.reshape(-1, n)
    paid_RN[rows] = np.where(is_short, bought * price_R[:, None], paid_RN[rows])
    return quantity, paid, rationed
