"""Config → overrides of verl's own command, and what verl cannot honour. Plain data: neither torch nor verl is imported.

The dialect is that of verl 0.9. `gradus config validate RECIPE --backend verl` prints what is made here; the data come from
`gradus.integrations.verl.write_plan`, the scores from its ``compute_score``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gradus.algo.presets import Algorithm, resolve_algorithm
from gradus.config import Config
from gradus.recipe import Resolved
from gradus.train.backends.image import Image, Ours, Refused, Sets, cannot, promises, refused, shown

VERSION = "0.9.1"
"""The release whose settings these are; a test composes them with it where it is installed."""
FOLDER = "verl"
"""Where the data are expected, and where verl's checkpoints and recorded completions go."""
LARGEST_MICROBATCH = 8
"""Completions per forward pass where the config leaves their number open."""
NO_CLIP = 1e9
"""verl clips a loss twice (``clip_ratio_c``); this takes the second clip away."""

A = "actor_rollout_ref"
IMAGES: Mapping[str, Image] = {
    "name": Sets("trainer.experiment_name"),
    "seed": Sets("data.seed", f"{A}.rollout.seed", says="completions have no seeds of their own, so no run repeats"),
    "num_steps": Sets("trainer.total_training_steps"),
    "torch_threads": Ours(),
    "model.path": Sets(f"{A}.model.path"),
    "model.revision": Ours(),
    "model.init": Ours(),
    "model.dtype": Sets(f"{A}.actor.fsdp_config.dtype", f"{A}.rollout.dtype"),
    "model.device": Sets("trainer.device"),
    "model.lora": Ours(),
    "model.lora.rank": Sets(f"{A}.model.lora_rank"),
    "model.lora.alpha": Sets(f"{A}.model.lora_alpha"),
    "model.lora.targets": Sets(f"{A}.model.target_modules"),
    "model.lora.dropout": Ours(),
    "tasks": Sets("reward.custom_reward_function.reward_kwargs.tasks"),
    "curriculum.problems_per_step": Sets("data.train_batch_size", f"{A}.actor.ppo_mini_batch_size"),
    "curriculum.num_problems": Ours(),
    "curriculum.problems_file": Ours(),
    "curriculum.balance_domains": Ours(),
    "curriculum.buckets": Ours(),
    "curriculum.quantiles": Ours(),
    "curriculum.stages": Ours(),
    "curriculum.draw": Ours(),
    "curriculum.adaptive": Ours(),
    "curriculum.cooldown_steps": Ours(),
    "sampling.group_size": Sets(f"{A}.rollout.n"),
    "sampling.temperature": Sets(f"{A}.rollout.temperature"),
    "sampling.max_tokens": Sets("data.max_response_length"),
    "sampling.max_prompt_tokens": Sets("data.max_prompt_length", says="verl's 512 where it is null"),
    "sampling.max_redraws": Refused("the order of problems is fixed before verl starts", "remove it"),
    "engine.name": Sets(f"{A}.rollout.name", says="vLLM samples"),
    "engine.batch_size": Sets(f"{A}.rollout.max_num_seqs"),
    "engine.error_rate": Refused("verl samples from the policy", "remove it"),
    "algorithm.name": Sets("algorithm.adv_estimator", f"{A}.actor.policy_loss.loss_mode"),
    "algorithm.advantage": Sets("algorithm.adv_estimator", "algorithm.norm_adv_by_std_in_grpo"),
    "algorithm.ratio_level": Sets(f"{A}.actor.policy_loss.loss_mode"),
    "algorithm.clip_low": Sets(f"{A}.actor.clip_ratio_low"),
    "algorithm.clip_high": Sets(f"{A}.actor.clip_ratio_high"),
    "algorithm.aggregate": Sets(f"{A}.actor.loss_agg_mode", f"{A}.actor.loss_scale_factor"),
    "algorithm.kl_coef": Sets(f"{A}.actor.use_kl_loss", f"{A}.actor.kl_loss_coef", says="k3 is cut at 10 per token"),
    "algorithm.entropy_coef": Sets(f"{A}.actor.entropy_coeff"),
    "algorithm.keep_flat_groups": Ours(),
    "optimizer.learning_rate": Sets(f"{A}.actor.optim.lr"),
    "optimizer.schedule": Sets(f"{A}.actor.optim.lr_scheduler_type"),
    "optimizer.warmup_steps": Sets(f"{A}.actor.optim.lr_warmup_steps", says="the first step of a warm-up has rate 0"),
    "optimizer.weight_decay": Sets(f"{A}.actor.optim.weight_decay", says="applied to all weights, norms included"),
    "optimizer.beta2": Sets(f"{A}.actor.optim.betas"),
    "optimizer.max_grad_norm": Sets(f"{A}.actor.optim.clip_grad", f"{A}.actor.grad_clip"),
    "optimizer.microbatch_tokens": Refused("its batches are cut by completions", "set optimizer.microbatch_size"),
    "optimizer.microbatch_size": Sets(f"{A}.actor.ppo_micro_batch_size_per_gpu"),
    "optimizer.updates_per_batch": Sets(f"{A}.actor.ppo_mini_batch_size", says="verl counts batches, not updates"),
    "optimizer.passes_per_batch": Sets(f"{A}.actor.ppo_epochs"),
    "optimizer.on_nonfinite": Ours("verl leaves a step out whose gradient norm is not finite"),
    "sft.batch_size": Ours(),
    "sft.data_file": Ours(),
    "scoring.stop_error_frac": Ours("nothing stops the run: watch the mean of scoring_error"),
    "evaluation.split": Ours(),
    "evaluation.every_steps": Ours("verl does not evaluate; gradus evaluate measures what it saved"),
    "evaluation.num_problems": Ours(),
    "evaluation.samples_per_problem": Ours(),
    "evaluation.temperature": Ours(),
    "evaluation.seed": Ours(),
    "evaluation.primary_metric": Ours(),
    "probe.num_problems": Ours(),
    "probe.samples_per_problem": Ours(),
    "probe.limits": Ours(),
    "health.on_critical": Ours("health rules do not watch a run of verl's own"),
    "health.rules": Ours(),
    "checkpoint.every_steps": Sets("trainer.save_freq"),
    "checkpoint.keep_last": Sets("trainer.max_actor_ckpt_to_keep"),
    "checkpoint.keep_every_steps": Refused("it keeps the newest checkpoints only", "set checkpoint.keep_last"),
    "checkpoint.verify": Ours(),
    "checkpoint.grace_seconds": Ours("a signal costs the steps since verl's last save"),
    "records.rollouts_every_steps": Ours("verl records all completions of every step, in verl/rollouts"),
    "tracking.sinks": Refused("it has trackers of its own", "give its trainer.logger"),
    "tracking.project": Refused("it has trackers of its own", "give its trainer.project_name"),
    "backend.name": Ours(),
    "backend.extra": Ours(),
}
"""Each leaf of the config, and what becomes of it. ``Ours`` keys shape the data, or what gradus does beside the run."""


