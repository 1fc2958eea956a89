"""Real short runs of the trl backend: the same problems, prompts and scores as native, the same gradient, exact resume."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from gradus import load_task, verbs
from gradus.config import Config
from gradus.exits import Code, Exit
from gradus.recipe import from_config
from gradus.rundir import read_jsonl
from gradus.tasks.base import TASKS
from gradus.types import Score
from tests.train import runs

trl = pytest.importorskip("trl", reason="trl is not installed")
from gradus.train.backends import trl as backend  # noqa: E402
from gradus.train.loop import train as train_natively  # noqa: E402


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return runs.tiny(tmp_path_factory.mktemp("tiny"))


def pay_for_digits(self, problem, text, *, finish="stop"):
    assert finish in ("stop", "length")
    reward = sum(character.isdigit() for character in text) / 100
    return Score(reward=reward, correct=reward > 0.02, parts={"digits": reward}, why="ok")


@pytest.fixture(autouse=True)
def rewards_with_spread(monkeypatch):
    """A random policy solves nothing; pay for digits instead, so that there is something to learn."""
    monkeypatch.setattr(TASKS["countdown"], "score", pay_for_digits)


def config_of(policy: Path, **changes: Any) -> Config:
    return runs.config_of(policy, **{"backend": {"name": "trl"}, **changes})


def train(config: Config, folder: Path) -> dict[str, Any]:
    """Runs to the end; without the report."""
    with runs.start_of(config, folder) as start:
        return (backend.train if config.backend.name == "trl" else train_natively)(start)


def rollouts(folder: Path, step: int) -> list[dict[str, Any]]:
    return read_jsonl(folder / "run" / "rollouts" / f"step_{step:06d}.jsonl").rows


def problems_of(folder: Path) -> list[list[str]]:
    """Problem ids of each step, in order; every group has a row, its best completion."""
    return [list(dict.fromkeys(row["problem_id"] for row in rollouts(folder, step))) for step in range(1, 5)]


def test_same_problems_in_the_same_order_as_native_and_the_same_scores(policy, tmp_path):
    train(config_of(policy), tmp_path / "trl")
    train(config_of(policy, backend={"name": "native"}), tmp_path / "native")
    assert problems_of(tmp_path / "trl") == problems_of(tmp_path / "native")
    task = load_task("countdown", max_numbers=3, reward="seed-code")
    by_id = {problem.id: problem for problem in task.problems("train", 24)}
    for step in range(1, 5):
        for row in rollouts(tmp_path / "trl", step):
            native = task.score(by_id[row["problem_id"]], row["completion"], finish=row["finish"])
            assert (row["reward"], row["correct"]) == (native.reward, native.correct)


def test_the_rows_of_a_run_are_those_of_a_native_one(policy, tmp_path):
    config = config_of(policy, algorithm={"kl_coef": 0.1})
    verbs.run("train", from_config(config), runs_dir=tmp_path / "trl")
    train(config_of(policy, algorithm={"kl_coef": 0.1}, backend={"name": "native"}), tmp_path / "native")
    theirs, ours = runs.metrics(tmp_path / "trl"), runs.metrics(tmp_path / "native")
    only_native = {key for row in ours for key in row} - {key for row in theirs for key in row}
    assert {key for key in only_native if not key.startswith("sampling/")} == set()
    assert {key for row in theirs for key in row} <= {key for row in ours for key in row}
    assert [row["learning_rate"] for row in theirs[1:]] == [row["learning_rate"] for row in ours[1:]]
    measured = "evaluation/validation/solve_rate"
    assert theirs[0][measured] == ours[0][measured], "the base model is the same"
    run = tmp_path / "trl" / "run"
    assert (run / "report.html").is_file() and (run / "comparison.json").is_file()
    r3 = ("training_report.json", "training_metrics.png", "metrics_distribution.png")
    assert all((run / name).stat().st_size > 500 for name in r3), "I-13"
    assert (run / "backend" / "trl" / "arguments.json").is_file()
    assert verbs.compare(f"{run}@base", f"{run}@4").sentence


def test_prompts_are_those_of_a_native_run(policy, tmp_path, monkeypatch):
    """What reaches `generate`, also where a prompt begins the assistant's answer, which TRL itself would close."""
    seen: list[list[int]] = []
    original = trl.GRPOTrainer._generate_single_turn

    def spy(self, prompt_ids, *others, **options):
        seen.extend(prompt_ids)
        return original(self, prompt_ids, *others, **options)

    monkeypatch.setattr(trl.GRPOTrainer, "_generate_single_turn", spy)
    tasks = {"countdown": {"max_numbers": 3, "prefill_think": True}}
    train(config_of(policy, tasks=tasks, num_steps=1, engine={"batch_size": 5}), tmp_path)
    from gradus.config import ModelConfig
    from gradus.policy.load import load_policy

    loaded = load_policy(ModelConfig(path=str(policy)))
    by_id = {problem.id: problem for problem in load_task("countdown", **tasks["countdown"]).problems("train", 24)}
    (names,) = [list(dict.fromkeys(row["problem_id"] for row in rollouts(tmp_path, 1)))]
    assert seen == [list(loaded.prompt_tokens(by_id[name].messages)) for name in names for _ in range(4)]


