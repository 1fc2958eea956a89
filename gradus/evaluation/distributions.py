"""Normal, Student t, Beta and binomial distributions: `math` alone, so that scipy is not needed to run anything.

Relative error below 1e-9 over the ranges that statistics of evaluations use (tests compare with scipy).
"""

from __future__ import annotations

import math
from statistics import NormalDist

_TINY = 1e-300


def normal_quantile(p: float) -> float:
    """Returns z with P(Z <= z) = ``p``, 0 < p < 1 (Wichura's AS 241, standard library)."""
    return NormalDist().inv_cdf(p)


def beta_cdf(x: float, a: float, b: float, *, complement: float | None = None) -> float:
    """Returns P(X <= x) for X ~ Beta(a, b): the regularized incomplete beta function I_x(a, b).

    ``complement`` is 1 - x where the caller knows it more exactly than the subtraction would give it.
    """
    y = 1.0 - x if complement is None else complement
    if x <= 0.0:
        return 0.0
    if y <= 0.0:
        return 1.0
    log_front = a * math.log(x) + b * math.log(y) - _log_beta(a, b)
    if x < (a + 1.0) / (a + b + 2.0):
        return math.exp(log_front) * _continued_fraction(x, a, b) / a
    return 1.0 - math.exp(log_front) * _continued_fraction(y, b, a) / b


def beta_quantile(p: float, a: float, b: float) -> float:
    """Returns x with P(X <= x) = ``p`` for X ~ Beta(a, b): Newton steps inside a shrinking bracket."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"p={p} is no probability; it must be in [0, 1]")
    if p in (0.0, 1.0):
        return p
    low, high, x = 0.0, 1.0, a / (a + b)
    for _ in range(2000):
        error = beta_cdf(x, a, b) - p
        low, high = (x, high) if error < 0 else (low, x)
        log_density = (a - 1) * math.log(x) + (b - 1) * math.log1p(-x) - _log_beta(a, b)
        step = error / math.exp(log_density) if -700 < log_density < 700 else math.inf
        proposal = x - step
        if not low < proposal < high:
            proposal = 0.5 * (low + high)
        if abs(proposal - x) <= 1e-15 * x or proposal in (0.0, 1.0):
            return proposal
        x = proposal
    return x


def t_quantile(p: float, dof: float) -> float:
    """Returns t with P(T <= t) = ``p`` for Student's t with ``dof`` > 0 degrees of freedom.

    Newton on the tail probability from the normal quantile, which is never farther out: the steps only go outwards.
    """
    if p == 0.5:
        return 0.0
    tail = min(p, 1.0 - p)
    log_norm = math.lgamma((dof + 1) / 2) - math.lgamma(dof / 2) - 0.5 * math.log(dof * math.pi)
    t = -normal_quantile(tail)
    for _ in range(1000):
        density = math.exp(log_norm - (dof + 1) / 2 * math.log1p(t * t / dof))
        step = (_t_tail(t, dof) - tail) / density
        t += step
        if abs(step) <= 1e-14 * t:
            break
    return t if p > 0.5 else -t


def t_two_sided(t: float, dof: float) -> float:
    """Returns P(|T| >= |t|) for Student's t with ``dof`` degrees of freedom."""
    return 2.0 * _t_tail(abs(t), dof)


def binomial_cdf(count: int, num_trials: int, p: float) -> float:
    """Returns P(X <= count) for X ~ Binomial(num_trials, p)."""
    if count < 0:
        return 0.0
    if count >= num_trials:
        return 1.0
    return beta_cdf(1.0 - p, num_trials - count, count + 1, complement=p)


def _t_tail(t: float, dof: float) -> float:
    """P(T > t) for t >= 0."""
    square = t * t
    return 0.5 * beta_cdf(dof / (dof + square), dof / 2, 0.5, complement=square / (dof + square))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _continued_fraction(x: float, a: float, b: float) -> float:
    """Continued fraction of I_x(a, b) (Abramowitz and Stegun 26.5.8) by Lentz's method."""
    c, d = 1.0, 1.0 / _away_from_zero(1.0 - (a + b) * x / (a + 1.0))
    value = d
    for m in range(1, 100_000):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / _away_from_zero(1.0 + numerator * d)
            c = _away_from_zero(1.0 + numerator / c)
            value *= c * d
        if abs(c * d - 1.0) < 1e-15:
            return value
    raise AssertionError(f"continued fraction did not converge for x={x}, a={a}, b={b}")


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
