"""The parts of the verl backend without verl: seeds, server, plan, records, weights, optimizer, and where verl is missing."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gradus import load_task
from gradus.config import ModelConfig, OptimizerConfig
from gradus.exits import Code, Exit
from gradus.policy.load import load_policy
from gradus.rollout.engine import Request, Sampling
from gradus.rollout.local import LocalEngine
from gradus.rollout.rollout import sample_seeds
from gradus.rundir import read_jsonl
from gradus.train.backends import verl_place
from gradus.train.backends.verl_optimizer import ScheduledAdamW
from gradus.train.backends.verl_place import PACKAGES, PYTHON, end, interpreter, need_verl, tied
from gradus.train.backends.verl_ray import check_answers, own_ray
from gradus.train.backends.verl_records import Read, groups_of, metrics_of
from gradus.train.backends.verl_server import Seeds, Server, UnplannedSeeds
from gradus.train.backends.verl_settings import VERSION
from gradus.train.backends.verl_weights import load_adapter, load_weights, saved_files, saved_weights
from gradus.train.optimizer import Optimizer, learning_rate_at
from tests.train import runs

TASK = load_task("countdown", max_numbers=3)
PROBLEMS = list(TASK.problems("train", 3))


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return load_policy(ModelConfig(path=str(runs.tiny(tmp_path_factory.mktemp("tiny")))), is_trainable=False)


# ---- seeds and server ----


def row(problem_id: str, prompt: Any, batch: int = 1, step: int = 1) -> dict[str, Any]:
    return {"batch": batch, "step": step, "problem_id": problem_id, "prompt_tokens": list(prompt)}


def test_seeds_are_those_of_a_native_run():
    seeds = Seeds([row("a", [1, 2]), row("b", [3])], seed=5, group_size=2)
    native = {name: sample_seeds(5, 0, 1, name, 2) for name in ("a", "b")}
    assert [seeds.next(batch=1, prompt=prompt).seed for prompt in ((3,), (1, 2), (1, 2), (3,))] == [
        native["b"][0], native["a"][0], native["a"][1], native["b"][1]
    ]  # fmt: skip


def test_a_batch_has_the_seeds_of_its_first_step():
    turn = Seeds([row("a", [1], batch=3, step=5)], seed=0, group_size=1).next(batch=3, prompt=(1,))
    assert (turn.problem_id, turn.seed) == ("a", sample_seeds(0, 0, 5, "a", 1)[0])


def test_a_problem_that_is_drawn_twice_gets_other_seeds():
    seeds = Seeds([row("a", [1], 2, 2), row("a", [1], 2, 2)], seed=0, group_size=2)
    found = [seeds.next(batch=2, prompt=(1,)).seed for _ in range(4)]
    assert found == [*sample_seeds(0, 0, 2, "a", 2), *sample_seeds(0, 0, 2, "a again 2", 2)]


def test_without_a_plan_seeds_come_from_step_prompt_and_count_whatever_arrives_when():
    asked = [(1, (5, 6)), (1, (7,)), (1, (5, 6)), (2, (5, 6))]
    one, other = UnplannedSeeds(seed=3), UnplannedSeeds(seed=3)
    found = [one.next(batch=batch, prompt=prompt).seed for batch, prompt in asked]
    assert len(set(found)) == 4
    assert {other.next(batch=batch, prompt=prompt).seed for batch, prompt in reversed(asked)} == set(found)
    assert UnplannedSeeds(seed=4).next(batch=1, prompt=(5, 6)).seed not in found


@pytest.mark.parametrize(("batch", "prompt", "asked"), [(1, (9,), 1), (2, (1,), 1), (1, (1,), 3)])
def test_a_prompt_that_is_not_planned_is_an_error(batch, prompt, asked):
    seeds = Seeds([row("a", [1])], seed=0, group_size=2)
    with pytest.raises(ValueError, match="that the plan does not have"):
        for _ in range(asked):
            seeds.next(batch=batch, prompt=prompt)


class TokenOutput(SimpleNamespace):
    """What verl's class holds."""


