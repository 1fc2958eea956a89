"""What a Countdown completion is worth: its class, exactly, and what each reward preset pays for it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Literal, NamedTuple

from gradus.tasks import answers
from gradus.tasks.answers import Code, Reading
from gradus.tasks.arithmetic import Expression, Refusal, parse
from gradus.tasks.countdown.trees import ALL_OPERATORS
from gradus.types import Finish, Score

Use = Literal["all", "subset"]
REFUSED = frozenset((Code.TOO_LONG, Code.TOO_DEEP, Code.TOO_MANY_NUMBERS))


class Verdict(NamedTuple):
    """What a completion is.

    Example:
        classify("<answer>8 + 5 - 2</answer>", [2, 5, 8], 11)  # Verdict(Code.CORRECT, None, "8 + 5 - 2", 11)
    """

    klass: Code
    """``correct``, ``wrong_value``, ``wrong_numbers``, ``format`` or ``malicious``."""
    code: Code | None
    """What is wrong, more closely."""
    expression: str | None = None
    """What was evaluated, where an expression was read."""
    value: int | Fraction | None = None
    """Its exact value; None also where it divides by zero."""


def classify(
    text: str,
    numbers: Sequence[int],
    target: int,
    *,
    use: Use = "all",
    operators: str = ALL_OPERATORS,
    finish: Finish = "stop",
) -> Verdict:
    """Judges the expression in the last answer tag after the reasoning. Total for every ``str``."""
    return _judge(answers.read(text, style="tag", strict=True, finish=finish), numbers, target, use, operators)


def _judge(reading: Reading, numbers: Sequence[int], target: int, use: Use, operators: str) -> Verdict:
    if reading.text is None:
        return Verdict(Code.FORMAT, reading.code)
    try:
        expression = parse(reading.text, target, operators=operators)
    except Refusal as refusal:
        return Verdict(Code.MALICIOUS if refusal.code is Code.CODE else Code.FORMAT, refusal.code)
    code = _misuse(expression, numbers, use)
    if code is not None:
        return Verdict(Code.WRONG_NUMBERS, code, expression.text, expression.value)
    if expression.value is None:
        return Verdict(Code.WRONG_VALUE, Code.DIVISION_BY_ZERO, expression.text)
    klass = Code.CORRECT if expression.value == target else Code.WRONG_VALUE
    return Verdict(klass, None, expression.text, expression.value)


def _misuse(expression: Expression, numbers: Sequence[int], use: Use) -> Code | None:
    """Compares the literals with the numbers, as multisets. Signs are free in the grammar, so they do not count."""
    given = sorted(map(abs, numbers))
    if sorted(expression.numbers) == given:
        return None
    if Counter(expression.numbers) - Counter[int | Fraction](given):
        return Code.EXTRA
    return Code.UNUSED if use == "all" else None


# ---------------------------------------------------------------- rewards: reward terms, which sum to the reward

Terms = dict[str, float]


def _default(verdict: Verdict, text: str, numbers: Sequence[int], target: int) -> Terms:
    return {"answer": 1.0 if verdict.klass is Code.CORRECT else 0.1 if verdict.klass is Code.WRONG_VALUE else 0.0}


def _binary(verdict: Verdict, text: str, numbers: Sequence[int], target: int) -> Terms:
    return {"answer": float(verdict.klass is Code.CORRECT)}


def _seed_docs(verdict: Verdict, text: str, numbers: Sequence[int], target: int) -> Terms:
    """As verl-study's README describes its rule: structure, then numbers, then value."""
    after, _, code = answers.visible(answers.trim(text))
    has_structure = "</think>" in text and code is Code.OK and answers.last_tag(after).text is not None
    has_numbers = has_structure and verdict.klass in (Code.CORRECT, Code.WRONG_VALUE)
    return {
        "tag": 0.2 * has_structure,
        "numbers": 0.4 * has_numbers,
        "value": 0.4 * (has_numbers and verdict.klass is Code.CORRECT),
    }


_DIGITS = re.compile(r"[0-9]+")
_TOLERANCE = Fraction(1, 100_000)


def _seed_code(verdict: Verdict, text: str, numbers: Sequence[int], target: int) -> Terms:
    """As verl-study's code pays: first tag anywhere, runs of digits, a tolerance. Its holes are counted, not closed."""
    terms = {"think": 0.1 * ("</think>" in text), "tag": 0.0, "numbers": 0.0, "value": 0.0}
    start = text.find("<answer>")
    end = text.find("</answer>", start + 8)
    if start < 0 or end < 0:
        return terms
    terms["tag"] = 0.1
    inside = text[start + 8 : end]
    runs = [run.lstrip("0") or "0" for run in _DIGITS.findall(inside)]
    if sorted(runs) != sorted(str(abs(number)) for number in numbers):
        return terms
    terms["numbers"] = 0.3
    try:
        value = parse(inside, is_decimal=True).value
    except Refusal:
        return terms
    terms["value"] = 0.5 * (value is not None and abs(value - target) < _TOLERANCE)
    return terms


Preset = Callable[[Verdict, str, Sequence[int], int], Terms]
PRESETS: dict[str, tuple[Preset, tuple[str, ...]]] = {
    "default": (_default, ("answer",)),
    "binary": (_binary, ("answer",)),
    "seed-docs": (_seed_docs, ("tag", "numbers", "value")),
    "seed-code": (_seed_code, ("think", "tag", "numbers", "value")),
}
"""How each preset pays, and the names of its terms."""


def score(
    text: str,
    numbers: Sequence[int],
    target: int,
    *,
    preset: str = "default",
    use: Use = "all",
    operators: str = ALL_OPERATORS,
    finish: Finish = "stop",
) -> Score:
    """Scores a completion: the preset decides the reward, ``classify`` decides ``correct``."""
    verdict = classify(text, numbers, target, use=use, operators=operators, finish=finish)
    is_correct = verdict.klass is Code.CORRECT
    is_refused = verdict.code in REFUSED
    pay, names = PRESETS[preset]
    parts = dict.fromkeys(names, 0.0) if is_refused else pay(verdict, text, numbers, target)
    reward = sum(parts.values())
    has_format = verdict.expression is not None
    is_lenient = is_correct
    if not has_format and len(text) <= answers.MAX_CHARS:
        reading = answers.read(text, style="tag", strict=False, finish=finish)
        is_lenient = _judge(reading, numbers, target, use, operators).klass is Code.CORRECT
    parts["info/strict"] = float(is_correct)
    parts["info/lenient"] = float(is_lenient)
    parts["info/format_fail"] = float(not has_format)
    parts.update(answers.facts(text))
    if preset == "seed-code":
        parts["info/hole"] = float(reward >= 1.0 and not is_correct)
    return Score(
        reward=reward,
        correct=is_correct,
        parts=parts,
        why=f"{verdict.klass}/{verdict.code}" if verdict.code else str(verdict.klass),
        status="refused" if is_refused else "scored",
    )
