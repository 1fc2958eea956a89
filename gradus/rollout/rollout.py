"""Problems → groups: render the prompt, sample, score. Used by training and by evaluation alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gradus.rollout.engine import Engine, Request, Sampling
from gradus.rollout.ranks import ALONE, Ranks
from gradus.seeds import seed_of
from gradus.tasks.base import Task
from gradus.types import Completion, Group, Message, Problem, Score

PromptTokens = Callable[[Sequence[Message]], tuple[int, ...]]
Answered = tuple[tuple[Completion, ...], tuple[Score, ...]]
"""The completions of one group and their scores."""


@dataclass(slots=True)
class Timing:
    """Seconds spent in the two halves of a rollout; adds up over calls."""

    rollout_seconds: float = 0.0
    scoring_seconds: float = 0.0


def sample_seeds(seed: int, replay: int, step: int, problem_id: str, count: int) -> tuple[int, ...]:
    """Seeds of a training group: independent of batch, order and every global generator."""
    return tuple(seed_of("sample", seed, replay, step, problem_id, index) for index in range(count))


def evaluation_seeds(seed: int, set_name: str, problem_id: str, count: int) -> tuple[int, ...]:
    """Seeds of an evaluation group: the same for every model and every run, so that comparisons are paired."""
    return tuple(seed_of("evaluate", seed, set_name, problem_id, index) for index in range(count))


def roll_out(
    engine: Engine,
    tasks: Mapping[str, Task],
    problems: Sequence[Problem],
    *,
    prompt_tokens: PromptTokens,
    seeds: Callable[[Problem], tuple[int, ...]],
    sampling: Sampling,
    policy_step: int,
    poll: Callable[[], None],
    timing: Timing | None = None,
    ranks: Ranks = ALONE,
) -> list[Group]:
    """One group per problem, in order. ``poll`` is called between pieces of work and may raise to stop. Several
    ``ranks`` sample and score whole groups each, and all get all groups."""
    timing = timing or Timing()
    requests = [
        Request(problem=problem, prompt_tokens=prompt_tokens(problem.messages), seeds=seeds(problem))
        for problem in problems
    ]

    def sample_and_score() -> tuple[list[Answered], float, float]:
        started, mine = time.monotonic(), ranks.part(requests)
        answers = engine.generate(mine, sampling, policy_step=policy_step, poll=poll)
        sampled = time.monotonic()
        answered: list[Answered] = []
        for request, completions in zip(mine, answers, strict=True):
            poll()
            task = tasks[request.problem.task]
            answered.append((completions, tuple(score(task, request.problem, each) for each in completions)))
        return answered, sampled - started, time.monotonic() - sampled

    parts = ranks.each(sample_and_score)
    timing.rollout_seconds += max(seconds for _, seconds, _ in parts)
    timing.scoring_seconds += max(seconds for _, _, seconds in parts)
    return [
        Group(problem=request.problem, prompt_tokens=request.prompt_tokens, completions=completions, scores=scores)
        for request, (completions, scores) in zip(requests, ranks.joined([part for part, _, _ in parts]), strict=True)
    ]


def score(task: Task, problem: Problem, completion: Completion) -> Score:
    """The task's judgement; a scorer that breaks its contract costs the sample, never the run."""
    result = task.score(problem, completion.text, finish=completion.finish)
    assert isinstance(result, Score), f"{task.name}.score returned {type(result).__name__}"
    return result
