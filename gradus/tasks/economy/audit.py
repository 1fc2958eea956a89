"""Which terms of a composite reward can teach anything: shares of the variance within groups, and terms that are inert.

A term that is equal for all answers of a group cancels in the advantage. Training on a reward much of whose weight is
inert is refused: the curve would mostly show something that the policy cannot change.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from gradus.seeds import seed_of
from gradus.tasks.economy.decision import canonical
from gradus.tasks.economy.seed_reward import seed_parts
from gradus.tasks.economy.values import Values, on_grid
from gradus.types import Problem

Terms = Callable[[float, float], Mapping[str, tuple[float, float]]]
"""From work and consumption to the weight and the value of each term."""

MIN_GROUPS = 64
MIN_COMPLETIONS = 8
NUM_ANSWERS = 16
"""Random answers to each context."""
MAX_INERT_FRAC = 0.05
"""Share of the weight that may be inert before training is refused."""
_INERT_SHARE = 1e-6
MAX_FLAT_FRAC = 0.5


@dataclass(frozen=True, slots=True)
class Term:
    """One term of a reward.

    Example:
        Term("guard", weight=0.65, share=0.0, max_range=0.0, is_inert=True)
    """

    name: str
    weight: float
    share: float
    """Of the variance of the total within groups."""
    max_range: float
    """Largest difference that the term makes between answers of one context."""
    is_inert: bool


@dataclass(frozen=True, slots=True)
class Audit:
    """Result of an audit.

    Example:
        audit(groups, {"value": 1.0}).refusal  # None
    """

    terms: tuple[Term, ...]
    flat_frac: float
    """Groups in which all rewards are equal."""
    num_groups: int
    inert_frac: float
    """Weight of inert terms over all weights."""

    @property
    def refusal(self) -> str | None:
        """Why training on this reward is refused; None where it is not."""
        if self.inert_frac < MAX_INERT_FRAC:
            return None
        names = ", ".join(term.name for term in self.terms if term.is_inert)
        return (
            f"{self.inert_frac:.0%} of the reward's weight is in terms that no answer can change ({names}); train on "
            "reward='counterfactual', or set allow_inert=True"
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What should be known, and stops nothing."""
        found = []
        inert = [term.name for term in self.terms if term.is_inert]
        if inert and not self.refusal:
            found.append(f"inert reward terms: {', '.join(inert)}")
        if self.flat_frac > MAX_FLAT_FRAC:
            found.append(f"{self.flat_frac:.0%} of the groups have equal rewards and teach nothing")
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping."""
        return asdict(self) | {"refusal": self.refusal, "warnings": list(self.warnings)}


def audit(groups: Sequence[Sequence[Mapping[str, float]]], weights: Mapping[str, float]) -> Audit:
    """Audits groups of completions, each given by its unweighted terms. ValueError for too few groups or completions.

    share of a term = sum over groups of Cov(weight · term, total) / sum of Var(total); shares add up to 1.
    """
    if len(groups) < MIN_GROUPS or min(map(len, groups)) < MIN_COMPLETIONS:
        smallest = min(map(len, groups)) if groups else 0
        raise ValueError(
            f"{len(groups)} groups of at least {smallest} completions; an audit needs {MIN_GROUPS} of {MIN_COMPLETIONS}"
        )
    covariance = dict.fromkeys(weights, 0.0)
    ranges = dict.fromkeys(weights, 0.0)
    variance, num_flat = 0.0, 0
    for group in groups:
        weighted = {name: [w * row.get(name, 0.0) for row in group] for name, w in weights.items()}
        total = [math.fsum(column) for column in zip(*weighted.values(), strict=True)]
        mean = math.fsum(total) / len(total)
        spread = math.fsum((t - mean) ** 2 for t in total)
        variance += spread
        num_flat += max(total) - min(total) <= 1e-12
        for name, column in weighted.items():
            own = math.fsum(column) / len(column)
            covariance[name] += math.fsum((x - own) * (t - mean) for x, t in zip(column, total, strict=True))
            raw = [row.get(name, 0.0) for row in group]
            ranges[name] = max(ranges[name], max(raw) - min(raw))
    terms = []
    for name, weight in weights.items():
        share = covariance[name] / variance if variance > 0 else 0.0
        is_inert = ranges[name] <= 1e-12 or abs(share) < _INERT_SHARE
        terms.append(Term(name, weight, share, ranges[name], is_inert))
    whole = math.fsum(abs(weight) for weight in weights.values())
    inert = math.fsum(abs(term.weight) for term in terms if term.is_inert)
    return Audit(tuple(terms), num_flat / len(groups), len(groups), inert / whole if whole else 0.0)


def of_reward(problems: Sequence[Problem], *, reward: str, grid_penalty: float = 0.0) -> Audit:
    """Audits a reward on random valid answers to these problems, half of them on the grid; few problems are repeated."""
    rng = random.Random(seed_of("economy", "audit"))
    groups: list[list[dict[str, float]]] = []
    weights: dict[str, float] = {}
    for number in range(max(MIN_GROUPS, min(len(problems), 4 * MIN_GROUPS))):
        problem = problems[number % len(problems)]
        paid = _seed_terms(problem) if reward == "seed" else _terms(problem, grid_penalty)
        answers = [(rng.random(), rng.random()) for _ in range(NUM_ANSWERS)]
        answers[::2] = [(round(work * 50) / 50, round(share * 50) / 50) for work, share in answers[::2]]
        found = [paid(*answer) for answer in answers]
        groups.append([{name: weight * term for name, (weight, term) in row.items()} for row in found])
        for name, (weight, _) in found[0].items():
            weights[name] = weights.get(name, 0.0) + weight
    audited = audit(groups, dict.fromkeys(weights, 1.0))
    mean = {name: weight / len(groups) for name, weight in weights.items()}
    terms = tuple(replace(term, weight=mean[term.name]) for term in audited.terms)
    inert = math.fsum(term.weight for term in terms if term.is_inert)
    return replace(audited, terms=terms, inert_frac=inert / math.fsum(mean.values()))


def _seed_terms(problem: Problem) -> Terms:
    """The original's reward in the context of a problem."""
    facts, names = problem.truth["extra_info"], ("annual", "guard", "micro", "reg")

    def paid(work: float, consumption: float) -> dict[str, tuple[float, float]]:
        parts = seed_parts(canonical(work, consumption), facts)
        return {name: (parts[f"w_{name}"], parts[name]) for name in names}

    return paid


def _terms(problem: Problem, grid_penalty: float) -> Terms:
    """The default reward in the context of a problem."""
    values = Values.from_row(problem.truth, problem.id)

    def paid(work: float, consumption: float) -> dict[str, tuple[float, float]]:
        worth = {"value": (1.0, values.reward(work, consumption))}
        return worth | ({"grid": (grid_penalty, on_grid(work, consumption) - 1.0)} if grid_penalty else {})

    return paid


def table(found: Audit) -> dict[str, Any]:
    """The audit for people: title, head, rows of text, reading."""
    rows = [
        [one.name, f"{one.weight:.2f}", f"{one.share:.1%}", f"{one.max_range:.3f}", "inert" if one.is_inert else ""]
        for one in found.terms
    ]
    return {
        "title": "What the reward teaches",
        "head": ["term", "weight", "share of the variance within groups", "largest difference between answers", ""],
        "rows": rows,
        "reading": (
            f"From {NUM_ANSWERS} random valid answers to each of {found.num_groups} training contexts, before the first "
            "step. A term that no answer can change is inert: it moves the curve of the reward, and never the policy."
        ),
    }
