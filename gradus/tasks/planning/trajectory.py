"""Trajectory constraints of PDDL3: how they are read, and the small monitor that watches each of them.

A plan passes through states S0..Sn; the time of Si is i. A monitor is a number that each state updates, so a long plan
costs no memory, and a search can carry the numbers along as part of its state.

| constraint            | satisfied when                                       | violation is certain at state        |
|-----------------------|------------------------------------------------------|--------------------------------------|
| always f              | f in every state                                     | the first without f                  |
| sometime f            | f in some state                                      | n                                    |
| at end f              | f in Sn                                              | n                                    |
| at-most-once f        | the states with f are one unbroken run at most       | the first of the second run          |
| sometime-before f g   | every state with f has an earlier one with g         | the first with f and no g before     |
| sometime-after f g    | every state with f has g in it or in a later one     | n                                    |
| within t f            | f in some state of index <= t                        | min(floor t, n)                      |
| always-within t f g   | every state i with f has g in some state i..i+t      | min(i + floor t, n)                  |

Source: A. Gerevini, D. Long, "Plan constraints and preferences in PDDL3" (2005); semantics over untimed plans.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from gradus.tasks.planning.forms import Form
from gradus.tasks.planning.formula import Formula, Variables
from gradus.tasks.planning.hierarchy import read_typed_list
from gradus.tasks.planning.limits import Where
from gradus.tasks.planning.scope import Scope, read_formula, read_number

Operator = Literal[
    "always", "sometime", "at-end", "at-most-once", "sometime-before", "sometime-after", "within", "always-within"
]
_SHAPES: dict[str, tuple[bool, int]] = {
    "always": (False, 1),
    "sometime": (False, 1),
    "at-most-once": (False, 1),
    "sometime-before": (False, 2),
    "sometime-after": (False, 2),
    "within": (True, 1),
    "always-within": (True, 2),
}
"""Operator to (has a number first, formulas)."""

VIOLATED = -1
"""State of a monitor whose constraint can no longer be satisfied."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """One modal operator, under the variables of every ``forall`` around it."""

    operator: Operator
    variables: Variables
    bound: int
    """floor of the number of ``within`` and ``always-within``; 0 elsewhere."""
    formulas: tuple[Formula, ...]
    where: Where

    @property
    def is_timed(self) -> bool:
        """Whether its monitor needs the index of the state."""
        return self.operator in ("within", "always-within")

    @property
    def code(self) -> str:
        """The code of its violation in a verdict."""
        return "constraint_" + self.operator.replace("-", "_")


def read_constraints(scope: Scope, form: Form | None) -> tuple[Constraint, ...]:
    """Reads a ``:constraints`` section; ``and`` and ``forall`` may stand around the modal operators."""
    if form is None:
        return ()
    found: list[Constraint] = []
    for item in scope.source.forms(form, 1, "of a constraint"):
        _read(scope, item, (), found)
    return tuple(found)


def _read(scope: Scope, form: Form, outer: tuple[Variables, ...], found: list[Constraint]) -> None:
    head = form.head
    if head == "and" or not form.items:
        for item in scope.source.forms(form, 1, "of a constraint"):
            _read(scope, item, outer, found)
    elif head == "forall":
        if len(form.items) != 3 or not isinstance(form.items[1], Form) or not isinstance(form.items[2], Form):
            raise scope.error("syntax", form.start, "expected '(forall (variables) constraint)'", head)
        entries = read_typed_list(scope.source, form.items[1], 0, context=f"in {scope.context}")
        variables, before = scope.bind(entries, form.start)
        _read(scope, form.items[2], (*outer, variables), found)
        scope.release(before, variables)
    elif head == "at" and form.items[1:2] == ["end"] and len(form.items) == 3 and isinstance(form.items[2], Form):
        formula = read_formula(scope, form.items[2], form.starts[2])
        found.append(Constraint("at-end", _merge(scope, outer, form), 0, (formula,), scope.source.where))
    elif head in _SHAPES:
        found.append(_read_modal(scope, form, outer))
    elif head in ("preference", "hold-during", "hold-after"):
        raise scope.error("unsupported", form.start, head, head)
    elif head in ("or", "not", "imply", "exists"):
        raise scope.error("unsupported", form.start, f"{head!r} around a modal operator", head)
    else:
        detail = f"expected a modal operator such as 'always', found {head or '('!r}"
        raise scope.error("semantic", form.start, detail, head)


def _read_modal(scope: Scope, form: Form, outer: tuple[Variables, ...]) -> Constraint:
    has_bound, num_formulas = _SHAPES[form.head]
    num_operands = num_formulas + has_bound
    if len(form.items) - 1 != num_operands:
        detail = f"{form.head!r} takes {num_operands} operands, not {len(form.items) - 1},"
        raise scope.error("syntax", form.start, detail, form.head)
    bound, first = 0, 1
    if has_bound:
        token = form.items[1]
        if not isinstance(token, str):
            raise scope.error("syntax", form.starts[1], f"{form.head!r} needs a number first", form.head)
        bound, first = math.floor(read_number(scope, token, form.starts[1])), 2
        if bound < 0:
            raise scope.error("semantic", form.starts[1], f"negative time {token} of {form.head!r}", token)
    inner = [item for item in form.items[first:] if isinstance(item, Form)]
    for item in inner:
        if item.head in (*_SHAPES, "hold-during", "hold-after") and item.head not in scope.predicates:
            raise scope.error("unsupported", item.start, f"{item.head!r} nested in {form.head!r}", item.head)
    formulas = tuple(read_formula(scope, i, s) for i, s in zip(form.items[first:], form.starts[first:], strict=True))
    return Constraint(form.head, _merge(scope, outer, form), bound, formulas, scope.source.where)  # type: ignore[arg-type]


def _merge(scope: Scope, outer: tuple[Variables, ...], form: Form) -> Variables:
    names = tuple(name for variables in outer for name in variables.names)
    types = tuple(kind for variables in outer for kind in variables.types)
    return Variables(names, 0, types, scope.source.place(form.start))


def advance(operator: Operator, bound: int, index: int, memory: int, first: bool, second: bool) -> int:
    """State of a monitor after state ``index``, in which its formulas are ``first`` and ``second``; VIOLATED if lost.

    ``always-within`` remembers 1 + the index of the oldest state that still waits, the others a stage 0, 1 or 2.
    """
    match operator:
        case "always":
            return 0 if first else VIOLATED
        case "sometime":
            return memory or int(first)
        case "at-end":
            return int(first)
        case "at-most-once":
            if memory == 0:
                return int(first)
            if memory == 1:
                return 1 if first else 2
            return VIOLATED if first else 2
        case "sometime-before":
            if first and not memory:
                return VIOLATED
            return memory or int(second)
        case "sometime-after":
            return 0 if second else (memory or int(first))
        case "within":
            if memory or first:
                return 1
            return VIOLATED if index >= bound else 0
        case "always-within":
            if second:
                return 0
            waiting = memory or (index + 1 if first else 0)
            return VIOLATED if waiting and index >= waiting - 1 + bound else waiting


def is_satisfied_at_end(operator: Operator, memory: int) -> bool:
    """Whether a plan may end here. A monitor that is VIOLATED never gets so far."""
    if operator in ("sometime", "at-end", "within"):
        return memory == 1
    return memory == 0 or operator not in ("sometime-after", "always-within")
