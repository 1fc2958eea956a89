"""What a launcher (`accelerate launch`, `torchrun`) started, held against what the config asks for, before a model is
loaded; and the process group that the processes of a run talk over.

Launchers say what they did in environment variables. Several of their settings do something else than their names say,
without a word; each of those is an error here. torch is imported only where there are several processes.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.util
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from gradus import console
from gradus.config import Config
from gradus.policy.packages import need_bitsandbytes
from gradus.rollout.ranks import ALONE, Ranks
from gradus.train.backends.batches import refused_microbatch
from gradus.train.interrupt import catch_signals

Strategy = Literal["ddp", "fsdp2", "zero2", "zero3"]
PATIENCE = datetime.timedelta(hours=12)
"""How long a process waits for the others; one that has ended is noticed at once."""
FIRST_SECONDS = 60.0
"""How long a process waits for the first one to say why nothing can begin; then it says so itself."""
_DEEPSPEED = "ACCELERATE_DEEPSPEED_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """The processes that were started, and how they are to share the work.

    Example:
        Launch(ranks=Ranks(rank=1, size=2), local_rank=1, strategy="zero3", notes=())
    """

    ranks: Ranks
    local_rank: int
    """Number of this process on its machine: which accelerator is its own."""
    strategy: Strategy
    notes: tuple[str, ...]
    """What the launcher's file says and does not take effect, for the user."""


def refuse_several(what: str, environment: Mapping[str, str] = os.environ) -> None:
    """ValueError where a launcher started several processes of something that knows only one."""
    if (size := _number(environment, "WORLD_SIZE", 1)) > 1:
        raise ValueError(f"{what} runs in one process, and {size} were started; run it without the launcher")


def examine(config: Config, kind: str, environment: Mapping[str, str] = os.environ) -> Launch:
    """Reads what the launcher started. ValueError with everything that does not fit the config."""
    size = _number(environment, "WORLD_SIZE", 1)
    if size > 1 and (missing := [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in environment]):
        raise ValueError(
            f"WORLD_SIZE={size} and no {', '.join(missing)} in the environment; start the processes with torchrun or "
            "accelerate launch, or remove WORLD_SIZE"
        )
    strategy, found = _strategy(config, environment, size)
    found += _refused_size(config, kind, size) + _refused_settings(config, environment)
    if strategy in ("fsdp2", "zero3") and config.backend.extra.get("use_vllm"):
        found.append(
            f"backend.extra.use_vllm needs whole weights in every process, and parallel.strategy={strategy} shares them "
            "out; use parallel.strategy=ddp or zero2"
        )
    if strategy != "ddp":
        for leaf, is_set in (
            ("model.load_in_4bit=true", config.model.load_in_4bit),
            ("optimizer.moments=8bit", config.optimizer.moments == "8bit"),
        ):
            if is_set:
                found.append(f"{leaf} cannot be shared out by parallel.strategy={strategy}; use parallel.strategy=ddp")
    if found:
        raise ValueError("\n".join(found))
    rank = _number(environment, "RANK", 0) if size > 1 else 0
    return Launch(
        ranks=Ranks(rank, size) if size > 1 else ALONE,
        local_rank=_number(environment, "LOCAL_RANK", rank),
        strategy=strategy,
        notes=tuple(_unused(config, environment)) if size > 1 else (),
    )


def need_deepspeed() -> None:
    """ValueError where DeepSpeed is missing."""
    if importlib.util.find_spec("deepspeed") is None:
        raise ValueError(
            "parallel.strategy=zero2 and zero3 need the package deepspeed; install gradus[parallel] (make "
            "extras-parallel), or use parallel.strategy=fsdp2"
        )


