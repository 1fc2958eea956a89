"""Numbers written in English words: ``twenty-one``, ``two hundred and five``, ``3 million``, ``a dozen``."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

_UNITS = {
    word: value
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen".split()
    )
}
_TENS = {
    word: 10 * value
    for value, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2)
} | {"fourty": 40}
SCALES = {
    "dozen": 12, "hundred": 100, "thousand": 1_000, "million": 10**6, "billion": 10**9, "trillion": 10**12,
    "hundreds": 100, "thousands": 1_000, "millions": 10**6, "billions": 10**9, "dozens": 12,
}  # fmt: skip
"""Words that multiply the number before them."""
NUMERALS = frozenset(_UNITS) | frozenset(_TENS) | frozenset(SCALES)
"""Words that begin or go on a number."""


def scale(words: Sequence[str]) -> int | None:
    """Product of the scale words, or None if another word is among them. ``["hundred", "thousand"]`` is 100,000."""
    product = 1
    for word in words:
        if word.lower() not in SCALES:
            return None
        product *= SCALES[word.lower()]
    return product


def read(words: Sequence[str]) -> int | Fraction | None:
    """Value of a number in words (hyphens already split), or None if the words are not one number.

    Example:
        read(["two", "hundred", "and", "five"])  # 205
        read(["a", "dozen"])                     # 12
    """
    words = [word.lower() for word in words]
    if words[:1] in (["a"], ["an"]) and len(words) > 1 and words[1] in SCALES:
        words[0] = "one"
    if not words or len(words) > 24 or words[0] not in NUMERALS:
        return None
    total = group = 0
    last = 10**15  # a word must be smaller than what it is added to: "five twenty" is no number
    for index, word in enumerate(words):
        if word == "and":
            if last < 100 or index == len(words) - 1:
                return None
        elif word in SCALES:
            size = SCALES[word]
            if group == 0 and index:
                return None
            group = max(group, 1) * size
            if size > 100:
                total, group = total + group, 0
            last = size
        else:
            value = _UNITS.get(word, _TENS.get(word))
            if value is None or (last < 100 and not (last >= 20 and 0 < value < 10)) or (value == 0 and len(words) > 1):
                return None
            group += value
            last = value
    return total + group
