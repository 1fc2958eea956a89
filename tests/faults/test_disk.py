"""Disks that are full, broken or read-only: what was saved stays, nothing half is left, the next save works."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gradus import durable
from gradus.exits import Code, Exit
from gradus.rundir import RunDirectory
from gradus.train import checkpoint
from gradus.train.checkpoint import Saver
from tests.faults.tiny_state import (
    DISK_ERRNOS,
    assert_state_of,
    at,
    hook,
    in_child,
    load,
    parts_at,
    points_of,
    refuse,
    save,
)


def contents(run: RunDirectory) -> list[str]:
    return sorted(path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file())


def test_an_error_at_any_operation_of_a_save_leaves_nothing_and_the_next_save_works(tmp_path: Path) -> None:
    template = RunDirectory.create(tmp_path / "template")
    save(template, 1)
    points = points_of(lambda: save(template, 2))
    num_operations = len(points)
    for code in DISK_ERRNOS:
        run = RunDirectory.create(tmp_path / errno.errorcode[code])
        run.warn = lambda text: None
        save(run, 1)
        num_failed = 0
        for number in range(num_operations):
            step = 2 + number
            with hook(at(number, refuse(code))):
                try:
                    save(run, step)
                except OSError as error:
                    assert error.errno == code
                    num_failed += 1
            loaded = load(run)
            assert loaded is not None
            assert loaded[0] in (step - 1, step)
            assert_state_of(loaded)
            assert not list(run.path.rglob(".t*-*")), f"left behind after an error at operation {number}"
            save(run, step)
        assert num_failed == len([point for point in points if not point.startswith(("latest.", "status."))])
        assert load(run)[0] == 1 + num_operations  # type: ignore[index]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def large_parts(step: int) -> dict[str, object]:
    """A checkpoint of 0.7 MB: three of them do not fit."""
    return {**parts_at(step), "tensors": {"optimizer.exp_avg": torch.full((180_000,), float(step))}}


def test_a_full_disk_keeps_what_is_there_and_ends_the_run_at_the_third_refusal(small_disk: Path) -> None:
    run = RunDirectory.create(small_disk / "run")
    warnings: list[str] = []
    run.warn = warnings.append
    saver = Saver(run, warn=warnings.append)
    assert saver.save(10, **large_parts(10))
    assert saver.save(20, **large_parts(20))
    before = contents(run)
    assert saver.save(30, **large_parts(30)) is None
    assert saver.save(40, **large_parts(40)) is None
    assert contents(run) == before
    assert "step 30 could not be saved" in warnings[0]
    assert "the checkpoint of step 20 is intact" in warnings[0]
    with pytest.raises(Exit) as ended:
        saver.save(50, **large_parts(50))
    assert ended.value.code == Code.MACHINE
    assert saver.num_failed == 3
    found, _ = checkpoint.load_newest(run, verify="hash")
    assert found is not None
    assert found.step == 20
    durable.remove_tree(run.checkpoints / "step_000010")
    assert Saver(run, warn=warnings.append).save(50, **large_parts(50))
    assert checkpoint.load_newest(run, verify="hash")[0].step == 50  # type: ignore[union-attr]


def test_a_success_forgives_the_failures_before(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run")
    saver = Saver(run, warn=lambda text: None)
    for step in range(1, 8):
        if step in (3, 6):
            assert saver.save(step, **parts_at(step))
            continue
        with hook(at(0, refuse(errno.ENOSPC))):
            assert saver.save(step, **parts_at(step)) is None
    assert saver.num_failed == 5
    assert saver.durable_step == 6


def test_an_error_that_is_not_the_disks_is_not_swallowed(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run")
    with hook(at(3, refuse(errno.ENOENT))), pytest.raises(FileNotFoundError):
        Saver(run, warn=lambda text: None).save(1, **parts_at(1))


def test_the_limit_on_file_sizes_is_an_error_of_the_disk(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run")
    save(run, 1)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        warnings: list[str] = []
        assert Saver(run, warn=warnings.append, durable_step=1).save(2, **large_parts(2)) is None
        assert "File too large" in warnings[0], warnings

    assert in_child(limited) == 0
    assert load(run)[0] == 1  # type: ignore[index]
    assert not list(run.path.rglob(".t*-*"))


def test_a_line_that_does_not_fit_is_taken_back(tmp_path: Path) -> None:
    """Half a line would swallow the next one."""
    run = RunDirectory.create(tmp_path / "run")
    run.append_metrics({"step": 1})
    size = run.metrics.stat().st_size

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5, size + 5))
        warnings: list[str] = []
        run.warn = warnings.append
        run.append_metrics({"step": 2})
        run.append_metrics({"step": 3})
        assert run.num_failed_writes == {"metrics": 2}
        assert len(warnings) == 1, warnings

    assert in_child(limited) == 0
    assert run.metrics.stat().st_size == size
    run.append_metrics({"step": 4})
    assert run.metrics.read_text() == '{"step":1}\n{"step":4}\n'


@pytest.mark.parametrize("code", DISK_ERRNOS)
def test_records_that_the_disk_refuses_are_counted_and_never_raise(tmp_path: Path, code: int) -> None:
    run = RunDirectory.create(tmp_path / "run")
    warnings: list[str] = []
    run.warn = warnings.append
    with hook(refuse(code)):
        for step in (1, 2, 3):
            run.append_metrics({"step": step})
            run.append_alert({"step": step})
            run.log("info", "hello")
            run.write_rollouts(step, [{"text": "x"}])
            run.update_status(step=step)
    assert run.num_failed_writes == dict.fromkeys(("metrics", "alerts", "events", "rollouts", "status"), 3)
    assert len(warnings) == 5
    assert all(os.strerror(code) in text for text in warnings)
    run.append_metrics({"step": 4})
    assert run.metrics.read_text() == '{"step":4}\n'


def test_an_evaluation_that_the_disk_refuses_raises(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run")
    with hook(refuse(errno.ENOSPC)), pytest.raises(OSError, match="No space"):
        run.write_evaluation("validation", 0, [], {})
    assert run.evaluation_steps("validation") == []


def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "readonly"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no read-only file system can be mounted here: {done.stderr.strip()}")
    begin = time.monotonic()
    try:
        with pytest.raises(Exit) as ended:
            RunDirectory.create(folder / "run")
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    assert ended.value.code == Code.USAGE
    assert "Read-only file system" in ended.value.message
    assert time.monotonic() - begin < 2
