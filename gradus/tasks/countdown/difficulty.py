"""How rare a solution is: the share of all ways to combine the numbers that hit the target."""

from __future__ import annotations

import itertools
import math
import random

from gradus.seeds import seed_of
from gradus.tasks.countdown.trees import ALL_OPERATORS, Value, results

NUM_EXACT = 5
"""Up to so many numbers every combination is counted; above, it is a seeded estimate."""
NUM_BEGINNINGS = 400
"""Random beginnings of an estimate, each continued in every way from its last three numbers on."""


def difficulty(numbers: tuple[int, ...], target: int, operators: str = ALL_OPERATORS) -> float:
    """Returns min(1, -log10(p) / 4) in [0, 1]; p is the share of combinations that hit ``target``.

    A combination is a sequence of steps under the integer rule until one number is left. 1.0 where none hits.
    """
    if len(numbers) <= NUM_EXACT:
        num_hits, num_all = _count(numbers, target, operators)
    else:
        rng = random.Random(seed_of("countdown-difficulty", target, *numbers))
        counts = [_count(_reduced(numbers, rng, operators), target, operators) for _ in range(NUM_BEGINNINGS)]
        num_hits, num_all = sum(hits for hits, _ in counts), sum(total for _, total in counts)
    return min(1.0, -math.log10(num_hits / num_all) / 4) if num_hits else 1.0


def _count(numbers: tuple[Value, ...], target: int, operators: str) -> tuple[int, int]:
    """How many combinations of ``numbers`` hit ``target``, and how many there are."""
    if len(numbers) < 2:
        return int(numbers == (target,)), 1
    if len(numbers) == 2:
        return _count_pair(*numbers, target, operators)
    num_hits = num_all = 0
    for i, j in itertools.combinations(range(len(numbers)), 2):
        rest = numbers[:i] + numbers[i + 1 : j] + numbers[j + 1 :]
        for *_, value in results(numbers[i], numbers[j], operators):
            hits, total = _count((*rest, value), target, operators)
            num_hits, num_all = num_hits + hits, num_all + total
    return num_hits, num_all


def _count_pair(a: Value, b: Value, target: int, operators: str) -> tuple[int, int]:
    """The innermost count, spelled out for speed: as ``results``, without its lists."""
    if a < b:
        a, b = b, a
    num_hits = num_all = 0
    if "+" in operators:
        num_all, num_hits = num_all + 1, num_hits + (a + b == target)
    if "-" in operators:
        num_all, num_hits = num_all + 1, num_hits + (a - b == target)
    if "*" in operators:
        num_all, num_hits = num_all + 1, num_hits + (a * b == target)
    if "/" in operators and b and not a % b:
        num_all, num_hits = num_all + 1, num_hits + (a // b == target)
    if "/" in operators and a and not b % a and a != b:
        num_all, num_hits = num_all + 1, num_hits + (b // a == target)
    return num_hits, num_all


def _reduced(numbers: tuple[Value, ...], rng: random.Random, operators: str) -> tuple[Value, ...]:
    """Combines random pairs by random steps until three numbers are left; () where no step is possible."""
    while len(numbers) > 3:
        shuffled = sorted(numbers, key=lambda _: rng.random())
        made = results(shuffled[0], shuffled[1], operators)
        if not made:
            return ()
        numbers = (*shuffled[2:], made[int(rng.random() * len(made))][3])
    return numbers
