"""Ferry: carry cars between locations, one at a time.

Every car that must move is an edge from where it is to where it belongs. A weakly connected component of that graph
needs max(1, sum of max(0, out - in)) trails; the ferry sails along each trail with a car aboard and empty between two.
With M cars, T trails and e = 1 where the first trail can begin at the ferry, no plan is shorter than 3M + T - e.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from random import Random

from gradus.tasks.planning.domains.family import (
    Family,
    Layout,
    Reference,
    Sizes,
    facts_of,
    goal_facts,
    goal_pairs,
    has_plain_goal,
    pairs_of,
)
from gradus.tasks.planning.pddl import Problem
from gradus.tasks.planning.plan import Action

DOMAIN = """(define (domain ferry)
  (:requirements :strips)
  (:predicates (not-eq ?x ?y) (car ?c) (location ?l) (at-ferry ?l) (at ?c ?l) (empty-ferry) (on ?c))
  (:action sail
    :parameters (?from ?to)
    :precondition (and (not-eq ?from ?to) (location ?from) (location ?to) (at-ferry ?from))
    :effect (and (at-ferry ?to) (not (at-ferry ?from))))
  (:action board
    :parameters (?car ?loc)
    :precondition (and (car ?car) (location ?loc) (at ?car ?loc) (at-ferry ?loc) (empty-ferry))
    :effect (and (on ?car) (not (at ?car ?loc)) (not (empty-ferry))))
  (:action debark
    :parameters (?car ?loc)
    :precondition (and (car ?car) (location ?loc) (on ?car) (at-ferry ?loc))
    :effect (and (at ?car ?loc) (empty-ferry) (not (on ?car)))))
"""

Edge = tuple[str, str, str]
"""(origin, destination, car); an edge that only closes a circuit has no car."""


def draw(sizes: Sizes, random: Random) -> Layout:
    """Origin and destination of each car and the place of the ferry are uniform and may coincide."""
    locations = [f"l{index}" for index in range(sizes["l"])]
    cars = [f"c{index}" for index in range(sizes["c"])]
    origins = [random.choice(locations) for _ in cars]
    destinations = [random.choice(locations) for _ in cars]
    return Layout(
        objects=tuple((name, "") for name in (*locations, *cars)),
        facts=(
            *(("location", location) for location in locations),
            *(("car", car) for car in cars),
            *(("not-eq", a, b) for a in locations for b in locations if a != b),
            ("empty-ferry",),
            *(("at", car, origin) for car, origin in zip(cars, origins, strict=True)),
            ("at-ferry", random.choice(locations)),
        ),
        goals=tuple(("at", car, destination) for car, destination in zip(cars, destinations, strict=True)),
    )


def refer(problem: Problem) -> Reference | None:
    """A shortest plan."""
    ferry = facts_of(problem, "at-ferry")
    if len(ferry) != 1 or facts_of(problem, "on") or not has_plain_goal(problem, "at"):
        return None
    origin = pairs_of(problem, "at")
    destination = goal_pairs(problem, "at")
    if not set(destination) <= set(origin):
        return None
    edges = [(origin[car], place, car) for car, place in destination.items() if origin[car] != place]
    return Reference(actions=tuple(_actions(ferry[0][0], _trails(edges, ferry[0][0]))), is_optimal=True)


def _trails(edges: list[Edge], start: str) -> list[list[Edge]]:
    """The fewest trails that cover all edges; the first begins at ``start`` where that is possible."""
    trails: list[list[Edge]] = []
    for component in _components(edges):
        found = _cover(component, start)
        trails = [*found, *trails] if found[0][0][0] == start else [*trails, *found]
    return trails


def _components(edges: list[Edge]) -> list[list[Edge]]:
    leader: dict[str, str] = {}

    def find(place: str) -> str:
        while leader.setdefault(place, place) != place:
            place = leader[place]
        return place

    for a, b, _ in edges:
        leader[find(a)] = find(b)
    groups: dict[str, list[Edge]] = {}
    for edge in edges:
        groups.setdefault(find(edge[0]), []).append(edge)
    return list(groups.values())


def _cover(edges: list[Edge], start: str) -> list[list[Edge]]:
    """Closes the component to a circuit with edges without a car, walks it, and cuts it at these edges."""
    surplus = Counter(a for a, _, _ in edges)
    surplus.subtract(Counter(b for _, b, _ in edges))
    sources = [place for place in sorted(surplus) for _ in range(max(0, surplus[place]))]
    sinks = [place for place in sorted(surplus) for _ in range(max(0, -surplus[place]))]
    closed = [*edges, *((sink, source, "") for sink, source in zip(sinks, sources, strict=True))]
    begin = start if start in surplus else edges[0][0]
    circuit = _circuit(closed, begin)
    if not sources:
        return [circuit]
    first = next(index for index, edge in enumerate(circuit) if not edge[2]) + 1
    trails: list[list[Edge]] = [[]]
    for edge in (*circuit[first:], *circuit[:first]):
        if edge[2]:
            trails[-1].append(edge)
        elif trails[-1]:
            trails.append([])
    trails = [trail for trail in trails if trail]
    return sorted(trails, key=lambda trail: trail[0][0] != start)


def _circuit(edges: list[Edge], begin: str) -> list[Edge]:
    """An Euler circuit (Hierholzer), without recursion."""
    leaving: dict[str, list[Edge]] = {}
    for edge in reversed(edges):
        leaving.setdefault(edge[0], []).append(edge)
    stack: list[tuple[str, Edge | None]] = [(begin, None)]
    circuit: list[Edge] = []
    while stack:
        place, arrived = stack[-1]
        if leaving.get(place):
            edge = leaving[place].pop()
            stack.append((edge[1], edge))
        else:
            stack.pop()
            if arrived is not None:
                circuit.append(arrived)
    return circuit[::-1]


def _actions(ferry: str, trails: list[list[Edge]]) -> Iterator[Action]:
    for trail in trails:
        for origin, destination, car in trail:
            if ferry != origin:
                yield ("sail", ferry, origin)
            yield ("board", car, origin)
            yield ("sail", origin, destination)
            yield ("debark", car, destination)
            ferry = destination


def constrain(problem: Problem, random: Random) -> str | None:
    """For every car of a random order but the first: it may reach its goal only after another has been aboard."""
    moving = [(car, place) for car, place in goal_facts(problem, "at") if ("at", car, place) not in problem.facts]
    if len(moving) < 2:
        return None
    random.shuffle(moving)
    parts = [
        f"(sometime-before (at {car} {place}) (on {other}))" for (other, _), (car, place) in itertools.pairwise(moving)
    ]
    return f"(and {' '.join(parts)})"


FAMILY = Family(
    name="ferry",
    text=DOMAIN,
    size_names=("l", "c"),
    stem=lambda sizes, seed: f"ferry-l{sizes['l']}-c{sizes['c']}-s{seed}",
    draw=draw,
    sizes_of=lambda problem: {"l": len(facts_of(problem, "location")), "c": len(facts_of(problem, "car"))},
    refer=refer,
    constrain=constrain,
    implied=frozenset({"not-eq", "location", "car"}),
    silent=frozenset({"at"}),
)
