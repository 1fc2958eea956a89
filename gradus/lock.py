"""One trainer per run directory: a lock that a dead holder cannot keep, and that a robbed holder notices.

The file holds pid, host, boot id, a random token and a heartbeat counter. On one machine ``flock`` decides, since it
ends with its process. From another machine (a pod that was started again elsewhere) only the counter can tell: one that
does not move for a minute belongs to a dead holder.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import socket
import threading
import time
from pathlib import Path
from typing import Any

from gradus import durable
from gradus.exits import Code, Exit

HEARTBEAT_SECONDS = 15.0
WATCH_SECONDS = 60.0
"""How long the counter of another machine must stand still."""
SETTLE_SECONDS = 0.5
"""A new holder writes its name within this time."""
_SIZE_BYTES = 512


def boot_id() -> str:
    """Changes with each start of the machine; empty where the system does not say."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


class Lock:
    """The lock of one run directory.

    Example:
        lock = Lock(run_path / ".lock"); lock.acquire(); ...; lock.check(); ...; lock.release()
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.token = ""
        self._descriptor = -1
        self._ended = threading.Event()
        self._thread = threading.Thread()
        self._heartbeat = 0

    @property
    def is_held(self) -> bool:
        """Whether this object took the lock and did not give it back."""
        return self._descriptor >= 0

    def acquire(self) -> None:
        """Takes the lock, over a dead holder if need be. Exit(USAGE) names a living one."""
        end = time.monotonic() + SETTLE_SECONDS
        while not self._try(is_patient=time.monotonic() < end):
            time.sleep(SETTLE_SECONDS / 20)
        self._ended.clear()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="gradus-lock")
        self._thread.start()

    def release(self) -> None:
        """Gives the lock back; does nothing when it is not held."""
        if not self.is_held:
            return
        self._ended.set()
        self._thread.join()  # the descriptor's number may belong to another file once it is closed
        with contextlib.suppress(OSError):
            if _read(self._descriptor).get("token") == self.token:
                os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
        self._descriptor = -1

    def check(self) -> None:
        """Exit(USAGE) if another process has taken the lock: the holder must not write any more."""
        if self.is_held and _read_path(self.path).get("token") != self.token:
            holder = _describe(_read_path(self.path))
            raise Exit(
                Code.USAGE,
                f"{self.path.parent} was taken over by {holder}; this process stops without writing",
                hint="let one process train one run",
            )

    def _try(self, *, is_patient: bool) -> bool:
        """One attempt; False: look again. A file that is locked and names nobody is about to change: its new holder has
        not written yet, or a child of the last one is being started and will close it."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if _flock(descriptor):
                if not _is_same_file(descriptor, self.path):
                    return False
                holder = _read(descriptor)
                if holder.get("host", socket.gethostname()) != socket.gethostname():
                    self._refuse_if_moving(holder)
                self._write(descriptor)
            else:
                holder = _read_path(self.path)
                if not holder and is_patient:
                    return False
                if not self._is_dead(holder):
                    self._refuse(holder)
                os.close(descriptor)
                descriptor = self._supplant()
            self._descriptor, descriptor = descriptor, -1
            return True
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _is_dead(self, holder: dict[str, Any]) -> bool:
        """Whether the holder is gone although the file is still locked: a child of it may have the file open. A pid that
        is not here may live in another container of the same name, so the counter decides."""
        if not holder:
            return False
        is_here = (holder["host"], holder["boot_id"]) == (socket.gethostname(), boot_id())
        if is_here and _is_alive(holder["pid"]):
            return False
        self._refuse_if_moving(holder)
        return True

    def _supplant(self) -> int:
        """Puts a new file in the place of one that a dead holder's child keeps locked; returns its descriptor."""
        new = self.path.with_name(durable.unique_name(durable.TEMPORARY, self.path.name))
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        _flock(descriptor)
        self._write(descriptor)
        durable.replace(new, self.path, what="lock")
        time.sleep(SETTLE_SECONDS)  # two may have come this far; the last replace wins
        if not _is_same_file(descriptor, self.path):
            os.close(descriptor)
            self._refuse(_read_path(self.path))
        return descriptor

    def _refuse_if_moving(self, holder: dict[str, Any]) -> None:
        end = time.monotonic() + WATCH_SECONDS
        while time.monotonic() < end:
            time.sleep(min(1.0, WATCH_SECONDS / 4))
            if _read_path(self.path) != holder:
                self._refuse(_read_path(self.path) or holder)

    def _refuse(self, holder: dict[str, Any]) -> None:
        raise Exit(
            Code.USAGE,
            f"{self.path.parent} is in use by {_describe(holder)}; one process trains one run",
            hint="wait for it, stop it, or take another name",
        )

    def _write(self, descriptor: int) -> None:
        self.token, self._heartbeat = secrets.token_hex(16), 0
        os.ftruncate(descriptor, 0)
        self._put(descriptor)

    def _put(self, descriptor: int) -> None:
        text = json.dumps(
            {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "boot_id": boot_id(),
                "token": self.token,
                "heartbeat": self._heartbeat,
            }
        )
        os.pwrite(descriptor, text.ljust(_SIZE_BYTES - 1).encode() + b"\n", 0)

    def _beat(self) -> None:
        """Runs in its own thread: moves the counter until the lock is released or lost."""
        while not self._ended.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError):  # a beat that could not be written is missed; the next one tries again
                if _read(self._descriptor).get("token") != self.token:
                    return
                self._heartbeat += 1
                self._put(self._descriptor)


def _flock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _read(descriptor: int) -> dict[str, Any]:
    return _parse(os.pread(descriptor, _SIZE_BYTES, 0))


def _read_path(path: Path) -> dict[str, Any]:
    try:
        return _parse(path.read_bytes())
    except FileNotFoundError:
        return {}


def _parse(data: bytes) -> dict[str, Any]:
    """Content of a lock file; empty where it is free or not readable as ours."""
    try:
        holder = json.loads(data)
        return {key: holder[key] for key in ("pid", "host", "boot_id", "token", "heartbeat")}
    except (ValueError, KeyError, TypeError):
        return {}


def _describe(holder: dict[str, Any]) -> str:
    return f"process {holder['pid']} on {holder['host']}" if holder else "another process"
