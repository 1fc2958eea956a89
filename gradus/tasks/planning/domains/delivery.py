"""Delivery: a truck on a square grid brings packages to a cell, one at a time.

``(last truck cell)`` becomes true when the truck leaves a cell and stays so; constraints use it as a memory.
With m packages off the common goal cell g and grid distance d, no plan is shorter than
2m + 2 sum of d(p, g) + min over p of (d(t, p) - d(p, g)).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from random import Random

from gradus.tasks.planning.domains.family import (
    Family,
    Layout,
    Reference,
    Sizes,
    facts_of,
    goal_pairs,
    has_plain_goal,
    pairs_of,
)
from gradus.tasks.planning.pddl import Problem
from gradus.tasks.planning.plan import Action

DOMAIN = """(define (domain delivery)
  (:requirements :strips :typing)
  (:types cell truck package)
  (:predicates (at ?x - (either truck package) ?c - cell) (carrying ?p - package ?t - truck) (empty ?t - truck)
    (adjacent ?c1 ?c2 - cell) (last ?t - truck ?c - cell))
  (:action pick-package
    :parameters (?t - truck ?p - package ?c - cell)
    :precondition (and (at ?p ?c) (at ?t ?c) (empty ?t))
    :effect (and (not (at ?p ?c)) (not (empty ?t)) (carrying ?p ?t)))
  (:action drop-package
    :parameters (?t - truck ?p - package ?c - cell)
    :precondition (and (at ?t ?c) (carrying ?p ?t))
    :effect (and (empty ?t) (not (carrying ?p ?t)) (at ?p ?c)))
  (:action move
    :parameters (?t - truck ?from ?to - cell)
    :precondition (and (adjacent ?from ?to) (at ?t ?from))
    :effect (and (not (at ?t ?from)) (last ?t ?from) (at ?t ?to))))
"""


def draw(sizes: Sizes, random: Random) -> Layout:
    """Truck, packages and goal cell are uniform; the goal is drawn again while all packages are on it."""
    side = sizes["s"]
    cells = [(x, y) for x in range(side) for y in range(side)]
    names = {cell: f"c{cell[0]}_{cell[1]}" for cell in cells}
    packages = [f"p{index}" for index in range(1, sizes["p"] + 1)]
    truck_at = random.choice(cells)
    at = [random.choice(cells) for _ in packages]
    goal = random.choice(cells)
    while len(cells) > 1 and all(cell == goal for cell in at):
        goal = random.choice(cells)
    steps = ((-1, 0), (0, -1), (0, 1), (1, 0))
    return Layout(
        objects=(
            ("t1", "truck"),
            *((package, "package") for package in packages),
            *((name, "cell") for name in names.values()),
        ),
        facts=(
            ("at", "t1", names[truck_at]),
            ("empty", "t1"),
            *(("at", package, names[cell]) for package, cell in zip(packages, at, strict=True)),
            *(
                ("adjacent", names[x, y], names[x + dx, y + dy])
                for x, y in cells
                for dx, dy in steps
                if (x + dx, y + dy) in names
            ),
        ),
        goals=tuple(("at", package, names[goal]) for package in packages),
    )


class _Roads:
    """Shortest ways between cells, by breadth-first search from each asked-for origin."""

    def __init__(self, problem: Problem) -> None:
        self._next: dict[str, list[str]] = {}
        for a, b in facts_of(problem, "adjacent"):
            self._next.setdefault(a, []).append(b)
        self._ways: dict[str, dict[str, str]] = {}

    def path(self, origin: str, target: str) -> list[str] | None:
        """Cells after ``origin`` up to ``target``; None where there is no way."""
        if origin not in self._ways:
            came_from, waiting = {origin: ""}, deque([origin])
            while waiting:
                cell = waiting.popleft()
                for other in self._next.get(cell, ()):
                    if other not in came_from:
                        came_from[other] = cell
                        waiting.append(other)
            self._ways[origin] = came_from
        came_from, path = self._ways[origin], []
        if target not in came_from:
            return None
        while target != origin:
            path.append(target)
            target = came_from[target]
        return path[::-1]


def refer(problem: Problem) -> Reference | None:
    """A shortest plan for one truck and one goal cell; for several goal cells the nearest package first."""
    at, goal = pairs_of(problem, "at"), goal_pairs(problem, "at")
    trucks = [truck for (truck,) in facts_of(problem, "empty")]
    is_expected = has_plain_goal(problem, "at") and len(trucks) == 1 and not facts_of(problem, "carrying")
    if not is_expected or not set(goal) <= set(at) or trucks[0] in goal or trucks[0] not in at:
        return None
    truck, place, roads = trucks[0], at[trucks[0]], _Roads(problem)
    waiting = {package: cell for package, cell in goal.items() if at[package] != cell}
    is_optimal = len(set(waiting.values())) <= 1
    actions: list[Action] = []
    while waiting:
        # Only the first leg differs between orders where all packages go to one cell.
        def cost(package: str, place: str = place) -> int:
            there, back = roads.path(place, at[package]), roads.path(at[package], goal[package])
            return 10**9 if there is None or back is None else len(there) - (len(back) if is_optimal else 0)

        package = min(waiting, key=cost)
        if cost(package) == 10**9:
            return None
        actions += _drive(roads, truck, place, at[package])
        actions.append(("pick-package", truck, package, at[package]))
        actions += _drive(roads, truck, at[package], goal[package])
        actions.append(("drop-package", truck, package, goal[package]))
        place = waiting.pop(package)
    return Reference(actions=tuple(actions), is_optimal=is_optimal)


def drive(problem: Problem, truck: str, origin: str, target: str) -> Iterator[Action]:
    """Moves along a shortest way; none where there is no way."""
    return _drive(_Roads(problem), truck, origin, target)


def _drive(roads: _Roads, truck: str, origin: str, target: str) -> Iterator[Action]:
    for cell in roads.path(origin, target) or ():
        yield ("move", truck, origin, cell)
        origin = cell


def constrain(problem: Problem, random: Random) -> str | None:
    """After the truck has ever left one cell it must never be at another; half the time one on the reference's way."""
    reference, truck = refer(problem), facts_of(problem, "empty")[0][0]
    cells = list(problem.objects_of(("cell",)))
    path = [action[3] for action in reference.actions if action[0] == "move"] if reference else []
    if len(cells) < 2:
        return None
    left, shunned = random.sample(cells, 2)
    if len(path) > 1 and random.random() < 0.75:
        first = random.randrange(len(path) - 1)
        left, shunned = path[first], random.choice(path[first + 1 :])
    return f"(always (not (and (last {truck} {left}) (at {truck} {shunned}))))" if left != shunned else None


FAMILY = Family(
    name="delivery",
    text=DOMAIN,
    size_names=("s", "p"),
    stem=lambda sizes, seed: f"delivery-s{sizes['s']}-p{sizes['p']}-seed{seed}",
    draw=draw,
    sizes_of=lambda problem: {
        "s": math.sqrt(len(problem.objects_of(("cell",)))) if "cell" in problem.domain.types else 0.0,
        "p": len(problem.objects_of(("package",))) if "package" in problem.domain.types else 0,
    },
    refer=refer,
    constrain=constrain,
    implied=frozenset({"adjacent"}),
    silent=frozenset({"at"}),
)
