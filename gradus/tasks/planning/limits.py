"""What the planning reader refuses to take in, and how it says so: Limits and PddlError."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MAX_MESSAGE_CHARS = 300

Kind = Literal["syntax", "semantic", "unsupported", "limit"]
Where = Literal["domain", "problem"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Upper bounds on everything that comes from a file or a model. Excess is an error, never a cut.

    Example:
        Limits(depth=40)
    """

    text_bytes: int = 8 << 20
    """Size of a domain or problem text (bytes of UTF-8)."""
    tokens: int = 2_000_000
    """Parentheses and symbols in a domain or problem."""
    depth: int = 100
    """Nested parentheses. Formulas are read and evaluated by recursion, so this also bounds the stack."""
    symbol_chars: int = 255
    """Length of one symbol."""
    parameters: int = 64
    """Parameters of one action, predicate or function."""
    declarations: int = 10_000
    """Types, predicates, functions and actions of a domain together."""
    objects: int = 100_000
    """Objects of a problem, constants included."""
    quantified_instances: int = 1_000_000
    """Ground instances of one quantified formula or effect."""
    constraint_instances: int = 100_000
    """Ground trajectory constraints of a problem."""
    plan_bytes: int = 16 << 20
    """Size of a plan text (bytes of UTF-8)."""
    plan_actions: int = 2_000_000
    """Actions in a plan."""

    @classmethod
    def training(cls) -> Limits:
        """Tighter plan bounds for completions of a policy."""
        return cls(plan_bytes=1 << 20, plan_actions=20_000)


def size_in_bytes(text: str) -> int:
    """Returns the length of ``text`` in UTF-8; lone surrogates count as three bytes."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def one_line(text: str, max_chars: int = MAX_MESSAGE_CHARS) -> str:
    """Returns ``text`` fit for a one-line message: printable ASCII, cut to ``max_chars``."""
    clean = "".join(c if " " <= c <= "~" else "?" for c in text[: max_chars + 1])
    return clean if len(clean) <= max_chars else clean[: max_chars - 3] + "..."


class PddlError(ValueError):
    """A domain or problem that cannot be used. ``line`` and ``column`` are 1-based.

    Example:
        PddlError("semantic", "domain", 12, 5, "undefined predicate 'holds' in the precondition of 'pickup'", "holds")
    """

    def __init__(self, kind: Kind, where: Where, line: int, column: int, detail: str, symbol: str = "") -> None:
        super().__init__(one_line(f"{where}:{line}:{column}: {detail}"))
        self.kind = kind
        self.where = where
        self.line = line
        self.column = column
        self.detail = detail
        self.symbol = symbol

    def __reduce__(self) -> tuple[type[PddlError], tuple[str, str, int, int, str, str]]:
        return PddlError, (self.kind, self.where, self.line, self.column, self.detail, self.symbol)
