"""Contexts: moments of simulated economies at which one household decides. Split by economy seed, filled evenly by stratum.

Problem i of a split comes from economy i // 10 and aims at cell i mod 18 (regime x worked x wealth tercile), so any
problem can be made alone and in fixed order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradus.tasks.economy.policies import buffer_share, len_share, len_work
from gradus.tasks.economy.shocks import ShockSeries
from gradus.tasks.economy.simulator import Economy, EconomyConfig, State, expected_wages
from gradus.tasks.economy.snapshot import Snapshot
from gradus.tasks.economy.values import QUANTITY_UNIT

Floats = NDArray[np.float64]
FIRST_SEED = {"train": 0, "validation": 1_000_000, "test": 2_000_000}
"""Economy seeds of a split begin here; no seed is in two splits."""
NUM_ECONOMIES = {"train": 200, "validation": 40, "test": 80}
PER_ECONOMY = 10
MONTHS = 120
SNAPSHOT_MONTHS = tuple(range(24, MONTHS, 6))
REGIMES = ("recession", "normal", "boom")
NUM_CELLS = 18
_ROOT = 520_001
"""Root seed of shocks, types and draws of the data."""
_BLOCK = 20
"""Economies simulated together; results do not depend on it."""
_SHARES = (0.40, 0.15, 0.15, 0.15, 0.15)
"""Of the types of households: `buffer_stock`, `len`, a constant, that with noise, uniform consumption."""

# Thresholds over the snapshots of the 200 training economies; a test works them out again.
GROWTH_MEAN, GROWTH_SD = 0.004559, 0.122328
UNEMPLOYMENT_MEAN, UNEMPLOYMENT_SD = 0.172720, 0.108269
RECESSION_BELOW, BOOM_ABOVE = -0.704623, 0.679718
WEALTH_TERCILES = (1.106183, 3.218908)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One economy at one snapshot month, with what everybody then did in the month after.

    Example:
        moments([0])[0].snapshot.month  # 24
    """

    economy_seed: int
    snapshot: Snapshot
    work: Floats
    """Willingness of each household in the next month [N]."""
    share: Floats
    """Consumption share in the next month [N]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """A household at a moment.

    Example:
        next(contexts("train", 1)).regime  # "recession"
    """

    id: str
    split: str
    economy_seed: int
    household: int
    snapshot: Snapshot
    cell: int
    num_passed: int
    """Empty cells that were passed over."""
    logged: tuple[float, float]
    """Work and consumption that the household's rule played next."""

    @property
    def month(self) -> int:
        """Of the snapshot."""
        return self.snapshot.month


@dataclass(slots=True)
class _Households:
    """Types and habits of the households of a block of economies, drawn once."""

    kind: NDArray[np.int64]
    work: Floats
    share: Floats
    noise: Floats
    uniform: Floats
    drift: Floats

    @classmethod
    def drawn(cls, seeds: Sequence[int], n: int) -> _Households:
        parts = []
        for seed in seeds:
            rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([_ROOT, 1, seed])))
            kind = np.searchsorted(np.cumsum(_SHARES)[:-1], rng.random(n), side="right")
            work = np.where(kind == 4, rng.uniform(0.3, 1, n), rng.uniform(0.6, 1, n))
            share = rng.uniform(0.1, 0.8, n)
            parts.append((kind, work, share, rng.normal(0, 0.1, (MONTHS, n)), rng.random((MONTHS, n)),
                          rng.normal(0, 1, (MONTHS, 2))))  # fmt: skip
        kind, work, share, noise, uniform, steps = (np.array(one) for one in zip(*parts, strict=True))
        return cls(kind, work, share, noise, uniform, _drift(steps))

    def decide(self, view: State, month: int) -> tuple[Floats, Floats]:
        """Work and consumption [B,N] of the month with this index, from 0."""
        income = EconomyConfig.hours * view.wage
        shares = (buffer_share(view.savings / income), len_share(view, income), self.share,
                  self.share + self.noise[:, month], self.uniform[:, month])  # fmt: skip
        works = (np.full(income.shape, 0.95), len_work(view), self.work, self.work, self.work)
        work, share = np.choose(self.kind, works), np.choose(self.kind, shares)
        work = np.clip(work + self.drift[:, month, 0, None], 0, 1)
        share = np.clip(share * np.exp(self.drift[:, month, 1, None]), 0, 1)
        return work, np.round(share * 50) / 50