def server_of(policy: Any, folder: Path, rows: list[dict[str, Any]], monkeypatch: Any, **options: Any) -> Server:
    monkeypatch.setitem(sys.modules, "verl.workers.rollout.replica", SimpleNamespace(TokenOutput=TokenOutput))
    (folder / "plan.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    given = {"seed": 3, "group_size": 2, "batch_size": 4, "max_tokens": 8, "threads": 1} | options
    return Server(policy.source, str(folder / "plan.jsonl"), str(folder / "samples.jsonl"), **given)


@pytest.mark.parametrize("is_together", [True, False], ids=["all at once", "one after the other"])
def test_the_server_samples_what_a_native_run_samples(policy, tmp_path, monkeypatch, is_together):
    prompts = [policy.prompt_tokens(problem.messages) for problem in PROBLEMS]
    rows = [row(problem.id, prompt) for problem, prompt in zip(PROBLEMS, prompts, strict=True)]
    server = server_of(policy, tmp_path, rows, monkeypatch)

    async def ask() -> list[Any]:
        calls = [
            server.generate(prompt_ids=list(prompt), sampling_params={"temperature": 0.7}, request_id=f"{index}")
            for index in range(2)
            for prompt in prompts
        ]
        return list(await asyncio.gather(*calls)) if is_together else [await call for call in calls]

    answers = asyncio.run(ask())
    requests = [
        Request(problem=problem, prompt_tokens=prompt, seeds=sample_seeds(3, 0, 1, problem.id, 2))
        for problem, prompt in zip(PROBLEMS, prompts, strict=True)
    ]
    native = LocalEngine(policy).generate(requests, Sampling(temperature=0.7, max_tokens=8), policy_step=0)
    expected = [native[place][index] for index in range(2) for place in range(3)]
    assert [answer.token_ids for answer in answers] == [list(completion.tokens) for completion in expected]
    for answer, completion in zip(answers, expected, strict=True):
        assert answer.log_probs == pytest.approx(completion.logprobs, abs=1e-5)
        assert answer.extra_fields == {"global_steps": 0}
    recorded = read_jsonl(tmp_path / "samples.jsonl").rows
    assert {(one["problem_id"], one["text"], tuple(one["tokens"]), one["finish"]) for one in recorded} == {
        (problem.id, one.text, one.tokens, one.finish)
        for problem, group in zip(PROBLEMS, native, strict=True)
        for one in group
    }


def test_an_unplanned_request_fails_alone(policy, tmp_path, monkeypatch):
    server = server_of(policy, tmp_path, [row("a", [5, 6])], monkeypatch, group_size=1, max_tokens=4)

    async def ask() -> list[Any]:
        calls = [server.generate(prompt_ids=tokens, sampling_params={"temperature": 1.0}, request_id="x")
                 for tokens in ([5, 6], [7, 8])]  # fmt: skip
        return list(await asyncio.gather(*calls, return_exceptions=True))

    right, wrong = asyncio.run(ask())
    assert right.token_ids and isinstance(wrong, ValueError)


# ---- weights ----


def save_shard(folder: Path, weights: dict[str, Any], rank: int = 0, size: int = 1) -> None:
    actor = folder / "global_step_2" / "actor"
    actor.mkdir(parents=True, exist_ok=True)
    torch.save(weights, actor / f"model_world_size_{size}_rank_{rank}.pt")


def test_saved_weights_come_back_with_their_bits(policy, tmp_path):
    weights = {name: tensor + 0.25 for name, tensor in policy.model.state_dict().items()}
    save_shard(tmp_path, weights)
    load_weights(policy.model, saved_weights(tmp_path, 2))
    for name, tensor in policy.model.state_dict().items():
        assert torch.equal(tensor, weights[name])
    assert list(saved_files(tmp_path, 2)) == ["global_step_2/actor/model_world_size_1_rank_0.pt"]


def test_weights_that_do_not_fit_are_refused(policy):
    weights = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
    first = next(iter(weights))
    with pytest.raises(ValueError, match=r"missing \['"):
        load_weights(policy.model, {name: tensor for name, tensor in weights.items() if name != first})
    with pytest.raises(ValueError, match=r"unknown \['base_model"):
        load_weights(policy.model, {**weights, "base_model.model.x": torch.zeros(1)})
    with pytest.raises(Exit, match="not finite"):
        load_weights(policy.model, {**weights, first: torch.full_like(weights[first], torch.nan)})


def test_an_adapter_comes_back(policy, tmp_path):
    from peft import get_peft_model_state_dict

    model = load_policy(ModelConfig(path=policy.source, lora={"rank": 2, "alpha": 4})).model
    weights = {name: tensor + 0.5 for name, tensor in get_peft_model_state_dict(model).items()}
    load_adapter(model, weights)
    for name, tensor in get_peft_model_state_dict(model).items():
        assert torch.equal(tensor, weights[name])
    with pytest.raises(ValueError, match="does not fit the model's"):
        load_adapter(model, dict(list(weights.items())[1:]))
    save_shard(tmp_path, model.state_dict())
    load_weights(model, saved_weights(tmp_path, 2))


def test_a_missing_rank_is_not_a_model(tmp_path):
    save_shard(tmp_path, {"w": torch.zeros(1)}, rank=1, size=2)
    with pytest.raises(Exit, match="no whole model") as error:
        saved_weights(tmp_path, 2)
    assert error.value.code == Code.NOTHING_USABLE


def test_a_pickle_is_not_executed(tmp_path):
    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "exploded"),)

    save_shard(tmp_path, {"w": Bomb()})
    with pytest.raises(Exception, match=r"weights_only|Weights only"):
        saved_weights(tmp_path, 2)
    assert not (tmp_path / "exploded").exists()


