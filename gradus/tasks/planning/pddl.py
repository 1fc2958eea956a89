"""Domain and Problem: PDDL text to checked, frozen definitions. What is accepted with a warning, what is refused.

Names are folded to lower case (ASCII only). Everything a definition refers to has been declared when this module is
done; the checker that executes plans (`ground`, `validate`) relies on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from gradus.tasks.planning.conditions import Fact
from gradus.tasks.planning.declarations import Action, read_action, read_functions, read_objects, read_predicates
from gradus.tasks.planning.forms import Form, Source, read_form
from gradus.tasks.planning.formula import (
    TOTAL_COST,
    Expression,
    Formula,
    SetFact,
    conjuncts,
    elementary,
)
from gradus.tasks.planning.hierarchy import Hierarchy, TypeSet
from gradus.tasks.planning.instances import check_instances
from gradus.tasks.planning.limits import Limits, Where
from gradus.tasks.planning.scope import Scope, read_expression, read_formula, read_number
from gradus.tasks.planning.trajectory import Constraint, read_constraints
from gradus.tasks.planning.world import State, World

UNSUPPORTED_SECTIONS = {
    ":durative-action": "durative action",
    ":derived": "derived predicate",
    ":axiom": "derived predicate",
    ":process": "process",
    ":event": "event",
}
DOMAIN_SECTIONS = (":requirements", ":types", ":constants", ":predicates", ":functions", ":constraints", ":action")
PROBLEM_SECTIONS = (":domain", ":requirements", ":objects", ":init", ":goal", ":constraints", ":metric")


@dataclass(frozen=True, slots=True)
class Metric:
    """What a plan costs."""

    is_minimized: bool
    expression: Expression


@dataclass(frozen=True, eq=False)
class Domain:
    """A planning domain.

    Example:
        domain = Domain.parse(text)
        domain.actions["pickup"].parameters  # ("?x",)
    """

    name: str
    types: Hierarchy
    constants: Mapping[str, str]
    """Name to type."""
    predicates: Mapping[str, tuple[TypeSet, ...]]
    functions: Mapping[str, tuple[TypeSet, ...]]
    actions: Mapping[str, Action]
    constraints: tuple[Constraint, ...]
    fluent_predicates: frozenset[str]
    """Predicates that some action changes; the others keep their initial truth."""
    warnings: tuple[str, ...]
    text: str = field(repr=False)

    @classmethod
    def parse(cls, text: str | bytes, limits: Limits | None = None) -> Domain:
        """Reads a domain. Raises PddlError."""
        return _read_domain(text, limits or Limits())


@dataclass(frozen=True, eq=False)
class Problem:
    """A planning problem of a domain.

    Example:
        problem = Problem.parse(text, Domain.parse(domain_text))
        problem.goals[0]  # Atom("on", ("b1", "b2"))
    """

    name: str
    domain: Domain
    objects: Mapping[str, str]
    """Name to type, constants included."""
    facts: frozenset[Fact]
    """Atoms that are true at the start."""
    numbers: Mapping[Fact, float]
    """Values of fluents at the start."""
    goals: tuple[Formula, ...]
    """Conjuncts of the goal; a quantified goal is one."""
    constraints: tuple[Constraint, ...]
    """Of the domain and of the problem."""
    metric: Metric | None
    functions: Mapping[str, tuple[TypeSet, ...]]
    warnings: tuple[str, ...]
    text: str = field(repr=False)

    @classmethod
    def parse(
        cls, text: str | bytes, domain: Domain, limits: Limits | None = None, *, check_domain_name: bool = True
    ) -> Problem:
        """Reads a problem of ``domain``. Raises PddlError."""
        return _read_problem(text, domain, limits or Limits(), check_domain_name)

    def objects_of(self, types: TypeSet) -> tuple[str, ...]:
        """Objects that may stand where ``types`` is asked for, in the order of declaration."""
        return tuple(name for name, kind in self.objects.items() if self.domain.types.fits(kind, types))

    @cached_property
    def world(self) -> World:
        """The ground form that plans are executed with; made when first asked for, never pickled."""
        return World(self)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "world"}

    @property
    def initial(self) -> State:
        """The state before the first action."""
        return State(self.facts, self.numbers)

    def apply(self, state: State, action: str | Sequence[str]) -> State:
        """The state after ``action``, as ``"(pickup b1)"`` or its names. ValueError where it cannot be executed."""
        return self.world.apply(state, action)

    def state_satisfies(self, state: State, formula: Formula) -> bool:
        """Whether a closed formula, such as one of ``goals``, is true in ``state``."""
        return self.world.satisfies(state, formula)


def _sections(source: Source, root: Form, known: Sequence[str], repeatable: str) -> dict[str, list[Form]]:
    """Sections of a definition by keyword; unknown, unsupported and repeated ones are errors."""
    found: dict[str, list[Form]] = {keyword: [] for keyword in known}
    for form in source.forms(root, 2, "of a section"):
        keyword = form.head
        if keyword in UNSUPPORTED_SECTIONS:
            raise source.error("unsupported", form.start, UNSUPPORTED_SECTIONS[keyword], keyword)
        if keyword not in found:
            raise source.error("syntax", form.start, f"unknown section {keyword or '(..)'!r}", keyword)
        if found[keyword] and keyword != repeatable:
            raise source.error("syntax", form.start, f"section {keyword!r} is given twice", keyword)
        found[keyword].append(form)
    return found


def _name(source: Source, root: Form, where: Where) -> str:
    if len(root.items) < 2 or not isinstance(root.items[1], Form):
        raise source.error("syntax", root.start, f"expected '(define ({where} NAME) ..)'")
    header = root.items[1]
    other = "problem" if where == "domain" else "domain"
    if header.head == other:
        raise source.error("semantic", header.start, f"this is a {other} file; are the two files swapped?", other)
    if header.head != where or len(header.items) != 2 or not isinstance(header.items[1], str):
        raise source.error("syntax", header.start, f"expected '({where} NAME)'", header.head)
    return header.items[1]


def _first(forms: list[Form]) -> Form | None:
    return forms[0] if forms else None


def _read_domain(text: str | bytes, limits: Limits) -> Domain:
    source, root = read_form(text, "domain", limits)
    name = _name(source, root, "domain")
    found = _sections(source, root, DOMAIN_SECTIONS, repeatable=":action")
    if not found[":requirements"]:
        source.warn(root.start, "no :requirements")
    types = Hierarchy.read(source, _first(found[":types"]))
    constants = read_objects(source, _first(found[":constants"]), types, {}, limits)
    predicates = read_predicates(source, _first(found[":predicates"]), types, limits)
    functions = read_functions(source, _first(found[":functions"]), types, limits)
    if len(types) + len(predicates) + len(functions) + len(found[":action"]) > limits.declarations:
        raise source.error("limit", root.start, f"more than {limits.declarations} declarations")
    scope = Scope(source, types, predicates, functions, constants, context="the domain", needs_exact_types=False)
    actions: dict[str, Action] = {}
    for form in found[":action"]:
        action = read_action(scope, form)
        if action.name in actions:
            raise source.error("semantic", form.start, f"action {action.name!r} is defined twice", action.name)
        actions[action.name] = action
    scope.context = "the :constraints"
    constraints = read_constraints(scope, _first(found[":constraints"]))
    changed = frozenset(
        f.atom.predicate for a in actions.values() for f in elementary(a.effects) if isinstance(f, SetFact)
    )
    return Domain(
        name,
        types,
        constants,
        predicates,
        functions,
        actions,
        constraints,
        changed,
        tuple(source.warnings),
        source.text,
    )


def _read_problem(text: str | bytes, domain: Domain, limits: Limits, check_domain_name: bool) -> Problem:
    source, root = read_form(text, "problem", limits)
    name = _name(source, root, "problem")
    found = _sections(source, root, PROBLEM_SECTIONS, repeatable="")
    _check_domain(source, root, _first(found[":domain"]), domain, check_domain_name)
    for keyword in (":init", ":goal"):
        if not found[keyword]:
            raise source.error("semantic", root.start, f"no {keyword}", keyword)
    objects = read_objects(source, _first(found[":objects"]), domain.types, domain.constants, limits)
    functions = dict(domain.functions)
    scope = Scope(
        source, domain.types, domain.predicates, functions, objects, context="the :init", needs_exact_types=True
    )
    facts, numbers = _read_init(scope, found[":init"][0])
    scope.context = "the :goal"
    goal = read_formula(scope, *_only_value(source, found[":goal"][0]))
    scope.context = "the :constraints"
    constraints = (*domain.constraints, *read_constraints(scope, _first(found[":constraints"])))
    metric = _read_metric(scope, _first(found[":metric"]))
    if TOTAL_COST in functions and not functions[TOTAL_COST]:
        numbers.setdefault((TOTAL_COST,), 0.0)
    problem = Problem(
        name, domain, objects, frozenset(facts), numbers, tuple(conjuncts(goal)), constraints, metric, functions,
        tuple(source.warnings), source.text,
    )  # fmt: skip
    check_instances(problem, goal, limits)
    return problem


def _check_domain(source: Source, root: Form, form: Form | None, domain: Domain, is_error: bool) -> None:
    if form is None:
        source.warn(root.start, "no :domain")
        return
    value, start = _only_value(source, form)
    if value == domain.name:
        return
    detail = f"problem of domain {value!r}, but the domain is {domain.name!r}"
    if is_error:
        raise source.error("semantic", start, detail, str(value))
    source.warn(start, detail)


def _only_value(source: Source, form: Form) -> tuple[str | Form, int]:
    if len(form.items) != 2:
        raise source.error("syntax", form.start, f"{form.head!r} takes one value, not {len(form.items) - 1}", form.head)
    return form.items[1], form.starts[1]


def _read_init(scope: Scope, form: Form) -> tuple[set[Fact], dict[Fact, float]]:
    facts: set[Fact] = set()
    numbers: dict[Fact, float] = {}
    for item in scope.source.forms(form, 1, "of a fact in the :init"):
        if item.head == "=":
            key, value = _read_value(scope, item)
            if numbers.setdefault(key, value) != value:
                raise scope.error("semantic", item.start, f"two values of ({' '.join(key)})", key[0])
        elif item.head == "at" and len(item.items) == 3 and isinstance(item.items[2], Form):
            raise scope.error("unsupported", item.start, "timed initial literal", "at")
        elif item.head in ("and", "or", "forall", "exists", "when"):
            raise scope.error("semantic", item.start, f"{item.head!r}", item.head)
        elif item.head == "not":
            if len(item.items) != 2 or not isinstance(item.items[1], Form):
                raise scope.error("syntax", item.start, "'not' takes one atom", "not")
            _ground_atom(scope, item.items[1])
        else:
            facts.add(_ground_atom(scope, item))
    return facts, numbers


def _ground_atom(scope: Scope, form: Form) -> Fact:
    atom = scope.atom(form)
    return (atom.predicate, *map(str, atom.terms))


def _read_value(scope: Scope, form: Form) -> tuple[Fact, float]:
    if len(form.items) != 3 or isinstance(form.items[2], Form):
        raise scope.error("syntax", form.start, "expected '(= (function ..) NUMBER)'", "=")
    target = form.items[1]
    if not isinstance(target, Form):
        raise scope.error("unsupported", form.start, "object fluent or equality of objects", target)
    fluent = scope.fluent(target)
    return (fluent.function, *map(str, fluent.terms)), read_number(scope, form.items[2], form.starts[2])


def _read_metric(scope: Scope, form: Form | None) -> Metric | None:
    if form is None:
        return None
    scope.context = "the :metric"
    if len(form.items) != 3 or form.items[1] not in ("minimize", "maximize"):
        raise scope.error("syntax", form.start, "expected '(:metric minimize|maximize EXPRESSION)'", ":metric")
    return Metric(form.items[1] == "minimize", read_expression(scope, form.items[2], form.starts[2], is_metric=True))
