"""The trl backend in several processes: they do together what one does alone, whoever holds the weights."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from gradus.jsonl import read_jsonl
from gradus.train.launch import examine
from tests.train import runs
from tests.train.two_processes import TRL, pay_for_digits, together, trl_config

trl = pytest.importorskip("trl", reason="trl is not installed")
from gradus.tasks.base import TASKS  # noqa: E402
from gradus.train.backends.trl import train  # noqa: E402

TIMES = ("time/", "system/", "wall_seconds")
TWO = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each kind of run in one process, beside the policy that all begin with."""
    folder = tmp_path_factory.mktemp("trl")
    policy = runs.tiny(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TASKS["countdown"], "score", pay_for_digits)
        for kind in TRL:
            with runs.start_of(trl_config(policy, kind), folder / f"alone, {kind}") as start:
                train(start)
    return folder


@pytest.fixture(scope="module")
def together_(alone: Path) -> Path:
    together("trl", alone)
    return alone


@pytest.fixture(scope="module")
def under_deepspeed(alone: Path) -> Path:
    together("trl_zero", alone, DS_ACCELERATOR="cpu")
    return alone


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = (folder / "run/checkpoints/step_000004/model").glob("*model.safetensors")
    return load_file(file)


def same_run(two: Path, one: Path, kind: str) -> None:
    """The same problems, texts, scores, losses and gradients; weights as near as AdamW lets them be. Where a batch serves
    two steps TRL cuts it at random, in each process by itself: then only the first batch is the same."""
    is_cut = kind == "several updates"
    for mine, other in zip(runs.metrics(two), runs.metrics(one), strict=True):
        assert mine.keys() == other.keys()
        for name in mine:
            if not name.startswith(TIMES) and not is_cut:
                assert mine[name] == pytest.approx(other[name], rel=1e-4, abs=2e-6), (kind, mine["step"], name)
    for step in [1] if is_cut else range(1, 5):
        rows = [read_jsonl(each / f"run/rollouts/step_{step:06d}.jsonl").rows for each in (two, one)]
        for mine, other in zip(*rows, strict=True):
            assert (mine["problem_id"], mine["completion"]) == (other["problem_id"], other["completion"])
            assert mine["advantage"] == pytest.approx(other["advantage"], abs=1e-5)
    mine, other = weights(two), weights(one)
    assert mine.keys() == other.keys()
    if is_cut:
        return
    gap = max(float((mine[name].float() - other[name].float()).abs().max()) for name in other)
    assert gap <= 5e-5, "a step moves a weight by 1e-3"


@pytest.mark.parametrize("kind", TRL)
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_train_with_trl_as_one_does(together_: Path, strategy: str, kind: str):
    same_run(together_ / f"{strategy}, {kind}", together_ / f"alone, {kind}", kind)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
@pytest.mark.parametrize("kind", TRL)
@pytest.mark.parametrize("strategy", ["zero2", "zero3"])
def test_two_processes_train_with_trl_under_deepspeed_as_one_does(under_deepspeed: Path, strategy: str, kind: str):
    same_run(under_deepspeed / f"{strategy}, {kind}", under_deepspeed / f"alone, {kind}", kind)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": {"microbatch_size": 16}}, "optimizer.microbatch_size=16 cannot be done by backend trl"),
        ({"curriculum": {"problems_per_step": 3}}, "curriculum.problems_per_step=3 does not divide over 2 processes"),
        ({"parallel": {"strategy": "fsdp2"}, "backend": {"extra": {"use_vllm": True}}}, "needs whole weights in every"),
    ],
)
def test_what_several_processes_cannot_share_is_refused(changes: dict[str, Any], words: str, tmp_path: Path):
    changes = {**changes, "backend": {"name": "trl", **changes.get("backend", {})}}
    with pytest.raises(ValueError, match=words.replace(".", r"\.")):
        examine(runs.config_of(tmp_path, **changes), "train", TWO)
