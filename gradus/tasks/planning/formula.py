"""Formulas, numbers and effects with variables: what they are and how they are printed.

A variable is a number, its place in the list of values that ground it (its *slot*); an object is its name.
Walks recurse at most as deep as the parentheses of the text, which `Limits.depth` bounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from gradus.tasks.planning.hierarchy import TypeSet

Term = int | str
"""A slot or the name of an object."""
Comparator = Literal["<", "<=", "=", ">=", ">"]
TOTAL_COST = "total-cost"


@dataclass(frozen=True, slots=True)
class Atom:
    """A predicate applied to terms. Example: Atom("on", (0, "b2"))."""

    predicate: str
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Same:
    """Whether two terms are one object."""

    left: Term
    right: Term


@dataclass(frozen=True, slots=True)
class Not:
    """Negation."""

    body: Formula


@dataclass(frozen=True, slots=True)
class And:
    """Conjunction; the empty one is true."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Disjunction; the empty one is false."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Variables:
    """What a quantifier binds: names for printing, the first slot, and one declaration per variable."""

    names: tuple[str, ...]
    first_slot: int
    types: tuple[TypeSet, ...]
    place: tuple[int, int]
    """Line and column of the quantifier."""


@dataclass(frozen=True, slots=True)
class Quantified:
    """``forall`` or ``exists``."""

    is_forall: bool
    variables: Variables
    body: Formula


@dataclass(frozen=True, slots=True)
class Compare:
    """A comparison of two numbers."""

    comparator: Comparator
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Number:
    """A literal number."""

    value: float


@dataclass(frozen=True, slots=True)
class Fluent:
    """The value of a function at some terms."""

    function: str
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """``+ - * /`` over one or more operands; a single operand of ``-`` is negated."""

    operator: Literal["+", "-", "*", "/"]
    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class PlanLength:
    """``(total-time)`` in a metric: every action takes one unit."""


Formula = Atom | Same | Not | And | Or | Quantified | Compare
Expression = Number | Fluent | Arithmetic | PlanLength

ChangeKind = Literal["increase", "decrease", "assign", "scale-up", "scale-down"]
CHANGES: tuple[ChangeKind, ...] = ("increase", "decrease", "assign", "scale-up", "scale-down")


@dataclass(frozen=True, slots=True)
class SetFact:
    """Makes an atom true or false."""

    atom: Atom
    value: bool


@dataclass(frozen=True, slots=True)
class Change:
    """Changes the value of a fluent."""

    kind: ChangeKind
    fluent: Fluent
    amount: Expression


@dataclass(frozen=True, slots=True)
class When:
    """Effects that happen where a condition held in the old state."""

    condition: Formula
    effects: tuple[Effect, ...]


@dataclass(frozen=True, slots=True)
class ForEach:
    """Effects that happen for every value of some variables."""

    variables: Variables
    effects: tuple[Effect, ...]


Effect = SetFact | Change | When | ForEach


def elementary(effects: Sequence[Effect]) -> Iterator[SetFact | Change]:
    """The elementary effects, out of every ``when`` and ``forall``."""
    for effect in effects:
        if isinstance(effect, (When, ForEach)):
            yield from elementary(effect.effects)
        else:
            yield effect


def conjuncts(formula: Formula) -> list[Formula]:
    """The parts of a formula after flattening nested ``and``."""
    if isinstance(formula, And):
        return [part for child in formula.parts for part in conjuncts(child)]
    return [formula]


def describe(node: Formula | Expression, values: Sequence[str | None], names: dict[int, str] | None = None) -> str:
    """PDDL text of a formula with its slots filled from ``values``; slots beyond them print as variables."""
    names = names or {}

    def term(term: Term) -> str:
        if isinstance(term, str):
            return term
        return names.get(term) or (values[term] if term < len(values) else None) or f"?{term}"

    def join(head: str, parts: Sequence[Formula | Expression]) -> str:
        return "(" + " ".join([head, *(describe(part, values, names) for part in parts)]) + ")"

    match node:
        case Atom(head, terms) | Fluent(head, terms):
            return "(" + " ".join([head, *map(term, terms)]) + ")"
        case Same(left, right):
            return f"(= {term(left)} {term(right)})"
        case Not(body):
            return join("not", [body])
        case And(parts):
            return join("and", parts)
        case Or(parts):
            return join("or", parts)
        case Quantified(is_forall, variables, body):
            inner = names | {variables.first_slot + i: name for i, name in enumerate(variables.names)}
            kinds = (t[0] if len(t) == 1 else f"(either {' '.join(t)})" for t in variables.types)
            head = " ".join(f"{name} - {kind}" for name, kind in zip(variables.names, kinds, strict=True))
            return f"({'forall' if is_forall else 'exists'} ({head}) {describe(body, values, inner)})"
        case Compare(comparator, left, right):
            return join(comparator, [left, right])
        case Arithmetic(operator, operands):
            return join(operator, operands)
        case Number(value):
            return f"{value:g}"
        case PlanLength():
            return "(total-time)"
