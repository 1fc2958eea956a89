"""A user's own reward function: its number is the reward, correctness is not its business, its failures pay nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradus.tasks.base import load_task
from gradus.tasks.user_reward import UserReward

FUNCTIONS = """
import math, time

def short(completion, gold, correct):
    return max(0.0, 1 - len(completion) / 1000) if correct else 0.0

def hangs(completion, gold, correct):
    time.sleep(3600)

def raises(completion, gold, correct):
    raise RuntimeError("no idea")

def nan(completion, gold, correct):
    return math.nan

def large(completion, gold, correct):
    return 7

def true(completion, gold, correct):
    return True

def abstains(completion, gold, correct):
    return None
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_rewards.py").write_text(FUNCTIONS)
    return tmp_path


def score(folder: Path, function: str, text: str = "#### 18", seconds: float = 20.0):
    made = load_task("gsm8k", reward_function=f"{folder}/my_rewards.py:{function}", reward_function_seconds=seconds)
    assert made.reward_range == (0.0, 1.0)
    return made.score(made.problem(question="What is 9 + 9?", answer="#### 18"), text)


def test_the_reward_is_the_users_and_correctness_the_tasks(folder: Path):
    right, wrong = score(folder, "short"), score(folder, "short", "#### 19")
    assert (right.reward, right.correct, right.status) == (pytest.approx(0.993), True, "scored")
    assert (wrong.reward, wrong.correct) == (0.0, False)
    assert sum(value for name, value in right.parts.items() if "/" not in name) == right.reward
    assert right.parts["info/strict"] == 1.0


@pytest.mark.parametrize(
    ("function", "status"),
    [("raises", "invalid"), ("nan", "invalid"), ("large", "invalid"), ("true", "invalid"), ("abstains", "no_score")],
)
def test_what_is_no_reward_pays_nobody(folder: Path, function: str, status: str):
    result = score(folder, function)
    assert (result.reward, result.status, result.is_usable, result.correct) == (0.0, status, False, True)


def test_a_function_that_hangs_is_killed(folder: Path):
    assert score(folder, "short", seconds=20.0).is_usable
    assert score(folder, "hangs", seconds=1.0).status == "timeout"


def test_mathematics_takes_one_too(folder: Path):
    made = load_task("math", source="generate", cas="off", reward_function=f"{folder}/my_rewards.py:short")
    problem = next(made.problems("train", 1))
    assert 0.5 < made.score(problem, made.oracle(problem)).reward < 1.0


def test_a_wrong_address_is_named(folder: Path):
    for address, message in (
        ("short", "FILE.py:FUNCTION"),
        ("nowhere.py:short", "no file nowhere.py"),
        (":x", "MODULE"),
    ):
        with pytest.raises(ValueError, match=message):
            UserReward(address)
    missing = UserReward(f"{folder}/my_rewards.py:missing", timeout_seconds=20.0)
    made = load_task("gsm8k")
    problem = made.problem(question="?", answer="18")
    assert missing.apply(made.score(problem, "#### 18"), completion="#### 18", gold="18").status == "invalid"