# ---- the optimizer that verl loads ----


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_updates_are_those_of_a_native_run(policy, schedule):
    config = OptimizerConfig(learning_rate=1e-2, schedule=schedule, warmup_steps=2, weight_decay=0.1, beta2=0.99)
    ours = load_policy(ModelConfig(path=policy.source))
    theirs = load_policy(ModelConfig(path=policy.source))
    native = Optimizer(ours, config)
    options = {"lr": 1e-2, "weight_decay": 0.1, "betas": [0.9, 0.99], "schedule": schedule, "warmup_steps": 2}
    told = ScheduledAdamW(theirs.model.parameters(), **options, num_steps=5)
    for step in range(1, 6):
        if step == 4:  # a resume
            state = told.state_dict()
            told = ScheduledAdamW(theirs.model.parameters(), **options, num_steps=5)
            told.load_state_dict(state)
        for (_, one), (_, other) in zip(ours.trainable(), theirs.trainable(), strict=True):
            one.grad = torch.full_like(one, 0.1 * step)
            other.grad = one.grad.clone()
        native.step(learning_rate=learning_rate_at(step, num_steps=5, config=config))
        told.step()
        assert told.param_groups[0]["lr"] == 1e-2, "verl's own schedule is a constant"
    for (name, one), (_, other) in zip(ours.trainable(), theirs.trainable(), strict=True):
        assert torch.allclose(one, other, atol=1e-6), name


# ---- records ----


def dumped(texts: dict[str, list[str]], *, off: float = 0.0) -> list[dict[str, Any]]:
    """Lines as verl writes them, sorted by a name that says nothing of the order."""
    by_id = {problem.id: problem for problem in PROBLEMS}
    return [
        {"uid": f"{hash(name) % 97}_{sample}_0", "gts": json.dumps({"id": name, **by_id[name].truth}), "output": text,
         "score": TASK.score(by_id[name], text).reward + off}
        for name, several in sorted(texts.items(), reverse=True)
        for sample, text in enumerate(several)
    ]  # fmt: skip


def session_of(policy: Any) -> Any:
    sampling = SimpleNamespace(group_size=2, max_tokens=8)
    return SimpleNamespace(
        state=SimpleNamespace(policy=policy, step=0),
        config=SimpleNamespace(sampling=sampling),
        problems=SimpleNamespace(tasks={"countdown": TASK}),
    )


def read(rows: list[dict[str, Any]], **others: Any) -> Read:
    return Read(**({"logged": {}, "rows": rows, "samples": []} | others))


def test_completions_come_back_in_the_order_of_the_plan(policy):
    texts = {problem.id: [TASK.oracle(problem), "no"] for problem in PROBLEMS}
    found = groups_of(read(dumped(texts)), PROBLEMS, session_of(policy))
    assert [group.problem.id for group in found.groups] == [problem.id for problem in PROBLEMS]
    assert (found.mismatch_frac, found.num_dropped) == (0, 0)
    assert [[score.correct for score in group.scores] for group in found.groups] == [[True, False]] * 3


