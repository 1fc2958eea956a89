"""Which problems in which order: difficulty buckets, a schedule over the run, equal domains, exact resume.

A problem belongs to a *lane* (its domain, where domains are balanced) and in it to a *pool* (its bucket, where there is
a schedule). Lanes and buckets get their places by credit: each place goes to the largest credit, which then drops by 1,
so that what is delivered never strays from what is asked by a whole problem. Nothing here is random but the order
inside a pool and inside a batch, and both are functions of the seed: the state of a sampler is a few counters.

Without schedule and balance there is one pool, and the order is plain shuffled epochs.
"""

from __future__ import annotations

import copy
import logging
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Generic, Literal, TypeVar

from gradus.config import CurriculumConfig
from gradus.data.adaptive import Mode, Progress
from gradus.data.credit import Credit
from gradus.data.curriculum_metrics import Draw, Outcome, draw_metrics, outcome_metrics, outcome_of
from gradus.data.pool import Pool
from gradus.data.position import Position, SavedStates
from gradus.data.schedule import DEFAULT, Phase, PhaseLike, fraction_at, weights_at
from gradus.data.strata import (
    STATE_VERSION,
    Balance,
    Item,
    ItemLike,
    Strata,
    check_batch,
    check_state,
    cut_into_buckets,
    make_pools,
    read_schedules,
    read_shares,
    view_of,
    warn_of_small_domains,
)
from gradus.difficulty import BUCKETS, QUANTILES, Bucket, assign_bucket, bucket_edges, difficulty, parse_name
from gradus.seeds import seed_of
from gradus.types import Group, Problem

__all__ = ["CurriculumSampler", "Item", "assign_bucket", "bucket_edges", "difficulty", "parse_name", "weights_at"]

FALLBACK: tuple[Bucket, ...] = ("medium", "easy", "hard")
"""Where a place goes whose bucket has no problem in the domain."""

_log = logging.getLogger(__name__)


T = TypeVar("T", bound="ItemLike | Problem")


