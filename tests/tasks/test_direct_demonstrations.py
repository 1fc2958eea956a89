"""A warm-up on two ways of answering: ``direct_frac`` leaves the working out of that share of demonstrations."""

from __future__ import annotations

import pytest

from gradus import load_task
from gradus.seeds import unit_share
from gradus.tasks.base import Task

SOURCES = {"gsm8k": {"source": "synthetic"}, "math": {"source": "generate", "cas": "off"}}


def made(name: str, frac: float) -> Task:
    return load_task(name, **SOURCES[name], direct_frac=frac)


@pytest.mark.parametrize("name", SOURCES)
def test_the_share_of_answers_without_working_is_the_one_asked_for(name: str) -> None:
    worked, half, direct = (made(name, frac) for frac in (0.0, 0.5, 1.0))
    problems = list(worked.problems("train", 400))
    shorter = [len(half.demonstration(problem)) < len(worked.demonstration(problem)) for problem in problems]
    assert 0.4 < sum(shorter) / len(shorter) < 0.6
    for problem, is_shorter in zip(problems, shorter, strict=True):
        assert half.oracle(problem) == worked.oracle(problem), "the oracle always shows its working"
        expected = direct if is_shorter else worked
        assert half.demonstration(problem) == expected.demonstration(problem)
        assert half.demonstration(problem) == made(name, 0.5).demonstration(problem), (
            "the choice belongs to the problem"
        )


@pytest.mark.parametrize("name", SOURCES)
def test_an_answer_without_working_is_paid_in_full(name: str) -> None:
    task = made(name, 1.0)
    for problem in task.problems("validation", 50):
        score = task.score(problem, task.demonstration(problem))
        assert score.correct and score.reward == task.reward_range[1]


def test_shares_are_even_and_belong_to_their_parts() -> None:
    shares = [unit_share("a", index) for index in range(4000)]
    assert 0 <= min(shares) < 0.01 and 0.99 < max(shares) < 1
    assert abs(sum(share < 0.25 for share in shares) / 4000 - 0.25) < 0.03
    assert shares[7] == unit_share("a", 7) != unit_share("b", 7)