def test_tokens_are_the_servers_where_it_says_them(policy):
    rows = dumped({PROBLEMS[0].id: ["no", "yes"]})
    said = [{"batch": 1, "problem_id": PROBLEMS[0].id, "text": text, "tokens": [7, place], "logprobs": [-1.0, -2.0],
             "finish": "length", "sample": place} for place, text in enumerate(["yes", "no"])]  # fmt: skip
    (group,) = groups_of(read(rows, samples=said), PROBLEMS[:1], session_of(policy)).groups
    assert [(one.text, one.tokens, one.finish) for one in group.completions] == [
        ("yes", (7, 0), "length"), ("no", (7, 1), "length")
    ], "in the order of a native run"  # fmt: skip


def test_another_score_is_seen(policy):
    texts = {problem.id: ["no", "no"] for problem in PROBLEMS}
    assert groups_of(read(dumped(texts, off=0.5)), PROBLEMS, session_of(policy)).mismatch_frac == 1.0


def test_a_dropped_group_is_counted(policy):
    rows = dumped({problem.id: ["no", "no"] for problem in PROBLEMS})[:-1]
    rows.append({"uid": "pad5f_0_0", "gts": rows[0]["gts"], "output": "", "score": 0.0})
    found = groups_of(read(rows), PROBLEMS, session_of(policy))
    assert (len(found.groups), found.num_dropped) == (2, 1)
    assert metrics_of(read(rows), runs.config_of(Path("x")))["backend/padded_frac"] == 1 / 6


def test_other_problems_are_seen(policy):
    texts = {problem.id: ["no", "no"] for problem in PROBLEMS}
    with pytest.raises(AssertionError, match="not planned for this step"):
        groups_of(read(dumped(texts)), PROBLEMS[:2], session_of(policy))


def test_verls_numbers_get_our_names():
    logged = {"actor/pg_loss": 0.5, "actor/grad_norm": 2.0, "actor/entropy": 0.25, "response_length/mean": 6.0,
              "response_length/max": 12.0, "response_length/clip_ratio": 0.5, "timing_s/gen": 2.0,
              "perf/total_num_tokens": 90}  # fmt: skip
    row = metrics_of(read([], logged=logged), runs.config_of(Path("x")))
    expected = {"loss": 0.5, "grad_norm": 2.0, "entropy": 0.25, "train/skipped": 0.0, "completions/clipped_ratio": 0.5,
                "time/tokens_per_second": 45.0}  # fmt: skip
    assert {key: row[key] for key in expected} == expected
    summed = metrics_of(read([], logged=logged), runs.config_of(Path("x"), algorithm={"name": "dr_grpo"}))
    assert summed["entropy"] == 0.25 * 12 / 6, "a sum over tokens divided by the longest allowed"
    shorter = metrics_of(read([], logged=logged | {"response_length/max": 11.0}), runs.config_of(Path("x")))
    assert shorter["completions/clipped_ratio"] == 0.0, "verl compares with the longest of the batch"
    assert metrics_of(read([], logged=logged | {"actor/grad_norm": float("inf")}), runs.config_of(Path("x")))[
        "train/skipped"
    ]


# ---- where verl is, and is not ----


def fake_python(folder: Path, **versions: str | None) -> Path:
    """A program that answers as a Python would that has these packages."""
    answer = {
        "versions": {
            **dict.fromkeys(PACKAGES, "1.0"),
            "transformers": "5.10.4",
            "flash-attn": None,
            "verl": VERSION,
            **versions,
        },
        "gradus": "x",
    }
    path = folder / "python"
    path.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.parametrize(
    ("versions", "words"),
    [
        ({"verl": "0.8.0"}, f"works with verl {VERSION}, and 0.8.0 is installed"),
        ({"ray": None, "TransferQueue": None}, "needs the packages ray, TransferQueue, which"),
        ({"transformers": "5.23.0"}, "takes transformers from 5.5.3 to below 5.11, and not 5.6.0"),
        ({"transformers": None}, "takes transformers from 5.5.3 to below 5.11, and not 5.6.0"),
    ],
)
def test_a_missing_or_other_release_is_named(tmp_path, monkeypatch, versions, words):
    monkeypatch.setenv(PYTHON, str(fake_python(tmp_path, **versions)))
    with pytest.raises(ValueError, match="make extras-verl") as error:
        need_verl()
    assert words in str(error.value)


