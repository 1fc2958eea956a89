"""What a tracker must be able to do, and where each metric appears in it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gradus.registry import Registry

OVERVIEW = {
    "reward": "reward",
    "rollout/solve_rate": "solve_rate",
    "evaluation/validation/solve_rate": "held_out_solve_rate",
    "rollout/mixed_frac": "mixed_groups",
    "entropy": "entropy",
    "kl": "kl",
    "completions/mean_length": "completion_tokens",
    "completions/clipped_ratio": "truncated",
    "grad_norm": "grad_norm",
    "loss": "loss",
    "sampling/mismatch_kl": "mismatch_kl",
    "time/step_seconds": "step_seconds",
}
"""The twelve series to look at first: metric to its name in the tracker's folder ``overview``."""
_NO_SERIES = {"step", "attempt", "replay", "wall_seconds"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What a tracker is told of a run before the first step.

    Example:
        RunFacts(name="first", project="gradus", folder=Path("runs/first"), config={"seed": 0}, tracker_run=None)
    """

    name: str
    project: str
    folder: Path
    """Of the run; a tracker that keeps files writes them below ``tracking/`` in it."""
    config: Mapping[str, Any]
    tracker_run: str | None
    """The tracker's own id of this run from an earlier attempt: its curves go on."""


class Sink(Protocol):
    """A tracker. Another one is a class with these methods and a row in `SINKS`."""

    def open(self, run: RunFacts) -> str | None:
        """Begins, or goes on with, the tracker's run; returns its id there."""
        ...

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of one step, by the names of `series`."""
        ...

    def alert(self, alert: Mapping[str, Any]) -> None:
        """An alert of run health: ``rule severity step text actions``."""
        ...

    def close(self) -> None:
        """Everything logged is safe when this returns."""
        ...


SINKS: Registry[type[Sink]] = Registry(
    "tracker",
    {
        "tensorboard": "gradus.tracking.to_tensorboard:TensorBoard",
        "wandb": "gradus.tracking.to_wandb:WeightsAndBiases",
        "trackio": "gradus.tracking.to_trackio:Trackio",
    },
)


def check_installed(name: str) -> None:
    """ValueError where the tracker's package is missing."""
    if name in ("tensorboard", "wandb", "trackio") and importlib.util.find_spec(name) is None:
        raise ValueError(
            f"tracking.sinks has {name!r}, and the package {name} is not installed; pip install {name}, or take it out. "
            "metrics.jsonl and the report need no tracker"
        )


def series(row: Mapping[str, Any]) -> dict[str, float]:
    """A row of metrics as a tracker shows it: the overview's series in ``overview/``, the rest in the folders of their
    names, what has none in ``training/``. Values that are no finite number are left out: trackers cannot draw them."""
    named: dict[str, float] = {}
    for key, value in row.items():
        if key in _NO_SERIES or isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        if key in OVERVIEW:
            named[f"overview/{OVERVIEW[key]}"] = float(value)
        else:
            named[key if "/" in key else f"training/{key}"] = float(value)
    return named
