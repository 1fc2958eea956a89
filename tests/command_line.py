"""What tests of the command line share: one command run in this process, and a run directory that was never trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gradus import durable
from gradus.cli import main as cli
from gradus.recipe import resolve, to_yaml
from gradus.rundir import RunDirectory

ROLLOUT = {
    "step": 10, "problem_id": "countdown/train/00001", "domain": "n3", "completion": "<answer>=1+1</answer>\x1b[2J",
    "reward": 0.1, "parts": {"answer": 0.1}, "correct": False, "status": "scored", "why": "wrong_value",
    "num_tokens": 5, "finish": "stop",
}  # fmt: skip


def call(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one command, run in this process."""
    code = cli.run([str(argument) for argument in arguments])
    return code, *capfd.readouterr()


def only_json(text: str) -> Any:
    """The one JSON object of stdout; fails if there is anything else."""
    assert text.endswith("}\n") and text.count("\n") == 1
    return json.loads(text)


def make_run(folder: Path) -> RunDirectory:
    """A run directory with evaluations of the base model and of step 2, which is worse, and recorded completions."""
    made = RunDirectory.create(folder)
    durable.write_text(made.path / "resolved.yaml", to_yaml(resolve([], ["tasks.countdown={}", "num_steps=2"]).config))
    made.update_status(
        status="finished",
        step=2,
        attempt=1,
        checkpoint_step=2,
        best_step=0,
        num_steps=2,
        kind="train",
        data_fingerprint="0",
    )
    for step, right in ((0, 30), (2, 5)):
        made.write_evaluation("validation", step, [_row(index, index < right) for index in range(40)], {"settings": {}})
    made.write_rollouts(10, [ROLLOUT, {**ROLLOUT, "correct": True, "reward": 1.0, "completion": "right"}])
    return made


def _row(index: int, is_correct: bool) -> dict[str, Any]:
    return {
        "problem_id": f"p{index}", "domain": "n3", "difficulty": 0.5, "bucket": None, "cluster": None, "sample": 0,
        "prompt": "q", "completion": "a", "reward": float(is_correct), "parts": {"answer": float(is_correct)},
        "correct": is_correct, "status": "scored", "why": "", "num_tokens": 3, "finish": "stop", "mean_nll": 0.5,
    }  # fmt: skip
