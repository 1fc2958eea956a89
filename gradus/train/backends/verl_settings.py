"""Config → overrides of verl's own command. Plain data: neither torch nor verl is imported.

The dialect is that of verl 0.9. `gradus train --backend verl` starts verl with what is made here for its run
(`Place`); `gradus config validate RECIPE --backend verl` prints it, for those who start verl themselves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Any

from gradus.algo.presets import Algorithm, resolve_algorithm
from gradus.config import Config
from gradus.train.backends.batches import microbatch, steps_per_batch

VERSION = "0.9.1"
"""The release whose settings these are; a test composes them with it where it is installed."""
FOLDER = "verl"
"""Where the data are expected, and where verl's checkpoints and recorded completions go, outside of a run of gradus."""
ADAPTER = "adapter"
"""Folder of the adapter that a run begins with, below the run's place."""
DEFAULT_PROMPT_TOKENS = 512
"""verl's own limit, where the prompts are not known and the config gives none."""
NO_CLIP = 1e9
"""verl clips a loss twice (``clip_ratio_c``); this takes the second clip away."""

A = "actor_rollout_ref"
ON_CPU: Mapping[str, str] = {
    "VERL_PLATFORM": "cpu",
    "VERL_ENGINE_DEVICE": "cuda",
    "VERL_USE_EXTERNAL_MODULES": "gradus.train.backends.verl_cpu",
}
"""Environment of verl's processes on a CPU; its engine is registered for CUDA only."""
MINE_TO_SET = (
    "trainer.nnodes",
    "trainer.n_gpus_per_node",
    f"{A}.rollout.tensor_model_parallel_size",
)
"""Settings that depend on the machines; ``backend.extra`` may give others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a run of verl has its files, and what it runs on.

    Example:
        Place(folder=run.path / "backend/verl", model="policies/x", longest_prompt=61, is_cpu=True, address="10.0.0.2:6379")
    """

    folder: Path
    """Plan, checkpoints and records; absolute."""
    model: str
    """Folder or Hub id of the base model."""
    longest_prompt: int
    """Of the plan (tokens)."""
    is_cpu: bool
    """With the platform and the server of `verl_cpu`; else vLLM samples."""
    address: str
    """Ray's."""
    environment: Mapping[str, str]
    """Variables of all of verl's processes."""
    attempt: int = 1
    """Of the run; each has records of its own."""
    resume_batch: int = 0
    """verl's step to go on from; 0: the beginning."""


def overrides(config: Config, place: Place | None = None) -> list[str]:
    """Arguments of ``python -m verl.trainer.main_ppo``, in Hydra's language."""
    return as_words(settings_of(config, place))


def as_words(settings: Mapping[str, Any]) -> list[str]:
    """Settings in Hydra's language, one argument each."""
    return [f"{key}={hydra_value(value)}" for key, value in settings.items()]


def settings_of(config: Config, place: Place | None = None) -> dict[str, Any]:
    """Key to value; ``+`` before a key that verl's own tree does not have. Without a place: for verl's own command, started
    by the user."""
    is_cpu = config.model.device == "cpu" if place is None else place.is_cpu
    settings = {
        **_data(config),
        **_model(config),
        **_optimizer(config),
        **_loss(resolve_algorithm(config.algorithm), config.sampling.max_tokens),
        **_rollout(config),
        **_trainer(config),
        **(_on_cpu() if is_cpu else {}),
        **(_of_run(config, place) if place is not None else _own_ray() if is_cpu else {}),
    }
    plain = {key.lstrip("+"): key for key in settings}
    for key, value in config.backend.extra.items():
        settings[plain.get(key.lstrip("+"), key)] = value
    return settings


def save_every(config: Config) -> int:
    """Optimizer steps between verl's saves in a run of gradus: wherever weights are needed, to save or to evaluate."""
    return gcd(config.checkpoint.every_steps, config.evaluation.every_steps or 0)


def _data(config: Config) -> dict[str, Any]:
    return {
        "data.train_files": f"{FOLDER}/plan.parquet",
        "data.val_files": f"{FOLDER}/plan.parquet",
        "data.train_batch_size": config.curriculum.problems_per_step,
        "data.max_prompt_length": config.sampling.max_prompt_tokens or DEFAULT_PROMPT_TOKENS,
        "data.max_response_length": config.sampling.max_tokens,
        "data.shuffle": False,
        "data.dataloader_num_workers": 0,
        "data.filter_overlong_prompts": False,
        "data.truncation": "error",
        "data.seed": config.seed,
    }


def _model(config: Config) -> dict[str, Any]:
    """All weights, saved as a model too; or an adapter, with which the model that verl saves cannot be loaded."""
    own, lora = ["model", "optimizer", "extra"], config.model.lora
    settings: dict[str, Any] = {
        f"{A}.model.path": config.model.path,
        f"{A}.model.trust_remote_code": False,
        f"{A}.model.enable_gradient_checkpointing": config.model.gradient_checkpointing,
    }
    if lora is None:
        return settings | {f"{A}.actor.checkpoint.save_contents": [*own, "hf_model"]}
    return settings | {
        f"{A}.actor.checkpoint.save_contents": own,
        f"{A}.model.lora_rank": lora.rank,
        f"{A}.model.lora_alpha": lora.alpha,
        f"{A}.model.target_modules": lora.targets if isinstance(lora.targets, str) else list(lora.targets),
        f"{A}.rollout.load_format": "safetensors",
    }


