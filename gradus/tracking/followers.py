"""The tracker processes beside a training run: started, looked at, and waited for at the end, never longer than allowed.

They share nothing with training but the run's files: a tracker that raises, hangs, dies or finds no network costs a
warning. The pipe to their stdin tells them when the run is over, also where the run was killed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from gradus import durable
from gradus.redaction import redact
from gradus.rundir import RunDirectory
from gradus.tracking.sinks import check_installed

FINISH_SECONDS = 20.0
"""How long the end of a run waits for its trackers, all together."""
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
"""A tracker computes nothing; it must not take threads or a GPU from the run."""


class Followers:
    """One process per tracker.

    Example:
        followers = Followers(run, ["tensorboard"], warn=print)
        ...; followers.check(); ...; followers.finish()
    """

    def __init__(
        self,
        run: RunDirectory,
        sinks: Sequence[str],
        *,
        finish_seconds: float = FINISH_SECONDS,
        warn: Callable[[str], None],
    ) -> None:
        """ValueError where a tracker's package is missing."""
        self._run, self._finish_seconds, self._warn = run, finish_seconds, warn
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in sinks:
            check_installed(name)
        for name in sinks:
            self._start(name)

    def _start(self, name: str) -> None:
        folder = self._run.path / "tracking"
        try:
            durable.make_directory(folder, what="tracking")
            log = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            try:
                self._processes[name] = subprocess.Popen(
                    [sys.executable, "-m", "gradus", "track", str(self._run.path), "--sink", name, "--follow"],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **_ENVIRONMENT},
                    start_new_session=True,  # Ctrl-C is for the run
                )
            finally:
                os.close(log)
        except OSError as error:
            self._warn(f"tracker {name} could not be started ({error}); the run goes on without it")

    def check(self) -> None:
        """Says once which trackers have ended before the run. Costs some microseconds."""
        for name, process in list(self._processes.items()):
            if process.poll() is not None:
                del self._processes[name]
                self._close(process)
                self._warn(f"tracker {name} has ended ({self._reason(name)}); the run goes on. {self._later(name)}")

    def finish(self) -> None:
        """Lets the trackers take the last rows; ends those that need longer than ``finish_seconds`` altogether."""
        for process in self._processes.values():
            self._close(process)
        deadline = time.monotonic() + self._finish_seconds
        for name, process in self._processes.items():
            try:
                code = process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                self._warn(f"tracker {name} was not done after {self._finish_seconds:g} s. {self._later(name)}")
                continue
            if code != 0:
                self._warn(f"tracker {name} has failed ({self._reason(name)}). {self._later(name)}")
        self._processes.clear()

    @staticmethod
    def _close(process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()

    def _reason(self, name: str) -> str:
        """The last line that it wrote."""
        try:
            text = (self._run.path / "tracking" / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        except OSError:
            text = ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return redact(lines[-1][:200]) if lines else "it said nothing"

    def _later(self, name: str) -> str:
        return f"What it has not got: gradus track {self._run.path} --sink {name}"
