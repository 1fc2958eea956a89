"""Normal form to value: lists, tuples, sets, intervals, relations, equations, matrices, clocks, words.

What the grammar does not read is an ``Opaque`` with the reason, so that nothing is ever compared by a part of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from gradus.tasks import numerals
from gradus.tasks.algebra import conditions, labels
from gradus.tasks.algebra.expressions import parse as parse_tree
from gradus.tasks.algebra.lexing import CLOSING, OPENING, lex
from gradus.tasks.algebra.quantities import Quantity, Tokens, parse_quantity
from gradus.tasks.algebra.regions import EVERYTHING, NOTHING, difference, intersection, union
from gradus.tasks.algebra.trees import Node, Refusal, expand_signs, multiply, symbols
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
from gradus.tasks.algebra.words import is_text, words_of

MAX_ITEMS = 64
MAX_NESTING = 4
MAX_MATRIX = 20

_MARKS = {"<": ("<", False), ">": ("<", True), r"\le": (r"\le", False), r"\ge": (r"\le", True), r"\ne": (r"\ne", False)}
"""Relation mark to (mark, are the sides swapped)."""
_CLOCK = re.compile(r"([0-9]{1,2}):([0-9]{2})(?:(?:\\text\{)?([aApP])\.?[mM]\.?\}?)?")
_BASED = re.compile(r"\(?([0-9][0-9A-F]*|[A-F][0-9A-F]+)\)?_\{\(?([0-9]{1,2}|\\text\{[a-z]+\})\)?\}")


@lru_cache(maxsize=8_192)
def parse(normal: str) -> Value:
    """Reads a normal form. Total: what cannot be read is ``Opaque`` with the reason."""
    try:
        return _parse(lex(normal), 0)
    except Refusal as refusal:
        return Opaque(refusal.code)


def split(tokens: Tokens, separators: Sequence[str]) -> tuple[list[Tokens], list[str]]:
    """Cuts at separators outside all brackets: (parts, the separators found)."""
    parts: list[Tokens] = []
    found: list[str] = []
    depth = start = 0
    for index, token in enumerate(tokens):
        if token in OPENING:
            depth += 1
        elif token in CLOSING:
            depth -= 1
            if depth < 0:
                raise Refusal("unsupported")
        elif depth == 0 and token in separators:
            parts.append(tokens[start:index])
            found.append(str(token))
            start = index + 1
    if depth:
        raise Refusal("unsupported")
    return [*parts, tokens[start:]], found


def _trim(tokens: Tokens) -> Tokens:
    start, end = 0, len(tokens)
    while start < end and tokens[start] == " ":
        start += 1
    while end > start and tokens[end - 1] == " ":
        end -= 1
    return tokens[start:end]


def _parse(tokens: Tokens, nesting: int) -> Value:
    tokens = _trim(tokens)
    if not tokens:
        raise Refusal("unsupported")
    if nesting > MAX_NESTING:
        raise Refusal("too_deep")
    if (words := _parse_words(tokens)) is not None:
        return words
    present = set(tokens)
    if not present.isdisjoint(_SEPARATORS):
        for separators, read in _LEVELS:
            if not present.isdisjoint(separators):
                parts, found = split(tokens, separators)
                if found:
                    return read(parts, found, nesting)
    if r"\begin{matrix}" in tokens:
        return _parse_matrix(tokens)
    if tokens[0] in OPENING and _is_wrapped(tokens):
        return _parse_bracket(tokens, nesting)
    joined = "".join(map(str, tokens))
    if joined == r"\mathbb{R}":
        return Reals(EVERYTHING)
    if joined == r"\emptyset":
        return Reals(NOTHING)
    if match := _BASED.fullmatch(joined):
        return _parse_based(match[1], match[2])
    return _with_signs(parse_quantity(tokens))


def _parse_words(tokens: Tokens) -> Value | None:
    """Text, or a number written in words; None if something else is among the tokens."""
    num_words = sum(is_text(token) for token in tokens)
    if not num_words:
        return None
    words: list[str] = []
    for token in tokens:
        if is_text(token) or (num_words > 1 and isinstance(token, str) and token.isalpha()):  # a sentence about h
            words.extend(words_of(str(token)))
        elif token not in (" ", "-", "'", ".", "!"):
            return None
    value = numerals.read(words)
    return Words("".join(words).lower()) if value is None else Quantity(value)


def _with_signs(quantity: Quantity) -> Value:
    trees = expand_signs(quantity.tree)
    if len(trees) == 1:
        return quantity
    return Collection("list", tuple(Quantity(tree, 0, quantity.unit, quantity.per) for tree in trees))


def _is_wrapped(tokens: Tokens) -> bool:
    """Whether the bracket that opens ``tokens`` is closed by the last token."""
    depth = 0
    for index, token in enumerate(tokens):
        depth += (token in OPENING) - (token in CLOSING)
        if depth == 0:
            return index == len(tokens) - 1
    return False


def _parse_bracket(tokens: Tokens, nesting: int) -> Value:
    opening, closing, inside = str(tokens[0]), str(tokens[-1]), tokens[1:-1]
    if opening == r"\{" and closing == r"\}":
        return _parse_set(inside, nesting)
    parts, found = split(inside, (";",))
    if not found:
        parts, found = split(inside, (",",))
    if not found:
        if (opening, closing) in (("(", ")"), ("[", "]"), ("{", "}")):
            try:
                return _with_signs(parse_quantity(tokens))
            except Refusal:
                return _parse(inside, nesting + 1)
        return _with_signs(parse_quantity(tokens))
    items = _items(parts, nesting)
    if opening == "{" and closing == "}":
        return Collection("set", items)
    if opening == r"\langle" and closing == r"\rangle":
        return Collection("tuple", items, "()")
    if opening in ("(", "[") and closing in (")", "]") and (len(items) == 2 or opening + closing in ("()", "[]")):
        return Collection("tuple", items, opening + closing)
    raise Refusal("unsupported")


def _items(parts: Sequence[Tokens], nesting: int) -> tuple[Value, ...]:
    if len(parts) > MAX_ITEMS:
        raise Refusal("too_large")
    return tuple(_parse(part, nesting + 1) for part in parts)


def _parse_set(inside: Tokens, nesting: int) -> Value:
    """``\\{1, 2\\}``, ``\\{\\}`` and ``\\{x | x > 3\\}``."""
    if not _trim(inside):
        return Reals(NOTHING)
    parts, found = split(inside, ("|", ":"))
    if len(found) == 1:
        condition = _parse(parts[1], nesting + 1)
        variable = "".join(map(str, parts[0])).replace(r"\in\mathbb{R}", "").strip()
        region = conditions.as_reals(condition)
        if region is None or region.variable != variable:
            raise Refusal("unsupported")
        return region
    separators = (";",) if split(inside, (";",))[1] else (",",)
    values = _items(split(inside, separators)[0], nesting)
    return Collection("set", _flatten(values))


def _flatten(values: Sequence[Value]) -> tuple[Value, ...]:
    """± inside a list adds both values to the list."""
    flat: list[Value] = []
    for value in values:
        flat.extend(value.items if isinstance(value, Collection) and value.kind == "list" else [value])
    return tuple(flat)


def _parse_list(parts: list[Tokens], found: list[str], nesting: int) -> Value:
    """Values side by side: solutions, a labelled list, or conditions."""
    while parts and not _trim(parts[-1]):
        parts = parts[:-1]
    if not parts:
        raise Refusal("unsupported")
    values = _items(parts, nesting)
    if len(values) == 1:
        return values[0]
    first, rest = values[0], values[1:]
    if all(isinstance(value, (Condition, Reals)) for value in values):
        return conditions.join(values, found)
    if isinstance(first, Condition) and first.relations[0].mark == r"\ne" and all(map(_is_quantity, _flatten(rest))):
        left = first.relations[0].left
        more = (Relation(r"\ne", left, value.tree) for value in _flatten(rest) if isinstance(value, Quantity))
        return Condition((*first.relations, *more))
    if isinstance(first, Labelled):
        if all(isinstance(value, Labelled) and value.label == first.label for value in rest):
            rest = tuple(value.value for value in rest if isinstance(value, Labelled))
        if not any(isinstance(value, (Labelled, Equation, Condition)) for value in rest):
            return Labelled(first.label, Collection("list", _flatten((first.value, *rest))))
    return Collection("list", values if ";" in found else _flatten(values))


def _is_quantity(value: Value) -> bool:
    return isinstance(value, Quantity)


def _parse_relation(parts: list[Tokens], found: list[str], nesting: int) -> Value:
    """``a < b`` and chains ``a < b < c`` in one direction."""
    if len({_MARKS[mark][1] for mark in found}) > 1 or (len(found) > 1 and r"\ne" in found) or len(found) > 2:
        raise Refusal("unsupported")
    sides = [parse_quantity(_trim(part)).tree for part in parts]
    relations: list[Relation] = []
    for mark, left, right in zip(found, sides, sides[1:], strict=False):
        name, is_swapped = _MARKS[mark]
        for value in expand_signs(right) if name == r"\ne" else [right]:
            relations.append(Relation(name, value, left) if is_swapped else Relation(name, left, value))
    if any(len(expand_signs(side)) > 1 for relation in relations for side in (relation.left, relation.right)):
        raise Refusal("unsupported")
    return Condition(tuple(relations))


def _parse_equation(parts: list[Tokens], found: list[str], nesting: int) -> Value:
    """Labels, chains and equations; what follows ≈ after an exact member is dropped."""
    parts = [_trim(part) for part in parts]
    if found[0] == r"\approx" and labels.read(parts[0]):
        found = ["=", *found[1:]]
    if r"\approx" in found:
        parts = parts[: found.index(r"\approx") + 1]
    if not parts[0]:
        parts = parts[1:]
    if not all(parts) or not parts:
        raise Refusal("unsupported")
    if len(parts) == 1:
        return _parse(parts[0], nesting + 1)
    for name, rest, value in ((parts[0], parts[1:], parts[-1]), (parts[-1], parts[:-1], parts[-2])):
        label = labels.read(name)
        if label and not any(labels.occurs(label, part) for part in rest):
            return Labelled(label, _parse(value, nesting + 1), _equation(parts) if len(parts) == 2 else None)
    sides = [parse_quantity(part).tree for part in parts]
    if not any(map(symbols, sides)):
        return _with_signs(parse_quantity(parts[-1]))
    if len(sides) > 2:
        raise Refusal("unsupported")
    return Equation(sides[0], sides[1])


def _equation(parts: list[Tokens]) -> Equation | None:
    """The two parts read as an equation, where that is possible."""
    try:
        left, right = (parse_tree(part) for part in parts)
    except Refusal:
        return None
    return Equation(left, right)


def _parse_membership(parts: list[Tokens], found: list[str], nesting: int) -> Value:
    """``x \\in S``."""
    label = labels.read(_trim(parts[0]))
    if len(parts) != 2 or not label:
        raise Refusal("unsupported")
    value = _parse(parts[1], nesting + 1)
    if isinstance(value, Collection) and value.kind == "set":
        return Labelled(label, value)
    reals = conditions.as_reals(value)
    if reals is None:
        raise Refusal("unsupported")
    return Reals(reals.region, label)


def _parse_union(parts: list[Tokens], found: list[str], nesting: int) -> Value:
    """Unions, intersections and differences of sets of reals, from left to right."""
    operations = {r"\cup": union, r"\cap": intersection, r"\setminus": difference}
    region = None
    for operation, value in zip(["", *found], _items(parts, nesting), strict=True):
        reals = conditions.as_reals(value)
        if reals is None:
            raise Refusal("unsupported")
        region = reals.region if region is None else operations[operation](region, reals.region)
    assert region is not None
    return Reals(region)


def _parse_ratio(parts: list[Tokens], found: list[str], nesting: int) -> Value:
    """``7:05`` is a time, ``2:3`` and ``1:2:3`` are ratios."""
    joined = ":".join("".join(str(token) for token in part if token != " ") for part in parts)
    match = _CLOCK.fullmatch(joined)
    if match and int(match[1]) <= 24 and int(match[2]) < 60:
        return Clock(int(match[1]), int(match[2]), (match[3] or "").lower())
    return Ratio(tuple(parse_quantity(_trim(part)).tree for part in parts))


_LEVELS: tuple[tuple[tuple[str, ...], Callable[[list[Tokens], list[str], int], Value]], ...] = (
    ((";",), _parse_list),
    ((",", r"\lor", r"\land"), _parse_list),
    (tuple(_MARKS), _parse_relation),
    (("=", r"\approx"), _parse_equation),
    ((r"\in",), _parse_membership),
    ((r"\cup", r"\cap", r"\setminus"), _parse_union),
    ((":",), _parse_ratio),
)
"""What binds least comes first."""
_SEPARATORS = frozenset(separator for separators, _ in _LEVELS for separator in separators)


def _parse_based(digits: str, base: str) -> Value:
    value = int(base) if base.isdigit() else numerals.read(words_of(base))
    if not isinstance(value, int) or not 2 <= value <= 36 or len(digits) > 64:
        raise Refusal("unsupported")
    if any(int(digit, 36) >= value for digit in digits):
        raise Refusal("unsupported")
    return Based(digits, value)


def _parse_matrix(tokens: Tokens) -> Value:
    """A matrix of expressions, possibly in brackets and after a scalar factor."""
    if r"\end{matrix}" not in tokens:
        raise Refusal("unsupported")
    start = list(tokens).index(r"\begin{matrix}")
    end = len(tokens) - 1 - list(tokens)[::-1].index(r"\end{matrix}")
    before, inside, after = _trim(tokens[:start]), tokens[start + 1 : end], _trim(tokens[end + 1 :])
    if before and after and (before[-1], after[0]) in (("(", ")"), ("[", "]")):
        before, after = before[:-1], after[1:]
    if after or any(token in (r"\begin{matrix}", "|") for token in inside):
        raise Refusal("unsupported")
    if before and before[-1] in (r"\cdot", "*", r"\times"):
        before = before[:-1]
    factor: Node = 1 if not before else -1 if list(before) == ["-"] else parse_tree(before)
    rows = [row for row in split(inside, ("\\\\",))[0] if any(token not in (" ", r"\hline") for token in row)]
    cells = [[_trim(cell) for cell in split(row, ("&",))[0]] for row in rows]
    if not cells or len(cells) > MAX_MATRIX or max(map(len, cells)) > MAX_MATRIX or len(set(map(len, cells))) > 1:
        raise Refusal("too_large" if len(cells) > MAX_MATRIX else "unsupported")
    quantities = [[parse_quantity(cell) for cell in row] for row in cells]
    return Matrix(
        tuple(
            tuple(
                cell if factor == 1 else Quantity(multiply(factor, cell.tree), 0, cell.unit, cell.per) for cell in row
            )
            for row in quantities
        )
    )
