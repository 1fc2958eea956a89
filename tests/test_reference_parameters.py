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
    (ECONOMY, "loss_agg_mode, left at token-mean", "algorithm.aggregate", "token"),
    (ECONOMY, "weight decay, left at 0.01", "optimizer.weight_decay", 0.01),
    (ECONOMY, "learning rate, left at 1e-6", "optimizer.learning_rate", 1e-6),
    (COUNTDOWN, "learning rate 2e-6", "optimizer.learning_rate", 2e-6),
    (COUNTDOWN, "rollout.n 16", "sampling.group_size", 16),
    (COUNTDOWN, "batch 64", "curriculum.problems_per_step", 64),
    (COUNTDOWN, "mean over all tokens", "algorithm.aggregate", "token"),
    (COUNTDOWN, "kl_coef 0.01, which had no effect", "algorithm.kl_coef", None),
    (COUNTDOWN, "Qwen3-4B", "model.path", "Qwen/Qwen3-4B"),
    (COUNTDOWN, "data.train_max_samples=4096", "curriculum.num_problems", 4096),
    (COUNTDOWN, "1 epoch of 4,096 rows", "num_steps", 64),
    (COUNTDOWN, "reward_fn_countdown.py", "tasks.countdown.reward", "seed-code"),
    (GSM8K, "Qwen2.5-3B", "model.path", "Qwen/Qwen2.5-3B"),
    (GSM8K, "reward_fn_gsm8k.py", "tasks.gsm8k.reward", "seed-code"),
    (GSM8K, "mean over all tokens", "algorithm.aggregate", "token"),
    (GSM8K, "kl_coef 0.01, which had no effect", "algorithm.kl_coef", None),
    (GSM8K, "the evaluator's seed 42", "evaluation.seed", 42),
    (GSM8K, "save_freq 100", "checkpoint.every_steps", 100),
    *(
        row
        for recipe, prompt, tokens, warmup in ((COUNTDOWN, 256, 2048, 6), (GSM8K, 512, 1024, 23))
        for row in (
            (recipe, "max_prompt_length", "sampling.max_prompt_tokens", prompt),
            (recipe, "max_response_length", "sampling.max_tokens", tokens),
            (recipe, "temperature 1.0", "sampling.temperature", 1.0),
            (recipe, "lr_scheduler_type cosine", "optimizer.schedule", "cosine"),
            (recipe, "lr_warmup_steps_ratio 0.1", "optimizer.warmup_steps", warmup),
            (recipe, "weight_decay 0.01", "optimizer.weight_decay", 0.01),
            (recipe, "ppo_epochs 1", "optimizer.passes_per_batch", 1),
            (recipe, "mini batches as large as batches", "optimizer.updates_per_batch", 1),
            (recipe, "test.parquet", "evaluation.split", "test"),
            (recipe, "test_freq 20", "evaluation.every_steps", 20),
            (recipe, "max_actor_ckpt_to_keep 3", "checkpoint.keep_last", 3),
            (recipe, "all weights", "model.lora", None),
        )
    ),
    (GSM8K, "learning rate 1e-6", "optimizer.learning_rate", 1e-6),
    (GSM8K, "rollout.n 16", "sampling.group_size", 16),
    (GSM8K, "batch 32", "curriculum.problems_per_step", 32),
    (GSM8K, "233 steps", "num_steps", 233),
    (QWEN, "unsloth/Qwen2.5-7B-Instruct-bnb-4bit", "model.load_in_4bit", True),
    (QWEN, "max_steps 1000", "num_steps", 1000),
    (QWEN, "batch_size 8", "curriculum.problems_per_step", 8),
    (QWEN, "learning_rate 1e-5", "optimizer.learning_rate", 1e-5),
    (QWEN, "beta 0.02", "algorithm.kl_coef", 0.02),
    (QWEN, "save_steps 100", "checkpoint.every_steps", 100),
    (MISTRAL, "save_steps 50", "checkpoint.every_steps", 50),
    (LARGE, "save_steps 100", "checkpoint.every_steps", 100),
    (QWEN, "the weights behind -bnb-4bit", "model.path", "unsloth/Qwen2.5-7B-Instruct"),
    (MISTRAL, "an SFT checkpoint of Mistral-7B", "model.path", "sft-checkpoints/mistral-7b"),
    (LARGE, "an SFT checkpoint of Qwen3-14B", "model.path", "sft-checkpoints/qwen3-14b"),
    (QWEN, "no use_gradient_checkpointing", "model.gradient_checkpointing", False),
    (MISTRAL, "no use_gradient_checkpointing", "model.gradient_checkpointing", False),
    (LARGE, "use_gradient_checkpointing", "model.gradient_checkpointing", True),
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
            (recipe, "data_root", "tasks.planning.data_root", "five_domain_0109"),
            (recipe, "domains: all that are found", "tasks.planning.domains", None),
            (recipe, "max_grad_norm 1.0", "optimizer.max_grad_norm", 1.0),
            (recipe, "logging_steps 10", "records.rollouts_every_steps", 10),
            (recipe, "seed 3407", "seed", 3407),
            (recipe, "4 checkpoints kept", "checkpoint.keep_last", 4),
        )
    ),
    (MAC, "learning rate 5e-6", "optimizer.learning_rate", 5e-6),
    (MAC, "KL 0.1", "algorithm.kl_coef", 0.1),
    (MAC, "1,000 problems", "curriculum.num_problems", 1000),
    (MAC, "3 epochs of 500 steps of 2", "num_steps", 1500),
    (MAC, "2 problems per step", "curriculum.problems_per_step", 2),
    (MAC, "float32 on MPS", "model.device", "mps"),
    (MAC, "its README's float16, its code's float32", "model.dtype", "float32"),
    (MAC, "Qwen2.5-0.5B", "model.path", "Qwen/Qwen2.5-0.5B"),
    (MAC, "groups of 4 in its third stage", "sampling.group_size", 4),
    (MAC, "temperature 0.7", "sampling.temperature", 0.7),
    (MAC, "200 new tokens", "sampling.max_tokens", 200),
    (MAC, "512 tokens in all", "sampling.max_prompt_tokens", 312),
    (MAC, "weight decay 0.01", "optimizer.weight_decay", 0.01),
    (MAC, "gradients clipped at 1.0", "optimizer.max_grad_norm", 1.0),
    (MAC, "1 or -0.1", "tasks.gsm8k.reward", "r3"),
    (MAC, "the number in the last box", "tasks.gsm8k.r3_reading", "box-digits"),
    (MAC, "instructions in Chinese", "tasks.gsm8k.language", "zh"),
    (MAC, "seed 42", "seed", 42),
    (MAC, "all weights", "model.lora", None),
    (NUMINA, "learning_rate 1e-5", "optimizer.learning_rate", 1e-5),
    (NUMINA, "max_completion_length 64", "sampling.max_tokens", 64),
    (NUMINA, "max_prompt_length 128", "sampling.max_prompt_tokens", 128),
    (NUMINA, "num_generations 4", "sampling.group_size", 4),
    (NUMINA, "save_steps 20", "checkpoint.every_steps", 20),
    (NUMINA, "logging_steps 20", "records.rollouts_every_steps", 20),
    (NUMINA, "Qwen2.5-0.5B-Instruct", "model.path", "Qwen/Qwen2.5-0.5B-Instruct"),
    (NUMINA, "bf16", "model.dtype", "bfloat16"),
    (NUMINA, "LoRA r 8", "model.lora.rank", 8),
    (NUMINA, "LoRA alpha 32", "model.lora.alpha", 32),
    (NUMINA, "LoRA dropout 0.01", "model.lora.dropout", 0.01),
    (NUMINA, "LoRA on q_proj v_proj", "model.lora.targets", ["q_proj", "v_proj"]),
    (NUMINA, "train[:5%]", "curriculum.num_problems", 3622),
    (NUMINA, "16 problems", "curriculum.problems_per_step", 16),
    (NUMINA, "1 epoch", "num_steps", 226),
    (NUMINA, "warm-up 0.05", "optimizer.warmup_steps", 11),
    (NUMINA, "TRL's linear decay", "optimizer.schedule", "linear"),
    (NUMINA, "TRL's beta of its time", "algorithm.kl_coef", 0.04),
    (NUMINA, "TRL's temperature", "sampling.temperature", 1.0),
    (NUMINA, "format and accuracy, summed", "tasks.math.reward", "seed-code"),
    (NUMINA, "test[:5%]", "evaluation.split", "test"),
]
"""(recipe, what the project set, our key, its value)."""

