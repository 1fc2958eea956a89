"""Countdown's search: is a target reachable from given numbers, and by which expression?

The search is directed by its goal: an expression that makes ``target`` ends in one operation between two parts of the
numbers. For every value of the smaller part there are at most six values that the larger part could need, so that only
parts of up to half of the numbers are ever enumerated: seven numbers are refuted in a fraction of a second.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache

from gradus.tasks.countdown.trees import ALL_OPERATORS, Tree, Value, larger_first, results

MAX_WORK = 2_000_000
"""Look-ups before a search gives up."""


class GaveUp(ValueError):
    """The search ended without an answer."""


def goals(value: Value, target: Value, operators: str, is_integer: bool = True) -> list[tuple[str, bool, Value]]:
    """Lists every ``(operator, value_is_left, goal)`` such that ``value`` and ``goal`` make ``target`` in one step.

    Left out is what needs no goal: zero times anything makes zero.
    """
    found: list[tuple[str, bool, Value]] = []
    if "+" in operators:
        found.append(("+", False, target - value))
    if "-" in operators and (target >= 0 or not is_integer):
        found += [("-", False, target + value), ("-", True, value - target)]
    if value == 0:
        return found
    if "*" in operators and not (is_integer and target % value):
        found.append(("*", False, target // value if is_integer else Fraction(target) / value))
    if "/" in operators:
        found.append(("/", False, target * value))
        if target != 0 and not (is_integer and value % target):
            found.append(("/", True, value // target if is_integer else Fraction(value) / target))
    return found


def solve(
    numbers: tuple[int, ...],
    target: int,
    *,
    operators: str = ALL_OPERATORS,
    is_integer: bool = True,
    max_work: int = MAX_WORK,
) -> Tree | None:
    """Returns an expression that uses each of ``numbers`` once and makes ``target``, or None where there is none.

    Sums and differences alone are tried first, so that what has a simple solution gets it. Raises GaveUp after
    ``max_work`` look-ups, which only the refutation of seven numbers with fractions, or of eight, can need.
    """
    simple = "".join(operator for operator in operators if operator in "+-")
    for allowed in dict.fromkeys((simple, operators)):
        tree = _Search(numbers, allowed, is_integer, max_work).tree((1 << len(numbers)) - 1, target)
        if tree is not None:
            return larger_first(tree)
    return None


class _Search:
    """One search; a part of the numbers is a bit mask of their places."""

    def __init__(self, numbers: tuple[int, ...], operators: str, is_integer: bool, max_work: int) -> None:
        self.numbers = numbers
        self.operators = operators
        self.is_integer = is_integer
        self.work_left = max_work
        self._values: dict[int, dict[Value, Tree]] = {}
        self._failed: set[tuple[int, Value]] = set()

    def values(self, mask: int) -> dict[Value, Tree]:
        """Every value that all numbers of the part can make, each with one tree."""
        found = self._values.get(mask)
        if found is not None:
            return found
        self._values[mask] = found = {}
        if mask.bit_count() == 1:
            number = self.numbers[mask.bit_length() - 1]
            found[number] = number
        for part, rest in _splits(mask):
            pairs = itertools.product(self.values(part).items(), self.values(rest).items())
            for (a, tree_a), (b, tree_b) in pairs:
                for operator, left, _, value in results(a, b, self.operators, self.is_integer):
                    if value not in found:
                        found[value] = (operator, tree_a, tree_b) if left == a else (operator, tree_b, tree_a)
        return found

    def tree(self, mask: int, target: Value) -> Tree | None:
        """A tree of all numbers of the part that makes ``target``, or None."""
        if mask.bit_count() <= max(2, len(self.numbers) // 2):
            return self.values(mask).get(target)
        if (mask, target) in self._failed:
            return None
        for part, rest in _splits(mask):
            for value, small_tree in self.values(part).items():
                found = self._complete(rest, value, small_tree, target)
                if found is not None:
                    return found
        self._failed.add((mask, target))
        return None

    def _complete(self, rest: int, value: Value, small_tree: Tree, target: Value) -> Tree | None:
        """Joins the part that made ``value`` with a tree of the ``rest`` so that both make ``target``."""
        for operator, is_left, goal in goals(value, target, self.operators, self.is_integer):
            self.work_left -= 1
            if self.work_left < 0:
                raise GaveUp(f"no solution found for numbers={list(self.numbers)} before the search gave up; use fewer")
            large_tree = self.tree(rest, goal)
            if large_tree is not None:
                return (operator, small_tree, large_tree) if is_left else (operator, large_tree, small_tree)
        return self._vanish(rest, small_tree) if value == 0 == target else None

    def _vanish(self, rest: int, zero: Tree) -> Tree | None:
        """Multiplies a tree that makes zero with the product of the ``rest``."""
        if "*" not in self.operators:
            return None
        for place, number in enumerate(self.numbers):
            if rest >> place & 1:
                zero = ("*", zero, number)
        return zero


@lru_cache(maxsize=1 << 10)
def _splits(mask: int) -> tuple[tuple[int, int], ...]:
    """Both parts of every division of ``mask`` in two, smaller part first, single numbers first."""
    pairs = []
    part = (mask - 1) & mask
    while part:
        rest = mask ^ part
        if (part.bit_count(), part) < (rest.bit_count(), rest):
            pairs.append((part, rest))
        part = (part - 1) & mask
    return tuple(sorted(pairs, key=lambda pair: (pair[0].bit_count(), pair[0])))


def subsets(numbers: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Every non-empty choice of the numbers, large ones first."""
    for size in range(len(numbers), 0, -1):
        yield from itertools.combinations(numbers, size)


# ---------------------------------------------------------------- the generator's test, in microseconds


def is_reachable(numbers: tuple[int, ...], target: int, operators: str = ALL_OPERATORS) -> bool:
    """Whether all ``numbers`` together make ``target`` under the integer rule.

    Zeros need the complete search, for a product with zero has no goal of its own. A search that gives up counts as no.
    """
    if 0 not in numbers and target != 0:
        if len(numbers) == 3:
            return _reaches_three(*numbers, target, operators)
        if len(numbers) == 4:
            return _reaches_four(numbers, target, operators)
    try:
        return solve(numbers, target, operators=operators, max_work=50_000) is not None
    except GaveUp:
        return False


@lru_cache(maxsize=1 << 16)
def _result_values(a: int, b: int, operators: str) -> frozenset[Value]:
    return frozenset(value for *_, value in results(a, b, operators))


@lru_cache(maxsize=1 << 16)
def _goal_values(value: Value, target: Value, operators: str) -> frozenset[Value]:
    return frozenset(goal for *_, goal in goals(value, target, operators))


def _reaches_three(a: int, b: int, c: int, target: Value, operators: str) -> bool:
    return not (
        _goal_values(c, target, operators).isdisjoint(_result_values(a, b, operators))
        and _goal_values(b, target, operators).isdisjoint(_result_values(a, c, operators))
        and _goal_values(a, target, operators).isdisjoint(_result_values(b, c, operators))
    )


def _reaches_four(numbers: tuple[int, ...], target: int, operators: str) -> bool:
    for index, last in enumerate(numbers):
        a, b, c = numbers[:index] + numbers[index + 1 :]
        if any(_reaches_three(a, b, c, goal, operators) for goal in _goal_values(last, target, operators)):
            return True
    a, b, c, d = numbers
    return any(
        not _goal_values(value, target, operators).isdisjoint(_result_values(*others, operators))
        for pair, others in (((a, b), (c, d)), ((a, c), (b, d)), ((a, d), (b, c)))
        for value in _result_values(*pair, operators)
    )
