"""Is this plan right? Execution of a plan against a problem, and the verdict that says what went wrong and where.

No text of a plan makes this raise, hang or recurse; the whole plan is checked against the declarations before its first
action is executed, and after that the earliest failure wins.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gradus.tasks.planning.cache import load_problem
from gradus.tasks.planning.conditions import Fact, Inapplicable
from gradus.tasks.planning.ground import Op
from gradus.tasks.planning.limits import Limits, one_line
from gradus.tasks.planning.pddl import Problem
from gradus.tasks.planning.plan import Action, Plan, parse_plan
from gradus.tasks.planning.trajectory import VIOLATED, is_satisfied_at_end
from gradus.tasks.planning.world import MAX_NAMED, BadAction, World

Status = Literal["valid", "precondition", "goal", "constraint", "malformed"]
STATUSES: tuple[Status, ...] = ("valid", "precondition", "goal", "constraint", "malformed")

_CONSTRAINT_CODES = (
    "constraint_always", "constraint_sometime", "constraint_at_end", "constraint_at_most_once",
    "constraint_sometime_before", "constraint_sometime_after", "constraint_within", "constraint_always_within",
)  # fmt: skip
_MALFORMED_CODES = (
    "bad_line", "bad_char", "bad_stamp", "unclosed", "nested", "unknown_action", "wrong_arity", "unknown_object",
    "wrong_type", "variable", "plan_too_large", "no_answer", "no_plan_found",
)  # fmt: skip
STATUS_OF_CODE: dict[str, Status] = {
    "ok": "valid",
    "ok_empty": "valid",
    **dict.fromkeys(_MALFORMED_CODES, "malformed"),
    **dict.fromkeys(("not_applicable", "undefined_value", "effect_conflict"), "precondition"),
    **dict.fromkeys(_CONSTRAINT_CODES, "constraint"),
    "goal_unmet": "goal",
    "empty_plan": "goal",
}
"""Every code of a verdict and its status. ``empty_plan``: nothing was done and the goal does not hold."""

_FAULTS = {
    "bad_line": "is not one action in parentheses",
    "bad_char": "has a character that no name may have",
    "bad_stamp": "has a time stamp that does not increase",
    "unclosed": "has no closing parenthesis",
    "nested": "has nested parentheses",
}
_WHOLE_FAULTS = {
    "plan_too_large": "the plan is larger than the limit",
    "no_answer": "the reasoning has no end, so there is no answer",
    "no_plan_found": "the text has no line that is an action",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The judgement of one plan.

    Example:
        Verdict(status="precondition", valid=False, step=2, line=2, code="not_applicable", failed=("(clear b1)",),
                goals_satisfied=0, goals_total=2, goals_initial=0, plan_length=4, executed=1, cost=None, empty=False,
                message="action 2 (stack b2 b1) cannot be executed: (clear b1) does not hold", path_length=None)
    """

    status: Status
    valid: bool
    step: int | None
    """Malformed, precondition: 1-based index of the action. Constraint: index of the state, 0 is the initial one."""
    line: int | None
    """1-based line of the text that ``step`` points at."""
    code: str
    failed: tuple[str, ...]
    """Ground conditions, goals or constraints that do not hold, the first 20."""
    goals_satisfied: int
    """Goal conjuncts true in the last good state: the final one, or the one before the failing action, or the one
    before the state that violates a constraint (none for state 0)."""
    goals_total: int
    goals_initial: int
    """Goal conjuncts true at the start."""
    plan_length: int
    """Actions read."""
    executed: int
    """Actions applied."""
    cost: float | None
    """Metric, else total-cost, else length; None for malformed and precondition."""
    empty: bool
    message: str
    """One line of printable ASCII, at most 300 characters."""
    path_length: int | None
    """With ``progress``: actions up to the last good state that are left when every loop is cut out; else None."""

    def to_json(self) -> dict[str, Any]:
        """The fields as plain data."""
        return {**dataclasses.asdict(self), "failed": list(self.failed)}


