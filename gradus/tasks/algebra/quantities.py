"""A number or expression with its unit: what it is written as, and when two of them are equal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from gradus.tasks import numerals
from gradus.tasks.algebra import numeric
from gradus.tasks.algebra.expressions import parse
from gradus.tasks.algebra.trees import (
    INFINITY,
    NEGATIVE_INFINITY,
    Call,
    Node,
    Refusal,
    is_number,
    multiply,
    symbols,
    walk,
)
from gradus.tasks.algebra.words import (
    AFTER_DIGIT_ONLY,
    CHANGES_MEANING,
    COMPOUND,
    IN_TEXT,
    KNOWN_UNITS,
    is_listed,
    is_text,
    words_of,
)

Tokens = Sequence[str | Fraction]
"""What ``structures.lex`` makes of a normal form; a Fraction is a number that is not one token of text."""
TOLERANCE = Fraction(1, 10**6)
"""Relative distance at which a decimal literal still stands for a fraction, a surd or a multiple of pi."""

_MARKS = {r"\$": "dollar", "€": "euro", "£": "pound sterling", "¥": "yen", "¢": "cent", "₹": "rupee"}
_DECIMAL_LITERAL = re.compile(r"-?[0-9]*\.[0-9]+")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value with a unit.

    Example:
        Quantity(tree=Fraction(1, 2), num_decimals=1, unit=frozenset({"cm"}), per=frozenset())   # 0.5 cm
    """

    tree: Node
    num_decimals: int = 0
    """Decimals of a plain decimal literal; 0 for anything else."""
    unit: frozenset[str] = frozenset()
    """Known units in the numerator."""
    per: frozenset[str] = frozenset()
    """Known units in the denominator."""

    @property
    def is_percent(self) -> bool:
        """Whether it was written with a percent sign."""
        return "percent" in self.unit


def _is_unit(tokens: Tokens, at: int) -> bool:
    token = tokens[at]
    if token in AFTER_DIGIT_ONLY:
        return at > 1 and tokens[at - 1] == " " and str(tokens[at - 2])[-1].isdigit()
    if not is_text(token):
        return token == "%"
    return str(token)[0] == "\\" or is_listed(str(token)) or tokens[at - 1] in (" ", "/", "-")


def split_unit(tokens: Tokens) -> tuple[Tokens, Tokens]:
    """Splits a trailing unit off: (expression, unit). A unit may have powers, slashes and dots."""
    at = cut = len(tokens)
    while at > 0:
        if _is_unit(tokens, at - 1):
            at -= 1
            cut = at
        elif (width := _power_width(tokens, at)) and _is_unit(tokens, at - width - 1):
            at -= width
        elif cut < len(tokens) and tokens[at - 1] in (" ", "/", ".", "-", "'", r"\cdot"):
            at -= 1
        else:
            break
    if 0 < cut < len(tokens) and tokens[cut - 1] == "/":
        cut -= 1
    return tokens[:cut], tokens[cut:]


def _power_width(tokens: Tokens, end: int) -> int:
    """Number of tokens of a small power, ``^{2}`` or ``^{-1}``, that ends at ``end``; 0 if there is none."""
    for width in (4, 5):
        if end > width and tokens[end - width : end - width + 2] == ["^", "{"] and tokens[end - 1] == "}":
            digits = tokens[end - 2]
            if digits in ("1", "2", "3", "4") and (width == 4 or tokens[end - 3] == "-"):
                return width
    return 0


def parse_quantity(tokens: Tokens) -> Quantity:
    """Reads a number or expression with an optional unit. ``Refusal`` where the grammar says no."""
    marks = frozenset(_MARKS[token] for token in tokens if isinstance(token, str) and token in _MARKS)
    if marks:
        inside = tokens[1 + (tokens[0] in ("+", "-")) : -1]
        tokens = [token for token in tokens if token not in _MARKS]
        if any(token in _MARKS for token in inside) or not tokens:
            raise Refusal("unsupported")
    if len(tokens) > 3 and tokens[-1] in ("C", "F") and tokens[-3:-1] == ["^", r"\circ"]:
        tokens = tokens[:-1]
    value, tail = split_unit(tokens)
    tree = parse(value) if any(token != " " for token in value) else None
    if tail and tree is not None and not is_number(tree) and not _may_have_unit(tree, tail):
        tree, value, tail = parse(tokens), tokens, []
    if tree is None:
        raise Refusal("unsupported")
    if tree not in (INFINITY, NEGATIVE_INFINITY) and any(part == INFINITY for part in walk(tree)):
        raise Refusal("unsupported")
    factor, unit, per = _read_unit(tail)
    if value[-1] == r"\circ":
        unit |= {"degree"}
    decimals = _num_decimals(value) if factor == 1 else 0
    return Quantity(multiply(factor, tree), decimals, unit | marks, per)


