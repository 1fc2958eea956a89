"""Conditions of the rules about the update: entropy, gradient, KL, sampler against trainer, skipped and slow steps (H-01
to H-07, H-19, H-20). From the history of a run to levels; which rule has which: `rules.py`.

Absolute limits are few: most compare with the run's own beginning (median of the first 20 values) or recent past.
"""

from __future__ import annotations

import math

from gradus.health.history import SOLVED, History
from gradus.health.rule import Level, Limits, Setting


def entropy_falls(history: History, setting: Setting, limits: Limits) -> list[Level] | None:
    """H-01: a moving average far below the beginning; nearly nothing left."""
    if not history.has("entropy"):
        return None
    series = history.series("entropy")
    value, reference = series.ema(10), series.reference
    warn, crit = limits["warn"] * reference, limits["crit"]
    return [
        Level(severity="WARN", is_on=value < warn and reference >= limits["least"],
              is_off=value > limits["clear"] * reference, value=value, threshold=warn,
              detail=f"{value:.3g} nats per token, {reference:.3g} at the beginning"),
        Level(severity="CRIT", is_on=series.last < crit, is_off=series.last > limits["crit_clear"], value=series.last,
              threshold=crit, hold=5),
    ]  # fmt: skip


def entropy_explodes(history: History, setting: Setting, limits: Limits) -> list[Level] | None:
    """H-02."""
    if not history.has("entropy"):
        return None
    series = history.series("entropy")
    value, reference = series.ema(10), series.reference
    threshold = max(limits["warn"] * reference, limits["least"])
    return [Level(severity="WARN", is_on=value > threshold, is_off=value < limits["clear"] * reference, value=value,
                  threshold=threshold)]  # fmt: skip


def gradient(history: History, setting: Setting, limits: Limits) -> list[Level] | None:
    """H-03: several outliers close together, clipping as a rule, or no number at all."""
    if history.not_finite("grad_norm", "loss"):
        return [Level(severity="CRIT", is_on=True, is_off=False, value=math.inf, threshold=math.inf, hold=1, clear=20,
                      is_early=True, detail="loss or gradient is not finite")]  # fmt: skip
    if not history.has("grad_norm"):
        return None
    series = history.series("grad_norm")
    typical = series.median(100)
    outliers = sum(value > limits["outlier"] * typical for value in series.values[-5:])
    clipped = [value > setting.max_grad_norm for value in series.values[-50:]]
    is_clipping = len(clipped) == 50 and sum(clipped) > limits["clipped"] * 50
    is_on = outliers >= 2 or is_clipping
    detail = (
        f"above optimizer.max_grad_norm={setting.max_grad_norm:g} in {sum(clipped)} of 50 steps"
        if is_clipping
        else f"{max(series.values[-5:]):.3g}, usually {typical:.3g}"
    )
    return [
        Level(severity="WARN", is_on=is_on, is_off=not is_on, value=max(series.values[-5:]),
              threshold=limits["outlier"] * typical, clear=20, detail=detail),
        Level(severity="CRIT", is_on=False, is_off=True, value=series.last, threshold=math.inf, hold=1, clear=20),
    ]  # fmt: skip


def kl_runs_away(history: History, setting: Setting, limits: Limits) -> list[Level] | None:
    """H-04: ten times its level of the last hundred steps."""
    series = history.series("kl")
    if not history.has("kl") or len(series) <= 20:
        return None
    value = series.ema(10)
    threshold = max(limits["warn"] * series.median(100, back=10), limits["least"])
    is_on = value > threshold
    return [Level(severity="WARN", is_on=is_on, is_off=not is_on, value=value, threshold=threshold)]


def kl_without_gain(history: History, setting: Setting, limits: Limits) -> list[Level] | None:
    """H-05: the divergence doubles over 50 steps and nothing is solved more often."""
    series = history.series("kl")
    if not history.has("kl", SOLVED) or len(series) < 100:
        return None
    value, before = series.mean(50), series.mean(50, back=50)
    threshold = max(limits["warn"] * before, limits["least"])
    is_on = value > threshold and not history.is_up(SOLVED, 50)
    return [Level(severity="WARN", is_on=is_on, is_off=not is_on, value=value, threshold=threshold)]


def kl_is_off(history: History, setting: Setting, limits: Limits) -> list[Level] | None:
    """H-06: exactly 0 although it is asked for."""
    series = history.series("kl")
    if setting.kl_coef == 0 or not history.has("kl"):
        return None
    is_on = len(series) >= 20 and not any(series.values[-20:])
    return [Level(severity="INFO", is_on=is_on, is_off=not is_on, value=series.last, threshold=0.0, hold=1)]


def mismatch(history: History, setting: Setting, limits: Limits) -> list[Level] | None:
    """H-07: sampler and trainer disagree about the same tokens."""
    key = "sampling/mismatch_kl"
    if not history.has(key):
        return None
    series = history.series(key)
    value = series.ema(10)
    ess = history.series("sampling/ess_frac")
    is_starved = history.has("sampling/ess_frac") and ess.last < limits["least_ess"]
    is_first = len(series) == 1 and setting.is_float32 and value > limits["first"]
    crit = series.last > limits["crit"] or is_starved
    detail = f"effective sample size {ess.last:.0%} of the tokens" if is_starved else ""
    return [
        Level(severity="WARN", is_on=value > limits["warn"] or is_first, is_off=value < limits["warn"] / 2, value=value,
              threshold=limits["first"] if is_first else limits["warn"], hold=1 if is_first else 3, is_early=is_first),
        Level(severity="CRIT", is_on=crit, is_off=series.last < limits["crit"] / 2 and not is_starved, value=series.last,
              threshold=limits["crit"], hold=5, detail=detail),
    ]  # fmt: skip


def skips(history: History, setting: Setting, limits: Limits) -> list[Level] | None:
    """H-19: updates that were not made, and going back to a checkpoint."""
    if not history.has("train/skipped") and "replay" not in history.row:
        return None
    is_skipped = history.row.get("train/skipped") == 1
    is_back = int(history.row.get("replay", 0)) > history.replay
    return [
        Level(severity="WARN", is_on=is_skipped, is_off=not is_skipped, value=1.0, threshold=0.0, hold=1, clear=1,
              is_early=True, detail="loss or gradient not finite, no update was made"),
        Level(severity="CRIT", is_on=is_back, is_off=not is_back, value=1.0, threshold=0.0, hold=1, clear=1,
              is_early=True, detail="the run went back to a checkpoint"),
    ]  # fmt: skip


_PHASES = ("rollout", "scoring", "update")


def slow(history: History, setting: Setting, limits: Limits) -> list[Level] | None:
    """H-20: three steps far slower than usual; names the phase that grew most."""
    series = history.series("time/step_seconds")
    if not history.has("time/step_seconds") or len(series) < 20:
        return None
    usual = series.median(100)
    growth = {}
    for phase in _PHASES:
        own = history.series(f"time/{phase}_seconds")
        if len(own) >= 20:
            growth[phase] = own.last - own.median(100)
    phase = f", most of it {max(growth, key=lambda name: growth[name])}" if growth else ""
    return [Level(severity="WARN", is_on=series.last > limits["warn"] * usual, is_off=series.last < limits["clear"] * usual,
                  value=series.last, threshold=limits["warn"] * usual,
                  detail=f"{series.last:.3g} s, usually {usual:.3g} s{phase}")]  # fmt: skip
