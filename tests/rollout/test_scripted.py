"""The scripted engine errs as often as it is told, and by seed alone."""

import pytest

from gradus import load_task
from gradus.rollout.engine import Sampling
from gradus.rollout.rollout import Timing, evaluation_seeds, roll_out, sample_seeds
from gradus.rollout.scripted import ScriptedEngine

TASK = load_task("countdown", max_numbers=3)
PROBLEMS = list(TASK.problems("train", 60))


def groups_of(error_rate, problems=PROBLEMS, poll=lambda: None, timing=None):
    return roll_out(
        ScriptedEngine({"countdown": TASK}, error_rate=error_rate),
        {"countdown": TASK},
        problems,
        prompt_tokens=lambda messages: (1,),
        seeds=lambda problem: sample_seeds(0, 0, 1, problem.id, 8),
        sampling=Sampling(temperature=1.0, max_tokens=128),
        policy_step=0,
        poll=poll,
        timing=timing,
    )


@pytest.mark.parametrize("error_rate", [0.0, 0.3, 1.0])
def test_error_rate(error_rate):
    rates = [group.solve_rate for group in groups_of(error_rate)]
    assert sum(rates) / len(rates) == pytest.approx(1 - error_rate, abs=0.07)


def test_order_does_not_matter():
    forward, backward = groups_of(0.5), groups_of(0.5, PROBLEMS[::-1])[::-1]
    assert forward == backward


def test_time_is_counted_and_poll_is_called():
    timing, calls = Timing(), []
    groups_of(0.5, poll=lambda: calls.append(1), timing=timing)
    assert timing.rollout_seconds > 0
    assert timing.scoring_seconds > 0
    assert len(calls) > len(PROBLEMS)


def test_training_and_evaluation_never_share_seeds():
    assert not set(sample_seeds(0, 0, 1, "a", 50)) & set(evaluation_seeds(0, "test", "a", 50))
    assert sample_seeds(0, 0, 1, "a", 3) != sample_seeds(0, 1, 1, "a", 3)
