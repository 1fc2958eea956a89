"""Search for a plan of any parsed problem: best-first over states and monitor states.

The estimate h is the additive delete-relaxation heuristic (B. Bonet, H. Geffner, "Planning as heuristic search", 2001)
over positive literals, plus what the constraints still wait for. Half of the states are searched by depth + 3h, which
finds short plans, the rest by h alone, which finds plans; then useless actions are left out (H. Nakhost, M. Müller,
"Action elimination and plan neighborhood graph search", 2010). With ``shortest`` the search is breadth-first and its
plan a shortest one. The bound is a number of states, not a time, so that a result is the same on every machine.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gradus.tasks.planning.conditions import NEVER, Fact, Facts, Group, Inapplicable, Node, reads
from gradus.tasks.planning.declarations import Action as Schema
from gradus.tasks.planning.formula import And, Atom, Formula
from gradus.tasks.planning.ground import Op
from gradus.tasks.planning.pddl import Problem
from gradus.tasks.planning.plan import Action, Plan
from gradus.tasks.planning.trajectory import VIOLATED, is_satisfied_at_end
from gradus.tasks.planning.validate import validate
from gradus.tasks.planning.world import World

MAX_OPS = 100_000
"""Ground actions that the search is willing to enumerate."""
UNREACHABLE = 10**6


@dataclass(frozen=True, slots=True)
class _Node:
    facts: frozenset[int]
    numbers: Mapping[Fact, float]
    memory: tuple[int, ...]
    depth: int
    parent: _Node | None
    op: Op | None

    def key(self, world: World, is_timed: bool) -> object:
        """What makes two nodes interchangeable."""
        time = self.depth if is_timed else 0
        return self.facts, self.memory, world.relevant_numbers(self.numbers), time

    def plan(self) -> list[Action]:
        actions: list[Action] = []
        node = self
        while node.op is not None and node.parent is not None:
            actions.append(node.op.action)
            node = node.parent
        return actions[::-1]


def solve(problem: Problem, max_states: int = 200_000, *, shortest: bool = False) -> list[Action] | None:
    """A valid plan, or None where none was found within ``max_states`` states (or none exists).

    Example:
        solve(load_problem(domain_text, problem_text))  # [("pickup", "b1"), ("stack", "b1", "b2")]
    """
    ops = ground_ops(problem)
    if ops is None:
        return None
    search = _Search(problem.world, _allowed(problem.world, ops))
    if shortest:
        return search.run(max_states, lambda depth, _: depth, is_informed=False)
    plan = search.run(max_states // 2, lambda depth, estimate: depth + 3 * estimate)
    plan = search.run(max_states - max_states // 2, lambda _, estimate: estimate) if plan is None else plan
    return None if plan is None else _without_useless(problem, plan)


def _without_useless(problem: Problem, plan: list[Action]) -> list[Action]:
    """Leaves out each action, with those that then cannot be executed, where the rest still solves the problem."""
    index = 0
    while index < len(plan):
        rest = plan[:index] + plan[index + 1 :]
        while (verdict := validate(problem, _as_plan(rest))).status == "precondition":
            assert verdict.step is not None
            del rest[verdict.step - 1]
        if verdict.valid:
            plan = rest
        else:
            index += 1
    return plan


def _as_plan(actions: Sequence[Action]) -> Plan:
    return Plan(tuple(actions), tuple(range(1, len(actions) + 1)))


def _allowed(world: World, ops: Sequence[Op]) -> list[Op]:
    """Without the actions that make true what must always be false."""
    forbidden: set[int] = set()
    for monitor in world.monitors:
        if monitor.operator == "always" and isinstance(monitor.first, Group) and monitor.first.is_all:
            forbidden |= monitor.first.negative
    return [op for op in ops if not (op.is_simple and op.adds & forbidden)]


class _Search:
    def __init__(self, world: World, ops: Sequence[Op]) -> None:
        self.world = world
        self.ops = ops
        self.is_timed = any(monitor.constraint.is_timed for monitor in world.monitors)
        self.estimate = _Estimate(world, ops)
        # What nothing asks for (a log of visited places, say) would only make equal states look different.
        nodes = [*world.goals, *(node for monitor in world.monitors for node in (monitor.first, monitor.second))]
        nodes += [node for op in ops for node in (op.condition, *(effects.condition for effects in op.others))]
        self.relevant = frozenset(atom for node in nodes for atom in reads(node)[0])

    def run(
        self, max_states: int, priority_of: Callable[[int, int], int], *, is_informed: bool = True
    ) -> list[Action] | None:
        world, tie = self.world, itertools.count()
        memory = tuple(monitor.advance(0, 0, world.start, world.numbers) for monitor in world.monitors)
        if VIOLATED in memory:
            return None
        root = _Node(world.start & self.relevant, world.numbers, memory, 0, None, None)
        queue: list[tuple[int, int, _Node]] = [(0, next(tie), root)]
        seen = {root.key(world, self.is_timed)}
        while queue:
            _, _, node = heapq.heappop(queue)
            if self.is_goal(node):
                return node.plan()
            # A node hands down its own estimate: most of what is queued is never looked at.
            estimate = self.estimate(node.facts, node.memory) if is_informed else 0
            if estimate >= UNREACHABLE:
                continue
            priority = priority_of(node.depth + 1, estimate)
            for child in self.children(node):
                key = child.key(world, self.is_timed)
                if key in seen:
                    continue
                if len(seen) >= max_states:
                    return None
                seen.add(key)
                heapq.heappush(queue, (priority, -next(tie) if is_informed else next(tie), child))
        return None

    def is_goal(self, node: _Node) -> bool:
        settled = (
            is_satisfied_at_end(monitor.operator, memory)
            for monitor, memory in zip(self.world.monitors, node.memory, strict=True)
        )
        return self.world.num_goals_true(node.facts, node.numbers) == len(self.world.goals) and all(settled)

    def children(self, node: _Node) -> Iterator[_Node]:
        for op in self.ops:
            condition = op.condition
            if not (condition.positive <= node.facts and condition.negative.isdisjoint(node.facts)):
                continue
            facts, numbers = set(node.facts), dict(node.numbers)
            try:
                if condition.rest and not condition.holds(facts, numbers):
                    continue
                op.apply(facts, numbers)
            except Inapplicable:
                continue
            memory = list(node.memory)
            for index in self.world.watched(op):
                memory[index] = self.world.monitors[index].advance(node.depth + 1, memory[index], facts, numbers)
            if VIOLATED not in memory:
                yield _Node(self.relevant & facts, numbers, tuple(memory), node.depth + 1, node, op)


class _Estimate:
    """Sum over the wanted atoms of what it costs to reach each when nothing is ever deleted."""

    def __init__(self, world: World, ops: Sequence[Op]) -> None:
        self.world = world
        self.adds: list[tuple[int, ...]] = []
        self.num_conditions: list[int] = []
        self.needed_by: dict[int, list[int]] = {}
        self.free: list[int] = []
        for index, op in enumerate(ops):
            adds = op.adds if op.is_simple else frozenset().union(*(effects.adds for effects in op.others))
            self.adds.append(tuple(adds))
            self.num_conditions.append(len(op.condition.positive))
            for atom in op.condition.positive:
                self.needed_by.setdefault(atom, []).append(index)
            if not op.condition.positive:
                self.free.append(index)
        self.goals = [(goal, _positive(goal)) for goal in world.goals]

    def __call__(self, facts: Facts, memory: Sequence[int]) -> int:
        wanted = [atom for _, atoms in self.goals for atom in atoms if atom not in facts]
        num_waiting = 0
        for monitor, value in zip(self.world.monitors, memory, strict=True):
            if monitor.operator in ("sometime", "within", "sometime-before") and value == 0:
                node = monitor.second if monitor.operator == "sometime-before" else monitor.first
                wanted += [atom for atom in _positive(node) if atom not in facts]
            num_waiting += not is_satisfied_at_end(monitor.operator, value)
        costs = self._reach(facts, set(wanted))
        return num_waiting + sum(costs.get(atom, UNREACHABLE) for atom in wanted)

    def _reach(self, facts: Facts, wanted: set[int]) -> dict[int, int]:
        costs: dict[int, int] = dict.fromkeys(facts, 0)
        open_conditions = self.num_conditions.copy()
        sums = [0] * len(self.adds)
        queue = [(0, atom) for atom in facts]
        missing = len(wanted)
        for index in self.free:
            missing -= self._fire(index, 1, costs, queue, wanted)
        heapq.heapify(queue)
        while queue and missing > 0:
            cost, atom = heapq.heappop(queue)
            if cost > costs[atom]:
                continue
            for index in self.needed_by.get(atom, ()):
                open_conditions[index] -= 1
                sums[index] += cost
                if open_conditions[index] == 0:
                    missing -= self._fire(index, sums[index] + 1, costs, queue, wanted)
        return costs

    def _fire(
        self, index: int, cost: int, costs: dict[int, int], queue: list[tuple[int, int]], wanted: set[int]
    ) -> int:
        """Reaches what an action adds; returns how many wanted atoms are reached for the first time."""
        num_new = 0
        for atom in self.adds[index]:
            known = costs.get(atom)
            if known is None or cost < known:
                costs[atom] = cost
                heapq.heappush(queue, (cost, atom))
                num_new += known is None and atom in wanted
        return num_new


def _positive(node: Node) -> frozenset[int]:
    return node.positive if isinstance(node, Group) and (node.is_all or len(node.positive) == 1) else frozenset()


def ground_ops(problem: Problem, max_ops: int = MAX_OPS) -> list[Op] | None:
    """Every action that can ever be executed as far as types and unchanging facts tell; None above ``max_ops``."""
    ops: list[Op] = []
    for schema in problem.domain.actions.values():
        for values in _bindings(problem, schema):
            op = problem.world.op((schema.name, *values))
            assert isinstance(op, Op), "a binding fits its schema"
            if NEVER not in op.condition.rest:
                ops.append(op)
            if len(ops) > max_ops:
                return None
    return ops


def _bindings(problem: Problem, schema: Schema) -> Iterator[tuple[str, ...]]:
    """Choices of objects for the parameters that satisfy the unchanging atoms of the precondition."""
    checks: list[list[Atom]] = [[] for _ in range(len(schema.parameters) + 1)]
    for atom in _fixed_atoms(problem, schema.precondition):
        slots = [term for term in atom.terms if isinstance(term, int)]
        checks[max(slots, default=-1) + 1].append(atom)
    options: list[tuple[str, ...]] = [problem.objects_of(types) for types in schema.types]

    def is_possible(atom: Atom, values: Sequence[str]) -> bool:
        filled = (term if isinstance(term, str) else values[term] for term in atom.terms)
        return (atom.predicate, *filled) in problem.facts

    stack: list[tuple[str, ...]] = [()] if all(is_possible(atom, ()) for atom in checks[0]) else []
    while stack:
        values = stack.pop()
        if len(values) == len(options):
            yield values
            continue
        for choice in reversed(options[len(values)]):
            longer = (*values, choice)
            if all(is_possible(atom, longer) for atom in checks[len(longer)]):
                stack.append(longer)


def _fixed_atoms(problem: Problem, formula: Formula) -> list[Atom]:
    """Atoms that the precondition needs and no action changes."""
    if isinstance(formula, And):
        return [atom for part in formula.parts for atom in _fixed_atoms(problem, part)]
    is_fixed = isinstance(formula, Atom) and formula.predicate not in problem.domain.fluent_predicates
    return [formula] if is_fixed and isinstance(formula, Atom) else []
