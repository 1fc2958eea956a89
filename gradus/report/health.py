"""Run health of a finished run: the same rules as while it trained, over its `metrics.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradus.health.monitor import Monitor, setting_of
from gradus.health.rule import Setting
from gradus.recipe import resolve
from gradus.tasks.base import load_task


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What the rules say about the rows of a run.

    Example:
        replay(Path("runs/first"), rows).not_evaluable  # ["H-04 (kl)", "H-16 (output_std/<field>)"]
    """

    alerts: list[dict[str, Any]] = field(default_factory=list)
    """Rows as in `alerts.jsonl`."""
    not_evaluable: list[str] = field(default_factory=list)
    """Rules whose metrics no row has, with the first of these."""
    off: list[str] = field(default_factory=list)
    """Rules that the config switches off."""
    fault: str = ""
    """Why the run's own limits could not be used; the default ones are then."""


def replay(path: Path, rows: Sequence[Mapping[str, Any]]) -> Replay:
    """Runs the rules over ``rows`` with the limits of the run's config."""
    rows = [row for row in rows if type(row.get("step")) is int]
    monitor, fault = _monitor(path, rows)
    alerts = [alert.to_json() for alert in monitor.replay(rows)]
    missing = [f"{rule.id} ({rule.watches[0]})" for rule in monitor.not_evaluable()]
    return Replay(alerts=alerts, not_evaluable=missing, off=monitor.off, fault=fault)


def _monitor(path: Path, rows: Sequence[Mapping[str, Any]]) -> tuple[Monitor, str]:
    try:
        config = resolve([path / "resolved.yaml"]).config
        tasks = [load_task(name, **options) for name, options in config.tasks.items()]
        rules = [rule for task in tasks for rule in task.health_rules()]
        return Monitor(setting_of(config), config.health.rules, rules), ""
    except (ValueError, OSError, RecursionError) as error:  # a damaged or older config: the report goes on
        fault = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Monitor(Setting(num_steps=max((row["step"] for row in rows), default=1))), fault
