"""Scores for other trainers: total, so that no completion is dropped without a count."""

from __future__ import annotations

import math

from gradus.tasks.base import Task
from gradus.types import Completion, Problem, Score


def scored(task: Task, problem: Problem, completion: Completion) -> Score:
    """The task's judgement. A scorer that raises costs the sample, which counts as failed (``scoring/error_frac``)."""
    try:
        return task.score(problem, completion.text, finish=completion.finish)
    except Exception as error:  # the other trainer would end the run without a word on the problem
        why = f"crash: {type(error).__name__}: {error}"
        return Score(reward=task.reward_range[0], correct=False, parts={}, why=why, status="crash")


def paid(score: Score) -> float | None:
    """The reward; None where nobody may be paid or charged."""
    return float(score.reward) if score.is_usable and math.isfinite(score.reward) else None
