"""Are two mathematical answers equal? Cheap exact tiers first; a computer algebra system, if there is one, last.

Tiers, the first that decides ends: equal normal forms; different kinds; exact rational values; structures and
relations; numeric agreement to 50 digits; and for what the grammar does not read, math-verify in a killable worker.
Text is never executed. Limits are deterministic: what breaks one is wrong, with its code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from gradus.tasks.algebra.compare import Verdict, compare
from gradus.tasks.algebra.latex import MAX_CHARS, normal_form
from gradus.tasks.algebra.structures import parse
from gradus.tasks.algebra.values import Opaque, Words

_UNDECIDED = ("cas_timeout", "cas_crash")
MAX_RAW_CHARS = 2 * MAX_CHARS
"""Longer answers equal nothing (characters)."""
_PLACEHOLDERS = frozenset(
    ["", "?", "??", "???", "answer", "proof", "n/a", "tbd", "todo", "null", "nan", "\\ldots", "-", "_"]
)
_CHOICE = re.compile(r"(?:\\text\{)?\(?([A-Za-z])[).]?\}?")
_CHOICE_WITH_CONTENT = re.compile(r"\(([A-J])\)[ :]*(.+)|([A-J])[).:] *(.+)")
_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_LOOSE_BLANK = re.compile(r"(?<![0-9]) | (?![0-9])")
_FOR_CAS = re.compile(
    r"\\(?:int|iint|iiint|oint|sum|prod|lim|partial|nabla|det|gcd|max|min|mathrm\{d\}|begin\{vmatrix\}|pmod|bmod)(?![A-Za-z])"
)
_REFUSED_BY_CAS = re.compile(r"\\(?:input|include|write|def|csname|let|read|openin|immediate)|[0-9]{21}|\\ldots|\\text")
_EXPONENT = re.compile(r"\^\{([^{}]*)\}")
MAX_CAS_CHARS = 512


@dataclass(frozen=True, slots=True)
class Equivalence:
    """The answer to "are they equal?".

    Example:
        equal(r"\frac{3}{4}", "0.75")  # Equivalence(equal=True, method="rational", why="same_value")
    """

    equal: bool
    method: str
    """Tier that decided: text rational structure relation numeric cas kind none."""
    why: str
    """Equality code."""

    @property
    def decided(self) -> bool:
        """False only where the tool failed: the pair may be neither paid nor charged."""
        return self.why not in _UNDECIDED


class CasClient(Protocol):
    """Asks a computer algebra system that may hang or die."""

    def equal(self, gold: str, answer: str) -> str:
        """Returns ``cas_equal``, ``cas_unequal``, ``cas_timeout``, ``cas_crash``; ``unsupported`` if there is none."""
        ...


def equal(gold: str, answer: str, *, cas: CasClient | None = None) -> Equivalence:
    """Compares two answers; either may hold ``$``, ``\text{}``, one box. Symmetric, and total for strings.

    ``cas`` is asked only for what the grammar does not read: integrals, sums, limits, determinants.
    """
    gold, answer = gold.strip(), answer.strip()
    if max(len(gold), len(answer)) > MAX_RAW_CHARS:
        return Equivalence(False, "none", "too_long")
    first, second = normal_form(gold), normal_form(answer)
    if is_placeholder(first):
        return Equivalence(False, "none", "gold_unreadable")
    pair = (first, second) if first <= second else (second, first)
    verdict = _decide(*pair)
    if verdict.why == "unsupported" and cas is not None and _is_for_cas(*pair):
        why = cas.equal(*pair)
        return Equivalence(why == "cas_equal", "none" if why == "unsupported" else "cas", why)
    return Equivalence(*verdict)


def is_placeholder(normal: str) -> bool:
    """Whether a normal form stands for no answer at all."""
    return normal.lower() in _PLACEHOLDERS


def is_readable(gold: str) -> bool:
    """Whether a gold can be compared with: not empty, not a placeholder, within the limits, equal to itself."""
    return equal(gold, gold).equal


def is_opaque(gold: str) -> bool:
    """Whether only equal text (or the CAS) can match this gold, because the grammar does not read it."""
    return len(gold) <= MAX_RAW_CHARS and isinstance(parse(normal_form(gold)), Opaque)


@lru_cache(maxsize=65_536)
def _decide(first: str, second: str) -> Verdict:
    """All tiers but the CAS, on two normal forms in sorted order."""
    if max(len(first), len(second)) > MAX_CHARS:
        return Verdict(False, "none", "too_long")
    if first == second or _loose(first) == _loose(second):
        return Verdict(bool(first), "text", "same_text")
    choice = _compare_choices(first, second)
    return compare(parse(first), parse(second)) if choice is None else choice


def _loose(normal: str) -> str:
    r"""The normal form without ``\text`` and without blanks, but for those between digits."""
    return _LOOSE_BLANK.sub("", _TEXT.sub(r"\1", normal))


def _compare_choices(first: str, second: str) -> Verdict | None:
    """ "(B)", "B", "b" and "(B) 30" where one side is a single capital A to J; None where nothing is chosen."""
    letters, contents = [], []
    for normal in (first, second):
        if match := _CHOICE.fullmatch(normal):
            letters.append(match[1])
            contents.append("")
        elif match := _CHOICE_WITH_CONTENT.fullmatch(normal):
            letters.append(match[1] or match[3])
            contents.append(match[2] or match[4])
        else:
            return None
    if not any("A" <= letter <= "J" for letter in letters):
        return None
    if letters[0].upper() != letters[1].upper():
        return Verdict(False, "text", "different_value")
    if all(contents):
        return compare(parse(normal_form(contents[0])), parse(normal_form(contents[1])))
    return Verdict(True, "text", "same_text")


def _is_for_cas(first: str, second: str) -> bool:
    """Whether a pair may be sent: something only a CAS knows, and nothing that costs it much."""
    is_calculus = False
    for normal in (first, second):
        value = parse(normal)
        if isinstance(value, Words) or len(normal) > MAX_CAS_CHARS or _REFUSED_BY_CAS.search(normal):
            return False
        if isinstance(value, Opaque):
            if value.code != "unsupported" or not _FOR_CAS.search(normal):
                return False
            is_calculus = True
        for match in _EXPONENT.finditer(normal):
            if "^" in match[1] or any(int(digits) > 1_000 for digits in re.findall("[0-9]+", match[1])):
                return False
        if re.search(r"\^\{[^{}]*\{|\^\{[^{}]*\^", normal):
            return False
    return is_calculus
