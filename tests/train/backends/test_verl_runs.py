"""Whole runs by the real verl on a CPU, with a Ray of their own: records, order, resume, stop, and what goes wrong."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from gradus.exits import Code, Exit
from gradus.policy.load import load_policy
from gradus.rundir import read_jsonl
from gradus.train.backends.verl import train
from gradus.train.backends.verl_place import need_verl
from gradus.train.backends.verl_ray import own_ray
from gradus.train.backends.verl_weights import saved_weights
from tests.train import runs
from tests.train.runs import run as run_natively

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def python() -> Path:
    try:
        return need_verl()
    except ValueError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return runs.tiny(tmp_path_factory.mktemp("tiny"))


def config_of(policy: Path, **changes: Any):
    return runs.config_of(policy, **({"backend": {"name": "verl"}, "num_steps": 2} | changes))


def run(config: Any, folder: Path, **options: Any) -> dict[str, Any]:
    with runs.start_of(config, folder, **options) as start:
        return train(start)


def order(folder: Path) -> list[str]:
    """Problems of all recorded steps, in the order they were trained on."""
    found: list[str] = []
    for path in sorted((folder / "run" / "rollouts").glob("*.jsonl")):
        found += dict.fromkeys(row["problem_id"] for row in read_jsonl(path).rows)
    return found


def first_completions(folder: Path) -> set[tuple[str, str, float]]:
    return {
        (row["problem_id"], row["completion"], row["reward"])
        for row in read_jsonl(folder / "run" / "rollouts" / "step_000001.jsonl").rows
    }


def test_a_run_is_recorded_as_a_native_one_and_goes_on(policy, tmp_path):
    run(config_of(policy), tmp_path / "verl")
    rows = {row["step"]: row for row in runs.metrics(tmp_path / "verl")}
    assert set(rows) == {0, 1, 2}
    needed = {"reward", "loss", "grad_norm", "entropy", "learning_rate", "rollout/mixed_frac", "time/step_seconds"}
    assert needed <= set(rows[1]) and "evaluation/validation/solve_rate" in rows[0].keys() & rows[2].keys()
    assert all(rows[step]["backend/dropped_groups"] == rows[step]["backend/score_mismatch"] == 0 for step in (1, 2))

    run_natively(runs.config_of(policy, num_steps=4), tmp_path / "native")
    assert first_completions(tmp_path / "verl") == first_completions(tmp_path / "native")

    run(config_of(policy, num_steps=4), tmp_path / "verl")
    assert order(tmp_path / "verl") == order(tmp_path / "native"), "the same problems in the same order"
    assert [row["step"] for row in runs.metrics(tmp_path / "verl")] == [0, 1, 2, 3, 4]

    checkpoint = tmp_path / "verl" / "run" / "checkpoints" / "step_000004"
    ours = load_policy(config_of(checkpoint / "model").model, is_trainable=False).model.state_dict()
    for name, tensor in saved_weights(tmp_path / "verl" / "run" / "backend" / "verl", 4).items():
        assert torch.equal(tensor, ours[name]), "to the last bit"
    assert json.loads((checkpoint / "MANIFEST.json").read_text())["foreign"]


def test_an_adapter_learns_and_its_base_stays(policy, tmp_path):
    lora = {"model": {"lora": {"rank": 4, "alpha": 8, "dropout": 0.0}}, "evaluation": {"every_steps": 1}}
    run(config_of(policy, **lora), tmp_path / "verl")
    run_natively(runs.config_of(policy, num_steps=2, **lora), tmp_path / "native")
    assert first_completions(tmp_path / "verl") == first_completions(tmp_path / "native")
    folder = tmp_path / "verl" / "run" / "checkpoints" / "step_000002" / "model"
    adapter = load_file(folder / "adapter_model.safetensors")
    assert any(tensor.any() for name, tensor in adapter.items() if "lora_B" in name), "it has learned"
    ours = load_policy(config_of(folder).model, is_trainable=False).model
    base = load_file(policy / "model.safetensors")
    inner = ours.get_base_model().state_dict()
    assert all(torch.equal(tensor, inner[name.replace(".weight", ".base_layer.weight")]) for name, tensor in base.items()
               if name.replace(".weight", ".base_layer.weight") in inner)  # fmt: skip


BREAKS = """
import json, os
if "GRADUS_VERL_PLAN" in os.environ:
    import gradus.integrations.verl as ours
    before, first = ours.compute_score, json.loads(open(os.environ["GRADUS_VERL_PLAN"]).readline())["problem_id"]
    def compute_score(**given):
        if json.loads(given["ground_truth"])["id"] == first:
            raise RuntimeError("a scorer that raises")
        return before(**given)
    ours.compute_score = compute_score
