"""Countdown's search against going through every expression, and the difficulty against its definition."""

from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

import pytest

from gradus.tasks.arithmetic import parse
from gradus.tasks.countdown.difficulty import difficulty
from gradus.tasks.countdown.solver import GaveUp, is_reachable, solve
from gradus.tasks.countdown.trees import results, steps, value_of, write


def combinations(numbers: tuple[Fraction, ...], operators: str, is_integer: bool) -> list[Fraction]:
    """The value of every sequence of steps, by brute force and from the rule's wording."""
    if len(numbers) == 1:
        return [numbers[0]]
    values = []
    for i, j in itertools.combinations(range(len(numbers)), 2):
        rest = tuple(number for place, number in enumerate(numbers) if place not in (i, j))
        for value in one_step(numbers[i], numbers[j], operators, is_integer):
            values += combinations((*rest, value), operators, is_integer)
    return values


def one_step(a: Fraction, b: Fraction, operators: str, is_integer: bool) -> list[Fraction]:
    made = []
    if "+" in operators:
        made.append(a + b)
    if "-" in operators:
        made += [max(a, b) - min(a, b)] if is_integer or a == b else [a - b, b - a]
    if "*" in operators:
        made.append(a * b)
    if "/" in operators:
        for left, right in {(a, b), (b, a)}:
            if right != 0 and (not is_integer or (left / right).denominator == 1):
                made.append(left / right)
    return made


def cases(seed: int, num: int, most: int) -> list[tuple[tuple[int, ...], str]]:
    rng = random.Random(seed)
    drawn = []
    for _ in range(num):
        size = rng.randint(1, most)
        operators = "".join(sorted(rng.sample("+-*/", rng.choice([1, 2, 3, 4, 4, 4]))))
        drawn.append((tuple(rng.randint(0, rng.choice([3, 12, 99])) for _ in range(size)), operators))
    return drawn


@pytest.mark.parametrize("is_integer", [True, False])
def test_finds_a_solution_exactly_where_there_is_one(is_integer: bool) -> None:
    num_reached = num_missed = 0
    for numbers, operators in cases(1, 150, 4):
        values = set(combinations(tuple(map(Fraction, numbers)), operators, is_integer))
        rng = random.Random(len(values))
        wholes = sorted(int(value) for value in values if value.denominator == 1)
        for target in {0, 10, 24, *rng.sample(wholes, min(4, len(wholes))), rng.randint(-5, 100)}:
            tree = solve(numbers, target, operators=operators, is_integer=is_integer)
            assert (tree is not None) == (target in values), (numbers, target, operators)
            if is_integer:
                assert is_reachable(numbers, target, operators) == (target in values)
            if tree is None:
                num_missed += 1
                continue
            num_reached += 1
            expression = parse(write(tree), operators=operators)
            assert expression.value == target == value_of(tree)
            assert sorted(expression.numbers) == sorted(numbers)
            for operator, a, b, value in steps(tree):
                assert (operator, a, b, value) in results(a, b, operators, is_integer)
    assert min(num_reached, num_missed) > 100


def test_five_and_six_numbers() -> None:
    for numbers in [(1, 2, 3, 4, 5), (7, 7, 7, 7, 7), (1, 3, 5, 7, 25, 100)]:
        values = {int(v) for v in combinations(tuple(map(Fraction, numbers[:5])), "+-*/", True)}
        for target in range(101, 401, 50):
            tree = solve(numbers[:5], target)
            assert (tree is not None) == (target in values)
    tree = solve((1, 3, 5, 7, 25, 100), 952)
    assert tree is not None
    assert value_of(tree) == 952


def test_zero_times_anything() -> None:
    for numbers, operators in (((0, 0, 0, 0, 0), "*"), ((0, 7, 9, 0, 0), "*"), ((7, 7, 3, 5, 9), "-*")):
        tree = solve(numbers, 0, operators=operators)
        assert tree is not None
        assert value_of(tree) == 0


def test_simple_solutions_come_first() -> None:
    assert write(solve((2, 5, 8), 11) or 0) in ("8 + 5 - 2", "8 - 2 + 5", "5 - 2 + 8", "8 + (5 - 2)")
    assert "*" not in write(solve((1, 1, 9), 9) or 0)


def test_gives_up_instead_of_hanging() -> None:
    with pytest.raises(GaveUp, match=r"numbers=\[11, 13"):
        solve((11, 13, 17, 19, 23, 29, 31), 9_999_991, is_integer=False, max_work=2_000)


def test_written_with_the_fewest_parentheses() -> None:
    assert write(("+", ("*", ("-", 45, 26), 3), 14)) == "(45 - 26) * 3 + 14"
    assert write(("-", 8, ("-", 5, 2))) == "8 - (5 - 2)"
    assert write(("/", 8, ("*", 2, 2))) == "8 / (2 * 2)"
    assert write(("+", 8, ("-", 5, 2))) == "8 + 5 - 2"
    assert write(("-", 8, -5)) == "8 - (-5)"


@pytest.mark.parametrize("operators", ["+-*/", "+-", "*/", "-"])
def test_difficulty_is_its_definition(operators: str) -> None:
    for numbers, _ in cases(2, 40, 4):
        values = combinations(tuple(map(Fraction, numbers)), operators, True)
        for target in {10, 24, *(int(value) for value in values[:2])}:
            share = values.count(Fraction(target)) / len(values) if values else 0
            expected = min(1.0, -math.log10(share) / 4) if share else 1.0
            assert difficulty(numbers, target, operators) == pytest.approx(expected)


def test_difficulty_of_many_numbers_is_estimated() -> None:
    numbers, target = (1, 3, 5, 7, 25, 60), 50
    assert difficulty(numbers, target) == difficulty(numbers, target)
    values = combinations(tuple(map(Fraction, (1, 3, 5, 7, 25))), "+-*/", True)
    exact = min(1.0, -math.log10(values.count(Fraction(50)) / len(values)) / 4)
    assert 0.3 < difficulty(numbers, target) < 1
    assert difficulty((1, 3, 5, 7, 25), 50) == pytest.approx(exact)
