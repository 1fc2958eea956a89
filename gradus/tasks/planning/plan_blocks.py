"""The last block of actions in what a model wrote: lenient reading, from behind, so that what is not in it is hardly
looked at. Linear in the text whatever it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gradus.tasks.planning.limits import Limits
from gradus.tasks.planning.plan_lines import (
    BLANK,
    CUT,
    TAGS,
    Action,
    Plan,
    PlanError,
    PlanFault,
    cut_duration,
    cut_stamp,
    fold,
    names_of,
)


@dataclass(frozen=True, slots=True)
class _Run:
    """The actions of a line, or of the part of it between two tags, up to where it cannot be read."""

    actions: list[Action]
    fault: PlanFault | None = None
    text: str = ""


_Piece = _Run | Literal["prose", "separator"]


def _is_plain_action(rest: str) -> bool:
    """Whether a trimmed line is one action and nothing else; true for the lines that matter, never wrongly."""
    return (
        rest[:1] == "("
        and rest.find(")") == len(rest) - 1
        and rest.find("(", 1) < 0
        and ";" not in rest
        and rest.isascii()
        and "\0" not in rest
    )


def read_lenient(lines: list[str], first_line: int, limits: Limits) -> Plan:
    found = _last_block(lines, limits)
    if found is None:
        has_prose = any("prose" in _pieces(line.strip(BLANK), limits) for line in lines)
        return Plan((), (), PlanError("no_plan_found") if has_prose else None)
    actions: list[Action] = []
    numbers: list[int] = []
    for index in range(found[0], found[1] + 1):
        rest, number = lines[index].strip(BLANK), first_line + index
        if not rest or rest[0] == ";":
            continue
        if _is_plain_action(rest) and (names := names_of(rest[1:-1], limits)):
            actions.append(names)
            numbers.append(number)
            continue
        pieces = _pieces(rest, limits)
        while pieces and isinstance(pieces[-1], str):
            pieces.pop()
        run = pieces[-1] if pieces else None
        if isinstance(run, _Run):
            actions += run.actions
            numbers += [number] * len(run.actions)
            if run.fault is not None:
                return Plan(tuple(actions), tuple(numbers), PlanError(run.fault, len(actions) + 1, number, run.text))
        if len(actions) > limits.plan_actions:
            break
    if len(actions) > limits.plan_actions:
        return Plan((), (), PlanError("plan_too_large"))
    return Plan(tuple(actions), tuple(numbers))


def _last_block(lines: list[str], limits: Limits) -> tuple[int, int] | None:
    """First and last line of the last block, found from behind: what is not in it is hardly looked at."""
    first: int | None = None
    last = next((index for index in range(len(lines) - 1, -1, -1) if "(" in lines[index]), -1)
    for index in range(last, -1, -1):
        rest = lines[index].strip(BLANK)
        if not rest or rest[0] == ";":
            continue
        is_whole = _is_surely_in_block(rest)
        if not is_whole:
            pieces = ["prose"] if _is_surely_prose(rest) else _pieces(rest, limits)
            while first is None and pieces and isinstance(pieces[-1], str):
                pieces.pop()
            if not pieces:
                continue
            if isinstance(pieces[-1], str):
                break
            is_whole = len(pieces) == 1
        if first is None:
            last = index
        first = index
        if not is_whole:
            break
    return None if first is None else (first, last)


def _is_surely_in_block(rest: str) -> bool:
    """A cheap look at a trimmed line: true for one whole action and for one that is never closed."""
    return rest[:1] == "(" and rest.find(")") in (-1, len(rest) - 1) and ";" not in rest and "<" not in rest


def _is_surely_prose(rest: str) -> bool:
    """A cheap look at a trimmed line: true for most lines of words, and for most words behind one action."""
    if "<" in rest:
        return False
    if rest[:1] != "(":
        return rest[:1].isalpha() and rest[0] not in "sS"  # "Step 1:" is a marker
    behind = rest[rest.rfind(")") + 1 :].lstrip(BLANK + ",.")
    return behind[:1].isalpha() and rest.count("(") == 1 and rest.count(")") == 1 and ";" not in rest


def _pieces(rest: str, limits: Limits) -> list[_Piece]:
    """What a trimmed line holds: runs of actions, prose, separators; nothing for a blank line or a comment."""
    comment = rest.find(";")
    if comment >= 0:
        rest = rest[:comment].rstrip(BLANK)
    if not rest:
        return []
    if rest.startswith("```"):
        return ["separator"]
    if "<" not in rest or not any(tag in fold(rest) for tag in TAGS):
        return [_classify(rest, limits)]
    return list(_around_tags(rest, limits))


def _around_tags(rest: str, limits: Limits) -> Iterator[_Piece]:
    folded = fold(rest)
    begin, at = 0, folded.find("<")
    while at >= 0:
        tag = next((t for t in TAGS if folded.startswith(t, at)), None)
        if tag is not None:
            before = rest[begin:at].strip(BLANK)
            if before:
                yield _classify(before, limits)
            yield "separator"
            begin = at + len(tag)
        at = folded.find("<", at + 1)
    behind = rest[begin:].strip(BLANK)
    if behind:
        yield _classify(behind, limits)


def _classify(rest: str, limits: Limits) -> _Piece:
    """One or more actions separated by blanks, commas or full stops, up to the first that is open, nested or empty."""
    rest = _unwrap(_cut_marker(rest))
    if not rest.startswith("("):
        return "prose"
    rest = cut_duration(rest)
    actions: list[Action] = []
    parts = rest.split("(", limits.plan_actions + 2)
    for index, part in enumerate(parts[1:], 1):
        body, closing, tail = part.partition(")")
        if not closing:
            return _Run(actions, "unclosed" if index == len(parts) - 1 else "nested", rest[:CUT])
        names = names_of(body, limits)
        if not names:
            return _Run(actions, "bad_line", "()")
        if tail.strip(BLANK + ",.") and index <= limits.plan_actions:
            return "prose"
        if not body.isascii() or "\0" in body:
            return _Run(actions, "bad_char", f"({body[:CUT]})")
        actions.append(names)
    return _Run(actions)


def _cut_marker(rest: str) -> str:
    """Cuts one list marker off: ``1.`` ``1)`` ``1:`` ``0.5:`` ``-`` ``*`` ``+`` ``•`` ``Step 1:``."""
    if rest[0] in "-+•" or (rest[0] == "*" and not rest.startswith("**")):
        return rest[1:].lstrip(BLANK)
    stamp, behind = cut_stamp(rest[:64])
    if stamp is not None:
        return behind + rest[64:]
    body = rest[4:].lstrip(BLANK) if rest[:4].lower() == "step" else rest
    num_digits = 0
    while num_digits < min(len(body), 10) and body[num_digits] in "0123456789":
        num_digits += 1
    if 0 < num_digits < 10 and body[num_digits : num_digits + 1] in (".", ")", ":"):
        return body[num_digits + 1 :].lstrip(BLANK)
    return rest


def _unwrap(rest: str) -> str:
    """Takes surrounding backticks or ``**`` away, one layer of each in either order."""
    for wrapper in ("**", "`", "**"):
        if len(rest) > 2 * len(wrapper) and rest.startswith(wrapper) and rest.endswith(wrapper):
            rest = rest[len(wrapper) : -len(wrapper)].strip(BLANK)
    return rest
