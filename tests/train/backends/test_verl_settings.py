"""What becomes of each config key in a verl run: nothing is forgotten, nothing is dropped without a word."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gradus.cli import main as cli
from gradus.config import Config
from gradus.recipe import resolve, shipped
from gradus.train.backends.image import Refused, Sets, missing
from gradus.train.backends.verl_check import IMAGES, check, differences
from gradus.train.backends.verl_keys import in_release, known
from gradus.train.backends.verl_settings import VERSION, Place, hydra_value, overrides, save_every, settings_of

TASKS = {"countdown": {"max_numbers": 3}}
A = "actor_rollout_ref"


def refusal(*changes: str, recipe: str = "gsm8k_qwen25_3b") -> str:
    with pytest.raises(ValueError) as error:
        check(resolve([recipe], changes))
    return str(error.value)


def place(**changes: Any) -> Place:
    """That of a run."""
    given = {"folder": Path("/runs/x/backend/verl"), "model": "policy", "longest_prompt": 40, "is_cpu": True,
             "address": "10.0.0.2:6379", "environment": {"VERL_PLATFORM": "cpu"}}  # fmt: skip
    return Place(**(given | changes))


def test_every_key_has_an_image():
    assert missing(IMAGES) == []


def test_what_a_key_is_said_to_set_is_set():
    """For some preset, with or without an adapter."""
    written = set()
    for changes in ({"algorithm": {"name": "dr_grpo"}}, {"model": {"lora": {}}}):
        written |= {key.lstrip("+") for key in settings_of(Config(tasks=TASKS, **changes))}
    said = {key for image in IMAGES.values() if isinstance(image, Sets) for key in image.keys}
    assert said <= written


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("sampling.max_redraws=2", "sampling.max_redraws=2 cannot be done by backend verl"),
        ("engine.error_rate=0.1", "engine.error_rate=0.1 cannot be done"),
        ("engine.name=scripted", "engine.name=scripted cannot be done"),
        ("optimizer.microbatch_tokens=100", "set optimizer.microbatch_size"),
        ("optimizer.microbatch_size=5", "the 512 completions of a step do not divide by it"),
        (
            "optimizer.updates_per_batch=2",
            "num_steps=233 cannot be done by backend verl (it counts batches of 2 updates)",
        ),
        ("optimizer.passes_per_batch=2", "set num_steps=234"),
        ("optimizer.on_nonfinite=rollback", "set optimizer.on_nonfinite=skip"),
        ("algorithm.name=dapo", "algorithm.keep_flat_groups=false cannot be done by backend verl"),
        ("algorithm.name=reinforce", "algorithm.ratio_level=detached cannot be done"),
        ("algorithm={name: gspo, aggregate: token}", "ratio_level=sequence with algorithm.aggregate=token"),
        ("curriculum={stages: [[1.0, 1, 1, 1]], adaptive: variance}", "curriculum.adaptive=variance cannot be done"),
        ("curriculum.cooldown_steps=3", "curriculum.cooldown_steps=3 cannot be done"),
        ("evaluation.every_steps=15 optimizer.passes_per_batch=2", "set evaluation.every_steps=16"),
        ("backend.extra={data.shuffle: true}", "backend.extra.data.shuffle=true is set by gradus itself"),
        ("backend.extra={ray_kwargs.ray_init.num_cpus: 2}", "is set by gradus itself"),
        ("model.lora={dropout: 0.1}", "model.lora.dropout=0.1 cannot be done"),
        ("model.init=random", "model.init=random cannot be done"),
        ("model.revision=main", "model.revision=main cannot be done"),
        ("model.device=mps", "model.device=mps cannot be done"),
    ],
)
def test_what_verl_cannot_honour_is_refused(change, words):
    extra = ["backend.name=verl"] if change.startswith("backend") else []
    message = refusal(*([change] if "={" in change else change.split()), *extra)
    assert words in message and ("use --backend native, or " in message or "remove it" in message)


def test_a_key_left_at_its_default_is_a_line_instead():
    resolved = resolve(["gsm8k_qwen25_3b"])
    check(resolved)
    lines = differences(resolved.config)
    for leaf, image in IMAGES.items():
        if isinstance(image, Refused):
            assert any(line.startswith(f"{leaf} has no effect: ") for line in lines)


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ({"name": "grpo"}, {"algorithm.adv_estimator": "grpo", f"{A}.actor.loss_agg_mode": "seq-mean-token-mean"}),
        ({"name": "dr_grpo"}, {"algorithm.norm_adv_by_std_in_grpo": False, f"{A}.actor.loss_scale_factor": 512}),
        ({"name": "dapo", "keep_flat_groups": True}, {f"{A}.actor.clip_ratio_high": 0.28}),
        ({"name": "gspo"}, {f"{A}.actor.policy_loss.loss_mode": "gspo", f"{A}.actor.clip_ratio_low": 3e-4}),
        ({"name": "cispo", "keep_flat_groups": True}, {f"{A}.actor.policy_loss.loss_mode": "cispo"}),
        ({"name": "rloo"}, {"algorithm.adv_estimator": "rloo", f"{A}.actor.loss_agg_mode": "token-mean"}),
        ({"kl_coef": 0.01}, {f"{A}.actor.use_kl_loss": True, f"{A}.actor.kl_loss_coef": 0.01,
                             "algorithm.use_kl_in_reward": False}),
    ],
    ids=str,
)  # fmt: skip
def test_presets_as_verl_calls_them(algorithm, expected):
    found = settings_of(Config(tasks=TASKS, algorithm=algorithm))
    assert {key: found[key] for key in expected} == expected
    assert found[f"{A}.actor.clip_ratio_c"] == 1e9, "verl's second clip is off"


def test_the_order_of_problems_is_the_plan():
    found = settings_of(Config(tasks=TASKS))
    assert (found["data.shuffle"], found["data.dataloader_num_workers"], found["trainer.total_epochs"]) == (False, 0, 1)
    assert found["data.train_files"] == "verl/plan.parquet" and found["data.filter_overlong_prompts"] is False


def test_a_model_saved_with_an_adapter_would_be_useless():
    whole, adapted = (
        settings_of(Config(tasks=TASKS, model={"lora": lora})) for lora in (None, {"rank": 8, "alpha": 16})
    )
    assert "hf_model" in whole[f"{A}.actor.checkpoint.save_contents"] and f"{A}.model.lora_rank" not in whole
    assert "hf_model" not in adapted[f"{A}.actor.checkpoint.save_contents"]
    assert (adapted[f"{A}.model.lora_rank"], adapted[f"{A}.model.target_modules"]) == (8, "all-linear")


def test_several_updates_are_one_of_verls_steps():
    config = Config(
        tasks=TASKS, num_steps=40, checkpoint={"every_steps": 8}, curriculum={"problems_per_step": 16},
        optimizer={"updates_per_batch": 2, "passes_per_batch": 2, "warmup_steps": 8},
    )  # fmt: skip
    found = settings_of(config)
    assert (found[f"{A}.actor.ppo_mini_batch_size"], found[f"{A}.actor.ppo_epochs"]) == (8, 2)
    assert found["trainer.total_training_steps"] == 10 and found["trainer.save_freq"] == 2
    schedule = found[f"{A}.actor.optim.override_optimizer_config"]
    assert (schedule["warmup_steps"], schedule["num_steps"]) == (8, 40), "counted in updates"


@pytest.mark.parametrize(("every", "evaluated", "expected"), [(50, None, 50), (50, 20, 10), (10, 30, 10)])
def test_verl_saves_wherever_weights_are_needed(every, evaluated, expected):
    config = Config(tasks=TASKS, checkpoint={"every_steps": every}, evaluation={"every_steps": evaluated})
    assert save_every(config) == expected == settings_of(config, place())["trainer.save_freq"]


def test_a_run_has_its_own_files_and_goes_on_from_its_own_state():
    config = Config(tasks=TASKS)
    first, later = settings_of(config, place()), settings_of(config, place(resume_batch=4, attempt=2))
    assert first["data.train_files"] == "/runs/x/backend/verl/plan.parquet"
    assert (first["trainer.resume_mode"], first["data.max_prompt_length"]) == ("disable", 40)
    assert later["trainer.resume_from_path"] == "/runs/x/backend/verl/global_step_4"
    assert later["trainer.rollout_data_dir"].endswith("rollouts_2")
    assert later["+ray_kwargs.ray_init.address"] == "10.0.0.2:6379"
    assert later["+ray_kwargs.ray_init.runtime_env.env_vars.VERL_PLATFORM"] == "cpu"


def test_files_of_a_task_are_found_from_any_folder(tmp_path, monkeypatch):
    """verl's processes do not run where the user is."""
    (tmp_path / "mine.py").write_text("")
    monkeypatch.chdir(tmp_path)
    options = {"reward_function": "mine.py:short", "operators": "+-", "source": "mine.py", "split_by": ""}
    config = Config(tasks={"gsm8k": options})
    (told,) = [value for key, value in settings_of(config, place()).items() if key.endswith("reward_kwargs.tasks")]
    whole = str(tmp_path / "mine.py")
    assert json.loads(told) == {"gsm8k": options | {"reward_function": f"{whole}:short", "source": whole}}


