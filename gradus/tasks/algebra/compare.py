"""Are two values equal? One rule per pair of kinds; every rule is symmetric; nothing is equal by a part of itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gradus.tasks.algebra import conditions, labels, numeric, regions
from gradus.tasks.algebra.quantities import Quantity, equal_quantities, equal_values
from gradus.tasks.algebra.trees import Node, Refusal, add, divide, is_number, multiply, negate
from gradus.tasks.algebra.values import (
    Based,
    Clock,
    Collection,
    Condition,
    Equation,
    Labelled,
    Matrix,
    Opaque,
    Ratio,
    Reals,
    Relation,
    Value,
    Words,
)

_OF_SETS = (Reals, Condition)
_ORDER = (Quantity, Words, Ratio, Based, Clock, Collection, Reals, Condition, Equation, Labelled, Matrix, Opaque)


class Verdict(NamedTuple):
    """``method``: the tier that decided; ``why``: an equality code."""

    equal: bool
    method: str
    why: str


_DIFFERENT_KIND = Verdict(False, "kind", "different_kind")


def compare(left: Value, right: Value) -> Verdict:
    """Decides, or answers with the code of the limit or the gap in the grammar that stopped it."""
    try:
        return _compare(left, right)
    except Refusal as refusal:
        return Verdict(False, "none", refusal.code)


def _compare(left: Value, right: Value) -> Verdict:
    if _ORDER.index(type(left)) > _ORDER.index(type(right)):
        left, right = right, left
    if isinstance(right, Opaque):
        codes = sorted(value.code for value in (left, right) if isinstance(value, Opaque))
        return Verdict(False, "none", codes[0])
    if (verdict := _compare_labelled(left, right)) is not None:
        return verdict
    if isinstance(left, Quantity) and isinstance(right, Quantity):
        equal, why = equal_quantities(left, right)
        if why == "unit_conflict":
            return Verdict(False, "kind", why)
        return Verdict(equal, "rational" if is_number(left.tree) and is_number(right.tree) else "numeric", why)
    if isinstance(left, _OF_SETS) or isinstance(right, _OF_SETS):
        return _compare_reals(left, right)
    if isinstance(left, Collection) and isinstance(right, Collection):
        return _structure(_equal_collections(left, right))
    if isinstance(left, Matrix) and isinstance(right, Matrix):
        return _structure(
            [len(row) for row in left.rows] == [len(row) for row in right.rows]
            and all(_all_equal(a, b) for a, b in zip(left.rows, right.rows, strict=True))
        )
    if isinstance(left, Equation) and isinstance(right, Equation):
        return _relation(_same_equation(left, right))
    return _compare_simple(left, right)


def _compare_simple(left: Value, right: Value) -> Verdict:
    """Kinds without recursion, and the bridges between kinds."""
    match left, right:
        case Words(), Words():
            return Verdict(left == right, "text", "same_text" if left == right else "different_value")
        case Ratio(), Ratio():
            same = len(left.parts) == len(right.parts) and all(
                equal_values(multiply(a, right.parts[0]), multiply(b, left.parts[0]))
                for a, b in zip(left.parts, right.parts, strict=True)
            )
            return _value(same)
        case Quantity(), Ratio() if len(right.parts) == 2:
            return _value(equal_values(left.tree, divide(*right.parts), left.num_decimals))
        case Based(), Based():
            return _value(left.value == right.value)
        case Quantity(), Based():
            written = int(right.digits) if right.digits.isdigit() else right.value
            return _value(left.tree in (written, right.value))
        case Clock(), Clock():
            same = (left.hour, left.minute) == (right.hour, right.minute)
            return _value(same and (left.half == right.half or not (left.half and right.half)))
        case Collection(kind="tuple", brackets="()"), Matrix() if all(len(row) == 1 for row in right.rows):
            return _structure(_all_equal(left.items, [row[0] for row in right.rows]))
    return _DIFFERENT_KIND


def _value(equal: bool) -> Verdict:
    return Verdict(equal, "rational", "same_value" if equal else "different_value")


def _structure(equal: bool) -> Verdict:
    return Verdict(equal, "structure", "same_structure" if equal else "different_structure")


def _relation(equal: bool) -> Verdict:
    return Verdict(equal, "relation", "same_structure" if equal else "different_structure")


def _all_equal(left: Sequence[Value], right: Sequence[Value]) -> bool:
    return len(left) == len(right) and all(_compare(a, b).equal for a, b in zip(left, right, strict=True))


def _same_set(left: Sequence[Value], right: Sequence[Value]) -> bool:
    """Unordered, duplicates once."""
    return all(any(_compare(a, b).equal for b in right) for a in left) and all(
        any(_compare(a, b).equal for a in left) for b in right
    )


def _equal_collections(left: Collection, right: Collection) -> bool:
    if left.kind == right.kind == "tuple":
        return left.brackets == right.brackets and _all_equal(left.items, right.items)
    if "tuple" in (left.kind, right.kind):
        pair, plain = (left, right) if left.kind == "tuple" else (right, left)
        is_plain = pair.brackets == "()" or (pair.brackets == "[]" and len(pair.items) > 2)
        return plain.kind == "list" and is_plain and _all_equal(pair.items, plain.items)
    return _same_set(left.items, right.items)


def _compare_labelled(left: Value, right: Value) -> Verdict | None:
    """Labels: equal ones must agree in value; one label alone is dropped; several labels are a record."""
    first, second = _record(left), _record(right)
    if first and second:
        same = first.keys() == second.keys() and all(_compare(first[name], second[name]).equal for name in first)
        return _structure(same)
    if first or second:
        record, other = (first, right) if first else (second, left)
        assert record is not None
        verdict = _compare_record(record, other)
        if verdict is not None:
            return verdict
    if not isinstance(right, Labelled):  # Labelled is ordered behind everything but Matrix and Opaque
        return _compare(left.value, right) if isinstance(left, Labelled) else None
    if isinstance(left, Labelled):
        if left.label == right.label:
            return _compare(left.value, right.value)
        if left.equation and right.equation:
            return _relation(_same_equation(left.equation, right.equation))
        return Verdict(False, "structure", "different_structure")
    if isinstance(left, Equation):
        return _relation(_same_equation(left, right.equation)) if right.equation else _DIFFERENT_KIND
    return _compare(left, right.value)


def _record(value: Value) -> dict[str, Value] | None:
    """Label to value, for ``x = 1, y = 2`` and ``(x, y) = (1, 2)``."""
    if isinstance(value, Collection) and len(value.items) > 1:
        record = {item.label: item.value for item in value.items if isinstance(item, Labelled)}
        return record if len(record) == len(value.items) else None
    if isinstance(value, Labelled):
        names, inner = labels.parts(value.label), value.value
        if len(names) > 1 and isinstance(inner, Collection) and len(inner.items) == len(names):
            return dict(zip(names, inner.items, strict=True))
    return None


def _compare_record(record: dict[str, Value], other: Value) -> Verdict | None:
    """A record against values without labels: in order; if the labels are x_1, x_2, ... unordered."""
    names = list(record)
    is_indexed = labels.is_indexed(names)
    if isinstance(other, Labelled) and is_indexed and other.label == labels.base(names[0]):
        other = other.value
    if not isinstance(other, Collection) or any(isinstance(item, (Labelled, Equation)) for item in other.items):
        return None
    if is_indexed and other.kind != "tuple":
        return _structure(_same_set(list(record.values()), other.items))
    return _structure(other.kind != "set" and _all_equal(list(record.values()), other.items))


def _same_equation(left: Equation, right: Equation) -> bool:
    """Whether the differences of the sides are proportional."""
    return numeric.proportion(_gap(left), _gap(right)) is not None


def _gap(sides: Equation | Relation) -> Node:
    return add(sides.left, negate(sides.right))


def _compare_reals(left: Value, right: Value) -> Verdict:
    """Sets of reals by region; conditions that are none (two variables, not linear) relation by relation."""
    first, second = conditions.as_reals(left), conditions.as_reals(right)
    if first is not None and second is not None:
        is_other = first.variable and second.variable and first.variable != second.variable
        return _relation(not is_other and regions.equal(first.region, second.region))
    if isinstance(left, Condition) and isinstance(right, Condition):
        same = left.is_all == right.is_all and len(left.relations) == len(right.relations)
        return _relation(same and _same_relations(left.relations, right.relations))
    return _DIFFERENT_KIND


def _same_relations(left: Sequence[Relation], right: Sequence[Relation]) -> bool:
    return all(any(_same_relation(a, b) for b in right) for a in left) and all(
        any(_same_relation(a, b) for a in left) for b in right
    )


def _same_relation(left: Relation, right: Relation) -> bool:
    """Mirrored and rescaled forms; a negative factor turns an inequality round, so it must be positive there."""
    if left.mark != right.mark:
        return False
    ratio = numeric.proportion(_gap(left), _gap(right))
    return ratio is not None and (left.mark == r"\ne" or (getattr(ratio, "imag", 0) == 0 and ratio.real > 0))
