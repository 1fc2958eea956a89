"""Short real runs for tests: a tiny random policy on Countdown, some steps, on one thread."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from safetensors import safe_open

from gradus.config import Config
from gradus.data.problems import load_problems
from gradus.recipe import from_config
from gradus.rundir import read_jsonl
from gradus.train.loop import train
from gradus.train.start import Start, open_run
from gradus.train.warmup import sft
from tests.models import save_model


def config_of(policy: Path, **changes: Any) -> Config:
    """A run of a few seconds; ``changes`` are sections or leaves."""
    tree: dict[str, Any] = {
        "name": "run",
        "num_steps": 4,
        "torch_threads": 1,
        "model": {"path": str(policy)},
        "tasks": {"countdown": {"max_numbers": 3, "reward": "seed-code"}},
        "curriculum": {"problems_per_step": 4, "num_problems": 24},
        "sampling": {"group_size": 4, "max_tokens": 12},
        "optimizer": {"learning_rate": 1e-3},
        "evaluation": {"num_problems": 4, "samples_per_problem": 2},
        "checkpoint": {"every_steps": 2},
        "records": {"rollouts_every_steps": 1},
    }
    for key, value in changes.items():
        tree[key] = {**tree.get(key, {}), **value} if isinstance(value, dict) and key != "tasks" else value
    return Config(**tree)


def start_of(config: Config, folder: Path, *, kind: Any = "train", **options: Any) -> Start:
    """Opens or resumes the run below ``folder``."""
    fingerprint = load_problems(config).fingerprint
    return open_run(from_config(config), kind=kind, runs_dir=folder, data_fingerprint=fingerprint, **options)


def run(config: Config, folder: Path, *, kind: Any = "train", **options: Any) -> dict[str, Any]:
    """Runs to the end of ``config``; returns the summary."""
    with start_of(config, folder, kind=kind, **options) as start:
        return {"train": train, "sft": sft}[kind](start)


def bits(folder: Path, step: int) -> dict[str, str]:
    """SHA-256 of every tensor of a checkpoint: weights, moments, pending rollouts."""
    checkpoint = folder / "run" / "checkpoints" / f"step_{step:06d}"
    found = {}
    for name in ("model/model.safetensors", "trainer.safetensors"):
        with safe_open(checkpoint / name, framework="np") as file:
            for key in file.keys():  # noqa: SIM118 (no mapping)
                found[key] = hashlib.sha256(file.get_tensor(key).tobytes()).hexdigest()
    return found


def metrics(folder: Path) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl."""
    return read_jsonl(folder / "run" / "metrics.jsonl").rows


def tiny(tmp_path: Path) -> Path:
    """A tiny policy's folder."""
    return save_model(tmp_path / "policy")
