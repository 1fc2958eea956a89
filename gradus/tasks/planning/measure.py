"""The difficulty of a planning problem: by its file name, by what is in its PDDL, or by the length of a reference plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gradus.difficulty import Formula, parse_name, score_of, unreadable_score
from gradus.tasks.planning.domains import FAMILIES
from gradus.tasks.planning.pddl import Problem

Source = Literal["name", "pddl", "reference"]
Unreadable = Literal["easy", "pddl"]
SCALE = 30.0
"""Score that counts as difficulty one half."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A score, and what was odd about it."""

    score: float
    is_readable: bool
    """Whether the file name says the sizes (or is not asked)."""
    is_easy_by_rule: bool
    """Whether the bucket is easy whatever the score, because the name says nothing."""
    name_disagrees: bool
    """Whether the name says other sizes than the PDDL has."""

    @property
    def difficulty(self) -> float:
        """The score on [0, 1): the same order, hence the same buckets."""
        return self.score / (self.score + SCALE)


def measure(
    domain: str,
    file_name: str,
    problem: Problem,
    *,
    source: Source = "name",
    formula: Formula = "additive",
    unreadable: Unreadable = "easy",
    reference_length: int | None = None,
) -> Measured:
    """Scores a problem. Where ``source`` is ``reference`` and its length unknown, the PDDL is measured instead."""
    named = parse_name(domain, file_name)
    family = FAMILIES.get(domain)
    counted = family.sizes_of(problem) if family else None
    disagrees = named is not None and counted is not None and any(counted[size] != named[size] for size in named)
    is_readable = named is not None or source != "name"
    is_easy = False
    if source == "reference" and reference_length is not None:
        score = float(reference_length)
    elif source == "name" and named is not None:
        score = score_of(domain, named, formula)
    elif source == "name" and unreadable == "easy":
        score, is_easy = unreadable_score(formula), True
    elif counted is not None:
        score = score_of(domain, counted, formula)
    else:
        score = general_score(problem)
    return Measured(score=score, is_readable=is_readable, is_easy_by_rule=is_easy, name_disagrees=disagrees)


def general_score(problem: Problem) -> float:
    """Score of a problem of any domain: objects + 2 unmet goals."""
    world = problem.world
    return float(len(problem.objects) + 2 * (len(world.goals) - world.num_goals_true(world.start, world.numbers)))