def check(resolved: Resolved) -> None:
    """ValueError with everything of a config that verl cannot honour. Needs no package."""
    config = resolved.config
    algorithm = resolve_algorithm(config.algorithm)
    found = [*refused("verl", resolved, IMAGES), *_refused_algorithm(algorithm), *_refused_values(config)]
    if found:
        raise ValueError("\n".join(found))


def overrides(config: Config) -> list[str]:
    """Arguments of ``python -m verl.trainer.main_ppo``, in Hydra's language."""
    return [f"{key}={_hydra(value)}" for key, value in settings_of(config).items()]


def settings_of(config: Config) -> dict[str, Any]:
    """Key to value; ``+`` before a key that verl's own tree does not have."""
    model, sampling, optimizer = config.model, config.sampling, config.optimizer
    period, size = steps_per_batch(config), microbatch(config)
    dtype = "float32" if model.dtype == "float32" else "bfloat16"
    return {
        "data.train_files": f"{FOLDER}/plan.parquet",
        "data.val_files": f"{FOLDER}/plan.parquet",
        "data.train_batch_size": config.curriculum.problems_per_step,
        "data.max_prompt_length": sampling.max_prompt_tokens or 512,
        "data.max_response_length": sampling.max_tokens,
        "data.shuffle": False,
        "data.dataloader_num_workers": 0,
        "data.filter_overlong_prompts": False,
        "data.truncation": "error",
        "data.seed": config.seed,
        f"{A}.model.path": model.path,
        f"{A}.model.trust_remote_code": False,
        f"{A}.actor.strategy": "fsdp2",
        f"{A}.actor.ppo_mini_batch_size": config.curriculum.problems_per_step // optimizer.updates_per_batch,
        f"{A}.actor.ppo_epochs": optimizer.passes_per_batch,
        f"{A}.actor.ppo_micro_batch_size_per_gpu": size,
        f"{A}.actor.use_dynamic_bsz": False,
        f"{A}.actor.shuffle": False,
        f"{A}.actor.data_loader_seed": config.seed,
        f"{A}.actor.fsdp_config.dtype": dtype,
        f"{A}.actor.optim.lr": optimizer.learning_rate,
        f"{A}.actor.optim.lr_scheduler_type": optimizer.schedule,
        f"{A}.actor.optim.lr_warmup_steps": optimizer.warmup_steps // period,
        f"{A}.actor.optim.weight_decay": optimizer.weight_decay,
        f"{A}.actor.optim.betas": [0.9, optimizer.beta2],
        f"{A}.actor.optim.clip_grad": optimizer.max_grad_norm,
        f"{A}.actor.grad_clip": optimizer.max_grad_norm,
        **_loss(resolve_algorithm(config.algorithm), sampling.max_tokens),
        **_weights(config),
        f"{A}.rollout.name": "vllm",
        f"{A}.rollout.dtype": dtype,
        f"{A}.rollout.tensor_model_parallel_size": 1,
        f"{A}.rollout.n": sampling.group_size,
        f"{A}.rollout.temperature": sampling.temperature,
        f"{A}.rollout.top_p": 1.0,
        f"{A}.rollout.top_k": -1,
        f"{A}.rollout.seed": config.seed,
        f"{A}.rollout.max_num_seqs": config.engine.batch_size,
        f"{A}.rollout.log_prob_micro_batch_size_per_gpu": size,
        f"{A}.ref.log_prob_micro_batch_size_per_gpu": size,
        "reward.custom_reward_function.path": "pkg://gradus.integrations.verl",
        "reward.custom_reward_function.name": "compute_score",
        "+reward.custom_reward_function.reward_kwargs.tasks": json.dumps(
            {name: dict(options) for name, options in config.tasks.items()}
        ),
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


def differences(config: Config) -> list[str]:
    """What is not as in a native run of the same config, one line each."""
    lines = promises(config, IMAGES)
    if resolve_algorithm(config.algorithm).advantage == "standardize":
        lines.append("advantages are divided by the standard deviation + 1e-6 (native: 1e-4)")
    lines.append("ratios are taken to log-probabilities that verl computes again; log-ratios are cut at 20")
    lines.append("a completion whose scoring failed gets the lowest reward of the task, and is counted")
    return lines


def steps_per_batch(config: Config) -> int:
    """Optimizer steps that one of verl's steps takes."""
    return config.optimizer.updates_per_batch * config.optimizer.passes_per_batch


def microbatch(config: Config) -> int:
    """Completions per forward pass."""
    per_step = _completions_per_step(config)
    return config.optimizer.microbatch_size or max(
        size for size in range(1, LARGEST_MICROBATCH + 1) if per_step % size == 0
    )


def _completions_per_step(config: Config) -> int:
    return config.curriculum.problems_per_step * config.sampling.group_size // config.optimizer.updates_per_batch


def _weights(config: Config) -> dict[str, Any]:
    """All weights, saved as a model too; or an adapter, with which the model that verl saves cannot be loaded."""
    own, lora = ["model", "optimizer", "extra"], config.model.lora
    if lora is None:
        return {f"{A}.actor.checkpoint.save_contents": [*own, "hf_model"]}
    return {
        f"{A}.actor.checkpoint.save_contents": own,
        f"{A}.model.lora_rank": lora.rank,
        f"{A}.model.lora_alpha": lora.alpha,
        f"{A}.model.target_modules": lora.targets if isinstance(lora.targets, str) else list(lora.targets),
        f"{A}.rollout.load_format": "safetensors",
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
        f"{A}.actor.use_kl_loss": algorithm.kl_coef > 0,
        f"{A}.actor.kl_loss_coef": algorithm.kl_coef,
        f"{A}.actor.kl_loss_type": "low_var_kl",
    }
    if algorithm.aggregate == "fixed":
        settings[f"{A}.actor.loss_scale_factor"] = max_tokens
    return settings


def _refused_algorithm(algorithm: Algorithm) -> list[str]:
    found = []
    if not algorithm.keep_flat_groups:
        why = "the order of problems is fixed before verl starts"
        found.append(cannot("verl", "algorithm.keep_flat_groups=false", why, "set algorithm.keep_flat_groups=true"))
    if algorithm.advantage == "none":
        why = "its estimators of groups take the mean off"
        found.append(cannot("verl", "algorithm.advantage=none", why, "set algorithm.advantage=center"))
    if algorithm.ratio_level == "detached":
        why = "its losses are of ratios"
        found.append(cannot("verl", "algorithm.ratio_level=detached", why, "set algorithm.ratio_level=token"))
    only = {"sequence": "sequence", "capped": "token"}.get(algorithm.ratio_level, algorithm.aggregate)
    if algorithm.aggregate != only:
        setting = f"algorithm.ratio_level={algorithm.ratio_level} with algorithm.aggregate={algorithm.aggregate}"
        found.append(cannot("verl", setting, "it has no such loss", f"set algorithm.aggregate={only}"))
    return found


def _refused_values(config: Config) -> list[str]:
    """Settings whose value decides."""
    model, optimizer, curriculum = config.model, config.optimizer, config.curriculum
    per_step, size, period = _completions_per_step(config), optimizer.microbatch_size, steps_per_batch(config)
    dropout = model.lora.dropout if model.lora else 0.0
    fixed = "the order of problems is fixed before verl starts"
    table: list[tuple[str, Any, bool, str, str]] = [
        ("model.init", model.init, model.init == "random", "it loads weights from a folder", "set model.init=pretrained"),
        ("model.path", model.path, model.path.startswith("nano/"), "it knows no embedded policies", "give its folder"),
        ("model.revision", model.revision, model.revision is not None, "it takes no revision", "give a local folder"),
        ("model.device", model.device, model.device in ("cpu", "mps"), "it has no such platform", "set model.device=auto"),
        ("model.lora.dropout", dropout, dropout > 0, "its adapters have none", "set model.lora.dropout=0"),
        ("curriculum.adaptive", curriculum.adaptive, curriculum.adaptive != "off", fixed, "set curriculum.adaptive=off"),
        ("curriculum.cooldown_steps", curriculum.cooldown_steps, curriculum.cooldown_steps > 0, fixed,
         "set curriculum.cooldown_steps=0"),
        ("engine.name", config.engine.name, config.engine.name != "local", "it samples from the policy",
         "set engine.name=local"),
        ("optimizer.schedule", optimizer.schedule, optimizer.schedule == "linear", "it has constant and cosine only",
         "set optimizer.schedule=cosine"),
        ("optimizer.on_nonfinite", optimizer.on_nonfinite, optimizer.on_nonfinite != "skip",
         "it leaves such a step out and goes on", "set optimizer.on_nonfinite=skip"),
        ("optimizer.microbatch_size", size, size is not None and per_step % size > 0,
         f"the {per_step} completions of an update do not divide by it", "set a divisor"),
    ]  # fmt: skip
    for key, value in (
        ("num_steps", config.num_steps),
        ("checkpoint.every_steps", config.checkpoint.every_steps),
        ("optimizer.warmup_steps", optimizer.warmup_steps),
    ):
        why, remedy = f"it counts batches of {period} updates", f"set {key}={-(-value // period) * period}"
        table.append((key, value, value % period > 0, why, remedy))
    return [cannot("verl", f"{key}={shown(value)}", why, remedy) for key, value, is_it, why, remedy in table if is_it]


def _hydra(value: Any) -> str:
    """A value in Hydra's language; texts are quoted, so that nothing in them is read as its grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_hydra(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_hydra(item) for item in value) + "]"
    if "${" in str(value):
        raise ValueError(f"{str(value)!r} has ${{ in it, which verl's configuration would replace; write it otherwise")
    escaped = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
