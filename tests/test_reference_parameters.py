"""What the users' own runs set, row by row: each parameter is in a recipe with its value, or refused with a reason.

Five projects: economic decisions with LoRA (verl), Countdown and GSM8K (verl), PDDL planning (TRL with Unsloth), GSM8K on
a Mac (own loop), competition mathematics (TRL). Where a project's documents and its code differ, the recipe's header says
which of the two it follows.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from gradus.keys import leaves
from gradus.recipe import Resolved, resolve
from gradus.train.backends import trl_settings, verl_settings

ECONOMY, COUNTDOWN, GSM8K = "economy_qwen25_7b_lora", "countdown_qwen3_4b", "gsm8k_qwen25_3b"
QWEN, MISTRAL, LARGE = (f"planning_{name}_curriculum" for name in ("qwen25_7b", "mistral_7b", "qwen3_14b"))
MAC, NUMINA = "gsm8k_qwen25_05b_mps", "math_qwen25_05b_lora"

FOUND = [
    (ECONOMY, "custom_reward_function.path, .name", "tasks.economy.reward", "seed"),
    (ECONOMY, "data.train_batch_size=4", "curriculum.problems_per_step", 4),
    (ECONOMY, "actor_rollout_ref.model.path", "model.path", "Qwen/Qwen2.5-7B-Instruct"),
    (ECONOMY, "data.max_prompt_length=1536", "sampling.max_prompt_tokens", 1536),
    (ECONOMY, "data.max_response_length=128", "sampling.max_tokens", 128),
    (ECONOMY, "actor_rollout_ref.model.lora_rank=8", "model.lora.rank", 8),
    (ECONOMY, "actor_rollout_ref.model.lora_alpha=16", "model.lora.alpha", 16),
    (ECONOMY, "actor_rollout_ref.model.target_modules=all-linear", "model.lora.targets", "all-linear"),
    (ECONOMY, "actor.ppo_mini_batch_size=4", "optimizer.updates_per_batch", 1),
    (ECONOMY, "actor.ppo_micro_batch_size_per_gpu=1", "optimizer.microbatch_size", 1),
    (ECONOMY, "actor.entropy_coeff=0.02", "algorithm.entropy_coef", 0.02),
    (ECONOMY, "rollout.n=2", "sampling.group_size", 2),
    (ECONOMY, "rollout.temperature=0.7", "sampling.temperature", 0.7),
    (ECONOMY, "algorithm.adv_estimator=grpo", "algorithm.name", "grpo"),
    (ECONOMY, "rollout.max_num_seqs=4", "engine.batch_size", 4),
    (ECONOMY, "trainer.total_training_steps, of its 100 conservative steps", "num_steps", 100),
    (ECONOMY, "algorithm.kl_ctrl.kl_coef=0.005, which had no effect", "algorithm.kl_coef", None),
    (COUNTDOWN, "learning rate 2e-6", "optimizer.learning_rate", 2e-6),
    (COUNTDOWN, "rollout.n 16", "sampling.group_size", 16),
    (COUNTDOWN, "batch 64", "curriculum.problems_per_step", 64),
    (COUNTDOWN, "mean over all tokens", "algorithm.aggregate", "token"),
    (COUNTDOWN, "kl_coef 0.01, which had no effect", "algorithm.kl_coef", None),
    (GSM8K, "learning rate 1e-6", "optimizer.learning_rate", 1e-6),
    (GSM8K, "rollout.n 16", "sampling.group_size", 16),
    (GSM8K, "batch 32", "curriculum.problems_per_step", 32),
    (GSM8K, "233 steps", "num_steps", 233),
    (QWEN, "unsloth/Qwen2.5-7B-Instruct-bnb-4bit", "model.load_in_4bit", True),
    (QWEN, "max_steps 1000", "num_steps", 1000),
    (QWEN, "batch_size 8", "curriculum.problems_per_step", 8),
    (QWEN, "learning_rate 1e-5", "optimizer.learning_rate", 1e-5),
    (QWEN, "beta 0.02", "algorithm.kl_coef", 0.02),
    (MISTRAL, "max_steps 1500", "num_steps", 1500),
    (MISTRAL, "batch_size 12", "curriculum.problems_per_step", 12),
    (MISTRAL, "learning_rate 1e-5", "optimizer.learning_rate", 1e-5),
    (MISTRAL, "beta 0.02", "algorithm.kl_coef", 0.02),
    (LARGE, "max_steps 2000", "num_steps", 2000),
    (LARGE, "batch_size 16 with gradient_accumulation_steps 2", "curriculum.problems_per_step", 32),
    (LARGE, "learning_rate 5e-6", "optimizer.learning_rate", 5e-6),
    (LARGE, "beta 0.01", "algorithm.kl_coef", 0.01),
    *(
        row
        for recipe in (QWEN, MISTRAL, LARGE)
        for row in (
            (recipe, "temperature 0.8", "sampling.temperature", 0.8),
            (recipe, "num_generations 4", "sampling.group_size", 4),
            (recipe, "max_completion_length 512", "sampling.max_tokens", 512),
            (recipe, "max_prompt_length 1576", "sampling.max_prompt_tokens", 1576),
            (recipe, "as many problems of each domain", "curriculum.balance_domains", True),
        )
    ),
    (MAC, "learning rate 5e-6", "optimizer.learning_rate", 5e-6),
    (MAC, "KL 0.1", "algorithm.kl_coef", 0.1),
    (MAC, "1,000 problems", "curriculum.num_problems", 1000),
    (MAC, "3 epochs of 500 steps of 2", "num_steps", 1500),
    (MAC, "2 problems per step", "curriculum.problems_per_step", 2),
    (MAC, "float32 on MPS", "model.device", "mps"),
    (NUMINA, "learning_rate 1e-5", "optimizer.learning_rate", 1e-5),
    (NUMINA, "max_completion_length 64", "sampling.max_tokens", 64),
    (NUMINA, "max_prompt_length 128", "sampling.max_prompt_tokens", 128),
    (NUMINA, "num_generations 4", "sampling.group_size", 4),
    (NUMINA, "save_steps 20", "checkpoint.every_steps", 20),
]
"""(recipe, what the project set, our key, its value)."""

REFUSED = [
    (ECONOMY, "algorithm.kl_ctrl.kl_coef=0.005", "is not a key; did you mean algorithm.kl_coef?"),
    (ECONOMY, "custom_reward_function.path=reward.py", "custom_reward_function.path is not a key"),
    (ECONOMY, "ray_kwargs.ray_init.address=auto", "ray_kwargs.ray_init.address is not a key"),
    (ECONOMY, "data.val_batch_size=1", "data.val_batch_size is not a key"),
    (ECONOMY, "actor_rollout_ref.rollout.prompt_length=1536", "prompt_length is not a key"),
    (ECONOMY, "actor_rollout_ref.rollout.response_length=128", "response_length is not a key"),
    (ECONOMY, "actor_rollout_ref.rollout.n=2", "did you mean sampling.group_size?"),
    (ECONOMY, "actor_rollout_ref.model.use_remove_padding=false", "use_remove_padding is not a key"),
    (ECONOMY, "actor_rollout_ref.actor.use_dynamic_bsz=false", "use_dynamic_bsz is not a key"),
    (ECONOMY, "actor_rollout_ref.rollout.enforce_eager=true", "enforce_eager is not a key"),
    (ECONOMY, "trainer.save_freq=1000", "did you mean checkpoint.every_steps?"),
    (ECONOMY, "trainer.test_freq=1000", "did you mean evaluation.every_steps?"),
    (ECONOMY, "trainer.val_before_train=false", "trainer.val_before_train is not a key"),
    (ECONOMY, "trainer.resume_mode=auto", "trainer.resume_mode is not a key"),
    (COUNTDOWN, "algorithm.use_kl_in_reward=true", "algorithm.use_kl_in_reward is not a key"),
    (QWEN, "sampling.top_p=0.9", "the recorded log-probabilities would not be those of the truncated distribution"),
    (QWEN, "sampling.top_k=50", "the recorded log-probabilities would not be those of the truncated distribution"),
    (MAC, "model.dtype=float16", "model.dtype='float16' is not one of auto, float32, bfloat16"),
]  # fmt: skip
"""(recipe, what the project set as an override, what is said to it)."""


@cache
def recipe_of(name: str, *overrides: str) -> Resolved:
    return resolve([name], overrides)


@pytest.mark.parametrize(("recipe", "theirs", "leaf", "value"), FOUND, ids=lambda one: str(one))
def test_a_parameter_is_in_the_recipe(recipe: str, theirs: str, leaf: str, value: Any):
    assert leaves(recipe_of(recipe).config)[leaf] == value


@pytest.mark.parametrize(("recipe", "override", "words"), REFUSED, ids=lambda one: str(one))
def test_a_parameter_is_refused_with_a_reason(recipe: str, override: str, words: str):
    with pytest.raises(ValueError) as error:
        resolve([recipe], [override])
    assert words in str(error.value)


def test_a_kl_coefficient_that_had_no_effect_takes_effect():
    """In verl it needs its switch, which was not set."""
    told = verl_settings.settings_of(recipe_of(ECONOMY, "algorithm.kl_coef=0.005").config)
    assert told["actor_rollout_ref.actor.use_kl_loss"] and told["actor_rollout_ref.actor.kl_loss_coef"] == 0.005
    assert trl_settings.arguments(recipe_of(QWEN).config)["beta"] == 0.02


@pytest.mark.parametrize(
    ("recipe", "size", "accumulated"), [(QWEN, 4, 8), (MISTRAL, 4, 12), (LARGE, 4, 32), (NUMINA, 16, 4), (MAC, 2, 4)]
)
def test_batches_as_trl_counts_them(recipe, size, accumulated):
    """Completions per forward pass and passes per step; together they are whole groups of all problems of the step."""
    told = trl_settings.arguments(recipe_of(recipe, f"optimizer.microbatch_size={size}").config)
    assert (told["per_device_train_batch_size"], told["gradient_accumulation_steps"]) == (size, accumulated)