def _may_have_unit(tree: Node, tail: Tokens) -> bool:
    """Irrational constants may carry any unit but an unknown letter after a sum (3 + 4j); symbols only known ones."""
    words = [word for token in tail for word in words_of(str(token))]
    is_known = all(word in KNOWN_UNITS or word in IN_TEXT for word in words)
    if symbols(tree):
        return is_known and "%" not in tail
    return is_known or not (isinstance(tree, Call) and tree.op == "+" and words and max(map(len, words)) == 1)


def _num_decimals(tokens: Tokens) -> int:
    """Decimals of a literal such as ``-0.125``; 0 for anything else."""
    text = "".join(map(str, tokens)) if len(tokens) <= 2 else ""
    return len(text.partition(".")[2]) if _DECIMAL_LITERAL.fullmatch(text) else 0


def _read_unit(tail: Tokens) -> tuple[int, frozenset[str], frozenset[str]]:
    """(scale, known units, known units after "per"). Words that change the meaning of a number are refused."""
    factor, is_per = 1, False
    units: tuple[set[str], set[str]] = (set(), set())
    for token in tail:
        if token == "/":
            is_per = True
        elif token == "%":
            units[is_per].add("percent")
        for word in words_of(str(token)):
            lower = word.lower()
            if lower in numerals.SCALES and not units[0] and not is_per:
                factor *= numerals.SCALES[lower]
            elif lower in CHANGES_MEANING or lower in numerals.NUMERALS:
                raise Refusal("unsupported")
            elif lower == "per":
                is_per = True
            elif lower in COMPOUND:
                units[0].add(COMPOUND[lower][0])
                units[1].add(COMPOUND[lower][1])
            elif (unit := KNOWN_UNITS.get(lower) or IN_TEXT.get(word)) is not None:
                units[is_per].add(unit)
    return factor, frozenset(units[0]), frozenset(units[1])


def equal_quantities(left: Quantity, right: Quantity) -> tuple[bool, str]:
    """(equal, code). A percent sign is a unit if the numbers agree, and a hundredth if not."""
    for mine, other in ((left.unit, right.unit), (left.per, right.per)):
        if mine and other and mine.isdisjoint(other):
            return False, "unit_conflict"
    if equal_values(left.tree, right.tree, left.num_decimals, right.num_decimals):
        return True, "same_value"
    if left.is_percent != right.is_percent:
        percent, plain = (left, right) if left.is_percent else (right, left)
        shifted = percent.num_decimals + 2 if percent.num_decimals else 0
        if equal_values(multiply(Fraction(1, 100), percent.tree), plain.tree, shifted, plain.num_decimals):
            return True, "same_value"
    return False, "different_value"


def equal_values(left: Node, right: Node, left_decimals: int = 0, right_decimals: int = 0) -> bool:
    """Exact equality; a decimal literal against something that is not one: to 1e-6, unless that is an integer."""
    if isinstance(left, (int, Fraction)) and isinstance(right, (int, Fraction)):
        if left == right:
            return True
        if left_decimals and right_decimals:
            return _is_rounded(left, right, left_decimals, right_decimals)
        if not left_decimals and not right_decimals:
            return False
        exact, literal = (right, left) if left_decimals else (left, right)
        return not isinstance(exact, int) and abs(exact - literal) <= TOLERANCE * max(abs(exact), abs(literal))
    if INFINITY in (left, right) or NEGATIVE_INFINITY in (left, right):
        return left == right
    if left_decimals or right_decimals:
        exact, literal = (right, left) if left_decimals else (left, right)
        if symbols(exact):
            return False
        numeric.check_constants(exact)
        value, near = numeric.evaluate_constant(exact), numeric.evaluate_constant(literal)
        if numeric.is_same(value, numeric.context().nint(value.real)):
            return numeric.is_same(value, near)
        return abs(value - near) <= numeric.context().mpf(10) ** -6 * max(abs(value), abs(near))
    return numeric.equal(left, right)


def _is_rounded(left: int | Fraction, right: int | Fraction, left_decimals: int, right_decimals: int) -> bool:
    """Whether the literal with fewer decimals (at least 6) is the other one rounded or cut, and not just zeros."""
    if left_decimals > right_decimals:
        left, right, left_decimals = right, left, right_decimals
    if left_decimals < 6 or left * right <= 0 or abs(left - right) > abs(left) * Fraction(1, 10_000):
        return False
    unit = Fraction(1, 10**left_decimals)
    gap = abs(right) - abs(left)
    return 0 <= gap < unit or abs(gap) * 2 <= unit
