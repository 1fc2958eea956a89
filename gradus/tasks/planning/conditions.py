"""Ground conditions and numbers: what is evaluated in a state. Atoms are small integers, a state is a set of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from gradus.tasks.planning.formula import Arithmetic, Expression, Fluent, Number, PlanLength

Fact = tuple[str, ...]
"""A ground atom or fluent: its predicate (function) and its objects."""
Facts = set[int] | frozenset[int]
Numbers = Mapping[Fact, float]


class Inapplicable(Exception):
    """An action cannot be executed for a reason other than a false condition; ``code`` as in a verdict."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Group:
    """A conjunction or disjunction of literals and further nodes."""

    __slots__ = ("is_all", "negative", "positive", "rest")

    def __init__(self, is_all: bool, positive: Iterable[int], negative: Iterable[int], rest: Iterable[Node]) -> None:
        self.is_all = is_all
        self.positive = frozenset(positive)
        self.negative = frozenset(negative)
        self.rest = tuple(rest)

    def holds(self, facts: Facts, numbers: Numbers) -> bool:
        """Whether it is true in a state. Raises Inapplicable where that depends on a number that is undefined."""
        if self.is_all:
            if not (self.positive <= facts and self.negative.isdisjoint(facts)):
                return False
        elif not self.positive.isdisjoint(facts) or not self.negative <= facts:
            return True
        return self._rest_holds(facts, numbers) if self.rest else self.is_all

    def _rest_holds(self, facts: Facts, numbers: Numbers) -> bool:
        """Three-valued: a part that is undefined matters only where no other part decides."""
        undefined: Inapplicable | None = None
        for node in self.rest:
            try:
                if node.holds(facts, numbers) != self.is_all:
                    return not self.is_all
            except Inapplicable as error:
                undefined = error
        if undefined is not None:
            raise undefined
        return self.is_all


class Comparison:
    """A comparison of two ground expressions, possibly negated."""

    __slots__ = ("comparator", "is_negated", "left", "right")

    def __init__(self, comparator: str, left: Expression, right: Expression, is_negated: bool) -> None:
        self.comparator = comparator
        self.left = left
        self.right = right
        self.is_negated = is_negated

    def holds(self, facts: Facts, numbers: Numbers) -> bool:
        """Whether it is true in a state. Raises Inapplicable where a number it needs is undefined."""
        left, right = evaluate(self.left, numbers), evaluate(self.right, numbers)
        match self.comparator:
            case "<":
                truth = left < right
            case "<=":
                truth = left <= right
            case "=":
                truth = left == right
            case ">=":
                truth = left >= right
            case _:
                truth = left > right
        return truth != self.is_negated


Node = Group | Comparison
ALWAYS = Group(True, (), (), ())
NEVER = Group(False, (), (), ())


def evaluate(expression: Expression, numbers: Numbers, plan_length: int = 0) -> float:
    """Value of a ground expression. Raises Inapplicable for an undefined fluent, a division by 0 or an overflow."""
    match expression:
        case Number(value):
            return value
        case Fluent(function, terms):
            value = numbers.get((function, *terms))  # type: ignore[arg-type]
            if value is None:
                raise Inapplicable("undefined_value", f"({' '.join((function, *map(str, terms)))}) has no value")
            return value
        case PlanLength():
            return float(plan_length)
        case Arithmetic(operator, operands):
            values = [evaluate(operand, numbers, plan_length) for operand in operands]
            return finite(_arithmetic(operator, values))


def _arithmetic(operator: str, values: list[float]) -> float:
    match operator:
        case "+":
            return sum(values)
        case "*":
            return math.prod(values)
        case "-":
            return -values[0] if len(values) == 1 else values[0] - values[1]
        case _:
            if values[1] == 0:
                raise Inapplicable("undefined_value", "division by 0")
            return values[0] / values[1]


def finite(value: float) -> float:
    if not math.isfinite(value):
        raise Inapplicable("undefined_value", "number too large")
    return value


def combine(is_all: bool, nodes: Iterable[Node]) -> Node:
    """Conjunction (disjunction) with literals gathered, constants removed and nested groups of its kind flattened."""
    decisive, neutral = (NEVER, ALWAYS) if is_all else (ALWAYS, NEVER)
    positive: set[int] = set()
    negative: set[int] = set()
    rest: list[Node] = []
    for node in nodes:
        if node is decisive:
            return decisive
        if node is neutral:
            continue
        if isinstance(node, Group) and (node.is_all == is_all or _is_literal(node)):
            positive |= node.positive
            negative |= node.negative
            rest += node.rest
        else:
            rest.append(node)
    if not positive.isdisjoint(negative):
        return decisive
    if not (positive or negative or rest):
        return neutral
    if len(rest) == 1 and not positive and not negative:
        return rest[0]
    return Group(is_all, positive, negative, rest)


def _is_literal(node: Group) -> bool:
    return len(node.positive) + len(node.negative) == 1 and not node.rest


def reads(node: Node) -> tuple[set[int], bool]:
    """Atoms that a condition depends on, and whether it depends on numbers."""
    if isinstance(node, Comparison):
        return set(), True
    atoms, has_numbers = set(node.positive | node.negative), False
    for child in node.rest:
        inner, inner_numbers = reads(child)
        atoms |= inner
        has_numbers |= inner_numbers
    return atoms, has_numbers
