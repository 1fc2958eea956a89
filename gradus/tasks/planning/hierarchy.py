"""Types and typed lists of PDDL. A type may have several parents; every walk is a loop, so depth costs no stack."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from gradus.tasks.planning.forms import Form, Source

ROOT = "object"

TypeSet = tuple[str, ...]
"""Alternatives of one declaration: ``- car`` is ("car",), ``- (either car bus)`` is ("car", "bus")."""


@dataclass(frozen=True, slots=True)
class Typed:
    """One name of a typed list, its alternatives and its offset in the text."""

    name: str
    types: TypeSet
    start: int


def read_typed_list(source: Source, form: Form, first: int, *, context: str) -> list[Typed]:
    """Reads ``a b - t c - (either t u) d`` from item ``first`` of ``form``; names without a type are ``object``."""
    entries: list[Typed] = []
    waiting: list[tuple[str, int]] = []
    position, items = first, form.items
    while position < len(items):
        item, start = items[position], form.starts[position]
        if isinstance(item, Form):
            raise source.error("syntax", start, f"unexpected '(' {context}")
        if item == "-":
            if not waiting or position + 1 >= len(items):
                raise source.error("syntax", start, f"dangling '-' {context}", "-")
            types = _read_types(source, items[position + 1], form.starts[position + 1], context)
            entries += [Typed(name, types, at) for name, at in waiting]
            waiting = []
            position += 2
        else:
            if item.startswith(":"):
                raise source.error("syntax", start, f"unexpected keyword {item!r} {context}", item)
            waiting.append((item, start))
            position += 1
    return entries + [Typed(name, (ROOT,), at) for name, at in waiting]


def _read_types(source: Source, item: str | Form, start: int, context: str) -> TypeSet:
    if isinstance(item, str):
        if item == "-":
            raise source.error("syntax", start, f"dangling '-' {context}", "-")
        return (item,)
    names = tuple(name for name in item.items[1:] if isinstance(name, str))
    if item.head != "either" or not names or len(names) != len(item.items) - 1:
        raise source.error("syntax", start, f"expected a type or (either ..) after '-' {context}")
    return tuple(dict.fromkeys(names))


class Hierarchy:
    """The declared types: who is below whom. One bit per type, so that the closure of 10,000 types stays small."""

    def __init__(self, parents: dict[str, TypeSet]) -> None:
        self.parents = parents
        self._bit = {name: 1 << index for index, name in enumerate(parents)}
        self._below = dict(self._bit)
        order, self.in_cycle = _downwards(parents)
        for name in reversed(order):
            for parent in parents[name]:
                self._below[parent] |= self._below[name]

    @classmethod
    def read(cls, source: Source, form: Form | None) -> Hierarchy:
        """Reads a ``:types`` section. A parent that is not declared is declared by use; a cycle is an error."""
        parents: dict[str, TypeSet] = {ROOT: ()}
        for entry in read_typed_list(source, form, 1, context="in :types") if form else ():
            if entry.name == ROOT:
                if entry.types != (ROOT,):
                    source.warn(entry.start, "'object' stays the root; its declared parent is ignored")
                continue
            parents[entry.name] = tuple(dict.fromkeys((*parents.get(entry.name, ()), *entry.types)))
            for name in entry.types:
                parents.setdefault(name, () if name == ROOT else (ROOT,))
        hierarchy = cls(parents)
        if hierarchy.in_cycle:
            start = form.start if form else 0
            raise source.error("semantic", start, f"type {hierarchy.in_cycle!r} is above itself", hierarchy.in_cycle)
        return hierarchy

    def __contains__(self, name: str) -> bool:
        return name in self.parents

    def __len__(self) -> int:
        return len(self.parents)

    def fits(self, name: str, wanted: TypeSet) -> bool:
        """Whether something of type ``name`` may stand where ``wanted`` is asked for."""
        return any(option == ROOT or self._below[option] & self._bit[name] for option in wanted)

    def overlap(self, some: Iterable[str], others: Iterable[str]) -> bool:
        """Whether the two declarations share a subtype, so that an object could be of both."""
        others = tuple(others)
        return any(self._below[a] & self._below[b] for a in some for b in others)


def _downwards(parents: dict[str, TypeSet]) -> tuple[list[str], str]:
    """Types with parents before children, and a type that is part of a cycle (empty text: none)."""
    children: dict[str, list[str]] = {}
    for name, above in parents.items():
        for parent in above:
            children.setdefault(parent, []).append(name)
    num_above = {name: len(above) for name, above in parents.items()}
    free = deque(name for name, count in num_above.items() if count == 0)
    order: list[str] = []
    while free:
        order.append(free.popleft())
        for child in children.get(order[-1], ()):
            num_above[child] -= 1
            if num_above[child] == 0:
                free.append(child)
    return order, next((name for name, count in num_above.items() if count > 0), "")
