"""Family: one of the built-in planning domains with everything that can be done with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from random import Random

from gradus.tasks.planning.conditions import Fact
from gradus.tasks.planning.formula import Atom
from gradus.tasks.planning.pddl import Problem
from gradus.tasks.planning.plan import Action

Sizes = Mapping[str, int]
"""Sizes of an instance by the letter that its file name has for them: {"l": 4, "c": 2}."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """An instance before it is text.

    Example:
        Layout(objects=(("b1", ""), ("b2", "")), facts=(("on", "b1", "b2"), ..), goals=(("on-table", "b1"),))
    """

    objects: tuple[tuple[str, str], ...]
    """(name, type); an empty type is not written."""
    facts: tuple[Fact, ...]
    goals: tuple[Fact, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A plan that solves a problem, and whether none is shorter."""

    actions: tuple[Action, ...]
    is_optimal: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A built-in domain."""

    name: str
    """As in ``scenario``, data files and recipes; the domain inside the PDDL may be called differently."""
    text: str
    """The domain as PDDL."""
    size_names: tuple[str, ...]
    stem: Callable[[Sizes, int], str]
    """(sizes, random seed) to the file name without its extension."""
    draw: Callable[[Sizes, Random], Layout]
    """A random instance."""
    sizes_of: Callable[[Problem], dict[str, float]]
    """The sizes of a parsed problem: what its name should say."""
    refer: Callable[[Problem], Reference | None]
    """A reference plan by the domain's own rules; None where the problem does not have the expected form."""
    constrain: Callable[[Problem, Random], str | None]
    """A random trajectory constraint as PDDL; None where the problem offers none."""
    implied: frozenset[str] = frozenset()
    """Static predicates that the names of the objects say already; a short prompt leaves them out."""
    silent: frozenset[str] = frozenset()
    """Predicates whose name a short prompt leaves out between two objects: ``c0 l4`` for ``(at c0 l4)``. No two of them
    may take the same types of objects."""
    hosted: frozenset[str] = frozenset()
    """Predicates of two objects whose facts a short prompt lists under the second: ``gate nut1`` for ``(at nut1 gate)``."""
    hosted_goals: frozenset[str] = frozenset()
    """The same for goals."""


def write_problem(name: str, domain: str, layout: Layout, constraint: str | None = None) -> str:
    """The problem as PDDL, one fact per line."""
    objects = " ".join(f"{obj} - {kind}" if kind else obj for obj, kind in layout.objects)
    lines = [f"(define (problem {name})", f"  (:domain {domain})", f"  (:objects {objects})", "  (:init"]
    lines += [f"    ({' '.join(fact)})" for fact in layout.facts]
    lines += ["  )", "  (:goal (and"]
    lines += [f"    ({' '.join(goal)})" for goal in layout.goals]
    lines.append("  ))")
    if constraint:
        lines.append(f"  (:constraints {constraint})")
    return "\n".join([*lines, ")"]) + "\n"


def facts_of(problem: Problem, predicate: str) -> list[tuple[str, ...]]:
    """Arguments of the initial facts of a predicate, sorted."""
    return sorted(fact[1:] for fact in problem.facts if fact[0] == predicate)


def pairs_of(problem: Problem, predicate: str) -> dict[str, str]:
    """First to second argument of the initial facts of a predicate with two arguments."""
    return {first: second for first, second in facts_of(problem, predicate)}  # noqa: C416 dict() loses the arity


def goal_facts(problem: Problem, predicate: str) -> list[tuple[str, ...]]:
    """Arguments of the goal's atoms of a predicate, in the order of the goal."""
    atoms: Iterable[Atom] = (goal for goal in problem.goals if isinstance(goal, Atom))
    return [tuple(map(str, atom.terms)) for atom in atoms if atom.predicate == predicate]


def goal_pairs(problem: Problem, predicate: str) -> dict[str, str]:
    """First to second argument of the goal's atoms of a predicate with two arguments."""
    return {first: second for first, second in goal_facts(problem, predicate)}  # noqa: C416 dict() loses the arity


def has_plain_goal(problem: Problem, *predicates: str) -> bool:
    """Whether the goal is a conjunction of atoms of these predicates and nothing else."""
    return all(isinstance(goal, Atom) and goal.predicate in predicates for goal in problem.goals)
