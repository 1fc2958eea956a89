"""One line of a plan: the names of an action, a time stamp, a duration, and what keeps a line from being an action.

Only space, tab, CR, LF, VT and FF are white space; letters are folded to lower case in ASCII alone. No regular
expression is used: every look at the text is a search for a fixed string.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gradus.tasks.planning.forms import is_number
from gradus.tasks.planning.limits import Limits

BLANK = " \t\r\n\v\f"
CUT = 80
"""Longest piece of an unreadable line that is kept for the message (characters)."""
TAGS = ("<answer>", "</answer>", "<plan>", "</plan>")

Action = tuple[str, ...]
PlanFault = Literal[
    "bad_line", "bad_char", "bad_stamp", "unclosed", "nested", "plan_too_large", "no_answer", "no_plan_found"
]


@dataclass(frozen=True, slots=True)
class PlanError:
    """Why a text is no plan. ``step``: 1-based place among the actions; None where the text as a whole is wrong."""

    code: PlanFault
    step: int | None = None
    line: int | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Actions as written (lower case), with their lines; with ``error``, those before it.

    Example:
        parse_plan("(pickup b1)\\n(stack b1 b2)")  # Plan((("pickup", "b1"), ("stack", "b1", "b2")), (1, 2), None)
    """

    actions: tuple[Action, ...]
    lines: tuple[int, ...]
    error: PlanError | None = None


def names_of(body: str, limits: Limits) -> Action:
    """Names of an action. Arguments beyond what any action may have stay in one piece: their number is wrong anyway."""
    return tuple(body.lower().split(None, limits.parameters + 1))


def fault_of(rest: str) -> PlanFault | None:
    """What keeps ``rest`` from being exactly one action."""
    if not rest.startswith("("):
        return "bad_line"
    closing, again = rest.find(")"), rest.find("(", 1)
    if closing < 0:
        return "unclosed"
    if 0 < again < closing:
        return "nested"
    if closing != len(rest) - 1 or not rest[1:-1].strip(BLANK):
        return "bad_line"
    return None


def cut_stamp(rest: str) -> tuple[tuple[int, str] | None, str]:
    """Cuts ``12.5:`` off; a stamp is at most 9 digits, optionally with a fraction. Stamps compare as tuples."""
    head, colon, tail = rest.partition(":")
    whole, point, fraction = head.rstrip(BLANK).partition(".")
    is_stamp = colon and _is_digits(whole) and len(whole) <= 9 and (not point or _is_digits(fraction))
    return ((int(whole), fraction.rstrip("0")), tail.lstrip(BLANK)) if is_stamp else (None, rest)


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def cut_duration(rest: str) -> str:
    """Cuts ``[1.000]`` off the end."""
    if not rest.endswith("]"):
        return rest
    opening = rest.rfind("[")
    body = rest[:opening].rstrip(BLANK)
    return body if opening > 0 and is_number(rest[opening + 1 : -1].strip(BLANK)) and body.endswith(")") else rest


def fold(text: str) -> str:
    """Lower case, every character that is not ASCII as one '?': indexes are those of the text."""
    return (text if text.isascii() else text.encode("ascii", "replace").decode("ascii")).lower()
