"""The macro-economy as batched NumPy: households work and consume, a government taxes and pays back, a bank sets the rate.

The equations are those of EconAgent (ACL 2024, arXiv 2310.10436), written from its published description and the
behaviour of its public code. All randomness is injected (`shocks.py`); arithmetic is float64 and rounds nothing.
Shapes: ``B`` economies, ``N`` households. Money in $, goods in units (an hour of work makes one), months as time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradus.tasks.economy.errors import SnapshotError
from gradus.tasks.economy.parameters import (
    EPSILON,
    MONTHS_PER_YEAR,
    EconomyConfig,
    check_level,
    expected_wages,
    given,
    tax_due,
)
from gradus.tasks.economy.serving import served
from gradus.tasks.economy.shocks import Shocks, ShockSeries
from gradus.tasks.economy.snapshot import RECENT_MONTHS, Snapshot
from gradus.tasks.economy.states import State, StepResult, Trajectory
from gradus.tasks.economy.titles import title_codes

__all__ = [
    "Economy",
    "EconomyConfig",
    "ShockSeries",
    "Shocks",
    "Snapshot",
    "State",
    "StepResult",
    "Trajectory",
    "expected_wages",
    "run",
    "tax_due",
]  # fmt: skip

Floats = NDArray[np.float64]


class Economy:
    """B economies that go through the same months.

    Example:
        economy = Economy(EconomyConfig(), expected_wages(100)[None])
        economy.step(work, consumption, ShockSeries.draw(0, [0], 1, 100)[0])
    """

    def __init__(
        self,
        config: EconomyConfig,
        wages: ArrayLike,
        price: ArrayLike | None = None,
        rate: ArrayLike | None = None,
        savings: ArrayLike | None = None,
        goods: ArrayLike | None = None,
        *,
        people_seeds: Sequence[int] | None = None,
    ) -> None:
        """Month 0. ``wages`` [B,N] ($ per hour); what is left out has its initial value: price the mean wage, the rest 0
        and the initial rate. ValueError for values that cannot be."""
        self.config = config
        wage = np.atleast_2d(np.array(wages, dtype=np.float64))
        if wage.ndim != 2 or wage.shape[1] != config.n or not len(wage):
            raise ValueError(f"wages has shape {wage.shape}; needed is [economies, n] with n={config.n}")
        num = len(wage)
        self._wage = wage
        self._savings = given("savings", savings, np.zeros_like(wage))
        self._goods = given("goods", goods, np.zeros(num))
        self._price = given("price", price, wage.mean(axis=1))
        self._rate = given("rate", rate, np.full(num, config.initial_rate))
        for name, low in (("wage", 0.0), ("price", 0.0), ("savings", None), ("goods", None), ("rate", None)):
            check_level("wages" if name == "wage" else name, getattr(self, f"_{name}"), above=low)
        self._initial_price = self._price.copy()
        self._initial_rate = self._rate.copy()
        self._worked = np.zeros(wage.shape, dtype=bool)
        self._month = 0
        self._shown = {name: np.zeros_like(wage) for name in ("income", "consumption", "worked")}
        self._last_income = np.zeros_like(wage)
        self._people = np.asarray(range(num) if people_seeds is None else people_seeds, dtype=np.int64)
        if len(self._people) != num:
            raise ValueError(f"people_seeds has {len(self._people)} entries for {num} economies")
        self._title = title_codes(self._people, 0, wage * config.hours)
        self._history: dict[str, list[Floats]] = {name: [] for name in _HISTORY}
        self._recent: dict[str, list[Floats]] = {name: [] for name in _RECENT}
        self._has_people = True

    # ------------------------------------------------------------------ reading

    @property
    def num_economies(self) -> int:
        """B."""
        return len(self._wage)

    @property
    def state(self) -> State:
        """The present state. Its arrays are never changed in place."""
        return State(
            wage=self._wage,
            savings=self._savings,
            worked=self._worked,
            goods=self._goods,
            price=self._price,
            rate=self._rate,
            last_income=self._last_income,
            month=self._month,
        )

    def history(self, name: str) -> Floats:
        """A monthly series [months, B]: prices, mean_wages, unemployment, output, nominal_output, credits, imbalances,
        rates."""
        kept = self._history[name]
        return np.array(kept) if kept else np.zeros((0, self.num_economies))

    def annual(self) -> dict[str, Floats]:
        """Yearly series [years, B] of the whole years so far. ``inflation`` and ``wage_inflation`` begin in year 2;
        ``interest_rate`` is the initial rate and then each year's end from the second."""
        num_years = self._month // MONTHS_PER_YEAR
        yearly = {
            name: self.history(name)[: num_years * MONTHS_PER_YEAR].reshape(num_years, MONTHS_PER_YEAR, -1)
            for name in ("prices", "mean_wages", "unemployment", "output", "nominal_output", "rates")
        }
        price, wage = yearly["prices"].mean(axis=1), yearly["mean_wages"].mean(axis=1)
        year_ends = yearly["rates"][1:, -1]
        return {
            "inflation": price[1:] / price[:-1] - 1,
            "wage_inflation": wage[1:] / wage[:-1] - 1,
            "unemployment": yearly["unemployment"].mean(axis=1),
            "nominal_gdp": yearly["nominal_output"].sum(axis=1),
            "real_gdp": yearly["output"].sum(axis=1) * self._initial_price,
            "interest_rate": np.concatenate([self._initial_rate[None], year_ends])[:num_years],
        }

    # ------------------------------------------------------------------ a month

    def step(self, work: ArrayLike, consumption: ArrayLike, shocks: Shocks) -> StepResult:
        """One month. ``work`` and ``consumption`` [B,N] in [0,1]. ValueError names field, economy and household, and
        leaves the state as it was."""
        work_BN, share_BN = self._checked("work", work), self._checked("consumption", consumption)
        self._check_shocks(shocks)
        return self._step(work_BN, share_BN, shocks)

    def _step(self, work_BN: Floats, share_BN: Floats, shocks: Shocks) -> StepResult:
        """`step` without checks. Leading axes before that of the economies are allowed: variants of each economy, which
        share its shocks."""
        config = self.config
        # work, output
        if config.participation == "bernoulli":
            worked = shocks.work_u <= work_BN
            income = np.multiply(worked, config.hours, dtype=np.float64)
            num_worked = worked.sum(axis=-1).astype(np.float64)
        else:
            worked, num_worked = work_BN > 0, work_BN.sum(axis=-1)
            income = np.multiply(work_BN, config.hours, dtype=np.float64)
        income *= self._wage
        output = (config.hours * config.productivity) * num_worked
        supply = self._goods * (1 - config.goods_depreciation) + output
        unemployment = 1 - num_worked / config.n
        # tax, credit
        savings = self._savings + income
        tax = tax_due(income)
        np.minimum(tax, savings, out=tax)
        credit = tax.sum(axis=-1) / config.n
        savings -= tax
        savings += credit[..., None]
        # consumption
        intended = share_BN * savings
        wanted = intended / (self._price + EPSILON)[..., None]
        demand = wanted.sum(axis=-1)
        quantity, paid, rationed = served(wanted, intended, demand, supply, self._price, shocks)
        savings -= paid
        goods = np.maximum(supply - quantity.sum(axis=-1), 0.0)
        # markets
        imbalance = (demand - supply) / (np.maximum(demand, supply) + EPSILON)
        wage = shocks.wage_u * (imbalance * config.alpha_wage)[..., None]
        wage += 1.0
        wage *= self._wage
        np.maximum(wage, config.wage_floor, out=wage)
        price = self._price * (1 + shocks.price_u * imbalance * config.alpha_price)
        price = np.maximum(price, config.price_floor)
        nominal = output * self._price
        # all is known: the state changes from here on
        self._month += 1
        self._wage, self._savings, self._worked = wage, savings, worked
        self._goods, self._price = goods, price
        self._remember(output, nominal, unemployment, credit, imbalance)
        if self._month % MONTHS_PER_YEAR == 0:
            self._end_year()
        self._history["rates"].append(self._rate)
        result = StepResult(
            worked=worked, income=income, tax=tax, intended=intended, consumption=paid, quantity=quantity,
            credit=credit, demand=demand, supply=supply, imbalance=imbalance, rationed=rationed,
        )  # fmt: skip
        if self._has_people:
            self._show(result)
        return result

    def _remember(
        self, output: Floats, nominal: Floats, unemployment: Floats, credit: Floats, imbalance: Floats
    ) -> None:
        values = (self._price, self._wage.mean(axis=-1), unemployment, output, nominal, credit, imbalance)
        for name, value in zip(_HISTORY[:-1], values, strict=True):
            self._history[name].append(value)

    def _end_year(self) -> None:
        """Interest at the old rate; from the second year on, the bank then sets a new one."""
        config = self.config
        self._savings = self._savings * (1 + self._rate)[..., None]
        if self._month < 2 * MONTHS_PER_YEAR:
            return
        prices = self._history["prices"]
        now, before = _year_mean(prices), _year_mean(prices[:-MONTHS_PER_YEAR])
        inflation = now / before - 1
        unemployment = _year_mean(self._history["unemployment"])
        rate = (
            config.natural_rate
            + config.target_inflation
            + config.weight_inflation * (inflation - config.target_inflation)
            + config.weight_unemployment * (config.natural_unemployment - unemployment)
        )
        self._rate = np.maximum(rate, 0.0)

    def _show(self, result: StepResult) -> None:
        """What households are told later: flows, jobs and offers."""
        self._last_income = np.where(result.income > 0, result.income, self._last_income)
        flows = {"income": result.income, "consumption": result.consumption, "worked": result.worked * 1.0}
        for name, flow in flows.items():
            self._shown[name] = np.where(flow > 0, flow, self._shown[name]) if self.config.stale_view else flow
        offers = title_codes(self._people, self._month, self._wage * self.config.hours)
        self._title = np.where(result.worked, self._title, offers)
        rows = (result.income, result.consumption, result.intended, result.tax, self._wage)
        for name, row in zip(_RECENT, rows, strict=True):
            self._recent[name] = [*self._recent[name][1 - RECENT_MONTHS :], row]

    def _checked(self, name: str, values: ArrayLike) -> Floats:
        array = np.asarray(values, dtype=np.float64)
        array = array[None] if array.ndim == 1 and self.num_economies == 1 else array
        if array.shape != self._wage.shape:
            raise ValueError(f"{name} has shape {array.shape}; needed is {self._wage.shape}: [economies, households]")
        wrong = ~((array >= 0) & (array <= 1))
        if wrong.any():
            b, i = (int(axis[0]) for axis in np.nonzero(wrong))
            raise ValueError(f"{name}={array[b, i]} of household {i} in economy {b} is outside [0, 1]")
        return array

    def _check_shocks(self, shocks: Shocks) -> None:
        shapes = {"work_u": shocks.work_u.shape, "wage_u": shocks.wage_u.shape}
        source = shocks._order if shocks._order is not None else shocks._keys
        shapes |= {"order": source.shape if source is not None else ()}
        for name, shape in shapes.items():
            if shape not in (self._wage.shape, (1, self.config.n)):
                raise ValueError(f"{name} of the shocks has shape {shape}; the economy has {self._wage.shape}")
        if shocks.price_u.shape not in ((self.num_economies,), (1,)):
            raise ValueError(f"price_u of the shocks has shape {shocks.price_u.shape}; needed: ({self.num_economies},)")

    # ------------------------------------------------------------------ saving

    def snapshot(self, b: int = 0) -> Snapshot:
        """Economy ``b`` as a value. ValueError for a number that is none of them."""
        if not 0 <= b < self.num_economies:
            raise ValueError(f"b={b}: there are the economies 0 to {self.num_economies - 1}")
        if not self._has_people:
            raise ValueError("this economy was started without people (from_snapshots(..., people=False))")
        return self._snapshot(b, {name: self.history(name) for name in _HISTORY})

    def snapshots(self) -> list[Snapshot]:
        """All economies as values."""
        history = {name: self.history(name) for name in _HISTORY}
        return [self._snapshot(b, history) for b in range(self.num_economies)]

    def _snapshot(self, b: int, history: dict[str, Floats]) -> Snapshot:
        series = {name: rows[:, b].copy() for name, rows in history.items()}
        n = self.config.n
        recent = {name: np.array([row[b] for row in rows]).reshape(-1, n) for name, rows in self._recent.items()}
        recent["recent_wage"] = recent.pop("wage")
        return Snapshot(
            config=asdict(self.config),
            month=self._month,
            people_seed=int(self._people[b]),
            goods=float(self._goods[b]),
            price=float(self._price[b]),
            initial_price=float(self._initial_price[b]),
            rate=float(self._rate[b]),
            wage=self._wage[b].copy(),
            savings=self._savings[b].copy(),
            worked=self._worked[b].astype(np.int64),
            title=self._title[b].copy(),
            shown_income=self._shown["income"][b].copy(),
            shown_consumption=self._shown["consumption"][b].copy(),
            shown_worked=self._shown["worked"][b].copy(),
            last_income=self._last_income[b].copy(),
            **series,
            **recent,
        )

    @classmethod
    def from_snapshots(cls, snapshots: Sequence[Snapshot], repeat: int = 1, *, people: bool = True) -> Economy:
        """Goes on from snapshots of one month and one config; economy b becomes rows b*repeat .. b*repeat+repeat-1.

        ``people=False`` leaves out what only prompts, yearly series and later snapshots need.
        """
        if not snapshots or repeat < 1:
            raise ValueError(f"{len(snapshots)} snapshots, repeat={repeat}: each needs at least one")
        months = sorted({snapshot.month for snapshot in snapshots})
        configs = [dict(snapshot.config) for snapshot in snapshots]
        if len(months) > 1 or any(config != configs[0] for config in configs):
            raise ValueError(f"snapshots of the months {months} cannot go on together; give one month and one config")
        try:
            config = EconomyConfig(**configs[0])
        except TypeError as error:
            raise SnapshotError(f"snapshot has a config of another version: {error}") from None

        def stacked(name: str, last: int | None = None) -> Floats:
            rows = np.array([getattr(snapshot, name) for snapshot in snapshots])
            return np.repeat(rows if last is None else rows[:, -last:], repeat, axis=0)

        economy = cls.__new__(cls)
        economy.config, economy._month, economy._has_people = config, months[0], people
        for name in ("wage", "savings", "goods", "price", "rate", "initial_price", "last_income"):
            setattr(economy, f"_{name}", stacked(name))
        economy._worked = stacked("worked").astype(bool)
        economy._people, economy._title = stacked("people_seed"), stacked("title")
        economy._initial_rate = stacked("rates")[:, 0] if months[0] else economy._rate.copy()
        kept = None if people else 2 * MONTHS_PER_YEAR
        economy._history = {name: list(stacked(name, kept).T) for name in _HISTORY}
        if not people:
            economy._shown, economy._recent = {}, {}
            return economy
        economy._shown = {name: stacked(f"shown_{name}") for name in ("income", "consumption", "worked")}
        recent = {name: stacked("recent_wage" if name == "wage" else name) for name in _RECENT}
        economy._recent = {name: list(rows.swapaxes(0, 1)) for name, rows in recent.items()}
        return economy

    def reshaped(self, shape: tuple[int, ...]) -> Economy:
        """This economy, its rows laid out as variants [..., B] that share shocks. Only `_step` can go on from there."""
        assert not self._has_people, "snapshots are of economies in one row"
        for name in ("wage", "savings", "worked"):
            setattr(self, f"_{name}", getattr(self, f"_{name}").reshape(*shape, self.config.n))
        for name in ("goods", "price", "rate"):
            setattr(self, f"_{name}", getattr(self, f"_{name}").reshape(shape))
        self._history = {name: [row.reshape(shape) for row in rows] for name, rows in self._history.items()}
        return self


