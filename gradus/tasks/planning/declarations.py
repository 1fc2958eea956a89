"""The declarations of PDDL files: objects, predicates, functions, actions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gradus.tasks.planning.forms import Form, Source
from gradus.tasks.planning.formula import (
    And,
    Effect,
    Formula,
)
from gradus.tasks.planning.hierarchy import Hierarchy, Typed, TypeSet, read_typed_list
from gradus.tasks.planning.limits import Limits
from gradus.tasks.planning.scope import RESERVED, Scope, read_effects, read_formula


@dataclass(frozen=True, slots=True)
class Action:
    """An action schema. Slots 0.. of its formulas are its parameters."""

    name: str
    parameters: tuple[str, ...]
    types: tuple[TypeSet, ...]
    precondition: Formula
    effects: tuple[Effect, ...]


def read_objects(
    source: Source, form: Form | None, types: Hierarchy, known: Mapping[str, str], limits: Limits
) -> dict[str, str]:
    objects = dict(known)
    for entry in read_typed_list(source, form, 1, context=f"in {form.head}") if form else ():
        kind, *others = entry.types
        if others:
            raise source.error(
                "unsupported", entry.start, f"(either ..) as the type of object {entry.name!r}", "either"
            )
        if kind not in types:
            raise source.error("semantic", entry.start, f"unknown type {kind!r} of {entry.name!r}", kind)
        if entry.name.startswith("?"):
            raise source.error("semantic", entry.start, f"variable {entry.name!r} among objects", entry.name)
        if objects.get(entry.name, kind) != kind:
            detail = f"object {entry.name!r} is declared as {objects[entry.name]!r} and as {kind!r}"
            raise source.error("semantic", entry.start, detail, entry.name)
        if entry.name in objects:
            source.warn(entry.start, f"object {entry.name!r} is declared twice")
        objects[entry.name] = kind
        if len(objects) > limits.objects:
            raise source.error("limit", entry.start, f"more than {limits.objects} objects")
    return objects


def _read_signature(source: Source, form: Form, types: Hierarchy, limits: Limits, what: str) -> tuple[TypeSet, ...]:
    entries = read_typed_list(source, form, 1, context=f"in {what} {form.head!r}")
    if len(entries) > limits.parameters:
        raise source.error("limit", form.start, f"{what} {form.head!r} has more than {limits.parameters} parameters")
    for entry in entries:
        if not entry.name.startswith("?"):
            detail = f"{entry.name!r} in {what} {form.head!r} is no variable"
            raise source.error("semantic", entry.start, detail, entry.name)
        for name in entry.types:
            if name not in types:
                detail = f"unknown type {name!r} in {what} {form.head!r}"
                raise source.error("semantic", entry.start, detail, name)
    return tuple(entry.types for entry in entries)


def read_predicates(
    source: Source, form: Form | None, types: Hierarchy, limits: Limits
) -> dict[str, tuple[TypeSet, ...]]:
    predicates: dict[str, tuple[TypeSet, ...]] = {}
    for declaration in source.forms(form, 1, "of a predicate") if form else ():
        name = declaration.head
        if not name or name.startswith(("?", ":")) or name in RESERVED or name == "-":
            raise source.error("syntax", declaration.start, f"{name or '()'!r} cannot name a predicate", name)
        if name in predicates:
            raise source.error("semantic", declaration.start, f"predicate {name!r} is declared twice", name)
        predicates[name] = _read_signature(source, declaration, types, limits, "predicate")
    return predicates


def read_functions(
    source: Source, form: Form | None, types: Hierarchy, limits: Limits
) -> dict[str, tuple[TypeSet, ...]]:
    functions: dict[str, tuple[TypeSet, ...]] = {}
    position = 1
    while form and position < len(form.items):
        item, start = form.items[position], form.starts[position]
        position += 1
        if item == "-" and functions and position < len(form.items):
            if form.items[position] != "number":
                raise source.error("unsupported", start, "object fluent in :functions")
            position += 1
        elif isinstance(item, Form) and item.head and item.head not in RESERVED:
            if item.head in functions:
                raise source.error("semantic", start, f"function {item.head!r} is declared twice", item.head)
            functions[item.head] = _read_signature(source, item, types, limits, "function")
        else:
            raise source.error("syntax", start, "expected '(function ..)' in :functions", str(item))
    return functions


def read_action(scope: Scope, form: Form) -> Action:
    source, limits = scope.source, scope.source.limits
    name = form.items[1] if len(form.items) > 1 else None
    if not isinstance(name, str) or name.startswith((":", "?")):
        raise source.error("syntax", form.start, "expected the name of the action after ':action'")
    fields = _action_fields(source, form, name)
    scope.context = f"the parameters of {name!r}"
    entries: list[Typed] = []
    if ":parameters" in fields:
        listing, start = fields[":parameters"]
        if not isinstance(listing, Form):
            raise scope.error("syntax", start, f"expected '(', found {listing!r}", listing)
        entries = read_typed_list(source, listing, 0, context=f"in {scope.context}")
        if len(entries) > limits.parameters:
            raise source.error("limit", start, f"action {name!r} has more than {limits.parameters} parameters", name)
    else:
        source.warn(form.start, f"action {name!r} has no :parameters")
    variables, before = scope.bind(entries, form.start)
    scope.context = f"the precondition of {name!r}"
    precondition = read_formula(scope, *fields[":precondition"]) if ":precondition" in fields else And(())
    scope.context = f"the effect of {name!r}"
    effects = read_effects(scope, *fields[":effect"]) if ":effect" in fields else ()
    scope.release(before, variables)
    if not effects:
        source.warn(form.start, f"action {name!r} has no effect")
    return Action(name, variables.names, variables.types, precondition, effects)


def _action_fields(source: Source, form: Form, name: str) -> dict[str, tuple[str | Form, int]]:
    fields: dict[str, tuple[str | Form, int]] = {}
    for position in range(2, len(form.items), 2):
        keyword, start = form.items[position], form.starts[position]
        if not isinstance(keyword, str) or not keyword.startswith(":"):
            raise source.error("syntax", start, f"expected a keyword in action {name!r}", str(keyword))
        if keyword in (":duration", ":condition"):
            raise source.error("unsupported", start, "durative action", keyword)
        if keyword not in (":parameters", ":precondition", ":effect"):
            raise source.error("syntax", start, f"unknown field {keyword!r} of action {name!r}", keyword)
        if keyword in fields:
            raise source.error("syntax", start, f"field {keyword!r} of action {name!r} is given twice", keyword)
        value = form.items[position + 1] if position + 1 < len(form.items) else None
        if value is None or (isinstance(value, str) and value.startswith(":")):
            raise source.error("syntax", start, f"keyword {keyword!r} of action {name!r} has no value", keyword)
        fields[keyword] = (value, form.starts[position + 1])
    return fields
