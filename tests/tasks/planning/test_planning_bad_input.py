"""What bad input gets, one row after the other: PDDL, plans, rows of data, batches, states. Nothing raises but what is
meant to, and nothing takes long."""

from __future__ import annotations

import time

import pytest

from gradus.data.curriculum import CurriculumSampler, Item
from gradus.difficulty import score_of, unreadable_score
from gradus.tasks.base import load_task
from gradus.tasks.planning import Domain, PddlError, Problem, Verdict, load_problem, validate
from gradus.tasks.planning.domains import FAMILIES
from gradus.tasks.planning.limits import Limits
from gradus.tasks.planning.measure import measure
from gradus.tasks.planning.reward import PlanningReward

FERRY = FAMILIES["ferry"].text
HOME = """(define (problem home) (:domain ferry) (:objects l0 l1 c0)
  (:init (location l0) (location l1) (car c0) (not-eq l0 l1) (not-eq l1 l0) (empty-ferry) (at c0 l0) (at-ferry l0))
  (:goal (and (at c0 l1))))"""
PLAN = "(board c0 l0)\n(sail l0 l1)\n(debark c0 l1)"
DEEP = "(" * 100_000


def edit(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


def read(domain: str | bytes = FERRY, problem: str | bytes = HOME) -> Problem:
    return Problem.parse(problem, Domain.parse(domain))


def judge(plan: str | bytes, *, lenient: bool = False, problem: str = HOME) -> Verdict:
    return validate(load_problem(FERRY, problem), plan, strict=not lenient)


# --- domain and problem --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "", "; a comment\n; another", "Move the car to l1.", "(domain ferry)", FERRY.rstrip()[:-1],
        edit(FERRY, "ferry", "fer\0ry"), b"\x7fELF\x02\x01\x01\0\0", "swapped",
    ],
    ids=["empty", "comments", "prose", "no define", "missing )", "NUL", "binary", "swapped"],
)  # fmt: skip
@pytest.mark.parametrize("which", ["domain", "problem"])
def test_what_is_no_pddl_is_an_error_with_its_place(which, text):
    if text == "swapped":
        text = HOME if which == "domain" else FERRY
    began = time.perf_counter()
    with pytest.raises(PddlError) as caught:
        read(**{which: text})
    error = caught.value
    assert error.where == which and error.kind in ("syntax", "semantic") and error.line >= 1 and error.column >= 1
    assert str(error).startswith(f"{which}:{error.line}:{error.column}: ") and time.perf_counter() - began < 1


@pytest.mark.parametrize(
    ("change", "num_warnings"),
    [
        (lambda text: text + ")", 1),
        (lambda text: "\ufeff" + text, 0),
        (lambda text: text.replace("\n", "\r\n"), 0),
        (lambda text: b"; caf\xe9\n" + text.encode(), 0),
    ],
    ids=["extra )", "BOM", "CRLF", "Latin-1 in a comment"],
)
def test_what_files_have_by_accident_is_accepted(change, num_warnings):
    plain, problem = read(), read(change(FERRY), change(HOME))
    assert len(problem.domain.warnings) - len(plain.domain.warnings) == num_warnings
    assert len(problem.warnings) - len(plain.warnings) == num_warnings
    assert validate(problem, PLAN).valid


@pytest.mark.parametrize(
    ("domain", "problem"),
    [(DEEP, HOME), (FERRY, DEEP), (FERRY, edit(HOME, "(at c0 l1)", DEEP))],
    ids=["domain", "problem", "goal"],
)
def test_a_hundred_thousand_parentheses_meet_a_limit(domain, problem):
    began = time.perf_counter()
    with pytest.raises(PddlError) as caught:
        read(domain, problem)
    assert caught.value.kind == "limit" and time.perf_counter() - began < 1


ACTION = "(:action sail"


