"""Config → settings of TRL's `GRPOConfig`, and what TRL cannot honour. Plain data: neither torch nor TRL is imported.

Signs: ``P`` problems per batch, ``G`` completions per problem, ``U`` parts that a batch is cut into.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Mapping
from typing import Any

from gradus.algo.presets import Algorithm, resolve_algorithm
from gradus.config import Config
from gradus.recipe import Resolved
from gradus.train.backends.batches import completions_per_step, microbatch, refused_batches, steps_per_batch
from gradus.train.backends.image import (
    SHARED,
    Image,
    Ours,
    Refused,
    Sets,
    cannot,
    promises,
    refused,
    refused_losses,
    shown,
)

VERSION = "1.16.0"
"""The one release whose insides this backend was written for and is tested with."""

FIXED: Mapping[str, Any] = {
    "top_p": 1.0,
    "top_k": 0,
    "min_p": None,
    "repetition_penalty": 1.0,
    "use_bias_correction_kl": False,
    "multi_objective_aggregation": "sum_then_normalize",
    "mask_truncated_completions": False,
    "top_entropy_quantile": 1.0,
    "disable_dropout": False,
    "sync_ref_model": False,
    "bf16": False,
    "fp16": False,
    "optim": "adamw_torch",
    "adam_beta1": 0.9,
    "adam_epsilon": 1e-8,
    "shuffle_dataset": False,
    "remove_unused_columns": False,
    "dataloader_num_workers": 0,
    "logging_strategy": "steps",
    "logging_steps": 1,
    "logging_nan_inf_filter": False,
    "report_to": [],
    "save_strategy": "no",
    "eval_strategy": "no",
    "disable_tqdm": True,
    "log_completions": False,
    "push_to_hub": False,
    "trust_remote_code": False,
}
"""Always so: what the model was loaded in is what it is trained in (no autocast), gradus saves and evaluates itself,
nothing truncates the sampled distribution, and nothing but ours weighs the KL term."""
REPLACEABLE: Mapping[str, Any] = {"gradient_checkpointing": False}
"""Written because TRL's default is another one; ``backend.extra`` may set them."""

_OPTIMIZER = "AdamW and its schedule are gradus' own objects, handed to GRPOTrainer"
IMAGES: Mapping[str, Image] = {
    **SHARED,
    "name": Ours(),
    "seed": Sets("seed", "data_seed", says="each batch is sampled with a seed of its own; another text than native's"),
    "num_steps": Sets("max_steps"),
    "model.path": Ours(),
    "model.dtype": Ours(),
    "model.device": Sets("use_cpu"),
    "model.gradient_checkpointing": Ours(),
    "model.lora.rank": Ours(),
    "model.lora.alpha": Ours(),
    "model.lora.targets": Ours(),
    "tasks": Ours(),
    "curriculum.problems_per_step": Sets("per_device_train_batch_size", "gradient_accumulation_steps"),
    "sampling.group_size": Sets("num_generations"),
    "sampling.temperature": Sets("temperature"),
    "sampling.max_tokens": Sets("max_completion_length"),
    "sampling.max_prompt_tokens": Ours(),
    "sampling.max_redraws": Refused("TRL never draws a group again", "remove it"),
    "engine.name": Ours(
        "local: completions are sampled by `generate` of transformers, evaluations by gradus' own sampler; vllm: both as in a "
        "native run"
    ),
    "engine.batch_size": Ours(),
    "engine.gpu_memory_frac": Ours(),
    "engine.error_rate": Refused("TRL samples from the policy", "remove it"),
    "algorithm.name": Sets("loss_type", "scale_rewards", "importance_sampling_level"),
    "algorithm.advantage": Sets("scale_rewards", "reward_weights"),
    "algorithm.ratio_level": Sets("importance_sampling_level", "loss_type"),
    "algorithm.clip_low": Sets("epsilon"),
    "algorithm.clip_high": Sets("epsilon_high"),
    "algorithm.aggregate": Sets("loss_type"),
    "algorithm.kl_coef": Sets("beta"),
    "algorithm.entropy_coef": Sets("entropy_coef"),
    "optimizer.learning_rate": Sets("learning_rate"),
    "optimizer.schedule": Sets("lr_scheduler_type"),
    "optimizer.warmup_steps": Sets("warmup_steps"),
    "optimizer.weight_decay": Sets("weight_decay", says=_OPTIMIZER),
    "optimizer.beta2": Sets("adam_beta2"),
    "optimizer.max_grad_norm": Sets("max_grad_norm"),
    "optimizer.microbatch_tokens": Refused("it cuts its batches by completions", "set optimizer.microbatch_size"),
    "optimizer.microbatch_size": Sets("per_device_train_batch_size"),
    "optimizer.auto_microbatch": Refused("it cannot begin a step again", "set optimizer.microbatch_size"),
    "optimizer.updates_per_batch": Sets("steps_per_generation"),
    "optimizer.passes_per_batch": Sets("num_iterations"),
    "optimizer.on_nonfinite": Ours("judged by the gradient alone"),
    "evaluation.every_steps": Ours(),
    "checkpoint.every_steps": Ours(),
    "checkpoint.grace_seconds": Ours(),
    "parallel.strategy": Ours(
        "weights and gradients are shared out by gradus, whatever accelerate would do with the file"
    ),
    "parallel.num_nodes": Ours(),
    "parallel.devices_per_node": Ours(),
    "backend.ray_address": Refused("it starts no Ray", "remove it"),
}
"""Each leaf of the config, and what becomes of it. ``Ours`` keys act through the parts that both loops share."""


