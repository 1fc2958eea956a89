"""Random instances of the built-in domains: named by their sizes and seed, solved, checked, and split without leak.

An instance is a pure function of its domain, its sizes and its random seed. Which instances a split gets is a function
of the master seed; to which split an instance may belong is a function of its fingerprint alone.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from gradus.difficulty import Bucket
from gradus.seeds import seed_of
from gradus.tasks.planning.domains import FAMILIES, Family, Layout, Reference, Sizes, write_problem
from gradus.tasks.planning.fingerprint import fingerprint, split_of
from gradus.tasks.planning.pddl import Domain, Problem
from gradus.tasks.planning.plan import Action, Plan
from gradus.tasks.planning.presets import LEVEL_ORDER, Preset, sizing
from gradus.tasks.planning.search import solve
from gradus.tasks.planning.validate import validate
from gradus.types import Split

MAX_REPEATS = 500
"""Fruitless draws in a row after which a size counts as used up."""
MAX_SEED = 10**9
SEARCH_STATES = 20_000
"""States that the search for a plan under a constraint may use; without one the constraint is dropped."""
CONSTRAINT_TRIES = 12

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A generated problem that nobody has solved yet."""

    family: Family
    sizes: Sizes
    layout: Layout
    name: str
    """File name without extension: sizes and random seed."""
    text: str
    problem: Problem
    fingerprint: str

    @property
    def is_solved(self) -> bool:
        """Whether the goal holds at the start."""
        world = self.problem.world
        return world.num_goals_true(world.start, world.numbers) == len(world.goals)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A generated problem with a plan that solves it.

    Example:
        instance(FAMILIES["ferry"], {"l": 4, "c": 2}, 122320450).draft.name  # "ferry-l4-c2-s122320450"
    """

    draft: Draft
    reference: Reference
    level: Bucket | None = None
    plain_length: int | None = None
    """Of a constrained instance: length of the reference plan without the constraint."""
    binds: bool = False
    """Whether that plan violates the constraint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """Instances that a level could not give, because all its sizes are used up."""

    domain: str
    level: Bucket
    num_missing: int


def domain_of(family: Family) -> Domain:
    """The parsed domain, read once."""
    if family.name not in _DOMAINS:
        _DOMAINS[family.name] = Domain.parse(family.text)
    return _DOMAINS[family.name]


_DOMAINS: dict[str, Domain] = {}


def plan_text(actions: Sequence[Action]) -> str:
    """One action per line."""
    return "".join(f"({' '.join(action)})\n" for action in actions)


def as_plan(actions: Sequence[Action]) -> Plan:
    """Actions as a plan that needs no reading."""
    return Plan(tuple(actions), tuple(range(1, len(actions) + 1)))


def draft(family: Family, sizes: Sizes, seed: int) -> Draft:
    """The problem of these sizes with this random seed."""
    layout = family.draw(sizes, Random(seed_of("instance", family.name, seed)))
    return _drafted(family, sizes, layout, family.stem(sizes, seed))


def _drafted(family: Family, sizes: Sizes, layout: Layout, name: str, constraint: str | None = None) -> Draft:
    domain = domain_of(family)
    text = write_problem(name, domain.name, layout, constraint)
    problem = Problem.parse(text, domain)
    return Draft(
        family=family,
        sizes=sizes,
        layout=layout,
        name=name,
        text=text,
        problem=problem,
        fingerprint=fingerprint(problem),
    )


def solved(made: Draft, level: Bucket | None = None) -> Instance:
    """The draft with its reference plan, which has passed the checker."""
    reference = made.family.refer(made.problem)
    assert reference is not None and validate(made.problem, as_plan(reference.actions)).valid, made.name
    return Instance(draft=made, reference=reference, level=level)


def instance(family: Family, sizes: Sizes, seed: int) -> Instance:
    """The solved instance of these sizes with this random seed."""
    return solved(draft(family, sizes, seed))


def constrained(plain: Instance, seed: int, *, must_bind: bool) -> Instance | None:
    """The instance with a random trajectory constraint under which it can still be solved, or None.

    With ``must_bind`` the reference plan of the plain instance has to violate the constraint.
    """
    made = plain.draft
    random = Random(seed_of("constraint", seed, made.name))
    for _ in range(CONSTRAINT_TRIES):
        constraint = made.family.constrain(made.problem, random)
        if constraint is None:
            return None
        variant = _drafted(made.family, made.sizes, made.layout, f"{made.name}-constrained", constraint)
        binds = not validate(variant.problem, as_plan(plain.reference.actions)).valid
        if must_bind and not binds:
            continue
        actions = solve(variant.problem, SEARCH_STATES) if binds else plain.reference.actions
        if actions is None:
            continue
        assert validate(variant.problem, as_plan(actions)).valid, variant.name
        return Instance(
            draft=variant,
            reference=Reference(actions=tuple(actions), is_optimal=not binds and plain.reference.is_optimal),
            level=plain.level,
            plain_length=len(plain.reference.actions),
            binds=binds,
        )
    return None


