"""What an economy becomes if a policy decides in it: whole simulations on shared shocks, with null bands.

A policy is anything that answers for chosen households: a rule, a fitted function, or a model behind `TextPolicy`. All
economies of a comparison meet the same shocks, so differences are paired.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradus.tasks.economy.loop_metrics import Totals, metrics_of
from gradus.tasks.economy.policies import BufferStock, Policy, decisions
from gradus.tasks.economy.prompts import messages
from gradus.tasks.economy.reward import read
from gradus.tasks.economy.shocks import ShockSeries
from gradus.tasks.economy.simulator import Economy, EconomyConfig, State, expected_wages
from gradus.tasks.economy.snapshot import Snapshot
from gradus.types import Message

Floats = NDArray[np.float64]
FALLBACKS = ("uniform", "last", "idle", "public")
_FIXED = {"idle": (0.0, 0.02), "public": (1.0, 0.5)}
MAX_FAILED_FRAC = 0.05
"""A run with more failed answers says nothing about the policy."""
NULL_QUANTILE = 1.645
"""A correlation of n unrelated pairs lies within this over sqrt(n - 1) with 90 %: +-0.39 for one run of 20 years."""
_BLOCK = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """A finished closed loop: one value of each metric per economy.

    Example:
        simulate(BufferStock(), economy_ids=range(10), months=120).summary()["unemployment_mean"]["mean"]
    """

    months: int
    metrics: Mapping[str, tuple[float | None, ...]]
    yearly_unemployment: tuple[tuple[float, ...], ...]
    """By year, then economy."""
    counts: Mapping[str, int]
    """Answers asked for, and failed ones by reason."""
    share: float = 1.0
    """Of the households that the policy decided for; the rest followed `BufferStock`."""

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping, which `from_json` reads."""
        return asdict(self) | {"summary": self.summary(), "phillips": self.phillips_verdict()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Loop:
        """The loop that `to_json` wrote. ValueError names a missing field."""
        missing = [one.name for one in fields(cls) if one.name not in content]
        if missing:
            raise ValueError(f"closed loop without {missing[0]}; evaluate the model again")
        return cls(
            months=int(content["months"]),
            metrics={name: tuple(values) for name, values in content["metrics"].items()},
            yearly_unemployment=tuple(map(tuple, content["yearly_unemployment"])),
            counts=dict(content["counts"]),
            share=float(content["share"]),
        )

    @property
    def failed_frac(self) -> float:
        """Share of answers that could not be read."""
        asked = self.counts.get("asked", 0)
        return self.counts.get("failed", 0) / asked if asked else 0.0

    @property
    def is_interpretable(self) -> bool:
        """Whether at most 5 % of the answers failed."""
        return self.failed_frac <= MAX_FAILED_FRAC

    def summary(self) -> dict[str, dict[str, Any]]:
        """Mean and 90 % interval over economies; None, with a reason, where a metric is not defined."""
        return {name: _interval(values) for name, values in self.metrics.items()}

    def phillips_verdict(self) -> str:
        """Mean Phillips correlation against the null band for as many economies."""
        values = [v for v in self.metrics["phillips_r"] if v is not None]
        if len(values) < 10:
            return f"undetermined: {len(values)} economies with a correlation, 10 are needed"
        num_pairs = self.months // 12 - 1  # the first year has no wage inflation
        mean, bound = math.fsum(values) / len(values), NULL_QUANTILE / math.sqrt((num_pairs - 1) * len(values))
        word = "within" if abs(mean) <= bound else "outside"
        return f"{mean:+.2f}, {word} the band ±{bound:.2f} of a policy that is blind to the state"


def differences(base: Loop, trained: Loop) -> dict[str, dict[str, Any]]:
    """Trained minus base, economy by economy. ValueError where they did not run on the same economies and months."""
    if base.months != trained.months or any(len(base.metrics[n]) != len(trained.metrics[n]) for n in base.metrics):
        raise ValueError(
            f"base ran {base.months} months, trained {trained.months}; both need the same months and economies"
        )
    return {
        name: _interval(
            [None if a is None or b is None else b - a for a, b in zip(v, trained.metrics[name], strict=True)]
        )
        for name, v in base.metrics.items()
    }


def simulate(
    policy: Policy,
    *,
    economy_ids: Sequence[int],
    months: int = 120,
    root_seed: int = 730_001,
    share: float = 1.0,
    config: EconomyConfig | None = None,
) -> Loop:
    """Runs ``policy`` for a fixed ``share`` of the households of each economy; the rest follows `BufferStock`."""
    config = config or EconomyConfig()
    if not len(economy_ids) or months < 24 or not 0 < share <= 1:
        raise ValueError(f"{len(economy_ids)} economies, months={months}, share={share}: needed are 1, 24 and (0, 1]")
    economy = Economy(
        config, np.repeat(expected_wages(config.n)[None], len(economy_ids), axis=0), people_seeds=list(economy_ids)
    )
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([root_seed, 1])))
    decided = np.zeros(config.n, dtype=bool)
    decided[np.linspace(0, config.n - 1, max(1, round(share * config.n))).round().astype(int)] = True
    others, totals = BufferStock(config.hours), Totals(len(economy_ids), decided)
    bind = getattr(policy, "bind", None)
    shocks = ShockSeries.draw(root_seed, economy_ids, min(_BLOCK, months), config.n)
    for month in range(months):
        if month and month % _BLOCK == 0:
            shocks = ShockSeries.draw(root_seed, economy_ids, min(_BLOCK, months - month), config.n, skip=month)
        if bind is not None:
            bind(economy, decided)
        view, drawn = economy.state, shocks[month % _BLOCK]
        work, consumption = decisions(policy, view, drawn, rng)
        if not decided.all():
            other_work, other_share = others.decide(view)
            work, consumption = np.where(decided, work, other_work), np.where(decided, consumption, other_share)
        totals.add(economy.step(work, consumption, drawn))
    counts = dict(getattr(policy, "counts", {}))
    annual = economy.annual()
    return Loop(
        months=months,
        metrics=metrics_of(economy, annual, totals),
        yearly_unemployment=tuple(map(tuple, annual["unemployment"].tolist())),
        counts=counts,
        share=share,
    )


