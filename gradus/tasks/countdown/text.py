"""What Countdown says: the prompt, and the worked search that the oracle writes."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

from gradus.seeds import seed_of
from gradus.tasks.countdown.trees import ALL_OPERATORS, Step, Tree, Value, results, steps, write

PROMPT_IDS = {"en": "countdown-en-1", "zh": "countdown-zh-1"}
"""Changes whenever a wording changes; recorded in every problem."""

_PROMPTS = {
    "en": {
        "all": "Use every one of these numbers exactly once: {numbers}.",
        "subset": "Use any of these numbers, each at most once: {numbers}.",
        "goal": " Reach {target} with {operators} and parentheses."
        " Think inside <think> </think>, then write only the expression inside <answer> </answer>,"
        " like <answer>{example}</answer>.",
    },
    "zh": {
        "all": "把下列每个数恰好用一次：{numbers}。",
        "subset": "从下列数中任选，每个最多用一次：{numbers}。",
        "goal": "用 {operators} 和括号得到 {target}。在 <think> </think> 内思考，"
        "然后在 <answer> </answer> 内只写算式，例如 <answer>{example}</answer>。",
    },
}
_EXAMPLES = {
    ALL_OPERATORS: ("(1 + 2) * 3", "(2 + 4) * 5"),
    "+": ("1 + 2", "3 + 4"),
    "-": ("2 - 1", "4 - 3"),
    "*": ("2 * 1", "4 * 3"),
    "/": ("2 / 1", "6 / 3"),
}

MAX_SHOWN = 1000
"""Dead ends with larger intermediate values are not shown: nobody would try them."""


@dataclass(frozen=True, slots=True)
class Words:
    """The few words of a trace."""

    head: str
    attempt: str
    left: str
    no: str
    yes: str
    end: str
    gap: str
    comma: str


_WORDS = {
    "en": Words("Numbers {numbers}, target {target}.", "Try ", "left {numbers}", "not {target}", "yes", ".", " ", ", "),
    "zh": Words("数字 {numbers}，目标 {target}。", "试 ", "剩 {numbers}", "不是 {target}", "对", "。", "", "，"),
}


def prompt(numbers: tuple[int, ...], target: int, *, operators: str, use: str, language: str) -> str:
    """The whole user message. Its example never uses the problem's own numbers."""
    texts = _PROMPTS[language]
    first, second = _EXAMPLES[ALL_OPERATORS if set(operators) == set(ALL_OPERATORS) else operators[0]]
    is_same = sorted(map(str, numbers)) == sorted(character for character in first if character.isdigit())
    return (texts[use] + texts["goal"]).format(
        numbers=", ".join(map(str, numbers)),
        target=target,
        operators=" ".join(operators),
        example=second if is_same else first,
    )


def trace(numbers: tuple[int, ...], target: int, tree: Tree, *, style: str, language: str, operators: str) -> str:
    """The oracle's thought: the numbers, in style ``search`` up to two dead ends, and the way. Every line is true.

    The number and the choice of dead ends depend on the problem alone.
    """
    words = _WORDS[language]
    tries: dict[str, None] = {}
    if style == "search" and len(numbers) > 1:
        rng = random.Random(seed_of("countdown-trace", target, *numbers))
        for _ in range(int(rng.random() * 3)):
            missed = _dead_end(numbers, target, rng, operators)
            if missed:
                tries[_line(numbers, missed, words, words.no.format(target=target))] = None
    head = words.head.format(numbers=_listed(numbers), target=target)
    return "\n".join([head, *tries, _line(numbers, steps(tree), words, words.yes)])


def answer(tree: Tree) -> str:
    """The oracle's expression between its tags."""
    return f"<answer>{write(tree)}</answer>"


def _dead_end(numbers: tuple[int, ...], target: int, rng: random.Random, operators: str) -> list[Step] | None:
    """Draws a complete sequence of steps that misses ``target``; None where eight draws found none worth showing."""
    for _ in range(8):
        left: list[Value] = list(numbers)
        made: list[Step] = []
        while len(left) > 1:
            left.sort(key=lambda _: rng.random())
            choices = [step for step in results(left[0], left[1], operators) if abs(step[3]) < MAX_SHOWN]
            if not choices:
                break
            made.append(choices[int(rng.random() * len(choices))])
            left = [*left[2:], made[-1][3]]
        if len(left) == 1 and left[0] != target:
            return made
    return None


def _line(numbers: tuple[int, ...], made: list[Step], words: Words, verdict: str) -> str:
    """One try: the first step and what it leaves, then the others, then the verdict."""
    if not made:
        return f"{words.attempt}{_listed(numbers)}{words.comma}{verdict}{words.end}"
    first, *others = [f"{_number(a)} {operator} {_number(b)} = {value}" for operator, a, b, value in made]
    rest = words.comma.join([*others, verdict]) + words.end
    if len(numbers) == 2:
        return f"{words.attempt}{first}{words.comma}{rest}"
    _, a, b, value = made[0]
    left: list[Value] = [*numbers, value]
    left.remove(a)
    left.remove(b)
    return f"{words.attempt}{first}{words.comma}{words.left.format(numbers=_listed(left))}{words.end}{words.gap}{rest}"


def _listed(numbers: Iterable[Value]) -> str:
    return " ".join(map(str, sorted(numbers)))


def _number(value: Value) -> str:
    """A fraction or a negative number in parentheses, so that the line is true as it stands."""
    return str(value) if isinstance(value, int) and value >= 0 else f"({value})"
