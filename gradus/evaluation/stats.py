"""What may be concluded from N problems with K completions each: estimates and intervals. NumPy and `math` alone.

Everything is computed per problem first and then averaged, so that the K completions of one problem never count as K
independent observations. No Wald interval anywhere: its coverage at 95 % nominal falls to 64 % for 20 problems at 95 %.
No bootstrap either: its percentile interval covers pass@4 of an almost solved set (30 problems, mean 0.999) in 3 % of
all draws, the Wilson interval on effective observations in 97 %; it is no better elsewhere, and needs a seed.
Sums are exact (`math.fsum`): the order of the problems cannot change a digit.

Shape suffix: ``P`` problems. ``clusters_P`` labels problems that share a template or a passage.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradus.evaluation.distributions import normal_quantile, t_quantile

Floats = NDArray[np.float64]
Clusters = Sequence[Hashable] | None

Z95 = normal_quantile(0.975)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its 95 % interval; where something cannot be said, it is None and ``reason`` says why.

    Example:
        Estimate(value=0.78, low=0.6893, high=0.85, se=0.0416, num_problems=100)
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    se: float | None = None
    """Standard error over problems; the sampling noise of the completions is contained in it."""
    se_clustered: float | None = None
    """The same with whole clusters as units; None without clusters. The interval uses it where it exists."""
    num_problems: int = 0
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Returns a strict-JSON object; fields that say nothing are left out."""
        return {
            k: v
            for k, v in asdict(self).items()
            if not (k == "reason" and not v) and not (k == "se_clustered" and v is None)
        }


NO_PROBLEMS = Estimate(value=None, reason="no problems")


# ---- per problem -----------------------------------------------------------------------------------------------------


def pass_at_k(correct_P: ArrayLike, num_samples: int, k: int) -> Floats:
    """Unbiased estimate per problem that at least one of ``k`` completions is right (arXiv 2107.03374).

    Args:
        correct_P: right completions among ``num_samples``.
        k: at most ``num_samples``: pass@k is never extrapolated (ValueError).
    """
    return 1.0 - _all_of_k(num_samples - np.asarray(correct_P, float), num_samples, k)


def all_correct_at_k(correct_P: ArrayLike, num_samples: int, k: int) -> Floats:
    """Unbiased estimate per problem that all of ``k`` completions are right: C(c, k) / C(K, k)."""
    return _all_of_k(np.asarray(correct_P, float), num_samples, k)


def mixed_share(correct_P: ArrayLike, num_samples: int, group_size: int) -> Floats:
    """Unbiased estimate per problem that a group of ``group_size`` holds a right and a wrong completion."""
    return pass_at_k(correct_P, num_samples, group_size) - all_correct_at_k(correct_P, num_samples, group_size)


def success_variance(correct_P: ArrayLike, num_samples: int) -> Floats:
    """Unbiased estimate of p (1 - p) per problem; ``num_samples`` >= 2."""
    correct = np.asarray(correct_P, float)
    return correct * (num_samples - correct) / (num_samples * (num_samples - 1))


def binary_entropy_bits(share: ArrayLike) -> Floats:
    """Entropy of a yes/no outcome in bits, 0 at 0 and at 1. Estimated from few completions it is biased low."""
    s = np.asarray(share, float)
    inside = (s > 0) & (s < 1)
    safe = np.where(inside, s, 0.5)
    return np.where(inside, -safe * np.log2(safe) - (1 - safe) * np.log2(1 - safe), 0.0)


def _all_of_k(count_P: Floats, num_samples: int, k: int) -> Floats:
    """C(count, k) / C(num_samples, k) as a product, which cannot overflow."""
    if not 1 <= k <= num_samples:
        raise ValueError(
            f"k={k} needs at least as many completions per problem, there are {num_samples}; sample more or lower k"
        )
    result = np.ones_like(count_P)
    for j in range(k):
        result *= np.maximum(count_P - j, 0.0) / (num_samples - j)
    return result


# ---- means and their intervals ---------------------------------------------------------------------------------------


def standard_error(values_P: Floats, clusters_P: Clusters = None) -> float | None:
    """Standard error of the mean over problems; with clusters their sums are the independent parts (arXiv 2411.00640).

    None where fewer than two problems (or clusters) leave nothing to estimate it from.
    """
    deviations = np.zeros(len(values_P)) if np.ptp(values_P) == 0 else values_P - _mean(values_P)
    units = deviations if clusters_P is None else cluster_sums(deviations, clusters_P)
    if len(units) < 2:
        return None
    return math.sqrt(len(units) / (len(units) - 1) * math.fsum(units**2)) / len(values_P)


