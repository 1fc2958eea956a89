"""Signal theory: the table of mixed shares, group sizes, unbiased shares by enumeration, the extrapolation's limits."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from gradus.evaluation.signal import (
    beta_fit,
    extrapolated_mixed,
    group_size_for,
    mixed_after_gain,
    mixed_probability,
    spread_share,
)
from gradus.evaluation.stats import mixed_share

TABLE = {
    0.01: (0.020, 0.039, 0.077, 0.149, 0.275, 0.474),
    0.05: (0.095, 0.185, 0.337, 0.560, 0.806, 0.962),
    0.065: (0.122, 0.236, 0.416, 0.659, 0.884, 0.986),
    0.10: (0.180, 0.344, 0.570, 0.815, 0.966, 0.999),
    0.20: (0.320, 0.589, 0.832, 0.972, 0.999, 1.000),
    0.50: (0.500, 0.875, 0.992, 1.000, 1.000, 1.000),
    0.82: (0.295, 0.547, 0.796, 0.958, 0.998, 1.000),
}


@pytest.mark.parametrize("p", TABLE)
def test_the_share_of_mixed_groups_is_that_of_the_table_and_symmetric(p: float):
    sizes = (2, 4, 8, 16, 32, 64)
    assert [round(float(mixed_probability(p, n)), 3) for n in sizes] == list(TABLE[p])
    assert np.allclose([mixed_probability(p, n) for n in sizes], [mixed_probability(1 - p, n) for n in sizes])


@pytest.mark.parametrize(
    ("p", "half", "most"), [(0.01, 69, 230), (0.05, 14, 45), (0.1, 7, 22), (0.2, 4, 11), (0.5, 2, 5)]
)
def test_the_group_size_that_is_needed(p: float, half: int, most: int):
    assert (group_size_for(p, 0.5), group_size_for(p, 0.9)) == (half, most)


def test_no_group_size_helps_where_nothing_is_ever_right():
    assert group_size_for(0.0, 0.5) is None


@pytest.mark.parametrize("size", [2, 3, 5])
def test_the_share_of_groups_with_two_rewards_counts_the_subsets_that_have_them(size: int):
    values = [0.0, 0.1, 0.1, 1.0, 1.0]
    subsets = list(combinations(values, size))
    expected = sum(len(set(subset)) > 1 for subset in subsets) / len(subsets)
    assert spread_share([values], size)[0] == pytest.approx(expected, abs=1e-12)


def test_the_fit_finds_the_distribution_that_made_the_counts():
    generator = np.random.default_rng(0)
    counts = generator.binomial(16, generator.beta(0.8, 1.6, size=20_000))
    a, b = beta_fit(counts.tolist(), 16)
    assert a == pytest.approx(0.8, rel=0.05) and b == pytest.approx(1.6, rel=0.05)
    truth = 1 - math.exp(math.lgamma(0.8 + 32) + math.lgamma(2.4) - math.lgamma(0.8) - math.lgamma(2.4 + 32))
    truth -= math.exp(math.lgamma(1.6 + 32) + math.lgamma(2.4) - math.lgamma(1.6) - math.lgamma(2.4 + 32))
    assert extrapolated_mixed(a, b, 32) == pytest.approx(truth, abs=0.01)


def test_the_extrapolation_fails_on_problems_that_are_decided_which_is_why_it_is_marked():
    """Half of the problems are never solved and half at 10 %: in groups of 64 half are mixed, the fit says more."""
    generator = np.random.default_rng(0)
    counts = np.concatenate((np.zeros(500, int), generator.binomial(16, 0.1, size=500)))
    assert extrapolated_mixed(*beta_fit(counts.tolist(), 16), 64) > 0.55


@pytest.mark.parametrize("counts", [[0] * 50, [16] * 50, [8] * 50, [3]])
def test_the_fit_is_finite_at_the_edges(counts: list[int]):
    share = extrapolated_mixed(*beta_fit(counts, 16), 32)
    assert 0 <= share <= 1 and (share < 0.05) == (counts[0] in (0, 16))


def test_where_the_mixed_share_goes_when_more_is_right():
    """Rates of one distribution before, of one with a higher mean after: what the fit of the first says of the second."""
    generator = np.random.default_rng(1)
    before = generator.binomial(16, generator.beta(0.6, 1.4, size=5000)).tolist()
    a, b = beta_fit(before, 16)
    truth = extrapolated_mixed((a / (a + b) + 0.2) * (a + b), (b / (a + b) - 0.2) * (a + b), 8)
    after = mixed_after_gain(before, 16, 8, 0.2)
    assert after is not None and after == pytest.approx(truth, abs=0.01)
    now = mixed_share(before, 16, 8).mean()
    assert mixed_after_gain(before, 16, 8, 0.0) == pytest.approx(now, abs=1e-12), "what is measured stays measured"
    assert mixed_after_gain([14] * 50, 16, 8, 0.2) is None, "more than all of them cannot be right"
    decided = [0] * 50 + [16] * 50
    gained = mixed_after_gain(decided, 16, 8, 0.1)
    assert gained is not None and gained < 0.05, "decided problems stay decided"


def test_nothing_cannot_be_fitted():
    with pytest.raises(ValueError, match="sample at least one problem"):
        beta_fit([], 16)
