"""Countdown problems drawn from seeds, and the split that a problem belongs to wherever it came from.

The distribution is that of the published three-to-four-number set (made with the generator of Stream of Search,
arXiv 2404.03683): the count and the target are uniform, and the numbers are drawn again, the target fixed, until the
target is reachable with all of them under the integer rule.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

from gradus.seeds import seed_of
from gradus.tasks.countdown.solver import GaveUp, is_reachable, solve
from gradus.types import Split

MAX_TRIES = 200_000
"""Draws for one problem before the options are called infeasible, or the supply of new problems exhausted."""
MAX_TRIES_OF_TARGET = 20_000
"""Draws of numbers for one count and target before both are given up and drawn anew."""
DRAWS_PER_HELD_OUT = 50
"""Draws that make one try in a split which holds 2 % of all problems."""
NUM_SWEEPS = 5
"""No more draws than so many times all there is to draw: then one that was missed had a chance below e^-5 per order."""


def split_of(numbers: tuple[int, ...], target: int) -> Split:
    """Returns the split of a problem: 2 % test, 2 % validation, by a hash of the target and the sorted numbers.

    A function of the key alone: no source, seed, order of numbers or order of rows can put it in two splits.
    """
    key = f"{target}|{','.join(map(str, sorted(numbers)))}".encode()
    share = int.from_bytes(blake2b(key, digest_size=4).digest(), "little") * 100 >> 32
    return "test" if share < 2 else "validation" if share < 4 else "train"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """What is drawn; all ranges are inclusive."""

    num_numbers: tuple[int, int]
    numbers: tuple[int, int]
    target: tuple[int, int]
    operators: str
    is_integer: bool
    """Whether a problem counts as solvable under the integer rule, or also by way of fractions."""
    seed: int


def draw(ranges: Ranges, split: Split, limit: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """Yields up to ``limit`` distinct ``(numbers, target)`` of ``split``, each drawn from the seed of its index.

    Stops with one warning when new ones can no longer be found; ValueError where there are none at all.
    """
    seen: set[tuple[int, ...]] = set()
    hopeless: set[tuple[int, int]] = set()
    for index in range(limit):
        rng = random.Random(seed_of("countdown", ranges.seed, split, index))
        found = _draw_one(ranges, split, rng, seen, hopeless)
        if found is None and not seen:
            raise ValueError(
                f"none of {MAX_TRIES:,} draws with number_range={ranges.numbers}, target_range={ranges.target}, "
                f"operators={ranges.operators!r} is a solvable {split} problem; widen number_range, or bring "
                "target_range closer to what the numbers can make"
            )
        if found is None:
            warnings.warn(
                f"countdown: {limit:,} {split} problems were asked for, and only {len(seen):,} distinct ones were "
                "found; widen number_range or target_range to get more",
                stacklevel=2,
            )
            return
        yield found


def _draw_one(
    ranges: Ranges, split: Split, rng: random.Random, seen: set[tuple[int, ...]], hopeless: set[tuple[int, int]]
) -> tuple[tuple[int, ...], int] | None:
    low, span = ranges.numbers[0], ranges.numbers[1] - ranges.numbers[0] + 1
    num_tries = 0
    while num_tries < MAX_TRIES:
        count, target = _uniform(rng, ranges.num_numbers), _uniform(rng, ranges.target)
        num_tries += 1
        if (count, target) in hopeless:
            continue
        num_draws = MAX_TRIES_OF_TARGET * (1 if split == "train" else DRAWS_PER_HELD_OUT)
        for _ in range(min(num_draws, NUM_SWEEPS * span**count)):
            numbers = tuple([low + int(rng.random() * span) for _ in range(count)])
            if not _fits(ranges, split, numbers, target):
                continue
            key = (target, *sorted(numbers))
            if key not in seen:
                seen.add(key)
                return numbers, target
        hopeless.add((count, target))
        num_tries += MAX_TRIES_OF_TARGET
    return None


def _uniform(rng: random.Random, bounds: tuple[int, int]) -> int:
    """Drawn from ``random()``, the one method whose numbers Python promises to keep."""
    return bounds[0] + int(rng.random() * (bounds[1] - bounds[0] + 1))


def _fits(ranges: Ranges, split: Split, numbers: tuple[int, ...], target: int) -> bool:
    """Whether the problem is in the split and solvable: the rarer property first."""
    if split == "train":
        return _is_solvable(ranges, numbers, target) and split_of(numbers, target) == split
    return split_of(numbers, target) == split and _is_solvable(ranges, numbers, target)


def _is_solvable(ranges: Ranges, numbers: tuple[int, ...], target: int) -> bool:
    if is_reachable(numbers, target, ranges.operators):
        return True
    return not ranges.is_integer and _needs_fractions(tuple(sorted(numbers)), target, ranges.operators)


@lru_cache(maxsize=1 << 16)
def _needs_fractions(numbers: tuple[int, ...], target: int, operators: str) -> bool:
    try:
        return solve(numbers, target, operators=operators, is_integer=False, max_work=20_000) is not None
    except GaveUp:
        return False
