"""One trainer per run: a living holder is named, a dead one is replaced, a robbed one stops."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradus import lock
from gradus.exits import Code, Exit
from gradus.rundir import RunDirectory
from gradus.train import checkpoint
from tests.faults.tiny_state import parts_at


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(lock, "WATCH_SECONDS", 0.4)
    monkeypatch.setattr(lock, "SETTLE_SECONDS", 0.05)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run")


def holder_process(run: RunDirectory, *, with_child: bool = False) -> tuple[int, int]:
    """A process that holds the lock until it is killed, and the child that has its files open (0: none)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        RunDirectory.open(run.path).acquire()
        grandchild = os.fork() if with_child else 0
        if with_child and grandchild == 0:
            time.sleep(60)
            os._exit(0)
        os.write(writing, str(grandchild).encode() + b"\n")
        time.sleep(60)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as lines:
        return child, int(lines.readline())


@pytest.fixture
def processes() -> Iterator[list[int]]:
    started: list[int] = []
    yield started
    for pid in started:
        os.kill(pid, signal.SIGKILL)


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def write_holder(run: RunDirectory, **fields: object) -> None:
    holder = {"pid": 1, "host": "pod-7", "boot_id": "b", "token": "t", "heartbeat": 0, **fields}
    (run.path / ".lock").write_text(json.dumps(holder).ljust(511) + "\n")


def test_a_second_process_is_refused_and_told_who_holds_the_lock(run: RunDirectory) -> None:
    holder, _ = holder_process(run)
    with pytest.raises(Exit) as refused:
        run.acquire()
    assert refused.value.code == Code.USAGE
    assert f"in use by process {holder} on {socket.gethostname()}" in refused.value.message
    end(holder)
    run.acquire()
    assert json.loads((run.path / ".lock").read_text())["pid"] == os.getpid()
    run.release()


def test_a_released_lock_is_free_and_empty(run: RunDirectory) -> None:
    for _ in range(2):
        with run.lock():
            run.check_lock()
            run.acquire()  # held already: nothing happens
        assert (run.path / ".lock").read_bytes() == b""
    other = RunDirectory.open(run.path)
    with other.lock(), pytest.raises(Exit):
        run.acquire()


def test_a_child_of_a_dead_holder_does_not_keep_the_lock(run: RunDirectory, processes: list[int]) -> None:
    holder, child = holder_process(run, with_child=True)
    processes.append(child)
    end(holder)
    begin = time.monotonic()
    with run.lock():
        run.check_lock()
        with pytest.raises(Exit):
            RunDirectory.open(run.path).acquire()
    assert time.monotonic() - begin < 5


def test_a_holder_in_another_container_is_alive_while_its_counter_moves(run: RunDirectory) -> None:
    """Its file is locked, its host has our name, and its pid means nothing here."""
    descriptor = os.open(run.path / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    holder = {"host": socket.gethostname(), "boot_id": lock.boot_id(), "pid": 2**22 + 1}
    write_holder(run, **holder)
    child = os.fork()
    if child == 0:
        for beat in range(1, 100):
            time.sleep(0.05)
            write_holder(run, **holder, heartbeat=beat)
        os._exit(0)
    with pytest.raises(Exit, match=f"process {2**22 + 1} on"):
        run.acquire()
    end(child)
    os.close(descriptor)


def test_a_holder_on_another_machine_whose_counter_moves_is_alive(run: RunDirectory) -> None:
    write_holder(run)
    child = os.fork()
    if child == 0:
        for beat in range(1, 100):
            time.sleep(0.05)
            write_holder(run, heartbeat=beat)
        os._exit(0)
    with pytest.raises(Exit) as refused:
        run.acquire()
    end(child)
    assert "process 1 on pod-7" in refused.value.message


def test_a_holder_on_another_machine_whose_counter_stands_still_is_dead(run: RunDirectory) -> None:
    write_holder(run)
    begin = time.monotonic()
    with run.lock():
        assert time.monotonic() - begin >= lock.WATCH_SECONDS
        assert json.loads((run.path / ".lock").read_text())["host"] == socket.gethostname()


def test_what_a_reboot_left_is_dead_at_once(run: RunDirectory) -> None:
    write_holder(run, host=socket.gethostname(), boot_id="before", pid=os.getpid())
    begin = time.monotonic()
    with run.lock():
        assert time.monotonic() - begin < lock.WATCH_SECONDS


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff" * 600, b'{"pid": 1}'])
def test_a_lock_file_without_a_holder_is_free(run: RunDirectory, content: bytes) -> None:
    (run.path / ".lock").write_bytes(content)
    with run.lock():
        run.check_lock()


def test_the_counter_moves_while_the_lock_is_held(run: RunDirectory) -> None:
    with run.lock():
        time.sleep(0.3)
        assert json.loads((run.path / ".lock").read_text())["heartbeat"] >= 2


def test_a_holder_that_lost_the_lock_writes_nothing(run: RunDirectory) -> None:
    run.acquire()
    write_holder(run, host="pod-8", pid=9)
    before = sorted(run.path.rglob("*"))
    for write in (
        lambda: checkpoint.save(run, 1, **parts_at(1)),
        lambda: run.append_metrics({"step": 1}),
        lambda: run.append_alert({"step": 1}),
        lambda: run.write_rollouts(1, []),
        lambda: run.write_evaluation("validation", 1, [], {}),
        lambda: run.update_status(status="failed"),
        lambda: run.log("error", "robbed"),
    ):
        with pytest.raises(Exit, match="taken over by process 9 on pod-8") as robbed:
            write()
        assert robbed.value.code == Code.USAGE
    assert sorted(run.path.rglob("*")) == before
    time.sleep(0.2)
    run.release()
    assert json.loads((run.path / ".lock").read_text())["host"] == "pod-8"  # neither its heartbeat nor its end touch it


def test_a_lock_that_names_nobody_is_waited_for(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "SETTLE_SECONDS", 2.0)
    descriptor = os.open(run.path / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    threading.Timer(0.2, os.close, (descriptor,)).start()
    with run.lock():
        pass


def test_a_lock_that_names_nobody_is_not_waited_for_long(run: RunDirectory) -> None:
    descriptor = os.open(run.path / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(Exit, match="in use by another process"):
        run.acquire()
    os.close(descriptor)


def test_no_process_that_is_started_keeps_the_lock(run: RunDirectory) -> None:
    with run.lock():
        child = os.posix_spawn("/bin/sleep", ["sleep", "30"], {})
    try:
        with run.lock():
            pass
    finally:
        end(child)
