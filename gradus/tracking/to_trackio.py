"""trackio: a local store (``TRACKIO_DIR``, else trackio's own folder); ``trackio show`` draws it in the browser."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from gradus.tracking.sinks import RunFacts

_LEVELS = {"INFO": "INFO", "WARN": "WARN", "CRIT": "ERROR"}


class Trackio:
    """See `gradus.tracking.sinks.Sink`."""

    def open(self, run: RunFacts) -> str | None:
        """See `Sink.open`. trackio knows a run by project and name."""
        self._trackio: Any = importlib.import_module("trackio")
        name = run.tracker_run or run.name
        self._trackio.init(project=run.project, name=name, resume="allow", config=dict(run.config), embed=False)
        return name

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See `Sink.log`."""
        self._trackio.log(dict(values), step=step)

    def alert(self, alert: Mapping[str, Any]) -> None:
        """See `Sink.alert`."""
        level = getattr(self._trackio.AlertLevel, _LEVELS.get(alert["severity"], "WARN"))
        self._trackio.alert(title=f"{alert['rule']} at step {alert['step']}", text=alert["text"], level=level)

    def close(self) -> None:
        """See `Sink.close`."""
        self._trackio.finish()