class CurriculumSampler(Generic[T]):
    """Draws the problems of each step.

    Example:
        sampler = CurriculumSampler(items, batch_size=8, max_steps=1000)
        for i in range(1000):
            (batch,) = sampler.step(i)  # two problems of each of four domains
    """

    def __init__(
        self,
        items: Sequence[T],
        *,
        batch_size: int,
        max_steps: int,
        accumulation: int = 1,
        seed: int = 3407,
        schedule: Sequence[PhaseLike] | Mapping[str, Sequence[PhaseLike]] | None = DEFAULT,
        draw: Literal["quota", "random"] = "quota",
        replacement: bool = False,
        balance: Balance = "exact",
        adaptive: Mode | None = None,
        buckets: Literal["percentile", "rank", "fixed"] = "percentile",
        quantiles: tuple[float, float] = QUANTILES,
        edges: Mapping[str, tuple[float, float]] | None = None,
        domain_weights: Mapping[str, float] | None = None,
        cooldown_steps: int = 0,
        hold_limit: float = 1.5,
        num_processes: int = 1,
    ) -> None:
        """Sorts the items into pools.

        Args:
            items: problems, or anything with ``domain``, ``score`` and ``key``; keys are unique in a domain.
            batch_size: problems per micro-batch over all processes; every micro-batch is balanced.
            max_steps: optimizer steps of the run: the length of the schedule.
            accumulation: micro-batches per step.
            schedule: phases, a mapping from domain to phases, or None for no buckets.
            draw: how a place gets its bucket: by credit, or at random as the weights say.
            replacement: whether a problem may come again before its pool is used up.
            balance: same number per domain and micro-batch; on average; or not at all.
            adaptive: let success rates change the mix (see `Progress`).
            buckets: cut each domain at percentiles of its scores, by rank, or at ``edges`` given by domain.
            domain_weights: shares of the domains with ``balance="carry"``.
            cooldown_steps: steps for which a problem whose last group had equal rewards is not drawn again.

        Raises:
            ValueError: no items, a batch size that the domains or processes do not divide, a bad schedule.
        """
        views = [view_of(item) for item in items]
        if not views:
            raise ValueError("there are no problems to draw from; check the data folder and the domains")
        self.items = tuple(items)
        self.max_steps = max_steps
        self.accumulation = accumulation
        self.seed = seed
        self.batch_size = batch_size
        self._draw, self._replacement = draw, replacement
        self._cooldown_steps = cooldown_steps
        self.domains = sorted({view.domain for view in views})
        self.balance: Balance = balance
        self._lanes = self.domains if balance != "none" else [""]
        check_batch(batch_size, accumulation, self.domains, balance, num_processes)
        self._schedules = read_schedules(schedule, self.domains, balance)
        self._is_plain = schedule is None and balance == "none"
        self.strata = Strata(views, cut_into_buckets(views, buckets, quantiles, edges))
        self._shares = read_shares(self._lanes, domain_weights, balance)
        self.progress = Progress(mode=adaptive, hold_limit=hold_limit)
        self._at = Position(
            pools=make_pools(
                views, self.strata.buckets, seed, by_domain=balance != "none", by_bucket=bool(self._schedules)
            ),
            progress=self.progress,
            lane_credit=Credit(self._lanes),
            credit={lane: Credit(BUCKETS) for lane in self._lanes},
        )
        if balance == "exact":
            warn_of_small_domains(views, batch_size // len(self.domains) * accumulation)
        # What is only remembered.
        self._last: Draw | None = None
        self._before: Draw | None = None
        self._last_batches: list[list[T]] = []
        self._outcome: dict[str, float] = {}
        self._trained: int | None = None
        self._states = SavedStates()

    @classmethod
    def from_config(
        cls,
        problems: Sequence[T],
        curriculum: CurriculumConfig,
        *,
        num_steps: int,
        seed: int,
        updates_per_batch: int = 1,
        num_processes: int = 1,
    ) -> CurriculumSampler[T]:
        """The sampler that a config asks for. With several updates per batch, each update's share is balanced.

        Example:
            sampler = CurriculumSampler.from_config(problems, config.curriculum, num_steps=config.num_steps, seed=0)
        """
        balance: Balance = "carry" if curriculum.balance_domains == "carry" else "none"
        return cls(
            problems,
            batch_size=curriculum.problems_per_step // updates_per_batch,
            accumulation=updates_per_batch,
            max_steps=num_steps,
            seed=seed,
            schedule=curriculum.stages,
            draw="quota" if curriculum.draw == "quota" else "random",
            replacement=curriculum.draw == "with_replacement",
            balance="exact" if curriculum.balance_domains is True else balance,
            adaptive=None if curriculum.adaptive == "off" else curriculum.adaptive,
            buckets=curriculum.buckets,
            quantiles=curriculum.quantiles,
            cooldown_steps=curriculum.cooldown_steps,
            num_processes=num_processes,
        )

    # --- drawing -------------------------------------------------------------------------------------------------

    def step(self, i: int) -> list[list[T]]:
        """The micro-batches of the 0-based optimizer step ``i``. ValueError where ``i`` is not the next one."""
        if i != self._at.next_step:
            raise ValueError(f"step({i}) is out of order; the next step is {self._at.next_step}")
        return self._draw_step(i)

    def draw(self, step: int) -> list[T]:
        """All problems of a step in one list. Steps may be left out, never gone back; the same step asked again gives
        the same problems. A pure function of the settings, the loaded state and the steps drawn since."""
        if self._last is not None and step == self._last.step and self._at.next_step == step + 1:
            return list(chain.from_iterable(self._last_batches))
        if step < self._at.next_step:
            raise ValueError(f"draw({step}) goes back; the next step is {self._at.next_step}")
        return list(chain.from_iterable(self._draw_step(step)))

    def redraw(self, step: int, problems: Sequence[T]) -> list[T]:
        """Further problems of the same domains and buckets, one for each of ``problems``, which brought no signal.
        They belong to the step drawn last."""
        if self._last is None or step != self._last.step:
            raise ValueError(f"redraw({step}) needs the step drawn last; draw it first")
        self._states.drop(step + 1)
        drawn: list[T] = []
        for problem in problems:
            index = self._index(problem)
            lane = self.strata.views[index].domain if self.balance != "none" else ""
            bucket = self.strata.buckets[index] if self._schedules else None
            drawn.append(self.items[self._take(self._at.pools[lane, bucket], self._last, None)])
        self._keep_state()
        return drawn

    def begin_at(self, step: int) -> None:
        """Begins anew, with no state, at a step: for a run whose problems were exchanged."""
        assert self._last is None, "nothing has been drawn yet"
        self._at.next_step = step

    def fast_forward(self, i: int) -> None:
        """Draws and forgets all steps before ``i``. ValueError where results decide what is drawn."""
        if self.progress.mode or self._cooldown_steps:
            raise ValueError("an adaptive curriculum cannot be fast-forwarded; load its state")
        while self._at.next_step < i:
            self._draw_step(self._at.next_step)

    def _draw_step(self, step: int) -> list[list[T]]:
        if (self.progress.mode or self._cooldown_steps) and self._last and self._trained != self._last.step:
            raise ValueError(f"step {self._last.step} has no results yet; an adaptive curriculum needs update() first")
        self._before, self._last = (
            self._last,
            (draw := Draw(step=step, fraction=fraction_at(step, self.max_steps), weights={})),
        )
        self._outcome = {}
        for lane in self._lanes if self._schedules else ():
            schedule = self._schedules[lane or self.domains[0]]
            draw.weights[lane] = self.progress.weights(lane, step, self.max_steps, schedule)
        batches = [self._micro_batch(step, number, draw) for number in range(self.accumulation)]
        self._at.window.append([sum(b == bucket for b in draw.buckets) for bucket in BUCKETS])
        self._last_batches = [[self.items[index] for index in batch] for batch in batches]
        self._at.next_step = step + 1
        self._keep_state()
        return [list(batch) for batch in self._last_batches]

    def _micro_batch(self, step: int, number: int, draw: Draw) -> list[int]:
        rng = random.Random(seed_of("batch", self.seed, step, number))
        drawn: list[int] = []
        for lane, num_places in self._places().items():
            for bucket in self._buckets_for(lane, num_places, draw, rng):
                pool = self._pool(lane, bucket, draw)
                drawn.append(self._take(pool, draw, rng if self._replacement else None))
        if not self._is_plain:
            rng.shuffle(drawn)
        return drawn

    def _places(self) -> dict[str, int]:
        """Problems of each lane in the next micro-batch."""
        if self.balance != "carry":
            return {lane: self.batch_size // len(self._lanes) for lane in self._lanes}
        given = Counter(self._at.lane_credit.allot(self.batch_size, [self._shares[lane] for lane in self._lanes]))
        return {lane: given[lane] for lane in self._lanes}

    def _buckets_for(self, lane: str, num_places: int, draw: Draw, rng: random.Random) -> list[Bucket | None]:
        if not self._schedules:
            return [None] * num_places
        weights = draw.weights[lane]
        if self._draw == "random":
            return list(rng.choices(BUCKETS, [float(weight) for weight in weights], k=num_places))
        return list(self._at.credit[lane].allot(num_places, weights))

    def _pool(self, lane: str, bucket: Bucket | None, draw: Draw) -> Pool:
        if bucket is None or (lane, bucket) in self._at.pools:
            return self._at.pools[lane, bucket]
        self._at.fallbacks[lane] += 1
        draw.num_fallbacks += 1
        return self._at.pools[lane, self.stand_in(lane, bucket)]

    def stand_in(self, domain: str, bucket: Bucket) -> Bucket:
        """The bucket that gives the problems asked of ``bucket``: itself, or what stands in for an empty one."""
        lane = domain if self.balance != "none" else ""
        return bucket if (lane, bucket) in self._at.pools else next(b for b in FALLBACK if (lane, b) in self._at.pools)

    def _take(self, pool: Pool, draw: Draw, rng: random.Random | None) -> int:
        index = pool.take_any(rng) if rng else pool.take(lambda index: self._is_barred(index, draw), draw.taken)
        self._at.num_drawn += 1
        draw.taken.add(index)
        draw.domains.append(self.strata.views[index].domain)
        draw.buckets.append(self.strata.buckets[index])
        return index

    def _is_barred(self, index: int, draw: Draw) -> bool:
        """Whether a problem has been drawn in this step already, or rests. Plain epochs bar nothing."""
        if self._is_plain and not self._cooldown_steps:
            return False
        return index in draw.taken or self._at.cool_until.get(index, 0) > draw.step

    # --- results -------------------------------------------------------------------------------------------------

    def update(self, i: int, results: Sequence[Outcome]) -> None:
        """Tells what became of the problems of step ``i``, which was drawn before."""
        if i >= self._at.next_step:
            raise ValueError(f"update({i}) before step({i}) was drawn")
        for outcome in results:
            index = self.strata.index_of.get((outcome.domain, outcome.key))
            if index is None:
                raise ValueError(f"result of {outcome.key!r} in {outcome.domain!r}, which this sampler has not")
            lane = outcome.domain if self.balance != "none" else ""
            self.progress.observe(lane, self.strata.buckets[index], outcome.success)
            if self._cooldown_steps and not outcome.has_spread:
                self._at.cool_until[index] = i + 1 + self._cooldown_steps
        self._at.cool_until = {index: until for index, until in self._at.cool_until.items() if until > i}
        self._outcome = outcome_metrics(results, self.buckets)
        self._trained = i
        self._states.forget(i)

    def observe(self, step: int, groups: Sequence[Group]) -> None:
        """`update` with the groups that were sampled in a step, those without signal included."""
        self.update(step, [outcome_of(group) for group in groups])

    def metrics(self, i: int | None = None) -> dict[str, float]:
        """Metrics of the step drawn last (of which ``i`` must be the number): what was asked, what was delivered, and,
        after `update`, rewards by difficulty and domain. A key without data is left out."""
        if self._last is None or i not in (None, self._last.step):
            raise ValueError(f"metrics({i}) of a step that was not the last one drawn")
        row = draw_metrics(self._last, self.domains, self._at.window)
        row |= {f"curriculum/fallback/{lane}": float(self._at.fallbacks[lane]) for lane in self._lanes if lane}
        if self._schedules:
            row["curriculum/fallback_frac"] = self._last.num_fallbacks / max(len(self._last.buckets), 1)
        return row | self._outcome

    @property
    def buckets(self) -> dict[str, Bucket]:
        """Key of every problem to its bucket."""
        return self.strata.by_key

    @property
    def epoch(self) -> float:
        """Problems drawn so far, as passes through all of them."""
        return self._at.num_drawn / len(self.items)

    @property
    def is_scheduled(self) -> bool:
        """Whether there are buckets with weights that follow a schedule."""
        return bool(self._schedules)

    @property
    def schedules(self) -> dict[str, tuple[Phase, ...]]:
        """Domain to phases; empty without a schedule."""
        return dict(self._schedules)

    def requested(self, *, before: bool = False) -> dict[str, dict[Bucket, float]]:
        """Bucket weights by lane of the step drawn last, or of the one ``before`` it; empty without a schedule."""
        draw = self._before if before else self._last
        return {} if draw is None else draw.requested()

    # --- state ---------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that a continuation needs, as JSON: after the step whose results came last, or, where no results
        ever came, after the step drawn last. Steps drawn ahead are not in it."""
        if self._trained is None or self._trained + 1 == self._at.next_step:
            return self._state()
        state = self._states.of(self._trained + 1)
        return copy.deepcopy(state) | {"progress": self.progress.state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where ``state`` was taken. ValueError names what differs; another ``max_steps`` only warns."""
        check_state(state, self._settings())
        if state["max_steps"] != self.max_steps and self._schedules:
            _log.warning("the schedule now runs over %d steps, before %d", self.max_steps, state["max_steps"])
        self._at.load(state)
        self._last, self._before, self._last_batches, self._outcome = None, None, [], {}
        self._trained, self._states = None, SavedStates()

    def _state(self) -> dict[str, Any]:
        return {
            "version": STATE_VERSION,
            "settings": self._settings(),
            "max_steps": self.max_steps,
            **self._at.state(),
        }

    def _settings(self) -> dict[str, Any]:
        """What a state is tied to."""
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "accumulation": self.accumulation,
            "draw": self._draw,
            "replacement": self._replacement,
            "balance": self.balance,
            "adaptive": self.progress.mode,
            "has_schedule": bool(self._schedules),
            "items": self.strata.fingerprint,
        }

    def _keep_state(self) -> None:
        if not self.progress.mode and not self._cooldown_steps:
            self._states.keep(self._at.next_step, self._state())

    def _index(self, problem: T) -> int:
        view = view_of(problem)
        return self.strata.index_of[view.domain, view.key]
