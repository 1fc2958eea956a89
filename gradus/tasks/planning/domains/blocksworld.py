"""Blocksworld with four actions: towers of blocks, one hand.

Random states are uniform: a state is a set of ordered towers, and A(n) = sum over k of C(n-1, k-1) k! A(n-k) counts
them (1, 1, 3, 13, 73, 501, ..): the tower of the lowest block that has no tower yet has k blocks with probability
C(m-1, k-1) k! A(m-k) / A(m), its other members and its order being uniform.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import math
from collections.abc import Iterator
from random import Random

from gradus.tasks.planning.conditions import Fact
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

DOMAIN = """(define (domain blocksworld)
  (:requirements :strips)
  (:predicates (clear ?x) (on-table ?x) (arm-empty) (holding ?x) (on ?x ?y))
  (:action pickup
    :parameters (?x)
    :precondition (and (clear ?x) (on-table ?x) (arm-empty))
    :effect (and (holding ?x) (not (clear ?x)) (not (on-table ?x)) (not (arm-empty))))
  (:action putdown
    :parameters (?x)
    :precondition (holding ?x)
    :effect (and (clear ?x) (arm-empty) (on-table ?x) (not (holding ?x))))
  (:action stack
    :parameters (?x ?y)
    :precondition (and (clear ?y) (holding ?x))
    :effect (and (arm-empty) (clear ?x) (on ?x ?y) (not (clear ?y)) (not (holding ?x))))
  (:action unstack
    :parameters (?x ?y)
    :precondition (and (on ?x ?y) (clear ?x) (arm-empty))
    :effect (and (holding ?x) (clear ?y) (not (on ?x ?y)) (not (clear ?x)) (not (arm-empty)))))
