"""The closed grammar: exact values, refusals with their code, and agreement with an independent evaluation."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from gradus.tasks.answers import Code
from gradus.tasks.arithmetic import Refusal, parse

Tree = int | tuple[str, "Tree", "Tree"]


def random_tree(rng: random.Random, depth: int) -> Tree:
    if depth == 0 or rng.random() < 0.25:
        return rng.randrange(0, 30)
    return rng.choice("+-*/"), random_tree(rng, depth - 1), random_tree(rng, depth - 1)


def value_of(tree: Tree) -> Fraction | None:
    if isinstance(tree, int):
        return Fraction(tree)
    a, b = value_of(tree[1]), value_of(tree[2])
    if a is None or b is None or (tree[0] == "/" and b == 0):
        return None
    return {"+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b, "/": lambda: a / b}[tree[0]]()


def spelled(tree: Tree, rng: random.Random) -> str:
    """Fully bracketed, in random spelling."""
    if isinstance(tree, int):
        return str(tree)
    operator, left, right = tree
    a, b = spelled(left, rng), spelled(right, rng)
    if operator == "/" and rng.random() < 0.3:
        return rf"\frac{{{a}}}{{{b}}}"
    sign = rng.choice({"+": "+＋", "-": "-−–", "*": ["*", "×", "·", " x ", " X "], "/": "/÷∕"}[operator])
    opening, closing = rng.choice([("(", ")"), ("[", "]"), ("（", "）"), (r"\left(", r"\right)")])
    gap = rng.choice(["", " ", "  "])
    return f"{opening}{a}{gap}{sign}{gap}{b}{closing}"


def leaves(tree: Tree) -> list[int]:
    return [tree] if isinstance(tree, int) else [*leaves(tree[1]), *leaves(tree[2])]


def test_agrees_with_an_independent_evaluation() -> None:
    rng = random.Random(0)
    num_undefined = 0
    for _ in range(3000):
        tree = random_tree(rng, 3)
        text = spelled(tree, rng)
        if len(text) > 256:
            continue
        expression = parse(text)
        assert expression.value == value_of(tree), text
        assert expression.numbers == leaves(tree)
        num_undefined += expression.value is None
    assert num_undefined > 20, "divisions by zero must have been among the cases"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2+3*4", 14), ("2*3+4", 10), ("8-5-2", 1), ("8/4/2", 1), ("-2*3", -6), ("2*-3", -6), ("2--3", 5),
        ("-(2-5)", 3), ("6/4", Fraction(3, 2)), ("1/3*3", 1), ("2/3x3", 2),
    ],
)  # fmt: skip
def test_precedence(text: str, value: int | Fraction) -> None:
    assert parse(text).value == value


def test_a_whole_value_is_an_int() -> None:
    assert type(parse("1/3*3").value) is int


REFUSALS = {
    Code.SYNTAX: ("", "()", "1 2", "2(3)", "(1", "1)", "(1]", "1+", "*1", r"\frac12", r"\frac{1}"),
    Code.BAD_TOKEN: ("{1}", "1}", "1!", "a", r"\sqrt{4}", "1 \u200b+ 1", "1\x00", "1\ud800"),
    Code.BAD_NUMBER: ("1.5", "01", "1e5", "1_0", "0x1", "1,000", "2²", "٣"),
    Code.TOO_LONG: ("1" * 19, "1+" * 128 + "1"),
    Code.TOO_MANY_NUMBERS: ("1+" * 64 + "1",),
    Code.TOO_DEEP: ("(" * 33 + "1" + ")" * 33, "-" * 33 + "1"),
    Code.CODE: ("2**3", "7//2", "__name__"),
    Code.WRONG_RIGHT_SIDE: ("1=2",),
}


@pytest.mark.parametrize(("text", "code"), [(text, code) for code, texts in REFUSALS.items() for text in texts])
def test_refusals(text: str, code: Code) -> None:
    with pytest.raises(Refusal) as refusal:
        parse(text)
    assert refusal.value.code is code


def test_target_may_stand_on_either_side_once() -> None:
    assert parse("8 + 3 = 11", 11).value == 11
    assert parse("11 = 8 + 3", 11).value == 11
    assert parse("11 = 11", 11).numbers == [11]
    assert parse("2 - 8 = -6", -6).value == -6
    for text in ("8 + 3 = 12", "8 + 3 =", "= 8 + 3", "8 + 3 = 11 = 11", "8 + 3 == 11", "11 ="):
        with pytest.raises(Refusal) as refusal:
            parse(text, 11)
        assert refusal.value.code is Code.WRONG_RIGHT_SIDE


def test_only_listed_operators() -> None:
    assert parse("-2 + 3", operators="+").value == 1
    for text in ("3 - 2", "3 * 2", "3 x 2", "3 / 2", r"\frac{3}{2}"):
        with pytest.raises(Refusal) as refusal:
            parse(text, operators="+")
        assert refusal.value.code is Code.BAD_TOKEN


def test_decimals_only_where_asked_for() -> None:
    assert parse("2.5 * 4", is_decimal=True).value == 10
    assert parse("5. + 1", is_decimal=True).value == 6
    for text in ("2e1", "0x10", "1_0", "'7' * 1", ".5"):
        with pytest.raises(Refusal):
            parse(text, is_decimal=True)
