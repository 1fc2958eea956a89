"""Coverage of the 95 % intervals for 100 problems and more: between 93 and 97 %, enumerated where that can be done, else
simulated with a seed. Fewer problems and what the table of the specification says of them: `test_stats.py`.

One completion per problem: a binomial count moves by whole problems, so that the exact coverage saws around 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats

from gradus.evaluation.paired import paired_interval
from gradus.evaluation.stats import Estimate, mean_interval, mixed_share, ratio_interval, share_interval, wilson

NUM_DRAWS = 1500
LOW, HIGH = 0.93, 0.97
RATES = [(1.0, 1.0), (0.3, 0.3), (0.5, 2.0), (0.3, 6.0), (5.0, 1.0)]
"""Beta distributions of the success rates over problems: even, decided, hard, nearly hopeless, easy."""


def coverage(truth: float, draw: Callable[[np.random.Generator], Estimate]) -> float:
    """Share of simulated evaluations whose interval holds the truth."""
    rng, hits = np.random.default_rng(7), 0
    for _ in range(NUM_DRAWS):
        interval = draw(rng)
        assert interval.low is not None and interval.high is not None
        hits += interval.low <= truth <= interval.high
    return hits / NUM_DRAWS


@pytest.mark.parametrize("num_problems", [100, 200, 500, 1319])
def test_one_completion_per_problem_exactly(num_problems: int):
    counts = np.arange(num_problems + 1)
    ends = np.array([wilson(count / num_problems, num_problems) for count in counts])
    found = [
        float(scipy.stats.binom.pmf(counts, num_problems, p)[(ends[:, 0] <= p) & (p <= ends[:, 1])].sum())
        for p in np.linspace(0.1, 0.9, 33)
    ]
    assert min(found) > LOW and max(found) < HIGH and np.mean(found) == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize(("a", "b"), RATES)
@pytest.mark.parametrize(("num_problems", "num_samples"), [(100, 4), (100, 16), (300, 4)])
def test_several_completions_per_problem(num_problems: int, num_samples: int, a: float, b: float):
    def draw(rng: np.random.Generator) -> Estimate:
        return share_interval(rng.binomial(num_samples, rng.beta(a, b, num_problems)) / num_samples, num_samples)

    assert LOW <= coverage(a / (a + b), draw) <= HIGH


@pytest.mark.parametrize(("a", "b"), RATES)
def test_the_probes_share_of_mixed_groups(a: float, b: float):
    """The truth: 1 - B(a + n, b) / B(a, b) - B(a, b + n) / B(a, b)."""

    def all_alike(x: float, y: float) -> float:
        return math.exp(math.lgamma(x + 8) + math.lgamma(x + y) - math.lgamma(x) - math.lgamma(x + y + 8))

    def draw(rng: np.random.Generator) -> Estimate:
        return share_interval(mixed_share(rng.binomial(16, rng.beta(a, b, 200)), 16, 8), 16)

    assert LOW <= coverage(1 - all_alike(a, b) - all_alike(b, a), draw) <= HIGH


@pytest.mark.parametrize("num_samples", [1, 4])
def test_paired_differences(num_samples: int):
    """Base rates from a Beta distribution, trained ones a fifth of the way nearer to 1."""

    def draw(rng: np.random.Generator) -> Estimate:
        base = rng.beta(0.8, 1.5, 100)
        before, after = (rng.binomial(num_samples, p) / num_samples for p in (base, base + 0.2 * (1 - base)))
        return paired_interval(after - before, bounds=(-1.0, 1.0))

    assert LOW <= coverage(0.2 * (1 - 0.8 / 2.3), draw) <= HIGH


def test_rewards_clusters_and_ratios():
    """Rewards from -1 to 1; 100 problems in 25 clusters that share half of their variance; nats over tokens."""

    def rewards(rng: np.random.Generator) -> Estimate:
        return mean_interval(rng.choice([-1.0, -0.9, 0.2, 1.0], size=(100, 4), p=[0.3, 0.2, 0.2, 0.3]).mean(axis=1))

    def clustered(rng: np.random.Generator) -> Estimate:
        values = rng.normal(0, 1, 25).repeat(4) + rng.normal(0, 1, 100)
        return mean_interval(values, [index // 4 for index in range(100)])

    def ratio(rng: np.random.Generator) -> Estimate:
        tokens = rng.integers(10, 200, 100)
        return ratio_interval(rng.gamma(2.0, 0.1, 100) * tokens, tokens)

    assert LOW <= coverage(-0.3 - 0.18 + 0.04 + 0.3, rewards) <= HIGH
    assert LOW <= coverage(0.0, clustered) <= HIGH
    assert LOW <= coverage(0.2, ratio) <= HIGH