def need_trl() -> None:
    """ValueError where TRL is missing, or is another release than the tested one."""
    lacking = [name for name in ("trl", "accelerate", "datasets") if importlib.util.find_spec(name) is None]
    if lacking:
        raise ValueError(f"backend trl needs the packages {', '.join(lacking)}; install gradus[trl] (make extras-trl)")
    if (found := importlib.metadata.version("trl")) != VERSION:
        raise ValueError(
            f"backend trl works with trl {VERSION}, and {found} is installed; it builds on that release's insides. "
            f"pip install trl=={VERSION} (make extras-trl), or use --backend native"
        )


def need_place(extra: Mapping[str, Any]) -> None:
    """ValueError where this process cannot train as it was told: alone with several GPUs, all of which TRL would take, or
    with a key of ``backend.extra`` that this TRL does not know. Imports TRL."""
    import torch

    if os.environ.get("WORLD_SIZE", "1") == "1" and (count := torch.cuda.device_count()) > 1:
        raise ValueError(
            f"{count} GPUs are visible, and backend trl trains on one per process; set CUDA_VISIBLE_DEVICES=0, or start "
            f"{count} processes: torchrun --nproc_per_node {count} -m gradus train ..."
        )
    if not extra:
        return
    from trl.trainer.grpo_config import GRPOConfig

    if unknown := sorted(set(extra) - set(GRPOConfig.__dataclass_fields__)):
        raise ValueError(
            f"backend.extra has {', '.join(unknown)}, which the GRPOConfig of this TRL does not know; correct or remove it"
        )


def check(resolved: Resolved) -> None:
    """ValueError with everything of a config that this backend cannot honour. Needs no package."""
    config = resolved.config
    algorithm = resolve_algorithm(config.algorithm)
    found = [
        *refused("trl", resolved, IMAGES),
        *refused_losses(
            "trl",
            algorithm,
            flat="it never draws a group again",
            mean="it always takes the mean of the group off",
            ratio="it has no loss without a ratio",
        ),
        *refused_batches(
            "trl", config, f"it can stop only after all {steps_per_batch(config)} steps of a batch of rollouts"
        ),
        *_refused_extra(config),
    ]
    if config.engine.name == "scripted":
        found.append(
            cannot("trl", "engine.name=scripted", "it samples from the policy", "set engine.name=local, or vllm")
        )
    if config.engine.name == "vllm" and config.backend.extra.get("use_vllm"):
        why, remedy = "engine.name=vllm samples already", "remove one of the two"
        found.append(cannot("trl", "backend.extra.use_vllm", why, remedy))
    if found:
        raise ValueError("\n".join(found))


