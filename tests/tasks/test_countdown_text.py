"""What Countdown says: short prompts, and traces in which every line is true."""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction

import pytest

from gradus import load_task
from gradus.types import Problem

_NUMBER = r"(?:\(?-?[0-9]+(?:/[0-9]+)?\)?)"
_STEP = re.compile(rf"({_NUMBER}) ([-+*/]) ({_NUMBER}) = (-?[0-9]+(?:/[0-9]+)?)")
CONFIGS = [
    {}, {"trace": "plain"}, {"language": "zh"}, {"prefill_think": True}, {"min_numbers": 1, "max_numbers": 6},
    {"use": "subset"}, {"operators": "+-"}, {"intermediates": "rational", "max_numbers": 3, "number_range": (1, 9)},
    {"number_range": (0, 9), "target_range": (0, 20)},
]  # fmt: skip


def fraction(text: str) -> Fraction:
    return Fraction(text.strip("()"))


def check_line(line: str, problem: Problem, is_last: bool) -> None:
    """Every step is true arithmetic on numbers that are there, and the verdict fits the last value."""
    target = problem.truth["target"]
    at_hand = Counter(map(Fraction, problem.truth["numbers"]))
    value = None
    for index, match in enumerate(_STEP.finditer(line)):
        a, b = fraction(match[1]), fraction(match[3])
        value = Fraction(match[4])
        assert value == {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else None}[match[2]], line
        at_hand.subtract([a, b])
        assert min(at_hand.values()) >= 0, f"a number is used that is not there: {line}"
        at_hand[value] += 1
        left = re.search(r"(?:left|剩) ([-0-9/ ]+)", line)
        if index == 0 and left:
            assert Counter(map(Fraction, left[1].split())) == +at_hand
    if value is None:
        value = fraction(line.split()[1].strip(",，"))
    assert (value == target) == is_last
    assert line.rstrip(".。").endswith(("yes", "对") if is_last else (f"not {target}", f"不是 {target}"))


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_every_line_is_true(config: dict[str, object]) -> None:
    task = load_task("countdown", **config)
    num_dead_ends: Counter[int] = Counter()
    for problem in task.problems("train", 150):
        text = task.oracle(problem)
        assert text == task.oracle(problem)
        assert text.startswith("<think>\n") != bool(config.get("prefill_think"))
        thought = text.removeprefix("<think>\n").partition("\n</think>\n")[0]
        head, *tries = thought.splitlines()
        numbers = " ".join(map(str, sorted(problem.truth["numbers"])))
        assert f" {numbers}" in head
        assert f" {problem.truth['target']}" in head
        for line in tries:
            check_line(line, problem, line is tries[-1])
        num_dead_ends[len(tries) - 1] += 1
        score = task.score(problem, text)
        assert score.correct
        assert score.reward == 1.0
    assert set(num_dead_ends) <= ({0} if config.get("trace") == "plain" else {0, 1, 2})
    if not config:
        assert min(num_dead_ends[count] for count in (0, 1, 2)) > 25


def test_trace_as_documented() -> None:
    task = load_task("countdown", trace="plain")
    assert task.oracle(task.problem(numbers=[3, 14, 26, 45], target=71)) == (
        "<think>\n"
        "Numbers 3 14 26 45, target 71.\n"
        "Try 45 - 26 = 19, left 3 14 19. 19 * 3 = 57, 57 + 14 = 71, yes.\n"
        "</think>\n"
        "<answer>(45 - 26) * 3 + 14</answer>"
    )
    assert "5 - (1/5) = 24/5, 5 * (24/5) = 24, yes." in task.oracle(task.problem(numbers=[1, 5, 5, 5], target=24))
    assert "Try 7, yes." in task.oracle(task.problem(numbers=[7], target=7))
    assert "Try 7 * 2 = 14, yes." in task.oracle(task.problem(numbers=[2, 7], target=14))


def test_unsolvable_problems_have_no_oracle() -> None:
    task = load_task("countdown")
    with pytest.raises(ValueError, match=r"numbers=\[2, 8, 5\] cannot reach target=10 .*: (8 \+ 2|5 \* 2)"):
        task.oracle(task.problem(numbers=[2, 8, 5], target=10))
    with pytest.raises(ValueError, match=r"cannot reach target=1000 .* check numbers and target"):
        task.oracle(task.problem(numbers=[1, 1], target=1000))
    subset = load_task("countdown", use="subset")
    problem = subset.problem(numbers=[2, 8, 5], target=10)
    assert subset.score(problem, subset.oracle(problem)).correct


@pytest.mark.parametrize("language", ["en", "zh"])
def test_prompt_states_everything_briefly(language: str) -> None:
    task = load_task("countdown", language=language, max_numbers=3)
    problem = task.problem(numbers=[14, 26, 45], target=57)
    (message,) = problem.messages
    for part in ("14, 26, 45", "57", "+ - * /", "<think>", "</think>", "<answer>", "</answer>"):
        assert part in message.content
    tokens = re.findall(r"[0-9]| ?</?[a-z]+>| ?[A-Za-z]+|[一-鿿]| ?[^\sA-Za-z0-9]", message.content)
    assert len(tokens) <= 70
    assert problem.meta["prompt"] == f"countdown-{language}-1"
    assert load_task("countdown", operators="+-").problem(numbers=[1, 2], target=3).messages[0].content.count("*") == 0


def test_the_example_never_gives_the_answer_away() -> None:
    for operators in ("+-*/", "+", "-", "*", "/"):
        task = load_task("countdown", operators=operators)
        for numbers in ([1, 2], [1, 2, 3], [2, 1]):
            content = task.problem(numbers=numbers, target=9).messages[0].content
            example = content.rpartition("<answer>")[2].partition("</answer>")[0]
            assert example.strip()
            assert sorted(re.findall("[0-9]+", example)) != sorted(map(str, numbers))


def test_prefill_opens_the_assistant_turn() -> None:
    problem = load_task("countdown", prefill_think=True).problem(numbers=[1, 2], target=3)
    assert [message.role for message in problem.messages] == ["user", "assistant"]
    assert problem.messages[1].content == "<think>\n"
