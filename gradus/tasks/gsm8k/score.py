"""What a GSM8K completion is worth: both readings, exact comparison, and what each reward preset pays."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from gradus.tasks import answers
from gradus.tasks.answers import Style
from gradus.tasks.codes import Code, Reading
from gradus.tasks.gsm8k import numbers
from gradus.tasks.gsm8k.numbers import Number
from gradus.types import Finish, Score

_TAIL = 300
"""verl's strict reading looks at so many last characters."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Both readings of a completion.

    Example:
        judge("#### 18", Fraction(18)).is_strict  # True
    """

    is_strict: bool
    """Right, and written where and how the style asks for it."""
    is_lenient: bool
    """Right, wherever it is written and in any clear form."""
    strict: Number | None
    """The number that the strict reading found."""
    code: Code
    """Of the lenient reading: equality, or why there is no answer."""


def judge(text: str, gold: Fraction, *, style: Style = "hash", finish: Finish = "stop") -> Verdict:
    """Reads and compares. Total for every ``str``; another type is a TypeError."""
    reading = answers.read(text, style=style, strict=True, finish=finish, is_number=True)
    strict = _number(reading, is_plain=style == "hash")
    is_strict = isinstance(strict, Number) and (strict.value == gold if style == "hash" else strict.equals(gold))
    if style == "hash" and isinstance(strict, Number) and "<answer>" not in text:
        number: Number | Code = strict  # a marker decides the lenient reading too
    else:
        number = _number(answers.read(text, style=style, strict=False, finish=finish, is_number=True), is_plain=False)
    is_lenient = is_strict or (isinstance(number, Number) and number.equals(gold))
    if isinstance(number, Code):
        code = Code.SAME_VALUE if is_strict else number
    else:
        code = Code.SAME_VALUE if is_lenient else Code.DIFFERENT_VALUE
    return Verdict(is_strict, is_lenient, strict if isinstance(strict, Number) else None, code)


def _number(reading: Reading, *, is_plain: bool) -> Number | Code:
    """The number of a reading, or why it has none."""
    if reading.text is None:
        return reading.code
    return numbers.plain(reading.text) if is_plain else numbers.lenient(reading.text)


def answered(text: str, *, style: Style = "hash", finish: Finish = "stop") -> str | None:
    """The number that the lenient reading finds, written alike for equal ones; None where there is none.

    Example:
        answered("So it costs #### 2,500 dollars")  # "2500"
    """
    number = _number(answers.read(text, style=style, strict=False, finish=finish, is_number=True), is_plain=False)
    return None if isinstance(number, Code) else f"{Fraction(number.value)}{'%' if number.is_percent else ''}"


def grade(gold: str, completion: str) -> tuple[bool, bool]:
    """(strict, lenient): is the completion right? ``gold`` is a number or an answer that ends in ``#### number``.

    Example:
        grade("2,500", "It costs 2500 in all.\\n#### 2500 dollars")  # (True, True)
    """
    verdict = judge(completion, numbers.gold(gold))
    return verdict.is_strict, verdict.is_lenient


# ---------------------------------------------------------------- rewards: reward terms, which sum to the reward


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a preset may look at."""

    text: str
    gold: str
    verdict: Verdict
    finish: Finish
    keeps_gold_comma: bool
    reading: str


Terms = dict[str, float]


def _default(judged: Judged) -> Terms:
    return {"answer": 1.0 if judged.verdict.is_strict else 0.5 if judged.verdict.is_lenient else 0.0}


def _binary(judged: Judged) -> Terms:
    return {"answer": float(judged.verdict.is_lenient)}


def _seed_docs(judged: Judged) -> Terms:
    """verl-study's rule as documented, with the strict reading of this task over the whole text."""
    has_marker = "####" in judged.text
    return {
        "format": 0.1 if judged.verdict.strict is not None else 0.05 * has_marker,
        "answer": float(judged.verdict.is_strict),
    }