def arguments(
    config: Config, *, step: int = 0, use_cpu: bool = True, output_dir: str = "", num_processes: int = 1
) -> dict[str, Any]:
    """Arguments of `trl.GRPOConfig`, in each of ``num_processes``, for a run that has taken ``step`` steps."""
    algorithm, sampling, optimizer = resolve_algorithm(config.algorithm), config.sampling, config.optimizer
    size = microbatch(config, num_processes=num_processes)
    accumulated = completions_per_step(config) // num_processes // size
    return {
        **FIXED,
        **REPLACEABLE,
        **_loss(algorithm, sampling.group_size),
        "output_dir": output_dir,
        "use_cpu": use_cpu,
        "seed": config.seed,
        "data_seed": config.seed,
        "max_steps": config.num_steps - step,
        "num_generations": sampling.group_size,
        "temperature": sampling.temperature,
        "max_completion_length": sampling.max_tokens,
        "per_device_train_batch_size": size,
        "gradient_accumulation_steps": accumulated,
        "steps_per_generation": accumulated * optimizer.updates_per_batch,
        "num_iterations": optimizer.passes_per_batch,
        "learning_rate": optimizer.learning_rate,
        "lr_scheduler_type": "constant_with_warmup" if optimizer.schedule == "constant" else optimizer.schedule,
        "warmup_steps": optimizer.warmup_steps,
        "weight_decay": optimizer.weight_decay,
        "adam_beta2": optimizer.beta2,
        "max_grad_norm": optimizer.max_grad_norm,
        **config.backend.extra,
    }


def differences(config: Config) -> list[str]:
    """What is not as in a native run of the same config, one line each."""
    algorithm = resolve_algorithm(config.algorithm)
    lines = promises(config, IMAGES)
    lines.append("ratios are taken to the trainer's own log-probabilities; there is no row of sampler against trainer")
    lines.append("a completion without a usable score has advantage 0, and stays in the counts and in the KL term")
    if algorithm.entropy_coef:
        lines.append("the entropy bonus is averaged within each micro-batch, over its tokens")
    if steps_per_batch(config) > 1:
        lines.append(
            f"a batch serves {steps_per_batch(config)} steps, cut by completions at random; the run stops after the last"
        )
    return lines


def _loss(algorithm: Algorithm, group_size: int) -> dict[str, Any]:
    """The loss and the advantages. TRL's cispo cap is the largest ratio itself, ours its distance from 1."""
    is_capped = algorithm.ratio_level == "capped"
    by_aggregate = {"sequence": "grpo", "token": "dapo", "fixed": "dr_grpo"}
    leave_one_out = algorithm.advantage == "leave_one_out"
    return {
        "loss_type": "cispo" if is_capped else by_aggregate[algorithm.aggregate],
        "importance_sampling_level": "sequence" if algorithm.ratio_level == "sequence" else "token",
        "epsilon": 0.2 if is_capped else algorithm.clip_low,
        "epsilon_high": 1 + algorithm.clip_high if is_capped else algorithm.clip_high,
        "scale_rewards": "group" if algorithm.advantage == "standardize" else "none",
        "reward_weights": [group_size / (group_size - 1)] if leave_one_out else [1.0],
        "beta": algorithm.kl_coef,
        "entropy_coef": algorithm.entropy_coef,
    }


def _refused_extra(config: Config) -> list[str]:
    ours = set(arguments(config.model_copy(update={"backend": type(config.backend)()}))) - set(REPLACEABLE)
    return [
        f"backend.extra.{key}={shown(value)} is set by gradus itself; remove it, and use the key of gradus "
        "that means the same, if there is one (docs/trl.md)"
        for key, value in config.backend.extra.items()
        if key in ours
    ]