def test_the_environment_of_verl_is_found_or_asked_for(tmp_path, monkeypatch):
    monkeypatch.delenv(PYTHON, raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    monkeypatch.setattr(verl_place.importlib.util, "find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"Make it with: make extras-verl"):
        interpreter()
    (tmp_path / ".venv-verl" / "bin").mkdir(parents=True)
    expected = fake_python(tmp_path / ".venv-verl" / "bin")
    assert interpreter() == expected == need_verl()
    monkeypatch.setenv(PYTHON, str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="is no program"):
        interpreter()


@pytest.mark.parametrize("address", ["somewhere", "host:", "host:x", ":7"])
def test_an_address_that_is_none(address):
    with pytest.raises(ValueError, match=r"is no address; give host:port"):
        check_answers(Path("none"), address)


def answering(folder: Path, code: int) -> Path:
    """A program that says of every Ray what a Python with another release would say, or nothing."""
    path = folder / f"python-{code}"
    path.write_text(f"#!/bin/sh\necho 'RuntimeError: another release' >&2\nexit {code}\n")
    path.chmod(0o755)
    return path


def test_a_ray_that_does_not_answer(tmp_path):
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{one.getsockname()[1]}"
        with pytest.raises(ValueError, match=f"backend.ray_address={address}: no Ray answers there .*refused"):
            check_answers(answering(tmp_path, 0), address)
        one.listen()
        check_answers(answering(tmp_path, 0), address)
        with pytest.raises(ValueError, match=r"no Ray answers there \(RuntimeError: another release\)"):
            check_answers(answering(tmp_path, 1), address)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel of Linux ends them")
def test_a_process_of_verl_ends_with_its_starter(tmp_path):
    starter = (
        "import os, sys; from pathlib import Path; from gradus.train.backends.verl_place import tied\n"
        f"p = tied([sys.executable, '-c', 'import time; time.sleep(600)'], env=os.environ, log=Path({str(tmp_path / 'log')!r}),"
        f" folder=Path({str(tmp_path)!r})); print(p.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    said = subprocess.run([sys.executable, "-c", starter], capture_output=True, text=True, timeout=60).stdout
    for _ in range(100):
        if not Path(f"/proc/{int(said)}").exists() or "\nState:\tZ" in Path(f"/proc/{int(said)}/status").read_text():
            return
        subprocess.run(["sleep", "0.1"])
    raise AssertionError("it outlived its starter")


def test_what_does_not_end_when_asked_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(verl_place, "STOP_SECONDS", 0.5)
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    process = tied([sys.executable, "-c", stubborn], env=os.environ, log=tmp_path / "log", folder=tmp_path)
    while "up" not in (tmp_path / "log").read_text():
        pass
    end(process)
    assert process.returncode == -9


def slow_ray(folder: Path, says: str, tries: int) -> Path:
    """A program that fails with ``says`` as often as given, and then runs as a Ray would."""
    path = folder / "python"
    path.write_text(
        f"#!/bin/sh\necho x >> {folder}/tries\n"
        f'if [ $(wc -l < {folder}/tries) -le {tries} ]; then echo "Exception: {says}"; exit 1; fi\n'
        "echo \"Ray runtime started. ray start --address='10.0.0.9:4711'\"; exec sleep 600\n"
    )
    path.chmod(0o755)
    return path


def test_a_ray_that_was_too_slow_is_started_again(tmp_path):
    python = slow_ray(tmp_path, "The current node timed out during startup.", 1)
    with own_ray(python, log=tmp_path / "log", env=os.environ, num_gpus=1, poll=lambda: None) as (address, keys):
        assert address == "10.0.0.9:4711" and len(keys["RAY_AUTH_TOKEN"]) == 32
    assert (tmp_path / "tries").read_text().count("x") == 2


@pytest.mark.parametrize(("says", "tries"), [("The current node timed out during startup.", 9), ("no such thing", 1)])
def test_a_ray_that_does_not_start_says_why(tmp_path, says, tries):
    python = slow_ray(tmp_path, says, tries)
    with (
        pytest.raises(Exit, match=f"Ray did not start on this machine: Exception: {says}") as error,
        own_ray(python, log=tmp_path / "log", env=os.environ, num_gpus=None, poll=lambda: None),
    ):
        raise AssertionError("it did not start")
    assert error.value.code == Code.MACHINE
    assert (tmp_path / "tries").read_text().count("x") == min(2, tries)
