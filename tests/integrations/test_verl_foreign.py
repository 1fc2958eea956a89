"""Somebody's launch script of verl: what is read of it, what the linter says, which recipe means the same.

The scripts are written here in the ways that users' own and verl's examples are: words behind one command, variables with
defaults, arrays, pipes; with the settings of two users' projects.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gradus import load_task
from gradus.cli import main as cli
from gradus.integrations.verl import write_parquet
from gradus.integrations.verl_facts import facts_of
from gradus.integrations.verl_foreign import judged
from gradus.integrations.verl_recipe import recipe_of
from gradus.integrations.verl_script import MAX_BYTES, read_script, value_of
from gradus.keys import flatten, leaves
from gradus.recipe import resolve
from gradus.train.backends.verl_compose import composed
from gradus.train.backends.verl_place import PYTHON, need_verl
from gradus.train.backends.verl_settings import A

ECONOMY = """#!/bin/bash
# settings of a project with LoRA on economic decisions
cd /workspace/project
python -m verl.trainer.main_ppo \\
  +ray_kwargs.ray_init.address="10.0.0.3:6379" \\
  data.train_files=/workspace/project/train.parquet data.val_files=/workspace/project/val.parquet \\
  data.train_batch_size=4 data.val_batch_size=1 data.max_prompt_length=1536 data.max_response_length=128 \\
  {A}.model.path=Qwen/Qwen2.5-7B-Instruct {A}.model.lora_rank=8 {A}.model.lora_alpha=16 \\
  {A}.model.target_modules=all-linear {A}.model.use_remove_padding=false \\
  +{A}.model.override_config.attn_implementation=eager \\
  {A}.actor.use_dynamic_bsz=false {A}.actor.ppo_mini_batch_size=4 {A}.actor.ppo_micro_batch_size_per_gpu=1 \\
  {A}.actor.entropy_coeff=0.02 {A}.rollout.name=vllm {A}.rollout.tensor_model_parallel_size=1 \\
  {A}.rollout.n=2 {A}.rollout.temperature=0.7 {A}.rollout.gpu_memory_utilization=0.5 \\
  {A}.rollout.enforce_eager=true {A}.rollout.max_num_seqs=4 {A}.rollout.max_model_len=2048 \\
  {A}.rollout.prompt_length=1536 {A}.rollout.response_length=128 \\
  {A}.rollout.log_prob_micro_batch_size_per_gpu=1 {A}.ref.log_prob_micro_batch_size_per_gpu=1 \\
  algorithm.adv_estimator=grpo algorithm.kl_ctrl.kl_coef=0.005 \\
  custom_reward_function.path=/workspace/project/reward.py custom_reward_function.name=compute_score \\
  trainer.total_training_steps=1000 trainer.save_freq=1000 trainer.test_freq=1000 \\
  trainer.val_before_train=false trainer.default_local_dir=/workspace/project/checkpoints \\
  trainer.resume_mode=auto trainer.n_gpus_per_node=1 trainer.logger=[console]
""".replace("{A}", A)

COUNTDOWN = """set -e
MODEL="/models/Qwen3-4B"
export WANDB_PROJECT='countdown'
rm -f $LOG
uv run python3 -m verl.trainer.main_ppo data.train_files=train.parquet data.val_files=test.parquet \\
    data.train_batch_size=64 data.val_batch_size=256 data.train_max_samples=4096 data.max_prompt_length=256 \\
    data.max_response_length=2048 data.dataloader_num_workers=0 {A}.actor.ppo_micro_batch_size_per_gpu=4 \\
    {A}.actor.fsdp_config.use_torch_compile=True {A}.actor.ppo_epochs=1 {A}.actor.optim.weight_decay=0.01 \\
    {A}.rollout.tensor_model_parallel_size=1 {A}.rollout.gpu_memory_utilization=0.6 {A}.rollout.max_model_len=4096 \\
    {A}.rollout.log_prob_micro_batch_size_per_gpu=64 {A}.rollout.temperature=1.0 {A}.ref.strategy=fsdp \\
    trainer.experiment_name=v1 trainer.n_gpus_per_node=8 trainer.nnodes=1 trainer.logger='["console","wandb"]' \\
    trainer.log_val_generations=10 trainer.default_local_dir=checkpoints trainer.test_freq=20 \\
    trainer.max_actor_ckpt_to_keep=3 custom_reward_function.name=compute_score \\
    {A}.model.path=$MODEL {A}.actor.strategy=fsdp {A}.actor.ppo_mini_batch_size=64 \\
    {A}.actor.optim.lr=2e-6 {A}.actor.optim.lr_scheduler_type=cosine \\
    {A}.actor.optim.lr_warmup_steps_ratio=0.1 {A}.actor.checkpoint.save_contents='["model","hf_model"]' \\
    {A}.rollout.name=vllm {A}.rollout.n=16 algorithm.adv_estimator=grpo algorithm.kl_ctrl.kl_coef=0.01 \\
    trainer.project_name=$WANDB_PROJECT trainer.total_epochs=1 trainer.save_freq=100 \\
    ray_kwargs.ray_init.num_cpus=100 custom_reward_function.path=reward.py \\
    hydra.run.dir=logs/${now:%Y-%m-%d}/${now:%H-%M-%S} 2>&1 | tee logs/train.log data.seed=9