@pytest.mark.parametrize(
    ("new", "symbol"),
    [
        ("(:action x :parameters (?c) :precondition (parked ?c) :effect (car ?c))", "parked"),
        ("(:action x :parameters (?c) :precondition (car ?c ?c) :effect (car ?c))", "car"),
        ("(:action x :parameters (?c) :precondition (car ?d) :effect (car ?c))", "?d"),
        ("(:action x :parameters (?c ?c) :precondition (car ?c) :effect (car ?c))", "?c"),
        ("(:action board :parameters () :effect (empty-ferry))", "board"),
        ("(:action x :parameters (?c - vessel) :effect (car ?c))", "vessel"),
        ("(:types a - b b - a)", "a"),
        ("(:types a -)", "-"),
        ("(:actions)", ":actions"),
        ("(:action x :parameters (?c) :precondition :effect (car ?c))", ":precondition"),
    ],
    ids=["undefined predicate", "wrong arity", "free variable", "repeated parameter", "double action", "unknown type",
         "type cycle", "dangling -", "unknown section", "keyword without value"],
)  # fmt: skip
def test_a_wrong_domain_is_an_error_with_the_symbol(new, symbol):
    with pytest.raises(PddlError) as caught:
        read(edit(FERRY, ACTION, f"{new} {ACTION}"))
    assert caught.value.symbol == symbol and symbol in str(caught.value)


@pytest.mark.parametrize(
    ("domain", "problem"),
    [
        ("(:durative-action x)", ""),
        ("(:derived (car ?c) (location ?c))", ""),
        ("", "(:constraints (preference p (always (empty-ferry))))"),
        ("", "(:constraints (hold-during 1 2 (empty-ferry)))"),
        ("", "(:constraints (hold-after 1 (empty-ferry)))"),
    ],
    ids=["durative action", "derived predicate", "preference", "hold-during", "hold-after"],
)
def test_what_is_not_supported_is_named(domain, problem):
    with pytest.raises(PddlError) as caught:
        read(edit(FERRY, ACTION, f"{domain} {ACTION}"), edit(HOME, "(:goal", f"{problem} (:goal"))
    assert caught.value.kind == "unsupported" and caught.value.symbol.lstrip(":") in domain + problem


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(:goal (and (at c0 l1)))", ""), (HOME[HOME.index("(:init") : HOME.index("(:goal")], ""),
        ("(at-ferry l0)", "(at-ferry l9)"), ("(at c0 l1)", "(at c0 l9)"), ("(at-ferry l0)", "(at-ferry ?l)"),
        ("(at-ferry l0)", "(and (at-ferry l0))"), ("(:domain ferry)", "(:domain boat)"),
    ],
    ids=["no goal", "no init", "undeclared in init", "undeclared in goal", "variable", "and in init", "other domain"],
)  # fmt: skip
def test_a_problem_that_does_not_fit_its_domain_is_refused(old, new):
    with pytest.raises(PddlError) as caught:
        read(problem=edit(HOME, old, new))
    assert (caught.value.kind, caught.value.where) == ("semantic", "problem")


def test_an_object_of_the_wrong_type_is_refused():
    spanner = FAMILIES["spanner"].text
    text = """(define (problem p) (:domain spanner) (:objects bob - man shed - location) (:init (at bob shed))
      (:goal (tightened bob)))"""
    with pytest.raises(PddlError, match="bob"):
        read(spanner, text)
    with pytest.raises(PddlError, match="shed"):
        read(spanner, text.replace("(at bob shed)", "(at shed bob)").replace("tightened bob", "at bob shed"))


@pytest.mark.parametrize(
    ("domain", "problem"),
    [
        ("", edit(HOME, "(empty-ferry)", "(empty-ferry) (= (total-cost) 0)")),
        ("", edit(HOME, "l0 l1 c0", "l0 l1 c0 l1")),
        ("(:action rest :parameters () :precondition (empty-ferry))", HOME),
        ("(:action call :parameters () :effect (empty-ferry))", HOME),
    ],
    ids=["total-cost without function", "object twice", "no effect", "no precondition"],
)
def test_harmless_oddities_are_accepted(domain, problem):
    found = read(edit(FERRY, ACTION, f"{domain} {ACTION}"), problem)
    assert validate(found, PLAN).valid
    if "call" not in domain:
        assert len(found.warnings) + len(found.domain.warnings) > len(read().warnings) + len(read().domain.warnings)


