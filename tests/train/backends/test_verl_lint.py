"""The rules V-01 to V-13 on settings of verl: what each finds, at which level, and what it leaves alone. No verl needed."""

from __future__ import annotations

from typing import Any

import pytest

from gradus.recipe import resolve, shipped
from gradus.train.backends.verl_check import check, findings
from gradus.train.backends.verl_lint import RULES, lint
from gradus.train.backends.verl_settings import A
from gradus.train.backends.verl_told import Facts

REWARD = {"reward.custom_reward_function.path": "pkg://gradus.integrations.verl"}
QUIET = {
    **REWARD, "trainer.total_training_steps": 100, "trainer.save_freq": 10, "trainer.n_gpus_per_node": 1,
    "data.train_batch_size": 16, f"{A}.actor.ppo_mini_batch_size": 16, f"{A}.rollout.n": 8, f"{A}.actor.clip_ratio_c": 1e9,
    f"{A}.actor.checkpoint.save_contents": ["model", "hf_model"],
}  # fmt: skip
"""Settings that no rule has a word on."""
OURS = frozenset({"gradus/countdown"})


def said(changes: dict[str, Any], facts: Facts | None = None, version: str = "0.9.1") -> list[tuple[str, str]]:
    settings = {key: value for key, value in (QUIET | changes).items() if value != "absent"}
    return [(one.rule, one.level) for one in lint(settings, facts, version=version)]


def test_settings_without_a_fault_are_left_alone():
    assert said({}) == []
    assert {rule for rule, *_ in FAULTS} == set(RULES), "every rule has a case here"


FAULTS: list[tuple[str, str, dict[str, Any], Facts | None, str]] = [
    ("V-01", "error", {"custom_reward_function.path": "reward.py"}, None, "0.9.1"),
    ("V-01", "error", {"reward_model.reward_manager": "dapo"}, None, "0.9.1"),
    ("V-01", "warning", {"reward_model.enable": False}, None, "0.9.1"),
    ("V-01", "error", {}, None, "0.6.1"),
    ("V-01", "error", {"reward.custom_reward_function.path": "absent"}, Facts(sources=OURS), "0.9.1"),
    ("V-01", "note", {"reward.custom_reward_function.path": "absent"}, Facts(sources=frozenset({"aime24"})), "0.9.1"),
    ("V-01", "note", {"reward.custom_reward_function.path": "absent"}, None, "0.9.1"),
    ("V-02", "error", {"data.sampler.class_path": "x.py"}, None, "0.9.1"),
    ("V-02", "error", {"trainer.use_legacy_worker_impl": "disable"}, None, "0.9.1"),
    ("V-02", "error", {"reward.reward_manager.name": "prime"}, None, "0.9.1"),
    ("V-02", "error", {"algorithm.filter_groups.max_num_gen_batches": 10}, None, "0.9.1"),
    ("V-02", "error", {"trainer.total_training_step": 100}, None, "0.9.1"),
    ("V-02", "error", {f"{A}.rollout.seed": 3}, None, "0.8.0"),
    ("V-03", "error", {"algorithm.kl_ctrl.kl_coef": 0.005}, None, "0.9.1"),
    ("V-03", "error", {f"{A}.actor.kl_loss_coef": 0.001}, None, "0.6.1"),
    ("V-03", "warning", {f"{A}.actor.use_kl_loss": True, "algorithm.use_kl_in_reward": True}, None, "0.9.1"),
    ("V-04", "error", {f"{A}.actor.loss_agg_mode": "seq-mean-token-sum-norm"}, None, "0.9.1"),
    ("V-05", "error", {f"{A}.model.lora_rank": 8}, None, "0.9.1"),
    ("V-06", "error", {"data.dataloader_num_workers": 0}, Facts(is_planned=True), "0.9.1"),
    ("V-06", "error", {"data.shuffle": False}, Facts(is_planned=True), "0.9.1"),
    ("V-07", "warning", {"trainer.save_freq": -1}, None, "0.9.1"),
    ("V-07", "warning", {"trainer.save_freq": 100}, None, "0.9.1"),
    ("V-07", "warning", {"trainer.total_epochs": 1}, Facts(num_rows=160), "0.9.1"),
    ("V-07", "warning", {f"{A}.actor.checkpoint.save_contents": ["model"]}, None, "0.9.1"),
    ("V-08", "error", {"trainer.n_gpus_per_node": 7}, None, "0.9.1"),
    ("V-08", "error", {f"{A}.actor.ppo_mini_batch_size": 32}, None, "0.9.1"),
    ("V-09", "error", {"ray_kwargs.ray_init.address": "auto", "ray_kwargs.ray_init.num_cpus": 8}, None, "0.9.1"),
    ("V-09", "error", {"+ray_kwargs.ray_init.address": "auto"}, None, "0.5.0"),
    ("V-09", "error", {"trainer.logger": ["console", "file"]}, Facts(log_exists=True), "0.9.1"),
    ("V-10", "error", {}, Facts(saved_step=100), "0.9.1"),
    ("V-10", "warning", {}, Facts(saved_step=40, saved_world_size=1), "0.9.1"),
    ("V-10", "error", {}, Facts(saved_step=40, saved_world_size=8), "0.9.1"),
    ("V-11", "error", {}, Facts(place_faults=("no TransferQueue",)), "0.9.1"),
    ("V-12", "error", {}, Facts(data_faults=("no prompt",)), "0.9.1"),
    ("V-12", "error", {}, Facts(longest_prompt=513), "0.9.1"),
    ("V-12", "warning", {"data.filter_overlong_prompts": True}, Facts(longest_prompt=513), "0.9.1"),
    ("V-13", "note", {f"{A}.rollout.n": 2}, None, "0.9.1"),
    ("V-13", "note", {f"{A}.actor.clip_ratio_c": "absent"}, None, "0.9.1"),
    ("V-13", "note", {f"{A}.actor.loss_agg_mode": "seq-mean-token-mean"}, None, "0.9.1"),
]


