"""Words inside answers: units, number words, and words that change what a number means."""

from __future__ import annotations

import re
from itertools import pairwise

from gradus.tasks import numerals

_SYNONYMS = {
    "mm": "mm millimeter millimeters millimetre millimetres",
    "cm": "cm cms centimeter centimeters centimetre centimetres",
    "m": "meter meters metre metres",
    "km": "km kms kilometer kilometers kilometre kilometres",
    "in": "in inch inches",
    "ft": "ft foot feet",
    "yd": "yd yds yard yards",
    "mi": "mi mile miles",
    "mg": "mg milligram milligrams",
    "g": "gram grams",
    "kg": "kg kgs kilogram kilograms",
    "lb": "lb lbs",
    "oz": "oz ounce ounces",
    "ton": "ton tons",
    "tonne": "tonne tonnes",
    "second": "sec secs second seconds",
    "minute": "min mins minute minutes",
    "hour": "hr hrs hour hours",
    "day": "day days",
    "week": "week weeks",
    "month": "month months",
    "year": "year years yr yrs",
    "degree": "degree degrees deg",
    "radian": "radian radians rad rads",
    "percent": "percent pct percents",
    "dollar": "dollar dollars usd",
    "cent": "cent cents",
    "euro": "euro euros eur",
}
KNOWN_UNITS: dict[str, str] = {word: unit for unit, words in _SYNONYMS.items() for word in words.split()}
"""Words of length, mass, time, angle, percent and money to one name each. Two that differ are a conflict."""
IN_TEXT = {"m": "m", "g": "g", "s": "second", "h": "hour"}
"""Known only inside ``\\text{}``: bare, they are variables."""
COMPOUND = {"mph": ("mi", "hour"), "kph": ("km", "hour"), "kmh": ("km", "hour"), "fps": ("ft", "second")}
AFTER_DIGIT_ONLY = frozenset("in mi mg pt ha dl".split())
"""Abbreviations that could be products of variables: units only after a digit and a blank."""
_SHORT_WORDS = frozenset(
    "men pie pies cat cats dog dogs egg eggs box car cars cup cups way ways bag bags boy boys girl girls pen pens hat "
    "hats ml gal gals qt pts sq cu per hz no of to yes odd all any the for chips begin".split()
) | frozenset(COMPOUND)
CHANGES_MEANING = frozenset(
    "not no never isn least most more less fewer than mod if when where unless except over under above below minus "
    "plus times half third quarter factorial squared cubed is are was be wrong incorrect false and or each apart both "
    "every neither nor only until maximum minimum choose ago".split()
)
_NAMES = frozenset(
    "sin cos tan cot csc log ln exp lim max gcd lcm det mod sqrt arcsin arccos arctan sinh cosh tanh".split()
)
_LETTERS = re.compile(r"[^\W\d_]+")


def is_listed(run: str) -> bool:
    """Whether a run of letters is a unit, a number word or another word of the lists above."""
    lower = run.lower()
    if len(run) < 2 or lower in AFTER_DIGIT_ONLY:
        return False
    return lower in KNOWN_UNITS or lower in _SHORT_WORDS or lower in numerals.NUMERALS or lower in CHANGES_MEANING


def is_word(run: str) -> bool:
    """Whether a bare run of letters is a word and not a product of variables.

    Example:
        is_word("hours"), is_word("cm"), is_word("xyz"), is_word("abcd")  # True, True, False, False
    """
    lower = run.lower()
    if is_listed(run):
        return True
    if (
        len(run) < 4
        or lower in _NAMES
        or set(lower).isdisjoint("aeiou")
        or (run[1:] != lower[1:] and not run.isupper())
    ):
        return False
    return any(not 0 <= ord(after) - ord(before) <= 1 for before, after in pairwise(lower))  # abcd, aabb: variables


def words_of(token: str) -> list[str]:
    """The words of a ``\\text{}`` token or of a run of letters."""
    return _LETTERS.findall(token[6:-1] if token.startswith(r"\text{") else token)


def is_text(token: object) -> bool:
    """Whether a token is text: ``\\text{...}`` or a word."""
    return isinstance(token, str) and (token.startswith(r"\text{") or (token[0].isalpha() and is_word(token)))
