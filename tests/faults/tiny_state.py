"""A training state small enough to be saved thousands of times, faults to put into its saving, and a saver that is
wrong on purpose: every check here must fail for it."""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from gradus import durable
from gradus.rundir import RunDirectory, step_name
from gradus.train import checkpoint

torch.set_num_threads(1)  # a forked child inherits no threads, and would wait for them for ever

KILLED = 77
"""Exit status of a child that a fault point ended."""
DISK_ERRNOS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT, errno.EFBIG)


def tensors_at(step: int) -> dict[str, torch.Tensor]:
    """The trainer's tensors after ``step`` updates: a pure function, so that a mixture of two steps is seen."""
    generator = torch.Generator().manual_seed(step)
    return {
        "optimizer.exp_avg": torch.randn(64, generator=generator),
        "optimizer.master": torch.randn(16, 4, generator=generator).to(torch.bfloat16),
        "optimizer.step": torch.tensor(step),
    }


def state_at(step: int) -> dict[str, Any]:
    return {"position": [0, 0, step * 16], "tokens_seen": step * 1000}


def write_model_at(step: int) -> Callable[[Path], None]:
    def write_model(folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps({"model_type": "tiny", "step": step}))
        (folder / "tokenizer.json").write_text("{}")
        weights = torch.full((8, 8), float(step), dtype=torch.bfloat16)
        save_file({"weight": weights}, folder / "model.safetensors")

    return write_model


def parts_at(step: int) -> dict[str, Any]:
    """What `checkpoint.save` wants beside the run and the step."""
    return {
        "write_model": write_model_at(step),
        "tensors": tensors_at(step),
        "state": state_at(step),
        "identity": {"data_fingerprint": "d0", "versions": {"gradus": "test"}},
    }


def save(run: RunDirectory, step: int) -> None:
    checkpoint.save(run, step, **parts_at(step))


def prune(run: RunDirectory) -> None:
    checkpoint.prune(run, keep_last=2, keep_every_steps=None, best_step=None)


def load(run: RunDirectory) -> tuple[int, dict[str, torch.Tensor], dict[str, Any], Path] | None:
    found, _ = checkpoint.load_newest(run, verify="hash")
    return None if found is None else (found.step, found.tensors, found.state, found.path)


def assert_state_of(loaded: tuple[int, dict[str, torch.Tensor], dict[str, Any], Path]) -> None:
    """All parts are of the step that the checkpoint claims, bit by bit."""
    step, tensors, state, path = loaded
    expected = tensors_at(step)
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == expected[name].dtype, name
        assert torch.equal(tensor, expected[name]), name
    assert state == state_at(step)
    assert json.loads((path / "model/config.json").read_text())["step"] == step
    weight = load_file(path / "model/model.safetensors")["weight"]
    assert torch.equal(weight, torch.full((8, 8), float(step), dtype=torch.bfloat16))
    assert (path / "model/tokenizer.json").read_text() == "{}"


# ---- the wrong saver: writes in place, trusts the newest folder ----


def naive_save(run: RunDirectory, step: int) -> None:
    folder = run.checkpoints / step_name(step)
    durable.fault_point("naive.make")
    (folder / "model").mkdir(parents=True, exist_ok=True)
    durable.fault_point("naive.model")
    write_model_at(step)(folder / "model")
    durable.fault_point("naive.tensors")
    save_file(tensors_at(step), folder / "trainer.safetensors")
    durable.fault_point("naive.state")
    (folder / "trainer.json").write_text(json.dumps(state_at(step)))


def naive_load(run: RunDirectory) -> tuple[int, dict[str, torch.Tensor], dict[str, Any], Path] | None:
    folders = sorted(run.checkpoints.glob("step_*"))
    if not folders:
        return None
    path = folders[-1]
    state = json.loads((path / "trainer.json").read_text())
    return int(path.name[5:]), load_file(path / "trainer.safetensors"), state, path


# ---- faults ----


@contextmanager
def hook(function: Callable[[str], None]) -> Iterator[None]:
    """Puts ``function`` at every fault point."""
    before, durable.fault_point = durable.fault_point, function
    try:
        yield
    finally:
        durable.fault_point = before


def points_of(action: Callable[[], object]) -> list[str]:
    """The fault points that ``action`` passes, in order."""
    seen: list[str] = []
    with hook(seen.append):
        action()
    return seen


def at(number: int, fault: Callable[[str], None]) -> Callable[[str], None]:
    """A hook that calls ``fault`` at the fault point with this number (from 0)."""
    left = number

    def count(point: str) -> None:
        nonlocal left
        left -= 1
        if left == -1:
            fault(point)

    return count


def kill(point: str) -> None:
    os._exit(KILLED)


def refuse(code: int) -> Callable[[str], None]:
    def fail(point: str) -> None:
        raise OSError(code, os.strerror(code), point)

    return fail


def in_child(action: Callable[[], object]) -> int:
    """Runs ``action`` in a forked process; its exit status (negative: the signal that ended it), 0 if it returned."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            action()
            status = 0
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at(number: int, action: Callable[[], object]) -> bool:
    """Runs ``action`` in a child that dies at fault point ``number``; False if it ended before."""

    def run() -> None:
        with hook(at(number, kill)):
            action()

    status = in_child(run)
    assert status in (0, KILLED), f"the child ended with {status}, not by the fault at {number}"
    return status == KILLED
