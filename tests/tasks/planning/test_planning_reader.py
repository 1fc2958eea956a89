"""PDDL reading: what is accepted, with which warning; what is refused, with which kind, place and symbol."""

import pickle
import time

import pytest

from gradus.tasks.planning import Domain, PddlError, Problem, load_problem, validate, validate_texts
from gradus.tasks.planning.limits import Limits

DOMAIN = """(define (domain lamps)
  (:requirements :strips :typing)
  (:types lamp room - object desk-lamp - lamp)
  (:constants hall - room)
  (:predicates (lit ?l - lamp) (in ?l - lamp ?r - room) (dark) (= ?l))
  (:action light :parameters (?l - lamp) :precondition (not (lit ?l)) :effect (and (lit ?l) (not (dark)))))
""".replace(" (= ?l)", "")
PROBLEM = """(define (problem two) (:domain lamps)
  (:objects a - lamp b - desk-lamp cellar - room)
  (:init (dark) (in a hall) (in b cellar))
  (:goal (and (lit a) (lit b))))
"""


def domain_error(text: str, **limits: int) -> PddlError:
    with pytest.raises(PddlError) as caught:
        Domain.parse(text, Limits(**limits))
    return caught.value


def problem_error(text: str, domain: str = DOMAIN, **limits: int) -> PddlError:
    with pytest.raises(PddlError) as caught:
        Problem.parse(text, Domain.parse(domain), Limits(**limits))
    return caught.value


def edit(text: str, old: str, new: str) -> str:
    assert text.count(old) >= 1
    return text.replace(old, new, 1)


def test_the_example_is_read_as_written():
    domain = Domain.parse(DOMAIN)
    problem = Problem.parse(PROBLEM, domain)
    assert domain.name == "lamps" and list(domain.actions) == ["light"] and domain.warnings == ()
    assert problem.objects == {"hall": "room", "a": "lamp", "b": "desk-lamp", "cellar": "room"}
    assert problem.objects_of(("lamp",)) == ("a", "b")
    assert problem.facts == {("dark",), ("in", "a", "hall"), ("in", "b", "cellar")}
    assert problem.warnings == () and len(problem.goals) == 2


@pytest.mark.parametrize(
    ("old", "new", "kind", "symbol"),
    [
        ("(not (lit ?l)) :eff", "(holds ?l) :eff", "semantic", "holds"),
        ("(not (lit ?l)) :eff", "(lit ?l ?l) :eff", "semantic", "lit"),
        ("(not (lit ?l)) :eff", "(lit ?x) :eff", "semantic", "?x"),
        ("(not (lit ?l)) :eff", "(lit hall) :eff", "semantic", "hall"),
        ("(not (lit ?l)) :eff", "(lit nobody) :eff", "semantic", "nobody"),
        ("(not (lit ?l)) :eff", "(not (dark) (dark)) :eff", "syntax", "not"),
        ("(?l - lamp) :pre", "(?l ?l - lamp) :pre", "semantic", "?l"),
        ("(?l - lamp) :pre", "(?l - lump) :pre", "semantic", "lump"),
        ("(?l - lamp) :pre", "(?l - ) :pre", "syntax", "-"),
        ("(?l - lamp) :pre", "(l - lamp) :pre", "semantic", "l"),
        (":precondition", ":when", "syntax", ":when"),
        (":precondition (not (lit ?l)) :effect", ":precondition :effect", "syntax", ":precondition"),
        (":effect (and (lit ?l) (not (dark)))", ":effect", "syntax", ":effect"),
        ("(:types", "(:kinds", "syntax", ":kinds"),
        ("(:constants hall - room)", "(:constants hall - room) (:constants)", "syntax", ":constants"),
        ("(:constants hall - room)", "(:constants - room)", "syntax", "-"),
        ("desk-lamp - lamp", "desk-lamp - lamp lamp - desk-lamp", "semantic", "lamp"),
        ("(lit ?l - lamp)", "(lit ?l - lamp) (lit ?l - lamp)", "semantic", "lit"),
        ("(dark)", "(and ?x)", "syntax", "and"),
        ("(:action light", "(:durative-action light", "unsupported", ":durative-action"),
        ("(:action light", "(:derived (dark) (dark)) (:action light", "unsupported", ":derived"),
        ("(:action light", "(:process p) (:action light", "unsupported", ":process"),
        ("(:action light", "(:functions (weight ?l - lamp) - lamp) (:action light", "unsupported", ""),
        ("(:action light", "(:constraints (preference p (always (dark)))) (:action light", "unsupported", "preference"),
        ("(:action light", "(:constraints (hold-during 1 2 (dark))) (:action light", "unsupported", "hold-during"),
        ("(:action light", "(:constraints (hold-after 1 (dark))) (:action light", "unsupported", "hold-after"),
        ("(:action light", "(:constraints (always (sometime (dark)))) (:action light", "unsupported", "sometime"),
        ("(:action light", "(:constraints (dark)) (:action light", "semantic", "dark"),
        ("(:action light", "(:constraints (always)) (:action light", "syntax", "always"),
        ("(:action light", "(:constraints (within -1 (dark))) (:action light", "semantic", "-1"),
        ("(:action light", "(:constraints (within soon (dark))) (:action light", "syntax", "soon"),
        ("(:action light", "(:constraints (not (always (dark)))) (:action light", "unsupported", "not"),
        ("(:requirements", "(:predicates (x)) (:requirements", "syntax", ":predicates"),
    ],
)
def test_a_wrong_domain_is_refused_with_its_symbol(old: str, new: str, kind: str, symbol: str):
    error = domain_error(edit(DOMAIN, old, new))
    assert (error.kind, error.where, error.symbol) == (kind, "domain", symbol), str(error)
    assert error.line >= 1 and error.column >= 1 and len(str(error)) <= 300
    assert str(error).startswith(f"domain:{error.line}:{error.column}: ")


