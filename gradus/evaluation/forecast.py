"""What the first steps of training will see, from a probe and the steps that were rehearsed.

The probe knows the policy before its first step. Each rehearsed batch differs from what the probe says of the same
problems by what was learned until then, and by chance. The difference is taken to grow in proportion to the steps; its
slope is estimated by least squares, drawn towards 0 as far as few steps say little (a normal prior, ridge regression).
Rehearsed batches enter as they were, since the run will repeat them; later ones as the probe's share plus that growth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradus.evaluation.stats import Z95, mixed_share

FIRST_STEPS = 20
"""Optimizer steps that are forecast."""
MIXED_SD, RIGHT_SD = 0.005, 0.0075
"""How much a share may well change in a step (prior standard deviations): 10 and 15 points in 20 steps. Groups are few and
mixed or not, so that their share says little of its own slope."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The problems that training samples before optimizer step ``step`` + 1, and what a rehearsal saw of them.

    Example:
        Batch(step=0, problem_ids=("countdown/train/1", "countdown/train/7"))
    """

    step: int
    problem_ids: Sequence[str]
    mixed: float | None = None
    """Share of mixed groups; None where it was not rehearsed."""
    right: float | None = None
    """Share of right completions."""


def forecast(
    batches: Sequence[Batch], num_correct: Mapping[str, int], *, num_samples: int, group_size: int
) -> dict[str, Any]:
    """Share of mixed groups and of right completions over ``batches``, with 95 % intervals.

    Args:
        batches: those that the first steps learn from, in order, the rehearsed ones first.
        num_correct: right completions of ``num_samples`` by problem id; a problem that was not probed counts as the mean.
        group_size: completions of a group of training.
    """
    mixed = {name: float(mixed_share([count], num_samples, group_size)[0]) for name, count in num_correct.items()}
    right = {name: count / num_samples for name, count in num_correct.items()}
    return {
        "mixed": _course(batches, mixed, [batch.mixed for batch in batches], noise=1.0, prior_sd=MIXED_SD),
        "right": _course(
            batches,
            right,
            [batch.right for batch in batches],
            noise=1 / group_size + 1 / num_samples,
            prior_sd=RIGHT_SD,
        ),
    }


def _course(
    batches: Sequence[Batch],
    probed: Mapping[str, float],
    seen: Sequence[float | None],
    *,
    noise: float,
    prior_sd: float,
) -> dict[str, float]:
    """One share: its mean over the batches with an interval, what it is before the first step, and its change in a step
    (with the upper end of a 95 % interval). ``noise``: variance that one problem adds to the difference between what is
    seen and what was probed, in units of share times (1 - share)."""
    overall = math.fsum(probed.values()) / len(probed)
    before = [_mean([probed.get(name, overall) for name in batch.problem_ids]) for batch in batches]
    noises = [
        max(share * (1 - share), 0.01) * noise / len(batch.problem_ids)
        for share, batch in zip(before, batches, strict=True)
    ]
    precision, pull = 1 / prior_sd**2, 0.0
    for batch, share, variance, found in zip(batches, before, noises, seen, strict=True):
        if found is not None:
            precision += batch.step**2 / variance
            pull += batch.step * (found - share) / variance
    slope = pull / precision
    values = [
        min(1.0, max(0.0, share + slope * batch.step)) if found is None else found
        for batch, share, found in zip(batches, before, seen, strict=True)
    ]
    ahead = [number for number, found in enumerate(seen) if found is None]
    variance = (math.fsum(batches[number].step for number in ahead) / len(batches)) ** 2 / precision
    variance += math.fsum(noises[number] for number in ahead) / len(batches) ** 2
    value = _mean(values)
    return {
        "value": value,
        "low": max(0.0, value - Z95 * math.sqrt(variance)),
        "high": min(1.0, value + Z95 * math.sqrt(variance)),
        "before": _mean(before),
        "change_per_step": slope,
        "change_high": slope + Z95 / math.sqrt(precision),
    }


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
