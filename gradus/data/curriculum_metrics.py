"""Metrics of a curriculum: what was asked and delivered, and rewards by difficulty and domain."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from gradus.difficulty import BUCKETS, Bucket
from gradus.types import Group


@dataclass(slots=True)
class Draw:
    """What was drawn in one step."""

    step: int
    fraction: float
    weights: dict[str, tuple[Fraction, Fraction, Fraction]]
    """Lane to bucket weights."""
    taken: set[int] = field(default_factory=set)
    domains: list[str] = field(default_factory=list)
    buckets: list[Bucket] = field(default_factory=list)
    num_fallbacks: int = 0

    def requested(self) -> dict[str, dict[Bucket, float]]:
        """Bucket weights by lane."""
        return {
            lane: {bucket: float(weight) for bucket, weight in zip(BUCKETS, weights, strict=True)}
            for lane, weights in self.weights.items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one problem of a step.

    Example:
        Outcome(domain="ferry", key="ferry/train/00007", rewards=(1.0, -0.3), successes=(True, False))
    """

    domain: str
    key: str
    rewards: tuple[float, ...]
    successes: tuple[bool, ...]
    texts: tuple[str, ...] = ()
    """Completions, to count groups of equal answers."""

    @property
    def success(self) -> float:
        """Share of successful completions."""
        return sum(self.successes) / len(self.successes) if self.successes else 0.0

    @property
    def has_spread(self) -> bool:
        """Whether the rewards differ."""
        return len(set(self.rewards)) > 1


def outcome_of(group: Group) -> Outcome:
    """The outcome of a group; completions that could not be judged are left out."""
    usable = [(score, text) for score, text in zip(group.scores, group.completions, strict=True) if score.is_usable]
    return Outcome(
        domain=group.problem.domain,
        key=group.problem.id,
        rewards=tuple(score.reward for score, _ in usable),
        successes=tuple(score.correct for score, _ in usable),
        texts=tuple(completion.text for _, completion in usable),
    )


def draw_metrics(draw: Draw, domains: Sequence[str], window: Iterable[Sequence[int]]) -> dict[str, float]:
    """Shares asked for and delivered, and problems by domain."""
    row: dict[str, float] = {"curriculum/fraction": draw.fraction}
    counts = Counter(draw.domains)
    for domain in domains:
        row[f"batch/domain_count/{domain}"] = float(counts[domain])
        row[f"batch/domain_rate/{domain}"] = counts[domain] / len(draw.domains)
    if not draw.weights:
        return row
    delivered, totals = Counter(draw.buckets), [sum(column) for column in zip(*window, strict=True)]
    differs = len(set(draw.weights.values())) > 1
    for place, bucket in enumerate(BUCKETS):
        shares = [weights[place] for weights in draw.weights.values()]
        row[f"curriculum/requested/{bucket}"] = float(sum(shares) / len(shares))
        row[f"curriculum/delivered/{bucket}"] = delivered[bucket] / len(draw.buckets)
        row[f"curriculum/delivered/{bucket}_window"] = totals[place] / sum(totals)
        if differs:
            row |= {
                f"curriculum/requested/{lane}/{bucket}": float(weights[place]) for lane, weights in draw.weights.items()
            }
    return row


def outcome_metrics(outcomes: Sequence[Outcome], buckets: Mapping[str, Bucket]) -> dict[str, float]:
    """Mean reward and success over the completions of each bucket, domain, and both."""
    values: dict[str, list[float]] = {}
    for outcome in outcomes:
        bucket, domain = buckets[outcome.key], outcome.domain
        for name in (f"by_difficulty/{bucket}", f"by_domain/{domain}"):
            values.setdefault(f"reward/{name}", []).extend(outcome.rewards)
            values.setdefault(f"success/{name}", []).extend(map(float, outcome.successes))
        values.setdefault(f"success/{domain}/{bucket}", []).extend(map(float, outcome.successes))
    row = {name: math.fsum(all_values) / len(all_values) for name, all_values in sorted(values.items()) if all_values}
    texts = [outcome.texts for outcome in outcomes if len(outcome.texts) > 1]
    if texts:
        row["group/identical_rate"] = sum(len(set(group)) == 1 for group in texts) / len(texts)
    return row