def _need_packages(config: Config, strategy: Strategy) -> None:
    """ValueError where a package is missing that a setting asks for; said before anything is made."""
    if strategy.startswith("zero"):
        need_deepspeed()
    if config.backend.name != "native":
        return
    if config.model.load_in_4bit:
        need_bitsandbytes("model.load_in_4bit=true")
    if config.optimizer.moments == "8bit":
        need_bitsandbytes("optimizer.moments=8bit")


def _strategy(config: Config, environment: Mapping[str, str], size: int) -> tuple[Strategy, list[str]]:
    """The strategy of the config, or the launcher's where that is ``auto``; and why it cannot be."""
    asked, launched, found = config.parallel.strategy, None, list[str]()
    if _is_true(environment, "ACCELERATE_USE_DEEPSPEED"):
        stage = environment.get(f"{_DEEPSPEED}ZERO_STAGE", "2")
        if stage in ("2", "3"):
            launched = f"zero{stage}"
        else:
            found.append(f"zero_stage={stage} of the launcher's file is not known here; use 2 or 3")
    elif _is_true(environment, "ACCELERATE_USE_FSDP"):
        launched = "fsdp2"
        if environment.get("FSDP_VERSION", "1") != "2":
            found.append("the launcher's file asks for the first FSDP, which is not used here; set fsdp_version: 2")
    if asked != "auto" and launched is not None and asked != launched and not found:
        found.append(
            f"parallel.strategy={asked} and the launcher's file asks for {launched}; give both the same, or leave "
            "parallel.strategy=auto"
        )
    strategy = launched or "ddp" if asked == "auto" else asked
    if size == 1 and strategy != "ddp" and not found:
        found.append(
            f"parallel.strategy={strategy} needs several processes and only one was started: on a CPU, "
            "`accelerate launch` starts one whatever --num_processes says; use torchrun --nproc_per_node 2 -m gradus "
            "train ..., or parallel.strategy=ddp"
        )
    return strategy, found  # type: ignore[return-value]


def _refused_size(config: Config, kind: str, size: int) -> list[str]:
    parallel, found = config.parallel, []
    if parallel.devices_per_node is not None and (asked := parallel.num_nodes * parallel.devices_per_node) != size:
        found.append(
            f"parallel.num_nodes={parallel.num_nodes} times parallel.devices_per_node={parallel.devices_per_node} asks "
            f"for {asked} processes, and {size} {'was' if size == 1 else 'were'} started; use: torchrun --nnodes "
            f"{parallel.num_nodes} --nproc_per_node {parallel.devices_per_node} -m gradus {kind} ..."
        )
    if size == 1:
        return found
    if config.backend.name == "verl":
        found.append(
            f"backend.name=verl starts its processes itself, and {size} were started; run it without the launcher, and "
            "give trainer.n_gpus_per_node in backend.extra"
        )
    if kind == "sft":
        total, unit, name = config.sft.batch_size, size, "sft.batch_size"
        because = f"{size} processes"
    else:
        updates = config.optimizer.updates_per_batch
        total, unit, name = config.curriculum.problems_per_step, size * updates, "curriculum.problems_per_step"
        because = f"{size} processes" + (f" times optimizer.updates_per_batch={updates}" if updates > 1 else "")
    if total % unit == 0 and kind == "train" and config.backend.name == "trl":
        found += refused_microbatch("trl", config, num_processes=size)
    if total % unit:
        lower, upper = total // unit * unit, (total // unit + 1) * unit
        use = f"{lower} or {upper}" if lower else str(upper)
        found.append(f"{name}={total} does not divide over {because}; use {use}")
    return found