def test_a_cpu_gets_the_sampler_of_gradus_and_a_gpu_vllm():
    config = Config(tasks=TASKS)
    found = {is_cpu: settings_of(config, place(is_cpu=is_cpu)) for is_cpu in (True, False)}
    assert [found[is_cpu][f"{A}.rollout.name"] for is_cpu in (True, False)] == ["gradus", "vllm"]
    assert found[True]["trainer.device"] == "cpu" and found[False]["trainer.device"] == "cuda"


def test_the_machines_are_the_users_to_describe():
    config = Config(tasks=TASKS, backend={"name": "verl", "extra": {"trainer.n_gpus_per_node": 8}})
    assert settings_of(config)["trainer.n_gpus_per_node"] == 8


def test_overrides_are_one_value_each():
    lines = overrides(Config(tasks={"countdown": {"max_numbers": 3, "operators": "+-"}}, name="it-is"))
    assert "trainer.experiment_name='it-is'" in lines
    assert not [line for line in lines if not re.fullmatch(r"\+?[a-z_A-Z0-9.]+=.*", line)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "null"), (True, "true"), (0.1, "0.1"), (1e-6, "1e-06"), ("a b", "'a b'"), ("it's", r"'it\'s'"),
        ([1, "x"], "[1,'x']"), ({"a": False}, "{a:false}"),
    ],
)  # fmt: skip
def test_values_in_hydras_language(value, expected):
    assert hydra_value(value) == expected


