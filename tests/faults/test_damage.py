"""Damaged checkpoints: the newest whole one is used, what was passed over is named, never part of a state is loaded."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gradus.exits import Code, Exit
from gradus.rundir import RunDirectory
from gradus.train import checkpoint
from tests.faults.tiny_state import assert_state_of, load, naive_load, naive_save, save

Save = Callable[[RunDirectory, int], None]
Load = Callable[[RunDirectory], Any]
SEED = 20260101


def two_checkpoints(folder: Path, save: Save = save) -> RunDirectory:
    run = RunDirectory.create(folder)
    save(run, 1)
    save(run, 2)
    return run


def files_of(run: RunDirectory, step: int) -> list[Path]:
    return sorted(path for path in (run.checkpoints / f"step_{step:06d}").rglob("*") if path.is_file())


def truncations(path: Path) -> list[bytes]:
    data = path.read_bytes()
    return [data[:length] for length in sorted({0, 1, len(data) // 2, len(data) - 1}) if length < len(data)]


def bit_flips(path: Path) -> list[bytes]:
    chooser = random.Random(f"{SEED} {path.name}")
    flipped = []
    for _ in range(5):
        data = bytearray(path.read_bytes())
        data[chooser.randrange(len(data))] ^= 1 << chooser.randrange(8)
        flipped.append(bytes(data))
    return flipped


def check_damage(folder: Path, save: Save, load: Load, damage: Callable[[Path], list[bytes]]) -> None:
    """Each damage to each file of the newest checkpoint: the one before is loaded, whole."""
    run = two_checkpoints(folder, save)
    for path in files_of(run, 2):
        good = path.read_bytes()
        for number, bad in enumerate(damage(path)):
            path.write_bytes(bad)
            loaded = load(run)
            assert loaded[0] == 1, f"damage {number} of {path.name} (seed {SEED}) went unseen"
            assert_state_of(loaded)
        path.write_bytes(good)
    assert load(run)[0] == 2


@pytest.mark.parametrize("damage", [truncations, bit_flips])
def test_a_damaged_file_is_seen_and_the_checkpoint_before_is_used(tmp_path: Path, damage: Any) -> None:
    check_damage(tmp_path / "run", save, load, damage)


@pytest.mark.parametrize("damage", [truncations, bit_flips])
def test_the_check_fails_for_a_saver_without_manifest(tmp_path: Path, damage: Any) -> None:
    with pytest.raises((AssertionError, ValueError, OSError, checkpoint.SafetensorError)):
        check_damage(tmp_path / "run", naive_save, naive_load, damage)


def test_a_deleted_file_is_seen(tmp_path: Path) -> None:
    run = two_checkpoints(tmp_path / "run")
    for path in files_of(run, 2):
        good = path.read_bytes()
        path.unlink()
        found, reasons = checkpoint.load_newest(run, verify="hash")
        assert found is not None
        assert found.step == 1
        name = path.relative_to(run.checkpoints / "step_000002").as_posix()
        assert reasons == [f"skipped step_000002: {name} is missing"]
        path.write_bytes(good)


def test_the_reason_says_which_file_and_how_much_of_it(tmp_path: Path) -> None:
    run = two_checkpoints(tmp_path / "run")
    path = run.checkpoints / "step_000002/trainer.safetensors"
    size = path.stat().st_size
    os.truncate(path, size // 2)
    _, reasons = checkpoint.load_newest(run, verify="size")
    assert reasons == [f"skipped step_000002: trainer.safetensors is {size // 2} of {size} bytes"]


def test_verification_by_size_sees_sizes_only(tmp_path: Path) -> None:
    run = two_checkpoints(tmp_path / "run")
    path = run.checkpoints / "step_000002/model/tokenizer.json"
    path.write_bytes(b"[]")
    assert checkpoint.load_newest(run, verify="size")[0].step == 2  # type: ignore[union-attr]
    assert checkpoint.load_newest(run, verify="hash")[0].step == 1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "not readable JSON"),
        ('{"files": {}}', "its own hash"),
        ("{", "not readable JSON"),
        ("[" * 100_000, "not readable JSON"),
        ("\udcff", "not readable"),
    ],
)
def test_a_manifest_of_another_shape_is_no_proof(tmp_path: Path, text: str, reason: str) -> None:
    run = two_checkpoints(tmp_path / "run")
    (run.checkpoints / "step_000002/MANIFEST.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    found, reasons = checkpoint.load_newest(run, verify="hash")
    assert found is not None
    assert found.step == 1
    assert reason in reasons[0]


def test_a_copy_under_another_step_is_refused(tmp_path: Path) -> None:
    run = two_checkpoints(tmp_path / "run")
    shutil.copytree(run.checkpoints / "step_000002", run.checkpoints / "step_000009")
    found, reasons = checkpoint.load_newest(run, verify="hash")
    assert found is not None
    assert found.step == 2
    assert reasons == ["skipped step_000009: MANIFEST.json is of step 2"]


def test_all_damaged_is_an_exit_with_every_reason(tmp_path: Path) -> None:
    run = two_checkpoints(tmp_path / "run")
    (run.checkpoints / "step_000001/trainer.json").unlink()
    (run.checkpoints / "step_000002/MANIFEST.json").write_bytes(b"")
    with pytest.raises(Exit) as ended:
        checkpoint.load_newest(run, verify="hash")
    assert ended.value.code == Code.NOTHING_USABLE
    assert "skipped step_000002: MANIFEST.json is not readable JSON" in ended.value.message
    assert "skipped step_000001: trainer.json is missing" in ended.value.message
    assert "--from-scratch" in ended.value.hint


@pytest.mark.parametrize("content", [b"", b"garbage\xff", b"step_000777\n", b"step_000001\n", None])
def test_latest_is_only_a_hint(tmp_path: Path, content: bytes | None) -> None:
    run = two_checkpoints(tmp_path / "run")
    latest = run.checkpoints / "latest"
    latest.unlink() if content is None else latest.write_bytes(content)
    loaded = load(run)
    assert loaded is not None
    assert loaded[0] == 2
    save(run, 2)  # there already; the pointer is repaired
    assert latest.read_text() == "step_000002\n"


def test_neither_times_of_files_nor_the_clock_choose(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run")
    for step in (1, 2, 3, 4):
        save(run, step)
    for step, seconds in ((1, 4e9), (2, 1.0), (3, 2e9), (4, 0.0)):
        folder = run.checkpoints / f"step_{step:06d}"
        for path in [*folder.rglob("*"), folder]:
            os.utime(path, (seconds, seconds))
    loaded = load(run)
    assert loaded is not None
    assert loaded[0] == 4
    assert checkpoint.prune(run, keep_last=2, keep_every_steps=None, best_step=None) == [2, 1]


def test_a_defective_checkpoint_makes_room_for_a_new_one_of_its_step(tmp_path: Path) -> None:
    run = two_checkpoints(tmp_path / "run")
    (run.checkpoints / "step_000002/trainer.json").write_bytes(b"?")
    save(run, 2)
    loaded = load(run)
    assert loaded is not None
    assert loaded[0] == 2
    assert_state_of(loaded)
    kept = [path.name for path in run.checkpoints.glob(".bad-*")]
    assert len(kept) == 1
    assert re.fullmatch(r"\.bad-step_000002-\d+-[0-9a-f]{8}", kept[0])