_VERL_STRICT = re.compile(r"#### (-?[0-9.,]+)")


def _seed_code(judged: Judged) -> Terms:
    """verl-study's rule as coded: verl's pattern in the last 300 characters, and equality of strings without commas."""
    found = _VERL_STRICT.findall(judged.text[-_TAIL:])
    if not found:
        return {"format": 0.05 * ("####" in judged.text), "answer": 0.0}
    gold = judged.gold.rpartition("####")[2].strip()
    gold = gold if judged.keeps_gold_comma else gold.replace(",", "")
    return {"format": 0.1, "answer": float(found[-1].replace(",", "") == gold)}


_NUMBER = re.compile(r"-?[0-9][0-9,]*(?:\.[0-9]+)?")
_BOXED_DIGITS = re.compile(r"\\boxed\{(-?[0-9][0-9,]*(?:\.[0-9]+)?)\}")


def _r3(judged: Judged) -> Terms:
    """qwen_rl's rule: 1 for the right number and -0.1 for all else. Signs and thousands are read, which it does not."""
    written = _r3_number(judged.text, judged.reading)
    number = None if written is None else Fraction(written.replace(",", ""))
    is_right = number is not None and abs(number - numbers.gold(judged.gold)) < Fraction(1, 10**6)
    return {"answer": 1.0 if is_right else -0.1}


def _r3_number(text: str, reading: str) -> str | None:
    """``first-hash`` and ``last-hash``: behind that marker, else the last number; ``box-digits``: the last such box."""
    text = text[-answers.MAX_WALK :]
    if reading == "box-digits":
        boxes = _BOXED_DIGITS.findall(text)
        return boxes[-1] if boxes else None
    at = text.find("####") if reading == "first-hash" else text.rfind("####")
    match = _NUMBER.match(text[at + 4 : at + 4 + numbers.MAX_ANSWER].lstrip(" $")) if at >= 0 else None
    if match is None:
        last = _NUMBER.findall(text)
        return last[-1][:400] if last else None
    return match[0][:400]


PRESETS: dict[str, tuple[Callable[[Judged], Terms], tuple[float, float]]] = {
    "default": (_default, (0.0, 1.0)),
    "binary": (_binary, (0.0, 1.0)),
    "seed-docs": (_seed_docs, (0.0, 1.1)),
    "seed-code": (_seed_code, (0.0, 1.1)),
    "r3": (_r3, (-0.1, 1.0)),
}
"""How each preset pays, and the lowest and highest reward that it can give."""


@lru_cache(maxsize=64)
def _refused(preset: str) -> Terms:
    return {"answer": PRESETS[preset][1][0]}


def score(
    text: str,
    gold: str,
    *,
    preset: str = "default",
    style: Style = "hash",
    keeps_gold_comma: bool = False,
    reading: str = "last-hash",
    finish: Finish = "stop",
) -> Score:
    """Scores a completion: the preset decides the reward, the lenient reading decides ``correct``."""
    verdict = judge(text, numbers.gold(gold), style=style, finish=finish)
    is_refused = verdict.code is Code.TOO_LONG
    if is_refused:
        parts = dict(_refused(preset))
    else:
        parts = PRESETS[preset][0](
            Judged(
                text=text, gold=gold, verdict=verdict, finish=finish, keeps_gold_comma=keeps_gold_comma, reading=reading
            )
        )
    reward = sum(parts.values())
    parts["info/strict"] = float(verdict.is_strict)
    parts["info/lenient"] = float(verdict.is_lenient)
    parts["info/format_fail"] = float(verdict.strict is None)
    parts["info/truncated"] = float(verdict.code is Code.TRUNCATED)
    parts.update(answers.facts(text))
    return Score(
        reward=reward,
        correct=verdict.is_lenient,
        parts=parts,
        why=str(verdict.code),
        status="refused" if is_refused else "scored",
    )
