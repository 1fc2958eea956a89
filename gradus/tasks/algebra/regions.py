"""Sets of real numbers: unions of intervals and points with exact ends, in one canonical form.

A region is a sorted list of ends and the membership of each gap and each end, so union, intersection and complement are
one operation on flags, and two regions are equal if their lists are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cmp_to_key
from typing import Any

from gradus.tasks.algebra import numeric
from gradus.tasks.algebra.trees import INFINITY, NEGATIVE_INFINITY, Call, Node, Refusal, is_number, symbols

MAX_ENDS = 64


@dataclass(frozen=True, slots=True)
class Region:
    """Ends in rising order, and 2n + 1 flags: before the first end, at it, between it and the next, ..."""

    ends: tuple[Node, ...]
    flags: tuple[bool, ...]


EVERYTHING = Region((), (True,))
NOTHING = Region((), (False,))


def _real(node: Node) -> Any:
    """Value of an end. ``Refusal`` for what is not a real constant."""
    if symbols(node):
        raise Refusal("unsupported")
    numeric.check_constants(node)
    value = numeric.evaluate_constant(node)
    if getattr(value, "imag", 0) != 0:
        raise Refusal("unsupported")
    return value.real


def _compare(left: Node, right: Node) -> int:
    if is_number(left) and is_number(right):
        return (left > right) - (left < right)  # type: ignore[operator]
    first, second = _real(left), _real(right)
    return 0 if numeric.is_same(first, second) else 1 if first > second else -1


def interval(low: Node, is_low_closed: bool, high: Node, is_high_closed: bool) -> Region:
    """The interval between two ends, either of them possibly infinite (and then open). Empty if they are reversed."""
    if low == NEGATIVE_INFINITY and high == INFINITY:
        region = EVERYTHING
    elif low == NEGATIVE_INFINITY:
        region = Region((high,), (True, is_high_closed, False))
    elif high == INFINITY:
        region = Region((low,), (False, is_low_closed, True))
    else:
        order = _compare(low, high)
        if order < 0:
            return Region((low, high), (False, is_low_closed, True, is_high_closed, False))
        is_point = order == 0 and is_low_closed and is_high_closed
        return Region((low,), (False, True, False)) if is_point else NOTHING
    for end in region.ends:
        if isinstance(end, Call) and end in (INFINITY, NEGATIVE_INFINITY):
            return NOTHING
        _real(end)
    return region


def point(value: Node) -> Region:
    """The set of one number."""
    return interval(value, True, value, True)


def combine(left: Region, right: Region, operation: Callable[[bool, bool], bool]) -> Region:
    """The region whose membership is ``operation`` of the two memberships."""
    ends: list[Node] = []
    for end in sorted((*left.ends, *right.ends), key=cmp_to_key(_compare)):
        if not ends or _compare(ends[-1], end):
            ends.append(end)
    if len(ends) > MAX_ENDS:
        raise Refusal("too_large")
    flags = [operation(a, b) for a, b in zip(_spread(left, ends), _spread(right, ends), strict=True)]
    kept: list[Node] = []
    kept_flags = [flags[0]]
    for index, end in enumerate(ends):
        at, after = flags[2 * index + 1], flags[2 * index + 2]
        if not (kept_flags[-1] == at == after):
            kept.append(end)
            kept_flags += [at, after]
    return Region(tuple(kept), tuple(kept_flags))


def _spread(region: Region, ends: list[Node]) -> list[bool]:
    """The flags of ``region`` over a finer list of ends."""
    flags = [region.flags[0]]
    index = 0
    for end in ends:
        if index < len(region.ends) and _compare(region.ends[index], end) == 0:
            flags += region.flags[2 * index + 1 : 2 * index + 3]
            index += 1
        else:
            flags += [flags[-1], flags[-1]]
    return flags


def union(left: Region, right: Region) -> Region:
    """In either."""
    return combine(left, right, lambda a, b: a or b)


def intersection(left: Region, right: Region) -> Region:
    """In both."""
    return combine(left, right, lambda a, b: a and b)


def difference(left: Region, right: Region) -> Region:
    """In the first and not in the second."""
    return combine(left, right, lambda a, b: a and not b)


def equal(left: Region, right: Region) -> bool:
    """Whether the two are the same set."""
    return (
        left.flags == right.flags
        and len(left.ends) == len(right.ends)
        and all(_compare(a, b) == 0 for a, b in zip(left.ends, right.ends, strict=True))
    )