# --- plans ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", " \n\t\r\n", "; nothing to do\n;", ";" * 5_000_000], ids=[*"abc", "5 MB of ;"])
@pytest.mark.parametrize("lenient", [False, True])
def test_the_empty_plan_is_judged_by_the_goal(text, lenient):
    solved, watched = (
        edit(HOME, "(at c0 l1)", "(at c0 l0)"),
        edit(HOME, "(:goal", "(:constraints (sometime (at c0 l1))) (:goal"),
    )
    assert judge(text, lenient=lenient).status == "goal"
    assert judge(text, lenient=lenient, problem=solved).code == "ok_empty"
    assert judge(text, lenient=lenient, problem=watched).status == "constraint"


@pytest.mark.parametrize(
    "bad", ["(fly c0)", "(board c0)", "(board c7 l0)", "(board ?c l0)", "(no-plan)"],
    ids=["unknown action", "argument count", "unknown object", "variable", "no-plan"],
)  # fmt: skip
def test_what_the_domain_does_not_have_is_malformed_at_the_first_such_step(bad):
    verdict = judge(f"{PLAN}\n{bad}\n{bad}")
    assert (verdict.status, verdict.step) == ("malformed", 4)


def test_a_wrong_type_is_malformed():
    text = """(define (problem p) (:domain gripper-strips)
      (:objects r - robot g - gripper a - room b - ball)
      (:init (at-robby r a) (free r g) (at b a)) (:goal (carry r b g)))"""
    verdict = validate(load_problem(FAMILIES["grippers"].text, text), "(pick r a b g)")
    assert (verdict.status, verdict.code, verdict.step) == ("malformed", "wrong_type", 1)


@pytest.mark.parametrize("bad", ["(board c0 l0", "((board c0 l0))", "()", DEEP])
@pytest.mark.parametrize("lenient", [False, True])
def test_broken_parentheses_are_malformed(bad, lenient):
    assert judge(f"{bad}", lenient=lenient).status == "malformed"
    assert judge(f"{PLAN}\n{bad}", lenient=lenient).status == "malformed"


def test_one_line_holds_one_action_and_no_prose_in_strict_mode_only():
    for text in (PLAN.replace("\n", " "), f"Here is the plan:\n{PLAN}"):
        assert judge(text).status == "malformed" and judge(text, lenient=True).valid


@pytest.mark.parametrize(
    "bad", ["(board c0\0 l0)", b"(board c0 l\xff0)", "(board \u04410 l0)"], ids=["NUL", "UTF-8", "look-alike"]
)
@pytest.mark.parametrize("lenient", [False, True])
def test_letters_that_no_name_has_are_malformed(bad, lenient):
    assert judge(bad, lenient=lenient).code == "bad_char"


def test_facts_echoed_behind_the_plan_are_part_of_it():
    assert judge(f"{PLAN}\n(at c0 l1)", lenient=True).status == "malformed"


@pytest.mark.parametrize("between", ["\nOr better:\n", "\n```\n```\n", "</plan><plan>"])
def test_of_two_plans_the_last_counts(between):
    wrong = "(sail l0 l1)"
    assert judge(wrong + between + PLAN, lenient=True).valid and judge(wrong + between + PLAN).status == "malformed"
    assert judge(PLAN + between + wrong, lenient=True).status == "goal"


@pytest.mark.parametrize("text", [f"<think>{PLAN}", "<think>" * 200_000])
def test_reasoning_without_end_is_no_answer(text):
    assert judge(text, lenient=True).code == "no_answer" and judge(text).status == "malformed"


