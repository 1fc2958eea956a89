"""Scorers that may hang, crash or eat memory: a pool of worker processes that can be killed.

A worker is an own process in an own process group, spoken to over pipes in frames of JSON (``worker.py``). No pickle, no
signals in this process, no threads: it works from any thread, from notebooks and beside CUDA. The deadline starts when a
request is written; a worker that misses it is killed with its group and replaced. It is a fault boundary, not a jail.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gradus.tasks.worker import MAX_FRAME_BYTES, encode

MAX_STDERR_BYTES = 4 << 10
MAX_CALLS = 2_000
"""A worker is replaced after so many calls: libraries leak."""
START_SECONDS = 30.0
"""Time to import what the scorer needs; it does not count against the first call."""
BREAKER_WINDOW = 200
BREAKER_MIN_CALLS = 20
BREAKER_FRAC = 0.2
"""Share of timeouts in the window from which on the deadline is a quarter, until the batch ends."""
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request.

    Example:
        Outcome(status="ok", reply={"equal": True}, why="")
    """

    status: Literal["ok", "timeout", "crash", "error"]
    """``timeout``: killed at the deadline. ``crash``: the process died or broke the protocol. ``error``: the scorer
    raised or answered with what is no JSON object."""
    reply: Mapping[str, Any] | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of a worker process; None: none. Where the system has no such limit it is not set."""

    memory_bytes: int | None = 1 << 30
    file_bytes: int | None = 1 << 20
    num_processes: int | None = None
    """New processes; 0 is the only useful number, because the system counts all threads of the user."""


MATH_LIMITS = Limits(memory_bytes=1 << 30, file_bytes=0, num_processes=0)
"""For computer algebra: pure computation needs neither files nor processes."""


class CannotStart(RuntimeError):
    """Workers die before they are ready, twice in a row; the message holds what they said."""


class WorkerPool:
    """Runs a function in worker processes with a deadline per call.

    Example:
        with WorkerPool("my_rewards:score", timeout_seconds=1.0) as pool:
            outcomes = pool.map([{"text": "..."}, {"text": "..."}])
    """

    def __init__(
        self,
        function: str,
        *,
        num_workers: int | None = None,
        timeout_seconds: float = 2.0,
        batch_budget_seconds: float = 60.0,
        limits: Limits | None = None,
        path: Sequence[str] = (),
    ) -> None:
        """``function`` is ``MODULE:FUNCTION``; ``path`` are folders that its module is looked for in."""
        if not 0 < timeout_seconds <= batch_budget_seconds:
            raise ValueError(
                f"timeout_seconds={timeout_seconds} must be above 0 and at most "
                f"batch_budget_seconds={batch_budget_seconds}; raise the budget"
            )
        self.function = function
        self.num_workers = num_workers or min(os.cpu_count() or 1, 8)
        self.timeout_seconds = timeout_seconds
        self.batch_budget_seconds = batch_budget_seconds
        self.limits = limits or Limits()
        self.num_restarts = 0
        """Workers replaced because they were killed, died or had done their calls."""
        self._path = tuple(path)
        self._recent: deque[bool] = deque(maxlen=BREAKER_WINDOW)
        self._lock = threading.Lock()
        self._workers: list[_Worker] = []
        self._pid = os.getpid()
        self._home = tempfile.mkdtemp(prefix="gradus-worker-")
        atexit.register(self.close)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kills all workers. The pool starts new ones if it is used again."""
        if os.getpid() != self._pid:  # a fork of this process: the workers are not its own
            return
        with self._lock:
            for worker in self._workers:
                worker.kill()
            self._workers.clear()
            shutil.rmtree(self._home, ignore_errors=True)

    def call(self, request: Mapping[str, Any]) -> Outcome:
        """One request; see ``map``."""
        return self.map([request])[0]

    def map(self, requests: Sequence[Mapping[str, Any]]) -> list[Outcome]:
        """Outcomes in the order of the requests, whatever the number of workers. ``CannotStart`` if there are none."""
        with self._lock:
            if os.getpid() != self._pid:
                self._workers, self._pid = [], os.getpid()
            Path(self._home).mkdir(exist_ok=True)
            return _Batch(self, requests).run()

    def _start(self) -> _Worker:
        worker = _Worker(self.function, self.limits, self.timeout_seconds, self._home, self._path)
        self._workers.append(worker)
        return worker

    def _retire(self, worker: _Worker) -> None:
        worker.kill()
        self._workers.remove(worker)
        self.num_restarts += 1

    def _is_breaker_open(self) -> bool:
        return len(self._recent) >= BREAKER_MIN_CALLS and sum(self._recent) >= BREAKER_FRAC * len(self._recent)


