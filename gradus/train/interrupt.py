"""Signals become a question that the loop asks at safe places.

The first SIGINT or SIGTERM is noted; ``poll`` raises at the next safe place, and the run saves and ends with code 75.
The second one ends the process at once, which costs nothing but the work since the last checkpoint. SIGHUP is ignored:
a lost terminal is no reason to stop.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from gradus.exits import Code, Exit

SAME_SIGNAL_SECONDS = 0.1
"""Launchers pass on a Ctrl-C that the terminal has delivered already: two signals within this time are one."""
LAUNCHED_SECONDS = 5.0
"""The same, where a launcher passes signals on to several processes; it takes its time."""


class Interrupted(Exit):
    """The user or the scheduler asks to stop. Nobody needs to catch it: uncaught, it ends the command with 75."""

    def __init__(self, name: str) -> None:
        super().__init__(Code.INTERRUPTED, f"interrupted by {name}", hint="run the same command again to continue")
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels between the processes of a run."""
        return Interrupted, (self.name,)


class Stop:
    """Whether the process was asked to stop.

    Example:
        with catch_signals() as stop:
            with stop.at_once(): policy = load()
            while True: stop.poll(); work()
    """

    def __init__(self) -> None:
        self.signal_name = ""
        """Name of the first signal; empty while there was none."""
        self._seen_seconds = 0.0
        self._is_shielded = False
        self._is_immediate = False
        is_launched = int(os.environ.get("WORLD_SIZE") or 1) > 1
        self._same_signal_seconds = LAUNCHED_SECONDS if is_launched else SAME_SIGNAL_SECONDS

    @property
    def is_asked(self) -> bool:
        """Whether a first signal came."""
        return bool(self.signal_name)

    def seconds(self) -> float:
        """Since the first signal; 0 while there was none."""
        return time.monotonic() - self._seen_seconds if self.signal_name else 0.0

    def poll(self) -> None:
        """Raises Interrupted if a signal came and no ``shielded`` block is open. Call it where leaving is safe."""
        if self.signal_name and not self._is_shielded:
            raise Interrupted(self.signal_name)

    @contextlib.contextmanager
    def shielded(self) -> Iterator[None]:
        """Inside, ``poll`` does not raise: for saves. A second signal still ends the process at once."""
        before, self._is_shielded = self._is_shielded, True
        try:
            yield
        finally:
            self._is_shielded = before

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, a signal raises Interrupted wherever the program is: for work that cannot ask and has nothing to
        lose, as loading a model."""
        self.poll()
        self._is_immediate = True
        try:
            yield
        finally:
            self._is_immediate = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.signal_name:
            self.signal_name, self._seen_seconds = signal.Signals(number).name, now
            if self._is_immediate:
                raise Interrupted(self.signal_name)
        elif now - self._seen_seconds > self._same_signal_seconds:
            os._exit(Code.FORCED)


_active: list[Stop] = []


@contextlib.contextmanager
def catch_signals() -> Iterator[Stop]:
    """Catches SIGINT and SIGTERM and ignores SIGHUP until the end of the ``with``. Inside another one it gives that
    one's answer, so that no signal falls between two. Outside the main thread, where Python allows no handlers, nothing
    is caught and ``poll`` never raises."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    if _active:
        yield _active[-1]
        return
    _active.append(stop)
    former = {number: signal.signal(number, stop._receive) for number in (signal.SIGINT, signal.SIGTERM)}
    former[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield stop
    finally:
        _active.pop()
        for number, handler in former.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
