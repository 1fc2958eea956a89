"""How many ground instances the quantifiers of a problem have: refused at reading time, not met while training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradus.tasks.planning.formula import And, Effect, ForEach, Formula, Not, Or, Quantified, Variables, When
from gradus.tasks.planning.hierarchy import TypeSet
from gradus.tasks.planning.limits import Limits, PddlError, Where

if TYPE_CHECKING:
    from gradus.tasks.planning.pddl import Problem


def check_instances(problem: Problem, goal: Formula, limits: Limits) -> None:
    """Refuses quantifiers whose ground instances would exceed the limit with this problem's objects."""
    sizes: dict[TypeSet, int] = {}

    def num_values(variables: Variables) -> int:
        product = 1
        for types in variables.types:
            if types not in sizes:
                sizes[types] = len(problem.objects_of(types))
            product *= sizes[types]
        return product

    def num_instances(node: Formula | Effect, where: Where) -> int:
        match node:
            case Not(body):
                return num_instances(body, where)
            case And(parts) | Or(parts):
                return sum(num_instances(part, where) for part in parts) or 1
            case Quantified(_, variables, body):
                return limited(variables, num_instances(body, where), where)
            case When(condition, effects):
                return num_instances(condition, where) + sum(num_instances(e, where) for e in effects)
            case ForEach(variables, effects):
                return limited(variables, sum(num_instances(e, where) for e in effects) or 1, where)
            case _:
                return 1

    def limited(variables: Variables, per_value: int, where: Where) -> int:
        count = num_values(variables) * per_value
        if count > limits.quantified_instances:
            detail = f"quantifier has {count} instances, more than {limits.quantified_instances}"
            raise PddlError("limit", where, *variables.place, detail)
        return count

    for action in problem.domain.actions.values():
        num_instances(action.precondition, "domain")
        for effect in action.effects:
            num_instances(effect, "domain")
    num_instances(goal, "problem")
    total = 0
    for constraint in problem.constraints:
        where = constraint.where
        count = limited(constraint.variables, 1, where)
        for formula in constraint.formulas:
            num_instances(formula, where)
        total += count
        if total > limits.constraint_instances:
            detail = f"more than {limits.constraint_instances} ground constraints"
            raise PddlError("limit", where, *constraint.variables.place, detail)
