"""Expression trees with exact arithmetic folded in while they are built.

A node is an ``int``, a ``Fraction``, a ``Symbol`` or a ``Call``. Limits make every operation cheap: what breaks one is
refused with a code, deterministically.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

MAX_LITERAL_DIGITS = 4_000
MAX_BITS = 80_000
MAX_FACTORIAL = 4_000
MAX_EXPONENT = 10_000_000
MAX_SIGNS = 3
"""At most so many ± in one expression."""


class Refusal(ValueError):
    """The text is not read; ``code`` says why: unsupported, too_long, too_deep, too_large."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Symbol(NamedTuple):
    """A variable, with its subscript and primes: ``x``, ``a_{1}``, ``f'``."""

    name: str


class Call(NamedTuple):
    """An operation: ``+`` (n-ary) ``* / ^ root ! binom abs floor ceil pm mp inf pi e i`` or the name of a function."""

    op: str
    args: tuple[Node, ...] = ()


Node = int | Fraction | Symbol | Call
PI, EULER, IMAGINARY, INFINITY = Call("pi"), Call("e"), Call("i"), Call("inf")
"""Constants; infinity is allowed only alone, with a sign."""
NEGATIVE_INFINITY = Call("*", (-1, INFINITY))


def is_number(node: object) -> bool:
    """Whether the node is an exact rational."""
    return isinstance(node, (int, Fraction))


def exact(value: Fraction | int) -> int | Fraction:
    """The same value; an ``int`` where it is integral. Refused above ``MAX_BITS``."""
    if isinstance(value, Fraction) and value.denominator == 1:
        value = value.numerator
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise Refusal("too_large")
    return value


def literal(text: str) -> int | Fraction:
    """Value of a decimal literal such as ``12``, ``.5``, ``0.125``."""
    if len(text) > MAX_LITERAL_DIGITS:
        raise Refusal("too_large")
    whole, _, decimals = text.partition(".")
    value = int(whole + decimals or "0")
    return exact(Fraction(value, 10 ** len(decimals))) if decimals else value


def add(*terms: Node) -> Node:
    """Sum, numbers folded into one."""
    total: int | Fraction = 0
    rest: list[Node] = []
    for term in terms:
        if isinstance(term, (int, Fraction)):
            total = exact(total + term)
        elif isinstance(term, Call) and term.op == "+":
            rest.extend(term.args)
        else:
            rest.append(term)
    if not rest:
        return total
    if total:
        rest.append(total)
    return rest[0] if len(rest) == 1 else Call("+", tuple(rest))


def multiply(left: Node, right: Node) -> Node:
    """Product."""
    if isinstance(left, (int, Fraction)) and isinstance(right, (int, Fraction)):
        return exact(left * right)
    if left == 1:
        return right
    return left if right == 1 else Call("*", (left, right))


def negate(node: Node) -> Node:
    """The negative."""
    return multiply(-1, node)


def divide(left: Node, right: Node) -> Node:
    """Quotient; division by the number 0 is not read."""
    if right == 0 and is_number(right):
        raise Refusal("unsupported")
    if isinstance(left, (int, Fraction)) and isinstance(right, (int, Fraction)):
        return exact(Fraction(left) / right)
    return left if right == 1 else Call("/", (left, right))


def power(base: Node, exponent: Node) -> Node:
    """Power; folded for a rational base and an integer exponent."""
    if isinstance(exponent, (int, Fraction)) and abs(exponent) > MAX_EXPONENT:
        raise Refusal("too_large")
    if not isinstance(exponent, int):
        if exponent == Fraction(1, 2):
            return root(2, base)
        return Call("^", (base, exponent))
    if not isinstance(base, (int, Fraction)):
        return base if exponent == 1 else Call("^", (base, exponent))
    if base == 0 and exponent <= 0:
        raise Refusal("unsupported")
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if base not in (0, 1, -1) and (bits - 1 or 1) * abs(exponent) > MAX_BITS:
        raise Refusal("too_large")
    return exact(Fraction(base) ** exponent) if base not in (0, 1, -1) else int(base) ** (exponent % 2 + 2)