def _drift(steps: Floats) -> Floats:
    """Two slow moods of each economy [B, months, 2]: first-order autoregressions from draws of variance 1."""
    drift = np.zeros_like(steps)
    level = np.zeros((len(steps), 2))
    for month in range(steps.shape[1]):
        level = 0.95 * level + np.array([0.05, 0.075]) * steps[:, month]
        drift[:, month] = level
    return drift


def moments(seeds: Sequence[int]) -> list[list[Moment]]:
    """Simulates economies; the moments of each at its snapshot months."""
    config = EconomyConfig()
    households = _Households.drawn(seeds, config.n)
    wages = np.repeat(expected_wages(config.n)[None], len(seeds), axis=0)
    economy = Economy(config, wages, people_seeds=list(seeds))
    found: list[list[Moment]] = [[] for _ in seeds]
    shocks = ShockSeries.draw(_ROOT, seeds, MONTHS, config.n)
    for month in range(MONTHS):
        work, share = households.decide(economy.state, month)
        if month in SNAPSHOT_MONTHS:
            for b, snapshot in enumerate(economy.snapshots()):
                found[b].append(Moment(economy_seed=seeds[b], snapshot=snapshot, work=work[b], share=share[b]))
        economy.step(work, share, shocks[month])
    return found


# ------------------------------------------------------------------ strata


def growth_12(snapshot: Snapshot) -> float:
    """Output of the last 12 months over that of the 12 before, minus 1."""
    return float(snapshot.output[-12:].sum() / max(snapshot.output[-24:-12].sum(), 1e-8) - 1)


def unemployment_12(snapshot: Snapshot) -> float:
    """Mean of the last 12 months."""
    return float(snapshot.unemployment[-12:].mean())


def cycle(snapshot: Snapshot) -> float:
    """High in a boom: mean of standardised growth and standardised employment."""
    growth = (growth_12(snapshot) - GROWTH_MEAN) / GROWTH_SD
    return (growth - (unemployment_12(snapshot) - UNEMPLOYMENT_MEAN) / UNEMPLOYMENT_SD) / 2


def regime(snapshot: Snapshot) -> str:
    """``recession``, ``normal`` or ``boom`` by `cycle`, against the training economies."""
    z = cycle(snapshot)
    return "recession" if z <= RECESSION_BELOW else "boom" if z >= BOOM_ABOVE else "normal"


def regime_seed(snapshot: Snapshot) -> str:
    """The original's rule over the last 24 months: recession where unemployment is in its highest fifth or monthly
    output growth in its lowest; boom where unemployment is in its lowest fifth and growth in its highest."""
    u = snapshot.unemployment[-24:]
    g = np.diff(snapshot.output[-25:]) / np.maximum(snapshot.output[-25:-1], 1e-8)
    if u[-1] >= np.quantile(u, 0.8) or g[-1] <= np.quantile(g, 0.2):
        return "recession"
    return "boom" if u[-1] <= np.quantile(u, 0.2) and g[-1] >= np.quantile(g, 0.8) else "normal"


def wealth(snapshot: Snapshot) -> Floats:
    """Savings in months of own full-time gross wage [N]."""
    return snapshot.savings / snapshot.full_income


def tercile(months: float) -> int:
    """0 poor, 1 middle, 2 rich, against the training economies."""
    return int(np.searchsorted(WEALTH_TERCILES, months, side="right"))


def cells(snapshot: Snapshot) -> NDArray[np.int64]:
    """Cell of each household: regime x worked x tercile, 0 to 17 [N]."""
    terciles = np.searchsorted(WEALTH_TERCILES, wealth(snapshot), side="right")
    return (REGIMES.index(regime(snapshot)) * 2 + snapshot.worked) * 3 + terciles