""".replace("{A}", A)

ARRAYS = """set -xeuo pipefail
DEVICE=${DEVICE:-$(python3 -c 'import torch_npu' && echo npu || echo gpu)}
MODEL=${MODEL:-Qwen/Qwen3-4B}
FILE=${FILE:-$HOME/data/gsm8k/train.parquet}
GPUS=${GPUS:-8}
case "${DEVICE}" in
    npu)
        GPUS=16
        ;;
esac
DATA=(
    algorithm.adv_estimator=grpo
    data.train_files=${FILE}
    # a remark
    data.truncation='error'
)
TRAINER=(
    {A}.model.path=${MODEL}
    {A}.actor.use_kl_loss=True
    {A}.actor.kl_loss_coef=0.001
    {A}.rollout.n=${ROLLOUT_N:-5}
    {A}.rollout.gpu_memory_utilization=${MEMORY}
    trainer.n_gpus_per_node=${GPUS}
    trainer.total_epochs=15
)
LAUNCH=(python3)
"${LAUNCH[@]}" -m verl.trainer.main_ppo \\
    "${DATA[@]}" \\
    "${TRAINER[@]}" \\
    "$@"
""".replace("{A}", A)


@pytest.fixture(autouse=True)
def without_verl(monkeypatch, tmp_path):
    """Rules alone; the tests that ask verl itself set it back."""
    monkeypatch.setenv(PYTHON, str(tmp_path / "none"))


def script(folder: Path, text: str, name: str = "run.sh") -> Path:
    path = folder / name
    path.write_text(text)
    return path


# ---- reading ----


def test_words_of_the_command_are_settings(tmp_path):
    found = read_script(script(tmp_path, ECONOMY))
    assert len(found.settings) == 41 and found.remarks == ()
    assert found.settings["+ray_kwargs.ray_init.address"] == "10.0.0.3:6379"
    assert found.settings[f"{A}.rollout.temperature"] == 0.7
    assert found.settings["trainer.logger"] == ["console"] and found.settings["trainer.val_before_train"] is False


def test_variables_are_put_in_and_pipes_end_the_command(tmp_path):
    found = read_script(script(tmp_path, COUNTDOWN))
    assert found.settings[f"{A}.model.path"] == "/models/Qwen3-4B"
    assert found.settings[f"{A}.actor.checkpoint.save_contents"] == ["model", "hf_model"]
    assert found.settings["trainer.project_name"] == "countdown" and "data.seed" not in found.settings


def test_arrays_and_defaults_are_put_in_and_what_a_shell_knows_is_told(tmp_path):
    found = read_script(script(tmp_path, ARRAYS))
    assert found.settings[f"{A}.rollout.n"] == 5 and found.settings["trainer.n_gpus_per_node"] == 8
    assert found.settings["data.train_files"] == "~/data/gsm8k/train.parquet"
    assert found.settings["data.truncation"] == "error"
    assert any("gpu_memory_utilization=${MEMORY}" in remark for remark in found.remarks)
    assert "GPUS is also set under a condition; 8 was taken" in found.remarks


def test_a_yaml_file_is_its_leaves(tmp_path):
    text = "data:\n  train_batch_size: 2\nactor_rollout_ref:\n  rollout:\n    n: 8\ntrainer:\n  logger: [console]\n"
    found = read_script(script(tmp_path, text, "config.yaml")).settings
    assert found == {"data.train_batch_size": 2, f"{A}.rollout.n": 8, "trainer.logger": ["console"]}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("run.sh", "echo hello\n", "starts verl nowhere"),
        ("run.sh", "python -m verl.trainer.main_ppo a.b=1\npython -m verl.trainer.main_ppo a.b=2\n", "2 times"),
        ("run.sh", "python -m verl.trainer.main_ppo --help\n", "no setting that can be read"),
        ("run.sh", "python -m verl.trainer.main_ppo a.b='open\n", "starts verl nowhere"),
        ("run.sh", "#" * (MAX_BYTES + 1), "are more than a script has"),
        ("run.yaml", "model: x\n", "has neither actor_rollout_ref nor data nor trainer"),
    ],
)
def test_what_is_no_run_of_verl_is_refused(tmp_path, name, text, words):
    with pytest.raises(ValueError, match=words):
        read_script(script(tmp_path, text, name))


def test_variables_in_variables_end(tmp_path):
    lines = ["V0=xxxxxxxxxx"] + [f"V{number}=$V{number - 1}$V{number - 1}" for number in range(1, 40)]
    text = "\n".join([*lines, "A=$B", "B=$A", "python -m verl.trainer.main_ppo a.b=$V39 a.c=$A a.d=1"])
    assert read_script(script(tmp_path, text)).settings["a.d"] == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None), ("True", True), ("8", 8), ("-1", -1), ("2e-6", 2e-6), ("1.", 1.0), (".5", 0.5), ("'a b'", "a b"),
        ('["a", 1]', ["a", 1]), ("[]", []), ("1_000", "1_000"), ("nan", "nan"), ("7B", "7B"), ("9" * 5000, "9" * 5000),
    ],
)  # fmt: skip
def test_values_of_scripts(text, value):
    assert value_of(text) == value


# ---- rules ----


def test_the_settings_of_two_projects(tmp_path):
    found = judged(read_script(script(tmp_path, ECONOMY)))
    assert {one.rule for one in found.findings if one.level != "note"} == {"V-01", "V-03", "V-07"}
    assert {one.rule for one in found.findings if one.level == "note"} == {"V-01", "V-13"} and not found.is_ok
    found = judged(read_script(script(tmp_path, COUNTDOWN)))
    assert {one.rule for one in found.findings if one.level == "error"} == {"V-01", "V-03"}


def test_an_ordinary_example_has_no_error(tmp_path):
    assert judged(read_script(script(tmp_path, ARRAYS))).is_ok


def rows(path: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    parquet = pytest.importorskip("gradus.data.parquet")
    pytest.importorskip("pyarrow")
    path.write_bytes(parquet.encode(rows))
    return {"data.train_files": str(path), "trainer.default_local_dir": str(path.parent)}


def test_data_and_saved_state_are_looked_at(tmp_path):
    good = {"data_source": "mine", "prompt": [{"role": "user", "content": "1 + 1"}],
            "reward_model": {"ground_truth": "2"}}  # fmt: skip
    settings = rows(
        tmp_path / "a.parquet", [good, good | {"prompt": None}, good | {"reward_model": {"ground_truth": None}}]
    )
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("40")
    (tmp_path / "global_step_40" / "actor").mkdir(parents=True)
    (tmp_path / "global_step_40" / "actor" / "fsdp_config.json").write_text('{"world_size": 2}')
    (tmp_path / "log.jsonl").write_text("")
    facts = facts_of(settings, {"VERL_FILE_LOGGER_PATH": str(tmp_path / "log.jsonl")})
    assert (facts.sources, facts.num_rows, facts.saved_step, facts.saved_world_size) == ({"mine"}, 3, 40, 2)
    assert [fault.split(": ")[1][:10] for fault in facts.data_faults] == ["1 of 3 row"] * 2 and facts.log_exists
    assert "prompt that is text" in facts_of(rows(tmp_path / "b.parquet", [good | {"prompt": "x"}]), {}).data_faults[0]


def test_prompts_are_counted_with_the_models_own_tokenizer(tmp_path):
    pytest.importorskip("transformers")
    pytest.importorskip("pyarrow")
    from gradus.policy.load import resolve_address

    task = load_task("countdown", max_numbers=3)
    write_parquet(task, tmp_path / "plan.parquet", limit=3)
    settings = {
        "data.train_files": str(tmp_path / "plan.parquet"),
        f"{A}.model.path": resolve_address("nano/countdown")[0],
    }
    facts = facts_of(settings, {})
    assert facts.is_planned and facts.longest_prompt is not None and 20 < facts.longest_prompt < 60


# ---- the recipe that means the same ----


@pytest.mark.parametrize(
    ("text", "recipe", "other"),
    [
        (ECONOMY, "economy_qwen25_7b_lora", {"num_steps": 1000, "checkpoint.every_steps": 1000, "evaluation.every_steps": 1000}),
        (COUNTDOWN, "countdown_qwen3_4b",
         {"model.path": "/models/Qwen3-4B", "checkpoint.every_steps": 100, "optimizer.microbatch_size": 4}),
    ],
    ids=["economy", "countdown"],
)  # fmt: skip
def test_the_recipe_of_a_project_is_the_shipped_one(tmp_path, text, recipe, other):
    """In all that a script sets, but for ``other``: what a shipped recipe does otherwise, as its first lines say."""
    tree = recipe_of(read_script(script(tmp_path, text)).settings).tree
    shipped = leaves(resolve([recipe]).config)
    found = {key: value for key, value in flatten(tree) if not key.startswith("backend.")}
    assert {key: value for key, value in found.items() if value != shipped[key]} == other


@pytest.mark.parametrize("text", [ECONOMY, COUNTDOWN, ARRAYS], ids=["economy", "countdown", "arrays"])
def test_a_recipe_is_valid_once_it_has_a_task(tmp_path, text):
    tree = recipe_of(read_script(script(tmp_path, text)).settings).tree
    (tmp_path / "recipe.yaml").write_text(json.dumps({"num_steps": 10} | tree | {"tasks": {"countdown": {}}}))
    assert resolve([tmp_path / "recipe.yaml"]).config.backend.name == "verl"


@pytest.mark.parametrize("text", [ECONOMY, COUNTDOWN, ARRAYS], ids=["economy", "countdown", "arrays"])
def test_nothing_of_a_script_is_left_out_without_a_reason(tmp_path, text):
    settings = {key.lstrip("+") for key in read_script(script(tmp_path, text)).settings}
    found = recipe_of(read_script(script(tmp_path, text)).settings)
    told = {one.partition("=")[0].partition(":")[0] for one in found.remarks}
    assert settings <= found.taken | told
    assert set(found.tree["backend"]["extra"]) <= found.taken


@pytest.mark.parametrize(
    ("settings", "leaf", "value"),
    [
        ({f"{A}.actor.use_kl_loss": True, f"{A}.actor.kl_loss_coef": 0.02}, "algorithm.kl_coef", 0.02),
        ({"algorithm.adv_estimator": "rloo"}, "algorithm.name", "rloo"),
        ({f"{A}.actor.policy_loss.loss_mode": "gspo"}, "algorithm.name", "gspo"),
        ({"algorithm.adv_estimator": "grpo", "algorithm.norm_adv_by_std_in_grpo": False}, "algorithm.advantage", "center"),
        ({f"{A}.actor.loss_agg_mode": "seq-mean-token-sum-norm"}, "algorithm.aggregate", "fixed"),
        ({"data.train_batch_size": 64, f"{A}.actor.ppo_mini_batch_size": 16}, "optimizer.updates_per_batch", 4),
        ({"data.train_batch_size": 64, f"{A}.actor.ppo_mini_batch_size": 16, "trainer.total_training_steps": 10},
         "num_steps", 40),
        ({f"{A}.actor.clip_ratio": 0.3}, "algorithm.clip_high", 0.3),
    ],
    ids=str,
)  # fmt: skip
def test_settings_in_our_words(settings, leaf, value):
    assert dict(flatten(recipe_of(settings).tree))[leaf] == value


def test_what_has_no_equal_is_said():
    assert any("this recipe is not equal" in one for one in recipe_of({"algorithm.adv_estimator": "gae"}).remarks)


# ---- the command line ----


def test_the_command_line_judges_a_script(tmp_path, capfd):
    path = str(script(tmp_path, ECONOMY))
    assert cli.run(["config", "validate", "--backend", "verl", "--foreign", path]) == 2
    out = capfd.readouterr().out
    assert "V-03 error: algorithm.kl_ctrl.kl_coef=0.005 has no effect" in out and "group_size: 2" in out
    assert cli.run(["--json", "config", "validate", "--foreign", str(script(tmp_path, ARRAYS, "b.sh"))]) == 0
    assert json.loads(capfd.readouterr().out)["recipe"]["sampling"]["group_size"] == 5
    assert cli.run(["config", "validate", "--foreign", path, "--for", "0.8.0"]) == 2, "the KL term is inert in each"
    assert "custom_reward_function" not in capfd.readouterr().out.partition("the recipe")[0]


@pytest.mark.parametrize("arguments", [["countdown_nano", "--foreign", "x.sh"], ["--for", "0.8"], []])
def test_what_does_not_go_together_is_refused(arguments):
    assert cli.run(["config", "validate", *arguments]) == 2


# ---- verl itself ----


@pytest.mark.slow
def test_verl_itself_is_asked(tmp_path, monkeypatch):
    monkeypatch.undo()
    try:
        python = need_verl()
    except ValueError as error:
        pytest.skip(str(error))
    settings = {"trainer.nodes": 2, f"{A}.rollout.name": "vllm", "trainer.nnodes": 1, "+trainer.mine": 3}
    found = composed(python, settings, is_whole=False)
    assert [one.text for one in found] == ["trainer.nodes is no setting of this release"]
    found = judged(read_script(script(tmp_path, COUNTDOWN)))
    assert not any("not asked" in remark for remark in found.remarks)
