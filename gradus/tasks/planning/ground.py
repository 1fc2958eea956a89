"""Ground conditions and effects of one problem: what a plan is executed with.

Atoms become small integers and a state a set of them, so that an action costs two set comparisons and two set updates
whatever the size of the state. Atoms that no action changes are decided here and vanish. Nothing is ever compiled to
code: an action is instantiated when a plan first uses it and kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gradus.tasks.planning.conditions import (
    ALWAYS,
    NEVER,
    Comparison,
    Fact,
    Group,
    Inapplicable,
    Node,
    Numbers,
    combine,
    evaluate,
    finite,
    reads,
)
from gradus.tasks.planning.formula import (
    And,
    Arithmetic,
    Atom,
    Change,
    ChangeKind,
    Compare,
    Effect,
    Expression,
    Fluent,
    ForEach,
    Formula,
    Not,
    Or,
    Quantified,
    Same,
    SetFact,
    Term,
    Variables,
    When,
)
from gradus.tasks.planning.hierarchy import TypeSet

KEPT_SIZE = 2_000_000
"""Atoms in all instantiated actions that one problem keeps; beyond it they are forgotten and made again when needed."""


@dataclass(slots=True)
class Effects:
    """Ground effects under one condition."""

    condition: Node
    adds: frozenset[int]
    deletes: frozenset[int]
    changes: tuple[tuple[ChangeKind, Fact, Expression], ...]


@dataclass(slots=True)
class Op:
    """A ground action."""

    action: tuple[str, ...]
    condition: Group
    adds: frozenset[int]
    deletes: frozenset[int]
    """Without those that are added too: an atom both deleted and added is true."""
    is_simple: bool
    """Whether the condition is literals alone and the effects need no condition or number."""
    others: tuple[Effects, ...]
    """What a simple action has none of; then ``adds`` and ``deletes`` are not to be used."""
    size: int
    touched: frozenset[int]
    """Atoms that it may change."""
    changes_numbers: bool

    def apply(self, facts: set[int], numbers: dict[Fact, float]) -> None:
        """Changes the state in place; the action is applicable. Raises Inapplicable before any change."""
        if self.is_simple:
            facts -= self.deletes
            facts |= self.adds
            return
        active = [effects for effects in self.others if effects.condition.holds(facts, numbers)]
        updates = _new_values([change for effects in active for change in effects.changes], numbers)
        for effects in active:
            facts -= effects.deletes
        for effects in active:
            facts |= effects.adds
        numbers.update(updates)


def _new_values(changes: list[tuple[ChangeKind, Fact, Expression]], numbers: Numbers) -> dict[Fact, float]:
    """New values of changed fluents, all read in the old state."""
    by_fluent: dict[Fact, list[tuple[ChangeKind, float]]] = {}
    for kind, fluent, amount in changes:
        by_fluent.setdefault(fluent, []).append((kind, evaluate(amount, numbers)))
    updates: dict[Fact, float] = {}
    for fluent, parts in by_fluent.items():
        text = f"({' '.join(fluent)})"
        families = {"add" if kind in ("increase", "decrease") else kind.split("-")[0] for kind, _ in parts}
        if len(families) > 1 or (families == {"assign"} and len(parts) > 1):
            raise Inapplicable("effect_conflict", f"conflicting changes of {text}")
        if families == {"assign"}:
            updates[fluent] = parts[0][1]
            continue
        value = numbers.get(fluent)
        if value is None:
            raise Inapplicable("undefined_value", f"{text} has no value")
        for kind, amount in parts:
            value = _changed(kind, value, amount)
        updates[fluent] = finite(value)
    return updates


def _changed(kind: ChangeKind, value: float, amount: float) -> float:
    match kind:
        case "increase":
            return value + amount
        case "decrease":
            return value - amount
        case "scale-up":
            return value * amount
        case _:
            if amount == 0:
                raise Inapplicable("undefined_value", "division by 0")
            return value / amount


class Grounding:
    """Turns formulas and actions of one problem into ground ones. Safe to share between threads."""

    def __init__(
        self,
        objects: Mapping[str, str],
        objects_of: Mapping[TypeSet, tuple[str, ...]],
        true_facts: frozenset[Fact],
        fluent_predicates: frozenset[str],
    ) -> None:
        self.objects = objects
        self.objects_of = objects_of
        self.true_facts = true_facts
        self.fluent_predicates = fluent_predicates
        self._ids: dict[Fact, int] = {}
        self._next_id = itertools.count()
        self.facts: dict[int, Fact] = {}

    def id_of(self, fact: Fact) -> int:
        """The number of an atom, given out when it is first met."""
        number = self._ids.get(fact)
        if number is None:
            # setdefault decides between threads that meet here; the loser's number stays unused.
            number = self._ids.setdefault(fact, next(self._next_id))
            self.facts[number] = fact
        return number

    def formula(self, formula: Formula, values: Sequence[str], is_true: bool = True) -> Node:
        """The ground form of ``formula``, or of its negation, with slots filled from ``values``."""
        match formula:
            case Atom(predicate, terms):
                fact = (predicate, *_fill(terms, values))
                if predicate not in self.fluent_predicates:
                    return ALWAYS if (fact in self.true_facts) == is_true else NEVER
                ids = (self.id_of(fact),)
                return Group(True, ids, (), ()) if is_true else Group(True, (), ids, ())
            case Same(left, right):
                first, second = _fill((left, right), values)
                return ALWAYS if (first == second) == is_true else NEVER
            case Not(body):
                return self.formula(body, values, not is_true)
            case And(parts):
                return combine(is_true, (self.formula(part, values, is_true) for part in parts))
            case Or(parts):
                return combine(not is_true, (self.formula(part, values, is_true) for part in parts))
            case Quantified(is_forall, variables, body):
                instances = (self.formula(body, inner, is_true) for inner in self.instances(variables, values))
                return combine(is_forall == is_true, instances)
            case Compare(comparator, left, right):
                return Comparison(
                    comparator, self.expression(left, values), self.expression(right, values), not is_true
                )

    def instances(self, variables: Variables, values: Sequence[str]) -> Iterable[list[str]]:
        """``values`` extended by every choice for ``variables``."""
        outer = list(values[: variables.first_slot])
        for choice in itertools.product(*(self.objects_of[types] for types in variables.types)):
            yield [*outer, *choice]

    def expression(self, expression: Expression, values: Sequence[str]) -> Expression:
        """The ground form of an expression."""
        match expression:
            case Fluent(function, terms):
                return Fluent(function, _fill(terms, values))
            case Arithmetic(operator, operands):
                return Arithmetic(operator, tuple(self.expression(operand, values) for operand in operands))
            case _:
                return expression

    def op(self, action: tuple[str, ...], precondition: Formula, effects: Sequence[Effect]) -> Op:
        """The ground action ``(name, *objects)``."""
        values = action[1:]
        node = self.formula(precondition, values)
        condition = node if isinstance(node, Group) and node.is_all else Group(True, (), (), (node,))
        found: list[Effects] = []
        self._effects(effects, values, ALWAYS, found)
        adds = frozenset().union(*(e.adds for e in found if e.condition is ALWAYS))
        deletes = frozenset().union(*(e.deletes for e in found if e.condition is ALWAYS)) - adds
        is_simple = not condition.rest and all(e.condition is ALWAYS and not e.changes for e in found)
        touched = frozenset().union(*(e.adds | e.deletes for e in found))
        read, _ = reads(condition)
        size = 8 + len(read) + sum(4 + len(e.adds) + len(e.deletes) + len(reads(e.condition)[0]) for e in found)
        changes_numbers = any(e.changes for e in found)
        others = () if is_simple else tuple(found)
        return Op(action, condition, adds, deletes, is_simple, others, size, touched, changes_numbers)

    def _effects(self, effects: Sequence[Effect], values: Sequence[str], condition: Node, found: list[Effects]) -> None:
        adds: list[int] = []
        deletes: list[int] = []
        changes: list[tuple[ChangeKind, Fact, Expression]] = []
        for effect in effects:
            match effect:
                case SetFact(atom, value):
                    number = self.id_of((atom.predicate, *_fill(atom.terms, values)))
                    (adds if value else deletes).append(number)
                case Change(kind, fluent, amount):
                    key = (fluent.function, *_fill(fluent.terms, values))
                    changes.append((kind, key, self.expression(amount, values)))
                case When(inner, body):
                    both = combine(True, (condition, self.formula(inner, values)))
                    if both is not NEVER:
                        self._effects(body, values, both, found)
                case ForEach(variables, body):
                    for choice in self.instances(variables, values):
                        self._effects(body, choice, condition, found)
        if adds or deletes or changes:
            found.append(Effects(condition, frozenset(adds), frozenset(deletes), tuple(changes)))


def _fill(terms: Sequence[Term], values: Sequence[str]) -> Fact:
    return tuple(term if isinstance(term, str) else values[term] for term in terms)