PRESETS = [
    {"name": "grpo"},
    {"name": "dr_grpo"},
    {"name": "dapo", "keep_flat_groups": True},
    {"name": "gspo"},
    {"name": "cispo", "keep_flat_groups": True},
    {"name": "rloo"},
    {"name": "grpo", "aggregate": "token", "kl_coef": 0.3},
]


@pytest.mark.parametrize("algorithm", PRESETS, ids=lambda one: "-".join(map(str, one.values())))
def test_a_step_has_the_gradient_of_a_native_one(policy, tmp_path, monkeypatch, algorithm):
    """Of the same completions, to float32."""
    from gradus.algo.presets import resolve_algorithm
    from gradus.policy.logprobs import completion_logprobs
    from gradus.train.batch import collate
    from gradus.train.update import Settings, accumulate

    kept: dict[str, Any] = {}
    original = backend.Stepper.step

    def step(self, closure=None):
        kept["gradient"] = {name: p.grad.clone() for name, p in kept["conductor"].policy.trainable()}
        kept["weights"] = {name: p.detach().clone() for name, p in kept["conductor"].policy.trainable()}
        kept["groups"] = kept["conductor"]._groups
        return original(self, closure)

    class Conductor(backend.Conductor):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            kept["conductor"] = self

    monkeypatch.setattr(backend.Stepper, "step", step)
    monkeypatch.setattr(backend, "Conductor", Conductor)
    config = config_of(
        policy, num_steps=1, algorithm=algorithm, optimizer={"max_grad_norm": 1e9, "microbatch_size": 4},
        sampling={"temperature": 0.7},
    )  # fmt: skip
    train(config, tmp_path)
    learner = kept["conductor"].policy
    for name, parameter in learner.trainable():
        parameter.data.copy_(kept["weights"][name])
        parameter.grad = None
    settled = resolve_algorithm(config.algorithm)
    batch = collate(
        [group_with_logprobs(group) for group in kept["groups"]],
        algorithm=settled,
        max_tokens=config.sampling.max_tokens,
    )
    model = learner.model.eval()
    with torch.no_grad():
        logprobs_BT, _ = completion_logprobs(
            model,
            prompts=[batch.prompt(index) for index in range(len(batch.prompts_PL))],
            completions=[batch.completion(index) for index in range(batch.num_completions)],
            prompt_of=batch.prompt_of_B.tolist(),
            temperature=0.7,
        )
    batch.sampler_logprobs_BT.copy_(logprobs_BT)
    settings = Settings(
        algorithm=settled, temperature=0.7, learning_rate=0.0, microbatch_tokens=10_000, microbatch_size=None,
        seed_parts=(0, 0, 1, 0),
    )  # fmt: skip
    accumulate(learner, batch, settings, reference=model if settled.kl_coef else None)
    scale = max(float(gradient.abs().max()) for gradient in kept["gradient"].values())
    assert scale > 0
    for name, parameter in learner.trainable():
        assert (parameter.grad - kept["gradient"][name]).abs().max() <= 2e-5 * scale, name