def test_two_actions_of_one_name_are_refused():
    assert domain_error(DOMAIN.rstrip()[:-1] + "(:action LIGHT :parameters () :effect (dark)))").symbol == "light"


@pytest.mark.parametrize(
    ("old", "new", "kind", "symbol"),
    [
        ("(dark) (in", "(at 5 (dark)) (in", "unsupported", "at"),
        ("(dark) (in", "(and (dark)) (in", "semantic", "and"),
        ("(dark) (in", "(holds a) (in", "semantic", "holds"),
        ("(dark) (in", "(in a) (in", "semantic", "in"),
        ("(dark) (in", "(in a b) (in", "semantic", "b"),
        ("(dark) (in", "(in ?x hall) (in", "semantic", "?x"),
        ("(dark) (in", "(in z hall) (in", "semantic", "z"),
        ("(dark) (in", "(not (lit z)) (in", "semantic", "z"),
        ("(dark) (in", "(= (cost) 1) (in", "semantic", "cost"),
        ("(dark) (in", "dark (in", "syntax", "dark"),
        ("(and (lit a) (lit b))", "(lit cellar)", "semantic", "cellar"),
        ("(and (lit a) (lit b))", "(lit z)", "semantic", "z"),
        ("(and (lit a) (lit b))", "(preference p (lit a))", "unsupported", "preference"),
        ("(and (lit a) (lit b))", "(lit a) (lit b)", "syntax", ":goal"),
        ("(:goal (and (lit a) (lit b)))", "", "semantic", ":goal"),
        ("(:init (dark) (in a hall) (in b cellar))", "", "semantic", ":init"),
        ("(:domain lamps)", "(:domain lights)", "semantic", "lights"),
        ("a - lamp b", "a - lamp a - room b", "semantic", "a"),
        ("a - lamp b", "a - (either lamp room) b", "unsupported", "either"),
        ("a - lamp b", "a - lump b", "semantic", "lump"),
        ("a - lamp b", "?a - lamp b", "semantic", "?a"),
        ("a - lamp b", "hall - lamp a - lamp b", "semantic", "hall"),
        ("(:goal (", "(:metric minimize (is-violated p)) (:goal (", "unsupported", "is-violated"),
        ("(:goal (", "(:wish) (:goal (", "syntax", ":wish"),
    ],
)
def test_a_wrong_problem_is_refused_with_its_symbol(old: str, new: str, kind: str, symbol: str):
    error = problem_error(edit(PROBLEM, old, new))
    assert (error.kind, error.where, error.symbol) == (kind, "problem", symbol), str(error)


