"""What an answer can be besides one number: the types that ``structures.parse`` makes and ``compare`` compares."""

from __future__ import annotations

from dataclasses import dataclass

from gradus.tasks.algebra.quantities import Quantity
from gradus.tasks.algebra.regions import Region
from gradus.tasks.algebra.trees import Node


@dataclass(frozen=True, slots=True)
class Words:
    """Text: its letters, case and blanks ignored."""

    letters: str


@dataclass(frozen=True, slots=True)
class Collection:
    """Several values. ``kind`` tuple is ordered and keeps its two ``brackets``; list and set are unordered."""

    kind: str
    items: tuple[Value, ...]
    brackets: str = ""


@dataclass(frozen=True, slots=True)
class Reals:
    """A set of reals, with the variable that it was stated for."""

    region: Region
    variable: str = ""


@dataclass(frozen=True, slots=True)
class Relation:
    """``left mark right`` with mark ``<``, ``\\le`` or ``\\ne`` (the mirrored ones are turned round)."""

    mark: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Condition:
    """Relations that hold all (``and``) or of which one holds (``or``)."""

    relations: tuple[Relation, ...]
    is_all: bool = True


@dataclass(frozen=True, slots=True)
class Equation:
    """``left = right`` where neither side is a label."""

    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Labelled:
    """A value with its name: ``x = 5``, ``f(x) = 2x``; ``equation`` is the same read as an equation, if possible."""

    label: str
    value: Value
    equation: Equation | None = None


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of entries."""

    rows: tuple[tuple[Quantity, ...], ...]


@dataclass(frozen=True, slots=True)
class Clock:
    """A time of day; ``half`` is a, p or empty."""

    hour: int
    minute: int
    half: str


@dataclass(frozen=True, slots=True)
class Ratio:
    """``2:3`` or ``1:2:3``."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Based:
    """Digits with a stated base."""

    digits: str
    base: int

    @property
    def value(self) -> int:
        """The number meant."""
        return int(self.digits, self.base)


@dataclass(frozen=True, slots=True)
class Opaque:
    """Text that the grammar does not read."""

    code: str


Value = (
    Quantity | Words | Collection | Reals | Condition | Equation | Labelled | Matrix | Clock | Ratio | Based | Opaque
)
