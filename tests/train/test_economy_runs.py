"""Runs on the economy with adapters: going on with more steps, peft, and what the report answers at the end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from gradus.policy.load import NANO
from gradus.recipe import resolve
from gradus.report import write_report
from gradus.verbs import run
from tests.train import runs

SMALL = [
    "name=run", "torch_threads=1", "tasks.economy.skip_contexts=0", "curriculum.num_problems=16", "sampling.group_size=4",
    "curriculum.problems_per_step=4", "evaluation.num_problems=4", "evaluation.samples_per_problem=1",
    "checkpoint.every_steps=100", "tasks.economy.closed_loop_months=24", "tasks.economy.closed_loop_economies=1",
    "tasks.economy.closed_loop_share=0.02",
]  # fmt: skip


def config_of(num_steps: int, *more: str):
    """The recipe made small."""
    return resolve(["economy_nano"], [*SMALL, f"num_steps={num_steps}", *more])


_OF_THE_WAY = ("train_seconds", "best_step", "best_value")
"""Counters that tell how a policy came about: the clock, and evaluations, which a run of fewer steps makes elsewhere."""


def state(path: Path, step: int) -> tuple[bytes, bytes, dict]:
    """All that a checkpoint holds and that decides what comes next: adapter, optimizer with torch's generator, the rest.
    Python's and NumPy's global generators are those of the process; nothing draws from them."""
    folder = path / f"checkpoints/step_{step:06d}"
    rest = json.loads((folder / "trainer.json").read_text())
    del rest["rng"]
    rest["counters"] = {name: value for name, value in rest["counters"].items() if name not in _OF_THE_WAY}
    names = ("model/adapter_model.safetensors", "trainer.safetensors")
    adapter, optimizer = ((folder / name).read_bytes() for name in names)
    return adapter, optimizer, rest


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A run of three steps, gone on with to five."""
    folder = tmp_path_factory.mktemp("short")
    run("train", config_of(3), runs_dir=folder)
    run("train", folder / "run", ["num_steps=5"])
    return folder / "run"


def test_more_steps_continue_exactly(short, tmp_path) -> None:
    runs.run(config_of(5).config, tmp_path)
    assert state(short, 5) == state(tmp_path / "run", 5) != state(short, 3)
    rows = [runs.metrics(folder) for folder in (short.parent, tmp_path)]
    assert [row["step"] for row in rows[0]] == [0, 1, 2, 3, 4, 5]
    for name in ("reward", "loss", "grad_norm"):
        assert [row[name] for row in rows[0][1:]] == [row[name] for row in rows[1][1:]]


@pytest.mark.slow
def test_a_thousand_steps_continue_exactly(tmp_path) -> None:
    run("train", config_of(1000), runs_dir=tmp_path / "whole")
    run("train", config_of(100), runs_dir=tmp_path / "cut")
    run("train", tmp_path / "cut" / "run", ["num_steps=1000"])
    assert state(tmp_path / "cut" / "run", 1000) == state(tmp_path / "whole" / "run", 1000)


def test_the_adapter_loads_in_peft_with_the_same_logits(short) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from gradus.config import ModelConfig
    from gradus.policy.load import load_policy
    from gradus.policy.tree import PackedTree

    folder = sorted((short / "checkpoints").glob("step_*"))[-1] / "model"
    base = AutoModelForCausalLM.from_pretrained(NANO / "economy", trust_remote_code=False)
    adapted = PeftModel.from_pretrained(base, folder)
    policy = load_policy(ModelConfig(path=str(folder)), is_trainable=False)
    prompt = policy.prompt_tokens(policy_messages())
    tree = PackedTree(prompts=[list(prompt)], completions=[], prompt_of=[], device=policy.device)
    with torch.no_grad():
        theirs = adapted(input_ids=torch.tensor([prompt])).logits[0]
        ours = policy.model(input_ids=tree.tokens_N[None], position_ids=tree.positions_N[None], tree=tree).logits[0]
        with adapted.disable_adapter():
            without = adapted(input_ids=torch.tensor([prompt])).logits[0]
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert (theirs - without).abs().max() > 1e-4, "the adapter says something"


def test_an_adapter_names_its_base_as_the_recipe_does(short) -> None:
    """Not by a folder of this machine: the run goes on, and its adapter loads, wherever gradus is installed."""
    found = sorted(short.glob("checkpoints/step_*/model/adapter_config.json"))
    assert found and {json.loads(path.read_text())["base_model_name_or_path"] for path in found} == {"nano/economy"}


def policy_messages():
    from gradus.tasks.base import load_task

    return next(load_task("economy", prompt="compact").problems("train", 1)).messages


def test_the_report_answers_three_questions(short) -> None:
    audit = json.loads((short / "reward_audit.json").read_text())["economy"]
    assert audit["refusal"] is None and [term["name"] for term in audit["terms"]] == ["value"]
    assert all(row["rewards/value/share"] > 0 for row in runs.metrics(short.parent)[1:])
    tables = json.loads((short / "comparison_tables.json").read_text())["tables"]
    titles = [one["title"] for one in tables]
    assert titles[0] == "Did it learn, is it collapsed, and what does the economy do with it?"
    page = write_report(short).read_text()
    for words in (
        "Did it learn?",
        "Is it collapsed?",
        "What does the economy do with it?",
        "Deciding for 2 % of the households",
        "unemployment of its households",
        "What the reward teaches",
    ):
        assert words in page
