"""Everything needed to go on: complete or absent. Safetensors and strict JSON, no pickle.

A checkpoint is a folder ``step_000120`` with ``model/`` (Hugging Face layout), ``trainer.safetensors``,
``trainer.json`` and, written last, ``MANIFEST.json`` with the size and the SHA-256 of every file: the only proof that
it is whole. It gets its name by one rename after everything is on the disk. ``latest`` is a hint for people and other
tools; the folders are the truth.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from gradus import durable
from gradus.exits import Code, Exit
from gradus.rundir import RunDirectory, read_json, step_name
from gradus.train.manifest import MANIFEST, Verify, defect, write_manifest

TENSORS = "trainer.safetensors"
STATE = "trainer.json"
BAD = ".bad-"

_STEP_FOLDER = re.compile(r"step_(\d{6,})")
_OS_ERROR = re.compile(r"\(os error (\d+)\)")

_VERIFIED: set[tuple[Path, int, int]] = set()
"""Checkpoints whose hashes this process has computed; pruning does not read them again (1.3 s per GB)."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One whole checkpoint in memory, but for the model, which is loaded from ``path / "model"``.

    Example:
        Checkpoint(step=120, path=Path("runs/x/checkpoints/step_000120"), tensors={...}, state={...}, manifest={...})
    """

    step: int
    path: Path
    tensors: dict[str, torch.Tensor]
    """On the CPU, in the dtypes they were saved with."""
    state: dict[str, Any]
    manifest: dict[str, Any]


def save(
    run: RunDirectory,
    step: int,
    *,
    write_model: Callable[[Path], None],
    tensors: Mapping[str, torch.Tensor],
    state: Mapping[str, Any],
    identity: Mapping[str, Any],
) -> Path:
    """Writes the checkpoint of ``step`` and returns its folder. One that is there and whole is kept as it is.

    Args:
        write_model: writes the model in Hugging Face layout into the folder it is given.
        tensors: flat; optimizer moments, generator states, rollouts not yet used.
        state: strict JSON; everything else.
        identity: what the manifest says about run and machine (hashes of the config, versions, device, threads).

    Raises:
        OSError: the disk refused; nothing is left behind and the former checkpoints are untouched.
        Exit: a parameter is not finite (DIVERGED); the lock was lost (USAGE).
    """
    run.check_lock()
    durable.make_directory(run.checkpoints, what="checkpoints")
    final = run.checkpoints / step_name(step)
    if final.exists():
        if defect(final, "hash") is None:
            point_latest(run, step)
            return final
        durable.rename(final, run.checkpoints / durable.unique_name(BAD, final.name), what="bad")
    temporary = run.checkpoints / durable.unique_name(durable.TEMPORARY, final.name)
    try:
        with _disk_errors():
            _write_parts(temporary, step, write_model, tensors, state)
            write_manifest(temporary, step, {**identity, "record_lengths": run.record_lengths()})
            durable.rename(temporary, final, what="checkpoint")
    except BaseException:
        durable.discard(temporary)
        raise
    _VERIFIED.add(_fingerprint(final))
    point_latest(run, step)
    run.update_status(checkpoint_step=step)
    return final


def point_latest(run: RunDirectory, step: int) -> None:
    """Makes ``latest`` name the checkpoint of ``step``. It is a hint: that it could not be written is only counted."""
    text = step_name(step) + "\n"
    run.tolerate("latest", lambda: durable.write_text(run.checkpoints / "latest", text, what="latest"))


def _write_parts(
    folder: Path,
    step: int,
    write_model: Callable[[Path], None],
    tensors: Mapping[str, torch.Tensor],
    state: Mapping[str, Any],
) -> None:
    durable.make_directory(folder / "model", what="checkpoint")
    _check_finite(step, tensors.items())
    durable.fault_point("model.write")
    write_model(folder / "model")
    for path in sorted(folder.rglob("*.safetensors")):
        _check_finite(step, _tensors_of(path))
    durable.fault_point("tensors.write")
    save_file(_apart(tensors), folder / TENSORS)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        durable.sync(path, what="tensors" if path.name == TENSORS else "model")
    durable.write_json(folder / STATE, dict(state), what="state")


def _apart(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors, with copies of those that share memory with one before: safetensors refuses shared memory."""
    apart, seen = {}, set()
    for name, tensor in tensors.items():
        memory = (tensor.device, tensor.untyped_storage().data_ptr())
        apart[name] = tensor.detach().clone() if memory in seen else tensor.detach().contiguous()
        seen.add(memory)
    return apart


