"""Rules of run health of economic decisions: the policy says one thing only, or what it says can no longer be read."""

from __future__ import annotations

from collections.abc import Mapping

from gradus.health.history import History
from gradus.health.rule import Level, Rule, Setting

_HOLD = 2
"""Rollouts in which a condition must be seen."""


def narrow(history: History, setting: Setting, limits: Mapping[str, float]) -> list[Level] | None:
    """Both fields hardly vary over a whole rollout."""
    names = ("economy/work_std", "economy/consumption_std")
    if not history.has(*names):
        return None
    widest = max(history.series(name).last for name in names)
    return [Level(severity="CRIT", is_on=widest < limits["least"], is_off=widest > 2 * limits["least"], value=widest,
                  threshold=limits["least"], hold=_HOLD, is_early=True)]  # fmt: skip


def unreadable(history: History, setting: Setting, limits: Mapping[str, float]) -> list[Level] | None:
    """Too few answers satisfy the strict rule."""
    if not history.has("rollout/parse_frac"):
        return None
    share = history.series("rollout/parse_frac").last
    return [Level(severity="CRIT", is_on=share < limits["least"], is_off=share > limits["least"] + 0.05, value=share,
                  threshold=limits["least"], hold=_HOLD, is_early=True)]  # fmt: skip


RULES = (
    Rule(
        id="economy-01",
        watches=("economy/work_std", "economy/consumption_std"),
        check=narrow,
        limits={"least": 0.02},
        text="work and consumption hardly vary: the policy gives one answer to every household",
        causes=("mode collapse", "a learning rate that is too high"),
        actions=("go back to an earlier checkpoint", "lower optimizer.learning_rate", "raise algorithm.entropy_coef"),
    ),
    Rule(
        id="economy-02",
        watches=("rollout/parse_frac",),
        check=unreadable,
        limits={"least": 0.9},
        text="many answers are no valid decision",
        causes=("format collapse", "too many updates per batch", "a model that needs a warm-up"),
        actions=("go back to an earlier checkpoint", "lower optimizer.learning_rate", "warm up with gradus sft"),
    ),
)