def mean_interval(values_P: ArrayLike, clusters_P: Clusters = None) -> Estimate:
    """Mean of a quantity that is no share, with its t interval."""
    values = np.asarray(values_P, float)
    if not len(values):
        return NO_PROBLEMS
    value, se, clustered = _mean(values), standard_error(values), None
    num_units = len(values)
    if clusters_P is not None:
        clustered, num_units = standard_error(values, clusters_P), len(set(clusters_P))
    used = se if clusters_P is None else clustered
    if used is None:
        reason = f"an interval needs two {'problems' if clusters_P is None else 'clusters'}"
        return Estimate(value=value, se=se, num_problems=len(values), reason=reason)
    half = t_quantile(0.975, num_units - 1) * used
    return Estimate(
        value=value, low=value - half, high=value + half, se=se, se_clustered=clustered, num_problems=len(values)
    )


def share_interval(rates_P: ArrayLike, num_samples: int, clusters_P: Clusters = None) -> Estimate:
    """Mean of per-problem shares in [0, 1] with a Wilson interval on the effective number of observations.

    The number is N for one completion per problem and p (1 - p) / SE^2 for more, at most N K: completions of one
    problem repeat each other as much as the measured SE says. Where all agree it is the number of problems (clusters).
    Low coverage remains below 50 problems (84 % for N = 30, K = 16, mean 0.024).
    """
    rates = np.asarray(rates_P, float)
    if not len(rates):
        return NO_PROBLEMS
    value, se = _mean(rates), standard_error(rates)
    clustered = None if clusters_P is None else standard_error(rates, clusters_P)
    used = se if clusters_P is None else clustered
    num_units = len(rates) if clusters_P is None else len(set(clusters_P))
    observations = float(num_units)
    if used and not (num_samples == 1 and clusters_P is None):
        observations = min(len(rates) * num_samples, value * (1 - value) / used**2)
    low, high = wilson(value, observations)
    return Estimate(value=value, low=low, high=high, se=se, se_clustered=clustered, num_problems=len(rates))


def wilson(share: float, observations: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share seen in a (possibly fractional) number of independent observations."""
    square = Z95**2
    scale = 1 + square / observations
    centre = (share + square / (2 * observations)) / scale
    half = Z95 / scale * math.sqrt(share * (1 - share) / observations + square / (4 * observations**2))
    return (0.0 if share == 0 else max(0.0, centre - half), 1.0 if share == 1 else min(1.0, centre + half))


def ratio_interval(numerators_P: ArrayLike, denominators_P: ArrayLike, clusters_P: Clusters = None) -> Estimate:
    """Ratio of two sums over problems (nats over tokens), with the interval of its linearization."""
    residuals, ratio = ratio_residuals(numerators_P, denominators_P)
    if ratio is None:
        return Estimate(value=None, num_problems=len(residuals), reason="nothing to divide by")
    spread = mean_interval(residuals, clusters_P)
    shift = None if spread.high is None else spread.high - (spread.value or 0.0)
    return Estimate(
        value=ratio,
        low=None if shift is None else ratio - shift,
        high=None if shift is None else ratio + shift,
        se=spread.se,
        se_clustered=spread.se_clustered,
        num_problems=spread.num_problems,
        reason=spread.reason,
    )


def ratio_residuals(numerators_P: ArrayLike, denominators_P: ArrayLike) -> tuple[Floats, float | None]:
    """Returns each problem's influence on the ratio of the sums (mean 0), and the ratio; None if the sum below is 0."""
    numerators, denominators = np.asarray(numerators_P, float), np.asarray(denominators_P, float)
    total = math.fsum(denominators)
    if total == 0:
        return np.zeros(len(numerators)), None
    ratio = math.fsum(numerators) / total
    return (numerators - ratio * denominators) * (len(denominators) / total), ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class VarianceSplit:
    """Where the variance of the solve rates comes from: problems that differ, or too few completions of each."""

    between: float
    """Variance of the true solve rates; it stays however many completions are drawn."""
    sampling: float
    """Added by drawing only K completions."""
    se_floor: float
    """Standard error that infinitely many completions of the same problems would leave."""

    @property
    def advice(self) -> str:
        """Whether more completions or more problems would narrow the interval."""
        return "more samples per problem" if self.sampling > self.between else "more problems"


def variance_split(correct_P: ArrayLike, num_samples: int) -> VarianceSplit | None:
    """Splits the variance of the solve rates; None for one completion per problem or for fewer than two problems."""
    correct = np.asarray(correct_P, float)
    if num_samples < 2 or len(correct) < 2:
        return None
    rates = correct / num_samples
    total = math.fsum((rates - _mean(rates)) ** 2) / (len(rates) - 1)
    sampling = _mean(success_variance(correct, num_samples)) / num_samples
    between = max(0.0, total - sampling)
    return VarianceSplit(between=between, sampling=sampling, se_floor=math.sqrt(between / len(rates)))


def _mean(values: Floats) -> float:
    return math.fsum(values) / len(values)


def cluster_sums(values_P: Floats, clusters_P: Sequence[Hashable]) -> Floats:
    """Sum of the values of each cluster, in order of first appearance."""
    parts: dict[Hashable, list[float]] = {}
    for value, cluster in zip(values_P.tolist(), clusters_P, strict=True):
        parts.setdefault(cluster, []).append(value)
    return np.array([math.fsum(part) for part in parts.values()])
