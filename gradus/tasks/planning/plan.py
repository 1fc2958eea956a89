"""Plan text to actions: strictly, as a plan file, or leniently, as a model writes. Linear in the text whatever it is.

Only space, tab, CR, LF, VT and FF are white space; letters are folded to lower case in ASCII alone. No regular
expression is used: every look at the text is a search for a fixed string.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gradus.tasks.planning.forms import decode, is_number
from gradus.tasks.planning.limits import Limits, size_in_bytes

BLANK = " \t\r\n\v\f"
CUT = 80
"""Longest piece of an unreadable line that is kept for the message (characters)."""
_TAGS = ("<answer>", "</answer>", "<plan>", "</plan>")
_END_TOKENS = ("</s>", "<eos>", "<end_of_turn>")
_MAX_END_TOKEN_CHARS = 40
# str.split and str.strip know four more ASCII separators; as plain control characters they end up in a name instead.
_NO_SEPARATORS = {0x1C: 1, 0x1D: 1, 0x1E: 1, 0x1F: 1}

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


def parse_plan(
    text: str | bytes,
    mode: Literal["strict", "lenient"] = "strict",
    reasoning: Literal["keep", "strip"] = "keep",
    limits: Limits | None = None,
) -> Plan:
    """Reads a plan. Never raises for what the text says; TypeError for anything but str and bytes.

    ``strict``: one action per line, optionally with a time stamp before and a duration or comment after it.
    ``lenient``: special tokens, reasoning, fences, tags, list markers and prose are put aside; the last block of action
    lines is the plan. ``reasoning="strip"`` takes only what follows ``</think>`` in strict mode too.
    """
    limits = limits or Limits()
    content = decode(text)
    if size_in_bytes(content) > limits.plan_bytes:
        return Plan((), (), PlanError("plan_too_large"))
    if any(separator in content for separator in "\x1c\x1d\x1e\x1f"):
        content = content.translate(_NO_SEPARATORS)
    end = _end_of_answer(content) if mode == "lenient" else len(content)
    start = _after_reasoning(content, end)
    if start is not None and not content[start:end].strip(BLANK):
        return Plan((), ())
    if mode == "lenient" or reasoning == "strip":
        if start is None:
            return Plan((), (), PlanError("no_answer"))
    else:
        start = 0
    start = end - len(content[start:end].lstrip(BLANK))
    answer, first_line = content[start:end], content.count("\n", 0, start) + 1
    if mode == "strict":
        return _read_strict(answer.split("\n"), first_line, limits)
    if "(" not in answer:
        return Plan((), (), PlanError("no_plan_found") if _has_words(answer) else None)
    return _read_lenient(answer.split("\n"), first_line, limits)


def _end_of_answer(text: str) -> int:
    """Index behind the last character that is neither blank nor part of a trailing special token."""
    end = len(text)
    while True:
        end = _end_without_blanks(text, end)
        if text.endswith("|>", 0, end):
            start = text.rfind("<|", max(0, end - _MAX_END_TOKEN_CHARS), end - 2)
            token = text[start:end]
            if start < 0 or "(" in token or ")" in token or "\n" in token:
                return end
            end = start
            continue
        token = _closing_token(text, end)
        if not token:
            return end
        end -= len(token)


def _end_without_blanks(text: str, end: int) -> int:
    """Index behind the last character before ``end`` that is not blank. Pieces that double keep it linear and in C."""
    size = 64
    while end:
        piece = text[max(0, end - size) : end]
        kept = len(piece.rstrip(BLANK))
        end -= len(piece) - kept
        if kept:
            break
        size *= 2
    return end


def _closing_token(text: str, end: int) -> str:
    for token in _END_TOKENS:
        if text.endswith(token, 0, end):
            return token
    return ""


def _after_reasoning(text: str, end: int) -> int | None:
    """Index where the answer begins: behind the last ``</think>``. None where a ``<think>`` is left open."""
    if "<" not in text:
        return 0
    folded = _folded(text)
    closing = folded.rfind("</think>", 0, end)
    start = 0 if closing < 0 else closing + len("</think>")
    return None if folded.find("<think>", start, end) >= 0 else start


def _folded(text: str) -> str:
    """Lower case, every character that is not ASCII as one '?': indexes are those of the text."""
    return (text if text.isascii() else text.encode("ascii", "replace").decode("ascii")).lower()


def _has_words(text: str) -> bool:
    """Whether a text without parentheses is more than white space, comments, fences and tags."""
    bare = _folded(text)
    for tag in _TAGS:
        bare = bare.replace(tag, "\n")
    if not bare.strip(BLANK):
        return False
    lines = (line.lstrip(BLANK) for line in bare.split("\n"))
    return any(line and line[0] != ";" and not line.startswith("```") for line in lines)


def _read_strict(lines: list[str], first_line: int, limits: Limits) -> Plan:
    actions: list[Action] = []
    numbers: list[int] = []
    last_stamp: tuple[int, str] | None = None

    def failed(code: PlanFault, number: int, text: str) -> Plan:
        return Plan(tuple(actions), tuple(numbers), PlanError(code, len(actions) + 1, number, text.strip(BLANK)[:CUT]))

    for number, line in enumerate(lines, first_line):
        rest = line.strip(BLANK)
        if not rest:
            continue
        if "\0" in rest:
            return failed("bad_char", number, rest)
        comment = rest.find(";")
        if comment >= 0:
            rest = rest[:comment].rstrip(BLANK)
            if not rest:
                continue
        if not rest.isascii():
            return failed("bad_char", number, rest)
        if rest[0] != "(" or rest[-1] != ")":
            stamp, rest = _cut_stamp(rest)
            rest = _cut_duration(rest)
            if stamp is not None:
                if last_stamp is not None and stamp <= last_stamp:
                    return failed("bad_stamp", number, line)
                last_stamp = stamp
        fault = _fault(rest)
        if fault is not None:
            return failed(fault, number, line)
        if len(actions) >= limits.plan_actions:
            return Plan((), (), PlanError("plan_too_large"))
        actions.append(_names(rest[1:-1], limits))
        numbers.append(number)
    return Plan(tuple(actions), tuple(numbers))


def _names(body: str, limits: Limits) -> Action:
    """Names of an action. Arguments beyond what any action may have stay in one piece: their number is wrong anyway."""
    return tuple(body.lower().split(None, limits.parameters + 1))


def _fault(rest: str) -> PlanFault | None:
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


def _cut_stamp(rest: str) -> tuple[tuple[int, str] | None, str]:
    """Cuts ``12.5:`` off; a stamp is at most 9 digits, optionally with a fraction. Stamps compare as tuples."""
    head, colon, tail = rest.partition(":")
    whole, point, fraction = head.rstrip(BLANK).partition(".")
    is_stamp = colon and _is_digits(whole) and len(whole) <= 9 and (not point or _is_digits(fraction))
    return ((int(whole), fraction.rstrip("0")), tail.lstrip(BLANK)) if is_stamp else (None, rest)


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _cut_duration(rest: str) -> str:
    """Cuts ``[1.000]`` off the end."""
    if not rest.endswith("]"):
        return rest
    opening = rest.rfind("[")
    body = rest[:opening].rstrip(BLANK)
    return body if opening > 0 and is_number(rest[opening + 1 : -1].strip(BLANK)) and body.endswith(")") else rest


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


def _read_lenient(lines: list[str], first_line: int, limits: Limits) -> Plan:
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
        if _is_plain_action(rest) and (names := _names(rest[1:-1], limits)):
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
    if "<" not in rest or not any(tag in _folded(rest) for tag in _TAGS):
        return [_classify(rest, limits)]
    return list(_around_tags(rest, limits))


def _around_tags(rest: str, limits: Limits) -> Iterator[_Piece]:
    folded = _folded(rest)
    begin, at = 0, folded.find("<")
    while at >= 0:
        tag = next((t for t in _TAGS if folded.startswith(t, at)), None)
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
    rest = _cut_duration(rest)
    actions: list[Action] = []
    parts = rest.split("(", limits.plan_actions + 2)
    for index, part in enumerate(parts[1:], 1):
        body, closing, tail = part.partition(")")
        if not closing:
            return _Run(actions, "unclosed" if index == len(parts) - 1 else "nested", rest[:CUT])
        names = _names(body, limits)
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
    stamp, behind = _cut_stamp(rest[:64])
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
