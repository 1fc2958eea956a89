"""The strict reading of an answer: exactly one JSON object with ``work`` and ``consumption`` in [0,1], and nothing else.

One scan from left to right; the reason is the first violation. It never raises, recurses or evaluates, and is linear in
the length of the text.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from gradus.tasks.economy.values import on_grid

Reason = Literal[
    "ok", "not_text", "empty", "fenced", "not_object", "no_object", "text_before", "syntax", "unknown_key",
    "duplicate_key", "value_type", "non_finite", "out_of_range", "missing_key", "truncated", "text_after",
]  # fmt: skip
REASONS: tuple[str, ...] = Reason.__args__  # type: ignore[attr-defined]
KEYS = ("work", "consumption")
BLANKS = " \t\r\n"
_BLANK_RUN = re.compile(r"[ \t\r\n]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_NUMBER_BEGUN = re.compile(r"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE](?P<exponent>[+-]?[0-9]*))?)?")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_HEX = re.compile(r"[0-9a-fA-F]{4}")
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_LITERALS = {"true": "value_type", "false": "value_type", "null": "value_type",
             "NaN": "non_finite", "Infinity": "non_finite", "-Infinity": "non_finite"}  # fmt: skip
_WORD = re.compile(r"-?[A-Za-z0-9_]+")


@dataclass(frozen=True, slots=True)
class Decision:
    """An answer as read. Numbers are there only where it is ``ok``.

    Example:
        parse_decision('{"work": 0.9, "consumption": 0.42}').consumption  # 0.42
    """

    ok: bool
    reason: str
    work: float | None = None
    consumption: float | None = None
    on_grid: bool = False
    """Whether both lie on multiples of 0.02: advice, not a rule."""


class _Fault(Exception):
    """Ends the scan with a reason."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class _Key(NamedTuple):
    name: str
    end: int


def parse_decision(text: object) -> Decision:
    """Reads an answer by the strict rule. Total: anything gets a Decision."""
    if not isinstance(text, str):
        return Decision(False, "not_text")
    body = text.strip(BLANKS)
    fault = _before(body)
    if fault:
        return Decision(False, fault)
    try:
        found = _object(body)
    except _Fault as raised:
        return Decision(False, raised.reason)
    work, consumption = found["work"], found["consumption"]
    return Decision(True, "ok", work, consumption, on_grid(work, consumption))


def canonical(work: float, consumption: float) -> str:
    """The answer as it is best written."""
    return json.dumps({"work": round(work, 4), "consumption": round(consumption, 4)})


def _before(body: str) -> Reason | None:
    """What is wrong before the first brace."""
    if not body:
        return "empty"
    if body[0] == "{":
        return None
    if body.startswith("```"):
        return "fenced"
    if body[0] in '["-0123456789' or body in ("true", "false", "null"):
        return "not_object"
    return "text_before" if "{" in body else "no_object"


def _object(body: str) -> dict[str, float]:
    found: dict[str, float] = {}
    at = _skip(body, 1)
    if body.startswith("}", at):
        raise _Fault("missing_key")
    while True:
        key = _key(body, at, found)
        at = _skip(body, key.end)
        if at == len(body):
            raise _Fault("truncated")
        if body[at] != ":":
            raise _Fault("syntax")
        found[key.name], at = _value(body, _skip(body, at + 1))
        at = _skip(body, at)
        if at == len(body):
            raise _Fault("truncated")
        if body[at] == "}":
            break
        if body[at] != ",":
            raise _Fault("syntax")
        at = _skip(body, at + 1)
    if len(found) < len(KEYS):
        raise _Fault("missing_key")
    if at + 1 < len(body):
        raise _Fault("text_after")
    return found


def _skip(body: str, at: int) -> int:
    match = _BLANK_RUN.match(body, at)
    assert match is not None
    return match.end()


def _key(body: str, at: int, found: dict[str, float]) -> _Key:
    """A key that may stand here, and where it ends."""
    open_keys = [key for key in KEYS if key not in found]
    if at == len(body):
        raise _Fault("truncated" if open_keys else "syntax")
    if body[at] != '"':
        raise _Fault("syntax")
    pieces: list[str] = []
    at += 1
    while True:
        plain = _PLAIN.match(body, at)
        assert plain is not None
        pieces.append(plain[0])
        at = plain.end()
        if at == len(body):
            raise _Fault(_cut_key("".join(pieces), open_keys))
        if body[at] == '"':
            break
        if body[at] != "\\":
            raise _Fault("syntax")
        character, at = _escape(body, at + 1, "".join(pieces) if len(pieces) < 32 else "\x00", open_keys)
        pieces.append(character)
    name = "".join(pieces)
    if name not in KEYS:
        raise _Fault("unknown_key")
    if name in found:
        raise _Fault("duplicate_key")
    return _Key(name, at + 1)


def _cut_key(name: str, open_keys: list[str]) -> Reason:
    return "truncated" if any(key.startswith(name) for key in open_keys) else "unknown_key"


def _escape(body: str, at: int, name: str, open_keys: list[str]) -> tuple[str, int]:
    """The character of the escape whose backslash stands before ``at``, and where it ends."""
    if body.startswith("u", at):
        digits = _HEX.match(body, at + 1)
        if digits:
            return chr(int(digits[0], 16)), at + 5
        rest = body[at + 1 : at + 5]
        if at + 1 + len(rest) == len(body) and all(c in "0123456789abcdefABCDEF" for c in rest):
            nexts = {f"{ord(key[len(name)]):04x}" for key in open_keys if key.startswith(name) and len(key) > len(name)}
            raise _Fault("truncated" if any(code.startswith(rest.lower()) for code in nexts) else "unknown_key")
        raise _Fault("syntax")
    if at == len(body):
        raise _Fault(_cut_key(name, [key for key in open_keys if key != name]))
    if body[at] not in _ESCAPES:
        raise _Fault("syntax")
    return _ESCAPES[body[at]], at + 1


def _value(body: str, at: int) -> tuple[float, int]:
    """A number in [0,1] that begins here, and where it ends."""
    if at == len(body):
        raise _Fault("truncated")
    if body[at] in '"{[':
        raise _Fault("value_type")
    word = _WORD.match(body, at)
    if word and word[0] in _LITERALS:
        raise _Fault(_LITERALS[word[0]])  # type: ignore[arg-type]
    begun = _NUMBER_BEGUN.match(body, at)
    assert begun is not None
    if begun.end() == len(body) and begun.end() > at:
        raise _Fault(_cut_number(begun))
    number = _NUMBER.match(body, at)
    if not number or body[number.end()] not in " \t\r\n,}":
        raise _Fault("syntax")
    return _in_range(number[0]), number.end()


def _in_range(number: str) -> float:
    value = float(number)
    if not 0 <= value <= 1:
        raise _Fault("out_of_range")
    return value + 0.0  # -0.0 becomes 0.0


def _cut_number(begun: re.Match[str]) -> Reason:
    """A number at the end of the text: what could follow can still make it fit, unless its exponent is fixed too high."""
    exponent = begun["exponent"]
    if exponent is None or exponent == "" or exponent.startswith("-"):
        return "truncated"  # e-999 would make it 0
    smallest = begun[0] + ("0" if exponent == "+" else "")
    return "truncated" if 0 <= float(smallest) <= 1 else "out_of_range"
