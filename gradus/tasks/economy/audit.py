"""Which terms of a composite reward can teach anything: shares of the variance within groups, and terms that are inert.

A term that is equal for all answers of a group cancels in the advantage. Training on a reward much of whose weight is
inert is refused: the curve would mostly show something that the policy cannot change.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from gradus.seeds import seed_of
from gradus.tasks.economy.decision import canonical
from gradus.tasks.economy.seed_reward import seed_parts

MIN_GROUPS = 64
MIN_COMPLETIONS = 8
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


def of_seed_reward(facts: Sequence[Mapping[str, Any]]) -> Audit:
    """Audits the original's reward on random valid answers to contexts with these facts; few contexts are repeated."""
    rng = random.Random(seed_of("economy", "audit"))
    names = ("annual", "guard", "micro", "reg")
    groups, weights = [], dict.fromkeys(names, 0.0)
    for number in range(max(MIN_GROUPS, min(len(facts), 4 * MIN_GROUPS))):
        extra_info = facts[number % len(facts)]
        rows = [seed_parts(canonical(rng.random(), rng.random()), extra_info) for _ in range(MIN_COMPLETIONS)]
        groups.append([{name: row[f"w_{name}"] * row[name] for name in names} for row in rows])
        for name in names:
            weights[name] += rows[0][f"w_{name}"]
    found = audit(groups, dict.fromkeys(names, 1.0))
    mean = {name: weight / len(groups) for name, weight in weights.items()}
    terms = tuple(replace(term, weight=mean[term.name]) for term in found.terms)
    inert = math.fsum(term.weight for term in terms if term.is_inert)
    return replace(found, terms=terms, inert_frac=inert / math.fsum(mean.values()))
