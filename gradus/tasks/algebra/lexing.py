"""Normal form to tokens. Digit groups are joined and repeating decimals read here: both depend on their neighbours."""

from __future__ import annotations

import re
from fractions import Fraction

from gradus.tasks.algebra.expressions import MAX_DEPTH, MAX_TOKENS
from gradus.tasks.algebra.latex import MAX_CHARS, TOKEN
from gradus.tasks.algebra.trees import Refusal

_LEX = re.compile(r"\\text\{[^{}]*\}|\\mathbb\{[A-Z]\}|\\(?:begin|end)\{[^{}]*\}|" + TOKEN.pattern)
OPENING = frozenset(["(", "[", "{", r"\{", r"\langle", r"\lfloor", r"\lceil", r"\begin{matrix}"])
CLOSING = frozenset([")", "]", "}", r"\}", r"\rangle", r"\rfloor", r"\rceil", r"\end{matrix}"])
_GROUP = re.compile(r"[0-9]{3}(?:\.[0-9]+)?")
_HEAD = re.compile(r"0|[1-9][0-9]{0,2}")


def lex(normal: str) -> list[str | Fraction]:
    """Tokens of a normal form, digit groups joined and repeating decimals read."""
    if len(normal) > MAX_CHARS:
        raise Refusal("too_long")
    if not normal.isascii() and any(char.isnumeric() and not char.isascii() for char in normal):
        raise Refusal("unsupported")
    tokens = _LEX.findall(normal)
    if len(tokens) > MAX_TOKENS:
        raise Refusal("too_long")
    depth = 0
    for token in tokens:
        depth += (token in OPENING) - (token in CLOSING)
        if depth > MAX_DEPTH:
            raise Refusal("too_deep")
    return _join_numbers(tokens)


def _join_numbers(tokens: list[str]) -> list[str | Fraction]:
    out: list[str | Fraction] = []
    open_brackets: list[str] = []
    at = 0
    while at < len(tokens):
        token = tokens[at]
        if token in OPENING:
            open_brackets.append(token)
        elif token in CLOSING and open_brackets:
            open_brackets.pop()
        if not token[0].isdigit():
            out.append(token)
            at += 1
            continue
        is_in_list = bool(open_brackets) and open_brackets[-1] != "{"
        joined, width = _digit_groups(tokens, at, is_comma_allowed=not is_in_list)
        if width == 1:
            repeating, width = _repeating(tokens, at)
            out.append(token if repeating is None else repeating)
        else:
            out.extend(joined)
        at += width
    return out


def _digit_groups(tokens: list[str], at: int, *, is_comma_allowed: bool) -> tuple[list[str], int]:
    """Joins ``1,234,567`` and ``1 234 567``: (tokens to write, tokens read). One wrong group, and it stays a list."""
    for mark in (",", " "):
        if tokens[at + 1 : at + 2] != [mark] or (mark == "," and not is_comma_allowed):
            continue
        end = at + 1
        while tokens[end : end + 1] == [mark] and end + 1 < len(tokens) and tokens[end + 1][0].isdigit():
            end += 2
        groups = tokens[at + 2 : end : 2]
        is_right = _HEAD.fullmatch(tokens[at]) and tokens[at] != "0" and all(map(_GROUP.fullmatch, groups))
        is_right = is_right and all("." not in group for group in groups[:-1]) and tokens[end : end + 1] != ["/"]
        if groups and is_right:
            return [tokens[at] + "".join(groups)], end - at
        if groups:
            return tokens[at:end], end - at
    return [tokens[at]], 1


def _repeating(tokens: list[str], at: int) -> tuple[Fraction | None, int]:
    """Value of ``0.1\\overline{6}``, ``0.\\dot{3}``, ``0.(3)``, ``0.333\\ldots`` and the number of tokens read."""
    token, after = tokens[at], at + 1
    if tokens[after : after + 1] == [r"\ldots"]:
        head = token.rstrip(token[-1])
        is_repeated = "." in head and len(token) - len(head) >= 3
        return (_repeat(head, token[-1]), 2) if is_repeated else (None, 1)
    if "." not in token and tokens[after : after + 1] == ["."]:
        token, after = token + ".", after + 1
    opening = tokens[after : after + 2]
    if "." not in token:
        return None, 1
    if opening in ([r"\overline", "{"], [r"\dot", "{"], [r"\bar", "{"]):
        after += 2
    elif opening[:1] == ["("]:
        after += 1
    else:
        return None, 1
    if after + 1 < len(tokens) and tokens[after].isdigit() and len(tokens[after]) <= 40 and tokens[after + 1] in "})":
        return _repeat(token, tokens[after]), after + 2 - at
    return None, 1


def _repeat(head: str, period: str) -> Fraction:
    """``head`` (with its point) followed by ``period`` for ever."""
    whole, _, decimals = head.partition(".")
    if len(whole) + len(decimals) > MAX_CHARS:
        raise Refusal("too_large")
    scale = 10 ** len(decimals)
    return Fraction(int(whole + decimals), scale) + Fraction(int(period), scale * (10 ** len(period) - 1))
