"""What a reading of a completion is: its text, how it was found, and a code from a closed list."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """Why a score is what it is: a closed list, so that counts of it can be compared between runs."""

    # reading
    OK = "ok"
    EMPTY = "empty"
    NO_ANSWER = "no_answer"
    THINK_UNCLOSED = "think_unclosed"
    TRUNCATED = "truncated"
    EMPTY_TAG = "empty_tag"
    UNCLOSED_TAG = "unclosed_tag"
    EMPTY_BOX = "empty_box"
    UNCLOSED_BOX = "unclosed_box"
    EMPTY_MARKER = "empty_marker"
    NOT_A_NUMBER = "not_a_number"
    UNEVALUATED = "unevaluated"
    HEDGED = "hedged"
    NEGATED = "negated"
    TOO_LONG = "too_long"
    # Countdown
    CORRECT = "correct"
    WRONG_VALUE = "wrong_value"
    WRONG_NUMBERS = "wrong_numbers"
    FORMAT = "format"
    MALICIOUS = "malicious"
    DIVISION_BY_ZERO = "division_by_zero"
    UNUSED = "unused"
    EXTRA = "extra"
    BAD_TOKEN = "bad_token"
    BAD_NUMBER = "bad_number"
    SYNTAX = "syntax"
    TOO_DEEP = "too_deep"
    TOO_MANY_NUMBERS = "too_many_numbers"
    WRONG_RIGHT_SIDE = "wrong_right_side"
    CODE = "code"
    # equality
    SAME_TEXT = "same_text"
    SAME_VALUE = "same_value"
    SAME_STRUCTURE = "same_structure"
    DIFFERENT_VALUE = "different_value"
    DIFFERENT_STRUCTURE = "different_structure"
    DIFFERENT_KIND = "different_kind"
    UNIT_CONFLICT = "unit_conflict"
    UNSUPPORTED = "unsupported"
    TOO_LARGE = "too_large"
    GOLD_UNREADABLE = "gold_unreadable"
    CAS_EQUAL = "cas_equal"
    CAS_UNEQUAL = "cas_unequal"
    CAS_TIMEOUT = "cas_timeout"
    CAS_CRASH = "cas_crash"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was read, how, and whether it is an answer at all.

    Example:
        Reading(text="8 + 5 - 2", method="tag", code=Code.OK, num_candidates=1)
    """

    text: str | None
    """The answer as written, or None where there is none."""
    method: str
    """``hash``, ``tag``, ``boxed``, ``early``, ``phrase``, ``last`` or ``none``."""
    code: Code
    num_candidates: int
    """How many places of this kind the text has; the last one counts."""


def found(text: str, method: str, num_candidates: int, empty: Code) -> Reading:
    if not text or text.isspace():
        return Reading(text=None, method=method, code=empty, num_candidates=num_candidates)
    return Reading(text=text, method=method, code=Code.OK, num_candidates=num_candidates)


def not_found(code: Code = Code.NO_ANSWER, method: str = "none", num_candidates: int = 0) -> Reading:
    return Reading(text=None, method=method, code=code, num_candidates=num_candidates)
