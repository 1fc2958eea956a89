"""The part of a checkpoint that each process writes itself: ``trainer-rank00000.safetensors``, one per process.

Every process writes its file into a folder beside the checkpoints; the first one moves them into the checkpoint that it
writes, where they are hashed like all other files. Read by as many processes with the same strategy, each takes its own
file; otherwise the parts are put together again, where that is possible.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from gradus import durable
from gradus.rollout.ranks import Ranks
from gradus.rundir import RunDirectory, step_name
from gradus.train.checkpoint import Checkpoint
from gradus.train.launch import Strategy

PREFIX = "trainer-rank"


def write_shards(run: RunDirectory, ranks: Ranks, step: int, tensors: Mapping[str, torch.Tensor]) -> Path:
    """Writes this process's part and returns the folder with all parts. OSError in all where one's disk refuses."""

    def made() -> Path:
        run.check_lock()
        folder = run.checkpoints / durable.unique_name(durable.TEMPORARY, f"shards-{step_name(step)}")
        durable.make_directory(folder, what="checkpoint")
        return folder

    folder = ranks.from_first(made)

    def written() -> None:
        path = folder / f"{PREFIX}{ranks.rank:05d}.safetensors"
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)
        durable.sync(path, what="tensors")

    ranks.each(written)
    return folder


def take_shards(shards: Path, checkpoint: Path) -> None:
    """Moves the files of `write_shards` into a checkpoint that is being written."""
    for path in sorted(shards.glob(f"{PREFIX}*.safetensors")):
        durable.rename(path, checkpoint / path.name, what="tensors")
    durable.discard(shards)


def with_shards(found: Checkpoint, ranks: Ranks, strategy: Strategy) -> Checkpoint:
    """The checkpoint with what this process needs of the parts; as it is where everything is in one file.

    ValueError where parts of DeepSpeed's are asked for by another number of processes or another strategy."""
    paths = sorted(found.path.glob(f"{PREFIX}*.safetensors"))
    saved_by = str(found.manifest.get("strategy", "ddp"))
    is_same = len(paths) == ranks.size and saved_by == strategy
    if (saved_by.startswith("zero") or strategy.startswith("zero")) and not is_same:
        number = found.manifest.get("world_size", 1)
        raise ValueError(
            f"{found.path.name} was saved by {number} processes with parallel.strategy={saved_by}, and {ranks.size} with "
            f"{strategy} cannot take it up: DeepSpeed's parts fit only the same number and strategy. Start as before, "
            f"or begin a new run with model.path={found.path.parent.parent}@{found.step}"
        )
    if not paths:
        return found
    if is_same:
        own = _read(paths[ranks.rank])
    else:
        parts = [_read(path) for path in paths]
        own = {name: _whole([part[name] for part in parts]) for name in parts[0]}
    return dataclasses.replace(found, tensors={**found.tensors, **own})


def _read(path: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


def _whole(parts: list[torch.Tensor]) -> torch.Tensor:
    """Parts along the first axis, put together; step counts are the same in all."""
    return torch.cat(parts) if parts[0].ndim else parts[0]