def _year_mean(series: Sequence[Floats]) -> Floats:
    """Mean of the last 12 months [B], added up month by month: np.mean would add in another order for one economy than
    for many, and an economy must live alone as in a batch, to the bit."""
    total = series[-MONTHS_PER_YEAR]
    for month in series[1 - MONTHS_PER_YEAR :]:
        total = total + month
    return total / MONTHS_PER_YEAR


_HISTORY = ("prices", "mean_wages", "unemployment", "output", "nominal_output", "credits", "imbalances", "rates")
_RECENT = ("income", "consumption", "intended", "tax", "wage")


def run(economy: Economy, work: ArrayLike, consumption: ArrayLike, shocks: ShockSeries) -> Trajectory:
    """Plays recorded actions [T,B,N] (or [T,N]) with recorded shocks, and returns every month. The economy goes on."""
    work_TBN, share_TBN = (np.asarray(values, dtype=np.float64) for values in (work, consumption))
    if not len(work_TBN) == len(share_TBN) == len(shocks) or not len(shocks):
        raise ValueError(
            f"work has {len(work_TBN)} months, consumption {len(share_TBN)}, shocks {len(shocks)}; they must be equal"
        )
    names = (
        "income",
        "tax",
        "consumption",
        "quantity",
        "worked",
        "rationed",
        "credit",
        "demand",
        "supply",
        "imbalance",
    )
    after = ("savings", "wage", "price", "goods", "rate")
    series: dict[str, Any] = {}
    for month in range(len(shocks)):
        result = economy.step(work_TBN[month], share_TBN[month], shocks[month])
        state = economy.state
        for name, value in [(n, getattr(result, n)) for n in names] + [(n, getattr(state, n)) for n in after]:
            if not month:
                series[name] = np.empty((len(shocks), *value.shape), dtype=value.dtype)
            series[name][month] = value
    return Trajectory(**series, annual=economy.annual())