def _optimizer(config: Config) -> dict[str, Any]:
    """AdamW with the schedule and the weight decay of a native run: verl takes the class by name (`verl_optimizer`)."""
    optimizer, size = config.optimizer, microbatch(config)
    dtype = "float32" if config.model.dtype == "float32" else "bfloat16"
    return {
        f"{A}.actor.strategy": "fsdp2",
        f"{A}.actor.ppo_mini_batch_size": config.curriculum.problems_per_step // optimizer.updates_per_batch,
        f"{A}.actor.ppo_epochs": optimizer.passes_per_batch,
        f"{A}.actor.ppo_micro_batch_size_per_gpu": size,
        f"{A}.actor.use_dynamic_bsz": False,
        f"{A}.actor.shuffle": False,
        f"{A}.actor.data_loader_seed": config.seed,
        f"{A}.actor.fsdp_config.dtype": dtype,
        f"{A}.actor.optim.optimizer_impl": "gradus.train.backends.verl_optimizer",
        f"{A}.actor.optim.optimizer": "ScheduledAdamW",
        f"{A}.actor.optim.lr": optimizer.learning_rate,
        f"{A}.actor.optim.lr_scheduler_type": "constant",
        f"{A}.actor.optim.lr_warmup_steps": 0,
        f"{A}.actor.optim.weight_decay": optimizer.weight_decay,
        f"{A}.actor.optim.betas": [0.9, optimizer.beta2],
        f"{A}.actor.optim.override_optimizer_config": {
            "schedule": optimizer.schedule,
            "warmup_steps": optimizer.warmup_steps,
            "num_steps": config.num_steps,
        },
        f"{A}.actor.optim.clip_grad": optimizer.max_grad_norm,
        f"{A}.actor.grad_clip": optimizer.max_grad_norm,
        f"{A}.ref.log_prob_micro_batch_size_per_gpu": size,
    }


def _loss(algorithm: Algorithm, max_tokens: int) -> dict[str, Any]:
    """Advantages, loss, weights. ``cispo`` has no lower bound in ours; verl's lies 1 below 1."""
    is_capped = algorithm.ratio_level == "capped"
    aggregate = {"sequence": "seq-mean-token-mean", "token": "token-mean", "fixed": "seq-mean-token-sum-norm"}
    mode = {"sequence": "gspo", "capped": "cispo"}.get(algorithm.ratio_level, "vanilla")
    settings = {
        "algorithm.adv_estimator": "rloo" if algorithm.advantage == "leave_one_out" else "grpo",
        "algorithm.norm_adv_by_std_in_grpo": algorithm.advantage == "standardize",
        "algorithm.use_kl_in_reward": False,
        f"{A}.actor.policy_loss.loss_mode": mode,
        f"{A}.actor.clip_ratio_low": 1.0 if is_capped else algorithm.clip_low,
        f"{A}.actor.clip_ratio_high": algorithm.clip_high,
        f"{A}.actor.clip_ratio_c": NO_CLIP,
        f"{A}.actor.loss_agg_mode": aggregate[algorithm.aggregate],
        f"{A}.actor.entropy_coeff": algorithm.entropy_coef,
        f"{A}.actor.calculate_entropy": True,
        f"{A}.actor.use_kl_loss": algorithm.kl_coef > 0,
        f"{A}.actor.kl_loss_coef": algorithm.kl_coef,
        f"{A}.actor.kl_loss_type": "low_var_kl",
    }
    if algorithm.aggregate == "fixed":
        settings[f"{A}.actor.loss_scale_factor"] = max_tokens
    return settings


def _rollout(config: Config) -> dict[str, Any]:
    sampling = config.sampling
    return {
        f"{A}.rollout.name": "vllm",
        f"{A}.rollout.dtype": "float32" if config.model.dtype == "float32" else "bfloat16",
        f"{A}.rollout.tensor_model_parallel_size": 1,
        f"{A}.rollout.n": sampling.group_size,
        f"{A}.rollout.temperature": sampling.temperature,
        f"{A}.rollout.top_p": 1.0,
        f"{A}.rollout.top_k": -1,
        f"{A}.rollout.seed": config.seed,
        f"{A}.rollout.max_num_seqs": config.engine.batch_size,
        f"{A}.rollout.log_prob_micro_batch_size_per_gpu": microbatch(config),
        "reward.custom_reward_function.path": "pkg://gradus.integrations.verl",
        "reward.custom_reward_function.name": "compute_score",
        "+reward.custom_reward_function.reward_kwargs.tasks": json.dumps(
            {name: dict(options) for name, options in config.tasks.items()}
        ),
    }


