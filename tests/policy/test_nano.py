"""The embedded policies' weights are what their record says, and their recipe makes them again to the same bits."""

import hashlib
import json

import pytest
import torch

from gradus.config import ModelConfig
from gradus.policy.load import NANO, load_policy
from gradus.policy.nano.build import FAMILIES, processor
from gradus.recipe import resolve
from gradus.tasks.base import load_task
from gradus.train.warmup import encode_example
from gradus.verbs import run


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_weights_are_those_of_the_record(name):
    made = json.loads((NANO / name / "made.json").read_text())
    assert hashlib.sha256((NANO / name / "model.safetensors").read_bytes()).hexdigest() == made["sha256"]
    config = resolve([made["recipe"]]).config
    assert (made["step"], made["torch_threads"]) == (config.num_steps, config.torch_threads)


def test_a_name_is_one_token_for_the_policy_that_plans():
    policy = load_policy(ModelConfig(path="nano/planning"), is_trainable=False)
    task = load_task("planning", preset="nano", prompt="brief", num_train=20)
    for problem in task.problems("train"):
        for words, tokens in (
            (problem.messages[0].content, policy.prompt_tokens(problem.messages)[1:-2]),
            (task.oracle(problem), policy.answer_tokens(task.oracle(problem))[:-1]),
        ):
            num_ends = words.count(")") if "(" in words else words.count("\n")
            assert policy.decode(tokens) == words
            assert len(tokens) == len(words.split()) + num_ends, "names, and the ends of actions or lines"


def test_a_warm_up_shows_what_the_task_demonstrates():
    policy = load_policy(ModelConfig(path="nano/planning"), is_trainable=False)
    task = load_task("planning", preset="nano", prompt="brief", slip_rate=0.9)
    problem = next(iter(task.problems("train", 1)))
    _, answer = encode_example(policy, task, problem)
    assert policy.decode(answer) == task.demonstration(problem) != task.oracle(problem)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_the_recipe_makes_the_weights_again(name, tmp_path):
    made = json.loads((NANO / name / "made.json").read_text())
    if (made["processor"], made["versions"]["torch"]) != (processor(), torch.__version__):
        pytest.skip(f"the same bits are promised on {made['processor']} with torch {made['versions']['torch']} only")
    overrides = ["name=again"]
    if start := FAMILIES[name].start:
        run("sft", resolve([start], ["name=start"]), runs_dir=tmp_path)
        overrides.append(f"model.path={tmp_path / 'start'}@last")
    run("sft", resolve([made["recipe"]], overrides), runs_dir=tmp_path)
    weights = tmp_path / "again" / "checkpoints" / f"step_{made['step']:06d}" / "model" / "model.safetensors"
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == made["sha256"]
