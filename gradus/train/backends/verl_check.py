"""What becomes of each config key in a verl run, what verl cannot honour, and what differs from a native run.

Plain data: neither torch nor verl is imported. The settings themselves are made in `verl_settings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradus.algo.presets import resolve_algorithm
from gradus.config import Config
from gradus.recipe import Resolved
from gradus.train.backends.batches import refused_batches, steps_per_batch
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
from gradus.train.backends.verl_lint import lint
from gradus.train.backends.verl_settings import MINE_TO_SET, A, settings_of
from gradus.train.backends.verl_told import Facts, Finding

IMAGES: Mapping[str, Image] = {
    **SHARED,
    "name": Sets("trainer.experiment_name"),
    "seed": Sets("data.seed", f"{A}.rollout.seed", says="with vLLM completions have no seeds of their own"),
    "num_steps": Sets("trainer.total_training_steps"),
    "model.path": Sets(f"{A}.model.path"),
    "model.dtype": Sets(f"{A}.actor.fsdp_config.dtype", f"{A}.rollout.dtype"),
    "model.device": Sets("trainer.device"),
    "model.gradient_checkpointing": Sets(f"{A}.model.enable_gradient_checkpointing"),
    "model.lora.rank": Sets(f"{A}.model.lora_rank"),
    "model.lora.alpha": Sets(f"{A}.model.lora_alpha"),
    "model.lora.targets": Sets(f"{A}.model.target_modules"),
    "tasks": Sets("reward.custom_reward_function.reward_kwargs.tasks"),
    "curriculum.problems_per_step": Sets("data.train_batch_size", f"{A}.actor.ppo_mini_batch_size"),
    "sampling.group_size": Sets(f"{A}.rollout.n"),
    "sampling.temperature": Sets(f"{A}.rollout.temperature"),
    "sampling.max_tokens": Sets("data.max_response_length"),
    "sampling.max_prompt_tokens": Sets("data.max_prompt_length"),
    "sampling.max_redraws": Refused("the order of problems is fixed before verl starts", "remove it"),
    "engine.name": Sets(f"{A}.rollout.name", says="gradus' own sampler on a CPU, vLLM on a GPU"),
    "engine.batch_size": Sets(f"{A}.rollout.max_num_seqs"),
    "engine.gpu_memory_frac": Refused(
        "verl has a key of its own", "give actor_rollout_ref.rollout.gpu_memory_utilization in backend.extra"
    ),
    "engine.error_rate": Refused("verl samples from the policy", "remove it"),
    "algorithm.name": Sets("algorithm.adv_estimator", f"{A}.actor.policy_loss.loss_mode"),
    "algorithm.advantage": Sets("algorithm.adv_estimator", "algorithm.norm_adv_by_std_in_grpo"),
    "algorithm.ratio_level": Sets(f"{A}.actor.policy_loss.loss_mode"),
    "algorithm.clip_low": Sets(f"{A}.actor.clip_ratio_low"),
    "algorithm.clip_high": Sets(f"{A}.actor.clip_ratio_high"),
    "algorithm.aggregate": Sets(f"{A}.actor.loss_agg_mode", f"{A}.actor.loss_scale_factor"),
    "algorithm.kl_coef": Sets(f"{A}.actor.use_kl_loss", f"{A}.actor.kl_loss_coef", says="k3 is cut at 10 per token"),
    "algorithm.entropy_coef": Sets(f"{A}.actor.entropy_coeff"),
    "optimizer.learning_rate": Sets(f"{A}.actor.optim.lr"),
    "optimizer.schedule": Sets(f"{A}.actor.optim.override_optimizer_config"),
    "optimizer.warmup_steps": Sets(f"{A}.actor.optim.override_optimizer_config"),
    "optimizer.weight_decay": Sets(f"{A}.actor.optim.weight_decay"),
    "optimizer.beta2": Sets(f"{A}.actor.optim.betas"),
    "optimizer.max_grad_norm": Sets(f"{A}.actor.optim.clip_grad", f"{A}.actor.grad_clip"),
    "optimizer.microbatch_tokens": Refused("its batches are cut by completions", "set optimizer.microbatch_size"),
    "optimizer.microbatch_size": Sets(f"{A}.actor.ppo_micro_batch_size_per_gpu"),
    "optimizer.auto_microbatch": Refused("it cannot begin a step again", "set optimizer.microbatch_size"),
    "optimizer.updates_per_batch": Sets(f"{A}.actor.ppo_mini_batch_size", says="verl counts batches, not updates"),
    "optimizer.passes_per_batch": Sets(f"{A}.actor.ppo_epochs"),
    "optimizer.on_nonfinite": Ours("verl leaves a step out whose gradient norm is not finite"),
    "evaluation.every_steps": Ours("gradus evaluates the weights that verl saved, in its own process"),
    "checkpoint.every_steps": Sets("trainer.save_freq"),
    "checkpoint.grace_seconds": Ours(
        "verl cannot save when it is told to: a signal costs the steps since its last save"
    ),
    "parallel.strategy": Refused("it shards with fsdp2", "remove it"),
    "parallel.num_nodes": Refused("its launcher counts machines", "give trainer.nnodes in backend.extra"),
    "parallel.devices_per_node": Refused(
        "its launcher counts devices", "give trainer.n_gpus_per_node in backend.extra"
    ),
    "backend.ray_address": Ours(),
}
"""Each leaf of the config, and what becomes of it. ``Ours`` keys shape the data, or what gradus does beside verl."""


def check(resolved: Resolved) -> None:
    """ValueError with everything of a config that verl cannot honour. Needs no package."""
    config = resolved.config
    algorithm = resolve_algorithm(config.algorithm)
    found = [
        *refused("verl", resolved, IMAGES),
        *refused_losses(
            "verl",
            algorithm,
            flat="the order of problems is fixed before verl starts",
            mean="its estimators of groups take the mean off",
            ratio="its losses are of ratios",
        ),
        *_refused_values(config),
        *refused_batches("verl", config, f"it counts batches of {steps_per_batch(config)} updates"),
        *_refused_extra(config),
    ]
    if found:
        raise ValueError("\n".join(found))


def differences(config: Config) -> list[str]:
    """What is not as in a native run of the same config, one line each."""
    lines = promises(config, IMAGES)
    if resolve_algorithm(config.algorithm).advantage == "standardize":
        lines.append("advantages are divided by the standard deviation + 1e-6 (native: 1e-4)")
    lines.append("ratios are taken to log-probabilities that verl computes again; log-ratios are cut at 20")
    lines.append("a completion whose scoring failed gets the lowest reward of the task, and is counted")
    lines.append("exact bits are not promised: the batch is put together as completions arrive")
    return lines


def _refused_values(config: Config) -> list[str]:
    """Settings whose value decides."""
    model, optimizer, curriculum = config.model, config.optimizer, config.curriculum
    dropout = model.lora.dropout if model.lora else 0.0
    fixed = "the order of problems is fixed before verl starts"
    table: list[tuple[str, Any, bool, str, str]] = [
        ("model.init", model.init, model.init == "random", "it loads weights from a folder", "set model.init=pretrained"),
        ("model.revision", model.revision, model.revision is not None, "it takes no revision", "give a local folder"),
        ("model.device", model.device, model.device == "mps", "it has no such platform", "set model.device=cpu"),
        ("model.enable_thinking", model.enable_thinking, model.enable_thinking is not None,
         "it renders the chat template itself", "put the choice into the model's chat_template.jinja"),
        ("model.load_in_4bit", model.load_in_4bit, model.load_in_4bit, "it trains no 4-bit weights",
         "set model.load_in_4bit=false"),
        ("optimizer.moments", optimizer.moments, optimizer.moments != "float32", "its AdamW keeps float32 moments",
         "set optimizer.moments=float32"),
        ("model.lora.dropout", dropout, dropout > 0, "its adapters have none", "set model.lora.dropout=0"),
        ("curriculum.adaptive", curriculum.adaptive, curriculum.adaptive != "off", fixed, "set curriculum.adaptive=off"),
        ("curriculum.cooldown_steps", curriculum.cooldown_steps, curriculum.cooldown_steps > 0, fixed,
         "set curriculum.cooldown_steps=0"),
        ("engine.name", config.engine.name, config.engine.name != "local", "it samples from the policy",
         "set engine.name=local"),
        ("optimizer.on_nonfinite", optimizer.on_nonfinite, optimizer.on_nonfinite != "skip",
         "it leaves such a step out and goes on", "set optimizer.on_nonfinite=skip"),
    ]  # fmt: skip
    return [cannot("verl", f"{key}={shown(value)}", why, remedy) for key, value, is_it, why, remedy in table if is_it]


def own_keys(config: Config) -> set[str]:
    """Keys of verl that gradus sets itself in a run, or that would name another run's files."""
    plain = config.model_copy(update={"backend": type(config.backend)()})
    ours = {key.lstrip("+") for key in settings_of(plain)} - set(MINE_TO_SET)
    return ours | {"trainer.resume_mode", "trainer.resume_from_path", f"{A}.rollout.max_model_len"}


def _refused_extra(config: Config) -> list[str]:
    """What `backend.extra` may not set, and what verl would not honour of it."""
    ours = own_keys(config)
    found = [
        f"backend.extra.{key}={shown(value)} is set by gradus itself; remove it, and use the key of gradus "
        "that means the same, if there is one (docs/verl.md)"
        for key, value in config.backend.extra.items()
        if key.lstrip("+") in ours or key.lstrip("+").startswith("ray_kwargs.")
    ]
    return found or [f"backend.extra: {one}" for one in findings(config) if one.level == "error"]


def findings(config: Config) -> list[Finding]:
    """What the linter says of the settings that verl is told."""
    return lint(settings_of(config), Facts(is_planned=True))