def root(index: Node, radicand: Node) -> Node:
    """Root; folded for the square of a rational."""
    if not isinstance(index, int) or not 2 <= index <= 1_000:
        raise Refusal("unsupported")
    if index == 2 and isinstance(radicand, (int, Fraction)) and radicand >= 0:
        top, bottom = math.isqrt(radicand.numerator), math.isqrt(radicand.denominator)
        if top * top == radicand.numerator and bottom * bottom == radicand.denominator:
            return exact(Fraction(top, bottom))
    return Call("root", (index, radicand))


def factorial(node: Node) -> Node:
    """Factorial of a small non-negative integer, or of something symbolic."""
    if isinstance(node, (int, Fraction)):
        if not isinstance(node, int) or node < 0:
            raise Refusal("unsupported")
        if node > MAX_FACTORIAL:
            raise Refusal("too_large")
        return exact(math.factorial(node))
    return Call("!", (node,))


def binomial(total: Node, chosen: Node) -> Node:
    """Binomial coefficient."""
    if isinstance(total, int) and isinstance(chosen, int):
        if total < 0 or chosen < 0:
            raise Refusal("unsupported")
        if total > MAX_FACTORIAL or chosen > MAX_FACTORIAL:
            raise Refusal("too_large")
        return exact(math.comb(total, chosen))
    return Call("binom", (total, chosen))


def apply(op: str, *args: Node) -> Node:
    """A one-place operation, folded where that is exact."""
    if op in ("abs", "floor", "ceil") and isinstance(args[0], (int, Fraction)):
        return exact({"abs": abs, "floor": math.floor, "ceil": math.ceil}[op](args[0]))
    return Call(op, args)


def walk(node: Node) -> Iterator[Node]:
    """All nodes, parents first."""
    stack = [node]
    while stack:
        node = stack.pop()
        yield node
        if isinstance(node, Call):
            stack.extend(node.args)


def symbols(node: Node) -> frozenset[str]:
    """Names of the variables."""
    return frozenset(part.name for part in walk(node) if isinstance(part, Symbol))


_BUILDERS = {
    "+": add, "*": multiply, "/": divide, "^": power, "root": root, "!": factorial, "binom": binomial,
}  # fmt: skip


def rebuild(node: Node, replace: dict[Node, Node]) -> Node:
    """The tree with some nodes replaced, folded again."""
    if not isinstance(node, int) and node in replace:
        return replace[node]
    if not isinstance(node, Call) or not node.args:
        return node
    args = [rebuild(arg, replace) for arg in node.args]
    builder = _BUILDERS.get(node.op)
    return builder(*args) if builder else apply(node.op, *args)


def expand_signs(node: Node) -> list[Node]:
    """All readings of ±: each sign is free, but where ∓ occurs all signs go together."""
    signs = [part for part in walk(node) if isinstance(part, Call) and part.op in ("pm", "mp")]
    if not signs:
        return [node]
    if len(signs) > MAX_SIGNS:
        raise Refusal("unsupported")
    if any(sign.op == "mp" for sign in signs):
        choices = [[1 if sign.op == "pm" else -1 for sign in signs], [-1 if sign.op == "pm" else 1 for sign in signs]]
    else:
        choices = [[1 if mask >> index & 1 else -1 for index in range(len(signs))] for mask in range(2 ** len(signs))]
    return [_with_signs(node, iter(choice)) for choice in choices]


def _with_signs(node: Node, signs: Iterator[int]) -> Node:
    if not isinstance(node, Call):
        return node
    if node.op in ("pm", "mp"):
        sign = next(signs)
        return multiply(sign, _with_signs(node.args[0], signs))
    args = [_with_signs(arg, signs) for arg in node.args]
    builder = _BUILDERS.get(node.op)
    return builder(*args) if builder else apply(node.op, *args)