def cell_name(cell: int) -> str:
    """``boom/worked/rich`` of a cell."""
    worked, wealth = ("idle", "worked")[cell // 3 % 2], ("poor", "middle", "rich")[cell % 3]
    return f"{REGIMES[cell // 6]}/{worked}/{wealth}"


def features(snapshot: Snapshot, household: int) -> dict[str, float]:
    """The six dimensionless features by which similar contexts are found."""
    income = float(snapshot.full_income[household])
    year_ago = snapshot.prices[-13] if snapshot.month > 12 else snapshot.initial_price
    return {
        "ln_real_wage": math.log(income / snapshot.price),
        "ln_wealth": math.log1p(float(snapshot.savings[household]) / income),
        "ln_credit": math.log1p(float(snapshot.credits[-1]) / snapshot.price) if snapshot.month else 0.0,
        "imbalance": float(snapshot.imbalances[-1]) if snapshot.month else 0.0,
        "worked": float(snapshot.worked[household]),
        "inflation": float(snapshot.price / year_ago - 1),
    }


def regression_features(snapshot: Snapshot, household: int) -> list[float]:
    """Six numbers of the state for a formula: logarithms of real full-time pay, of savings in goods and in months of pay,
    of the credit; the goods market's imbalance; the interest rate."""
    similar = features(snapshot, household)
    savings = math.log1p(float(snapshot.savings[household]) / (QUANTITY_UNIT * snapshot.price))
    return [similar["ln_real_wage"], savings, similar["ln_wealth"], similar["ln_credit"], similar["imbalance"],
            snapshot.rate]  # fmt: skip


# ------------------------------------------------------------------ drawing


def split_of(economy_seed: int) -> str | None:
    """The split that an economy seed belongs to; None outside all of them."""
    for split, first in FIRST_SEED.items():
        if first <= economy_seed < first + NUM_ECONOMIES[split]:
            return split
    return None


def contexts(split: str, limit: int | None = None, *, skip: int = 0) -> Iterator[Context]:
    """The contexts of a split in fixed order, from the one with index ``skip``, at most ``limit``. ValueError for an
    unknown split."""
    if split not in FIRST_SEED:
        raise ValueError(f"split {split!r} does not exist; there are: {', '.join(FIRST_SEED)}")
    total = NUM_ECONOMIES[split] * PER_ECONOMY
    total = total if limit is None else min(total, skip + limit)
    num_economies = -(-total // PER_ECONOMY)
    for start in range(skip // PER_ECONOMY, num_economies, _BLOCK):
        chosen = range(start, min(start + _BLOCK, num_economies))
        for number, found in zip(chosen, _cached(split, start, len(chosen)), strict=True):
            grid = [cells(moment.snapshot) for moment in found]
            for index in range(max(skip, number * PER_ECONOMY), min((number + 1) * PER_ECONOMY, total)):
                yield _drawn(split, index, found, grid)


@lru_cache(maxsize=2)
def _cached(split: str, start: int, num: int) -> list[list[Moment]]:
    first = FIRST_SEED[split] + start
    return moments(range(first, first + num))


@lru_cache(maxsize=16)
def _alone(economy_seed: int) -> list[Moment]:
    return moments([economy_seed])[0]


def moment_of(economy_seed: int, month: int) -> Moment:
    """The moment of one economy at a snapshot month, simulated again. ValueError for another month."""
    if month not in SNAPSHOT_MONTHS:
        raise ValueError(f"month={month} has no snapshot; there are {SNAPSHOT_MONTHS[0]} to {SNAPSHOT_MONTHS[-1]} by 6")
    return _alone(economy_seed)[SNAPSHOT_MONTHS.index(month)]


def how_made() -> dict[str, Any]:
    """Seeds, parameters and thresholds behind all contexts, JSON-able."""
    return {
        "root_seed": _ROOT,
        "economy_seeds": {split: [first, first + NUM_ECONOMIES[split] - 1] for split, first in FIRST_SEED.items()},
        "contexts_per_economy": PER_ECONOMY,
        "months": MONTHS,
        "economy": asdict(EconomyConfig()),
        "thresholds": {
            "growth_mean": GROWTH_MEAN,
            "growth_sd": GROWTH_SD,
            "unemployment_mean": UNEMPLOYMENT_MEAN,
            "unemployment_sd": UNEMPLOYMENT_SD,
            "recession_below": RECESSION_BELOW,
            "boom_above": BOOM_ABOVE,
            "wealth_terciles": list(WEALTH_TERCILES),
        },
    }


def _drawn(split: str, index: int, found: list[Moment], grid: list[NDArray[np.int64]]) -> Context:
    """One household in the aimed cell, or in the next one that has any."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([_ROOT, 2, FIRST_SEED[split], index])))
    for passed in range(NUM_CELLS):
        cell = (index + passed) % NUM_CELLS
        candidates = [(m, int(i)) for m, row in enumerate(grid) for i in np.nonzero(row == cell)[0]]
        if candidates:
            m, household = candidates[int(rng.integers(len(candidates)))]
            moment = found[m]
            return Context(
                id=f"{split}/{index:05d}",
                split=split,
                economy_seed=moment.economy_seed,
                household=household,
                snapshot=moment.snapshot,
                cell=cell,
                num_passed=passed,
                logged=(float(moment.work[household]), float(moment.share[household])),
            )
    raise AssertionError("every household is in one of the cells")
