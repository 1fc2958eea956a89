"""Golden values, unbiasedness by enumeration, and simulated coverage of the intervals."""

import math

import numpy as np
import pytest
import scipy.stats

from gradus.evaluation.stats import (
    all_correct_at_k,
    binary_entropy_bits,
    mean_interval,
    mixed_share,
    pass_at_k,
    ratio_interval,
    share_interval,
    standard_error,
    success_variance,
    variance_split,
    wilson,
)


def test_golden_pass_at_k():
    assert pass_at_k([0, 1, 2, 8, 9], 16, 8) == pytest.approx([0, 0.5, 0.766667, 0.999922, 1], abs=5e-7)


def test_golden_mixed_share():
    assert mixed_share([1, 2, 8, 15], 16, 8) == pytest.approx([0.5, 0.766667, 0.999845, 0.5], abs=5e-7)


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [(78, 100, 0.6893, 0.8500), (56, 100, 0.4623, 0.6533), (0, 50, 0, 0.0713), (50, 50, 0.9287, 1)],
)
def test_golden_wilson(right, total, low, high):
    rates = [1.0] * right + [0.0] * (total - right)
    interval = share_interval(rates, 1)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


def test_golden_standard_errors():
    values = np.array([1, 1, 0, 0, 1, 0.0])
    assert standard_error(values) == pytest.approx(0.2236, abs=5e-5)
    assert standard_error(values, list("aabbcc")) == pytest.approx(0.2887, abs=5e-5)


def test_golden_effective_observations():
    correct = np.array([0, 4, 2, 4, 1, 3])
    interval = share_interval(correct / 4, 4)
    assert (interval.value, interval.se) == pytest.approx((0.5833, 0.1667), abs=5e-5)
    assert (interval.low, interval.high) == pytest.approx((0.2844, 0.8314), abs=5e-5)
    split = variance_split(correct, 4)
    assert split is not None
    assert split.se_floor == pytest.approx(0.1483, abs=5e-5)
    assert split.advice == "more problems"


@pytest.mark.parametrize("p", [0.1, 0.5, 0.93])
@pytest.mark.parametrize("n", [4, 8, 10, 16])
def test_unbiased_by_enumeration(n, p):
    counts = np.arange(n + 1)
    weights = scipy.stats.binom.pmf(counts, n, p)
    for k in range(1, n + 1):
        assert weights @ pass_at_k(counts, n, k) == pytest.approx(1 - (1 - p) ** k, abs=1e-12)
        assert weights @ all_correct_at_k(counts, n, k) == pytest.approx(p**k, abs=1e-12)
        assert weights @ mixed_share(counts, n, k) == pytest.approx(1 - p**k - (1 - p) ** k, abs=1e-12)
    assert weights @ success_variance(counts, n) == pytest.approx(p * (1 - p), abs=1e-12)


def test_pass_at_k_is_never_extrapolated():
    with pytest.raises(ValueError, match="k=5 needs at least as many"):
        pass_at_k([1], 4, 5)


def test_binary_entropy():
    assert binary_entropy_bits([0, 0.5, 1]).tolist() == [0, 1, 0]
    assert binary_entropy_bits(0.2) == pytest.approx(0.721928, abs=1e-6)


def test_clusters_of_one_change_nothing():
    values = np.random.default_rng(0).random(50)
    assert standard_error(values, range(50)) == pytest.approx(standard_error(values), rel=1e-12)


def test_mean_interval_is_the_t_interval():
    rng = np.random.default_rng(1)
    for _ in range(200):
        values = rng.normal(3, 2, rng.integers(2, 60))
        expected = scipy.stats.t.interval(0.95, len(values) - 1, values.mean(), scipy.stats.sem(values))
        interval = mean_interval(values)
        assert (interval.low, interval.high) == pytest.approx(expected, rel=1e-9)


def test_wilson_is_scipys():
    rng = np.random.default_rng(2)
    for _ in range(300):
        n = int(rng.integers(1, 300))
        k = int(rng.integers(0, n + 1))
        expected = scipy.stats.binomtest(k, n).proportion_ci(method="wilson")
        assert wilson(k / n, n) == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-15)


def test_ratio_weighs_by_the_denominator():
    interval = ratio_interval([1.0, 30.0], [10, 100])
    assert interval.value == pytest.approx(31 / 110)
    assert ratio_interval([0.0], [0.0]).reason == "nothing to divide by"
    same = ratio_interval([2.0, 4.0, 6.0], [1, 2, 3])
    assert (same.value, same.low, same.high) == pytest.approx((2, 2, 2))


def test_stated_results_at_the_edges():
    assert share_interval([], 4).reason == mean_interval([]).reason == "no problems"
    one = share_interval([1.0], 4)
    assert (one.value, one.high, one.se) == (1, 1, None) and 0 < one.low < 1
    assert mean_interval([2.0]).reason == "an interval needs two problems"
    assert mean_interval([2.0, 3.0], ["a", "a"]).reason == "an interval needs two clusters"
    assert variance_split([1], 4) is None and variance_split([1, 0], 1) is None
    for interval in (share_interval([1.0] * 20, 4), share_interval([0.0] * 20, 4)):
        assert all(math.isfinite(x) for x in (interval.low, interval.high)) and interval.high - interval.low > 0.1


def test_equal_rates_count_as_one_observation_each():
    interval = share_interval([1 / 3] * 30, 3)
    assert interval.se == 0 and (interval.low, interval.high) == pytest.approx(wilson(1 / 3, 30))


def test_json_has_no_empty_fields():
    assert share_interval([0.0, 1.0], 1).to_json().keys() == {"value", "low", "high", "se", "num_problems"}
    assert mean_interval([1.0]).to_json()["reason"]


@pytest.mark.parametrize(
    ("num_problems", "num_samples", "a", "b", "expected"),
    [(50, 1, None, 0.065, 0.957), (20, 1, None, 0.95, 0.925), (100, 4, 1.0, 1.0, 0.95), (100, 16, 0.3, 6.0, 0.93)],
)
def test_coverage(num_problems, num_samples, a, b, expected):
    """Share of 2,000 simulated evaluations whose interval holds the truth; ``a`` None: all problems have p = b."""
    rng = np.random.default_rng(3)
    truth, hits = (b if a is None else a / (a + b)), 0
    for _ in range(2000):
        p = np.full(num_problems, b) if a is None else rng.beta(a, b, num_problems)
        interval = share_interval(rng.binomial(num_samples, p) / num_samples, num_samples)
        hits += interval.low <= truth <= interval.high
    assert hits / 2000 == pytest.approx(expected, abs=0.02)