"""
TABLE = ""
MAX_EXACT = 6
"""Blocks up to which the reference plan is a shortest one."""

Below = dict[str, str]
"""Block to what it stands on."""


@functools.cache
def num_states(num_blocks: int) -> int:
    """Number of sets of ordered towers of so many blocks."""
    if num_blocks == 0:
        return 1
    return sum(_weight(num_blocks, size) for size in range(1, num_blocks + 1))


def _weight(num_blocks: int, size: int) -> int:
    return math.comb(num_blocks - 1, size - 1) * math.factorial(size) * num_states(num_blocks - size)


def random_towers(num_blocks: int, random: Random) -> list[list[int]]:
    """A uniform state: towers of the numbers 1..num_blocks, bottom first."""
    free, towers = list(range(1, num_blocks + 1)), []
    while free:
        ticket, size = random.randrange(num_states(len(free))), 1
        while ticket >= _weight(len(free), size):
            ticket -= _weight(len(free), size)
            size += 1
        others = free[1:]
        random.shuffle(others)
        tower = [free[0], *others[: size - 1]]
        random.shuffle(tower)
        towers.append(tower)
        free = sorted(others[size - 1 :])
    return towers


def _facts(towers: list[list[int]]) -> Iterator[Fact]:
    for tower in sorted(towers, key=min):
        yield ("on-table", f"b{tower[0]}")
        for lower, upper in itertools.pairwise(tower):
            yield ("on", f"b{upper}", f"b{lower}")


def draw(sizes: Sizes, random: Random) -> Layout:
    """Two independent uniform states; the goal says where every block stands."""
    start, goal = random_towers(sizes["n"], random), random_towers(sizes["n"], random)
    return Layout(
        objects=tuple((f"b{number}", "") for number in range(1, sizes["n"] + 1)),
        facts=(("arm-empty",), *_facts(start), *(("clear", f"b{tower[-1]}") for tower in sorted(start, key=min))),
        goals=tuple(_facts(goal)),
    )


def refer(problem: Problem) -> Reference | None:
    """Puts clear blocks straight on their final place where that is ready, else a misplaced one on the table: at most
    twice the shortest plan; a shortest one up to six blocks where the goal says where every block stands."""
    if not has_plain_goal(problem, "on", "on-table", "clear", "arm-empty") or facts_of(problem, "holding"):
        return None
    below: Below = {block: TABLE for (block,) in facts_of(problem, "on-table")}
    below |= pairs_of(problem, "on")
    goal: Below = {block: TABLE for (block,) in goal_facts(problem, "on-table")}
    goal |= goal_pairs(problem, "on")
    kept_clear = frozenset(block for (block,) in goal_facts(problem, "clear"))
    if set(below) != set(problem.objects) or _has_cycle(goal):
        return None
    is_exact = len(below) <= MAX_EXACT and set(goal) == set(below)
    moves = _shortest(below, goal) if is_exact else _greedy(below, goal, kept_clear)
    return Reference(actions=tuple(_actions(below, moves)), is_optimal=is_exact)


def _has_cycle(goal: Below) -> bool:
    for block in goal:
        at, num_steps = block, 0
        while at in goal and num_steps <= len(goal):
            at, num_steps = goal[at], num_steps + 1
        if num_steps > len(goal):
            return True
    return False


def _final(below: Below, goal: Below, kept_clear: frozenset[str]) -> set[str]:
    """Blocks that need never move: they and all under them stand where the goal wants them."""
    wanted_above = {lower: upper for upper, lower in goal.items() if lower != TABLE}
    above = {lower: upper for upper, lower in below.items() if lower != TABLE}
    final: set[str] = set()
    for block in (block for block, lower in below.items() if lower == TABLE):
        at: str | None = block
        while at is not None and goal.get(at, below[at]) == below[at]:
            lower = below[at]
            if lower != TABLE and (wanted_above.get(lower, at) != at or lower in kept_clear):
                break
            final.add(at)
            at = above.get(at)
    return final


def _options(below: Below, goal: Below, final: set[str]) -> Iterator[tuple[str, str]]:
    """Moves worth making: a clear misplaced block to its ready final place, or to the table."""
    covered = set(below.values())
    for block, lower in below.items():
        if block in covered or block in final:
            continue
        target = goal.get(block, TABLE)
        if target == TABLE or (target in final and target not in covered):
            yield block, target
        elif lower != TABLE:
            yield block, TABLE


def _greedy(below: Below, goal: Below, kept_clear: frozenset[str]) -> list[tuple[str, str]]:
    below, moves = dict(below), []
    while len(final := _final(below, goal, kept_clear)) < len(below):
        options = list(_options(below, goal, final))
        block, target = next((move for move in options if move[1] == goal.get(move[0], TABLE)), options[0])
        moves.append((block, target))
        below[block] = target
    return moves


def _shortest(below: Below, goal: Below) -> list[tuple[str, str]]:
    """A* over states; misplaced blocks are a lower bound, as each must move."""
    names = sorted(below)
    start = tuple(below[name] for name in names)
    queue = [(len(names) - len(_final(below, goal, frozenset())), 0, start)]
    best: dict[tuple[str, ...], tuple[int, list[tuple[str, str]]]] = {start: (0, [])}
    while True:
        bound, _, state = heapq.heappop(queue)
        num_moves, moves = best[state]
        at = dict(zip(names, state, strict=True))
        final = _final(at, goal, frozenset())
        if len(final) == len(names):
            return moves
        if bound > num_moves + len(names) - len(final):
            continue
        for block, target in _options(at, goal, final):
            after = {**at, block: target}
            key = tuple(after[name] for name in names)
            if key not in best or num_moves + 1 < best[key][0]:
                best[key] = (num_moves + 1, [*moves, (block, target)])
                estimate = num_moves + 1 + len(names) - len(_final(after, goal, frozenset()))
                heapq.heappush(queue, (estimate, -num_moves, key))


def _actions(below: Below, moves: list[tuple[str, str]]) -> Iterator[Action]:
    below = dict(below)
    for block, target in moves:
        yield ("pickup", block) if below[block] == TABLE else ("unstack", block, below[block])
        yield ("putdown", block) if target == TABLE else ("stack", block, target)
        below[block] = target


def constrain(problem: Problem, random: Random) -> str | None:
    """``sometime-before``: one goal pair may only be stacked when another has stood before."""
    pairs = goal_facts(problem, "on")
    if len(pairs) < 2:
        return None
    late, early = random.sample(pairs, 2)
    return f"(sometime-before (on {' '.join(late)}) (on {' '.join(early)}))"


FAMILY = Family(
    name="blocksworld",
    text=DOMAIN,
    size_names=("n",),
    stem=lambda sizes, seed: f"bw_ops4_n{sizes['n']}_seed{seed}",
    draw=draw,
    sizes_of=lambda problem: {"n": len(problem.objects)},
    refer=refer,
    constrain=constrain,
    silent=frozenset({"on"}),
    hosted_goals=frozenset({"on"}),
)