"""
"""Loaded by each of verl's Pythons as it begins."""


def test_a_group_whose_reward_raises_inside_verl_is_counted(policy, tmp_path, monkeypatch):
    """Our own reward function never raises; one that did would cost its group, which verl drops without a word."""
    (tmp_path / "breaks").mkdir()
    (tmp_path / "breaks" / "sitecustomize.py").write_text(BREAKS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "breaks"))
    run(config_of(policy, num_steps=1), tmp_path)
    (row,) = [row for row in runs.metrics(tmp_path) if row["step"] == 1]
    assert row["backend/dropped_groups"] == 1 and row["backend/padded_frac"] > 0
    assert "verl dropped 1 of 4 groups of its step 1" in (tmp_path / "run" / "events.log").read_text()


TASK = """
from gradus.tasks.base import TASKS
from tests.faults.toy_task import Toy

class Broken(Toy):
    name = "broken"
    def problem(self, **raw):
        from dataclasses import replace
        return replace(super().problem(**raw), task="broken")
    def score(self, problem, text, *, finish="stop"):
        if problem.id.split("/")[1] == "train":
            raise RuntimeError("it always raises")
        return super().score(problem, text, finish=finish)

TASKS.add("broken", Broken)
"""


def test_a_task_whose_scorer_raises_ends_the_run(policy, tmp_path, monkeypatch):
    """As natively, with exit code 7; the task's file is named from the folder that the user is in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text(TASK)
    with pytest.raises(Exit, match="scoring failed for 100%") as error:
        run(config_of(policy, tasks={"broken": {"path": "broken.py"}}, num_steps=1), tmp_path)
    assert error.value.code == Code.SCORING
    assert "verl dropped" not in (tmp_path / "run" / "events.log").read_text(), "verl was told a score"


def test_a_state_of_verl_that_is_not_whole_is_refused(policy, tmp_path):
    run(config_of(policy), tmp_path)
    (state,) = (tmp_path / "run" / "backend" / "verl").glob("global_step_2/actor/optim_*.pt")
    state.write_bytes(state.read_bytes()[:-1])
    with pytest.raises(Exit, match="verl cannot go on from step 2") as error:
        run(config_of(policy, num_steps=4), tmp_path)
    assert error.value.code == Code.NOTHING_USABLE


def test_a_signal_ends_all_processes_and_the_run_goes_on(policy, tmp_path):
    config = config_of(policy, num_steps=6, checkpoint={"every_steps": 1})
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(config.model_dump_json(exclude_unset=True))
    command = [sys.executable, "-m", "gradus", "train", str(recipe)]
    env = os.environ | {"GRADUS_RUNS_DIR": str(tmp_path)}
    process = subprocess.Popen(command, cwd=tmp_path, env=env)
    folder = tmp_path / "run"
    while not (folder / "checkpoints" / "step_000001").exists():
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == Code.INTERRUPTED
    assert not processes_of(folder)
    assert json.loads((folder / "run.json").read_text())["status"] == "interrupted"
    assert 1 <= runs.metrics(tmp_path)[-1]["step"] < 6

    assert subprocess.run(command, cwd=tmp_path, env=env).returncode == 0
    assert [row["step"] for row in runs.metrics(tmp_path)] == [0, 1, 2, 3, 4, 5, 6]
    assert not processes_of(folder)


def processes_of(folder: Path) -> list[str]:
    """Command lines of living processes that name a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(folder).encode() in (line := path.read_bytes()):
                found.append(line.decode(errors="replace"))
    return found


def test_a_setting_that_verl_does_not_know_is_named(policy, tmp_path):
    config = config_of(policy, backend={"name": "verl", "extra": {"trainer.nodes": 2}})
    with pytest.raises(ValueError, match=r"backend\.extra: trainer\.nodes is no setting of this release"):
        run(config, tmp_path)
    assert not (tmp_path / "run").exists(), "nothing was begun"


def test_a_ray_of_the_users_is_used(policy, tmp_path, python):
    env = dict(os.environ)
    with own_ray(python, log=tmp_path / "ray.log", env=env, num_gpus=1, poll=lambda: None) as (address, keys):
        os.environ |= keys
        run(config_of(policy, num_steps=1, backend={"name": "verl", "ray_address": address}), tmp_path)
    assert [row["step"] for row in runs.metrics(tmp_path)] == [0, 1]
