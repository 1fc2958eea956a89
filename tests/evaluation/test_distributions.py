"""Distributions against scipy as an oracle."""

import math

import numpy as np
import pytest
import scipy.stats

from gradus.evaluation.distributions import (
    beta_cdf,
    beta_quantile,
    binomial_cdf,
    normal_quantile,
    t_quantile,
    t_two_sided,
)

RNG = np.random.default_rng(7)
CLOSE = {"rel": 1e-9, "abs": 1e-200}


def test_normal_quantile():
    for p in RNG.uniform(1e-9, 1 - 1e-9, 1000):
        assert normal_quantile(p) == pytest.approx(scipy.stats.norm.ppf(p), **CLOSE)


def test_t_quantile():
    for _ in range(1000):
        dof, p = math.exp(RNG.uniform(0, math.log(5e4))), RNG.uniform(1e-6, 1 - 1e-6)
        assert t_quantile(p, dof) == pytest.approx(scipy.stats.t.ppf(p, dof), **CLOSE)
    assert t_quantile(0.5, 3) == 0


def test_t_two_sided():
    for _ in range(1000):
        t, dof = RNG.uniform(-8, 8), RNG.uniform(1, 1000)
        assert t_two_sided(t, dof) == pytest.approx(2 * scipy.stats.t.sf(abs(t), dof), **CLOSE)


def test_beta():
    for _ in range(1000):
        a, b = np.exp(RNG.uniform(math.log(0.1), math.log(2000), 2))
        p = RNG.uniform(1e-6, 1 - 1e-6)
        x = scipy.stats.beta.ppf(p, a, b)
        assert beta_quantile(p, a, b) == pytest.approx(x, **CLOSE)
        assert beta_cdf(float(x), a, b) == pytest.approx(scipy.stats.beta.cdf(x, a, b), **CLOSE)
    assert (beta_cdf(0, 2, 3), beta_cdf(1, 2, 3), beta_quantile(0, 2, 3), beta_quantile(1, 2, 3)) == (0, 1, 0, 1)


def test_binomial_cdf():
    for _ in range(1000):
        n = int(math.exp(RNG.uniform(0, math.log(1e4))))
        k = int(RNG.integers(0, n + 1))
        assert binomial_cdf(k, n, 0.5) == pytest.approx(scipy.stats.binom.cdf(k, n, 0.5), **CLOSE)
    assert binomial_cdf(-1, 4, 0.5) == 0


def test_quantile_of_no_probability():
    with pytest.raises(ValueError, match=r"p=1\.5"):
        beta_quantile(1.5, 1, 1)
