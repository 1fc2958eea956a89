"""Recipes and overrides: what is accepted and as what, what is refused with which hint, where values came from.

Covers I-04 (overrides), I-06 (precedence and origins), I-19 (number of leaves).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gradus import keys
from gradus.config import Config
from gradus.recipe import ABSENT, diff, from_config, is_override, leaves, resolve, to_json, to_yaml
from gradus.tasks.base import load_task

BASE = "tasks.countdown={}"

GOOD: list[tuple[str, str, Any]] = [
    ("seed=3", "seed", 3),
    ("seed=0x10", "seed", 16),
    ("seed=012", "seed", 12),
    ("seed=1_000", "seed", 1000),
    ("num_steps=1000", "num_steps", 1000),
    ("name=first", "name", "first"),
    ("name='2026-01-01'", "name", "2026-01-01"),
    ("name=null", "name", None),
    ("torch_threads=2", "torch_threads", 2),
    ("model.path=Qwen/Qwen3-4B", "model.path", "Qwen/Qwen3-4B"),
    ("model.path=runs/first@best", "model.path", "runs/first@best"),
    ("model.path='a=b'", "model.path", "a=b"),
    ("model.revision=408f70d1", "model.revision", "408f70d1"),
    ("model.init=random", "model.init", "random"),
    ("model.dtype=bfloat16", "model.dtype", "bfloat16"),
    ("model.lora=null", "model.lora", None),
    ("model.lora={}", "model.lora.rank", 16),
    ("model.lora={rank: 8}", "model.lora.rank", 8),
    ("model.lora.alpha=8", "model.lora.alpha", 8.0),
    ("model.lora.targets=[q_proj, v_proj]", "model.lora.targets", ["q_proj", "v_proj"]),
    ("model.lora.targets=all-linear", "model.lora.targets", "all-linear"),
    ("sampling={group_size: 4, temperature: 0.7}", "sampling.group_size", 4),
    ("sampling.temperature=1", "sampling.temperature", 1.0),
    ("sampling.max_prompt_tokens=256", "sampling.max_prompt_tokens", 256),
    ("algorithm.name=dapo", "algorithm.name", "dapo"),
    ("algorithm.kl_coef=0", "algorithm.kl_coef", 0.0),
    ("algorithm.keep_flat_groups=false", "algorithm.keep_flat_groups", False),
    ("algorithm.keep_flat_groups=null", "algorithm.keep_flat_groups", None),
    ("optimizer.learning_rate=2e-6", "optimizer.learning_rate", 2e-6),
    ("optimizer.learning_rate=2.0E-6", "optimizer.learning_rate", 2e-6),
    ("optimizer.learning_rate= 1e-6 ", "optimizer.learning_rate", 1e-6),
    ("optimizer.schedule=cosine", "optimizer.schedule", "cosine"),
    ("optimizer.microbatch_size=null", "optimizer.microbatch_size", None),
    ("engine.error_rate=1", "engine.error_rate", 1.0),
    ("evaluation.temperature=0", "evaluation.temperature", 0.0),
    ("evaluation.split=test", "evaluation.split", "test"),
    ("checkpoint.grace_seconds=1.5", "checkpoint.grace_seconds", 1.5),
    ("tasks.countdown.max_numbers=3", "tasks.countdown.max_numbers", 3),
    ("tasks.countdown.number_range=[1, 20]", "tasks.countdown.number_range", [1, 20]),
    ("tasks.countdown.operators='+-'", "tasks.countdown.operators", "+-"),
    ("tasks.countdown={max_numbers: 5}", "tasks.countdown.max_numbers", 5),
]

BAD: list[tuple[str, str]] = [
    ("rollout.n=8", "rollout.n is not a key; did you mean sampling.group_size?"),
    ("num_generations=8", "num_generations is not a key; did you mean sampling.group_size?"),
    ("beta=0.1", "beta is not a key; did you mean algorithm.kl_coef?"),
    ("batch_size=16", "batch_size is not a key; did you mean curriculum.problems_per_step?"),
    ("max_completion_length=64", "max_completion_length is not a key; did you mean sampling.max_tokens?"),
    ("actor_rollout_ref.actor.optim.lr=1e-6", "did you mean optimizer.learning_rate?"),
    ("actor_rollout_ref.actor.ppo_mini_batch_size=4", "did you mean optimizer.updates_per_batch?"),
    ("sampling.top_p=0.9", "sampling.top_p is not a key; the recorded log-probabilities would not be"),
    ("sampling.group_siz=8", "did you mean sampling.group_size?"),
    ("group_size=8", "did you mean sampling.group_size?"),
    ("temperature=8", "did you mean sampling.temperature?"),
    ("optimiser.learning_rate=1", "did you mean optimizer.learning_rate?"),
    ("optimizer.leraning_rate=1", "did you mean optimizer.learning_rate?"),
    ("learning-rate=1", "'learning-rate=1' does not exist; an override is dotted.key=value"),
    ("checkpont.every_steps=5", "did you mean checkpoint.every_steps?"),
    ("evaluation.every_step=5", "did you mean evaluation.every_steps?"),
    ("lora.rank=8", "did you mean model.lora.rank?"),
    ("model.lora.rnk=8", "did you mean model.lora.rank?"),
    ("num_step=8", "did you mean num_steps?"),
    ("frobnicate=8", "frobnicate is not a key; `gradus config show --schema` lists them"),
    ("tasks.countdown.max_numbrs=3", "did you mean tasks.countdown.max_numbers?"),
    ("tasks.countdwn={}", "task 'countdwn' does not exist; did you mean 'countdown'?"),
    ("tasks.countdown.max_numbers=9", "tasks.countdown.max_numbers=9 is out of range; it must be in [1, 8], e.g. 4"),
    ("tasks.countdown.min_numbers=5", "min_numbers=5 is above max_numbers=4"),
    ("tasks.countdown=null", "tasks.countdown=null is not a section; indent its keys below it, or write {}"),
    (
        "optimizer.learning_rate=fast",
        "optimizer.learning_rate='fast' is not a number; it must be in (0, 1], e.g. 1e-06",
    ),
    ("optimizer.learning_rate='1e-6'", "optimizer.learning_rate='1e-6' is not a number; remove the quotes"),
    ("optimizer.learning_rate=2", "optimizer.learning_rate=2 is out of range; it must be in (0, 1], e.g. 1e-06"),
    ("optimizer.learning_rate=.nan", "is not a finite number"),
    ("num_steps=1e3", "num_steps=1000.0 is not an integer; write 1000"),
    ("num_steps=0", "num_steps=0 is out of range; it must be ≥ 1, e.g. 100"),
    ("seed=true", "seed=true is not an integer"),
    ("seed=", "'seed=' has no value; write seed=null if you mean null"),
    ("seed=*x", "alias"),
    ("seed=!!int 3", "a tag (!)"),
    ("name=2026-01-01", "2026-01-01 is read as a date; put it in quotes"),
    ("name=a/b", "name='a/b' does not fit; it must be text that matches"),
    (
        "algorithm.keep_flat_groups=no",
        "algorithm.keep_flat_groups='no' is not true or false or null; use true or false",
    ),
    ("algorithm.name=grop", "algorithm.name='grop' is not one of grpo, dr_grpo, dapo"),
    ("algorithm.name=grop", "did you mean grpo?"),
    ("evaluation.split=valid", "evaluation.split='valid' is not one of train, validation, test; take one of these"),
    ("sampling=8", "sampling=8 is not a section; indent its keys below it"),
    ("sampling.group_size=1", "sampling.group_size=1 is out of range; it must be ≥ 2, e.g. 8"),
    ("model.lora.targets=8", "model.lora.targets=8 is not all-linear or a list; give all-linear or a list"),
    ("model.lora.targets=[1, 2]", "model.lora.targets=[1, 2] is not all-linear or a list"),
    ("model.lora.targets.0=q", "an override is dotted.key=value"),
    (
        "optimizer.updates_per_batch=3",
        "curriculum.problems_per_step=16 is not a multiple of optimizer.updates_per_batch=3; use 15 or 18",
    ),
]


def refusal(*overrides: str) -> str:
    names = [one for one in overrides if not is_override(one)]
    with pytest.raises(ValueError) as caught:
        resolve(names, [BASE, *(one for one in overrides if is_override(one))])
    return str(caught.value)


@pytest.mark.parametrize(("override", "leaf", "value"), GOOD, ids=[override for override, _, _ in GOOD])
def test_a_good_override_has_its_value_and_type(override: str, leaf: str, value: Any):
    found = leaves(resolve([], [BASE, override]).config)[leaf]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("override", "message"), BAD, ids=[f"{override} {index}" for index, (override, _) in enumerate(BAD)]
)
def test_a_bad_override_says_what_was_probably_meant(override: str, message: str):
    text = refusal(override)
    assert message in text and "\n" not in text


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "tasks is missing; give at least one, e.g. tasks: {countdown: {}}"),
        (["tasks={}"], "override: tasks={} does not fit; it must be not empty"),
    ],
)
def test_a_run_has_a_task(overrides: list[str], message: str):
    with pytest.raises(ValueError) as caught:
        resolve([], overrides)
    assert str(caught.value) == message


def test_all_errors_come_at_once_with_file_and_line(tmp_path: Path):
    path = tmp_path / "x.yaml"
    path.write_text(
        "tasks:\n  countdown: {max_numbrs: 3}\nrollout:\n  n: 8\n  temperature: 1\noptimizer:\n  learning_rate: fast\n"
    )
    other = tmp_path / "y.yaml"
    other.write_text("model: {lora: {rank: 0}}\n")
    with pytest.raises(ValueError) as caught:
        resolve([path, other], ["seed=no"])
    lines = str(caught.value).splitlines()
    assert sorted(line.replace(f"{tmp_path}/", "").split("; ")[0] for line in lines) == [
        "override: seed='no' is not an integer",
        "x.yaml:2: tasks.countdown.max_numbrs is not a key",
        "x.yaml:4: rollout.n is not a key",
        "x.yaml:5: rollout.temperature is not a key",
        "x.yaml:7: optimizer.learning_rate='fast' is not a number",
        "y.yaml:1: model.lora.rank=0 is out of range",
    ]


def test_all_files_that_cannot_be_read_are_named_at_once(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("a: &x 1")
    (tmp_path / "b.yaml").write_text("- 1")
    with pytest.raises(ValueError) as caught:
        resolve([tmp_path / "a.yaml", tmp_path / "b.yaml", "nope"], ["seed="])
    assert len(str(caught.value).splitlines()) == 4


def test_a_hostile_recipe_is_refused_quickly(tmp_path: Path):
    path = tmp_path / "x.yaml"
    unknown = "".join(f"key{number}: {{a: 1}}\n" for number in range(400))
    path.write_text("tasks: {countdown: {}}\n" + "a" * 1000 + ": 1\n" + unknown)
    with pytest.raises(ValueError) as caught:
        resolve([path])
    lines = str(caught.value).splitlines()
    assert len(lines) == 51 and lines[-1] == "and more; repair these 50 first"


@pytest.mark.parametrize(
    "text", ["name: " + "x" * 200_000, "seed: -" + "9" * 4000, "optimizer: {learning_rate: " + "9" * 400 + "}"]
)
def test_hostile_values_are_refused_in_one_short_line(tmp_path: Path, text: str):
    (tmp_path / "x.yaml").write_text(f"tasks: {{countdown: {{}}}}\n{text}\n")
    with pytest.raises(ValueError) as caught:
        resolve([tmp_path / "x.yaml"])
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


def test_a_rule_about_two_keys_is_placed_where_the_first_was_written(tmp_path: Path):
    path = tmp_path / "x.yaml"
    path.write_text("tasks: {countdown: {}}\ncurriculum:\n  problems_per_step: 10\noptimizer: {updates_per_batch: 4}\n")
    with pytest.raises(ValueError, match=rf"^{path}:3: curriculum\.problems_per_step=10 is not a multiple"):
        resolve([path])


def test_later_files_and_overrides_win_and_every_leaf_names_its_source(tmp_path: Path):
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text(
        "tasks:\n  countdown:\n    max_numbers: 3\nseed: 1\n"
        "model:\n  lora:\n    rank: 4\n    targets: [a, b]\nnum_steps: 7\n"
    )
    second.write_text("seed: 2\nmodel: {lora: {targets: [c]}}\n")
    resolved = resolve([first, second], ["num_steps=8", "num_steps=9"])
    config, origins = resolved.config, resolved.origins
    assert (config.seed, config.num_steps) == (2, 9)
    assert config.model.lora is not None and (config.model.lora.rank, config.model.lora.targets) == (4, ("c",))
    assert set(origins) == set(leaves(config)), "every leaf has a source"
    assert origins["seed"] == f"{second}:1" and origins["num_steps"] == "override"
    assert (
        origins["tasks.countdown.max_numbers"] == f"{first}:3" and origins["tasks.countdown.min_numbers"] == "default"
    )
    assert origins["model.lora.rank"] == f"{first}:7" and origins["model.lora.targets"] == f"{second}:2"
    assert origins["model.lora.alpha"] == "default"
    assert resolved.sources == ((str(first), first.read_bytes()), (str(second), second.read_bytes()))


def test_null_and_lists_replace_and_forget_what_they_replaced(tmp_path: Path):
    path = tmp_path / "a.yaml"
    path.write_text("tasks: {countdown: {}}\nmodel: {lora: {rank: 4}}\n")
    assert resolve([path], ["model.lora=null"]).config.model.lora is None
    again = resolve([path], ["model.lora=null", "model.lora={}"])
    assert again.config.model.lora is not None and again.config.model.lora.rank == 16
    assert again.origins["model.lora.rank"] == "default"


def test_environment_variables_change_no_value(monkeypatch: pytest.MonkeyPatch):
    before = resolve([], [BASE]).config
    for name in ("SEED", "GRADUS_SEED", "NUM_STEPS", "GRADUS_NUM_STEPS"):
        monkeypatch.setenv(name, "7")
    assert resolve([], [BASE]).config == before


def test_relative_paths_are_relative_to_where_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "recipes").mkdir()
    path = tmp_path / "recipes" / "a.yaml"
    path.write_text("tasks: {countdown: {source: ../data/x.jsonl}}\nmodel: {path: ./model}\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = leaves(resolve([path]).config)
    assert found["tasks.countdown.source"] == str(tmp_path / "data" / "x.jsonl")
    assert found["model.path"] == str(tmp_path / "recipes" / "model")
    assert leaves(resolve([path], ["model.path=./m"]).config)["model.path"] == str(tmp_path / "elsewhere" / "m")


def test_an_argument_is_an_override_by_what_stands_before_the_first_equals():
    assert all(map(is_override, ["a=1", "a.b_c=1", "a==", "a=b=c", "A.b1=", "_a=1"]))
    assert not any(
        map(is_override, ["a", "./a=b.yaml", "a b=1", "a-b=1", "=1", "a.=1", "1a=1", ".a=1", "a..b=1", "a/b=1", ""])
    )


def test_a_recipe_with_an_equals_sign_is_given_with_a_slash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a=b.yaml").write_text("tasks: {countdown: {}}")
    monkeypatch.chdir(tmp_path)
    assert resolve(["./a=b.yaml"]).sources[0][0] == "./a=b.yaml"


def test_an_unknown_recipe_names_the_near_one():
    assert "did you mean countdown_nano?" in refusal("countdown-nano")
    assert "did you mean countdown_nano?" in refusal("countdown_nano.yaml")
    assert "give a YAML file or one of countdown_nano" in refusal("x")


def test_the_resolved_tree_as_a_recipe_resolves_to_itself(tmp_path: Path):
    overrides = [BASE, "model.lora={}", "name='no'", "optimizer.learning_rate=1e-22", "tasks.countdown.operators='+-'"]
    config = resolve([], overrides).config
    (tmp_path / "resolved.yaml").write_text(to_yaml(config))
    assert resolve([tmp_path / "resolved.yaml"]).config == config


def test_task_options_are_filled_up_so_that_a_changed_default_is_a_change():
    config = resolve([], [BASE]).config
    assert config.tasks["countdown"] == to_json(load_task("countdown").config)


def test_a_config_made_in_python_is_checked_the_same_way():
    resolved = from_config(Config(tasks={"countdown": {"max_numbers": 3}}, seed=0))
    assert resolved.config.tasks["countdown"]["min_numbers"] == 3
    assert resolved.origins["seed"] == resolved.origins["tasks.countdown.max_numbers"] == "python"
    assert resolved.origins["num_steps"] == resolved.origins["tasks.countdown.seed"] == "default"
    assert from_config(resolved.config).config == resolved.config
    with pytest.raises(ValueError, match=r"did you mean tasks\.countdown\.max_numbers\?"):
        from_config(Config(tasks={"countdown": {"max_numbrs": 3}}))


def test_diff_says_what_a_change_does_to_a_run():
    a = resolve([], [BASE]).config
    b = resolve(
        [], [BASE, "num_steps=7", "optimizer.microbatch_size=2", "seed=1", "tasks.countdown.seed=5", "model.lora={}"]
    ).config
    changes = {leaf: (old, new, resume) for leaf, old, new, resume in diff(a, b)}
    assert changes["num_steps"] == (100, 7, "mutable")
    assert changes["optimizer.microbatch_size"] == (None, 2, "inexact")
    assert changes["seed"] == (0, 1, "immutable") and changes["tasks.countdown.seed"] == (0, 5, "immutable")
    assert changes["model.lora"] == (None, ABSENT, "immutable") and changes["model.lora.rank"] == (
        ABSENT,
        16,
        "immutable",
    )
    assert diff(a, a) == []


def test_the_tree_stays_small():
    # 88 with probe.rehearse_steps: so that a recipe, and not its reader, decides how far a probe looks ahead
    assert len(keys.schema_leaves()) <= 88, "a new key pushes one out or argues for itself"


def test_every_leaf_is_documented_and_every_synonym_leads_to_one():
    known = keys.schema_leaves()
    assert not [leaf for leaf, field in known.items() if not field.description]
    assert set(keys.SYNONYMS.values()) <= set(known)


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [("", "", 0), ("a", "", 1), ("ab", "ba", 1), ("abc", "ca", 3), ("kitten", "sitting", 3), ("abcd", "abdc", 1)],
)
def test_edit_distance(a: str, b: str, distance: int):
    assert keys.edit_distance(a, b) == keys.edit_distance(b, a) == distance
