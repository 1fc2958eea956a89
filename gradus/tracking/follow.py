"""Feeds one tracker from a run's records: what `gradus track` does, and the process beside a training run.

How far a tracker has got stands in ``tracking/<sink>.json`` of the run, so that a resumed run continues the same
curves, and a tracker that was cut off can be given the rest later. Rows that a run takes back (after a crash it goes
on from a checkpoint) are equal to those that replace them and are not sent twice.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gradus import durable, yaml12
from gradus.jsonl import parse_line, read_json
from gradus.rundir import RunDirectory
from gradus.tracking.sinks import SINKS, RunFacts, Sink, check_installed, series

POLL_SECONDS = 1.0
SAVE_SECONDS = 10.0
"""Between two notes of how far the tracker has got."""


def track(run: RunDirectory, name: str, *, is_over: Callable[[], bool] = lambda: True) -> dict[str, Any]:
    """Sends the records of ``run`` to tracker ``name`` until ``is_over`` says that no more will come.

    Returns ``{"sink", "tracker_run", "step", "num_steps_sent"}``. ValueError where the tracker is not installed; what the
    tracker itself raises comes through.
    """
    check_installed(name)
    with contextlib.redirect_stdout(sys.stderr):  # trackers talk, and stdout is for the answer
        return feed(SINKS[name](), run, name, is_over=is_over)


def feed(sink: Sink, run: RunDirectory, name: str, *, is_over: Callable[[], bool]) -> dict[str, Any]:
    """As `track`, with a tracker that is there already."""
    folder = run.path / "tracking"
    durable.make_directory(folder, what="tracking")
    place = folder / f"{name}.json"
    got: dict[str, Any] = {"tracker_run": None, "step": -1, "num_alerts": 0}
    if place.is_file():
        got |= read_json(place)
    resolved = yaml12.read((run.path / "resolved.yaml").read_bytes(), "resolved.yaml").value
    got["tracker_run"] = sink.open(
        RunFacts(
            name=run.path.name,
            project=(resolved.get("tracking") or {}).get("project") or "gradus",
            folder=run.path,
            config=resolved,
            tracker_run=got["tracker_run"],
        )
    )
    durable.write_json(place, got, what="tracking")
    rows, alerts = Tail(run.metrics), Tail(run.alerts)
    num_sent, num_alerts_seen, saved = 0, 0, time.monotonic()
    while True:
        is_last = is_over()  # asked before reading: what was written until then is read below
        for row in rows.new():
            if row["step"] > got["step"]:
                sink.log(row["step"], series(row))
                got["step"], num_sent = row["step"], num_sent + 1
        for alert in alerts.new():
            num_alerts_seen += 1
            if num_alerts_seen > got["num_alerts"]:
                sink.alert(alert)
                got["num_alerts"] = num_alerts_seen
        if is_last:
            break
        if time.monotonic() - saved > SAVE_SECONDS:
            durable.write_json(place, got, what="tracking")
            saved = time.monotonic()
        time.sleep(POLL_SECONDS)
    sink.close()
    durable.write_json(place, got, what="tracking")
    return {"sink": name, "tracker_run": got["tracker_run"], "step": got["step"], "num_steps_sent": num_sent}


class Tail:
    """New whole lines of a file of JSON objects that another process appends to, and may cut short.

    Example:
        tail = Tail(run.metrics); rows = list(tail.new())
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new(self) -> Iterator[dict[str, Any]]:
        """Yields what was written since the last call; after a cut the file from its beginning. Torn lines are skipped."""
        if not self._path.is_file():
            return
        with self._path.open("rb") as file:
            if file.seek(0, 2) < self._offset:
                self._offset = 0
            file.seek(self._offset)
            data = file.read()
        end = data.rfind(b"\n") + 1
        self._offset += end
        for line in data[:end].splitlines():
            if (row := parse_line(line)) is not None:
                yield row


def stdin_is_closed() -> Callable[[], bool]:
    """Whether the other end of stdin is gone: the process that started this one has ended, or said that it is over."""
    ended = threading.Event()

    def wait() -> None:
        sys.stdin.buffer.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    return ended.is_set
