"""Relations as sets of reals: x > 3, 2 <= x < 5, |x - 1| < 2, x != 4, and what they make together."""

from __future__ import annotations

from collections.abc import Sequence

from gradus.tasks.algebra import numeric, regions
from gradus.tasks.algebra.quantities import Quantity
from gradus.tasks.algebra.regions import EVERYTHING, NOTHING, Region, interval
from gradus.tasks.algebra.trees import (
    INFINITY,
    NEGATIVE_INFINITY,
    Call,
    Node,
    Refusal,
    Symbol,
    add,
    divide,
    multiply,
    negate,
    rebuild,
    symbols,
)
from gradus.tasks.algebra.values import Collection, Condition, Reals, Relation, Value


def as_reals(value: Value) -> Reals | None:
    """The set of reals that a value states: a region, an interval, conditions on one variable, a finite set."""
    try:
        if isinstance(value, Reals):
            return value
        if isinstance(value, Condition):
            return _of_condition(value)
        if isinstance(value, Collection):
            return _of_collection(value)
    except Refusal:
        pass
    return None


def _of_collection(value: Collection) -> Reals | None:
    trees = [item.tree for item in value.items if isinstance(item, Quantity)]
    if len(trees) < len(value.items):
        return None
    if value.kind == "tuple" and len(trees) == 2:
        return Reals(interval(trees[0], value.brackets[0] == "[", trees[1], value.brackets[1] == "]"))
    if value.kind == "set":
        region = NOTHING
        for tree in trees:
            region = regions.union(region, regions.point(tree))
        return Reals(region)
    return None


def _of_condition(condition: Condition) -> Reals | None:
    region = EVERYTHING if condition.is_all else NOTHING
    names: set[str] = set()
    for relation in condition.relations:
        names |= symbols(relation.left) | symbols(relation.right)
        if len(names) != 1:
            return None
        part = _of_relation(relation, Symbol(next(iter(names))))
        if part is None:
            return None
        region = (regions.intersection if condition.is_all else regions.union)(region, part)
    return Reals(region, next(iter(names)))


def _of_relation(relation: Relation, variable: Symbol) -> Region | None:
    """The solutions of one relation that is linear in its variable, or linear inside one absolute value."""
    left, right, is_closed = relation.left, relation.right, relation.mark == r"\le"
    for side, other, is_inside in ((left, right, True), (right, left, False)):
        if isinstance(side, Call) and side.op == "abs" and not symbols(other) and relation.mark != r"\ne":
            low = _half_line(side.args[0], negate(other), variable, is_below=False, is_closed=is_closed == is_inside)
            high = _half_line(side.args[0], other, variable, is_below=True, is_closed=is_closed == is_inside)
            if low is None or high is None:
                return None
            inside = regions.intersection(low, high)
            return inside if is_inside else regions.difference(EVERYTHING, inside)
    if relation.mark == r"\ne":
        below = _half_line(left, right, variable, is_below=True, is_closed=False)
        above = _half_line(left, right, variable, is_below=False, is_closed=False)
        return None if below is None or above is None else regions.union(below, above)
    return _half_line(left, right, variable, is_below=True, is_closed=is_closed)


def _half_line(left: Node, right: Node, variable: Symbol, *, is_below: bool, is_closed: bool) -> Region | None:
    """Where ``left`` is below (or above) ``right``; None if their difference is not linear in the variable."""
    if right == variable:
        left, right, is_below = right, left, not is_below
    if left == variable and not symbols(right):
        end = right
    else:
        if INFINITY in (left, right) or NEGATIVE_INFINITY in (left, right):
            return None
        gap = add(left, negate(right))
        constant = rebuild(gap, {variable: 0})
        slope = add(rebuild(gap, {variable: 1}), negate(constant))
        for at in (2, -3):
            line = add(constant, multiply(at, slope))
            if not numeric.equal(rebuild(gap, {variable: at}), line):
                return None
        value = numeric.evaluate_constant(slope)
        if value == 0 or getattr(value, "imag", 0) != 0:
            return None
        is_below = is_below == (value.real > 0)
        end = negate(divide(constant, slope))
    if is_below:
        return interval(NEGATIVE_INFINITY, False, end, is_closed)
    return interval(end, is_closed, INFINITY, False)


def join(values: Sequence[Value], found: Sequence[str]) -> Value:
    """Conditions side by side. A bare comma is "or" if nothing meets all of them (x < -1, x > 3), else "and"."""
    sets = [as_reals(value) for value in values]
    known = [one for one in sets if one is not None]
    if len(known) == len(sets) and len({one.variable for one in known}) == 1:
        both, either = known[0].region, known[0].region
        for one in known[1:]:
            both, either = regions.intersection(both, one.region), regions.union(either, one.region)
        is_or = r"\lor" in found or (r"\land" not in found and regions.equal(both, NOTHING))
        return Reals(either if is_or else both, known[0].variable)
    if not all(isinstance(value, Condition) and value.is_all for value in values):
        return Collection("list", tuple(values))
    relations = [value.relations for value in values if isinstance(value, Condition)]
    if r"\lor" in found and any(len(group) > 1 for group in relations):
        raise Refusal("unsupported")
    return Condition(tuple(relation for group in relations for relation in group), r"\lor" not in found)