def test_no_text_reaches_for_other_settings_or_the_environment():
    with pytest.raises(ValueError, match=r"which verl's configuration would replace"):
        hydra_value("${oc.env:HOME}")


RECIPES = {
    "gsm8k_qwen25_05b_mps": "model.device=mps",
    "math_qwen25_05b_lora": "model.lora.dropout=0.01",
    "planning_qwen25_7b_curriculum": "model.load_in_4bit=true",
}
"""Shipped recipes that verl cannot run, and one reason."""


@pytest.mark.parametrize("name", sorted(name for name in shipped() if not name.startswith("sft_")))
def test_every_recipe_translates_or_says_why_not(name):
    if name in RECIPES:
        assert RECIPES[name] in refusal(recipe=name)
        return
    resolved = resolve([name])
    check(resolved)
    assert settings_of(resolved.config)[f"{A}.rollout.n"] == resolved.config.sampling.group_size


PRESETS = ("grpo", "dr_grpo", "gspo", "cispo", "rloo")


@pytest.mark.parametrize("release", [(0, 6), (0, 7), (0, 8), (0, 9)], ids=str)
def test_each_release_is_told_in_its_own_words(release):
    """Every key without a ``+`` is a name that the release has, and none with one is."""
    names = known(release)
    assert names is not None and len(names) > 500
    for recipe in ("gsm8k_qwen25_3b", "countdown_nano", "economy_qwen25_7b_lora"):
        for preset in PRESETS:
            config = resolve([recipe], [f"algorithm.name={preset}", "algorithm.keep_flat_groups=true"]).config
            if preset == "cispo" and release < (0, 7):
                with pytest.raises(ValueError, match=r"cispo has no loss in verl before 0\.7"):
                    in_release(settings_of(config), release)
                continue
            told, lines = in_release(settings_of(config), release)
            assert [key for key in told if not key.startswith("+") and key not in names] == []
            assert [key for key in told if key.startswith("+") and key[1:] in names] == []
            assert bool(lines) == (release < (0, 9))
            prefix = "" if release < (0, 7) else "reward."
            assert told[f"{prefix}custom_reward_function.name"] == "compute_score"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--backend", "verl", "--for", "0.5"], "a recipe cannot be written for verl 0.5; give a release from 0.6 on"),
        (["--backend", "verl", "--for", "0.8", "model.device=cpu"], "model.device=cpu needs verl 0.9.1"),
        (["--for", "0.8"], "--for 0.8 is a release of verl; give --backend verl"),
    ],
)
def test_a_release_that_cannot_be_written_for_is_refused(arguments, words, capfd):
    assert cli.run(["config", "validate", "gsm8k_qwen25_3b", *arguments]) == 2
    assert words in capfd.readouterr().err


def test_the_command_line_prints_what_verl_is_told(capfd):
    assert cli.run(["--json", "config", "validate", "gsm8k_qwen25_3b", "--backend", "verl"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert f"{A}.actor.optim.lr=1e-06" in found["overrides"] and found["ok"]
    assert cli.run(["config", "validate", "gsm8k_qwen25_05b_mps", "--backend", "verl"]) == 2
    assert "model.device=mps cannot be done by backend verl" in capfd.readouterr().err


def test_verl_takes_every_key():
    """Composed and checked by the real verl, where it is installed: each line is a setting of that release."""
    verl = pytest.importorskip("verl", reason="verl is not installed")
    assert verl.__version__ == VERSION
    from hydra import compose, initialize_config_dir
    from verl.utils.config import validate_config

    for name in ("gsm8k_qwen25_3b", "countdown_qwen3_4b", "economy_qwen25_7b_lora", "planning_qwen3_14b_curriculum"):
        config = resolve([name]).config
        with initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
            found = compose("ppo_trainer", overrides=overrides(config))
        if config.model.lora is None:  # with one, verl asks for vLLM itself
            has_reference = config.algorithm.kl_coef is not None and config.algorithm.kl_coef > 0
            validate_config(found, use_reference_policy=has_reference, use_critic=False)
        assert found.actor_rollout_ref.rollout.n == config.sampling.group_size
        tasks = found.reward.custom_reward_function.reward_kwargs.tasks
        assert json.loads(tasks) == json.loads(json.dumps({name: dict(o) for name, o in config.tasks.items()}))


def test_the_names_of_the_installed_release_are_those_of_the_file():
    verl = pytest.importorskip("verl", reason="verl is not installed")
    from docs.make_verl_keys import with_release

    found = with_release({}, "0.9", Path(verl.__file__).parent.parent)
    assert set(found) == known((0, 9))
