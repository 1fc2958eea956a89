"""Worked plans: one object after the other, in the order of the brief prompt, with comments that repeat what it says.

They are longer than need be, and easy to follow: what an action names stands in the comment before it or in the action
before it. A small policy that has learned to look up one line of the prompt can write them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from gradus.tasks.planning.domains.delivery import drive
from gradus.tasks.planning.domains.family import facts_of, goal_facts, goal_pairs, pairs_of
from gradus.tasks.planning.pddl import Problem
from gradus.tasks.planning.plan import Action
from gradus.tasks.planning.prompt import brief_lines

Line = str | Action
"""A comment without its semicolon, or an action."""


def worked(problem: Problem, domain: str) -> list[Line]:
    """Comments and actions that solve a generated problem of a built-in ``domain``.

    Example:
        worked(problem, "ferry")  # ["l0 at-ferry", "c0 l1 > l2", ("sail", "l0", "l1"), ("board", "c0", "l1"), ..]
    """
    said = {line.split()[0]: line for line in brief_lines(problem, domain)}
    return list(_WORKED[domain](problem, said))


def _ferry(problem: Problem, said: Mapping[str, str]) -> Iterator[Line]:
    ((place,),) = facts_of(problem, "at-ferry")
    yield said[place]
    at = pairs_of(problem, "at")
    for car, goal in sorted(goal_pairs(problem, "at").items()):
        yield said[car]
        if at[car] != goal:
            yield from _sail(place, at[car])
            yield ("board", car, at[car])
            yield from _sail(at[car], goal)
            yield ("debark", car, goal)
            place = goal


def _sail(origin: str, target: str) -> Iterator[Action]:
    if origin != target:
        yield ("sail", origin, target)


def _grippers(problem: Problem, said: Mapping[str, str]) -> Iterator[Line]:
    """The first robot does it all with its first hand."""
    robot, place = facts_of(problem, "at-robby")[0]
    hand = next(hand for owner, hand in facts_of(problem, "free") if owner == robot)
    yield f"{robot} {place}"
    at = pairs_of(problem, "at")
    for ball, goal in sorted(goal_pairs(problem, "at").items()):
        yield said[ball]
        if at[ball] != goal:
            if place != at[ball]:
                yield ("move", robot, place, at[ball])
            yield ("pick", robot, ball, at[ball], hand)
            yield ("move", robot, at[ball], goal)
            yield ("drop", robot, ball, goal, hand)
            place = goal


def _delivery(problem: Problem, said: Mapping[str, str]) -> Iterator[Line]:
    ((truck,),) = facts_of(problem, "empty")
    at = pairs_of(problem, "at")
    place = at[truck]
    yield f"{truck} {place}"
    for package, goal in sorted(goal_pairs(problem, "at").items()):
        yield said[package]
        if at[package] != goal:
            yield from drive(problem, truck, place, at[package])
            yield ("pick-package", truck, package, at[package])
            yield from drive(problem, truck, at[package], goal)
            yield ("drop-package", truck, package, goal)
            place = goal


def _spanner(problem: Problem, said: Mapping[str, str]) -> Iterator[Line]:
    """Takes every spanner on the way, so that any of them is there at the end."""
    (man,), links, at = problem.objects_of(("man",)), pairs_of(problem, "link"), pairs_of(problem, "at")
    place, spanners = at[man], sorted(name for (name,) in facts_of(problem, "useable"))
    while True:
        yield said[place]
        for spanner in spanners:
            if at[spanner] == place:
                yield ("pickup_spanner", place, spanner, man)
        if place not in links:
            break
        yield ("walk", place, links[place], man)
        place = links[place]
    for spanner, (nut,) in zip(spanners, sorted(goal_facts(problem, "tightened")), strict=False):
        yield ("tighten_nut", place, spanner, man, nut)


def _blocksworld(problem: Problem, said: Mapping[str, str]) -> Iterator[Line]:
    """Everything on the table, top down, then tower by tower, bottom up."""
    below = pairs_of(problem, "on")
    above = {lower: upper for upper, lower in goal_pairs(problem, "on").items()}
    for (top,) in facts_of(problem, "clear"):
        block = top
        while block in below:
            yield f"{block} {below[block]}"
            yield ("unstack", block, below[block])
            yield ("putdown", block)
            block = below[block]
        yield said[block].partition(" >")[0]
    for (base,) in sorted(goal_facts(problem, "on-table")):
        block = base
        yield said[block]
        while block in above:
            yield ("pickup", above[block])
            yield ("stack", above[block], block)
            block = above[block]
            yield said[block]


_WORKED: Mapping[str, Callable[[Problem, Mapping[str, str]], Iterator[Line]]] = {
    "blocksworld": _blocksworld,
    "ferry": _ferry,
    "grippers": _grippers,
    "spanner": _spanner,
    "delivery": _delivery,
}
