"""Weights & Biases. Without a login, or with GRADUS_OFFLINE or WANDB_MODE=offline, it writes below the run's
``tracking/wandb``; ``wandb sync`` sends that later."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

from gradus.tracking.sinks import RunFacts

_LEVELS = {"INFO": "INFO", "WARN": "WARN", "CRIT": "ERROR"}


class WeightsAndBiases:
    """See `gradus.tracking.sinks.Sink`."""

    def open(self, run: RunFacts) -> str | None:
        """See `Sink.open`."""
        self._wandb: Any = importlib.import_module("wandb")
        self._run = self._wandb.init(
            project=run.project,
            name=run.name,
            id=run.tracker_run,
            resume="allow" if run.tracker_run else None,
            dir=str(run.folder / "tracking"),
            config=dict(run.config),
            mode=self._mode(),
            settings=self._wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True),
        )
        self._run.define_metric("*", step_metric="step")
        return self._run.id

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See `Sink.log`. The step is a series of its own, so that what was sent twice is no error."""
        self._run.log({"step": step, **values})

    def alert(self, alert: Mapping[str, Any]) -> None:
        """See `Sink.alert`."""
        level = getattr(self._wandb.AlertLevel, _LEVELS.get(alert["severity"], "WARN"))
        self._run.alert(title=f"{alert['rule']} at step {alert['step']}", text=alert["text"], level=level)

    def close(self) -> None:
        """See `Sink.close`."""
        self._run.finish()

    def _mode(self) -> str | None:
        """None lets wandb decide (its own WANDB_MODE and login)."""
        if os.environ.get("WANDB_MODE"):
            return None
        is_offline = os.environ.get("GRADUS_OFFLINE") or os.environ.get("HF_HUB_OFFLINE")
        return "offline" if is_offline or not self._wandb.api.api_key else None
