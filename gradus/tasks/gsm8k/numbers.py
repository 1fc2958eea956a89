"""The one number of an answer: the plain form that a strict reading asks for, and all that a lenient one accepts."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from gradus.tasks.algebra.latex import normal_form
from gradus.tasks.algebra.quantities import Quantity
from gradus.tasks.algebra.structures import parse
from gradus.tasks.algebra.values import Labelled
from gradus.tasks.codes import Code
from gradus.tasks.numerals import SCALES
from gradus.tasks.sentences import doubt, last_value

MAX_ANSWER = 2_000
"""Longer answers are no number (characters)."""

_DECORATION = " \t$€£¥*=:\\"
_LEAD = re.compile(r"(?:the )?(?:final )?answer(?: is)?\b", re.IGNORECASE)
_BOX = re.compile(r"\\f?boxe?d?\s*\{([^{}]*)\}")
_PLAIN = re.compile(r"(-?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]*)?)(.*)", re.DOTALL)
_AFTER = re.compile(
    r"(?: ?\\?%)?(?:[.,*$\s]*|\s*(?P<word>[A-Za-z]{2,})(?![0-9])(?P<rest>.*)|\s+[^\WkKeExXMbB\d_]\b.*)", re.DOTALL
)
"""What may follow a plain number: nothing but marks, a word (a unit), or one letter that is no k, e, x, m or b."""
_NO_UNIT = frozenset(SCALES) | frozenset("and or to plus minus times over point by".split())
"""Words behind a number that make it another number, or half of one."""
_OR_MORE = re.compile(r"\b(?:or|to)\b[^0-9]{0,12}[0-9]")
_SPACED_GROUPS = re.compile(r"(?<![0-9.,])([0-9]{1,3}(?:, [0-9]{3})+)(?![0-9,])")
_THOUSANDS = re.compile(r"(-?\$?[0-9]+(?:\.[0-9]+)?) ?[kK]\b\.?")
_SCIENTIFIC = re.compile(r"-?[0-9.]+(?:\\times|\\cdot)10\^\{-?[0-9]{1,3}\}.*")
_OPERATION = re.compile(r"[-+*(\[|!^&]|\\(?:times|cdot|div|sqrt|pm|binom)|(?<![0-9}])/|/(?![0-9])")
_PROSE = re.compile(r"[A-Za-z]{2,}[^A-Za-z]+[A-Za-z]{2,}|[\u4e00-\u9fff]")


class Number(NamedTuple):
    """A number as read.

    Example:
        Number(50, is_percent=True)   # "50%"
    """

    value: int | Fraction
    is_percent: bool = False

    def equals(self, gold: int | Fraction) -> bool:
        """Exact equality; a percentage also stands for its hundredth."""
        return self.value == gold or (self.is_percent and Fraction(self.value) / 100 == gold)


@lru_cache(maxsize=8_192)
def gold(text: str) -> Fraction:
    """The exact value of a gold such as ``2,500`` or ``#### 18`` or ``145.0``. ValueError where it is no number."""
    written = text.rpartition("####")[2].replace(",", "").replace("$", "").strip()
    if not re.fullmatch(r"-?[0-9]{1,400}(?:\.[0-9]{0,400})?", written):
        raise ValueError(f"answer {text[-40:]!r} does not end in a number; GSM8K answers end in a line like '#### 18'")
    return Fraction(written.rstrip("."))


def plain(line: str) -> Number | Code:
    """Reads ``-1,250.50 dollars``, after ``$``, "the answer is" or a box; a code for everything that is not plain."""
    if len(line) > MAX_ANSWER:
        return Code.NOT_A_NUMBER
    code = doubt(line)
    if code is Code.NEGATED or code is Code.HEDGED:
        return code
    text = _undecorated(line.strip())
    if "=" in text:
        text = _undecorated(text.rpartition("=")[2])
    match = _PLAIN.match(text)
    after = _AFTER.fullmatch(match[2]) if match else None
    if match is None or after is None:
        return Code.NOT_A_NUMBER
    if after["word"] and after["word"].lower() in _NO_UNIT:
        return Code.NOT_A_NUMBER
    if after["rest"] and _OR_MORE.search(match[2]):
        return Code.HEDGED
    return Number(_value(match[1]), "%" in match[2][:3])


def _undecorated(text: str) -> str:
    """Without marks of money and emphasis in front, "the answer is", and a box around."""
    text = text.lstrip(_DECORATION) if not text.startswith("\\b") else text
    if match := _LEAD.match(text):
        text = text[match.end() :].lstrip(_DECORATION)
    if match := _BOX.match(text):
        text = (match[1] + text[match.end() :]).lstrip(_DECORATION)
    return text


def _value(written: str) -> int | Fraction:
    whole, _, decimals = written.replace(",", "").partition(".")
    return Fraction(int(whole + decimals), 10 ** len(decimals)) if decimals else int(whole)


@lru_cache(maxsize=16_384)
def lenient(text: str) -> Number | Code:
    """Reads a number in any clear form: also ``- 4``, fractions, mixed numbers, ``2.5e3``, words, ``1 250``, ``100k``,
    or the one that a sentence ends with."""
    if len(text) > MAX_ANSWER:
        return Code.NOT_A_NUMBER
    code = doubt(text)
    if code is not Code.OK:
        return code
    number = plain(text)
    if isinstance(number, Number) and not _PROSE.search(text):
        return number
    if (read := _whole(text)) is not None:
        return read
    if isinstance(number, Number):
        return number
    if not _PROSE.search(text):
        return Code.NOT_A_NUMBER
    last = last_value(text, is_number=True)
    read = None if last.text is None else _whole(last.text)
    return read or (Code.NOT_A_NUMBER if last.code is Code.OK else last.code)


def _whole(text: str) -> Number | None:
    """The number that the whole text is."""
    text = text.rpartition("=")[2].strip().strip("*").strip()
    text = _SPACED_GROUPS.sub(lambda match: match[1].replace(" ", ""), text)
    if match := _THOUSANDS.fullmatch(text):
        return Number(1000 * Fraction(match[1].replace("$", "")))
    normal = normal_form(text)
    value = parse(normal)
    if isinstance(value, Labelled):
        value = value.value
    if not isinstance(value, Quantity) or not isinstance(value.tree, (int, Fraction)):
        return None
    is_written_out = not _OPERATION.search(normal.lstrip("-")) or _SCIENTIFIC.fullmatch(normal)
    return Number(value.tree, value.is_percent) if is_written_out else None