def test_places_are_one_based_lines_and_columns():
    error = domain_error(edit(DOMAIN, "(not (lit ?l)) :eff", "(holds ?l) :eff"))
    assert (error.line, error.column) == (6, 56)
    assert str(error) == "domain:6:56: undefined predicate 'holds' in the precondition of 'light'"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "syntax"),
        ("; only a comment\n", "syntax"),
        ("Here is my domain.", "syntax"),
        ("(domain lamps)", "syntax"),
        (DOMAIN.rstrip()[:-1], "syntax"),
        (DOMAIN + "(define (domain again))", "syntax"),
        (DOMAIN + "thanks", "syntax"),
        (DOMAIN.replace("hall", "h\0ll"), "syntax"),
        ("; a \0 comment\n" + DOMAIN, "syntax"),
        (DOMAIN.replace("hall", "h\x01ll"), "syntax"),
        (DOMAIN.replace("hall", "hàll"), "syntax"),
        (DOMAIN.replace("hall", "\u212a"), "syntax"),
        (PROBLEM, "semantic"),
    ],
)
def test_what_is_no_domain_is_refused(text: str, kind: str):
    assert domain_error(text).kind == kind


def test_swapped_files_are_named():
    assert "swapped" in str(domain_error(PROBLEM))
    assert "swapped" in str(problem_error(DOMAIN))


@pytest.mark.parametrize(
    "before", ["", "(define (domain d) (:action a :precondition ", "(define (domain d) (:types a - "]
)
def test_deep_nesting_is_refused_at_once(before: str):
    began = time.perf_counter()
    assert domain_error(before + "(" * 1_000_000).kind == "limit"
    assert problem_error(edit(PROBLEM, "(lit a)", "(and " * 100_000)).kind == "limit"
    assert time.perf_counter() - began < 1


def test_depth_at_the_limit_is_read_and_evaluated():
    depth = 100 - 4
    goal = "(not " * depth + "(lit a)" + ")" * depth
    problem = Problem.parse(edit(PROBLEM, "(and (lit a) (lit b))", goal), Domain.parse(DOMAIN))
    assert validate(problem, "(light a)").valid
    assert problem_error(edit(PROBLEM, "(and (lit a) (lit b))", f"(not (not {goal}))")).kind == "limit"


@pytest.mark.parametrize(
    "limits", [{"text_bytes": 100}, {"tokens": 20}, {"symbol_chars": 4}, {"parameters": 1}, {"declarations": 3}]
)
def test_every_domain_limit_holds(limits: dict[str, int]):
    assert domain_error(DOMAIN, **limits).kind == "limit"


def test_problem_limits_hold():
    assert problem_error(PROBLEM, objects=3).kind == "limit"
    goal = edit(PROBLEM, "(and (lit a) (lit b))", "(forall (?x ?y ?z - lamp) (lit ?x))")
    assert problem_error(goal, quantified_instances=7).kind == "limit"
    Problem.parse(goal, Domain.parse(DOMAIN), Limits(quantified_instances=8))
    always = edit(PROBLEM, "(:goal", "(:constraints (forall (?x ?y - lamp) (always (lit ?x)))) (:goal")
    assert problem_error(always, constraint_instances=3).kind == "limit"
    in_action = edit(DOMAIN, "(not (lit ?l)) :eff", "(forall (?x ?y ?z - lamp) (lit ?x)) :eff")
    error = problem_error(PROBLEM, in_action, quantified_instances=7)
    assert (error.kind, error.where) == ("limit", "domain")


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (DOMAIN + ")", "extra ')'"),
        (DOMAIN + " ) \n ) ; bye", "extra ')'"),
        (DOMAIN.replace("(:requirements :strips :typing)", ""), "no :requirements"),
        (edit(DOMAIN, ":parameters (?l - lamp) :precondition (not (lit ?l)) :effect (and (lit ?l) (not (dark)))",
              ":parameters () :effect ()"), "has no effect"),
        (edit(DOMAIN, ":parameters (?l - lamp) :precondition (not (lit ?l)) :effect (and (lit ?l) (not (dark)))",
              ":effect (dark)"), "has no :parameters"),
        (edit(DOMAIN, "hall - room", "hall hall - room"), "declared twice"),
        (edit(DOMAIN, "(:types ", "(:types object - lamp "), "stays the root"),
    ],
)  # fmt: skip
def test_oddities_are_accepted_with_a_warning(text: str, warning: str):
    (found,) = Domain.parse(text).warnings
    assert warning in found and found.startswith("domain:")


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + DOMAIN,
        DOMAIN.replace("\n", "\r\n").replace("  ", "\t"),
        DOMAIN.upper(),
        edit(DOMAIN, "(:types", "; caf\u00e9 \x07 \u2028\n(:types"),
        edit(DOMAIN, "(:types lamp room - object", "(:types room lamp object - object"),
        edit(DOMAIN, "(:types lamp room - object desk-lamp - lamp)", "(:types desk-lamp - lamp room)"),
        edit(DOMAIN, "desk-lamp - lamp", "desk-lamp - (either lamp room)"),
        edit(DOMAIN, "(not (lit ?l)) :eff", "(and (not (lit ?l)) () (and)) :eff"),
        edit(DOMAIN, ":strips", ":strips :preferences :durative-actions :no-such-thing"),
    ],
)
def test_these_forms_mean_the_same(text: str):
    problem = Problem.parse(PROBLEM, Domain.parse(text))
    assert validate(problem, "(light a)\n(LIGHT b)").valid