class _Batch:
    """One call of ``WorkerPool.map``: hands requests to idle workers and watches pipes and clocks."""

    def __init__(self, pool: WorkerPool, requests: Sequence[Mapping[str, Any]]) -> None:
        self.pool = pool
        self.outcomes: list[Outcome | None] = [None] * len(requests)
        self.frames: deque[tuple[int, bytes]] = deque()
        self.ends = time.monotonic() + pool.batch_budget_seconds
        self.timeout = pool.timeout_seconds
        self.num_failed_starts = 0
        for index, request in enumerate(requests):
            frame = encode(request)
            if frame is None:
                self.outcomes[index] = Outcome("crash", None, f"request is over {MAX_FRAME_BYTES} bytes or no JSON")
            else:
                self.frames.append((index, frame))

    def run(self) -> list[Outcome]:
        for worker in list(self.pool._workers):  # one that died or was left idle with output breaks no batch
            if worker.process.poll() is not None:
                self.pool._retire(worker)
        while any(outcome is None for outcome in self.outcomes):
            if time.monotonic() >= self.ends:
                self.give_up()
                break
            self.assign()
            self.wait()
        return [outcome for outcome in self.outcomes if outcome is not None]

    def give_up(self) -> None:
        """The budget of the batch is spent: what is not judged is a timeout."""
        for worker in [worker for worker in self.pool._workers if worker.index is not None]:
            self.pool._retire(worker)
        late = Outcome("timeout", None, f"the batch took more than {self.pool.batch_budget_seconds:g} s")
        self.outcomes = [late if outcome is None else outcome for outcome in self.outcomes]

    def assign(self) -> None:
        """Gives every idle worker a request and starts workers while requests outnumber them."""
        pool = self.pool
        if pool._is_breaker_open():
            self.timeout = min(self.timeout, pool.timeout_seconds / 4)
        num_starting = sum(worker.index is None for worker in pool._workers)
        while len(pool._workers) < pool.num_workers and num_starting < len(self.frames):
            pool._start()
            num_starting += 1
        for worker in pool._workers:
            if self.frames and worker.is_ready and worker.index is None:
                worker.send(*self.frames.popleft(), self.timeout)

    def wait(self) -> None:
        """Waits for the next event of any worker and handles it."""
        now = time.monotonic()
        nearest = min([self.ends, *(worker.deadline for worker in self.pool._workers if worker.is_waited_for)])
        with selectors.DefaultSelector() as selector:
            for worker in self.pool._workers:
                selector.register(worker.out, selectors.EVENT_READ, worker)
                selector.register(worker.err, selectors.EVENT_READ, worker)
                if worker.unsent:
                    selector.register(worker.inp, selectors.EVENT_WRITE, worker)
            events = selector.select(max(0.0, nearest - now))
        for key, _ in events:
            if key.data in self.pool._workers:
                self.handle(key.data, key.fd)
        now = time.monotonic()
        for worker in [worker for worker in self.pool._workers if worker.is_waited_for and now >= worker.deadline]:
            self.end(worker, "timeout", f"no answer in {self.timeout:g} s")

    def handle(self, worker: _Worker, fd: int) -> None:
        """Reads or writes what a pipe is ready for."""
        try:
            if fd == worker.inp:
                worker.flush()
            elif fd == worker.err:
                worker.read_stderr()
            elif (reply := worker.receive()) is not None:
                self.take(worker, reply)
        except (OSError, _Broken) as error:
            self.end(worker, "crash", f"{error or type(error).__name__} {worker.said()}".strip())

    def take(self, worker: _Worker, reply: dict[str, Any]) -> None:
        """A whole frame came: the worker is ready, or it has answered."""
        if worker.index is None:
            self.num_failed_starts = 0
            return
        if "error" in reply and len(reply) == 1:
            self.finish(worker, Outcome("error", None, str(reply["error"])))
        else:
            self.finish(worker, Outcome("ok", reply.get("reply"), ""))
        if worker.num_calls >= MAX_CALLS:
            self.pool._retire(worker)

    def end(self, worker: _Worker, status: Literal["timeout", "crash"], why: str) -> None:
        """Kills a worker; its request, if it has one, gets ``status``."""
        self.pool._retire(worker)
        if worker.index is not None:
            self.finish(worker, Outcome(status, None, why[:500]))
            return
        if worker.is_ready:  # idle: nothing was lost
            return
        self.num_failed_starts += 1
        if self.num_failed_starts > 1:
            raise CannotStart(f"workers for {self.pool.function} do not start: {why[:500]}")

    def finish(self, worker: _Worker, outcome: Outcome) -> None:
        assert worker.index is not None
        self.outcomes[worker.index] = outcome
        worker.index = None
        self.pool._recent.append(outcome.status == "timeout")


