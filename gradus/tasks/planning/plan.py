"""Plan text to actions: strictly, as a plan file, or leniently, as a model writes. Linear in the text whatever it is."""

from __future__ import annotations

from typing import Literal

from gradus.tasks.planning.forms import decode
from gradus.tasks.planning.limits import Limits, size_in_bytes
from gradus.tasks.planning.plan_blocks import read_lenient
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
    fault_of,
    fold,
    names_of,
)

__all__ = ["Action", "Plan", "PlanError", "PlanFault", "parse_plan"]

_END_TOKENS = ("</s>", "<eos>", "<end_of_turn>")
_MAX_END_TOKEN_CHARS = 40
# str.split and str.strip know four more ASCII separators; as plain control characters they end up in a name instead.
_NO_SEPARATORS = {0x1C: 1, 0x1D: 1, 0x1E: 1, 0x1F: 1}


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
    return read_lenient(answer.split("\n"), first_line, limits)


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
    folded = fold(text)
    closing = folded.rfind("</think>", 0, end)
    start = 0 if closing < 0 else closing + len("</think>")
    return None if folded.find("<think>", start, end) >= 0 else start


def _has_words(text: str) -> bool:
    """Whether a text without parentheses is more than white space, comments, fences and tags."""
    bare = fold(text)
    for tag in TAGS:
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
            stamp, rest = cut_stamp(rest)
            rest = cut_duration(rest)
            if stamp is not None:
                if last_stamp is not None and stamp <= last_stamp:
                    return failed("bad_stamp", number, line)
                last_stamp = stamp
        fault = fault_of(rest)
        if fault is not None:
            return failed(fault, number, line)
        if len(actions) >= limits.plan_actions:
            return Plan((), (), PlanError("plan_too_large"))
        actions.append(names_of(rest[1:-1], limits))
        numbers.append(number)
    return Plan(tuple(actions), tuple(numbers))
