"""Readings of the self-test: completions that common graders judge wrongly, and what this task must say to them."""

from __future__ import annotations

from collections.abc import Iterator

from gradus.tasks.gsm8k.score import grade

_CASES = (
    ("gold with a comma", "2,500", "#### 2500", "strict lenient"),
    ("answer with a comma", "2500", "#### 2,500", "strict lenient"),
    ("final dot", "25", "#### 25.", "strict lenient"),
    ("decimals", "25", "#### 25.00", "strict lenient"),
    ("money", "25", "#### $25", "strict lenient"),
    ("no blank", "25", "####25", "strict lenient"),
    ("unit", "25", "#### 25 dollars", "strict lenient"),
    ("sign lost", "-4", "#### 4", "wrong"),
    ("cut at the comma", "3,450", "#### 3,999", "wrong"),
    ("a long farewell", "25", "#### 25\n" + "I hope this helps. " * 30, "strict lenient"),
    ("no marker", "25", "So the answer is 25.", "lenient"),
    ("a box", "25", r"\boxed{25}", "lenient"),
    ("in words", "25", "#### twenty-five", "lenient"),
    ("two answers", "25", "#### 25 or 26", "wrong"),
    ("denied", "25", "#### not 25", "wrong"),
    ("not worked out", "24", "#### 8 * 3", "wrong"),
    ("almost", "25", "#### 24.9999999", "wrong"),
    ("empty marker", "25", "It is 25.\n####", "wrong"),
    ("only in the thought", "25", "<think>#### 25</think> I do not know.", "wrong"),
    ("the last marker counts", "25", "#### 24\n#### 25", "strict lenient"),
)


def reading_cases() -> Iterator[tuple[str, str, str]]:
    """(name, expected, actual) for each case."""
    for name, gold, completion, expected in _CASES:
        strict, lenient = grade(gold, completion)
        actual = " ".join(word for word, is_right in (("strict", strict), ("lenient", lenient)) if is_right)
        yield f"{name}: {completion[:24]!r} for {gold}", expected, actual or "wrong"
