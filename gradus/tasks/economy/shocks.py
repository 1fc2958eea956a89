"""All randomness of the simulation, as arrays: recorded draws can drive a run, and two policies can share theirs.

Shapes: ``B`` economies, ``N`` households, ``T`` months. A leading axis of 1 stands for every economy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def _uniform(name: str, values: ArrayLike, num_axes: int) -> Floats:
    """Draws in [0, 1) with at least ``num_axes`` axes. ValueError with the place of the first that is outside."""
    array = np.asarray(values, dtype=np.float64)
    wrong = ~((array >= 0) & (array < 1))
    if wrong.any():
        at = tuple(int(axis[0]) for axis in np.nonzero(np.atleast_1d(wrong)))
        value, place = np.atleast_1d(array)[at], list(at) if array.ndim else ""
        raise ValueError(f"{name}{place}={value} is outside [0, 1); shocks are uniform draws")
    if array.ndim > num_axes:
        raise ValueError(f"{name} has shape {array.shape}; at most {num_axes} axes are known")
    return array


def _permutations(order: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(order)
    if array.dtype.kind not in "iu":
        raise ValueError(f"order has type {array.dtype}; it lists household numbers, so whole numbers are needed")
    array = array.astype(np.int64)
    n = array.shape[-1] if array.ndim else 0
    in_range = bool(n) and bool(((array >= 0) & (array < n)).all())
    seen = np.zeros(array.shape, dtype=bool)
    if in_range:
        np.put_along_axis(seen, array, True, axis=-1)
    if not seen.all() or not n:
        rows = np.argwhere(~seen.reshape(-1, max(n, 1)).all(axis=1))
        where = f" in row {int(rows[0, 0])}" if len(rows) else ""
        raise ValueError(f"order{where} is no permutation of 0..{n - 1}; it names each household once")
    return array


class Shocks:
    """The draws of one month.

    ``work_u`` [B,N] is compared with the willingness to work, ``order`` [B,N] says who is served k-th, ``wage_u`` [B,N]
    and ``price_u`` [B] scale the reactions of wages and price. One economy may be given as [N] and a number.

    Example:
        Shocks(work_u=[0.2, 0.9], order=[1, 0], wage_u=[0.5, 0.5], price_u=0.5)
    """

    __slots__ = ("_keys", "_order", "_rank", "price_u", "wage_u", "work_u")

    def __init__(self, work_u: ArrayLike, order: ArrayLike, wage_u: ArrayLike, price_u: ArrayLike) -> None:
        """Raises ValueError for a draw outside [0, 1), an order that is none, shapes that do not fit."""
        self.work_u = np.atleast_2d(_uniform("work_u", work_u, 2))
        self.wage_u = np.atleast_2d(_uniform("wage_u", wage_u, 2))
        self.price_u = np.atleast_1d(_uniform("price_u", price_u, 1))
        self._order: NDArray[np.int64] | None = np.atleast_2d(_permutations(order))
        self._keys: Floats | None = None
        self._rank: NDArray[np.int64] | None = None
        shapes = {"work_u": self.work_u.shape, "wage_u": self.wage_u.shape, "order": self._order.shape}
        if len({shape[1] for shape in shapes.values()}) > 1 or any(len(shape) != 2 for shape in shapes.values()):
            raise ValueError(f"shocks have the shapes {shapes}; each needs [economies, households]")

    @classmethod
    def drawn(cls, work_u: Floats, keys: Floats, wage_u: Floats, price_u: Floats) -> Shocks:
        """Shocks from draws that are known to be good; the order of ``keys`` is worked out only where goods are short."""
        shocks = cls.__new__(cls)
        shocks.work_u, shocks.wage_u, shocks.price_u = work_u, wage_u, price_u
        shocks._order, shocks._rank, shocks._keys = None, None, keys
        return shocks

    @property
    def num_households(self) -> int:
        """N."""
        return self.work_u.shape[1]

    @property
    def order(self) -> NDArray[np.int64]:
        """``order[b, k]`` is the household of economy b that is served k-th."""
        if self._order is None:
            assert self._keys is not None
            self._order = np.argsort(self._keys, axis=-1, kind="stable")
        return self._order

    def order_of(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(order, rank) of some rows of [..., B] economies counted through, each [len(rows), N]: who is served k-th, and
        as which each household is served. Axes before B share orders."""
        if self._order is None and self._keys is not None and len(rows) < len(self._keys):
            order = np.argsort(self._keys[rows % len(self._keys)], axis=-1, kind="stable")
            return order, _inverse(order)
        if self._rank is None:
            self._rank = _inverse(self.order)
        places = rows % len(self.order)
        return self.order[places], self._rank[places]


