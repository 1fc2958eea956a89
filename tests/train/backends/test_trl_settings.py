"""What becomes of each config key under TRL: nothing is forgotten, nothing is dropped without a word. No TRL needed."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from pathlib import Path

import pytest

from gradus.config import Config
from gradus.keys import schema_leaves
from gradus.recipe import from_config, resolve, shipped
from gradus.train.backends.image import Refused, missing
from gradus.train.backends.trl_settings import IMAGES, VERSION, arguments, check, differences, need_trl

ROOT = Path(__file__).parents[3]
TASKS = {"countdown": {"max_numbers": 3}}


def refusal(*overrides: str, recipe: str = "countdown_nano") -> str:
    with pytest.raises(ValueError) as error:
        check(resolve([recipe], [*overrides, "backend.name=trl"]))
    return str(error.value)


def test_every_key_has_an_image():
    assert missing(IMAGES) == []
    assert {name for name in schema_leaves() if name.startswith("algorithm.")} <= set(IMAGES)


def test_a_forgotten_key_is_found():
    assert missing({name: image for name, image in IMAGES.items() if name != "seed"}) == ["seed"]
    assert missing({**IMAGES, "sampling.top_p": IMAGES["seed"]}) == ["sampling.top_p"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sampling.max_redraws=2", "sampling.max_redraws=2 cannot be done by backend trl (TRL never draws a group"),
        ("engine.error_rate=0.1", "engine.error_rate=0.1 cannot be done"),
        ("engine.name=scripted", "engine.name=scripted cannot be done"),
        ("optimizer.microbatch_tokens=100", "set optimizer.microbatch_size"),
        ("optimizer.microbatch_size=5", "the 128 completions of a step do not divide by it"),
        ("algorithm.name=dapo", "algorithm.keep_flat_groups=false cannot be done by backend trl (it never draws"),
        ("algorithm.name=reinforce", "algorithm.ratio_level=detached cannot be done"),
        ("algorithm.advantage=none", "algorithm.advantage=none cannot be done"),
        ("algorithm={name: gspo, aggregate: token}", "ratio_level=sequence with algorithm.aggregate=token"),
        ("algorithm={name: cispo, keep_flat_groups: true, aggregate: fixed}", "set algorithm.aggregate=token"),
        ("backend.extra={beta: 0.1}", "backend.extra.beta=0.1 is set by gradus itself"),
        ("backend.extra={top_p: 0.9}", "backend.extra.top_p=0.9 is set by gradus itself"),
    ],
)
def test_what_trl_cannot_honour_is_refused(override, words):
    message = refusal(override)
    assert words in message
    assert "use --backend native, or " in message or "remove it" in message


def test_all_refusals_come_at_once():
    message = refusal("sampling.max_redraws=2", "algorithm.name=dapo", "engine.name=scripted")
    assert len(message.splitlines()) == 3


def test_steps_in_the_middle_of_a_batch_are_refused():
    message = refusal("optimizer.updates_per_batch=4", "num_steps=130", "checkpoint.every_steps=50")
    assert "num_steps=130 cannot be done" in message and "set num_steps=132" in message
    assert "set checkpoint.every_steps=52" in message


def test_a_key_left_at_its_default_is_a_line_instead():
    resolved = resolve(["countdown_nano"], ["backend.name=trl"])
    check(resolved)
    lines = differences(resolved.config)
    for leaf, image in IMAGES.items():
        if isinstance(image, Refused):
            assert any(line.startswith(f"{leaf} has no effect: ") for line in lines)


def test_extra_needs_a_foreign_trainer():
    with pytest.raises(ValueError, match=r"for a foreign trainer; set backend.name=trl"):
        resolve(["countdown_nano"], ["backend.extra={use_vllm: true}"])


def test_extra_may_replace_what_is_only_a_default():
    config = resolve(["countdown_nano"], ["backend={name: trl, extra: {gradient_checkpointing: true}}"])
    check(config)
    assert arguments(config.config)["gradient_checkpointing"] is True


@pytest.mark.parametrize(
    ("problems", "group", "updates", "size", "expected"),
    [
        (8, 4, 1, 4, (4, 8)),
        (12, 4, 1, 4, (4, 12)),
        (32, 4, 1, 4, (4, 32)),
        (2, 8, 1, 2, (2, 8)),
        (4, 4, 1, 16, (16, 1)),
        (16, 8, 2, None, (8, 8)),
        (3, 5, 1, None, (5, 3)),
    ],
    ids=str,
)
def test_micro_batches(problems, group, updates, size, expected):
    config = Config(
        tasks=TASKS,
        curriculum={"problems_per_step": problems},
        sampling={"group_size": group},
        optimizer={"updates_per_batch": updates, "microbatch_size": size},
    )
    found = arguments(config)
    assert (found["per_device_train_batch_size"], found["gradient_accumulation_steps"]) == expected
    batch = found["per_device_train_batch_size"] * found["steps_per_generation"]
    assert batch == problems * group


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ({"name": "grpo"}, {"loss_type": "grpo", "scale_rewards": "group", "epsilon": 0.2, "epsilon_high": 0.2}),
        ({"name": "dr_grpo"}, {"loss_type": "dr_grpo", "scale_rewards": "none"}),
        ({"name": "dapo", "keep_flat_groups": True}, {"loss_type": "dapo", "epsilon": 0.2, "epsilon_high": 0.28}),
        ({"name": "gspo"}, {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 3e-4}),
        ({"name": "cispo", "keep_flat_groups": True}, {"loss_type": "cispo", "epsilon_high": 5.0}),
        ({"name": "rloo"}, {"loss_type": "dapo", "scale_rewards": "none", "reward_weights": [8 / 7]}),
        ({"name": "grpo", "kl_coef": 0.1, "entropy_coef": 0.02}, {"beta": 0.1, "entropy_coef": 0.02}),
    ],
    ids=str,
)
def test_presets_as_trl_calls_them(algorithm, expected):
    found = arguments(Config(tasks=TASKS, algorithm=algorithm))
    assert {key: found[key] for key in expected} == expected
    assert found["use_bias_correction_kl"] is False


RECIPES = {
    "countdown_nano": None,
    "math_nano": None,
    "countdown_qwen3_4b": None,
    "economy_qwen25_7b_lora": None,
    "gsm8k_qwen25_05b_mps": None,
    "gsm8k_qwen25_3b": None,
    "math_qwen25_05b_lora": None,
    "planning_mistral_7b_curriculum": None,
    "planning_qwen25_7b_curriculum": None,
    "planning_qwen3_14b_curriculum": None,
}
"""Shipped recipes of `gradus train`, and why TRL cannot run one; None: it can."""


@pytest.mark.parametrize("name", sorted(name for name in shipped() if not name.startswith("sft_")))
def test_every_recipe_translates_or_says_why_not(name):
    resolved = resolve([name], ["backend.name=trl"])
    why = RECIPES.get(name)
    if why is None:
        check(resolved)
        found = arguments(resolved.config)
        assert found["num_generations"] == resolved.config.sampling.group_size
        assert found["learning_rate"] == resolved.config.optimizer.learning_rate
    else:
        assert why in refusal(recipe=name)


def test_the_release_is_the_pinned_one():
    assert f"trl=={VERSION}" in (ROOT / "constraints.txt").read_text().splitlines()
    assert f'"trl=={VERSION}"' in (ROOT / "pyproject.toml").read_text()


def test_another_release_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.15.2")
    with pytest.raises(ValueError, match=re.escape(f"works with trl {VERSION}, and 1.15.2 is installed")):
        need_trl()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "trl" else object())
    with pytest.raises(ValueError, match=r"needs the packages trl; install gradus\[trl\] \(make extras-trl\)"):
        need_trl()


def test_a_config_from_python_knows_what_was_set():
    config = Config(tasks=TASKS, optimizer={"microbatch_tokens": 4096}, backend={"name": "trl"})
    with pytest.raises(ValueError, match=r"optimizer.microbatch_tokens=4096 cannot be done"):
        check(from_config(config))