def test_bytes_are_utf8_with_bad_ones_replaced():
    latin = edit(DOMAIN, "(:types", "; caf\u00e9\n(:types").encode("latin-1")
    assert Domain.parse(latin).name == "lamps"
    with pytest.raises(PddlError):
        Domain.parse(DOMAIN.replace("hall", "h\u00e0ll").encode("latin-1"))
    with pytest.raises(TypeError):
        Domain.parse(None)  # type: ignore[arg-type]


def test_one_name_may_be_action_predicate_and_object():
    domain = edit(DOMAIN, "(dark)", "(dark) (light ?l - lamp)")
    problem = edit(edit(PROBLEM, "a - lamp", "a light - lamp"), "(lit b)", "(not (light light))")
    assert validate_texts(domain, problem, "(light a)").valid


def test_a_problem_of_another_domain_may_be_asked_for():
    text = edit(PROBLEM, "(:domain lamps)", "(:domain lights)")
    problem = Problem.parse(text, Domain.parse(DOMAIN), check_domain_name=False)
    assert "lights" in problem.warnings[0]


def test_total_cost_needs_no_declaration():
    problem = Problem.parse(edit(PROBLEM, "(dark) (in", "(= (total-cost) 0) (dark) (in"), Domain.parse(DOMAIN))
    assert "total-cost" in problem.warnings[0]
    assert validate(problem, "(light a)\n(light b)").cost == 0


def test_body_arguments_need_only_a_common_subtype():
    wider = edit(DOMAIN, "(?l - lamp) :pre", "(?l - object) :pre")
    assert Domain.parse(wider).name == "lamps"
    assert domain_error(edit(DOMAIN, "(?l - lamp) :pre", "(?l - room) :pre")).symbol == "?l"


def test_errors_and_problems_can_be_pickled():
    error = domain_error("")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.kind, again.line) == (str(error), error.kind, error.line)
    problem = load_problem(DOMAIN, PROBLEM)
    assert validate(problem, "(light a)\n(light b)").valid
    assert validate(pickle.loads(pickle.dumps(problem)), "(light a)\n(light b)").valid


def test_results_are_cached_by_content_and_so_are_failures():
    assert load_problem(DOMAIN, PROBLEM) is load_problem("".join(DOMAIN), "".join(PROBLEM))
    errors = []
    for _ in range(2):
        with pytest.raises(PddlError) as caught:
            load_problem("(define", PROBLEM)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


def test_ten_thousand_types_in_a_chain_are_read_quickly():
    chain = " ".join(f"t{i} - t{i + 1}" for i in range(9_000))
    began = time.perf_counter()
    domain = Domain.parse(edit(DOMAIN, "desk-lamp - lamp", f"desk-lamp - lamp {chain}"))
    assert domain.types.fits("t0", ("t9000",)) and not domain.types.fits("t9000", ("t0",))
    assert time.perf_counter() - began < 2
