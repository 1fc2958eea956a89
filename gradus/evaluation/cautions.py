"""What a probe warns of beside its verdict: cautions, each with what to type where that helps. Pure functions of numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gradus.config import ProbeLimit
from gradus.evaluation.stats import Estimate
from gradus.evaluation.verdict_rules import Advice, Facts, Verdict, first_rule, more_tokens, value_of
from gradus.evaluation.wording import percent

SMALL_GROUP, FEW_PROBLEMS = 8, 100
_BY_ACCURACY: tuple[ProbeLimit, ...] = ("min_accuracy", "max_accuracy")


def cautions(facts: Facts, verdict: Verdict, rule: str) -> tuple[Advice, ...]:
    """What else to look at, whatever the verdict is; ``rule`` gave it."""
    found: list[Advice | None] = [
        _unusual_accuracy(facts),
        _somewhat_truncated(facts),
        _format_first(facts),
        _small_groups(facts),
        _duplicates(facts),
        _uncertain(facts, verdict, rule),
        _few_problems(facts),
    ]
    return tuple(one for one in found if one is not None)


def gets_worse(ahead: Mapping[str, Any]) -> Advice | None:
    """Of a forecast: a rehearsal after which fewer answers were right, by more than chance."""
    right = ahead["right"]
    if not right["change_high"] < 0:
        return None
    text = (
        f"in the rehearsal fewer answers became right: {percent(right['before'])} before, {percent(right['value'])} "
        f"expected over the first {ahead['num_steps']} steps; lower optimizer.learning_rate or warm it up"
    )
    return Advice(code="gets_worse", text=text, override=f"optimizer.learning_rate={ahead['learning_rate'] / 3:.1g}")


def _unusual_accuracy(facts: Facts) -> Advice | None:
    accuracy = value_of(facts.accuracy)
    low, high = facts.limit("caution_accuracy_low"), facts.limit("caution_accuracy_high")
    if accuracy < low:
        return Advice(code="low_accuracy", text=f"low accuracy: {percent(accuracy)}, below {percent(low)}")
    if accuracy > high:
        return Advice(code="high_accuracy", text=f"high accuracy: {percent(accuracy)}, above {percent(high)}")
    return None


def _somewhat_truncated(facts: Facts) -> Advice | None:
    if not facts.limit("caution_truncated") < facts.truncated <= facts.limit("max_truncated"):
        return None
    more = more_tokens(facts)
    return Advice(code="truncated", text=f"{percent(facts.truncated)} of the answers were cut", override=more.override)


def _format_first(facts: Facts) -> Advice | None:
    if not facts.format_parts:
        return None
    names = ", ".join(facts.format_parts)
    text = f"inside groups the reward varies by {names} and not by correctness: the run will learn the format first"
    return Advice(code="format_only", text=text)


def _small_groups(facts: Facts) -> Advice | None:
    at_eight = facts.mixed_by_size.get(SMALL_GROUP)
    if facts.group_size >= SMALL_GROUP or at_eight is None:
        return None
    text = (
        f"small groups: of {facts.group_size} {percent(facts.mixed.value)} are mixed, of {SMALL_GROUP} it would be "
        f"{percent(at_eight)}"
    )
    return Advice(code="small_groups", text=text, override=f"sampling.group_size={SMALL_GROUP}")


def _duplicates(facts: Facts) -> Advice | None:
    if facts.duplicates <= facts.limit("caution_duplicates"):
        return None
    text = f"{percent(facts.duplicates)} of the completions repeat another of their group"
    if facts.temperature is not None and facts.temperature >= 1:
        return Advice(code="duplicates", text=f"{text}: short answers do, and a policy that is sure of itself")
    return Advice(code="duplicates", text=f"{text}: too low a temperature?", override="sampling.temperature=1.0")


def _uncertain(facts: Facts, verdict: Verdict, rule: str) -> Advice | None:
    """A limit inside an interval beyond which the verdict would be another, and how many problems would settle it."""
    if rule in ("V1", "V2"):
        return None
    by_mixed: tuple[ProbeLimit, ...] = () if rule in ("V3", "V4") else ("min_mixed", "comfortable_mixed")
    needed: list[float | None] = []
    if _would_turn(facts, verdict, "accuracy"):
        needed += [_problems_needed(facts.accuracy, facts.limit(name), facts.num_problems) for name in _BY_ACCURACY]
    if _would_turn(facts, verdict, "mixed"):
        needed += [_problems_needed(facts.mixed, facts.limit(name), facts.num_problems) for name in by_mixed]
    counts = [count for count in needed if count is not None]
    if not counts:
        return None
    most = max(counts)
    text = "uncertain: the measured share lies on a limit; no number of problems would decide"
    if math.isfinite(most):
        text = f"uncertain: {most:.0f} problems would decide"
        return Advice(code="uncertain", text=text, override=f"--num {most:.0f}")
    return Advice(code="uncertain", text=text)


def _would_turn(facts: Facts, verdict: Verdict, which: str) -> bool:
    """Whether the verdict would be another if the truth were at an end of the interval of ``accuracy`` or ``mixed``."""
    measured: Estimate = getattr(facts, which)
    ends = [replace(measured, value=end, low=end, high=end) for end in (measured.low, measured.high) if end is not None]
    return any(first_rule(replace(facts, **{which: end}))[0] != verdict for end in ends)


def _problems_needed(estimate: Estimate, limit: float, num_problems: int) -> float | None:
    """Problems after which the interval would no longer hold ``limit``, rounded up to 50; None if it does not now."""
    if estimate.low is None or estimate.high is None or not estimate.low < limit < estimate.high:
        return None
    distance = abs(value_of(estimate) - limit)
    if distance < 1e-3:
        return math.inf
    return 50 * math.ceil(num_problems * ((estimate.high - estimate.low) / 2 / distance) ** 2 / 50)


def _few_problems(facts: Facts) -> Advice | None:
    if facts.num_problems >= FEW_PROBLEMS:
        return None
    text = f"only {facts.num_problems} problems: intervals of shares near 0 or 1 are too narrow below {FEW_PROBLEMS}"
    return Advice(code="few_problems", text=text, override=f"--num {2 * FEW_PROBLEMS}")
