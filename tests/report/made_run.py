"""A made-up but complete run directory: Countdown, 3 domains, one resume, one step that was not finite."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gradus.evaluation.evaluate import summarize
from gradus.rundir import RunDirectory

DOMAINS = ("n3", "n4", "n5")
RESOLVED = """\
name: {name}
seed: 0
num_steps: {num_steps}
model:
  path: nano/countdown
  device: cpu
  lora: null
tasks:
  countdown:
    max_numbers: 5
sampling:
  group_size: 8
  temperature: 1.0
  max_tokens: 96
algorithm:
  name: grpo
optimizer:
  learning_rate: 0.0001
evaluation:
  split: validation
  every_steps: {every}
  primary_metric: pass_at_1
"""


def make_run(
    path: Path,
    *,
    num_steps: int = 120,
    eval_every: int = 40,
    num_problems: int = 60,
    rollouts_every: int = 10,
    text: Callable[[str], str] = lambda plain: plain,
    status: str = "finished",
) -> Path:
    """Writes the run; ``text`` is applied to every piece of text that a model, a data set or a user could choose."""
    rng = np.random.default_rng(0)
    run = RunDirectory.create(path)
    for step in range(num_steps + 1):
        if step % eval_every == 0:
            rows = _evaluation_rows(np.random.default_rng(1), step / num_steps, num_problems, text)
            settings = {
                "split": "validation",
                "temperature": 1.0,
                "problems_sha256": "ab" * 32,
                "model": text(f"made@{step}"),
            }
            run.write_evaluation("validation", step, rows, summarize(rows, settings=settings))
        if step:
            run.append_metrics(_metrics(rng, step, num_steps))
            if step % rollouts_every == 0:
                run.write_rollouts(step, [_rollout(rng, step, num_steps, index, text) for index in range(12)])
    run.append_alert(
        {"rule": text("H-09"), "severity": "WARN", "step": num_steps // 3, "text": text("truncation above 20 %")}
    )
    run.write_status(
        kind="train",
        status=status,
        attempt=2,
        step=num_steps,
        num_steps=num_steps,
        last_error=None if status == "finished" else text("SIGTERM"),
        host=text("laptop"),
    )
    files = {
        "resolved.yaml": RESOLVED.format(name=_yaml(text("made")), num_steps=num_steps, every=eval_every),
        "origins.json": '{"optimizer.learning_rate": "recipes/countdown_nano.yaml:14", "num_steps": "override"}',
        "environment.json": '{"python": "3.11.7", "devices": ["x86_64, 2 logical processors"], "torch_threads": 1}',
        "overrides.txt": f"attempt 1: num_steps={num_steps}\nattempt 2: {text('checkpoint.keep_last=4')}\n",
    }
    for name, content in files.items():
        (path / name).write_bytes(content.encode("utf-8", "surrogatepass"))
    return path


def _yaml(text: str) -> str:
    """``text`` as a YAML scalar; half a character becomes "?", since no run starts with one in its settings."""
    return json.dumps(text.encode("utf-8", "replace").decode())


def _evaluation_rows(
    rng: np.random.Generator, progress: float, num_problems: int, text: Callable[[str], str]
) -> list[dict[str, Any]]:
    skill = rng.normal(-0.7, 1.6, num_problems)
    rows = []
    for index, own in enumerate(skill):
        p = 1 / (1 + math.exp(-(own - 0.5 * (index % 3) + 1.6 * progress)))
        draws = rng.random(4)
        for sample, draw in enumerate(draws):
            is_correct = bool(draw < p)
            rows.append(_judged(rng, f"countdown/validation/{index:05}", index, is_correct, text) | {"sample": sample})
    return rows


def _judged(
    rng: np.random.Generator, problem_id: str, index: int, is_correct: bool, text: Callable[[str], str]
) -> dict[str, Any]:
    has_format = is_correct or bool(rng.random() < 0.7)
    length = int(min(96, rng.lognormal(3.6, 0.4)))
    numbers = ", ".join(map(str, (7, 2 + index % 9, 25, 50)))
    answer = "50 + 25 - 7" if is_correct else "25 * 2 + 7"
    thought = text(f"<think>50 + 25 = 75, and {numbers}</think>\n<answer>{answer}</answer>")
    return {
        "problem_id": text(problem_id),
        "domain": text(DOMAINS[index % 3]),
        "difficulty": index % 10 / 10,
        "bucket": None,
        "prompt": text(f"Use {numbers} to make 68. Show your work."),
        "completion": thought,
        "solution": {"target": 68},
        "reward": 1.0 if is_correct else 0.1 if has_format else 0.0,
        "parts": {
            "answer": float(is_correct),
            "format": 0.1 * (has_format and not is_correct),
            "info/format_fail": float(not has_format),
        },
        "correct": is_correct,
        "status": "scored",
        "why": text("correct" if is_correct else "wrong_value: 57 is not 68"),
        "num_tokens": length,
        "finish": "length" if length == 96 else "stop",
        "mean_nll": float(0.3 + 0.1 * rng.random()),
    }


def _rollout(
    rng: np.random.Generator, step: int, num_steps: int, index: int, text: Callable[[str], str]
) -> dict[str, Any]:
    is_correct = bool(rng.random() < 0.25 + 0.4 * step / num_steps)
    row = _judged(rng, f"countdown/train/{step * 7 + index:05}", index, is_correct, text)
    return row | {"step": step, "policy_step": step - 1, "sample": index % 8, "advantage": 1.1 if is_correct else -0.6}


def _metrics(rng: np.random.Generator, step: int, num_steps: int) -> dict[str, Any]:
    progress = step / num_steps
    solve = float(np.clip(0.25 + 0.4 / (1 + math.exp(-8 * (progress - 0.4))) + rng.normal(0, 0.05), 0, 1))
    row = {
        "step": step,
        "attempt": 1 if progress < 0.6 else 2,
        "replay": 0,
        "wall_seconds": 2.1 * (step if progress < 0.6 else step - 0.6 * num_steps),
        "reward": solve + 0.06,
        "reward_std": 0.45,
        "rewards/answer/mean": solve,
        "rewards/answer/std": 0.45,
        "rewards/format/mean": float(0.06 + rng.normal(0, 0.005)),
        "rewards/format/std": 0.05,
        "frac_reward_zero_std": float(np.clip(0.3 + rng.normal(0, 0.08), 0, 1)),
        "rollout/solve_rate": solve,
        "rollout/mixed_frac": float(np.clip(0.68 + rng.normal(0, 0.08), 0, 1)),
        "rollout/all_right_frac": float(np.clip(0.05 + 0.2 * progress + rng.normal(0, 0.04), 0, 1)),
        "rollout/all_wrong_frac": float(np.clip(0.3 - 0.2 * progress + rng.normal(0, 0.04), 0, 1)),
        "completions/mean_length": float(42 + 9 * progress + rng.normal(0, 1.5)),
        "rollout/p95_length_tokens": float(70 + 9 * progress + rng.normal(0, 3)),
        "completions/clipped_ratio": float(np.clip(rng.normal(0.03, 0.01), 0, 1)),
        "loss": float(rng.normal(0.004, 0.02)),
        "entropy": float(0.42 * math.exp(-progress) + rng.normal(0, 0.01)),
        "kl": float(0.02 * math.sqrt(progress) * rng.lognormal(0, 0.1)),
        "grad_norm": float(rng.lognormal(-1.2, 0.35)) * (9 if step == num_steps // 2 else 1),
        "learning_rate": 1e-4,
        "clip_ratio/low_mean": 0.0,
        "clip_ratio/high_mean": float(abs(rng.normal(0, 0.001))),
        "sampling/mismatch_kl": float(abs(rng.normal(0, 1e-7))),
        "scoring/error_frac": 0.0,
        "time/step_seconds": float(2 + rng.normal(0, 0.1)),
        "time/rollout_seconds": float(1.1 + rng.normal(0, 0.08)),
        "time/update_seconds": float(0.8 + rng.normal(0, 0.04)),
        "time/tokens_per_second": float(5200 + rng.normal(0, 150)),
        "num_tokens": 11_000 * step,
        "train/skipped": 0.0,
    }
    if step == num_steps // 4:
        row |= {"loss": math.nan, "grad_norm": math.inf, "train/skipped": 1.0}
    return row


def names(rows: Sequence[dict[str, Any]]) -> set[str]:
    """All keys of some rows."""
    return {key for row in rows for key in row}
