"""The parts of the verl backend that need no verl: seeds of the plan, verl's records read back, weights by name."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gradus import load_task
from gradus.config import ModelConfig
from gradus.policy.load import load_policy
from gradus.rollout.engine import Request, Sampling
from gradus.rollout.local import LocalEngine
from gradus.rollout.rollout import sample_seeds
from gradus.train.backends.verl import groups_of
from gradus.train.backends.verl_cpu import Seeds, Server, load_weights
from tests.train import runs

TASK = load_task("countdown", max_numbers=3)
PROBLEMS = list(TASK.problems("train", 3))


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return load_policy(ModelConfig(path=str(runs.tiny(tmp_path_factory.mktemp("tiny")))), is_trainable=False)


def test_seeds_are_those_of_a_native_run():
    plan = [
        {"step": 1, "problem_id": "a", "prompt_tokens": [1, 2]},
        {"step": 1, "problem_id": "b", "prompt_tokens": [3]},
    ]
    seeds = Seeds(plan, seed=5, group_size=2)
    native = {name: sample_seeds(5, 0, 1, name, 2) for name in ("a", "b")}
    assert [seeds.next(step=1, prompt=prompt) for prompt in ((3,), (1, 2), (1, 2), (3,))] == [
        native["b"][0], native["a"][0], native["a"][1], native["b"][1]
    ]  # fmt: skip


def test_a_problem_that_is_drawn_twice_gets_other_seeds():
    row = {"step": 2, "problem_id": "a", "prompt_tokens": [1]}
    seeds = Seeds([row, row], seed=0, group_size=2)
    found = [seeds.next(step=2, prompt=(1,)) for _ in range(4)]
    assert found == [*sample_seeds(0, 0, 2, "a", 2), *sample_seeds(0, 0, 2, "a again 2", 2)]


@pytest.mark.parametrize(("step", "prompt", "asked"), [(1, (9,), 1), (2, (1,), 1), (1, (1,), 3)])
def test_a_prompt_that_is_not_planned_is_an_error(step, prompt, asked):
    seeds = Seeds([{"step": 1, "problem_id": "a", "prompt_tokens": [1]}], seed=0, group_size=2)
    with pytest.raises(ValueError, match="that the plan does not have"):
        for _ in range(asked):
            seeds.next(step=step, prompt=prompt)


class TokenOutput(SimpleNamespace):
    """What verl's class holds."""


@pytest.mark.parametrize("is_together", [True, False], ids=["all at once", "one after the other"])
def test_the_server_samples_what_a_native_run_samples(policy, tmp_path, monkeypatch, is_together):
    monkeypatch.setitem(sys.modules, "verl.workers.rollout.replica", SimpleNamespace(TokenOutput=TokenOutput))
    prompts = [policy.prompt_tokens(problem.messages) for problem in PROBLEMS]
    plan = tmp_path / "plan.jsonl"
    plan.write_text(
        "".join(
            json.dumps({"step": 1, "problem_id": problem.id, "prompt_tokens": list(prompt)}) + "\n"
            for problem, prompt in zip(PROBLEMS, prompts, strict=True)
        )
    )
    server = Server(policy.source, str(plan), seed=3, group_size=2, batch_size=4, max_tokens=8, threads=1)

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


def test_an_unplanned_request_fails_alone(policy, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "verl.workers.rollout.replica", SimpleNamespace(TokenOutput=TokenOutput))
    (tmp_path / "plan.jsonl").write_text(json.dumps({"step": 1, "problem_id": "a", "prompt_tokens": [5, 6]}) + "\n")
    server = Server(
        policy.source, str(tmp_path / "plan.jsonl"), seed=3, group_size=1, batch_size=4, max_tokens=4, threads=1
    )

    async def ask() -> list[Any]:
        calls = [server.generate(prompt_ids=tokens, sampling_params={"temperature": 1.0}, request_id="x")
                 for tokens in ([5, 6], [7, 8])]  # fmt: skip
        return list(await asyncio.gather(*calls, return_exceptions=True))

    right, wrong = asyncio.run(ask())
    assert right.token_ids and isinstance(wrong, ValueError)


def test_weights_by_name(policy):
    model = policy.model
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    load_weights(model, weights)
    first = next(iter(weights))
    with pytest.raises(ValueError, match=r"missing \['"):
        load_weights(model, {name: tensor for name, tensor in weights.items() if name != first})
    with pytest.raises(ValueError, match=r"unknown \['base_model"):
        load_weights(model, {**weights, "base_model.model.x": torch.zeros(1)})


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
    sampling = SimpleNamespace(group_size=2)
    return SimpleNamespace(
        state=SimpleNamespace(policy=policy, step=0),
        config=SimpleNamespace(sampling=sampling),
        problems=SimpleNamespace(tasks={"countdown": TASK}),
    )


def test_completions_come_back_in_the_order_of_the_plan(policy):
    texts = {problem.id: [TASK.oracle(problem), "no"] for problem in PROBLEMS}
    groups, mismatch = groups_of(dumped(texts), PROBLEMS, session_of(policy))
    assert [group.problem.id for group in groups] == [problem.id for problem in PROBLEMS] and mismatch == 0
    assert [[score.correct for score in group.scores] for group in groups] == [[True, False]] * 3


def test_another_score_is_seen(policy):
    texts = {problem.id: ["no", "no"] for problem in PROBLEMS}
    _, mismatch = groups_of(dumped(texts, off=0.5), PROBLEMS, session_of(policy))
    assert mismatch == 1.0


def test_other_problems_are_seen(policy):
    texts = {problem.id: ["no", "no"] for problem in PROBLEMS[:2]}
    with pytest.raises(AssertionError, match="other problems than were planned"):
        groups_of(dumped(texts), PROBLEMS, session_of(policy))


def test_the_module_loads_without_verl():
    assert "verl" not in sys.modules and Path(sys.modules["gradus.train.backends.verl_cpu"].__file__ or "").is_file()
