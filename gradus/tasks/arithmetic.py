"""Text to an exact value: the closed grammar of sums, differences, products and quotients of whole numbers.

A tokenizer and a recursive descent of our own. Model text is never evaluated by Python: there are no names, no powers,
no decimals, no juxtaposition; what the grammar does not list is refused with its code.

    answer := expr | expr "=" target | target "=" expr
    expr   := term (("+" | "-") term)*
    term   := factor (("*" | "/" | "x" | "X") factor)*
    factor := ("+" | "-") factor | number | "(" expr ")" | "[" expr "]" | "\\frac" "{" expr "}" "{" expr "}"
    number := "0" | [1-9][0-9]{0,17}
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from gradus.tasks.answers import Code, closing_brace

MAX_CHARS = 256
"""Characters of an expression after runs of blanks became one."""
MAX_NUMBERS = 64
MAX_DEPTH = 32
MAX_DIGITS = 18


class Refusal(Exception):
    """The text is not an expression of the grammar; ``code`` says which rule it breaks."""

    def __init__(self, code: Code) -> None:
        super().__init__(code)
        self.code = code


class Expression(NamedTuple):
    """An expression that was read.

    Example:
        parse("8 + 5 - 2")  # Expression(text="8 + 5 - 2", numbers=[8, 5, 2], value=11)
    """

    text: str
    """What was evaluated: without wrapper, macros and right side."""
    numbers: list[int | Fraction]
    """The literals, in order of appearance: those that were evaluated, no others."""
    value: int | Fraction | None
    """None: it divides by zero."""


_WRITTEN = {
    **{0xFF01 + place: 0x21 + place for place in range(94)},
    **dict.fromkeys(map(ord, "×·∗⋅"), "*"),
    **dict.fromkeys(map(ord, "÷∕"), "/"),
    **dict.fromkeys(map(ord, "−–"), "-"),
    **dict.fromkeys(map(ord, "\u00a0\u3000\t\r\n"), " "),
}
"""Other spellings of the grammar's own characters, one by one: never a Unicode normal form, which reads 3² as 32."""
_MACROS = {"times": "*", "cdot": "*", "div": "/", "left": "", "right": "", "dfrac": r"\frac", "tfrac": r"\frac"}
_WRAPPERS = (
    ("**", "**"), ("`", "`"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’")
)  # fmt: skip
_PROGRAM = re.compile(r"\*\*|//|<<|>>|__|\b(?:import|eval|exec|lambda|system|getattr|globals)\b|\bopen ?\(")
_MACRO = re.compile(r"\\([A-Za-z]+)")
_BLANKS = re.compile(r" {2,}")
_PLAIN = re.compile(r"[0-9+\-*/() =]{1,256}")
_PLAIN_TOKEN = re.compile(r"[0-9]+|[-+*/()]")
_TOKEN = re.compile(r"[0-9]+|\\frac|[-+*/xX()\[\]{}]")
_DECIMAL_TOKEN = re.compile(r"[0-9]+(?:\.[0-9]*)?|\\frac|[-+*/xX()\[\]{}]")
_BAD_NUMBER = re.compile(r"[0-9][.,_]|[._][0-9]|[0-9][eE][-+]?[0-9]|(?<![0-9])0[xX][0-9A-Fa-f]")
_CLOSING = {"(": ")", "[": "]"}
_PRODUCTS = frozenset("*/xX")
_DIGITS = frozenset("0123456789")
_OPENING = frozenset(start[0] for start, _ in _WRAPPERS)


def parse(text: str, target: int | None = None, *, operators: str = "+-*/", is_decimal: bool = False) -> Expression:
    """Reads an expression, or an equation with the literal ``target`` alone on one side.

    Only ``operators`` may join numbers (signs are free); ``is_decimal`` admits decimals such as ``2.5``. Raises Refusal
    for everything outside the grammar, and nothing else for any ``str``.
    """
    text = text.strip(" \n")
    if _PLAIN.fullmatch(text) and "**" not in text and "//" not in text:
        text = _without_target(text, target)
        tokens = _PLAIN_TOKEN.findall(text)
    else:
        text = _without_target(_tidy(text), target)
        tokens = _tokens(text, _DECIMAL_TOKEN if is_decimal else _TOKEN)
    items = [_number(token) if token[0] in _DIGITS else token for token in tokens]
    numbers = [item for item in items if not isinstance(item, str)]
    if len(numbers) > MAX_NUMBERS:
        raise Refusal(Code.TOO_MANY_NUMBERS)
    return Expression(text, numbers, _Descent(items, operators).value())


def _tidy(text: str) -> str:
    """Takes off wrappers and writes what is left in the grammar's own characters."""
    words = text.split(None, MAX_CHARS)
    if len(words) > MAX_CHARS or sum(map(len, words)) + len(words) - 1 > MAX_CHARS:
        raise Refusal(Code.TOO_LONG)
    text = _unwrap(text)
    if _PROGRAM.search(text):
        raise Refusal(Code.CODE)
    text = _BLANKS.sub(" ", text.translate(_WRITTEN))
    if "\\" in text:
        text = _MACRO.sub(lambda match: _MACROS.get(match[1], match[0]), text)
    return text.strip(" ")


def _unwrap(text: str) -> str:
    """Removes at most three wrappers around the whole, and a final point or semicolon inside or outside of them."""
    for _ in range(4):
        text = text.strip(" \t\r\n")
        if text.endswith((".", ";")):
            text = text[:-1].rstrip(" \t\r\n")
        inside = _inside(text) if _ < 3 else None
        if inside is None:
            break
        text = inside
    return text


def _inside(text: str) -> str | None:
    """What one wrapper around the whole text holds, or None where there is no such wrapper."""
    if text[:1] not in _OPENING:
        return None
    if len(text) > 6 and text.startswith("```") and text.endswith("```"):
        first_line, newline, rest = text[3:-3].partition("\n")
        return rest if newline and first_line.strip().isalpha() else text[3:-3]
    if text.startswith(r"\boxed{"):
        return text[7:-1] if closing_brace(text, 6) == len(text) - 1 else None
    for start, end in _WRAPPERS:
        if len(text) > len(start) + len(end) and text.startswith(start) and text.endswith(end):
            return text[len(start) : -len(end)]
    return None


def _without_target(text: str, target: int | None) -> str:
    """Takes off ``= target`` or ``target =``; any other use of the equals sign is refused."""
    if "=" not in text:
        return text
    left, _, right = (side.strip(" ") for side in text.partition("="))
    if left and right and "=" not in right:
        if right.replace("- ", "-") == str(target):
            return left
        if left.replace("- ", "-") == str(target):
            return right
    raise Refusal(Code.WRONG_RIGHT_SIDE)


def _tokens(text: str, pattern: re.Pattern[str]) -> list[str]:
    """Cuts the text into tokens; a character that belongs to none is refused."""
    rest = pattern.sub("", text).strip(" ")
    has_bad_number = _BAD_NUMBER.search(text) if pattern is _TOKEN else re.search(r"(?<![0-9])0[xX][0-9]", text)
    if has_bad_number or any(character.isnumeric() for character in rest):
        raise Refusal(Code.BAD_NUMBER)
    if rest.replace(" ", ""):
        raise Refusal(Code.BAD_TOKEN)
    return pattern.findall(text)


def _number(token: str) -> int | Fraction:
    if len(token) > MAX_DIGITS:
        raise Refusal(Code.TOO_LONG)
    if token[0] == "0" and token[1:2].isdigit():
        raise Refusal(Code.BAD_NUMBER)
    return Fraction(token.rstrip(".")) if "." in token else int(token)


class _Descent:
    """Recursive descent over numbers and marks, exact; the value of what divides by zero is None."""

    __slots__ = ("items", "operators", "place")

    def __init__(self, items: list[int | Fraction | str], operators: str) -> None:
        self.items = [*items, ""]
        self.operators = operators
        self.place = 0

    def value(self) -> int | Fraction | None:
        """The value of all items together."""
        value = self.expr(0)
        if (item := self.items[self.place]) != "":
            raise Refusal(Code.BAD_TOKEN if item in ("{", "}") else Code.SYNTAX)
        if isinstance(value, Fraction) and value.denominator == 1:
            return value.numerator
        return value

    def expr(self, depth: int) -> int | Fraction | None:
        """Sums and differences."""
        value = self.term(depth)
        while (operator := self.items[self.place]) == "+" or operator == "-":
            self.step(operator)
            other = self.term(depth)
            if value is not None:
                value = None if other is None else value + other if operator == "+" else value - other
        return value

    def term(self, depth: int) -> int | Fraction | None:
        """Products and quotients."""
        value = self.factor(depth)
        while (mark := self.items[self.place]) in _PRODUCTS:
            self.step("/" if mark == "/" else "*")
            other = self.factor(depth)
            if mark == "/":
                value = _quotient(value, other)
            elif value is not None:
                value = None if other is None else value * other
        return value

    def factor(self, depth: int) -> int | Fraction | None:
        """A number, or one of the three ways to group."""
        item = self.items[self.place]
        self.place += 1
        if not isinstance(item, str):
            return item
        if depth >= MAX_DEPTH:
            raise Refusal(Code.TOO_DEEP)
        if item in _CLOSING:
            value = self.expr(depth + 1)
            self.expect(_CLOSING[item])
            return value
        if item in ("+", "-"):
            value = self.factor(depth + 1)
            return value if item == "+" or value is None else -value
        if item == "\\frac":
            self.place -= 1
            self.step("/")
            return _quotient(self.braced(depth), self.braced(depth))
        raise Refusal(Code.BAD_TOKEN if item in ("{", "}") else Code.SYNTAX)

    def braced(self, depth: int) -> int | Fraction | None:
        """One argument of a fraction."""
        self.expect("{")
        value = self.expr(depth + 1)
        self.expect("}")
        return value

    def step(self, operator: str) -> None:
        """Steps over an operator, if it may be used."""
        if operator not in self.operators:
            raise Refusal(Code.BAD_TOKEN)
        self.place += 1

    def expect(self, mark: str) -> None:
        """Steps over ``mark``; anything else is a syntax error."""
        if self.items[self.place] != mark:
            raise Refusal(Code.SYNTAX)
        self.place += 1


def _quotient(a: int | Fraction | None, b: int | Fraction | None) -> int | Fraction | None:
    if a is None or not b:
        return None
    if isinstance(a, int) and isinstance(b, int) and a % b == 0:
        return a // b
    return Fraction(a) / b
