"""Two real processes over gloo: `together` starts them, and each runs one scenario of this module.

A scenario returns what its process found; a start costs seconds of imports, so scenarios hold much.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gradus.config import Config, LoraConfig, ModelConfig, OptimizerConfig
from gradus.exits import Exit
from gradus.policy.adapters import add_lora
from gradus.policy.load import Policy
from gradus.rollout.ranks import ALONE, Ranks
from gradus.tasks.base import TASKS
from gradus.train.batch import collate
from gradus.train.interrupt import Interrupted
from gradus.train.launch import Strategy, joined
from gradus.train.parallel import in_one_dtype, optimizer_for
from gradus.train.start import opened_together
from gradus.train.update import update
from gradus.types import Problem, Score
from tests.train.test_update import GROUPS, policy_of, settings

SECONDS = 1800
"""A start takes minutes on a busy machine."""
UPDATES = (
    (GROUPS, settings(microbatch_tokens=20)),
    (GROUPS[1:], settings("dr_grpo", microbatch_size=2)),  # all that counts is in one group: one process has nothing
    (GROUPS, settings("gspo", kl_coef=0.1)),
)
"""Uneven lengths, many micro-batches, a process without work, a term of the loss that all completions have."""


def together(scenario: str, folder: Path, *, size: int = 2, **environment: str) -> list[dict[str, Any]]:
    """Runs ``scenario`` in ``size`` processes and returns what each of them found, by rank. One that fails ends all."""
    ports = {"MASTER_PORT": free_port(), "SECOND_PORT": free_port()}
    common = {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": str(size), **ports, **environment}
    logs = [folder / f"{scenario}-{rank}.log" for rank in range(size)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.train.two_processes", scenario, str(folder)],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=log.open("w"),
            stderr=subprocess.STDOUT,
        )
        for rank, log in enumerate(logs)
    ]
    deadline = time.monotonic() + SECONDS
    try:
        while any(process.poll() is None for process in processes) and not any(each.poll() for each in processes):
            assert time.monotonic() < deadline, "out of time"
            time.sleep(0.1)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0] * size, "\n".join(log.read_text() for log in logs)
    return [torch.load(folder / f"{scenario}-{rank}.pt", weights_only=True) for rank in range(size)]


def free_port() -> str:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def adapted(dtype: torch.dtype = torch.float32) -> Policy:
    """A policy whose adapters learn, and change something already; without them it is its own reference."""
    policy = policy_of(dtype)
    policy.model.requires_grad_(False)
    policy.model = add_lora(policy.model, ModelConfig(lora=LoraConfig(rank=4)), seed=0)
    with torch.no_grad():
        for name, parameter in policy.trainable():
            parameter.add_(0.02) if "lora_B" in name else None
    return policy


KINDS: dict[str, Callable[[], Policy]] = {
    "plain": policy_of,
    "bfloat16": lambda: policy_of(torch.bfloat16),
    "adapters": adapted,
    "adapters on bfloat16": lambda: adapted(torch.bfloat16),
}
"""What is learned: all weights, adapters beside frozen ones; in float32, in bfloat16 with float32 masters."""


def learned(ranks: Ranks = ALONE, strategy: Strategy = "ddp", kind: str = "plain") -> dict[str, Any]:
    """What updates on stored rollouts come to: the metrics and the gradient of each, and the weights of the last."""
    policy = KINDS[kind]()
    in_one_dtype(policy)  # as the strategies that share weights out do
    reference = None if "adapters" in kind else policy_of(policy.trainable()[0][1].dtype).model
    config = OptimizerConfig(learning_rate=1e-4)
    optimizer = optimizer_for(policy, config, ranks, strategy)
    take_step, gradients, norms = optimizer.step, list[dict[str, torch.Tensor]](), list[float]()
    clip = optimizer.clip

    def clipped() -> float:
        norms.append(clip())
        return norms[-1]

    def step(**options: Any) -> None:
        is_zero = strategy.startswith("zero")
        scale = min(1.0, config.max_grad_norm / (norms[-1] + 1e-6)) if is_zero else 1.0  # DeepSpeed clips in its step
        whole = _deepspeeds if is_zero else _whole
        gradients.append({name: scale * whole(parameter).float() for name, parameter in policy.trainable()})
        take_step(**options)

    optimizer.step, optimizer.clip = step, clipped  # type: ignore[method-assign]
    metrics = []
    for groups, chosen in UPDATES:
        batch = collate(groups, algorithm=chosen.algorithm, max_tokens=16)
        rate = replace(chosen, learning_rate=1e-4)
        metrics.append(update(policy, optimizer, batch, rate, reference=reference, ranks=ranks))
    whole = optimizer.full_weights() if optimizer.has_copy else policy.trainable()
    weights = {name: value.detach().float().clone() for name, value in whole}
    return {"metrics": metrics, "gradients": gradients, "weights": weights, "says": optimizer.says()}


def _whole(parameter: Any) -> torch.Tensor:
    """The gradient of a parameter, whatever part of it is here."""
    gradient = parameter.grad
    return gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient.clone()


def _deepspeeds(parameter: Any) -> torch.Tensor:
    """The same, from where DeepSpeed keeps it until its step. All processes must ask."""
    utilities: Any = importlib.import_module("deepspeed.utils")
    return utilities.safe_get_full_grad(parameter).clone()


def raised(work: Callable[[], object]) -> list[Any]:
    """Type and words of what ``work`` raises."""
    try:
        work()
    except Exception as error:
        return [type(error).__name__, str(error), int(error.code) if isinstance(error, Exit) else -1]
    return []


def fails(ranks: Ranks, who: int, error: Exception) -> list[Any]:
    """What this process raises when process ``who`` fails with ``error``."""

    def work() -> int:
        if ranks.rank == who:
            raise error
        return ranks.rank

    return raised(lambda: ranks.each(work))


def whole(folder: Path) -> dict[str, Any]:
    """Everything that processes with whole weights do: a run, updates, failures."""
    from gradus.verbs import run
    from tests.train.runs import config_of

    config = config_of(folder / "policy", num_steps=2, evaluation={"num_problems": 3, "samples_per_problem": 2})
    summary = run("train", config, runs_dir=folder / "two")
    found: dict[str, Any] = {"summary": json.dumps(summary)}
    os.environ["MASTER_PORT"] = os.environ["SECOND_PORT"]  # the first may still be the run's, in the other process
    with joined(config, "train") as launch:
        ranks = launch.ranks
        found |= {"ddp": learned(ranks)} | {f"fsdp2, {kind}": learned(ranks, "fsdp2", kind) for kind in KINDS}
        found["order"] = ranks.joined(ranks.gather(ranks.part(range(5))))
        found["from_first"] = ranks.from_first(lambda: os.environ["RANK"])
        found["value_error"] = fails(ranks, 1, ValueError("sampling.max_tokens=0; use 1"))
        found["signal"] = fails(ranks, 1, Interrupted("SIGTERM"))
        found["defect"] = fails(ranks, 1, KeyError("lost"))
        found["first_fails"] = raised(
            lambda: ranks.from_first(lambda: [][0]) if ranks.is_first else ranks.from_first(dict)
        )
        found["disagree"] = raised(lambda: ranks.agree("the number", ranks.rank))
    return found


TRL: dict[str, dict[str, Any]] = {
    "plain": {"optimizer": {"weight_decay": 0.1}},
    "adapter": {
        "model": {"lora": {"rank": 4}},
        "algorithm": {"name": "dapo", "keep_flat_groups": True, "kl_coef": 0.1},
    },
    "several updates": {"optimizer": {"updates_per_batch": 2}, "algorithm": {"name": "dr_grpo"}},
}
"""Runs of the trl backend: all weights, an adapter beside its reference, steps whose log-probabilities TRL computes first."""


def trl_config(policy: Path, kind: str) -> Config:
    """A run of kind `TRL`; each process samples what one process samples in one go."""
    from tests.train.runs import config_of

    return config_of(policy, backend={"name": "trl"}, engine={"batch_size": 8}, **TRL[kind])


def pay_for_digits(task: Any, problem: Problem, text: str, *, finish: str = "stop") -> Score:
    """A random policy solves nothing; digits give it something to learn."""
    reward = sum(character.isdigit() for character in text) / 100
    return Score(reward=reward, correct=reward > 0.02, parts={"digits": reward}, why="ok")


def trl_runs(folder: Path, *strategies: Strategy) -> dict[str, Any]:
    """A run of each kind `TRL` with each of ``strategies``."""
    from gradus.train.backends.trl import train
    from tests.train.runs import start_of

    TASKS["countdown"].score = pay_for_digits  # type: ignore[method-assign]
    with joined(trl_config(folder / "policy", "plain"), "train") as launch:
        for strategy in strategies:
            for kind in TRL:
                config, place = trl_config(folder / "policy", kind), folder / f"{strategy}, {kind}"
                start = opened_together(replace(launch, strategy=strategy), partial(start_of, config, place))
                with start:
                    train(start)
    return {}


def trl(folder: Path) -> dict[str, Any]:
    """The runs of TRL that need no other package."""
    return trl_runs(folder, "ddp", "fsdp2")


def trl_zero(folder: Path) -> dict[str, Any]:
    """The runs of TRL under both stages of DeepSpeed."""
    return trl_runs(folder, "zero2", "zero3")


def zero(folder: Path) -> dict[str, Any]:
    """The updates under both stages of DeepSpeed, with every kind of policy."""
    from tests.train.runs import config_of

    with joined(config_of(folder / "policy"), "train") as launch:
        return {
            f"{strategy}, {kind}": learned(launch.ranks, strategy, kind)
            for strategy in ("zero2", "zero3")
            for kind in KINDS
        }


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = globals()[sys.argv[1]](Path(sys.argv[2]))
    torch.save(found, Path(sys.argv[2]) / f"{sys.argv[1]}-{os.environ['RANK']}.pt")
