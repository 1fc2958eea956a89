"""Reading of formulas, numbers and effects: every name is resolved and checked where it stands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from gradus.tasks.planning.forms import Form, Source, is_number
from gradus.tasks.planning.formula import (
    CHANGES,
    TOTAL_COST,
    And,
    Arithmetic,
    Atom,
    Change,
    Compare,
    Effect,
    Expression,
    Fluent,
    ForEach,
    Formula,
    Not,
    Number,
    Or,
    PlanLength,
    Quantified,
    Same,
    SetFact,
    Term,
    Variables,
    When,
)
from gradus.tasks.planning.hierarchy import Hierarchy, Typed, TypeSet, read_typed_list

RESERVED = frozenset({"and", "or", "not", "imply", "forall", "exists", "when", "either", "=", "<", "<=", ">=", ">"})


class Scope:
    """What names mean at one place of a text: predicates, functions, objects, and the variables bound so far."""

    def __init__(
        self,
        source: Source,
        types: Hierarchy,
        predicates: Mapping[str, tuple[TypeSet, ...]],
        functions: dict[str, tuple[TypeSet, ...]],
        objects: Mapping[str, str],
        *,
        context: str,
        needs_exact_types: bool,
    ) -> None:
        self.source = source
        self.types = types
        self.predicates = predicates
        self.functions = functions
        self.objects = objects
        self.context = context
        self.needs_exact_types = needs_exact_types
        self.variables: dict[str, tuple[int, TypeSet]] = {}
        self.num_slots = 0

    def bind(self, entries: Sequence[Typed], place: int) -> tuple[Variables, dict[str, tuple[int, TypeSet]]]:
        """Gives each variable a slot; returns them and what was bound before (for `release`)."""
        before = dict(self.variables)
        first_slot, seen = self.num_slots, set()
        for entry in entries:
            if not entry.name.startswith("?") or len(entry.name) == 1:
                raise self.error("semantic", entry.start, f"{entry.name!r} is no variable", entry.name)
            if entry.name in seen:
                raise self.error("semantic", entry.start, f"repeated parameter {entry.name!r}", entry.name)
            self.check_types(entry)
            seen.add(entry.name)
            self.variables[entry.name] = (self.num_slots, entry.types)
            self.num_slots += 1
        names, types = tuple(e.name for e in entries), tuple(e.types for e in entries)
        return Variables(names, first_slot, types, self.source.place(place)), before

    def release(self, before: dict[str, tuple[int, TypeSet]], variables: Variables) -> None:
        """Undoes a `bind`."""
        self.variables = before
        self.num_slots = variables.first_slot

    def check_types(self, entry: Typed) -> None:
        """Refuses a declaration with an unknown type."""
        for name in entry.types:
            if name not in self.types:
                raise self.error("semantic", entry.start, f"unknown type {name!r} of {entry.name!r}", name)

    def error(self, kind: Literal["syntax", "semantic", "unsupported"], start: int, detail: str, symbol: str = ""):
        """Makes an error that says where in the definition it is."""
        return self.source.error(kind, start, f"{detail} in {self.context}", symbol)

    def term(self, item: str | Form, start: int) -> tuple[Term, TypeSet]:
        """Reads a variable or an object; returns it with the types it may have."""
        if isinstance(item, Form):
            raise self.error("unsupported", start, "object fluent or nested term")
        if item.startswith("?"):
            if item not in self.variables:
                raise self.error("semantic", start, f"free variable {item!r}", item)
            return self.variables[item]
        if item not in self.objects:
            raise self.error("semantic", start, f"undeclared object {item!r}", item)
        return item, (self.objects[item],)

    def terms(self, form: Form, declared: tuple[TypeSet, ...], what: str) -> tuple[Term, ...]:
        """Reads the arguments of ``form`` against the declaration of its head."""
        if len(form.items) - 1 != len(declared):
            detail = f"{what} {form.head!r} takes {len(declared)} arguments, not {len(form.items) - 1},"
            raise self.error("semantic", form.start, detail, form.head)
        terms: list[Term] = []
        for item, start, wanted in zip(form.items[1:], form.starts[1:], declared, strict=True):
            term, types = self.term(item, start)
            if self.needs_exact_types and isinstance(term, str):
                is_fine = self.types.fits(types[0], wanted)
            else:
                is_fine = self.types.overlap(types, wanted)
            if not is_fine:
                detail = f"{item!r} of type {'/'.join(types)} where {what} {form.head!r} needs {'/'.join(wanted)}"
                raise self.error("semantic", start, detail, str(item))
            terms.append(term)
        return tuple(terms)

    def atom(self, form: Form) -> Atom:
        """Reads ``(predicate term ..)``."""
        if not form.head:
            raise self.error("syntax", form.start, "expected '(predicate ..)'")
        if form.head not in self.predicates:
            if form.head == "preference":
                raise self.error("unsupported", form.start, "preference", form.head)
            raise self.error("semantic", form.start, f"undefined predicate {form.head!r}", form.head)
        return Atom(form.head, self.terms(form, self.predicates[form.head], "predicate"))

    def fluent(self, form: Form) -> Fluent:
        """Reads ``(function term ..)``; ``total-cost`` needs no declaration."""
        if form.head not in self.functions:
            if form.head != TOTAL_COST:
                raise self.error("semantic", form.start, f"undefined function {form.head!r}", form.head)
            self.source.warn(form.start, "total-cost is used but not declared in :functions")
            self.functions[TOTAL_COST] = ()
        return Fluent(form.head, self.terms(form, self.functions[form.head], "function"))


def read_formula(scope: Scope, item: str | Form, start: int) -> Formula:
    """Reads a condition. PddlError names what is wrong and where."""
    if isinstance(item, str):
        raise scope.error("syntax", start, f"expected '(', found {item!r}", item)
    head, items, starts = item.head, item.items, item.starts
    if not items or head == "and":
        return And(tuple(read_formula(scope, i, s) for i, s in zip(items[1:], starts[1:], strict=True)))
    if head == "or":
        return Or(tuple(read_formula(scope, i, s) for i, s in zip(items[1:], starts[1:], strict=True)))
    if head == "not":
        _expect(scope, item, 1)
        return Not(read_formula(scope, items[1], starts[1]))
    if head == "imply":
        _expect(scope, item, 2)
        return Or((Not(read_formula(scope, items[1], starts[1])), read_formula(scope, items[2], starts[2])))
    if head in ("forall", "exists"):
        _expect(scope, item, 2)
        variables, before = scope.bind(_variable_list(scope, item), item.start)
        body = read_formula(scope, items[2], starts[2])
        scope.release(before, variables)
        return Quantified(head == "forall", variables, body)
    if head in ("<", "<=", "=", ">=", ">"):
        return _read_comparison(scope, item)
    return scope.atom(item)


def _expect(scope: Scope, form: Form, num_operands: int) -> None:
    if len(form.items) - 1 != num_operands:
        detail = f"{form.head!r} takes {num_operands} operands, not {len(form.items) - 1},"
        raise scope.error("syntax", form.start, detail, form.head)


def _variable_list(scope: Scope, form: Form) -> list[Typed]:
    variables = form.items[1]
    if not isinstance(variables, Form):
        raise scope.error("syntax", form.starts[1], f"expected the variables of {form.head!r}, found {variables!r}")
    return read_typed_list(scope.source, variables, 0, context=f"in {scope.context}")


def _read_comparison(scope: Scope, form: Form) -> Formula:
    _expect(scope, form, 2)
    left, right = form.items[1:]
    if form.head == "=" and all(isinstance(side, str) and not is_number(side) for side in (left, right)):
        return Same(scope.term(left, form.starts[1])[0], scope.term(right, form.starts[2])[0])
    first = read_expression(scope, left, form.starts[1])
    return Compare(form.head, first, read_expression(scope, right, form.starts[2]))  # type: ignore[arg-type]


def read_number(scope: Scope, token: str, start: int) -> float:
    """Reads a literal; one that a float cannot hold is an error."""
    if not is_number(token):
        raise scope.error("syntax", start, f"expected a number, found {token!r}", token)
    value = float(token)
    if not math.isfinite(value):
        raise scope.error("semantic", start, "number too large", token)
    return value


def read_expression(scope: Scope, item: str | Form, start: int, *, is_metric: bool = False) -> Expression:
    """Reads a numeric expression."""
    if isinstance(item, str):
        if item in scope.functions and not scope.functions[item]:
            return Fluent(item, ())
        return Number(read_number(scope, item, start))
    if item.head in ("+", "-", "*", "/"):
        num_operands = len(item.items) - 1
        if num_operands < 2 and not (item.head == "-" and num_operands == 1):
            raise scope.error("syntax", start, f"{item.head!r} has {num_operands} operands", item.head)
        if num_operands > 2 and item.head in "-/":
            raise scope.error("syntax", start, f"{item.head!r} takes 2 operands, not {num_operands},", item.head)
        operands = (
            read_expression(scope, i, s, is_metric=is_metric)
            for i, s in zip(item.items[1:], item.starts[1:], strict=True)
        )
        return Arithmetic(item.head, tuple(operands))  # type: ignore[arg-type]
    if is_metric and item.head == "is-violated":
        raise scope.error("unsupported", start, "preference", item.head)
    if is_metric and item.items == ["total-time"] and "total-time" not in scope.functions:
        return PlanLength()
    return scope.fluent(item)


def read_effects(scope: Scope, item: str | Form, start: int) -> tuple[Effect, ...]:
    """Reads an effect as a flat tuple: ``and`` disappears."""
    if isinstance(item, str):
        raise scope.error("syntax", start, f"expected '(', found {item!r}", item)
    if not item.items:
        return ()
    head, items, starts = item.head, item.items, item.starts
    if head == "and":
        return tuple(e for i, s in zip(items[1:], starts[1:], strict=True) for e in read_effects(scope, i, s))
    if head == "not":
        _expect(scope, item, 1)
        if not isinstance(items[1], Form):
            raise scope.error("syntax", starts[1], f"expected '(', found {items[1]!r}", items[1])
        return (SetFact(scope.atom(items[1]), False),)
    if head == "when":
        _expect(scope, item, 2)
        return (When(read_formula(scope, items[1], starts[1]), read_effects(scope, items[2], starts[2])),)
    if head == "forall":
        _expect(scope, item, 2)
        variables, before = scope.bind(_variable_list(scope, item), item.start)
        effects = read_effects(scope, items[2], starts[2])
        scope.release(before, variables)
        return (ForEach(variables, effects),)
    if head in CHANGES and head not in scope.predicates:
        return (_read_change(scope, item),)
    return (SetFact(scope.atom(item), True),)


def _read_change(scope: Scope, form: Form) -> Change:
    _expect(scope, form, 2)
    target = form.items[1]
    if isinstance(target, str):  # "increase total-cost 1" without parentheses around the function
        target = Form(form.starts[1])
        target.items.append(form.items[1])
        target.starts.append(form.starts[1])
    return Change(form.head, scope.fluent(target), read_expression(scope, form.items[2], form.starts[2]))  # type: ignore[arg-type]
