"""Columns of metrics.jsonl and running means."""

import math

import pytest

from gradus.report.metrics import Metrics, mean, running_mean, tenths


def test_rows_become_columns():
    metrics = Metrics.of(
        [
            {"step": 2, "attempt": 2, "reward": 0.5, "wall_seconds": 3},
            {"step": 0, "attempt": 1, "evaluation/validation/solve_rate": 0.3},
            {"step": 1, "attempt": 1, "reward": "NaN", "kl": 0.1, "wall_seconds": 2.5},
            {"step": 1, "attempt": 1, "reward": 0.25, "wall_seconds": 2.5},
            {"step": 3, "attempt": 2, "reward": "Infinity", "wall_seconds": 4},
            {"reward": 9.0},
            {"step": True, "reward": 9.0},
            {"step": -1, "reward": 9.0},
        ]
    )
    assert metrics.steps == [0, 1, 2, 3] and metrics.last_step == 3
    assert metrics.column("reward") == [None, 0.25, 0.5, None] and metrics.values("reward") == [0.25, 0.5]
    assert metrics.not_finite == {"reward": [3]} and metrics.resumed_at == [2] and metrics.total_seconds == 6.5
    assert metrics.has("evaluation/validation/solve_rate") and not metrics.has("kl") and not metrics.has("loss")
    assert metrics.column("loss") == [None] * 4


def test_values_that_are_no_numbers_are_missing():
    for value in (True, None, "0.5", [1], {}, math.nan, math.inf, 10**400):
        assert not Metrics.of([{"step": 1, "reward": value}]).values("reward")


def test_running_mean():
    assert running_mean([1.0, None, 3.0], 2) == [1.0, None, 3.0]
    assert running_mean([1.0, 2.0, 6.0], 3) == [1.5, 3.0, 4.0]
    assert running_mean([None, None], 20) == [None, None]
    assert running_mean([5.0] * 100, 20) == [5.0] * 100
    straight = [float(step) for step in range(100)]
    assert running_mean(straight, 20)[50] == 50.5 and running_mean(straight, 19)[50] == 50


def test_short_runs_have_shorter_means():
    for count, width in ((1, 1), (8, 1), (50, 10), (1000, 20)):
        metrics = Metrics.of([{"step": step, "loss": step} for step in range(1, count + 1)])
        assert metrics.width("loss") == width
        assert metrics.ends("loss")[1] == pytest.approx(count - (width - 1) / 2)
    assert Metrics.of([]).ends("loss") == (None, None)


def test_means_of_nothing():
    assert mean([]) is None and tenths([]) == (None, None) and tenths([1.0, 2.0]) == (1.0, 2.0)
