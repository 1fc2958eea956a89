"""The loop as a whole: real short runs, cut and resumed anywhere, with every preset, and what stops them."""

import json
import random

import numpy as np
import pytest
import torch

import gradus.train.loop as loop
import gradus.train.update as update_module
from gradus.algo.presets import PRESETS
from gradus.exits import Code, Exit
from gradus.tasks.base import TASKS
from gradus.types import Score
from tests.train import runs


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return runs.tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def rewards_with_spread(monkeypatch):
    """A random policy solves nothing; pay for digits instead, so that there is something to learn."""

    def score(self, problem, text, *, finish="stop"):
        assert finish in ("stop", "length")
        reward = sum(character.isdigit() for character in text) / 100
        return Score(reward=reward, correct=reward > 0.02, parts={"digits": reward}, why="ok")

    monkeypatch.setattr(TASKS["countdown"], "score", score)


def stopped_after(monkeypatch, steps: int) -> None:
    """Makes the loop stop, as by a signal, in the middle of the step after ``steps``."""
    count = iter(range(10_000))
    original = update_module.accumulate

    def accumulate(*arguments, **options):
        if next(count) == steps:
            raise loop_interrupted()
        return original(*arguments, **options)

    monkeypatch.setattr(update_module, "accumulate", accumulate)


def loop_interrupted():
    from gradus.train.interrupt import Interrupted

    return Interrupted("SIGTERM")