def validate(
    problem: Problem,
    plan: str | bytes | Plan,
    strict: bool = True,
    progress: bool = False,
    *,
    limits: Limits | None = None,
) -> Verdict:
    """Judges a plan. Never raises for its text; TypeError where it is no text at all.

    Args:
        strict: read the text as a plan file; else as a model's answer (see `parse_plan`).
        progress: also compute ``path_length``.
        limits: bounds on the plan text.
    """
    if not isinstance(plan, Plan):
        plan = parse_plan(plan, "strict" if strict else "lenient", limits=limits)
    world = problem.world
    ops: list[Op] = []
    for index, action in enumerate(plan.actions):
        op = world.op(action)
        if isinstance(op, BadAction):
            detail = f"action {index + 1} {_text(action)}: {op.detail}"
            return _malformed(world, plan, op.code, index + 1, plan.lines[index], detail)
        ops.append(op)
    if plan.error is not None:
        error = plan.error
        if error.step is None:
            detail = _WHOLE_FAULTS[error.code]
        else:
            detail = f"line {error.line}: {error.text!r} (action {error.step}) {_FAULTS[error.code]}"
        return _malformed(world, plan, error.code, error.step, error.line, detail)
    return _judge(world, plan, ops, progress)


def validate_texts(
    domain_text: str | bytes, problem_text: str | bytes, plan_text: str | bytes, strict: bool = True
) -> Verdict:
    """Judges a plan given as text with its domain and problem, which are cached. Raises PddlError for these two."""
    return validate(load_problem(domain_text, problem_text), plan_text, strict)


def validate_many(pairs: Iterable[tuple[Problem, str | bytes | Plan]], strict: bool = True) -> list[Verdict]:
    """Judges (problem, plan) pairs in order."""
    return [validate(problem, plan, strict) for problem, plan in pairs]


def _text(action: Action) -> str:
    return f"({' '.join(action)})"[:120]


def _malformed(world: World, plan: Plan, code: str, step: int | None, line: int | None, detail: str) -> Verdict:
    initial = world.num_goals_true(world.start, world.numbers)
    return Verdict(
        status="malformed", valid=False, step=step, line=line, code=code, failed=(), goals_satisfied=initial,
        goals_total=len(world.goals), goals_initial=initial, plan_length=len(plan.actions), executed=0, cost=None,
        empty=False, message=one_line(detail), path_length=None,
    )  # fmt: skip