def _tensors_of(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (no mapping)
            yield name, file.get_tensor(name)


def _check_finite(step: int, tensors: Any) -> None:
    for name, tensor in tensors:
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise Exit(
                Code.DIVERGED,
                f"step {step} is not saved: {name} has values that are not finite; a checkpoint holds only finite ones",
                hint="continue from the last checkpoint with a lower optimizer.learning_rate in a new run",
            )


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    """Safetensors hides the errno in its message; here it comes out as the OSError it is."""
    try:
        yield
    except SafetensorError as error:
        found = _OS_ERROR.search(str(error))
        if not found:
            raise
        raise OSError(int(found[1]), str(error)) from error


def steps(run: RunDirectory) -> list[int]:
    """Steps that have a checkpoint folder, whole or not, ascending."""
    if not run.checkpoints.is_dir():
        return []
    return sorted(int(match[1]) for path in run.checkpoints.iterdir() if (match := _STEP_FOLDER.fullmatch(path.name)))


def load_newest(run: RunDirectory, *, verify: Verify) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint, by the step in its name, and why newer ones were passed over.

    (None, []) if there is none at all. Exit(NOTHING_USABLE) if there are some and none is whole.
    """
    reasons: list[str] = []
    for step in reversed(steps(run)):
        folder = run.checkpoints / step_name(step)
        reason = defect(folder, verify)
        if reason is None:
            _VERIFIED.add(_fingerprint(folder))
            try:
                return _load(folder, step), reasons
            except (SafetensorError, ValueError, OSError) as error:
                reason = f"cannot be read ({error})"
        reasons.append(f"skipped {folder.name}: {reason}")
    if reasons:
        raise Exit(
            Code.NOTHING_USABLE,
            f"no checkpoint of {run.path} is whole:\n" + "\n".join(reasons),
            hint="restore one from a copy, or start again with --from-scratch (the old files are kept)",
        )
    return None, []


def load_step(run: RunDirectory, step: int) -> Checkpoint:
    """The checkpoint of ``step``, which another process has just verified."""
    return _load(run.checkpoints / step_name(step), step)


def _load(folder: Path, step: int) -> Checkpoint:
    # load_file maps the file; copies neither change with it nor keep its space after it was pruned
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / TENSORS).items()}
    return Checkpoint(step, folder, tensors, read_json(folder / STATE), read_json(folder / MANIFEST))


def model_folder(run: RunDirectory, step: int) -> Path:
    """The model of one checkpoint, verified. ValueError names the steps there are."""
    folder = run.checkpoints / step_name(step)
    if step not in (there := steps(run)):
        raise ValueError(
            f"{run.path.name} has no checkpoint of step {step}; there are: {there or 'none'}. Choose one of them"
        )
    if (reason := defect(folder, "hash")) is not None:
        raise ValueError(f"{run.path.name}: checkpoint {folder.name} is not whole: {reason}. Choose another of {there}")
    return folder / "model"


def prune(
    run: RunDirectory,
    *,
    keep_last: int,
    keep_every_steps: int | None,
    best_step: int | None,
    verify: Verify = "hash",
) -> list[int]:
    """Removes whole checkpoints that have ``keep_last`` newer whole ones; returns their steps. Defective ones neither
    count nor go, the best one and multiples of ``keep_every_steps`` stay."""
    if keep_last < 2:
        raise ValueError(
            f"checkpoint.keep_last={keep_last} is too small; at least 2 are needed while a new one is written"
        )
    whole = [step for step in reversed(steps(run)) if _is_whole(run.checkpoints / step_name(step), verify)]
    removed = []
    for step in whole[keep_last:]:
        if step == best_step or (keep_every_steps and step % keep_every_steps == 0):
            continue
        path = run.checkpoints / step_name(step)
        run.tolerate("pruning", lambda path=path: durable.remove_tree(path, what="prune"))
        if not path.exists():
            removed.append(step)
    return removed


def _is_whole(folder: Path, verify: Verify) -> bool:
    """Whether a checkpoint is whole; the hashes are computed once per process."""
    is_known = _fingerprint(folder) in _VERIFIED
    if defect(folder, "size" if is_known else verify) is not None:
        return False
    _VERIFIED.add(_fingerprint(folder))
    return True


def _fingerprint(folder: Path) -> tuple[Path, int, int]:
    """Tells a folder from another one under the same name."""
    stat = folder.stat()
    return folder, stat.st_dev, stat.st_ino


class Saver:
    """Saves and prunes; a disk that refuses three times in a row ends the run, fewer times are said and tried again.

    Example:
        saver = Saver(run, warn=console.warn); saver.save(120, write_model=..., tensors=..., state=..., identity=...)
    """

    MAX_FAILED = 3

    def __init__(self, run: RunDirectory, *, warn: Callable[[str], None], durable_step: int | None = None) -> None:
        self.run = run
        self.warn = warn
        self.durable_step = durable_step
        """Step of the newest checkpoint on the disk."""
        self.num_failed = 0
        """Failed saves of this process."""
        self._num_failed_in_a_row = 0

    def save(self, step: int, **parts: Any) -> Path | None:
        """As the function ``save``; None when the disk refused. Exit(MACHINE) after three refusals in a row."""
        try:
            path = save(self.run, step, **parts)
        except OSError as error:
            if error.errno not in durable.DISK_ERRNOS:
                raise
            self._fail(step, error)
            return None
        self.durable_step, self._num_failed_in_a_row = step, 0
        return path

    def _fail(self, step: int, error: OSError) -> None:
        self.num_failed += 1
        self._num_failed_in_a_row += 1
        kept = (
            f"the checkpoint of step {self.durable_step} is intact"
            if self.durable_step is not None
            else "there is none yet"
        )
        message = f"step {step} could not be saved ({error.strerror or error}); {kept}"
        if self._num_failed_in_a_row >= self.MAX_FAILED:
            raise Exit(
                Code.MACHINE,
                f"{message}; {self.MAX_FAILED} saves in a row failed",
                hint=f"free space in {self.run.path} and run the same command again",
            ) from error
        self.warn(f"{message}; the next save tries again")
