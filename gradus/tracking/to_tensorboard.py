"""TensorBoard: event files below the run's ``tracking/tensorboard``. ``tensorboard --logdir runs`` shows all runs."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Mapping
from typing import Any

from gradus.tracking.sinks import RunFacts

_STRING = 7
"""DT_STRING of TensorFlow's types."""


class TensorBoard:
    """See `gradus.tracking.sinks.Sink`. Written with TensorBoard's own writer: TensorFlow and torch are not needed."""

    def open(self, run: RunFacts) -> str | None:
        """See `Sink.open`. A further attempt adds a file; TensorBoard joins them."""
        writer: Any = importlib.import_module("tensorboard.summary.writer.event_file_writer")
        self._event: Any = importlib.import_module("tensorboard.compat.proto.event_pb2").Event
        self._proto: Any = importlib.import_module("tensorboard.compat.proto.summary_pb2")
        self._writer = writer.EventFileWriter(str(run.folder / "tracking" / "tensorboard"))
        if run.tracker_run is None:
            self._text("config", 0, "```\n" + json.dumps(run.config, indent=2, default=str) + "\n```")
        return run.name

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See `Sink.log`."""
        self._add(step, *(self._proto.Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()))

    def alert(self, alert: Mapping[str, Any]) -> None:
        """See `Sink.alert`: a text of its step."""
        self._text("alerts", alert["step"], f"{alert['severity']} {alert['rule']}: {alert['text']}")

    def close(self) -> None:
        """See `Sink.close`."""
        self._writer.flush()
        self._writer.close()

    def _add(self, step: int, *values: Any) -> None:
        summary = self._proto.Summary(value=values)
        self._writer.add_event(self._event(step=step, wall_time=time.time(), summary=summary))

    def _text(self, tag: str, step: int, text: str) -> None:
        plugin = self._proto.SummaryMetadata.PluginData(plugin_name="text")
        value = self._proto.Summary.Value(tag=tag, metadata=self._proto.SummaryMetadata(plugin_data=plugin))
        value.tensor.dtype = _STRING
        value.tensor.string_val.append(text.encode("utf-8", "replace"))
        value.tensor.tensor_shape.dim.add(size=1)
        self._add(step, value)
