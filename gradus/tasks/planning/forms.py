"""Text to nested forms: the first half of reading PDDL. One pass, a stack of its own, every symbol with its place."""

from __future__ import annotations

import re

from gradus.tasks.planning.limits import Kind, Limits, PddlError, Where, one_line, size_in_bytes

# White space, a comment, a parenthesis, a symbol of printable ASCII, or one character that belongs nowhere.
# The alternatives exclude each other in their first character, so there is nothing to backtrack into.
_TOKEN = re.compile(r"[ \t\r\n\v\f]+|;[^\n]*|([()])|([!-'*-:<-~]+)|(.)", re.DOTALL)


class Form:
    """A parenthesised list: its items (symbols in lower case or forms) and where each begins in the text."""

    __slots__ = ("items", "start", "starts")

    def __init__(self, start: int) -> None:
        self.items: list[str | Form] = []
        self.starts: list[int] = []
        self.start = start

    @property
    def head(self) -> str:
        """The first item where it is a symbol, else the empty string."""
        return self.items[0] if self.items and isinstance(self.items[0], str) else ""


class Source:
    """A text being read: turns offsets into lines and columns, collects warnings, makes errors."""

    def __init__(self, text: str, where: Where, limits: Limits) -> None:
        self.text = text
        self.where: Where = where
        self.limits = limits
        self.warnings: list[str] = []

    def place(self, start: int) -> tuple[int, int]:
        """Line and column of an offset, both 1-based."""
        return self.text.count("\n", 0, start) + 1, start - self.text.rfind("\n", 0, start)

    def error(self, kind: Kind, start: int, detail: str, symbol: str = "") -> PddlError:
        """Makes (does not raise) the error for the offset ``start``."""
        line, column = self.place(start)
        return PddlError(kind, self.where, line, column, detail, symbol)

    def warn(self, start: int, detail: str) -> None:
        """Notes an oddity that does not stop the reading."""
        line, column = self.place(start)
        self.warnings.append(one_line(f"{self.where}:{line}:{column}: {detail}"))

    def forms(self, form: Form, first: int, context: str) -> list[Form]:
        """The items of ``form`` from ``first`` on, which all have to be forms."""
        for item, start in zip(form.items[first:], form.starts[first:], strict=True):
            if not isinstance(item, Form):
                raise self.error("syntax", start, f"expected '(' {context}, found {item!r}", item)
        return form.items[first:]  # type: ignore[return-value]


def decode(text: str | bytes) -> str:
    """UTF-8 with bad bytes as U+FFFD; one leading byte order mark is dropped."""
    if not isinstance(text, (str, bytes)):
        raise TypeError(f"the text is a {type(text).__name__}; give a str or bytes")
    decoded = text if isinstance(text, str) else text.decode("utf-8", "replace")
    return decoded[1:] if decoded.startswith("\ufeff") else decoded


def read_form(text: str | bytes, where: Where, limits: Limits) -> tuple[Source, Form]:
    """Reads the one ``(define ..)`` form of a file. PddlError of kind ``syntax`` or ``limit`` where there is none."""
    content = decode(text)
    source = Source(content, where, limits)
    if size_in_bytes(content) > limits.text_bytes:
        raise source.error("limit", 0, f"text is larger than {limits.text_bytes} bytes")
    if (nul := content.find("\0")) >= 0:
        raise source.error("syntax", nul, "NUL character")
    root = _nest(source)
    if root.head != "define":
        raise source.error("syntax", root.start, f"expected '(define ({where} ..) ..)'", root.head)
    return source, root


def _nest(source: Source) -> Form:
    limits = source.limits
    root: Form | None = None
    stack: list[Form] = []
    num_tokens = 0
    for match in _TOKEN.finditer(source.text):
        kind = match.lastindex
        if kind is None:
            continue
        num_tokens += 1
        start = match.start()
        if num_tokens > limits.tokens:
            raise source.error("limit", start, f"more than {limits.tokens} tokens")
        token = match[0]
        if kind == 3:
            raise source.error("syntax", start, f"character U+{ord(token):04X} outside a comment", token)
        if root is not None and not stack:
            if token != ")":
                raise source.error("syntax", start, f"text after the end of the definition: {token[:40]!r}", token)
            if not source.warnings:
                source.warn(start, "extra ')' after the end of the definition")
        elif token == "(":
            if len(stack) >= limits.depth:
                raise source.error("limit", start, f"parentheses nested deeper than {limits.depth}")
            form = Form(start)
            if stack:
                stack[-1].items.append(form)
                stack[-1].starts.append(start)
            else:
                root = form
            stack.append(form)
        elif not stack:
            raise source.error("syntax", start, f"expected '(define ..)', found {token[:40]!r}", token)
        elif token == ")":
            stack.pop()
        elif len(token) > limits.symbol_chars:
            raise source.error("limit", start, f"symbol longer than {limits.symbol_chars} characters", token[:40])
        else:
            stack[-1].items.append(token.lower())
            stack[-1].starts.append(start)
    if root is None:
        raise source.error("syntax", 0, "empty text; expected '(define ..)'")
    if stack:
        line, column = source.place(stack[-1].start)
        raise source.error("syntax", len(source.text), f"missing ')' of the form opened at {line}:{column}")
    return root


def is_number(token: str) -> bool:
    """Whether ``token`` is an optional minus, digits, and optionally a point and digits. No exponent, nan, inf or _."""
    body = token[1:] if token.startswith("-") else token
    whole, point, fraction = body.partition(".")
    return whole.isdigit() and whole.isascii() and (not point or (fraction.isdigit() and fraction.isascii()))
