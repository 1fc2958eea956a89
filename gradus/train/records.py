"""Which completions of a step are written down, and how: best and worst of each group, and eight at random."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from gradus.evaluation.evaluate import prompt_text
from gradus.seeds import seed_of
from gradus.types import Group

NUM_RANDOM = 8


def rollout_rows(
    groups: Sequence[Group], advantages_B: Sequence[float], *, step: int, seed: int
) -> list[dict[str, Any]]:
    """Rows of ``rollouts/step_*.jsonl``, in the order of problems and samples; ``B`` completions of all groups."""
    places = [(row, sample) for row, group in enumerate(groups) for sample in range(len(group.completions))]
    chosen = set(random.Random(seed_of("records", seed, step)).sample(range(len(places)), min(NUM_RANDOM, len(places))))
    first = 0
    for group in groups:
        order = sorted(range(len(group.scores)), key=lambda sample: (group.rewards_G[sample], sample))
        chosen |= {first + order[0], first + order[-1]}
        first += len(group.scores)
    return [_row(groups[places[index][0]], places[index][1], advantages_B[index], step) for index in sorted(chosen)]


def _row(group: Group, sample: int, advantage: float, step: int) -> dict[str, Any]:
    completion, score, problem = group.completions[sample], group.scores[sample], group.problem
    return {
        "step": step,
        "policy_step": completion.policy_step,
        "problem_id": problem.id,
        "task": problem.task,
        "domain": problem.domain,
        "difficulty": problem.difficulty,
        "sample": sample,
        "prompt": prompt_text(problem),
        "completion": completion.text,
        "reward": score.reward,
        "advantage": advantage,
        "parts": dict(score.parts),
        "correct": score.correct,
        "status": score.status,
        "why": score.why,
        "num_tokens": len(completion.tokens),
        "finish": completion.finish,
    }
