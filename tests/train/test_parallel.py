"""Several processes do what one does: the same problems and completions, the same loss and gradient, one record of it."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from gradus.config import Config
from gradus.rundir import read_jsonl
from gradus.train import launch
from gradus.train.launch import examine, joined, refuse_several
from tests.train.runs import bits, config_of, run, tiny
from tests.train.two_processes import KINDS, learned, together

ACCELERATE = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    tiny(folder)
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> list[dict[str, Any]]:
    return together("whole", folder)


def close(mine: float, other: float) -> bool:
    return mine == pytest.approx(other, rel=1e-5, abs=1e-6)


def same_updates(two: dict[str, Any], one: dict[str, Any]) -> None:
    """Loss and gradient to 1e-6, weights to 5e-6 (AdamW divides by the gradient's size), metrics as near."""
    for mine, other in zip(two["metrics"], one["metrics"], strict=True):
        assert mine.keys() == other.keys()
        assert abs(mine["loss"] - other["loss"]) <= 1e-6
        assert all(close(mine[name], other[name]) for name in mine), (mine, other)
    for mine, other in zip(two["gradients"], one["gradients"], strict=True):
        assert mine.keys() == other.keys()
        assert max(float((mine[name] - other[name]).abs().max()) for name in mine) <= 1e-6
        assert max(float(value.abs().max()) for value in other.values()) > 1e-4
    for name, value in one["weights"].items():
        if name in two["weights"]:
            assert (two["weights"][name] - value).abs().max() <= 5e-6, name


def near_updates(two: dict[str, Any], one: dict[str, Any]) -> None:
    """The same within what bfloat16 rounds: its gradients are added up in another order."""
    for mine, other in zip(two["metrics"], one["metrics"], strict=True):
        assert mine["loss"] == pytest.approx(other["loss"], abs=5e-3)
        assert mine["grad_norm"] == pytest.approx(other["grad_norm"], rel=0.02)
    for mine, other in zip(two["gradients"], one["gradients"], strict=True):
        assert mine.keys() == other.keys()
        gap, size = (
            math.sqrt(sum(float(value.square().sum()) for value in values))
            for values in ([mine[name] - other[name] for name in mine], other.values())
        )
        assert gap <= 0.08 * size
    for name, value in one["weights"].items():
        if name in two["weights"]:
            assert (two["weights"][name] - value).abs().max() <= 4e-4 + 2**-8 * value.abs().max(), name


def learn_as_one(found: list[dict[str, Any]], strategy: str, kind: str) -> None:
    """Both processes learned what one learns alone, and hold the same weights."""
    one = learned(kind=kind)
    assert any((value - start).abs().max() > 0 for value, start in moved(one, kind))
    for each in found:
        (near_updates if "bfloat16" in kind else same_updates)(each[strategy], one)
    for name, value in found[0][strategy]["weights"].items():
        assert torch.equal(value, found[1][strategy]["weights"][name]), "the processes drift apart"


def moved(one: dict[str, Any], kind: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Weights after the updates, and before."""
    return [(one["weights"][name], parameter.detach().float()) for name, parameter in KINDS[kind]().trainable()]


@pytest.mark.parametrize(
    ("strategy", "kind"), [("ddp", "plain"), *((f"fsdp2, {kind}", kind) for kind in KINDS)], ids=lambda value: value
)
def test_two_processes_learn_what_one_learns(found, strategy, kind):
    learn_as_one(found, strategy, kind)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
def test_two_processes_learn_what_one_learns_under_deepspeed(folder):
    found = together("zero", folder, DS_ACCELERATOR="cpu")
    for strategy in ("zero2", "zero3"):
        for kind in KINDS:
            learn_as_one(found, f"{strategy}, {kind}", kind)
            held, total = re.findall(r"[\d,]{2,}", found[0][f"{strategy}, {kind}"]["says"].split(":")[1])
            assert abs(2 * int(held.replace(",", "")) - int(total.replace(",", ""))) <= 256, "half, with some padding"


def test_a_run_of_two_processes_is_that_of_one(folder, found):
    config = config_of(folder / "policy", num_steps=2, evaluation={"num_problems": 3, "samples_per_problem": 2})
    run(config, folder / "one")
    one, two = folder / "one/run", folder / "two/run"
    for name in (
        "rollouts/step_000001.jsonl",
        "rollouts/step_000002.jsonl",
        "evaluations/validation/step_000002.jsonl",
    ):
        mine, other = (read_jsonl(path / name).rows for path in (one, two))
        assert [(row["problem_id"], row.get("completion")) for row in mine] == [
            (row["problem_id"], row.get("completion")) for row in other
        ]
    before, after = (read_jsonl(path / "metrics.jsonl").rows for path in (one, two))
    assert [row["step"] for row in after] == [0, 1, 2], "one process writes"
    for mine, other in zip(before, after, strict=True):
        assert mine.keys() == other.keys()
        numbers = [name for name in mine if not name.startswith(("time/", "system/", "wall"))]
        assert all(close(mine[name], other[name]) for name in numbers)
    assert bits(folder / "one", 2).keys() == bits(folder / "two", 2).keys(), "a checkpoint that one process can read"
    assert json.loads((two / "checkpoints/step_000002/MANIFEST.json").read_text())["world_size"] == 2
    assert {json.loads(each["summary"])["step"] for each in found} == {2}


def test_one_process_goes_on_where_two_stopped(folder, found):
    summary = run(
        config_of(folder / "policy", num_steps=3, evaluation={"num_problems": 3, "samples_per_problem": 2}),
        folder / "two",
    )
    assert summary["step"] == 3
    assert r"exact bits not promised: world_size 2 \u2192 1" in (folder / "two/run/events.log").read_text()


def test_all_hear_of_what_one_meets(found):
    assert [each["order"] for each in found] == [[0, 1, 2, 3, 4]] * 2
    assert [each["from_first"] for each in found] == ["0", "0"]
    assert [each["value_error"] for each in found] == [["ValueError", "sampling.max_tokens=0; use 1", -1]] * 2
    assert [each["signal"] for each in found] == [["Interrupted", "interrupted by SIGTERM", 75]] * 2
    assert found[0]["defect"] == ["Exit", "internal error in process 1: KeyError: 'lost'", 1]
    assert found[1]["defect"] == ["KeyError", "'lost'", -1]
    assert [each["first_fails"][0] for each in found] == ["IndexError", "Exit"]
    assert all("the number is 0 in process 0, 1 in process 1" in each["disagree"][1] for each in found)


# ---- what was started, against what was asked for ----


def config(**sections: Any) -> Config:
    return Config(tasks={"countdown": {}}, **sections)


def test_a_plain_start_is_one_process():
    assert examine(config(), "train", {}).ranks.size == 1
    refuse_several("gradus evaluate", {})


@pytest.mark.parametrize(
    ("environment", "strategy"),
    [
        ({}, "ddp"),
        ({"ACCELERATE_USE_CPU": "true"}, "ddp"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}, "fsdp2"),
        ({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}, "zero2"),
        ({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, "zero3"),
    ],
)
def test_the_launchers_file_names_the_strategy(environment, strategy):
    launch = examine(config(), "train", {**ACCELERATE, **environment})
    assert (launch.ranks.rank, launch.ranks.size, launch.local_rank, launch.strategy) == (1, 2, 1, strategy)


def test_a_process_waits_for_the_first_one_to_say_why_nothing_begins(monkeypatch):
    """A launcher ends all processes as soon as one ends; what the first one has to say would be lost."""
    for name, value in ACCELERATE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(launch, "FIRST_SECONDS", 0.3)
    hushed: list[bool] = []
    monkeypatch.setattr(launch.console, "hush", lambda: hushed.append(True))
    refused = config(curriculum={"problems_per_step": 5})
    with pytest.raises(ValueError, match="does not divide"), joined(refused, "train"):
        pass
    assert hushed == [], "nobody else has said it"
    monkeypatch.setattr(launch, "FIRST_SECONDS", 60.0)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(ValueError, match="does not divide"), joined(refused, "train"):
        pass
    assert hushed == [True], "the launcher has ended the first one"


@pytest.mark.parametrize(
    ("sections", "environment", "words"),
    [
        ({"parallel": {"devices_per_node": 2}}, {}, "asks for 2 processes, and 1 was started; use: torchrun"),
        ({"parallel": {"devices_per_node": 4}}, ACCELERATE, "asks for 4 processes, and 2 were started"),
        ({"parallel": {"strategy": "fsdp2"}}, {}, "needs several processes and only one was started"),
        (
            {"parallel": {"strategy": "ddp"}},
            {**ACCELERATE, "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"},
            "parallel.strategy=ddp and the launcher's file asks for fsdp2",
        ),
        ({}, {"ACCELERATE_USE_DEEPSPEED": "true"}, "parallel.strategy=zero2 needs several processes"),
        (
            {"parallel": {"strategy": "ddp"}},
            {**ACCELERATE, "ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"},
            "parallel.strategy=ddp and the launcher's file asks for zero3",
        ),
        (
            {},
            {**ACCELERATE, "ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "1"},
            "zero_stage=1",
        ),
        ({}, {**ACCELERATE, "ACCELERATE_USE_FSDP": "true"}, "set fsdp_version: 2"),
        ({}, {**ACCELERATE, "ACCELERATE_DEEPSPEED_CONFIG_FILE": "ds.json"}, "the DeepSpeed file ds.json is not read"),
        ({}, {**ACCELERATE, "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "cpu"}, "offload_param_device=cpu"),
        ({}, {**ACCELERATE, "ACCELERATE_MIXED_PRECISION": "fp16"}, "mixed_precision=fp16"),
        (
            {"model": {"device": "cpu"}},
            {**ACCELERATE, "ACCELERATE_MIXED_PRECISION": "bf16"},
            "model.dtype=auto means float32 here",
        ),
        (
            {"curriculum": {"problems_per_step": 5}},
            ACCELERATE,
            "curriculum.problems_per_step=5 does not divide over 2 processes; use 4 or 6",
        ),
        (
            {"curriculum": {"problems_per_step": 6}, "optimizer": {"updates_per_batch": 2}},
            ACCELERATE,
            "over 2 processes times optimizer.updates_per_batch=2; use 4 or 8",
        ),
        (
            {"optimizer": {"moments": "8bit"}, "parallel": {"strategy": "fsdp2"}},
            ACCELERATE,
            "optimizer.moments=8bit cannot be shared out by parallel.strategy=fsdp2",
        ),
        (
            {"backend": {"name": "verl"}},
            ACCELERATE,
            "backend.name=verl starts its processes itself, and 2 were started",
        ),
        ({}, {"WORLD_SIZE": "2"}, "no RANK, MASTER_ADDR, MASTER_PORT"),
        ({}, {"WORLD_SIZE": "two"}, "WORLD_SIZE='two'"),
    ],
)
def test_a_silent_trap_is_an_error(sections, environment, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        examine(config(**sections), "train", environment)


def test_deepspeed_that_is_missing_is_said_before_anything_is_made(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name, value in {**ACCELERATE, "ACCELERATE_USE_DEEPSPEED": "true", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(ValueError, match=r"install gradus\[parallel\].*or use parallel\.strategy=fsdp2"),
        joined(config(), "train"),
    ):
        raise AssertionError("began")


def test_what_the_launchers_file_says_in_vain_is_said():
    said = {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "8", "ACCELERATE_GRADIENT_CLIPPING": "0.5"}
    notes = examine(config(), "train", {**ACCELERATE, **said}).notes
    assert [note.partition(" of ")[0] for note in notes] == ["gradient_accumulation_steps=8", "gradient_clipping=0.5"]


def test_what_knows_one_process_refuses_several():
    with pytest.raises(ValueError, match="gradus evaluate runs in one process, and 2 were started"):
        refuse_several("gradus evaluate", ACCELERATE)