@dataclass(slots=True)
class TextPolicy:
    """A policy that answers in text: ``answer`` gets prompts and returns completions, in order.

    Failed answers are replaced by ``fallback`` and counted by reason: ``uniform`` draws, so that garbage does as well as
    chance; ``last`` repeats the household's last answer; ``idle`` is (0, 0.02); ``public`` is (1, 0.5).

    Example:
        simulate(TextPolicy(answer=lambda prompts: [...]), economy_ids=range(8), share=0.1)
    """

    answer: Callable[[Sequence[tuple[Message, ...]]], Sequence[str]]
    language: str = "en"
    form: str = "full"
    envelope: str = "none"
    examples: Callable[[Snapshot, int], Sequence[dict[str, Any]]] = lambda snapshot, household: ()
    """Good decisions to show to a household."""
    fallback: str = "uniform"
    counts: Counter[str] = field(default_factory=Counter)
    _economy: Economy | None = None
    _decided: NDArray[np.bool_] | None = None
    _last: dict[tuple[int, int], tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.fallback not in FALLBACKS:
            raise ValueError(f"fallback {self.fallback!r} is unknown; there are: {', '.join(FALLBACKS)}")

    def bind(self, economy: Economy, decided: NDArray[np.bool_]) -> None:
        """Called before each month: whose prompts are to be answered."""
        self._economy, self._decided = economy, decided

    def decide(self, view: State, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """One prompt per chosen household and economy."""
        assert self._economy is not None and self._decided is not None
        places, prompts = [], []
        for b, snapshot in enumerate(self._economy.snapshots()):
            for i in np.nonzero(self._decided)[0]:
                places.append((b, int(i)))
                prompts.append(
                    messages(
                        snapshot,
                        int(i),
                        language=self.language,
                        form=self.form,
                        envelope=self.envelope,
                        examples=self.examples(snapshot, int(i)),
                    )
                )
        work, consumption = np.zeros(view.wage.shape), np.zeros(view.wage.shape)
        for place, text in zip(places, self.answer(prompts), strict=True):
            work[place], consumption[place] = self._read(place, text, rng)
        return work, consumption

    def _read(self, place: tuple[int, int], text: str, rng: np.random.Generator) -> tuple[float, float]:
        decision = read(text, self.envelope)
        self.counts["asked"] += 1
        if decision.ok:
            assert decision.work is not None and decision.consumption is not None
            self._last[place] = (decision.work, decision.consumption)
            return self._last[place]
        self.counts["failed"] += 1
        self.counts[f"failed/{decision.reason}"] += 1
        if self.fallback == "last" and place in self._last:
            self.counts["fallback/last"] += 1
            return self._last[place]
        if self.fallback in _FIXED:
            self.counts[f"fallback/{self.fallback}"] += 1
            return _FIXED[self.fallback]
        self.counts["fallback/uniform"] += 1
        return float(rng.random()), float(rng.random())


def _interval(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean, and the 5 % and 95 % quantile over economies."""
    known = [value for value in values if value is not None]
    if not known:
        return {"mean": None, "low": None, "high": None, "num": 0, "reason": "undefined: no variance, or too few years"}
    low, high = np.quantile(known, [0.05, 0.95])
    return {"mean": math.fsum(known) / len(known), "low": float(low), "high": float(high), "num": len(known)}


def sentence(loop: Loop) -> str:
    """The loop in one line: who decided, unemployment, inflation, failed answers."""
    found = loop.summary()
    own, all_, inflation = (
        found[name]["mean"] for name in ("own_unemployment_mean", "unemployment_mean", "inflation_sd")
    )
    words = (
        f"{len(loop.metrics['utility_mean'])} economies, {loop.months} months, policy decides for {loop.share:.0%}: "
        f"unemployment of its households {own:.1%}, of all {all_:.1%}"
    )
    if inflation is not None:
        words += f", inflation varies by {inflation:.1%}"
    words += f"; {loop.failed_frac:.1%} of the answers failed"
    return words if loop.is_interpretable else f"{words}: not interpretable"
