"""The conditions of the rules H-01 to H-20: from the history of a run to levels. Which rule has which: `rules.py`.

Absolute limits are few: most compare with the run's own beginning (median of the first 20 values) or recent past.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from gradus.health.history import History
from gradus.health.rule import Level, Setting, Severity

Limits = Mapping[str, float]
_SOLVED = "rollout/solve_rate"
_WARN_AND_CRIT: tuple[tuple[Severity, str], ...] = (("WARN", "warn"), ("CRIT", "crit"))


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
    if not history.has("kl", _SOLVED) or len(series) < 100:
        return None
    value, before = series.mean(50), series.mean(50, back=50)
    threshold = max(limits["warn"] * before, limits["least"])
    is_on = value > threshold and not history.is_up(_SOLVED, 50)
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


def no_signal(history: History, setting: Setting, limits: Limits) -> list[Level] | None:
    """H-08: most groups have equal rewards."""
    series = history.series("frac_reward_zero_std")
    width = max(10, math.ceil(160 / max(1, setting.groups_per_step)))
    if not history.has("frac_reward_zero_std"):
        return None
    value = series.mean(width)
    kinds = ", ".join(
        f"{name} {history.series(key).mean(width):.0%}"
        for name, key in (("all right", "rollout/all_right_frac"), ("all wrong", "rollout/all_wrong_frac"))
        if history.knows(key)
    )
    detail = f"{value:.0%} over {min(width, len(series))} steps" + (f": {kinds}" if kinds else "")
    return [
        Level(severity="WARN", is_on=len(series) >= width and value > limits["warn"], is_off=value < limits["clear"],
              value=value, threshold=limits["warn"], hold=5, detail=detail, is_early=True),
        Level(severity="CRIT", is_on=series.last >= 1.0, is_off=value < limits["clear"], value=series.last,
              threshold=1.0, hold=10, detail=detail, is_early=True),
    ]  # fmt: skip


def truncation(history: History, setting: Setting, limits: Limits) -> list[Level] | None:
    """H-09: answers are cut off."""
    if not history.has("completions/clipped_ratio"):
        return None
    series = history.series("completions/clipped_ratio")
    value = series.mean(5)
    detail = f"{value:.0%} of the completions reach sampling.max_tokens={setting.max_tokens}"
    return [
        Level(severity="WARN", is_on=value > limits["warn"], is_off=value < limits["clear"], value=value,
              threshold=limits["warn"], detail=detail),
        Level(severity="CRIT", is_on=series.last > limits["crit"], is_off=series.last < limits["crit_clear"],
              value=series.last, threshold=limits["crit"], hold=5, detail=detail),
    ]  # fmt: skip


def length(history: History, setting: Setting, limits: Limits) -> list[Level] | None:
    """H-10: twice as long without solving more, or a third of what it was."""
    series = history.series("completions/mean_length")
    if not history.has("completions/mean_length") or len(series) < 20:
        return None
    value, reference = series.mean(20), series.reference
    is_long = len(series) >= 40 and value > limits["longer"] * reference and not history.is_up(_SOLVED, 20, since=20)
    is_short = value < limits["shorter"] * reference
    is_off = limits["clear_shorter"] * reference < value < limits["clear_longer"] * reference
    threshold = limits["shorter" if is_short else "longer"] * reference
    detail = f"{value:.0f} tokens, {reference:.0f} at the beginning"
    return [Level(severity="WARN", is_on=is_long or is_short, is_off=is_off, value=value, threshold=threshold,
                  detail=detail)]  # fmt: skip


def reward_hacking(history: History, setting: Setting, limits: Limits) -> list[Level] | None:
    """H-11: a part of the reward rises while fewer (INFO: no more) problems are solved, over 20 steps against the 20
    before, which sees a fast change early, or over 50 against 50, which sees a slow one; or groups hold right and wrong
    answers and pay them alike."""
    parts = list(history.named("rewards/", "/mean"))
    is_long = parts and history.has(_SOLVED) and len(history.series(_SOLVED)) >= 2 * _HACKING_SPANS[0]
    found = [_hacking(history, parts, span, limits["rise"]) for span in _HACKING_SPANS] if is_long else []
    alike = _paid_alike(history)
    if alike is not None:
        detail = f"{alike:.0%} of the groups hold right and wrong answers with one reward"
        found.append(_Hacking(alike, alike > limits["alike"], False, detail, limits["alike"]))
    if not found:
        return None
    worst = max(found, key=lambda one: (one.is_hacked, one.is_flat, one.value))
    is_hacked = any(one.is_hacked for one in found)
    is_flat = not is_hacked and any(one.is_flat for one in found)
    levels: tuple[tuple[Severity, bool], ...] = (("WARN", is_hacked), ("INFO", is_flat))
    return [
        Level(
            severity=severity,
            is_on=is_on,
            is_off=not is_on,
            value=worst.value,
            threshold=worst.limit,
            detail=worst.detail,
        )
        for severity, is_on in levels
    ]


def _paid_alike(history: History) -> float | None:
    """Share of the groups, over 10 steps, whose completions are paid alike although some are right and some wrong, at
    least: of all groups with one reward, those that are neither all right nor all wrong."""
    keys = ("frac_reward_zero_std", "rollout/all_right_frac", "rollout/all_wrong_frac")
    if not history.has(*keys) or len(history.series(keys[0])) < 10:
        return None
    flat, right, wrong = (history.series(key).mean(10) for key in keys)
    return flat - right - wrong


_HACKING_SPANS = (20, 50)


class _Hacking(NamedTuple):
    """One way of looking for it; ``value`` is compared with ``limit``."""

    value: float
    is_hacked: bool
    is_flat: bool
    detail: str
    limit: float


def _hacking(history: History, parts: list[str], span: int, least: float) -> _Hacking:
    """The part that rose most over ``span`` steps, and what became of the solve rate meanwhile."""
    if len(history.series(_SOLVED)) < 2 * span:
        return _Hacking(0.0, False, False, "", least)
    rises = [(history.series(key).rise(span)[0], key) for key in parts if len(history.series(key)) >= 2 * span]
    rise, key = max(rises, default=(0.0, ""))
    grows = rise > least and history.is_up(key, span)
    is_down, is_up = history.is_down(_SOLVED, span), history.is_up(_SOLVED, span)
    name, change = key.removeprefix("rewards/").removesuffix("/mean"), history.series(_SOLVED).rise(span)[0]
    detail = f"reward part {name} {rise:+.3f}, solve rate {change:+.3f} over {span} steps"
    return _Hacking(rise, grows and is_down, grows and not is_down and not is_up, detail, least)


def overfitting(history: History, setting: Setting, limits: Limits) -> list[Level] | None:
    """H-12: two evaluations in a row fall, together by more than a standard error, while the training reward rises."""
    key = next(history.named("evaluation/", "/solve_rate"), None)
    if key is None or len(history.series(key)) < 3 or not history.knows("reward"):
        return None
    series, reward = history.series(key), history.series("reward")
    first, second, third = series.values[-3:]
    between = [
        sum(a < step <= b for step in reward.steps) for a, b in zip(series.steps[-3:], series.steps[-2:], strict=False)
    ]
    if not all(between):
        return None
    late, early = reward.mean(between[1]), reward.mean(between[0], back=between[1])
    is_on = third < second < first and first - third > _half_width(history, key) / 2 and late > early
    detail = f"held out {first:.1%}, {second:.1%}, {third:.1%}; training reward {early:.3f}, {late:.3f}"
    return [Level(severity="WARN", is_on=is_on, is_off=third >= second, value=third, threshold=second, hold=1, clear=1,
                  is_early=True, detail=detail)]  # fmt: skip


def _half_width(history: History, key: str) -> float:
    """Of the newest 95 % interval; 0 where the rows have none."""
    low, high = history.series(f"{key}_low"), history.series(f"{key}_high")
    return (high.last - low.last) / 2 if len(low) and len(high) else 0.0


def duplicates(history: History, setting: Setting, limits: Limits) -> list[Level] | None:
    """H-13."""
    return _mean_above(history, "rollout/duplicate_frac", 10, limits)


def scoring(history: History, setting: Setting, limits: Limits) -> list[Level] | None:
    """H-14: the tool fails, not the model."""
    key = "scoring/error_frac"
    if not history.has(key):
        return None
    value = history.series(key).mean(5)
    return [
        Level(severity=severity, is_on=value > limits[name], is_off=value < limits["clear"], value=value,
              threshold=limits[name], is_early=True)
        for severity, name in _WARN_AND_CRIT
    ]  # fmt: skip


def nothing_shown(history: History, setting: Setting, limits: Limits) -> list[Level] | None:
    """H-15: halfway, and the newest evaluation cannot be told from the first. By the two intervals, as if unpaired: the
    paired comparison in the report sees smaller differences."""
    key = next(history.named("evaluation/", "/solve_rate"), None)
    if key is None or len(history.series(key)) < 3 or 2 * history.series(key).last_step < setting.num_steps:
        return None
    series = history.series(key)
    errors = [(high - low) / 3.92 for low, high in zip(*(history.series(f"{key}_{end}").values for end in ("low", "high")),
                                                       strict=False)]  # fmt: skip
    if len(errors) < len(series):
        return None
    error = math.hypot(errors[0], errors[-1])
    change = series.last - series.values[0]
    is_on = change < 1.96 * error
    detail = f"{series.values[0]:.1%} → {series.last:.1%}; smallest detectable about {2.802 * error:.1%}"
    return [Level(severity="INFO", is_on=is_on, is_off=not is_on, value=change, threshold=1.96 * error, hold=1, clear=1,
                  is_early=True, detail=detail)]  # fmt: skip


def decisions_collapse(history: History, setting: Setting, limits: Limits) -> list[Level] | None:
    """H-16: numeric decisions lose their spread; the worst field speaks."""
    keys = [key for key in history.named("output_std/") if history.has(key) and len(history.series(key)) >= 20]
    keys = [key for key in keys if history.series(key).reference > 0]
    if not keys:
        return None
    ratios = {key: history.series(key).mean(20) / history.series(key).reference for key in keys}
    worst = min(ratios, key=lambda key: (ratios[key], key))
    detail = f"{worst.removeprefix('output_std/')} has {ratios[worst]:.0%} of the spread it had"
    return [Level(severity="WARN", is_on=ratios[worst] < limits["warn"], is_off=ratios[worst] > limits["clear"],
                  value=ratios[worst], threshold=limits["warn"], detail=detail)]  # fmt: skip


def unusable(history: History, setting: Setting, limits: Limits) -> list[Level] | None:
    """H-17: lowest rewards, or answers that cannot be read. Where every wrong answer gets the lowest reward, its share
    says no more than the solve rate, and only unreadable answers count."""
    floor, parse = history.series("rollout/floor_reward_frac"), history.series("rollout/parse_frac")
    has_floor, has_parse = history.has("rollout/floor_reward_frac", _SOLVED), history.has("rollout/parse_frac")
    if not has_floor and not has_parse:
        return None
    lowest = floor.mean(10) if has_floor and floor.mean(10) + history.series(_SOLVED).mean(10) < 0.98 else 0.0
    readable = parse.mean(10) / parse.reference if has_parse and parse.reference > 0 else 1.0
    is_low, is_unread = lowest > limits["floor"], readable < limits["parse"]
    detail = (
        f"{lowest:.0%} get the lowest reward" if is_low else f"answers are found {readable:.0%} as often as at first"
    )
    return [Level(severity="WARN", is_on=is_low or is_unread,
                  is_off=lowest < limits["clear_floor"] and readable > limits["clear_parse"],
                  value=lowest if is_low else readable, threshold=limits["floor" if is_low else "parse"],
                  detail=detail)]  # fmt: skip


def fallback(history: History, setting: Setting, limits: Limits) -> list[Level] | None:
    """H-18."""
    levels = _mean_above(history, "curriculum/fallback_frac", 20, limits)
    return None if levels is None else [level._replace(severity="INFO") for level in levels]


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


def _mean_above(history: History, key: str, count: int, limits: Limits) -> list[Level] | None:
    if not history.has(key):
        return None
    value = history.series(key).mean(count)
    return [Level(severity="WARN", is_on=value > limits["warn"], is_off=value < limits["clear"], value=value,
                  threshold=limits["warn"])]  # fmt: skip
