"""Metrics of the rollouts: which part of a reward its differences within groups are due to."""

from __future__ import annotations

import random

import pytest

from gradus.tasks.base import load_task
from gradus.train.metrics import rollout_metrics
from gradus.types import Completion, Group, Message, Problem, Score


def group_of(*parts: dict[str, float]) -> Group:
    """A group whose rewards are the sums of their parts."""
    problem = Problem(id="countdown/x", task="countdown", messages=(Message(role="user", content="?"),), truth={}, domain="x",
                      difficulty=0.5)  # fmt: skip
    completion = Completion(text="", tokens=(1,), logprobs=(0.0,), finish="stop", policy_step=0)
    scores = tuple(
        Score(reward=sum(one.values()), correct=False, parts=one | {"info/noise": 7.0}, why="") for one in parts
    )
    return Group(problem=problem, prompt_tokens=(1,), completions=(completion,) * len(parts), scores=scores)


def shares(groups: list[Group]) -> dict[str, float]:
    row = rollout_metrics(groups, {"countdown": load_task("countdown")})
    return {name.split("/")[1]: value for name, value in row.items() if name.endswith("/share")}


def test_shares_of_parts_add_up_to_one() -> None:
    rng = random.Random(0)
    groups = [
        group_of(*({"answer": rng.random(), "format": 0.1 * rng.random(), "past": past} for _ in range(6)))
        for past in (0.3, -2.0, 5.0)
    ]
    found = shares(groups)
    assert sum(found.values()) == pytest.approx(1)
    assert found["past"] == pytest.approx(0, abs=1e-12), "what is the same for a whole group teaches nothing"
    assert found["answer"] > 0.9 > 0.1 > found["format"] > -0.05


def test_a_part_that_some_lack_counts_as_nothing() -> None:
    assert shares([group_of({"a": 1.0}, {"b": 1.0}, {"a": 0.0, "b": 0.0})]) == pytest.approx({"a": 0.5, "b": 0.5})


def test_groups_without_difference_have_no_shares() -> None:
    assert shares([group_of({"a": 0.1, "b": 0.2}, {"a": 0.1, "b": 0.2})]) == {}