REFUSED = [
    (ECONOMY, "algorithm.kl_ctrl.kl_coef=0.005", "is not a key; did you mean algorithm.kl_coef?"),
    (ECONOMY, "custom_reward_function.path=reward.py", "custom_reward_function.path is not a key"),
    (ECONOMY, "ray_kwargs.ray_init.address=auto", "ray_kwargs.ray_init.address is not a key"),
    (ECONOMY, "data.train_files=x", "problems come from the task"),
    (ECONOMY, "data.val_files=x", "evaluation.split says which are held out"),
    (ECONOMY, "data.val_batch_size=1", "evaluations have engine.batch_size too"),
    (ECONOMY, "actor_rollout_ref.rollout.prompt_length=1536", "did you mean sampling.max_prompt_tokens?"),
    (ECONOMY, "actor_rollout_ref.rollout.response_length=128", "did you mean sampling.max_tokens?"),
    (ECONOMY, "actor_rollout_ref.rollout.n=2", "did you mean sampling.group_size?"),
    (ECONOMY, "actor_rollout_ref.rollout.max_model_len=2048", "max_prompt_tokens and sampling.max_tokens together"),
    (ECONOMY, "actor_rollout_ref.rollout.tensor_model_parallel_size=1", "a setting of verl alone"),
    (ECONOMY, "actor_rollout_ref.rollout.gpu_memory_utilization=0.5", "a setting of verl alone"),
    (ECONOMY, "actor_rollout_ref.rollout.enforce_eager=true", "a setting of verl alone"),
    (ECONOMY, "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=1", "a setting of verl alone"),
    (ECONOMY, "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=1", "a setting of verl alone"),
    (ECONOMY, "actor_rollout_ref.model.override_config.attn_implementation=eager", "a setting of verl alone"),
    (ECONOMY, "actor_rollout_ref.model.use_remove_padding=false", "linear layers never see padding"),
    (ECONOMY, "actor_rollout_ref.actor.use_dynamic_bsz=false", "passes are always cut by optimizer.microbatch_tokens"),
    (ECONOMY, "trainer.save_freq=1000", "did you mean checkpoint.every_steps?"),
    (ECONOMY, "trainer.test_freq=1000", "did you mean evaluation.every_steps?"),
    (ECONOMY, "trainer.val_before_train=false", "the base model is always evaluated, as step 0"),
    (ECONOMY, "trainer.resume_mode=auto", "the same command goes on with a run"),
    (ECONOMY, "trainer.default_local_dir=x", "did you mean name?"),
    (ECONOMY, "trainer.n_gpus_per_node=1", "did you mean parallel.devices_per_node?"),
    (ECONOMY, "trainer.logger=[console]", "did you mean tracking.sinks?"),
    (COUNTDOWN, "data.train_max_samples=4096", "did you mean curriculum.num_problems?"),
    (COUNTDOWN, "data.dataloader_num_workers=0", "problems are drawn in this process"),
    (COUNTDOWN, "actor_rollout_ref.actor.strategy=fsdp", "did you mean parallel.strategy?"),
    (COUNTDOWN, "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=4", "did you mean optimizer.microbatch_size?"),
    (COUNTDOWN, "actor_rollout_ref.actor.checkpoint.save_contents=[model]", "a checkpoint always has the model"),
    (COUNTDOWN, "trainer.log_val_generations=10", "did you mean records.rollouts_every_steps?"),
    (COUNTDOWN, "trainer.nnodes=1", "did you mean parallel.num_nodes?"),
    (COUNTDOWN, "ray_kwargs.ray_init.num_cpus=100", "a Ray takes what its machine has"),
    (COUNTDOWN, "algorithm.use_kl_in_reward=true", "algorithm.use_kl_in_reward is not a key"),
    (QWEN, "sampling.top_p=0.9", "the recorded log-probabilities would not be those of the truncated distribution"),
    (QWEN, "sampling.top_k=50", "the recorded log-probabilities would not be those of the truncated distribution"),
    (QWEN, "wandb_project=pddl-grpo-v2", "did you mean tracking.project?"),
    (QWEN, "run_name=qwen-7b-curriculum", "did you mean name?"),
    (QWEN, "output_dir=out", "did you mean name?"),
    (QWEN, "runs_root=./runs", "or where the variable GRADUS_RUNS_DIR says"),
    (QWEN, "no_wandb=true", "did you mean tracking.sinks?"),
    (QWEN, "no_4bit=true", "did you mean model.load_in_4bit?"),
    (QWEN, "base_model=x", "did you mean model.path?"),
    (QWEN, "max_new_tokens=512", "did you mean sampling.max_tokens?"),
    (LARGE, "gradient_accumulation_steps=2", "did you mean optimizer.microbatch_size?"),
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
