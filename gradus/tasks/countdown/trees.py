"""Expressions as trees: a number, or ``(operator, left, right)``. Values are exact: int, or Fraction where it must be.

Two rules say which steps may be taken:

* integer: ``larger - smaller``, and division only without remainder, so that whole numbers stay whole;
* rational: any difference and any quotient.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TypeAlias

Value: TypeAlias = int | Fraction
Tree: TypeAlias = "Value | tuple[str, Tree, Tree]"
Step: TypeAlias = tuple[str, Value, Value, Value]
"""Operator, left, right, result."""

ALL_OPERATORS = "+-*/"
_RANK = {"+": 1, "-": 1, "*": 2, "/": 2}


def results(a: Value, b: Value, operators: str, is_integer: bool = True) -> list[Step]:
    """Lists every step that can be taken with ``a`` and ``b``, the larger one on the left where the order is free."""
    large, small = (a, b) if a >= b else (b, a)
    made: list[Step] = []
    if "+" in operators:
        made.append(("+", large, small, large + small))
    if "-" in operators:
        made.append(("-", large, small, large - small))
        if not is_integer and large != small:
            made.append(("-", small, large, small - large))
    if "*" in operators:
        made.append(("*", large, small, large * small))
    if "/" in operators:
        for left, right in ((large, small), (small, large)) if large != small else ((large, small),):
            if right != 0 and not (is_integer and left % right):
                made.append(("/", left, right, left // right if is_integer else Fraction(left) / right))
    return made


def steps(tree: Tree) -> list[Step]:
    """Lists the operations of a tree in the order they are carried out."""
    if not isinstance(tree, tuple):
        return []
    operator, left, right = tree
    a, b = value_of(left), value_of(right)
    return [*steps(left), *steps(right), (operator, a, b, _apply(operator, a, b))]


def value_of(tree: Tree) -> Value:
    """The exact value of a tree."""
    return _apply(tree[0], value_of(tree[1]), value_of(tree[2])) if isinstance(tree, tuple) else tree


def larger_first(tree: Tree) -> Tree:
    """The same tree with the larger operand of every sum and product on the left."""
    if not isinstance(tree, tuple):
        return tree
    operator, left, right = tree[0], larger_first(tree[1]), larger_first(tree[2])
    if operator in "+*" and value_of(left) < value_of(right):
        left, right = right, left
    return operator, left, right


def _apply(operator: str, a: Value, b: Value) -> Value:
    if operator == "/":
        quotient = Fraction(a) / b
        return int(quotient) if quotient.denominator == 1 else quotient
    value = a + b if operator == "+" else a - b if operator == "-" else a * b
    return int(value) if value.denominator == 1 else value


def write(tree: Tree) -> str:
    """Writes a tree with the fewest parentheses that keep its shape: ``(45 - 26) * 3 + 14``."""
    if not isinstance(tree, tuple):
        return str(tree) if tree >= 0 else f"({tree})"
    operator, left, right = tree
    a, b = write(left), write(right)
    if isinstance(left, tuple) and _RANK[left[0]] < _RANK[operator]:
        a = f"({a})"
    is_kept = operator in "-/" and isinstance(right, tuple) and _RANK[right[0]] == _RANK[operator]
    if isinstance(right, tuple) and (is_kept or _RANK[right[0]] < _RANK[operator]):
        b = f"({b})"
    return f"{a} {operator} {b}"
