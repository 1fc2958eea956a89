"""What a rule of run health is: conditions over the history, and the words that explain them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from gradus.health.history import History

Severity = Literal["INFO", "WARN", "CRIT"]
"""INFO explains, WARN asks for a look, CRIT acts by ``health.on_critical``."""
HOLD, CLEAR, REST, SILENT = 3, 10, 50, 20
"""Steps a condition holds before it is raised; steps of its end before it is cleared; steps before the same is raised
again; first steps without alerts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What rules know of the config.

    Example:
        Setting(num_steps=100, groups_per_step=16, max_grad_norm=1.0)
    """

    num_steps: int
    groups_per_step: int = 16
    max_grad_norm: float = 1.0
    kl_coef: float = 0.0
    max_tokens: int = 512
    is_float32: bool = False
    """Whether sampler and trainer compute in float32, so that they must agree from the first step on."""


class Level(NamedTuple):
    """One severity of a rule at one step. A tuple, since a replay makes hundreds of thousands.

    Example:
        Level(severity="WARN", is_on=True, is_off=False, value=0.02, threshold=0.09)
    """

    severity: Severity
    is_on: bool
    """The condition to raise it."""
    is_off: bool
    """The condition to clear it; between the two nothing changes."""
    value: float
    threshold: float
    detail: str = ""
    """What only this step can say, for the text."""
    hold: int = HOLD
    clear: int = CLEAR
    is_early: bool = False
    """May be raised in the first 20 steps."""


Limits = Mapping[str, float]
"""The named numbers of a rule."""
Check = Callable[[History, Setting, Limits], list[Level] | None]
"""The levels at the newest row, given the limits; None where a metric that it reads is not in the row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One thing that can go wrong. A task may have rules of its own.

    Example:
        Rule(id="H-13", watches=("rollout/duplicate_frac",), check=duplicates, limits={"warn": 0.3, "clear": 0.2},
             text="completions repeat each other", causes=("mode collapse",), actions=("raise sampling.temperature",))
    """

    id: str
    watches: tuple[str, ...]
    """Metrics it reads; a rule whose first one never appears could not be evaluated."""
    check: Check
    text: str
    causes: tuple[str, ...]
    actions: tuple[str, ...]
    limits: Mapping[str, float] = field(default_factory=dict)
    """Named numbers that ``health.rules`` may replace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something that was raised.

    Example:
        Alert(rule="H-01", severity="WARN", step=58, since_step=56, value=0.02, threshold=0.09, text="...",
              causes=("...",), actions=("...",))
    """

    rule: str
    severity: Severity
    step: int
    since_step: int
    """First step of the condition."""
    value: float
    threshold: float
    text: str
    causes: tuple[str, ...]
    actions: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The row of `alerts.jsonl`."""
        return {
            "rule": self.rule,
            "severity": self.severity,
            "step": self.step,
            "since_step": self.since_step,
            "value": self.value,
            "threshold": self.threshold,
            "text": self.text,
            "causes": list(self.causes),
            "actions": list(self.actions),
            "link": f"docs/health.md#{self.rule.lower()}",
        }

    def line(self) -> str:
        """For the console: what is wrong, the likely cause, what to do."""
        return (
            f"{self.severity} {self.rule} at step {self.step} (since {self.since_step}): {self.text}. "
            f"Cause: {' or '.join(self.causes)}. Do: {'; '.join(self.actions)}"
        )