def _trainer(config: Config) -> dict[str, Any]:
    period = steps_per_batch(config)
    return {
        "trainer.device": "cuda",
        "trainer.nnodes": 1,
        "trainer.n_gpus_per_node": 1,
        "trainer.project_name": "gradus",
        "trainer.experiment_name": config.name or "run",
        "trainer.logger": ["console", "file"],
        "trainer.total_epochs": 1,
        "trainer.total_training_steps": config.num_steps // period,
        "trainer.save_freq": config.checkpoint.every_steps // period,
        "trainer.max_actor_ckpt_to_keep": config.checkpoint.keep_last,
        "trainer.test_freq": -1,
        "trainer.val_before_train": False,
        "trainer.default_local_dir": FOLDER,
        "trainer.rollout_data_dir": f"{FOLDER}/rollouts",
    }


def _on_cpu() -> dict[str, Any]:
    """With the plug-in (`gradus.train.backends.verl_cpu`): float32, gloo, our own sampler, one logical GPU."""
    whole = {"param_dtype": "fp32", "reduce_dtype": "fp32", "buffer_dtype": "fp32"}
    return {
        "trainer.device": "cpu",
        f"{A}.model.external_lib": "gradus.train.backends.verl_cpu",
        f"{A}.model.use_remove_padding": False,
        f"+{A}.model.override_config.attn_implementation": "sdpa",
        f"{A}.actor.use_torch_compile": False,
        f"{A}.actor.fsdp_config.use_torch_compile": False,
        f"{A}.actor.fsdp_config.dtype": "float32",
        f"+{A}.actor.fsdp_config.mixed_precision": whole,
        f"{A}.ref.use_torch_compile": False,
        f"{A}.ref.fsdp_config.use_torch_compile": False,
        f"{A}.ref.fsdp_config.dtype": "float32",
        f"+{A}.ref.fsdp_config.mixed_precision": whole,
        f"{A}.rollout.name": "gradus",
        f"{A}.rollout.dtype": "float32",
        f"{A}.rollout.load_format": "auto",
        f"{A}.rollout.agent.num_workers": 1,
        "reward.num_workers": 1,
        "transfer_queue.backend.SimpleStorage.num_data_storage_units": 1,
    }


def _own_ray() -> dict[str, Any]:
    """Of a verl on a CPU that starts its Ray itself: Ray only counts these, and verl's processes ask for so many."""
    return {
        "+ray_kwargs.ray_init.num_gpus": 1,
        "ray_kwargs.ray_init.num_cpus": 16,
        "+ray_kwargs.ray_init.include_dashboard": False,
    }


def _of_run(config: Config, place: Place) -> dict[str, Any]:
    """What a run of gradus knows: its files, its prompts, its Ray; gradus prunes, and writes the models itself."""
    plan, records = str(place.folder / "plan.parquet"), str(place.folder / f"rollouts_{place.attempt}")
    settings: dict[str, Any] = {
        "+reward.custom_reward_function.reward_kwargs.tasks": json.dumps(
            {name: {key: _absolute(value) for key, value in options.items()} for name, options in config.tasks.items()}
        ),
        "data.train_files": plan,
        "data.val_files": plan,
        "data.max_prompt_length": place.longest_prompt,
        f"{A}.rollout.max_model_len": place.longest_prompt + config.sampling.max_tokens,
        f"{A}.model.path": place.model,
        f"{A}.actor.checkpoint.save_contents": ["model", "optimizer", "extra"],
        "trainer.save_freq": save_every(config) // steps_per_batch(config),
        "trainer.max_actor_ckpt_to_keep": None,
        "trainer.default_local_dir": str(place.folder),
        "trainer.rollout_data_dir": records,
        "trainer.resume_mode": "disable",
        "+ray_kwargs.ray_init.address": place.address,
    }
    if config.model.lora is not None and place.is_cpu:
        settings[f"{A}.model.lora_adapter_path"] = str(place.folder / ADAPTER)
    if place.resume_batch:
        settings["trainer.resume_mode"] = "resume_path"
        settings["trainer.resume_from_path"] = str(place.folder / f"global_step_{place.resume_batch}")
    for name, value in place.environment.items():
        settings[f"+ray_kwargs.ray_init.runtime_env.env_vars.{name}"] = value
    return settings


def _absolute(option: Any) -> Any:
    """A task's option for a process in another folder: a file of ours by its whole path, ``FILE:FUNCTION`` too."""
    if not isinstance(option, str) or not option:
        return option
    place, colon, name = option.rpartition(":")
    for path, rest in ((option, ""), (place, colon + name)):
        if path and Path(path).exists():
            return str(Path(path).resolve()) + rest
    return option


def hydra_value(value: Any) -> str:
    """A value in Hydra's language; texts are quoted, so that nothing in them is read as its grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{hydra_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(hydra_value(item) for item in value) + "]"
    if "${" in str(value):
        raise ValueError(f"{str(value)!r} has ${{ in it, which verl's configuration would replace; write it otherwise")
    escaped = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
