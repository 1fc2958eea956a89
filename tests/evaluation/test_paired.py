"""Paired tests and intervals: golden values, exactness, scipy as an oracle."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from gradus.evaluation.paired import detectable_difference, holm, mcnemar, paired_interval, sign_flip

GOLDEN = [0.25, 0.5, 0, 0.25, -0.25, 0.5, 0, 0.75, 0, 0.25]


def test_golden_difference():
    interval = paired_interval(GOLDEN)
    assert (interval.value, interval.se) == pytest.approx((0.225, 0.09465), abs=5e-6)
    assert (interval.low, interval.high) == pytest.approx((0.0109, 0.4391), abs=5e-5)
    assert sign_flip(GOLDEN) == sign_flip(GOLDEN, lattice=4) == 0.078125
    assert detectable_difference(float(np.std(GOLDEN, ddof=1)), 10) == pytest.approx(0.2652, abs=5e-5)


def test_golden_mcnemar():
    assert mcnemar(5, 27) == pytest.approx((1.131e-4, 6.619e-5), rel=5e-4)
    assert mcnemar(2, 9)[0] == pytest.approx(0.06543, abs=5e-6)
    assert sign_flip([1] * 9 + [-1] * 2) == pytest.approx(mcnemar(2, 9)[0], rel=1e-12)


def test_mcnemar_is_the_binomial_test():
    rng = np.random.default_rng(0)
    for broken, fixed in rng.integers(0, 400, size=(300, 2)).tolist():
        if broken + fixed:
            p, mid_p = mcnemar(broken, fixed)
            assert p == pytest.approx(scipy.stats.binomtest(broken, broken + fixed).pvalue, rel=1e-9)
            middle = scipy.stats.binom.pmf(min(broken, fixed), broken + fixed, 0.5)
            assert mid_p == pytest.approx(1 - middle / 2 if broken == fixed else p - middle, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 20))
def test_sign_flip_on_units_is_mcnemar(fixed, broken, unchanged):
    differences = [1.0] * fixed + [-1.0] * broken + [0.0] * unchanged
    assert sign_flip(differences, lattice=1) == pytest.approx(mcnemar(broken, fixed)[0], rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-8, 8), min_size=1, max_size=12))
def test_exact_sum_distribution_is_enumeration(steps):
    differences = np.array(steps) / 8
    assert sign_flip(differences, lattice=8) == pytest.approx(sign_flip(differences), rel=1e-12)


def test_drawn_sign_flip_is_near_the_exact_one():
    differences = np.random.default_rng(4).integers(-3, 5, 60) / 4
    exact = sign_flip(differences, lattice=4)
    assert sign_flip(differences) == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 10_000) + 1e-4)


def test_whole_clusters_flip():
    differences, clusters = [1.0, 1.0, 1.0, 1.0], ["a", "a", "b", "b"]
    assert sign_flip(differences) == 0.125
    assert sign_flip(differences, clusters) == 0.5


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=40), st.randoms())
def test_order_and_sign_do_not_matter(differences, random):
    shuffled = random.sample(differences, len(differences))
    negated = [-d for d in differences]
    assert sign_flip(shuffled) == sign_flip(differences) == sign_flip(negated)
    a, b, c = (paired_interval(d, bounds=(-1, 1)) for d in (differences, shuffled, negated))
    assert a == b
    assert (c.value, c.low, c.high) == (-a.value, -a.high, -a.low)


def test_equal_differences_still_have_an_interval():
    unchanged = paired_interval([0.0] * 100, bounds=(-1, 1))
    assert unchanged.low == -unchanged.high and 0.03 < unchanged.high < 0.04
    all_fixed = paired_interval([1.0] * 50, bounds=(-1, 1))
    assert all_fixed.high == 1 and 0.8 < all_fixed.low < 0.95
    assert paired_interval([2.0] * 5).reason == "every difference is the same"
    assert sign_flip([0.0] * 5) == 1


def test_holm_is_scipys():
    rng = np.random.default_rng(5)
    for _ in range(100):
        p = rng.random(int(rng.integers(1, 12))) ** 3
        order = np.argsort(p)
        raw = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]).clip(max=1)
        expected = np.empty(len(p))
        expected[order] = raw
        assert holm(p.tolist()) == pytest.approx(expected.tolist(), rel=1e-12)
    assert holm([]) == []


def test_detectable_difference_table():
    for count, expected in {50: 19.8, 100: 14.0, 200: 9.9, 500: 6.3, 1319: 3.9}.items():
        assert 100 * detectable_difference(0.5, count) == pytest.approx(expected, abs=0.05)
    assert 100 * detectable_difference(0.35, 100) == pytest.approx(9.8, abs=0.05)


def test_an_interval_holds_only_what_is_possible():
    differences = [1.0] * 5 + [0.0]
    assert paired_interval(differences).high > 1
    inside = paired_interval(differences, bounds=(-1.0, 1.0))
    assert (inside.high, inside.low) == (1.0, paired_interval(differences).low)
