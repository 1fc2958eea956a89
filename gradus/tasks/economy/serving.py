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
    order = shocks.order_of(rows)
    wanted_RN, supply_R = wanted.reshape(-1, n)[rows], supply.ravel()[rows]
    in_turn = np.take_along_axis(wanted_RN, order, axis=1)
    up_to = np.cumsum(in_turn, axis=1)
    num_full = (up_to <= supply_R[:, None]).sum(axis=1)  # up_to never falls
    is_cut = num_full < n
    rows, order, num_full, up_to = rows[is_cut], order[is_cut], num_full[is_cut], up_to[is_cut]
    supply_R, each = supply_R[is_cut], np.arange(len(rows))
    rank = np.empty_like(order)
    rank[each[:, None], order] = np.arange(n)
    before = np.where(num_full > 0, up_to[each, num_full - 1], 0.0)
    bought = wanted_RN[is_cut] * (rank < num_full[:, None])
    bought[each, order[each, num_full]] = np.maximum(supply_R - before, 0.0)
    is_short = rank >= num_full[:, None]
    quantity, paid = wanted.copy(), intended.copy()
    price_R = np.broadcast_to(price, demand.shape).ravel()[rows]
    quantity.reshape(-1, n)[rows], rationed.reshape(-1, n)[rows] = bought, is_short
    paid_RN = paid.reshape(-1, n)
    paid_RN[rows] = np.where(is_short, bought * price_R[:, None], paid_RN[rows])
    return quantity, paid, rationed