def test_a_plan_in_the_reasoning_only_is_the_empty_plan():
    verdict = judge(f"<think>{PLAN}</think>\n", lenient=True)
    assert verdict.empty and verdict.status == "goal"


def test_a_plan_beyond_the_limits_is_malformed():
    verdict = validate(load_problem(FERRY, HOME), PLAN, limits=Limits(plan_actions=2))
    assert (verdict.status, verdict.code, verdict.step) == ("malformed", "plan_too_large", None)


@pytest.mark.parametrize("text", [None, 7, ["(sail l0 l1)"]])
def test_what_is_no_text_is_an_error_of_the_caller_and_malformed_for_the_reward(text):
    problem = load_problem(FERRY, HOME)
    with pytest.raises(TypeError):
        validate(problem, text)
    result = PlanningReward()(problem, text, 3)
    assert (result.total, result.code) == (-1.0, "not_text")


# --- data, batches, states -----------------------------------------------------------------------------------------


def test_a_name_that_says_nothing_scores_by_rule_and_an_unknown_domain_by_the_general_formula():
    problem = load_problem(FERRY, HOME)
    assert measure("ferry", "p01.pddl", problem).score == unreadable_score() == 0.0
    assert measure("ferry", "p01.pddl", problem).is_easy_by_rule
    assert (
        measure("logistics", "x-n2-r3-o4.pddl", problem).score == score_of("logistics", {"n": 2, "r": 3, "o": 4}) == 27
    )


def items(**counts: int) -> list[Item]:
    return [Item(domain=name, score=float(n), key=str(n)) for name, count in counts.items() for n in range(count)]


def test_batches_that_do_not_divide_and_nothing_to_draw_from_are_refused_at_the_start():
    with pytest.raises(ValueError, match=r"10.*4|4.*10"):
        CurriculumSampler(items(a=3, b=3, c=3, d=3), batch_size=10, max_steps=9)
    with pytest.raises(ValueError, match="no problems"):
        CurriculumSampler([], batch_size=8, max_steps=9)
    with pytest.raises(ValueError):
        CurriculumSampler(
            items(a=3), batch_size=1, max_steps=9, schedule=[{"until": 1, "easy": 0, "medium": 0, "hard": 0}]
        )


def test_no_domain_no_rows_and_no_folder_are_refused_at_the_start(tmp_path):
    with pytest.raises(ValueError, match="domains"):
        load_task("planning", domains=[])
    with pytest.raises(ValueError, match=r"\.jsonl|no data"):
        list(load_task("planning", data_root=str(tmp_path)).problems("train"))
    (tmp_path / "ferry.jsonl").write_text("")
    with pytest.raises(ValueError):
        list(load_task("planning", data_root=str(tmp_path)).problems("train"))


def test_a_domain_with_fewer_rows_than_places_repeats_them_with_a_warning(caplog):
    sampler = CurriculumSampler(items(a=1, b=9), batch_size=6, max_steps=9)
    (batch,) = sampler.step(0)
    assert [item.domain for item in batch].count("a") == 3 and caplog.records


def test_a_state_that_does_not_belong_is_refused_with_the_difference():
    sampler = CurriculumSampler(items(a=4, b=4), batch_size=4, max_steps=9)
    sampler.step(0)
    state = sampler.state_dict()
    with pytest.raises(ValueError, match="another list of problems"):
        CurriculumSampler(items(a=5, b=4), batch_size=4, max_steps=9).load_state_dict(state)
    with pytest.raises(ValueError, match="version"):
        CurriculumSampler(items(a=4, b=4), batch_size=4, max_steps=9).load_state_dict(state | {"version": 99})
    for torn in ({}, {"version": state["version"]}):
        with pytest.raises(ValueError):
            CurriculumSampler(items(a=4, b=4), batch_size=4, max_steps=9).load_state_dict(torn)
