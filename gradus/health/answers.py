"""Conditions of the rules about what is asked, answered and paid: groups without signal, cut, long, repeated and unusable
answers, rewards against solutions, held-out evaluations, empty buckets, fewer right answers (H-08 to H-18, H-21). Which
rule has which: `rules.py`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from gradus.health.history import NUM_REFERENCE, SOLVED, History
from gradus.health.rule import Level, Limits, Setting, Severity

_WARN_AND_CRIT: tuple[tuple[Severity, str], ...] = (("WARN", "warn"), ("CRIT", "crit"))


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
    is_long = len(series) >= 40 and value > limits["longer"] * reference and not history.is_up(SOLVED, 20, since=20)
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
    is_long = parts and history.has(SOLVED) and len(history.series(SOLVED)) >= 2 * _HACKING_SPANS[0]
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
    if len(history.series(SOLVED)) < 2 * span:
        return _Hacking(0.0, False, False, "", least)
    rises = [(history.series(key).rise(span)[0], key) for key in parts if len(history.series(key)) >= 2 * span]
    rise, key = max(rises, default=(0.0, ""))
    grows = rise > least and history.is_up(key, span)
    is_down, is_up = history.is_down(SOLVED, span), history.is_up(SOLVED, span)
    name, change = key.removeprefix("rewards/").removesuffix("/mean"), history.series(SOLVED).rise(span)[0]
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
    """H-13: completions repeat each other. Answers that hold little information at the beginning (a few nats, as short or
    certain ones do) repeat by right; of them only a rise counts, and only where no more is solved."""
    key = "rollout/duplicate_frac"
    if not history.has(key):
        return None
    series, nats = history.series(key), _nats_of_an_answer(history)
    value = series.mean(10)
    if nats >= limits["nats"]:
        return [Level(severity="WARN", is_on=value > limits["warn"], is_off=value < limits["clear"], value=value,
                      threshold=limits["warn"], detail=f"{value:.0%} repeat another of their group")]  # fmt: skip
    threshold = max(limits["warn"], series.reference + limits["rise"])
    is_on = value > threshold and not history.is_up(SOLVED, 20, since=20)
    detail = f"{value:.0%} repeat another of their group, {series.reference:.0%} at the beginning"
    return [Level(severity="WARN", is_on=is_on, is_off=not is_on, value=value, threshold=threshold, detail=detail)]


def _nats_of_an_answer(history: History) -> float:
    """Entropy of a whole completion at the beginning: nats per token times tokens; infinite where it is not known."""
    keys = ("entropy", "completions/mean_length")
    if not all(history.knows(key) for key in keys):
        return math.inf
    return math.prod(history.series(key).reference for key in keys)


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


def solving_falls(history: History, setting: Setting, limits: Limits) -> list[Level] | None:
    """H-21: fewer completions are right than in the first 20 steps, by much and by more than noise. Where a curriculum
    changes the mix of problems the rate may fall by design, and nothing is said."""
    if not history.has(SOLVED) or any(history.named("curriculum/requested/")):
        return None
    series = history.series(SOLVED)
    if len(series) < NUM_REFERENCE + _FALL_STEPS:
        return None
    value, before = series.mean(_FALL_STEPS), series.mean(NUM_REFERENCE, back=len(series) - NUM_REFERENCE)
    error = math.sqrt(
        series.squared_error(_FALL_STEPS) + series.squared_error(NUM_REFERENCE, back=len(series) - NUM_REFERENCE)
    )
    threshold = limits["warn"] * before
    is_on = value < threshold and before - value > 3 * error
    detail = f"{value:.0%} of the completions are right, {before:.0%} in the first {NUM_REFERENCE} steps"
    return [Level(severity="WARN", is_on=is_on, is_off=value > limits["clear"] * before, value=value,
                  threshold=threshold, detail=detail)]  # fmt: skip


_FALL_STEPS = 10


def unusable(history: History, setting: Setting, limits: Limits) -> list[Level] | None:
    """H-17: lowest rewards, or answers that cannot be read. Where every wrong answer gets the lowest reward, its share
    says no more than the solve rate, and only unreadable answers count."""
    floor, parse = history.series("rollout/floor_reward_frac"), history.series("rollout/parse_frac")
    has_floor, has_parse = history.has("rollout/floor_reward_frac", SOLVED), history.has("rollout/parse_frac")
    if not has_floor and not has_parse:
        return None
    lowest = floor.mean(10) if has_floor and floor.mean(10) + history.series(SOLVED).mean(10) < 0.98 else 0.0
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


def _mean_above(history: History, key: str, count: int, limits: Limits) -> list[Level] | None:
    if not history.has(key):
        return None
    value = history.series(key).mean(count)
    return [Level(severity="WARN", is_on=value > limits["warn"], is_off=value < limits["clear"], value=value,
                  threshold=limits["warn"])]  # fmt: skip
