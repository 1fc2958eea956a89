"""The ground form of one problem: start, goals, monitors, and the ground actions that plans have used so far."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from gradus.tasks.planning.conditions import Fact, Facts, Inapplicable, Node, Numbers, evaluate, reads
from gradus.tasks.planning.formula import (
    Arithmetic,
    Change,
    Compare,
    Effect,
    Expression,
    Fluent,
    Formula,
    Not,
    Quantified,
    SetFact,
    When,
    conjuncts,
    describe,
)
from gradus.tasks.planning.ground import KEPT_SIZE, Grounding, Op
from gradus.tasks.planning.limits import one_line
from gradus.tasks.planning.plan import Action
from gradus.tasks.planning.trajectory import Constraint, Operator, advance

if TYPE_CHECKING:
    from gradus.tasks.planning.pddl import Problem

MAX_NAMED = 20
"""Conditions named in a verdict at most."""


@dataclass(frozen=True, slots=True)
class State:
    """What is true at one moment.

    Example:
        State(frozenset({("on-table", "b1"), ("clear", "b1"), ("arm-empty",)}), {})
    """

    facts: frozenset[Fact]
    numbers: Mapping[Fact, float]


@dataclass(frozen=True, slots=True)
class BadAction:
    """An action that does not exist in the problem: a code as in a verdict, and what is wrong."""

    code: str
    detail: str


class Monitor:
    """One ground trajectory constraint."""

    __slots__ = ("bound", "constraint", "first", "operator", "second", "values")
    operator: Operator

    def __init__(self, constraint: Constraint, values: Sequence[str], grounding: Grounding) -> None:
        self.constraint = constraint
        self.operator = constraint.operator
        self.bound = constraint.bound
        self.values = tuple(values)
        nodes = [grounding.formula(formula, values) for formula in constraint.formulas]
        self.first, self.second = nodes[0], nodes[-1]

    def advance(self, index: int, memory: int, facts: Facts, numbers: Numbers) -> int:
        """State of the monitor after state ``index`` of the plan; VIOLATED where the constraint is lost."""
        first = _is_true(self.first, facts, numbers)
        second = first if self.second is self.first else _is_true(self.second, facts, numbers)
        return advance(self.operator, self.bound, index, memory, first, second)

    def text(self) -> str:
        """The constraint as PDDL, without the quantifiers around it."""
        head = "at end" if self.operator == "at-end" else self.operator
        bound = [str(self.bound)] if self.constraint.is_timed else []
        return f"({' '.join([head, *bound, *(describe(f, self.values) for f in self.constraint.formulas)])})"


def _is_true(node: Node, facts: Facts, numbers: Numbers) -> bool:
    """Truth of a goal or constraint; one that needs an undefined number is false."""
    try:
        return node.holds(facts, numbers)
    except Inapplicable:
        return False


class World:
    """Everything about a problem that does not depend on the plan. Safe to share between threads."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        domain = problem.domain
        by_types: dict[tuple[str, ...], tuple[str, ...]] = _ObjectsOf(problem)
        self.grounding = Grounding(problem.objects, by_types, problem.facts, domain.fluent_predicates)
        self.start = frozenset(
            self.grounding.id_of(fact) for fact in sorted(problem.facts) if fact[0] in domain.fluent_predicates
        )
        self.numbers = dict(problem.numbers)
        self.goals: list[Node] = [self.grounding.formula(goal, ()) for goal in problem.goals]
        self._goal_texts: list[str] = []
        self.monitors = [
            Monitor(constraint, values, self.grounding)
            for constraint in problem.constraints
            for values in self.grounding.instances(constraint.variables, ())
        ]
        self._watchers: dict[int, list[int]] = {}
        self._always: list[int] = []
        self._on_numbers: list[int] = []
        for index, monitor in enumerate(self.monitors):
            self._watch(index, monitor)
        self.relevant_functions = _functions_read(problem)
        self._ops: dict[Action, Op] = {}
        self._watched: dict[Action, tuple[int, ...]] = {}
        self._kept_size = 0
        self._keys: dict[int, int] = {}

    def _watch(self, index: int, monitor: Monitor) -> None:
        atoms, has_numbers = reads(monitor.first)
        more_atoms, more_numbers = reads(monitor.second)
        if monitor.constraint.is_timed:
            self._always.append(index)
            return
        if has_numbers or more_numbers:
            self._on_numbers.append(index)
        for atom in atoms | more_atoms:
            self._watchers.setdefault(atom, []).append(index)

    def op(self, action: Action) -> Op | BadAction:
        """The ground action for a line of a plan, or why there is none."""
        found = self._ops.get(action)
        if found is not None:
            return found
        fault = self._fault(action)
        if fault is not None:
            return fault
        schema = self.problem.domain.actions[action[0]]
        op = self.grounding.op(action, schema.precondition, schema.effects)
        if self._kept_size > KEPT_SIZE:
            self._ops.clear()
            self._watched.clear()
            self._kept_size = 0
        self._watched[action] = self.watched(op)
        self._kept_size += op.size
        self._ops[action] = op
        return op

    def watched(self, op: Op) -> tuple[int, ...]:
        """Monitors that have to look at the state after ``op``; the others would not change."""
        if not self.monitors:
            return ()
        found = self._watched.get(op.action)
        if found is None:
            indexes = {index for atom in op.touched for index in self._watchers.get(atom, ())}
            indexes.update(self._always, self._on_numbers if op.changes_numbers else ())
            found = tuple(sorted(indexes))
        return found

    def _fault(self, action: Action) -> BadAction | None:
        domain, objects = self.problem.domain, self.problem.objects
        name, arguments = action[0], action[1:]
        schema = domain.actions.get(name)
        if schema is None:
            near = difflib.get_close_matches(name[:40], domain.actions, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(domain.actions))}"
            return BadAction("unknown_action", f"there is no action {name[:40]!r}; {hint}")
        if len(arguments) != len(schema.parameters):
            wanted = f"{len(schema.parameters)} ({' '.join(schema.parameters)})"
            return BadAction("wrong_arity", f"{name!r} takes {wanted} arguments, not {len(arguments)}")
        for argument, parameter, types in zip(arguments, schema.parameters, schema.types, strict=True):
            if argument.startswith("?"):
                return BadAction("variable", f"{argument[:40]!r} is a variable; a plan names objects")
            if argument not in objects:
                return BadAction("unknown_object", f"there is no object {argument[:40]!r}")
            if not domain.types.fits(objects[argument], types):
                wanted = f"{parameter} of {name!r} needs {'/'.join(types)}"
                return BadAction("wrong_type", f"{argument!r} is of type {objects[argument]!r}, but {wanted}")
        return None

    def num_goals_true(self, facts: Facts, numbers: Numbers) -> int:
        """Goal conjuncts that hold in a state."""
        return sum(_is_true(goal, facts, numbers) for goal in self.goals)

    def unmet_goals(self, facts: Facts, numbers: Numbers) -> tuple[str, ...]:
        """Texts of the goal conjuncts that do not hold, the first 20."""
        if not self._goal_texts:
            self._goal_texts = [describe(goal, ()) for goal in self.problem.goals]
        unmet = (
            text for text, goal in zip(self._goal_texts, self.goals, strict=True) if not _is_true(goal, facts, numbers)
        )
        return tuple(text for text, _ in zip(unmet, range(MAX_NAMED), strict=False))

    def unmet_conditions(self, op: Op, facts: Facts, numbers: Numbers) -> tuple[str, ...]:
        """Texts of the conjuncts of an action's precondition that do not hold, the first 20."""
        values = op.action[1:]
        found: list[str] = []
        for part in conjuncts(self.problem.domain.actions[op.action[0]].precondition):
            if len(found) < MAX_NAMED and not _is_true(self.grounding.formula(part, values), facts, numbers):
                found.append(one_line(describe(part, values)))
        return tuple(found)

    def cost(self, numbers: Numbers, plan_length: int) -> float | None:
        """Value of the metric, else of ``total-cost``, else the length of the plan; None where it has no value."""
        metric = self.problem.metric
        try:
            if metric is not None:
                return evaluate(metric.expression, numbers, plan_length)
            return numbers[("total-cost",)] if ("total-cost",) in numbers else float(plan_length)
        except Inapplicable:
            return None

    def key_of(self, atom: int) -> int:
        """128 fixed bits for an atom: the exclusive or over a state identifies it without a copy of it."""
        key = self._keys.get(atom)
        if key is None:
            name = " ".join(self.grounding.facts[atom]).encode()
            key = self._keys[atom] = int.from_bytes(blake2b(name, digest_size=16).digest(), "little")
        return key

    def relevant_numbers(self, numbers: Numbers) -> frozenset[tuple[Fact, float]]:
        """Values that something may depend on: pure costs do not make two states different."""
        return frozenset(item for item in numbers.items() if item[0][0] in self.relevant_functions)

    def apply(self, state: State, action: str | Sequence[str]) -> State:
        """See `Problem.apply`."""
        names = action.strip().strip("()").lower().split() if isinstance(action, str) else [n.lower() for n in action]
        op = self.op(tuple(names)) if names else BadAction("unknown_action", "empty action")
        text = f"({' '.join(names)})"
        if isinstance(op, BadAction):
            raise ValueError(f"{text} cannot be executed: {op.detail}")
        facts = {self.grounding.id_of(fact) for fact in state.facts if fact[0] in self.grounding.fluent_predicates}
        numbers = dict(state.numbers)
        try:
            if not op.condition.holds(facts, numbers):
                unmet = ", ".join(self.unmet_conditions(op, facts, numbers))
                raise ValueError(f"{text} cannot be executed: {unmet} does not hold")
            op.apply(facts, numbers)
        except Inapplicable as error:
            raise ValueError(f"{text} cannot be executed: {error}") from None
        fixed = (fact for fact in state.facts if fact[0] not in self.grounding.fluent_predicates)
        return State(frozenset((*fixed, *(self.grounding.facts[atom] for atom in facts))), numbers)

    def satisfies(self, state: State, formula: Formula) -> bool:
        """See `Problem.state_satisfies`."""
        facts = {self.grounding.id_of(fact) for fact in state.facts}
        return _is_true(self.grounding.formula(formula, ()), facts, state.numbers)


