"""Names before an equals sign: ``x``, ``a_1``, ``f(x)``, ``f^{-1}(x)``, ``AB``, ``(p,q)``, ``A:B``, "Area"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from gradus.tasks.algebra.words import is_text

_NAME = (
    r"(?:[A-Za-z]|\\text\{[A-Za-z ]{1,40}\}|\\(?:vec|hat|bar|overline|overrightarrow|widehat|mathbb)\{[A-Za-z ]{1,9}\}"
    r"|\\[A-Za-z]{2,9})(?:_\{[^{}]{1,12}\}|'|\^\{(?:-1|\*)\})*"
)
_LABEL = re.compile(
    rf"{_NAME}(?:\([A-Za-z0-9,\\+-]{{1,20}}\))?|\({_NAME}(?:,{_NAME})+\)|{_NAME}(?::{_NAME})+"
    r"|m?\\(?:angle|triangle)[A-Za-z]{1,4}|\|?[A-Z]{2,5}\|?"
)
_FIRST = re.compile(_NAME)
_OPERATOR = re.compile(
    r"[ei]|\\(?:pi|infty|frac|sqrt|sin|cos|tan|cot|sec|csc|log|ln|lg|exp|pm|mp|emptyset|binom|times|cdot|div|ldots"
    r"|angle|triangle|lfloor|lceil|in|to|int|sum|prod|lim)"
)


def read(tokens: Sequence[str | Fraction]) -> str:
    """The label that ``tokens`` spell, without ``\\text`` and blanks; empty if they are something else."""
    if not tokens or len(tokens) > 40:
        return ""
    if all(is_text(token) or token == " " for token in tokens):
        return _plain("".join(map(str, tokens))).lower()
    joined = "".join(str(token) for token in tokens if token != " ")
    if not _LABEL.fullmatch(joined) or _OPERATOR.fullmatch(joined):
        return ""
    return (
        ""
        if any(_OPERATOR.fullmatch(name[0]) for name in _FIRST.finditer(joined) if name[0][0] == "\\")
        else _plain(joined)
    )


def _plain(label: str) -> str:
    return re.sub(r"\\text\{([^{}]*)\}", r"\1", label).replace(" ", "").strip("|")


def parts(label: str) -> list[str]:
    """The names in a label for several values: ``(x,y)`` and ``A:B``; else the label alone."""
    if label.startswith("("):
        return label[1:-1].split(",")
    return label.split(":") if ":" in label else [label]


def is_indexed(labels: Sequence[str]) -> bool:
    """Whether the labels are one letter with different indices: x_1, x_2."""
    return len(labels) > 1 and all("_{" in label for label in labels) and len({base(label) for label in labels}) == 1


def base(label: str) -> str:
    """A label without its index."""
    return label.partition("_{")[0]


def occurs(label: str, tokens: Sequence[str | Fraction]) -> bool:
    """Whether the thing that a label names is also among ``tokens``."""
    text = "".join(map(str, tokens))
    letters = {letter for token in tokens if isinstance(token, str) and token.isalpha() for letter in token}
    for name in parts(label):
        head = name.partition("(")[0]
        if head in tokens or (len(head) > 1 and head in text) or (len(head) == 1 and head in letters):
            return True
    return False