@pytest.mark.parametrize(
    ("updates", "passes"),
    [(1, 1), (2, 1), (4, 1), (2, 2)],
    ids=["1 update", "2 updates", "4 updates", "2 updates, 2 passes"],
)
@pytest.mark.parametrize("cut", [1, 3])
def test_cut_anywhere_and_resumed_gives_the_same_bits(policy, tmp_path, monkeypatch, updates, passes, cut):
    config = runs.config_of(policy, num_steps=6, optimizer={"updates_per_batch": updates, "passes_per_batch": passes})
    runs.run(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stopped_after(patch, cut)
        with pytest.raises(Exit) as stop:
            runs.run(config, tmp_path / "cut")
    assert stop.value.code == Code.INTERRUPTED
    runs.run(config, tmp_path / "cut")
    assert runs.bits(tmp_path / "cut", 6) == runs.bits(tmp_path / "whole", 6)
    assert [row["step"] for row in runs.metrics(tmp_path / "cut")] == list(range(7))
    for step in range(1, 7):
        name = f"run/rollouts/step_{step:06d}.jsonl"
        assert ((tmp_path / "cut") / name).read_bytes() == ((tmp_path / "whole") / name).read_bytes()


def test_more_steps_continue_a_finished_run_exactly(policy, tmp_path):
    runs.run(runs.config_of(policy, num_steps=6), tmp_path / "whole")
    runs.run(runs.config_of(policy, num_steps=4), tmp_path / "longer")
    runs.run(runs.config_of(policy, num_steps=6), tmp_path / "longer")
    assert runs.bits(tmp_path / "longer", 6) == runs.bits(tmp_path / "whole", 6)


def test_global_generators_have_no_say(policy, tmp_path, monkeypatch):
    config = runs.config_of(policy, num_steps=3)
    runs.run(config, tmp_path / "calm")
    for name in ("sample_groups", "update", "plan_updates", "evaluate_now"):
        original = getattr(loop, name)

        def scrambled(*arguments, original=original, **options):
            random.seed(None)
            np.random.seed(None)
            torch.manual_seed(random.randrange(2**31))
            return original(*arguments, **options)

        monkeypatch.setattr(loop, name, scrambled)
    runs.run(config, tmp_path / "scrambled")
    calm, other = (runs.bits(tmp_path / name, 3) for name in ("calm", "scrambled"))
    assert {k: v for k, v in calm.items() if k != "rng.torch"} == {k: v for k, v in other.items() if k != "rng.torch"}


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_trains_and_changes_the_weights(policy, tmp_path, name):
    config = runs.config_of(policy, num_steps=2, algorithm={"name": name}, sampling={"max_redraws": 1})
    runs.run(config, tmp_path)
    rows = runs.metrics(tmp_path)
    assert [row["step"] for row in rows] == [0, 1, 2]
    needed = {"loss", "grad_norm", "entropy", "reward", "rollout/solve_rate", "time/step_seconds", "num_tokens"}
    assert needed <= set(rows[1])
    assert max(row["sampling/sampling_logp_difference/max"] for row in rows[1:]) < 1e-5
    assert ("rollout/dropped_groups" in rows[1]) == (not PRESETS[name].keep_flat_groups)


@pytest.mark.parametrize("lora", [None, {"rank": 4, "alpha": 8}], ids=["frozen copy", "adapter off"])
def test_kl_to_the_base_starts_at_zero_and_grows(policy, tmp_path, lora):
    model = {"lora": lora}
    config = runs.config_of(
        policy, num_steps=5, model=model, algorithm={"kl_coef": 0.1}, optimizer={"learning_rate": 5e-3}
    )
    runs.run(config, tmp_path)
    kl = [row["kl"] for row in runs.metrics(tmp_path)[1:]]
    assert abs(kl[0]) < 1e-6
    assert kl[-1] > 1e-5
    saved = {path.name for path in (tmp_path / "run" / "checkpoints" / "step_000004" / "model").iterdir()}
    assert ("adapter_model.safetensors" in saved) == (lora is not None)
    assert "tokenizer.json" in saved


def test_an_adapter_run_resumes_exactly(policy, tmp_path):
    def config(steps):
        return runs.config_of(policy, num_steps=steps, model={"lora": {"rank": 4, "alpha": 8, "dropout": 0.1}})

    runs.run(config(4), tmp_path / "whole")
    runs.run(config(2), tmp_path / "cut")
    runs.run(config(4), tmp_path / "cut")
    whole, cut = (
        (tmp_path / name / "run/checkpoints/step_000004/model/adapter_model.safetensors").read_bytes()
        for name in ("whole", "cut")
    )
    assert whole == cut


def test_a_warm_up_learns_and_resumes_exactly(policy, tmp_path):
    def config(steps):
        return runs.config_of(policy, num_steps=steps, sft={"batch_size": 8}, optimizer={"learning_rate": 3e-3})

    runs.run(config(8), tmp_path / "whole", kind="sft")
    runs.run(config(4), tmp_path / "cut", kind="sft")
    runs.run(config(8), tmp_path / "cut", kind="sft")
    assert runs.bits(tmp_path / "whole", 8) == runs.bits(tmp_path / "cut", 8)
    losses = [row["loss"] for row in runs.metrics(tmp_path / "whole")]
    assert losses[-1] < losses[0] - 0.3


def broken_updates(monkeypatch, steps: set[int]) -> None:
    """Makes the loss of these steps NaN, the first time only."""
    original, done = loop.update, set()

    def update(policy, optimizer, batch, settings, **options):
        step = settings.seed_parts[2]
        if step in steps and step not in done:
            done.add(step)
            batch.advantages_B[:] = float("nan")
        return original(policy, optimizer, batch, settings, **options)

    monkeypatch.setattr(loop, "update", update)


def test_a_step_that_is_not_finite_is_skipped_and_counted(policy, tmp_path, monkeypatch):
    broken_updates(monkeypatch, {2})
    summary = runs.run(runs.config_of(policy), tmp_path)
    rows = runs.metrics(tmp_path)
    assert [row.get("train/skipped") for row in rows[1:]] == [0, 1, 0, 0]
    assert rows[2]["loss"] == "NaN"
    assert summary["num_skipped"] == 1


def test_four_in_a_row_go_back_once_and_then_on(policy, tmp_path, monkeypatch):
    broken_updates(monkeypatch, {3, 4, 5, 6})
    runs.run(runs.config_of(policy, num_steps=8), tmp_path)
    rows = runs.metrics(tmp_path)
    assert [row["step"] for row in rows] == list(range(9))
    assert [row["replay"] for row in rows] == [0, 0, 0] + [1] * 6 or [row["replay"] for row in rows][-1] == 1
    assert json.loads((tmp_path / "run/run.json").read_text())["replay"]["replay"] == 1


@pytest.mark.parametrize("policy_of_loop", ["skip", "stop"])
def test_for_ever_ends_with_exit_5_and_whole_checkpoints(policy, tmp_path, monkeypatch, policy_of_loop):
    original = loop.update

    def update(policy, optimizer, batch, settings, **options):
        if settings.seed_parts[2] > 2:
            batch.advantages_B[:] = float("inf")
        return original(policy, optimizer, batch, settings, **options)

    monkeypatch.setattr(loop, "update", update)
    config = runs.config_of(policy, num_steps=20, optimizer={"on_nonfinite": policy_of_loop})
    with pytest.raises(Exit) as stop:
        runs.run(config, tmp_path)
    assert stop.value.code == Code.DIVERGED
    assert json.loads((tmp_path / "run/run.json").read_text())["exit_code"] == 5
    assert runs.bits(tmp_path, 2)


def test_a_scorer_that_always_fails_ends_the_run(policy, tmp_path, monkeypatch):
    failed = Score(reward=0.0, correct=False, parts={}, why="crash", status="crash")
    monkeypatch.setattr(TASKS["countdown"], "score", lambda *_, **__: failed)
    with pytest.raises(Exit) as stop:
        runs.run(runs.config_of(policy), tmp_path)
    assert stop.value.code == Code.SCORING
    assert "gradus tasks check" in stop.value.hint


def test_problems_are_drawn_in_epochs_and_trained_as_drawn(policy, tmp_path):
    runs.run(runs.config_of(policy, num_steps=6, curriculum={"problems_per_step": 4, "num_problems": 8}), tmp_path)
    drawn = []
    for step in range(1, 7):
        lines = (tmp_path / f"run/rollouts/step_{step:06d}.jsonl").read_text().splitlines()
        drawn += sorted({json.loads(line)["problem_id"] for line in lines})
    assert all(drawn.count(problem) == 3 for problem in set(drawn))
    assert len(set(drawn)) == 8


def test_evaluations_are_paired_with_the_base(policy, tmp_path):
    summary = runs.run(runs.config_of(policy, evaluation={"every_steps": 2, "num_problems": 5}), tmp_path)
    folder = tmp_path / "run" / "evaluations" / "validation"
    assert sorted(path.name for path in folder.glob("*.jsonl")) == [f"step_{step:06d}.jsonl" for step in (0, 2, 4)]
    ids = [
        [json.loads(line)["problem_id"] for line in path.read_text().splitlines()]
        for path in sorted(folder.glob("*.jsonl"))
    ]
    assert ids[0] == ids[1] == ids[2]
    assert summary["comparison"]["verdict"] in ("Better", "Worse", "Not shown")
    assert (tmp_path / "run/comparison.json").is_file()


def test_too_little_room_in_the_model_is_said_at_once(policy, tmp_path):
    with pytest.raises(ValueError, match=r"sampling.max_tokens=600 .* do not fit the 512 positions"):
        runs.run(runs.config_of(policy, sampling={"max_tokens": 600}), tmp_path)


def test_problems_with_long_prompts_are_left_out(policy, tmp_path):
    from gradus.data.problems import load_problems
    from gradus.policy.load import load_policy

    config = runs.config_of(policy, num_steps=2, tasks={"countdown": {"max_numbers": 4}})
    sizes = [len(load_policy(config.model).prompt_tokens(p.messages)) for p in load_problems(config).train]
    limit = min(sizes)
    assert max(sizes) > limit, "the test needs prompts of different lengths"
    limited = config.model_copy(update={"sampling": config.sampling.model_copy(update={"max_prompt_tokens": limit})})
    runs.run(limited, tmp_path)
    kept = sum(size <= limit for size in sizes)
    assert f"{len(sizes) - kept} of {len(sizes)} problems left out" in (tmp_path / "run" / "events.log").read_text()
    with pytest.raises(Exit) as stop:
        runs.run(runs.config_of(policy, name="none", num_steps=2, sampling={"max_prompt_tokens": 3}), tmp_path)
    assert stop.value.code == Code.NOTHING_USABLE
