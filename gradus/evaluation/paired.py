"""Paired comparison: is a mean difference over the same problems more than chance, and how small a one could be seen?

Shape suffix: ``P`` problems; differences are trained minus base.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradus.evaluation.distributions import beta_quantile, binomial_cdf, normal_quantile
from gradus.evaluation.stats import Z95, Clusters, Estimate, cluster_sums, mean_interval

DETECT = Z95 + normal_quantile(0.8)
"""2.802: a true difference of so many standard errors is found with 80 % power at the 5 % level."""

_MAX_EXACT_WORK = 500_000_000
_MAX_ENUMERATED = 20


def paired_interval(
    differences_P: ArrayLike, clusters_P: Clusters = None, *, bounds: tuple[float, float] | None = None
) -> Estimate:
    """Mean of per-problem differences, trained minus base, with its t interval.

    With ``bounds`` (lowest and highest possible difference) the interval ends there. Where all differences are equal the
    t interval would have no width; with bounds it is then as wide as the exact bound on the share of problems that may
    still behave otherwise, each by as much as is possible, and without bounds there is none.
    """
    differences = np.asarray(differences_P, float)
    estimate = mean_interval(differences, clusters_P)
    if len(differences) < 2 or np.ptp(differences) > 0 or estimate.low is None:
        return estimate if bounds is None else _inside(estimate, bounds)
    value, num_units = float(differences[0]), len(differences if clusters_P is None else set(clusters_P))
    if bounds is None:
        return Estimate(value=value, se=0.0, num_problems=len(differences), reason="every difference is the same")
    others = 1.0 - beta_quantile(0.025, num_units, 1)
    low, high = (value + others * (bound - value) for bound in bounds)
    return Estimate(value=value, low=low, high=high, se=0.0, num_problems=len(differences))


def _inside(estimate: Estimate, bounds: tuple[float, float]) -> Estimate:
    """The part of the interval that is possible."""
    if estimate.low is None or estimate.high is None:
        return estimate
    return replace(estimate, low=max(estimate.low, bounds[0]), high=min(estimate.high, bounds[1]))


def sign_flip(
    differences_P: ArrayLike,
    clusters_P: Clusters = None,
    *,
    lattice: int | None = None,
    num_flips: int = 10_000,
    seed: int = 0,
) -> float:
    """Two-sided p-value of "no difference": how often random signs make the sum as large as it is.

    Exact, by the distribution of the sum, when the differences are multiples of 1 / ``lattice`` (solve rates: K) and
    the sum is not too long; exact by enumeration for at most 20 non-zero differences; else ``num_flips`` seeded draws
    with p = (1 + hits) / (1 + draws).
    On differences of one size it is McNemar's exact test. With clusters whole clusters flip.
    """
    units = np.asarray(differences_P, float)
    units = units if clusters_P is None else cluster_sums(units, clusters_P)
    observed, sizes = abs(math.fsum(units)), np.sort(np.abs(units[units != 0]))
    if not len(sizes):
        return 1.0
    if lattice is not None:
        steps = np.rint(sizes * lattice).astype(np.int64)
        common = int(np.gcd.reduce(steps))
        is_exact = bool(np.allclose(steps, sizes * lattice, rtol=0, atol=1e-6)) and common > 0
        if is_exact and len(steps) * int(steps.sum()) // common <= _MAX_EXACT_WORK:
            return _exact_sign_flip(steps // common, round(observed * lattice) // common)
    threshold = observed - 1e-9 * math.fsum(sizes)
    if len(sizes) <= _MAX_ENUMERATED:
        sums = np.zeros(1)
        for size in sizes:
            sums = np.concatenate([sums + size, sums - size])
        return float(np.mean(np.abs(sums) >= threshold))
    rng = np.random.default_rng(seed)
    hits, chunk = 0, max(1, 4_000_000 // len(sizes))
    for start in range(0, num_flips, chunk):
        heads = rng.integers(0, 2, size=(min(chunk, num_flips - start), len(sizes)), dtype=np.int8)
        hits += int(np.sum(np.abs(2.0 * (heads @ sizes) - sizes.sum()) >= threshold))
    return (1 + hits) / (1 + num_flips)


def _exact_sign_flip(steps: NDArray[np.int64], observed: int) -> float:
    """P(|sum of +-steps| >= observed) with fair signs: the distribution of the sum of the steps that got a plus."""
    total = int(steps.sum())
    distribution, reach = np.zeros(total + 1), 0
    distribution[0] = 1.0
    for step in steps:
        half = 0.5 * distribution[: reach + 1]
        distribution[: reach + 1] = half
        distribution[step : reach + 1 + step] += half
        reach += int(step)
    far = np.abs(2 * np.arange(total + 1) - total) >= observed
    return min(1.0, float(distribution[far].sum()))


def mcnemar(num_broken: int, num_fixed: int) -> tuple[float, float]:
    """Returns McNemar's exact two-sided p-value and its mid-p for one completion per problem.

    Args:
        num_broken: problems right before and wrong now.
        num_fixed: problems wrong before and right now.
    """
    total, low = num_broken + num_fixed, min(num_broken, num_fixed)
    p = min(1.0, 2.0 * binomial_cdf(low, total, 0.5))
    at_low = math.exp(
        math.lgamma(total + 1) - math.lgamma(low + 1) - math.lgamma(total - low + 1) - total * math.log(2)
    )
    return p, (1.0 - 0.5 * at_low if num_broken == num_fixed else p - at_low)


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values adjusted for having looked at all of them (Holm 1979), in the given order."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def detectable_difference(sd: float, num_problems: int) -> float:
    """Smallest true difference that ``num_problems`` find with 80 % power, for differences of spread ``sd``."""
    return DETECT * sd / math.sqrt(num_problems)