def _refused_settings(config: Config, environment: Mapping[str, str]) -> list[str]:
    """Settings of the launcher's file that would be honoured elsewhere and cannot be here."""
    found = []
    if (path := environment.get(f"{_DEEPSPEED}CONFIG_FILE", "none")) not in ("", "none"):
        found.append(
            f"the DeepSpeed file {path} is not read: with it the accelerate file's own settings would be ignored; "
            "give one accelerate file with zero_stage (recipes/accelerate/zero3.yaml)"
        )
    for part in ("OPTIMIZER", "PARAM"):
        if (device := environment.get(f"{_DEEPSPEED}OFFLOAD_{part}_DEVICE", "none")) not in ("", "none"):
            found.append(f"offload_{part.lower()}_device={device} of the launcher's file is not supported; use none")
    precision = environment.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision not in ("no", "bf16"):
        found.append(f"mixed_precision={precision} of the launcher's file is not supported; use no, or bf16")
    elif precision == "bf16" and (dtype := _dtype(config)) != "bfloat16":
        found.append(
            f"mixed_precision=bf16 of the launcher's file, but model.dtype={config.model.dtype} means {dtype} here; set "
            "model.dtype=bfloat16, or mixed_precision: no"
        )
    return found


def _dtype(config: Config) -> str:
    """What ``model.dtype`` comes to on the device at hand."""
    if config.model.dtype != "auto":
        return config.model.dtype
    from gradus.policy.load import pick_device, pick_dtype

    return str(pick_dtype("auto", pick_device(config.model.device))).removeprefix("torch.")


def _unused(config: Config, environment: Mapping[str, str]) -> Iterator[str]:
    """Settings of the launcher's file that something of ours decides."""
    accumulated = environment.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    if accumulated not in ("", "1"):
        cuts = "microbatch_size" if config.backend.name == "trl" else "microbatch_tokens"
        yield (
            f"gradient_accumulation_steps={accumulated} of the launcher's file is not used: "
            f"optimizer.{cuts} cuts the batch"
        )
    clipping = environment.get("ACCELERATE_GRADIENT_CLIPPING", "none")
    if clipping not in ("", "none", "auto") and float(clipping) != config.optimizer.max_grad_norm:
        yield (
            f"gradient_clipping={clipping} of the launcher's file is not used: "
            f"optimizer.max_grad_norm={config.optimizer.max_grad_norm:g} is"
        )


@contextlib.contextmanager
def joined(config: Config, kind: str) -> Iterator[Launch]:
    """Examines the launch and joins the other processes until the end of the ``with``. Alone it does nothing."""
    try:
        launch = examine(config, kind)
        _need_packages(config, launch.strategy)
    except ValueError:
        if os.environ.get("RANK", "0") != "0" and _first_has_spoken():
            console.hush()  # it said the same
        raise
    if launch.ranks.size == 1:
        yield launch
        return
    import torch
    import torch.distributed as dist

    from gradus.policy.load import pick_device

    if not launch.ranks.is_first:
        console.follow()
    device = pick_device(config.model.device)
    if device.type == "cuda":
        if launch.local_rank >= (count := torch.cuda.device_count()):
            raise ValueError(
                f"process {launch.local_rank} of this machine has no GPU of its own: there are {count}; start at most "
                f"{count} processes per machine, or set model.device=cpu"
            )
        torch.cuda.set_device(launch.local_rank)
    elif device.type != "cpu":
        raise ValueError(f"several processes need CUDA devices or CPUs; model.device={device.type} is one device only")
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
        rank=launch.ranks.rank,
        world_size=launch.ranks.size,
        timeout=PATIENCE,
    )
    try:
        yield launch
    finally:
        dist.destroy_process_group()


def _first_has_spoken() -> bool:
    """Waits until the launcher ends this process, which it does once the first one has ended with its message; ended
    sooner, this process would have the first one ended before it could say anything."""
    latest = time.monotonic() + FIRST_SECONDS
    with catch_signals() as stop:
        while not stop.signal_name and time.monotonic() < latest:
            time.sleep(0.1)
        return bool(stop.signal_name)


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isdecimal():
        raise ValueError(f"{name}={text!r} in the environment is no number; it is set by launchers. Remove it")
    return int(text)


def _is_true(environment: Mapping[str, str], name: str) -> bool:
    return environment.get(name, "").lower() in ("true", "1")
