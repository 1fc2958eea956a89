"""Rules over a run, row by row: the same code while it trains and when it is replayed. A pure function of the rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gradus.config import Config
from gradus.health.history import History
from gradus.health.rule import REST, SILENT, Alert, Level, Rule, Setting, Severity
from gradus.health.rules import RULES

Override = Literal["off"] | Mapping[str, float]


@dataclass(slots=True)
class _State:
    """One severity of one rule."""

    held: int = 0
    since: int = 0
    quiet: int = 0
    is_raised: bool = False
    raised_at: int | None = None


@dataclass(slots=True)
class _Watch:
    rule: Rule
    limits: Mapping[str, float]
    states: dict[Severity, _State] = field(default_factory=dict)
    is_evaluated: bool = False


class Monitor:
    """Watches one run.

    Example:
        for alert in Monitor(Setting(num_steps=100)).feed(row): ...
    """

    def __init__(
        self, setting: Setting, overrides: Mapping[str, Override] | None = None, more: Sequence[Rule] = ()
    ) -> None:
        """``overrides`` switches rules off or replaces limits by name; ``more`` are rules of the tasks.

        Raises:
            ValueError: a rule or a limit that does not exist.
        """
        rules, overrides = (*RULES, *more), overrides or {}
        self._setting, self._history = setting, History()
        self._watches = [
            _Watch(rule, {**rule.limits, **_limits(rule, overrides.get(rule.id))})
            for rule in rules
            if overrides.get(rule.id) != "off"
        ]
        self.off = [rule.id for rule in rules if overrides.get(rule.id) == "off"]
        unknown = sorted(set(overrides) - {rule.id for rule in rules})
        if unknown:
            known = ", ".join(rule.id for rule in rules)
            raise ValueError(f"health.rules.{unknown[0]} is no rule; there are: {known}")

    def feed(self, row: Mapping[str, Any]) -> list[Alert]:
        """Takes the next row of `metrics.jsonl`; returns what it raises, the worst first."""
        self._history.add(row)
        alerts = [alert for watch in self._watches for alert in self._look(watch)]
        return sorted(alerts, key=lambda alert: ("CRIT", "WARN", "INFO").index(alert.severity))

    def replay(self, rows: Iterable[Mapping[str, Any]]) -> list[Alert]:
        """All alerts of some rows, in order."""
        return [alert for row in rows for alert in self.feed(row)]

    def not_evaluable(self) -> list[Rule]:
        """Rules of which no row had the metrics so far."""
        return [watch.rule for watch in self._watches if not watch.is_evaluated]

    def raised(self) -> list[tuple[str, Severity]]:
        """What is raised and not cleared."""
        return [
            (watch.rule.id, severity)
            for watch in self._watches
            for severity, state in watch.states.items()
            if state.is_raised
        ]

    def _look(self, watch: _Watch) -> list[Alert]:
        levels = watch.rule.check(self._history, self._setting, watch.limits)
        if levels is None:
            return []
        watch.is_evaluated = True
        step = int(self._history.row["step"])
        raised = [
            level for level in levels if self._advance(watch.states.setdefault(level.severity, _State()), level, step)
        ]
        return [self._alert(watch, level, step) for level in raised]

    def _advance(self, state: _State, level: Level, step: int) -> bool:
        """Moves one severity on; whether it is raised now."""
        if not level.is_on:
            state.held = 0
            state.quiet = state.quiet + 1 if level.is_off else 0
            if state.quiet >= level.clear:
                state.is_raised = False
            return False
        state.quiet = 0
        state.held += 1
        if state.held == 1:
            state.since = step
        is_rested = state.raised_at is None or step - state.raised_at >= REST
        is_awake = step > SILENT or level.is_early
        if state.held < level.hold or state.is_raised or not is_rested or not is_awake:
            return False
        state.is_raised, state.raised_at = True, step
        return True

    def _alert(self, watch: _Watch, level: Level, step: int) -> Alert:
        rule = watch.rule
        return Alert(
            rule=rule.id,
            severity=level.severity,
            step=step,
            since_step=watch.states[level.severity].since,
            value=level.value,
            threshold=level.threshold,
            text=f"{rule.text} ({level.detail or _numbers(level)})",
            causes=rule.causes,
            actions=rule.actions,
        )


def setting_of(config: Config) -> Setting:
    """What the rules know of a config; the same while a run trains and when it is replayed."""
    model = config.model
    return Setting(
        num_steps=config.num_steps,
        groups_per_step=config.curriculum.problems_per_step,
        max_grad_norm=config.optimizer.max_grad_norm,
        kl_coef=config.algorithm.kl_coef or 0.0,
        max_tokens=config.sampling.max_tokens,
        is_float32=model.dtype == "float32" or (model.dtype == "auto" and model.device == "cpu"),
    )


def _numbers(level: Level) -> str:
    return f"{level.value:.3g}, limit {level.threshold:.3g}"


def _limits(rule: Rule, override: Override | None) -> Mapping[str, float]:
    """The limits that are replaced; ValueError for a name that the rule does not have."""
    if override is None or isinstance(override, str):
        return {}
    unknown = sorted(set(override) - set(rule.limits))
    if unknown:
        raise ValueError(
            f"health.rules.{rule.id}.{unknown[0]} is no limit; {rule.id} has: {', '.join(rule.limits) or 'none'}"
        )
    return override
