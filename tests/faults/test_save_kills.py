"""Killed before any file operation of saving and pruning: the checkpoints there stay, half of one never shows."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gradus import durable
from gradus.rundir import RunDirectory
from gradus.train import checkpoint
from tests.faults.tiny_state import (
    assert_state_of,
    in_child,
    killed_at,
    load,
    naive_load,
    naive_save,
    points_of,
    prune,
    save,
)

Save = Callable[[RunDirectory, int], None]
Load = Callable[[RunDirectory], Any]


def check_kills(folder: Path, save: Save, load: Load) -> int:
    """Kills a third save, with pruning, before each of its operations; returns how many there were."""
    before = RunDirectory.create(folder / "before")
    save(before, 1)
    save(before, 2)
    number = 0
    while True:
        path = folder / f"killed_{number}"
        shutil.copytree(before.path, path)
        run = RunDirectory.open(path)

        def third(run: RunDirectory = run) -> None:
            save(run, 3)
            prune(run)

        was_killed = killed_at(number, third)
        loaded = load(run)
        assert loaded is not None, f"no checkpoint after a kill at operation {number}"
        assert loaded[0] >= 2, f"went back to step {loaded[0]} after a kill at operation {number}"
        assert_state_of(loaded)
        run.sweep()
        assert not list(run.path.rglob(".t*-*")), "something unfinished survives the sweep"
        save(run, 3)  # the same save again succeeds
        assert_state_of(load(run))
        assert load(run)[0] == 3
        if not was_killed:
            return number
        number += 1


def test_a_kill_before_any_operation_leaves_the_newest_committed_checkpoint(tmp_path: Path) -> None:
    num_operations = check_kills(tmp_path, save, load)
    assert num_operations >= 20  # a save that reports fewer operations hides some


def test_the_check_fails_for_a_saver_that_writes_in_place(tmp_path: Path) -> None:
    with pytest.raises((AssertionError, OSError, ValueError)):
        check_kills(tmp_path, naive_save, naive_load)


def test_a_checkpoint_gets_its_name_after_everything_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a power loss can tear is what was not forced to the disk: at the rename, nothing of the checkpoint is."""
    run = RunDirectory.create(tmp_path / "run")
    synced: set[int] = set()
    fsync, rename = os.fsync, durable.rename
    renamed: list[Path] = []

    def note(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def check(old: Path, new: Path, *, what: str = "file") -> None:
        everything = [old, *old.rglob("*")]
        assert len(everything) == 8  # folder, model/, three files in it, two of the trainer, manifest
        assert not [path for path in everything if path.stat().st_ino not in synced]
        synced.clear()
        rename(old, new, what=what)
        assert new.parent.stat().st_ino in synced
        renamed.append(new)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(durable, "rename", check)
    save(run, 1)
    assert [path.name for path in renamed] == ["step_000001"]


def test_the_order_of_a_save(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run")
    points = points_of(lambda: save(run, 1))
    ordered = ["model.write", "tensors.write", "state.write", "manifest.write", "checkpoint.rename", "latest.write"]
    assert [point for point in points if point in ordered] == ordered
    assert points.index("checkpoint.rename") < len(points) - 1 - points[::-1].index("checkpoint.sync")


def test_a_kill_inside_pruning_never_removes_more_than_it_should(tmp_path: Path) -> None:
    """With three invalid newer folders: they do not count, and at least two whole checkpoints are always there."""
    before = RunDirectory.create(tmp_path / "before")
    for step in range(1, 8):
        save(before, step)
    for step in (5, 6, 7):
        (before.checkpoints / f"step_{step:06d}" / "trainer.json").unlink()
    number, num_removed = 0, set()
    while True:
        shutil.copytree(before.path, tmp_path / str(number))
        run = RunDirectory.open(tmp_path / str(number))
        was_killed = killed_at(number, lambda run=run: prune(run))
        whole = [
            s for s in checkpoint.steps(run) if checkpoint.defect(run.checkpoints / f"step_{s:06d}", "hash") is None
        ]
        assert set(whole) >= {3, 4}
        assert set(checkpoint.steps(run)) >= {5, 6, 7}
        num_removed.add(4 - len(whole))
        run.sweep()
        assert checkpoint.steps(run) == [*whole, 5, 6, 7]
        if not was_killed:
            break
        number += 1
    assert num_removed == {0, 1, 2}


def test_a_signal_between_any_two_operations_leaves_the_checkpoint_whole_or_absent(tmp_path: Path) -> None:
    """Without a handler: the process is gone at once, wherever it is."""
    number, outcomes = 0, set()
    while True:
        run = RunDirectory.create(tmp_path / str(number))

        def terminated(run: RunDirectory = run, number: int = number) -> None:
            left = [number]

            def count(point: str) -> None:
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGTERM)
                left[0] -= 1

            durable.fault_point = count
            save(run, 1)

        status = in_child(terminated)
        loaded = load(run) if checkpoint.steps(run) else None
        if loaded is not None:
            assert_state_of(loaded)
        outcomes.add(loaded is not None)
        if status == 0:
            break
        assert status == -signal.SIGTERM
        number += 1
    assert outcomes == {True, False}