class ShockSeries:
    """The draws of T months: ``work_u``, ``order``, ``wage_u`` [T,B,N] (or [T,N]) and ``price_u`` [T,B] (or [T]).

    Example:
        ShockSeries.draw(7, economy_ids=[0, 1], months=12, n=100)[3].work_u.shape  # (2, 100)
    """

    __slots__ = ("_keys", "_order", "price_u", "wage_u", "work_u")

    def __init__(self, work_u: ArrayLike, order: ArrayLike, wage_u: ArrayLike, price_u: ArrayLike) -> None:
        """Raises ValueError as `Shocks` does, and where the numbers of months differ."""
        self.work_u = _with_batch(_uniform("work_u", work_u, 3), "work_u")
        self.wage_u = _with_batch(_uniform("wage_u", wage_u, 3), "wage_u")
        self._order: NDArray[np.int64] | None = _with_batch(_permutations(order), "order")
        self._keys: Floats | None = None
        price = _uniform("price_u", price_u, 2)
        self.price_u = price[:, None] if price.ndim == 1 else price
        shapes = [self.work_u.shape, self.wage_u.shape, self._order.shape]
        if len({(s[0], s[2]) for s in shapes}) > 1 or self.price_u.ndim != 2 or len(self.price_u) != shapes[0][0]:
            raise ValueError(
                f"shocks have the shapes work_u {shapes[0]}, wage_u {shapes[1]}, order {shapes[2]}, price_u "
                f"{self.price_u.shape}; needed are [months, economies, households] and [months, economies]"
            )

    @classmethod
    def draw(cls, root_seed: int, economy_ids: Sequence[int], months: int, n: int, *, skip: int = 0) -> ShockSeries:
        """Draws by one PCG64 generator per economy, seeded by (root_seed, id): an economy's draws depend neither on the
        batch nor on the number of months. ``skip`` leaves out the first months."""
        if not len(economy_ids) or months < 1 or n < 1:
            raise ValueError(f"economy_ids={list(economy_ids)}, months={months}, n={n}: each needs at least one")
        drawn = np.empty((months, len(economy_ids), 3 * n + 1))
        for column, economy_id in enumerate(economy_ids):
            generator = np.random.PCG64(np.random.SeedSequence([root_seed, int(economy_id)]))
            if skip:
                generator.advance(skip * (3 * n + 1))
            drawn[:, column] = np.random.Generator(generator).random((months, 3 * n + 1))
        series = cls.__new__(cls)
        series.work_u, series.wage_u = drawn[:, :, :n], drawn[:, :, 2 * n : 3 * n]
        series.price_u, series._keys, series._order = drawn[:, :, 3 * n], drawn[:, :, n : 2 * n], None
        return series

    @property
    def order(self) -> NDArray[np.int64]:
        """``order[t, b, k]`` is the household that economy b serves k-th in month t."""
        if self._order is None:
            assert self._keys is not None
            self._order = np.argsort(self._keys, axis=-1, kind="stable")
        return self._order

    @property
    def num_economies(self) -> int:
        """B; 1 where one series serves every economy."""
        return self.work_u.shape[1]

    def __len__(self) -> int:
        return len(self.work_u)

    def __getitem__(self, month: int) -> Shocks:
        """Shocks of the month with this index, from 0."""
        if self._keys is not None:
            return Shocks.drawn(self.work_u[month], self._keys[month], self.wage_u[month], self.price_u[month])
        shocks = Shocks.__new__(Shocks)
        shocks.work_u, shocks.wage_u, shocks.price_u = self.work_u[month], self.wage_u[month], self.price_u[month]
        shocks._order, shocks._rank, shocks._keys = self.order[month], None, None
        return shocks

    def __iter__(self):
        return (self[month] for month in range(len(self)))


def _inverse(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each household in its row's order."""
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(order.shape[-1])[None], axis=-1)
    return rank


def _with_batch(array: NDArray, name: str) -> NDArray:
    """[T,N] to [T,1,N]."""
    if array.ndim not in (2, 3):
        raise ValueError(f"{name} has shape {array.shape}; needed is [months, economies, households]")
    return array[:, None, :] if array.ndim == 2 else array