class _Path:
    """The states that a plan passes through, and how few of its steps lead from the first to the last.

    Where a state repeats, what lies between is a loop. Cutting loops one after another would depend on their order (a
    detour inserted on the way may end up as the way), so the length is that of the shortest path over the steps taken:
    no loop, wherever it is inserted, can make it longer.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._key = 0
        for atom in world.start:
            self._key ^= world.key_of(atom)
        self._numbers_of: dict[object, int] = {}
        self._walk: list[int] = []
        self._visit(world.numbers)

    def _visit(self, numbers: dict[Fact, float]) -> None:
        state = (self._key, self._world.relevant_numbers(numbers)) if self._world.relevant_functions else self._key
        self._walk.append(self._numbers_of.setdefault(state, len(self._numbers_of)))

    def append(self, changed: Iterable[int], numbers: dict[Fact, float]) -> None:
        """Goes on to the state in which the truth of ``changed`` atoms differs."""
        for atom in changed:
            self._key ^= self._world.key_of(atom)
        self._visit(numbers)

    @property
    def length(self) -> int:
        """Steps that are left when every loop is cut out."""
        if len(self._numbers_of) == len(self._walk):
            return len(self._walk) - 1
        following: dict[int, list[int]] = {}
        for here, there in itertools.pairwise(self._walk):
            following.setdefault(here, []).append(there)
        first, last = self._walk[0], self._walk[-1]
        distance, waiting = {first: 0}, deque([first])
        while last not in distance:
            here = waiting.popleft()
            for there in following.get(here, ()):
                if there not in distance:
                    distance[there] = distance[here] + 1
                    waiting.append(there)
        return distance[last]


@dataclass(slots=True)
class _Execution:
    """Where the execution of a plan stands, and why it stopped."""

    facts: set[int]
    numbers: dict[Fact, float]
    path: _Path | None
    num_applied: int = 0
    inapplicable: str = ""
    """Code of the failure of the action after the last applied one."""
    detail: str = ""
    violated: tuple[int, ...] = ()
    """Monitors that the last state violates."""


def _execute(world: World, ops: Sequence[Op], *, with_path: bool, with_monitors: bool = True) -> _Execution:
    """Applies actions until one fails, a constraint is lost, or all are done and the constraints settled."""
    facts, numbers = set(world.start), dict(world.numbers)
    run = _Execution(facts, numbers, _Path(world) if with_path else None)
    monitors = world.monitors if with_monitors else []
    memory = [monitor.advance(0, 0, facts, numbers) for monitor in monitors]
    run.violated = tuple(index for index, value in enumerate(memory) if value == VIOLATED)
    if run.violated:
        return run
    path = run.path
    for op in ops:
        condition = op.condition
        if op.is_simple:
            if not (condition.positive <= facts and condition.negative.isdisjoint(facts)):
                run.inapplicable = "not_applicable"
                return run
            if path is not None:
                path.append((*(op.deletes & facts), *(op.adds - facts)), numbers)
            facts -= op.deletes
            facts |= op.adds
        elif not _apply_complex(run, op):
            return run
        run.num_applied += 1
        if monitors:
            for index in world.watched(op):
                memory[index] = monitors[index].advance(run.num_applied, memory[index], facts, numbers)
                if memory[index] == VIOLATED:
                    run.violated += (index,)
            if run.violated:
                return run
    run.violated = tuple(
        index for index, monitor in enumerate(monitors) if not is_satisfied_at_end(monitor.operator, memory[index])
    )
    return run


def _apply_complex(run: _Execution, op: Op) -> bool:
    before = frozenset(run.facts)
    try:
        if not op.condition.holds(run.facts, run.numbers):
            run.inapplicable = "not_applicable"
            return False
        op.apply(run.facts, run.numbers)
    except Inapplicable as error:
        run.inapplicable, run.detail = error.code, str(error)
        return False
    if run.path is not None:
        run.path.append(before ^ run.facts, run.numbers)
    return True


def _judge(world: World, plan: Plan, ops: list[Op], progress: bool) -> Verdict:
    run = _execute(world, ops, with_path=progress)
    initial = world.num_goals_true(world.start, world.numbers)
    length, executed = len(ops), run.num_applied
    step: int | None = None
    line: int | None = None
    cost = None if run.inapplicable else world.cost(run.numbers, executed)
    if run.inapplicable:
        status, code, step = "precondition", run.inapplicable, executed + 1
        line = plan.lines[executed]
        op = ops[executed]
        failed = world.unmet_conditions(op, run.facts, run.numbers) if code == "not_applicable" else ()
        reason = run.detail or f"{_list(failed)} {_do(failed)} not hold"
        message = f"action {step} {_text(op.action)} cannot be executed: {reason}"
        goals = world.num_goals_true(run.facts, run.numbers)
    elif run.violated:
        monitors = [world.monitors[index] for index in run.violated]
        status, code, step = "constraint", monitors[0].constraint.code, executed
        line = plan.lines[executed - 1] if executed else None
        failed = tuple(one_line(monitor.text()) for monitor in monitors[:MAX_NAMED])
        after = f"after action {executed} {_text(ops[executed - 1].action)}" if executed else "in the initial state"
        message = f"constraint violated {after}: {_list(failed)}"
        if executed:
            run = _execute(world, ops[: executed - 1], with_path=progress, with_monitors=False)
            goals = world.num_goals_true(run.facts, run.numbers)
        else:
            goals = 0
    else:
        goals = world.num_goals_true(run.facts, run.numbers)
        failed = () if goals == len(world.goals) else world.unmet_goals(run.facts, run.numbers)
        if not failed:
            status, code = "valid", "ok" if length else "ok_empty"
            message = f"valid: the goal holds after {length} action{'s' * (length != 1)}"
        else:
            status, code = "goal", "goal_unmet" if length else "empty_plan"
            message = (
                f"goal not reached after {length} action{'s' * (length != 1)}: {_list(failed)} {_do(failed)} not hold"
            )
    return Verdict(
        status=status, valid=status == "valid", step=step, line=line, code=code, failed=failed, goals_satisfied=goals,
        goals_total=len(world.goals), goals_initial=initial, plan_length=length, executed=executed, cost=cost,
        empty=length == 0, message=one_line(message), path_length=run.path.length if run.path is not None else None,
    )  # fmt: skip


def _list(texts: Sequence[str]) -> str:
    return ", ".join(texts[:5]) + (f" and {len(texts) - 5} more" if len(texts) > 5 else "")


def _do(texts: Sequence[str]) -> str:
    return "does" if len(texts) == 1 else "do"
