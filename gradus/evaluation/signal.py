"""How much a group teaches: the share of groups with a right and a wrong completion, at any group size.

With success rate p and n completions a group is mixed with probability 1 - p^n - (1 - p)^n; only mixed groups have an
advantage under a binary reward. From k >= n completions the share is estimated without bias (`stats.mixed_share`).
Beyond k it can only be extrapolated, by a Beta distribution of the success rates; on problems that are decided this is
wrong by a lot (truth 0.499, estimate 0.685), so whoever shows it must say so.

Shape suffix: ``P`` problems.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from gradus.evaluation.stats import Floats, mixed_share

MAX_GROUP_SIZE = 1024
_ROUNDS = 60
_GOLDEN = (math.sqrt(5) - 1) / 2


def mixed_probability(success: ArrayLike, group_size: int) -> Floats:
    """P(mixed) = 1 - p^n - (1 - p)^n for each success rate.

    Example:
        mixed_probability(0.1, 16)  # array(0.8147)
    """
    p = np.asarray(success, float)
    return 1.0 - p**group_size - (1.0 - p) ** group_size


def group_size_for(success: float, probability: float) -> int | None:
    """Smallest group size whose P(mixed) reaches ``probability``; None where none up to 1024 does."""
    sizes = range(2, MAX_GROUP_SIZE + 1)
    return next((n for n in sizes if mixed_probability(success, n) >= probability), None)


def spread_share(values_PK: Sequence[Sequence[float]], group_size: int) -> Floats:
    """Unbiased estimate per problem that a group of ``group_size`` holds two different rewards: one minus the chance
    that a draw without replacement takes equal ones. For binary rewards this is the mixed share."""
    return np.array([1.0 - _all_equal(Counter(values), len(values), group_size) for values in values_PK])


def _all_equal(counts: Counter[float], num_samples: int, group_size: int) -> float:
    return sum(math.comb(count, group_size) for count in counts.values()) / math.comb(num_samples, group_size)


def beta_fit(correct_P: Sequence[int], num_samples: int) -> tuple[float, float]:
    """Parameters (a, b) of the Beta distribution whose binomial draws make these counts most likely.

    Maximum likelihood over mean and concentration by golden-section search, one inside the other; concentrations are
    searched between 0.01 (every problem decided) and 10,000 (all problems alike).
    """
    counts = Counter(int(c) for c in correct_P)
    if not counts or num_samples < 1:
        raise ValueError("there are no completions to fit a distribution to; sample at least one problem")

    def loss(mean: float, log_size: float) -> float:
        a, b = mean * math.exp(log_size), (1 - mean) * math.exp(log_size)
        return -sum(number * _log_likelihood(c, num_samples, a, b) for c, number in counts.items())

    def best_mean(log_size: float) -> float:
        return _minimum(lambda mean: loss(mean, log_size), 1e-4, 1 - 1e-4)

    log_size = _minimum(lambda size: loss(best_mean(size), size), math.log(0.01), math.log(1e4))
    mean = best_mean(log_size)
    return mean * math.exp(log_size), (1 - mean) * math.exp(log_size)


def extrapolated_mixed(a: float, b: float, group_size: int) -> float:
    """Share of mixed groups where success rates follow Beta(a, b): 1 - B(a+n, b)/B(a, b) - B(a, b+n)/B(a, b)."""
    all_right = math.exp(_log_beta(a + group_size, b) - _log_beta(a, b))
    all_wrong = math.exp(_log_beta(a, b + group_size) - _log_beta(a, b))
    return min(1.0, max(0.0, 1.0 - all_right - all_wrong))


def mixed_after_gain(correct_P: Sequence[int], num_samples: int, group_size: int, gain: float) -> float | None:
    """Mixed share once ``gain`` more of the completions are right: the unbiased share of now, plus the change that a
    Beta distribution of the success rates makes when its mean moves and its concentration stays. None where the mean
    would reach 1. A model, whoever shows it must say so.

    Example:
        mixed_after_gain([4] * 100, 16, 8, 0.1)  # 0.98 where it was 0.96
    """
    a, b = beta_fit(correct_P, num_samples)
    size, mean = a + b, a / (a + b) + gain
    if not 0 < mean < 1:
        return None
    change = extrapolated_mixed(mean * size, (1 - mean) * size, group_size) - extrapolated_mixed(a, b, group_size)
    now = math.fsum(mixed_share(np.asarray(correct_P), num_samples, group_size)) / len(correct_P)
    return min(1.0, max(0.0, now + change))


def _log_likelihood(count: int, num_samples: int, a: float, b: float) -> float:
    """Of ``count`` right completions, without the binomial coefficient, which no parameter changes."""
    return _log_beta(a + count, b + num_samples - count) - _log_beta(a, b)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _minimum(loss: Callable[[float], float], low: float, high: float) -> float:
    """Where a function with one valley is lowest, by golden-section search."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = loss(left), loss(right)
    for _ in range(_ROUNDS):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = loss(right)
    return (low + high) / 2