class _ObjectsOf(dict[tuple[str, ...], tuple[str, ...]]):
    """Objects by declaration, filled when first asked for."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self._problem = problem

    def __missing__(self, types: tuple[str, ...]) -> tuple[str, ...]:
        self[types] = found = self._problem.objects_of(types)
        return found


def _functions_read(problem: Problem) -> frozenset[str]:
    """Functions whose value some condition, goal, constraint or change of another number depends on."""
    found: set[str] = set()

    def expression(node: Expression) -> None:
        if isinstance(node, Fluent):
            found.add(node.function)
        elif isinstance(node, Arithmetic):
            for operand in node.operands:
                expression(operand)

    def formula(node: Formula) -> None:
        if isinstance(node, Compare):
            expression(node.left)
            expression(node.right)
        elif isinstance(node, (Not, Quantified)):
            formula(node.body)
        else:
            for part in getattr(node, "parts", ()):
                formula(part)

    def effects(nodes: Sequence[Effect]) -> None:
        for node in nodes:
            if isinstance(node, Change):
                expression(node.amount)
            elif not isinstance(node, SetFact):
                if isinstance(node, When):
                    formula(node.condition)
                effects(node.effects)

    for action in problem.domain.actions.values():
        formula(action.precondition)
        effects(action.effects)
    for part in (*problem.goals, *(f for constraint in problem.constraints for f in constraint.formulas)):
        formula(part)
    return frozenset(found)
