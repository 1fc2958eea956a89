"""Plans with slips: what a warm-up shows when the policy is to be left something to learn from rewards.

A policy that has only seen right plans is sure of them, and groups of equal answers teach GRPO nothing. A demonstrator
that slips now and then leaves it unsure at every action, between what works and what does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from gradus.tasks.planning.pddl import Problem
from gradus.tasks.planning.plan import Action
from gradus.tasks.planning.search import ground_ops
from gradus.tasks.planning.worked import Line


def with_slips(problem: Problem, lines: Sequence[Line], rate: float, random: Random) -> list[Line]:
    """The plan of a demonstrator that slips at each action with probability ``rate`` and goes on as if nothing had
    happened: half of the time the action is forgotten, else done with other objects. Comments stay.

    Example:
        with_slips(problem, [("board", "c0", "l1"), ..], 0.1, Random(0))  # [("board", "c1", "l1"), ..]
    """
    shown: list[Line] = []
    others: dict[str, list[Action]] | None = None
    for action in lines:
        if isinstance(action, str) or random.random() >= rate:
            shown.append(action)
        elif random.random() < 0.5:
            others = _by_schema(problem) if others is None else others
            choices = [other for other in others.get(action[0], ()) if other != action]
            shown += [random.choice(choices)] if choices else []
    return shown


def as_text(lines: Sequence[Line]) -> str:
    """A line each, comments behind a semicolon."""
    return "\n".join(f"; {line}" if isinstance(line, str) else f"({' '.join(line)})" for line in lines)


def _by_schema(problem: Problem) -> dict[str, list[Action]]:
    """What could ever be executed, by the name of the action; nothing for a problem with too many."""
    found: dict[str, list[Action]] = {}
    for op in ground_ops(problem) or ():
        found.setdefault(op.action[0], []).append(op.action)
    return found
