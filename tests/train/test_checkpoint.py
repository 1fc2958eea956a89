"""Checkpoints: bit by bit what was saved, finite, strict, and pruned by the rules."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from gradus.exits import Code, Exit
from gradus.rundir import RunDirectory
from gradus.train import checkpoint
from tests.faults.tiny_state import parts_at, save


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run")


def test_what_is_loaded_is_what_was_saved_bit_by_bit(run: RunDirectory) -> None:
    shared = torch.arange(6.0)
    tensors = {
        "shared": shared,
        "shared again": shared,
        "shared in part": shared[2:4],
        "float32": torch.randn(3, 5),
        "bfloat16": torch.randn(7).to(torch.bfloat16),
        "float16": torch.randn(2, 2).half(),
        "float64": torch.tensor(math.pi, dtype=torch.float64),
        "int64": torch.tensor([-(2**63), 2**63 - 1]),
        "uint8": torch.get_rng_state(),
        "bool": torch.tensor([True, False]),
        "empty": torch.empty(0, 4),
        "not contiguous": torch.arange(12.0).view(3, 4).t(),
        "with gradient": torch.ones(2, requires_grad=True),
        "negative zero": torch.tensor([-0.0, 1e-45]),
    }
    state = {"big": 2**70, "float": 0.1 + 0.2, "nested": [None, True, {"ü": "\udc80"}], "tiny": 5e-324}
    checkpoint.save(run, 7, **{**parts_at(7), "tensors": tensors, "state": state})
    found, reasons = checkpoint.load_newest(run, verify="hash")
    assert found is not None
    assert reasons == []
    assert found.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        loaded = found.tensors[name]
        assert (loaded.dtype, loaded.shape) == (tensor.dtype, tensor.shape), name
        expected = tensor.detach().contiguous().view(-1).view(torch.uint8)
        assert torch.equal(loaded.contiguous().view(-1).view(torch.uint8), expected), name
    assert found.state == state
    assert (found.step, found.path) == (7, run.checkpoints / "step_000007")


def test_what_was_loaded_does_not_change_with_the_file(run: RunDirectory) -> None:
    save(run, 1)
    found, _ = checkpoint.load_newest(run, verify="hash")
    assert found is not None
    before = found.tensors["optimizer.exp_avg"].clone()
    with (found.path / "trainer.safetensors").open("r+b") as file:
        file.seek(-64, 2)
        file.write(b"\xff" * 64)
    assert torch.equal(found.tensors["optimizer.exp_avg"], before)


def test_the_manifest_lists_every_file_with_its_size_and_hash(run: RunDirectory) -> None:
    run.append_metrics({"step": 1})
    path = checkpoint.save(run, 1, **parts_at(1))
    manifest = json.loads((path / "MANIFEST.json").read_text())
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.name != "MANIFEST.json")
    assert manifest["files"] == {
        file.relative_to(path).as_posix(): {
            "bytes": len(file.read_bytes()),
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
        for file in files
    }
    assert len(files) == 5
    assert manifest["schema"] == "gradus.checkpoint/1"
    assert manifest["step"] == 1
    assert manifest["data_fingerprint"] == "d0"
    assert manifest["record_lengths"] == {"metrics.jsonl": 11, "alerts.jsonl": 0}


def test_nothing_yet_is_no_error(run: RunDirectory) -> None:
    assert checkpoint.load_newest(run, verify="hash") == (None, [])
    assert checkpoint.steps(run) == []
    assert checkpoint.prune(run, keep_last=2, keep_every_steps=None, best_step=None) == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_state_that_is_not_finite_is_never_written(run: RunDirectory, value: float) -> None:
    def write_model(folder: Path) -> None:
        save_file({"weight": torch.tensor([1.0, value], dtype=torch.bfloat16)}, folder / "model.safetensors")

    save(run, 1)
    bad_tensor = {"optimizer.exp_avg": torch.tensor([1.0, value])}
    for bad, name in (({"write_model": write_model}, "weight"), ({"tensors": bad_tensor}, "optimizer.exp_avg")):
        with pytest.raises(Exit, match=f"step 2 is not saved: {name} has values that are not finite") as refused:
            checkpoint.save(run, 2, **{**parts_at(2), **bad})
        assert refused.value.code == Code.DIVERGED
    with pytest.raises(ValueError, match="not JSON compliant"):
        checkpoint.save(run, 2, **{**parts_at(2), "state": {"baseline": value}})
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["latest", "step_000001"]


def test_an_error_of_the_caller_leaves_nothing(run: RunDirectory) -> None:
    def write_model(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        checkpoint.save(run, 1, **{**parts_at(1), "write_model": write_model})
    assert list(run.checkpoints.iterdir()) == []


def test_a_checkpoint_that_is_there_is_kept(run: RunDirectory) -> None:
    path = checkpoint.save(run, 1, **parts_at(1))
    before = (path / "MANIFEST.json").stat().st_mtime_ns
    calls: list[Path] = []
    assert checkpoint.save(run, 1, **{**parts_at(1), "write_model": calls.append}) == path
    assert calls == []
    assert (path / "MANIFEST.json").stat().st_mtime_ns == before


def test_steps_are_numbers_not_text(run: RunDirectory) -> None:
    for step in (999_999, 1_000_000, 5):
        save(run, step)
    (run.checkpoints / "step_12").mkdir()
    (run.checkpoints / "step_000007.txt").write_text("")
    assert checkpoint.steps(run) == [5, 999_999, 1_000_000]
    assert checkpoint.load_newest(run, verify="hash")[0].step == 1_000_000  # type: ignore[union-attr]


def test_the_status_names_the_newest_checkpoint(run: RunDirectory) -> None:
    save(run, 4)
    assert run.status()["checkpoint_step"] == 4


def test_the_model_of_a_step(run: RunDirectory) -> None:
    save(run, 5)
    save(run, 10)
    assert checkpoint.model_folder(run, 5) == run.checkpoints / "step_000005/model"
    with pytest.raises(ValueError, match=r"run has no checkpoint of step 7; there are: \[5, 10\]"):
        checkpoint.model_folder(run, 7)
    (run.checkpoints / "step_000005/model/config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"step_000005 is not whole: model/config\.json is 2 of"):
        checkpoint.model_folder(run, 5)


# ---- pruning ----


def make(run: RunDirectory, steps: list[int], defective: set[int] = frozenset()) -> None:  # type: ignore[assignment]
    for step in steps:
        save(run, step)
        if step in defective:
            (run.checkpoints / f"step_{step:06d}/trainer.json").unlink()


@pytest.mark.parametrize(
    ("options", "defective", "left"),
    [
        ({}, set(), [5, 6]),
        ({"keep_last": 3}, set(), [4, 5, 6]),
        ({"keep_last": 9}, set(), [1, 2, 3, 4, 5, 6]),
        ({"best_step": 2}, set(), [2, 5, 6]),
        ({"best_step": 6}, set(), [5, 6]),
        ({"best_step": 77}, set(), [5, 6]),
        ({"keep_every_steps": 3}, set(), [3, 5, 6]),
        ({"keep_every_steps": 2, "best_step": 1}, set(), [1, 2, 4, 5, 6]),
        ({}, {5, 6}, [3, 4, 5, 6]),
        ({}, {1, 3}, [1, 3, 5, 6]),
        ({}, {1, 2, 3, 4, 6}, [1, 2, 3, 4, 5, 6]),
    ],
)
def test_what_pruning_leaves(run: RunDirectory, options: dict[str, Any], defective: set[int], left: list[int]) -> None:
    make(run, [1, 2, 3, 4, 5, 6], defective)
    options = {"keep_last": 2, "keep_every_steps": None, "best_step": None, **options}
    removed = checkpoint.prune(run, **options)
    assert checkpoint.steps(run) == left
    assert sorted([*removed, *left]) == [1, 2, 3, 4, 5, 6]
    assert checkpoint.prune(run, **options) == []


def test_one_checkpoint_is_not_enough(run: RunDirectory) -> None:
    with pytest.raises(ValueError, match="keep_last=1 is too small"):
        checkpoint.prune(run, keep_last=1, keep_every_steps=None, best_step=None)


@pytest.mark.usefixtures("_no_waiting_for_the_disk")
@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(st.integers(0, 30), unique=True, min_size=1, max_size=7).map(sorted),
    defective=st.sets(st.integers(0, 30)),
    keep_last=st.integers(2, 4),
    every=st.none() | st.integers(1, 5),
    best=st.none() | st.integers(0, 30),
)
def test_pruning_only_removes_what_newer_whole_ones_replace(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[int],
    defective: set[int],
    keep_last: int,
    every: int | None,
    best: int | None,
) -> None:
    run = RunDirectory.create(tmp_path_factory.mktemp("runs") / "run")
    make(run, steps, defective)
    removed = checkpoint.prune(run, keep_last=keep_last, keep_every_steps=every, best_step=best)
    whole = [step for step in steps if step not in defective]
    for step in removed:
        assert step not in defective
        assert step != best
        assert sum(newer > step for newer in whole) >= keep_last
        assert not every or step % every
    assert len(whole) - len(removed) >= min(keep_last, len(whole))
    assert checkpoint.steps(run) == [step for step in steps if step not in removed]
