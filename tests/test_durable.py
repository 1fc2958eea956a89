"""Writes are whole or absent, deletions stay inside run directories, and every operation can be made to fail."""

from __future__ import annotations

import errno
import math
import os
import shutil
import stat
from pathlib import Path

import pytest

from gradus import durable
from tests.faults.tiny_state import at, hook, killed_at, points_of, refuse


def test_a_killed_write_leaves_the_former_content_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    number, contents = 0, []
    while True:
        durable.write_text(path, "old")
        was_killed = killed_at(number, lambda: durable.write_text(path, "new"))
        contents.append(path.read_text())
        if not was_killed:
            break
        number += 1
    assert contents == ["old", "old", "old", "new", "new"]


def test_a_failed_write_leaves_the_former_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    durable.write_text(path, "old")
    for number in range(3):
        with hook(at(number, refuse(errno.EIO))), pytest.raises(OSError, match=os.strerror(errno.EIO)):
            durable.write_text(path, "new")
        assert [entry.name for entry in tmp_path.iterdir()] == ["status.json"]
        assert path.read_text() == "old"


def test_the_operations_of_a_write_are_named_in_their_order(tmp_path: Path) -> None:
    points = points_of(lambda: durable.write_text(tmp_path / "x", "", what="status"))
    assert points == ["status.write", "status.sync", "status.replace", "status.sync"]


def test_without_a_test_the_hook_does_nothing() -> None:
    assert durable.fault_point("any.point") is None
    assert durable.fault_point.__module__ == "gradus.durable"


@pytest.mark.parametrize("value", [math.nan, math.inf, [-math.inf]])
def test_json_is_strict(tmp_path: Path, value: object) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        durable.write_json(tmp_path / "x.json", {"value": value})
    assert list(tmp_path.iterdir()) == []


def test_json_is_ascii(tmp_path: Path) -> None:
    durable.write_json(tmp_path / "x.json", {"text": "é\udc80\u202e"})
    assert (tmp_path / "x.json").read_bytes() == b'{\n  "text": "\\u00e9\\udc80\\u202e"\n}\n'


def test_lines_are_appended_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    durable.append_line(path, "a" * 100_000)
    durable.append_line(path, "b")
    assert path.read_text() == "a" * 100_000 + "\nb\n"


def test_a_torn_line_does_not_swallow_the_next(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("whole\nto")
    durable.append_line(path, "next")
    assert path.read_text() == "whole\nto\nnext\n"


def test_rename_never_replaces(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(AssertionError, match="exists"):
        durable.rename(tmp_path / "a", tmp_path / "b")


def test_folders_are_made_with_their_parents(tmp_path: Path) -> None:
    durable.make_directory(tmp_path / "a/b/c")
    durable.make_directory(tmp_path / "a/b/c")
    assert (tmp_path / "a/b/c").is_dir()


# ---- deletion ----


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    (path / "checkpoints/step_000001/model").mkdir(parents=True)
    (path / "checkpoints/step_000001/model/weights").write_text("w")
    (path / durable.MARKER).write_text("{}")
    return path


def test_nothing_is_removed_outside_a_run_directory(tmp_path: Path, run: Path) -> None:
    (tmp_path / "precious").mkdir()
    for path in (tmp_path / "precious", run, run / "checkpoints/../../precious"):
        with pytest.raises(ValueError, match="not inside a run directory"):
            durable.remove_tree(path)
    assert (tmp_path / "precious").is_dir()
    assert run.is_dir()


def test_nothing_is_removed_through_a_link(tmp_path: Path, run: Path) -> None:
    (tmp_path / "precious/step_000001").mkdir(parents=True)
    (run / "link").symlink_to(tmp_path / "precious")
    with pytest.raises(ValueError, match="not inside a run directory"):
        durable.remove_tree(run / "link/step_000001")
    (run / "checkpoints/step_000001/outside").symlink_to(tmp_path / "precious")
    durable.remove_tree(run / "checkpoints/step_000001")
    durable.remove_tree(run / "link")
    assert not (run / "link").is_symlink()
    assert (tmp_path / "precious/step_000001").is_dir()


def test_a_kill_inside_a_removal_leaves_nothing_under_the_valid_name(run: Path) -> None:
    path = run / "checkpoints/step_000001"
    assert killed_at(2, lambda: durable.remove_tree(path))  # 0: rename, 1: fsync, 2: the removal
    assert not path.exists()
    left = durable.leftovers(run)
    assert [entry.name.startswith(".trash-step_000001-") for entry in left] == [True]
    durable.remove_tree(left[0])
    assert list((run / "checkpoints").iterdir()) == []


def test_removing_what_is_not_there_is_fine(run: Path) -> None:
    durable.remove_tree(run / "checkpoints/step_000009")


# ---- file systems ----


def test_a_place_where_renaming_copies_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    durable.check_renames(tmp_path)

    def copy(self: Path, new: Path) -> None:
        shutil.copytree(self, new)
        shutil.rmtree(self)

    monkeypatch.setattr(Path, "rename", copy)
    with pytest.raises(ValueError, match="renaming a folder copies it") as refused:
        durable.check_renames(tmp_path)
    assert "GRADUS_RUNS_DIR" in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_synced_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def picky(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", picky)
    durable.write_text(tmp_path / "x", "new")
    assert (tmp_path / "x").read_text() == "new"
