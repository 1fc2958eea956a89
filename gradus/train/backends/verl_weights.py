"""Weights that verl saved: the shards of all ranks → whole tensors by name, in the precision that they were trained in.

verl can save a model of its own making too (``hf_model``), but in bfloat16, and unusable where an adapter is trained.
Files are read without executing what a pickle says (``weights_only``).
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gradus.exits import Code, Exit
from gradus.policy.load import split_model

_SHARD = re.compile(r"model_world_size_(\d+)_rank_(\d+)\.pt")


def saved_weights(folder: Path, batch: int) -> dict[str, Tensor]:
    """Whole tensors by name after verl's step ``batch``. Exit(NOTHING_USABLE) where a rank's file is missing."""
    actor = folder / f"global_step_{batch}" / "actor"
    found = {
        int(match[2]): (path, int(match[1])) for path in actor.glob("*.pt") if (match := _SHARD.fullmatch(path.name))
    }
    if not found or set(found) != set(range(next(iter(found.values()))[1])):
        raise Exit(Code.NOTHING_USABLE, f"verl has saved no whole model in {actor}", hint=f"see its log in {folder}")
    shards = [_read(found[rank][0]) for rank in range(len(found))]
    return {name: _whole([shard[name] for shard in shards]) for name in shards[0]}


def saved_batches(folder: Path) -> dict[int, Path]:
    """Folders of verl's states by the step of verl's after which each was saved, whole or not."""
    found = {path.name.removeprefix("global_step_"): path for path in folder.glob("global_step_*")}
    return {int(number): path for number, path in found.items() if number.isdecimal()}


def saved_files(folder: Path, batch: int) -> dict[str, int]:
    """Bytes of each file of verl's state after its step ``batch``, by path below ``folder``."""
    root = folder / f"global_step_{batch}"
    return {str(path.relative_to(folder)): path.stat().st_size for path in sorted(root.rglob("*")) if path.is_file()}


def load_weights(model: Any, weights: dict[str, Tensor]) -> None:
    """Copies weights into a model by name. ValueError names what does not fit; a tied head may be left out."""
    found = model.load_state_dict(weights, strict=False)
    _, head = split_model(model)
    tied = {name for name, parameter in model.named_parameters(remove_duplicate=False) if parameter is head.weight}
    missing = sorted(set(found.missing_keys) - (tied if len(tied) > 1 else set()))
    if missing or found.unexpected_keys:
        raise ValueError(
            f"verl's weights do not fit the model: missing {missing[:3] or 'none'}, unknown "
            f"{found.unexpected_keys[:3] or 'none'}"
        )
    if wrong := [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]:
        raise Exit(Code.DIVERGED, f"verl's {wrong[0]} has values that are not finite", hint="lower the learning rate")


def load_adapter(model: Any, weights: dict[str, Tensor]) -> None:
    """Copies the weights of an adapter into a model that has one of the same shape. ValueError names what does not fit."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    expected = set(get_peft_model_state_dict(model))
    if missing := sorted(expected ^ set(weights)):
        raise ValueError(f"verl's adapter does not fit the model's: {missing[:3]} are in one of both only")
    set_peft_model_state_dict(model, weights)


def _read(path: Path) -> dict[str, Tensor]:
    import torch.distributed.tensor  # makes sharded tensors known to the reader

    talkative = logging.getLogger("torch.distributed.device_mesh")
    before = talkative.level
    talkative.setLevel(logging.ERROR)  # of groups of processes, which reading a file does not need
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    finally:
        talkative.setLevel(before)


def _whole(parts: list[Any]) -> Tensor:
    """A parameter from the parts of all ranks, which FSDP2 cuts along one axis."""
    first = parts[0]
    if not hasattr(first, "placements"):
        return first
    (placement,) = first.placements
    locals_ = [part._local_tensor for part in parts]
    return locals_[0] if placement.is_replicate() else torch.cat(locals_, dim=placement.dim)