def group_with_logprobs(group):
    from dataclasses import replace

    return replace(group, completions=tuple(replace(c, logprobs=(0.0,) * len(c.tokens)) for c in group.completions))


def signal_at(monkeypatch, number: int) -> None:
    """Sends SIGTERM to this process before the forward pass with this number."""
    count = iter(range(1, 10_000))
    original = trl.GRPOTrainer.training_step

    def training_step(self, *arguments, **options):
        if next(count) == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *arguments, **options)

    monkeypatch.setattr(trl.GRPOTrainer, "training_step", training_step)


LORA = {"rank": 2, "alpha": 4, "dropout": 0.1}
CASES = {
    "plain": ({}, 5, 2),
    "two updates": ({"optimizer": {"updates_per_batch": 2}}, 7, 4),
    "two passes": ({"optimizer": {"passes_per_batch": 2}}, 7, 4),
    "kl": ({"algorithm": {"kl_coef": 0.1}}, 5, 2),
    "adapter with dropout and kl": ({"algorithm": {"kl_coef": 0.1}, "model": {"lora": LORA}}, 5, 2),
    "adaptive curriculum": (
        {"curriculum": {"stages": [[1.0, 0.4, 0.3, 0.3]], "adaptive": "variance"}, "optimizer": {"warmup_steps": 3}},
        5,
        2,
    ),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "plain" else pytest.mark.slow) for name in CASES]
)
def test_stopped_by_a_signal_and_resumed_gives_the_same_bits(policy, tmp_path, monkeypatch, name):
    """Two forward passes make a step; a run whose batch serves two steps goes on to the batch's end first."""
    changes, number, step = CASES[name]
    changes = {**changes, "optimizer": {"learning_rate": 1e-3, "microbatch_size": 8, **changes.get("optimizer", {})}}
    if name == "two updates":
        changes["optimizer"]["microbatch_size"] = 4
    config = config_of(policy, num_steps=6, **changes)
    train(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        signal_at(patch, number)
        with pytest.raises(Exit) as stop:
            train(config, tmp_path / "cut")
    assert stop.value.code == Code.INTERRUPTED and f"after step {step}" in stop.value.message
    assert not (tmp_path / "cut/run/checkpoints" / f"step_{step + 1:06d}").exists()
    train(config, tmp_path / "cut")
    if "lora" not in changes.get("model", {}):
        assert runs.bits(tmp_path / "cut", 6) == runs.bits(tmp_path / "whole", 6)
    keys = ("step", "loss", "grad_norm", "reward", "kl", "num_tokens", "learning_rate")
    rows = [[[row.get(key) for key in keys] for row in runs.metrics(tmp_path / one)] for one in ("cut", "whole")]
    assert rows[0] == rows[1]
    assert [row["step"] for row in runs.metrics(tmp_path / "cut")] == list(range(7))


@pytest.mark.slow
def test_more_steps_continue_a_finished_run_exactly(policy, tmp_path):
    train(config_of(policy, num_steps=6), tmp_path / "whole")
    train(config_of(policy, num_steps=4), tmp_path / "longer")
    train(config_of(policy, num_steps=6), tmp_path / "longer")
    assert runs.bits(tmp_path / "longer", 6) == runs.bits(tmp_path / "whole", 6)


def test_the_backend_of_a_run_does_not_change(policy, tmp_path):
    train(config_of(policy, num_steps=2), tmp_path)
    with pytest.raises(ValueError, match=r"backend.name was trl in .* and is native now; it cannot change in a run"):
        train(config_of(policy, num_steps=4, backend={"name": "native"}), tmp_path)


def test_a_scorer_that_raises_is_counted_and_its_sample_left_out(policy, tmp_path, monkeypatch):
    calls = iter(range(10_000))

    def score(self, problem, text, *, finish="stop"):
        if next(calls) % 5 == 0:
            raise ZeroDivisionError("one by none")
        return pay_for_digits(self, problem, text, finish=finish)

    config = config_of(policy, num_steps=2, scoring={"stop_error_frac": 0.5}, evaluation={"every_steps": None})
    monkeypatch.setattr(backend, "evaluate_owed", lambda *_: None)
    monkeypatch.setattr("gradus.train.backends.trl_conductor.evaluate_now", lambda *_: {})
    monkeypatch.setattr(TASKS["countdown"], "score", score)
    train(config, tmp_path)
    rows = runs.metrics(tmp_path)
    assert [row["scoring/error_frac"] for row in rows] == [4 / 16, 3 / 16]
    broken = [row for row in rollouts(tmp_path, 1) if row["status"] == "crash"]
    assert broken and all(row["advantage"] == 0 for row in broken)
    assert broken[0]["why"] == "crash: ZeroDivisionError: one by none"


def test_a_scorer_that_always_raises_ends_the_run(policy, tmp_path, monkeypatch):
    def score(self, problem, text, *, finish="stop"):
        raise ZeroDivisionError("one by none")

    monkeypatch.setattr(backend, "evaluate_owed", lambda *_: None)
    monkeypatch.setattr(TASKS["countdown"], "score", score)
    with pytest.raises(Exit, match=r"scoring failed for 100% of the completions") as stop:
        train(config_of(policy), tmp_path)
    assert stop.value.code == Code.SCORING


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(policy, tmp_path, monkeypatch):
    original = trl.GRPOTrainer.training_step
    count = iter(range(1, 10_000))

    def training_step(self, model, *arguments, **options):
        loss = original(self, model, *arguments, **options)
        if next(count) == 2:
            next(iter(model.parameters())).grad[0, 0] = float("nan")
        return loss

    monkeypatch.setattr(trl.GRPOTrainer, "training_step", training_step)
    config = config_of(policy, num_steps=2, optimizer={"microbatch_size": 16}, checkpoint={"every_steps": 1})
    train(config, tmp_path)
    assert [row["train/skipped"] for row in runs.metrics(tmp_path)[1:]] == [0.0, 1.0]
    before, after = runs.bits(tmp_path, 1), runs.bits(tmp_path, 2)
    assert {key for key in before if before[key] != after[key]} == {"rng.torch"}


@pytest.mark.slow
def test_a_run_that_goes_back_gets_other_seeds(policy, tmp_path, monkeypatch):
    original = trl.GRPOTrainer.training_step
    count = iter(range(1, 10_000))

    def training_step(self, model, *arguments, **options):
        loss = original(self, model, *arguments, **options)
        if next(count) == 3:
            next(iter(model.parameters())).grad[0, 0] = float("nan")
        return loss

    monkeypatch.setattr(trl.GRPOTrainer, "training_step", training_step)
    optimizer = {"microbatch_size": 16, "on_nonfinite": "rollback"}
    train(config_of(policy, optimizer=optimizer), tmp_path)
    rows = runs.metrics(tmp_path)
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4] and [row["replay"] for row in rows] == [0, 0, 0, 1, 1]


def test_a_key_that_this_trl_does_not_know(policy, tmp_path):
    with pytest.raises(ValueError, match=r"backend.extra has warp, which the GRPOConfig of this TRL does not know"):
        train(config_of(policy, backend={"name": "trl", "extra": {"warp": 9}}), tmp_path)
    assert not (tmp_path / "run").exists(), "nothing was begun, and no base evaluated"


def test_a_warm_up_is_native(policy, tmp_path):
    with pytest.raises(ValueError, match="gradus sft trains natively only"):
        verbs.run("sft", from_config(config_of(policy)), runs_dir=tmp_path)