class Source:
    """A supply of different instances of one domain for one split (None: whatever the split). Instances whose goal
    holds at the start are left out.

    Example:
        source = Source(FAMILIES["ferry"], "train", preset="default", seed=0)
        [made.draft.name for made in source.take(3)]
    """

    def __init__(
        self,
        family: Family,
        split: Split | None,
        *,
        preset: Preset = "default",
        seed: int = 0,
        constraint_rate: float = 0.0,
    ) -> None:
        self.family = family
        self.split = split
        self.preset: Preset = preset
        self.seed = seed
        self.constraint_rate = constraint_rate
        plan = sizing(preset, family.name)
        self._repeats = plan.repeats and split == "train"
        self._open: dict[Bucket, list[Sizes]] = {level: list(sizes) for level, sizes in plan.levels.items()}
        self._turn: Counter[str] = Counter()
        self._counters: Counter[str] = Counter()
        self._seen: set[str] = set()
        self._names: set[str] = set()
        self._num_drawn = 0
        self.num_binding = 0
        self.num_idle = 0
        self.missing: Counter[Bucket] = Counter()

    def take(self, count: int) -> Iterator[Instance]:
        """Up to ``count`` instances, levels in turn; what a used-up level cannot give is counted in ``missing``."""
        for _ in range(count):
            level = LEVEL_ORDER[self._num_drawn % len(LEVEL_ORDER)]
            self._num_drawn += 1
            found = self._of_level(level)
            if found is None:
                self.missing[level] += 1
            else:
                yield found

    @property
    def shortages(self) -> list[Shortage]:
        """What could not be given."""
        return [
            Shortage(domain=self.family.name, level=level, num_missing=count) for level, count in self.missing.items()
        ]

    def _of_level(self, level: Bucket) -> Instance | None:
        sizes_left = self._open[level]
        while sizes_left:
            place = self._turn[level] % len(sizes_left)
            found = self._of_size(sizes_left[place], level)
            if found is not None:
                self._turn[level] += 1
                return found
            sizes = sizes_left.pop(place)
            count = self._counters[f"found {dict(sizes)}"]
            _log.info(
                "%s %s: no new instance of sizes %s in %d draws; %d different ones were found, other sizes go on",
                self.family.name, self.split, dict(sizes), MAX_REPEATS, count,
            )  # fmt: skip
        return None

    def _of_size(self, sizes: Sizes, level: Bucket) -> Instance | None:
        label = " ".join(f"{name}{size}" for name, size in sizes.items())
        for _ in range(MAX_REPEATS):
            number = self._counters[label]
            self._counters[label] += 1
            seed = seed_of("planning", self.seed, self.family.name, label, number) % MAX_SEED
            found = self._candidate(sizes, seed, level)
            if found is not None:
                self._counters[f"found {dict(sizes)}"] += 1
                return found
        return None

    def _candidate(self, sizes: Sizes, seed: int, level: Bucket) -> Instance | None:
        """The instance if it belongs here: right split, not seen, not solved at the start."""
        made = draft(self.family, sizes, seed)
        if made.name in self._names or (self.split is not None and split_of(made.fingerprint) != self.split):
            return None
        if made.is_solved or (made.fingerprint in self._seen and not self._repeats):
            return None
        self._seen.add(made.fingerprint)
        self._names.add(made.name)
        plain = solved(made, level)
        if Random(seed_of("is constrained", self.seed, made.name)).random() >= self.constraint_rate:
            return plain
        # At least half of the constrained instances are ones where the constraint matters. An instance for which no
        # constraint was found stays as it is.
        variant = constrained(plain, self.seed, must_bind=self.num_binding <= self.num_idle)
        if variant is None:
            return plain
        self.num_binding += variant.binds
        self.num_idle += not variant.binds
        return variant


def sources(
    domains: Sequence[str],
    split: Split | None,
    *,
    preset: Preset = "default",
    seed: int = 0,
    constraint_rate: float = 0.0,
) -> dict[str, Source]:
    """A source per domain. ValueError for a domain that is not built in."""
    for domain in domains:
        if domain not in FAMILIES:
            raise ValueError(f"domain {domain!r} has no generator; there are {', '.join(FAMILIES)}")
    return {
        domain: Source(FAMILIES[domain], split, preset=preset, seed=seed, constraint_rate=constraint_rate)
        for domain in domains
    }