@pytest.mark.parametrize(("rule", "level", "changes", "facts", "version"), FAULTS, ids=lambda one: str(one)[:60])
def test_a_fault_is_found(rule, level, changes, facts, version):
    assert (rule, level) in said(changes, facts, version)


@pytest.mark.parametrize(
    ("changes", "facts", "version"),
    [
        ({"custom_reward_function.path": "reward.py", "reward.custom_reward_function.path": "absent"}, None, "0.8.0"),
        ({"algorithm.kl_ctrl.kl_coef": 0.01, "algorithm.use_kl_in_reward": True}, None, "0.9.1"),
        ({"+trainer.mine": 1, f"{A}.actor.megatron.param_offload": True, f"{A}.rollout.seed": 3}, None, "0.9.1"),
        (
            {"trainer.any": 1, "reward.custom_reward_function.path": "absent", "custom_reward_function.path": "x"},
            None,
            "0.5.0",
        ),
        ({"hydra.run.dir": "logs"}, None, "0.9.1"),
        ({f"{A}.actor.kl_loss_coef": 0.0}, None, "0.9.1"),
        ({f"{A}.model.lora_rank": 8, f"{A}.actor.checkpoint.save_contents": ["model"]}, None, "0.9.1"),
        ({"data.shuffle": False, "data.dataloader_num_workers": 0}, Facts(is_planned=True), "0.9.1"),
        ({"trainer.resume_mode": "disable"}, Facts(saved_step=100, saved_world_size=8), "0.9.1"),
        ({"data.train_batch_size": "$BATCH", "trainer.n_gpus_per_node": "$GPUS"}, None, "0.9.1"),
        ({}, Facts(sources=frozenset({"openai/gsm8k"}), longest_prompt=512, num_rows=1600), "0.9.1"),
    ],
    ids=str,
)
def test_what_takes_effect_is_left_alone(changes, facts, version):
    assert said(changes, facts, version) == []


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("trainer.total_training_step", "did you mean trainer.total_training_steps?"),
        (f"{A}.filter_overlong_prompts", "did you mean data.filter_overlong_prompts?"),
        ("zzz.qqq", "write +zzz.qqq if it is meant to be added"),
    ],
)
def test_a_key_that_no_release_knows_is_answered_with_the_one_that_was_meant(key, meant):
    (finding,) = lint({**QUIET, key: 1}, version="0.8.0")
    assert finding.text.endswith(f"is no setting of this release; {meant}")


@pytest.mark.parametrize("version", ["9", "0.3.1", "new"])
def test_a_release_that_is_not_known_is_refused(version):
    with pytest.raises(ValueError, match="is no release of verl that is known here"):
        lint({}, version=version)


@pytest.mark.parametrize("name", sorted(name for name in shipped() if not name.startswith("sft_")))
def test_our_own_settings_have_no_error(name):
    found = findings(resolve([name]).config)
    assert [str(one) for one in found if one.level == "error"] == []


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("custom_reward_function.path: reward.py", "V-01 error: custom_reward_function.path=reward.py is ignored"),
        ("algorithm.kl_ctrl.kl_coef: 0.01", "has no effect without algorithm.use_kl_in_reward=true"),
        ("data.sampler.class_path: x", "is no setting of this release"),
        ("algorithm.filter_groups.enable: true", "draws more rows than planned"),
        ("trainer.n_gpus_per_node: 5", "completions do not divide over 5 GPUs"),
    ],
)
def test_what_verl_would_ignore_in_extra_is_refused_before_a_run(extra, words):
    resolved = resolve(["gsm8k_qwen25_3b"], [f"backend={{name: verl, extra: {{{extra}}}}}"])
    with pytest.raises(ValueError, match=r"backend\.extra") as error:
        check(resolved)
    assert words in str(error.value)
