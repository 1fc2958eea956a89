"""The launchers themselves, with two processes: every strategy trains, goes on with the same bits, and ends as one does."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from gradus.rundir import read_jsonl
from tests.train.runs import tiny

pytestmark = pytest.mark.slow
SECONDS = 900
"""Two starts on a busy machine; each costs seconds of imports."""
RECIPE = """
name: run
num_steps: {num_steps}
torch_threads: 1
model: {{path: {policy}}}
tasks: {{toy: {{path: {toy}}}}}
curriculum: {{problems_per_step: 4, num_problems: 10}}
sampling: {{group_size: 8, max_tokens: 12}}
optimizer: {{learning_rate: 1e-3, microbatch_size: 5}}
evaluation: {{num_problems: 3, samples_per_problem: 2}}
checkpoint: {{every_steps: 2}}
records: {{rollouts_every_steps: 1}}
"""
TOY = Path(__file__).parent.parent / "faults/toy_task.py"
"""A task that random weights are paid for: without a gradient every resumed run would have the same bits."""
ZERO = pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
STRATEGIES = ["ddp", "fsdp2", pytest.param("zero2", marks=ZERO), pytest.param("zero3", marks=ZERO)]
NO_TRL = pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="TRL is not installed")
BACKENDS = ["native", pytest.param("trl", marks=NO_TRL)]


def trainer(backend: str) -> tuple[str, ...]:
    """Overrides for ``backend``; TRL's micro-batches divide the completions of a process."""
    return () if backend == "native" else (f"backend.name={backend}", "optimizer.microbatch_size=4")


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("policy"))


def launch(
    folder: Path, policy: Path, *overrides: str, num_steps: int = 4, launcher: tuple[str, ...] = (), **environment: str
) -> subprocess.Popen[str]:
    """Starts two processes of `gradus train` below ``folder``; default: by torchrun."""
    recipe = folder / "recipe.yaml"
    toy = folder / "toy.py"
    toy.write_text(TOY.read_text() + '\n\nfrom gradus.tasks.base import TASKS\n\nTASKS.add("toy", Toy)\n')
    recipe.write_text(RECIPE.format(policy=policy, num_steps=num_steps, toy=toy))
    launcher = launcher or ("torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    return subprocess.Popen(
        [sys.executable, "-m", *launcher, "-m", "gradus", "train", str(recipe), *overrides],
        env={**os.environ, "GRADUS_RUNS_DIR": str(folder), "DS_ACCELERATOR": "cpu", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> str:
    return process.communicate(timeout=SECONDS)[0]


def trained(folder: Path, policy: Path, *overrides: str, **options: Any) -> str:
    """As `launch`, to its end, which must be a good one."""
    process = launch(folder, policy, *overrides, **options)
    text = said(process)
    assert process.returncode == 0, text
    return text


def tensors(folder: Path, step: int) -> dict[str, Any]:
    """All tensors of a checkpoint by file and name, as bytes."""
    found = {}
    for path in sorted((folder / f"run/checkpoints/step_{step:06d}").rglob("*.safetensors")):
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118 (no mapping)
                found[f"{path.name}:{name}"] = file.get_tensor(name).tobytes()
    return found


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_stopped_run_goes_on_with_the_same_bits(strategy, backend, policy, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    told = (f"parallel.strategy={strategy}", *trainer(backend))
    text = trained(whole, policy, *told, "parallel.devices_per_node=2")
    assert f"2 processes, {strategy}:" in text
    trained(cut, policy, *told, num_steps=2)
    assert "resumes" in trained(cut, policy, *told)
    mine, other = tensors(whole, 4), tensors(cut, 4)
    assert mine.keys() == other.keys()
    assert [name for name in mine if mine[name] != other[name] and "rng." not in name] == []
    rows = read_jsonl(cut / "run/metrics.jsonl").rows
    assert len(rows) == 5 and all(row["grad_norm"] > 0 for row in rows[1:])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("file", STRATEGIES)
def test_the_files_for_accelerate_do_what_they_say(file, backend, policy, tmp_path):
    launcher = ("accelerate.commands.launch", "--config_file", f"recipes/accelerate/{file}.yaml")
    told: dict[str, Any] = {"launcher": launcher, "ACCELERATE_USE_CPU": "true"}
    assert f"2 processes, {file}:" in trained(tmp_path, policy, *trainer(backend), num_steps=2, **told)
    assert "resumes" in trained(tmp_path, policy, *trainer(backend), num_steps=3, **told)
    manifest = json.loads((tmp_path / "run/checkpoints/step_000003/MANIFEST.json").read_text())
    assert (manifest["world_size"], manifest["strategy"]) == (2, file)


def test_parts_are_put_together_for_another_strategy(policy, tmp_path):
    trained(tmp_path, policy, "parallel.strategy=fsdp2", num_steps=2)
    text = trained(tmp_path, policy, "parallel.strategy=ddp", num_steps=3)
    assert "exact bits not promised: parallel.strategy fsdp2 → ddp" in text
    names = {path.name for path in (tmp_path / "run/checkpoints/step_000003").iterdir()}
    assert "trainer-rank00000.safetensors" not in names


@ZERO
def test_parts_of_deepspeed_fit_only_themselves(policy, tmp_path):
    trained(tmp_path, policy, "parallel.strategy=zero2", num_steps=2)
    process = launch(tmp_path, policy, "parallel.strategy=fsdp2", num_steps=3)
    text = said(process)
    assert process.returncode != 0
    assert "was saved by 2 processes with parallel.strategy=zero2, and 2 with fsdp2 cannot take it up" in text


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_a_signal_to_one_stops_all_with_a_checkpoint(strategy, backend, policy, tmp_path):
    told = (f"parallel.strategy={strategy}", *trainer(backend))
    process = launch(tmp_path, policy, *told, num_steps=500)
    metrics = tmp_path / "run/metrics.jsonl"
    deadline = time.monotonic() + SECONDS
    while not (metrics.is_file() and len(read_jsonl(metrics).rows) > 2):
        assert process.poll() is None and time.monotonic() < deadline, said(process)
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    text = said(process)
    status = json.loads((tmp_path / "run/run.json").read_text())
    assert (status["status"], status["exit_code"]) == ("interrupted", 75), text
    assert status["checkpoint_step"] == status["step"] >= 2
    step = status["step"]
    assert "resumes" in trained(tmp_path, policy, *told, num_steps=step + 1)


def test_a_refusal_is_said_once(policy, tmp_path):
    process = launch(tmp_path, policy, "curriculum.problems_per_step=5")
    text = said(process)
    assert process.returncode != 0
    assert text.count("curriculum.problems_per_step=5 does not divide over 2 processes; use 4 or 6") == 1
    assert not (tmp_path / "run").exists()