class _Broken(Exception):
    """A worker closed its pipe or sent what is no frame."""


class _Worker:
    """One process and its three pipes, all non-blocking."""

    def __init__(self, function: str, limits: Limits, timeout_seconds: float, home: str, path: Sequence[str]) -> None:
        root = str(Path(__file__).resolve().parent.parent.parent)
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join([*path, root, *filter(None, [environment.get("PYTHONPATH")])])
        environment |= {"HOME": home, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
        numbers = (limits.memory_bytes, limits.file_bytes, limits.num_processes, timeout_seconds + 1.0)
        arguments = ["-1" if number is None else str(number) for number in numbers]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gradus.tasks.worker", function, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self.inp, self.out, self.err = (
            stream.fileno() for stream in (self.process.stdin, self.process.stdout, self.process.stderr)
        )
        for fd in (self.inp, self.out, self.err):
            os.set_blocking(fd, False)
        self.inbox = bytearray()
        self.stderr = b""
        self.unsent = b""
        self.is_ready = False
        self.index: int | None = None
        """Which request it works on."""
        self.num_calls = 0
        self.deadline = time.monotonic() + START_SECONDS

    @property
    def is_waited_for(self) -> bool:
        """Whether its deadline runs: it starts, or it works."""
        return not self.is_ready or self.index is not None

    def send(self, index: int, frame: bytes, timeout: float) -> None:
        """Begins a call."""
        self.index = index
        self.num_calls += 1
        self.unsent = frame
        self.deadline = time.monotonic() + timeout
        with contextlib.suppress(OSError):  # a dead worker shows at its output
            self.flush()

    def flush(self) -> None:
        """Writes as much as the pipe takes."""
        with contextlib.suppress(BlockingIOError):
            self.unsent = self.unsent[os.write(self.inp, self.unsent) :]

    def receive(self) -> dict[str, Any] | None:
        """The next whole frame, or None while it is incomplete."""
        try:
            data = os.read(self.out, 1 << 16)
        except BlockingIOError:
            return None
        if not data:
            raise _Broken(f"exit status {self._exit_status()}")
        self.inbox += data
        if len(self.inbox) < 4:
            return None
        length = int.from_bytes(self.inbox[:4], "little")
        if length > MAX_FRAME_BYTES:
            raise _Broken(f"frame of {length} bytes")
        if len(self.inbox) < 4 + length:
            return None
        body = bytes(self.inbox[4 : 4 + length])
        del self.inbox[: 4 + length]
        if self.inbox or (self.is_ready and self.index is None):
            raise _Broken("a frame that nobody asked for")
        try:
            reply = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise _Broken("no JSON") from error
        if not isinstance(reply, dict):
            raise _Broken("no JSON object")
        self.is_ready = True
        return reply

    def read_stderr(self) -> None:
        """Keeps the last few kilobytes of what the worker says."""
        with contextlib.suppress(BlockingIOError):
            data = os.read(self.err, 1 << 16)
            if not data:
                raise _Broken(f"exit status {self._exit_status()}")
            self.stderr = (self.stderr + data)[-MAX_STDERR_BYTES:]

    def _exit_status(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(timeout=1.0)
        return None

    def said(self) -> str:
        """The last line of stderr."""
        lines = self.stderr.decode("utf-8", "replace").strip().splitlines()
        return f"({lines[-1][:200]})" if lines else ""

    def kill(self) -> None:
        """Kills the whole process group and reaps it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(OSError):
                if stream:
                    stream.close()
