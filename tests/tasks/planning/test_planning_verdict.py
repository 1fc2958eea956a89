"""Verdicts: status, step, code and message of plans written by hand; constraints, numbers, progress, hostile texts."""

import json
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from gradus.tasks.planning import Problem, Verdict, load_problem, validate, validate_many, validate_texts
from gradus.tasks.planning.domains import FAMILIES, write_problem
from gradus.tasks.planning.limits import Limits
from gradus.tasks.planning.plan import Plan, parse_plan
from gradus.tasks.planning.validate import STATUS_OF_CODE, STATUSES

BLOCKS = FAMILIES["blocksworld"].text
TOWER = """(define (problem swap) (:domain blocksworld) (:objects b1 b2 b3)
  (:init (arm-empty) (on b1 b2) (on-table b2) (clear b1) (on-table b3) (clear b3))
  (:goal (and (on b2 b1) (on b1 b3))))"""
GOOD = "(unstack b1 b2)\n(stack b1 b3)\n(pickup b2)\n(stack b2 b1)"

SWITCHES = """(define (domain switches) (:requirements :strips)
  (:predicates (p) (q) (r))
  (:action p+ :parameters () :effect (p)) (:action p- :parameters () :effect (not (p)))
  (:action q+ :parameters () :effect (q)) (:action q- :parameters () :effect (not (q)))
  (:action wait :parameters () :effect (r)))"""


def tower(constraints: str = "") -> Problem:
    return load_problem(BLOCKS, TOWER.rstrip()[:-1] + (f"(:constraints {constraints})" if constraints else "") + ")")


def judged(plan: str, constraints: str = "", **options) -> Verdict:
    return validate(tower(constraints), plan, **options)


def switched(constraint: str, plan: str, goal: str = "(and)", init: str = "") -> tuple[str, int | None]:
    """Verdict of a plan written as words: p+ q- and so on."""
    problem = f"(define (problem x) (:domain switches) (:init {init}) (:goal {goal}) (:constraints {constraint}))"
    verdict = validate_texts(SWITCHES, problem, "\n".join(f"({word})" for word in plan.split()))
    return verdict.status, verdict.step


# --- by hand -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "code", "step", "message"),
    [
        (GOOD, "ok", None, "valid: the goal holds after 4 actions"),
        ("(unstack b1 b2)\n(stack b1 b3)", "goal_unmet", None,
         "goal not reached after 2 actions: (on b2 b1) does not hold"),
        ("(pickup b2)", "not_applicable", 1, "action 1 (pickup b2) cannot be executed: (clear b2) does not hold"),
        ("(unstack b1 b2)\n(pickup b2)", "not_applicable", 2,
         "action 2 (pickup b2) cannot be executed: (arm-empty) does not hold"),
        ("", "empty_plan", None, "goal not reached after 0 actions: (on b2 b1), (on b1 b3) do not hold"),
        ("(unstack b1 b2)\n(lift b1)", "unknown_action", 2,
         "action 2 (lift b1): there is no action 'lift'; there are pickup, putdown, stack, unstack"),
        ("(unstak b1 b2)", "unknown_action", 1, "there is no action 'unstak'; did you mean 'unstack'?"),
        ("(pickup b1 b2)", "wrong_arity", 1, "action 1 (pickup b1 b2): 'pickup' takes 1 (?x) arguments, not 2"),
        ("(pickup b7)", "unknown_object", 1, "action 1 (pickup b7): there is no object 'b7'"),
        ("(pickup ?x)", "variable", 1, "action 1 (pickup ?x): '?x' is a variable; a plan names objects"),
        ("(no-plan)", "unknown_action", 1, None),
        ("(pickup b1", "unclosed", 1, "line 1: '(pickup b1' (action 1) has no closing parenthesis"),
        ("((pickup b1))", "nested", 1, "line 1: '((pickup b1))' (action 1) has nested parentheses"),
        (GOOD + "\nDone!", "bad_line", 5, "line 5: 'Done!' (action 5) is not one action in parentheses"),
        ("(pickup b\u0131)", "bad_char", 1, "line 1: '(pickup b?)' (action 1) has a character that no name may have"),
        ("<think>", "bad_line", 1, None),
    ],
)  # fmt: skip
def test_a_person_gets_a_helpful_answer(plan, code, step, message):
    verdict = judged(plan)
    assert (verdict.code, verdict.step) == (code, step)
    assert verdict.status == STATUS_OF_CODE[code] and verdict.status in STATUSES
    assert message is None or message in verdict.message
    assert verdict.valid == (verdict.status == "valid") and len(verdict.message) <= 300


HAND = {
    "ferry": """(define (problem f) (:domain ferry) (:objects l0 l1 l2 c0)
        (:init (location l0) (location l1) (location l2) (car c0) (empty-ferry) (at c0 l1) (at-ferry l0)
          (not-eq l0 l1) (not-eq l1 l0) (not-eq l0 l2) (not-eq l2 l0) (not-eq l1 l2) (not-eq l2 l1))
        (:goal (and (at c0 l2))))""",
    "grippers": """(define (problem g) (:domain gripper-strips)
        (:objects robot1 - robot left right - gripper room1 room2 - room ball1 - ball)
        (:init (at-robby robot1 room1) (free robot1 left) (free robot1 right) (at ball1 room1))
        (:goal (and (at ball1 room2))))""",
    "spanner": """(define (problem s) (:domain spanner)
        (:objects bob - man s1 - spanner nut1 - nut shed location1 gate - location)
        (:init (at bob shed) (at s1 location1) (useable s1) (at nut1 gate) (loose nut1) (link shed location1)
          (link location1 gate))
        (:goal (and (tightened nut1))))""",
    "delivery": """(define (problem d) (:domain delivery) (:objects t1 - truck p1 - package a b - cell)
        (:init (at t1 a) (empty t1) (at p1 a) (adjacent a b) (adjacent b a))
        (:goal (and (at p1 b))) (:constraints (always (not (and (last t1 a) (at t1 a))))))""",
}


@pytest.mark.parametrize(
    ("domain", "plan", "status", "step"),
    [
        ("ferry", "(sail l0 l1) (board c0 l1) (sail l1 l2) (debark c0 l2)", "valid", None),
        ("ferry", "(board c0 l1)", "precondition", 1),
        ("ferry", "(sail l0 l1) (board c0 l1) (sail l1 l2)", "goal", None),
        ("ferry", "(sail l0 l1) (board c0 l1) (sail l1 l1)", "precondition", 3),
        ("grippers", "(pick robot1 ball1 room1 left) (move robot1 room1 room2) (drop robot1 ball1 room2 left)",
         "valid", None),
        ("grippers", "(pick robot1 ball1 room1 left) (drop robot1 ball1 room1 right)", "precondition", 2),
        ("grippers", "(pick ball1 robot1 room1 left)", "malformed", 1),
        ("spanner", "(walk shed location1 bob) (pickup_spanner location1 s1 bob) (walk location1 gate bob) "
         "(tighten_nut gate s1 bob nut1)", "valid", None),
        ("spanner", "(walk shed location1 bob) (walk location1 gate bob) (tighten_nut gate s1 bob nut1)",
         "precondition", 3),
        ("spanner", "(walk shed location1 bob) (walk location1 shed bob)", "precondition", 2),
        ("delivery", "(pick-package t1 p1 a) (move t1 a b) (drop-package t1 p1 b)", "valid", None),
        ("delivery", "(move t1 a b) (move t1 b a)", "constraint", 2),
        ("delivery", "(pick-package t1 p1 b)", "precondition", 1),
    ],
)  # fmt: skip
def test_plans_written_by_hand_in_each_domain(domain, plan, status, step):
    verdict = validate_texts(FAMILIES[domain].text, HAND[domain], plan.replace(") (", ")\n("))
    assert (verdict.status, verdict.step) == (status, step), verdict.message


# --- what a verdict says -------------------------------------------------------------------------------------------


def test_numbers_of_a_verdict():
    verdict = judged("(unstack b1 b2)\n(stack b1 b3)\n\n; oops\n(unstack b1 b2)\n(pickup b2)")
    assert (verdict.status, verdict.step, verdict.line) == ("precondition", 3, 5)
    assert verdict.failed == ("(on b1 b2)",)
    assert (verdict.goals_initial, verdict.goals_satisfied, verdict.goals_total) == (0, 1, 2)
    assert (verdict.plan_length, verdict.executed, verdict.cost, verdict.empty) == (4, 2, None, False)
    assert json.loads(json.dumps(verdict.to_json()))["failed"] == ["(on b1 b2)"]
    assert pickle.loads(pickle.dumps(verdict)) == verdict
    good = judged(GOOD)
    assert (good.cost, good.executed, good.goals_satisfied, good.path_length) == (4, 4, 2, None)
    with pytest.raises(AttributeError):
        good.status = "goal"  # type: ignore[misc]


def test_the_whole_plan_is_checked_before_the_first_action():
    assert judged("(pickup b2)\n(pickup b9)").step == 2
    assert judged("(fly)\nwords").code == "unknown_action"
    assert judged("(pickup b2)\nwords").code == "bad_line"


def test_the_empty_plan_is_legal():
    solved = load_problem(BLOCKS, TOWER.replace("(and (on b2 b1) (on b1 b3))", "(and)"))
    for text in ("", " \n\t", "; nothing\n", ";" * 100_000):
        verdict = validate(solved, text)
        assert (verdict.status, verdict.code, verdict.empty, verdict.goals_total) == ("valid", "ok_empty", True, 0)
        assert judged(text).code == "empty_plan"
    assert judged("", "(sometime (holding b1))").status == "constraint"


def test_goals_count_as_written():
    text = TOWER.replace("(and (on b2 b1) (on b1 b3))", "(and (and (on b1 b2) (and)) (not (holding b3)) (arm-empty) "
                         "(forall (?x) (not (holding ?x))) (or (clear b2) (clear b3)))")  # fmt: skip
    verdict = validate_texts(BLOCKS, text, "")
    assert (verdict.status, verdict.goals_total, verdict.goals_satisfied) == ("valid", 5, 5)


def test_failed_names_at_most_twenty():
    objects = " ".join(f"x{i}" for i in range(40))
    text = f"""(define (problem p) (:domain blocksworld) (:objects {objects}) (:init (arm-empty))
      (:goal (and {" ".join(f"(clear x{i})" for i in range(40))})))"""
    verdict = validate_texts(BLOCKS, text, "")
    assert len(verdict.failed) == 20 and "and 15 more" in verdict.message


def test_other_forms_of_the_call():
    problem = tower()
    assert validate(problem, GOOD.encode()).valid
    assert validate(problem, parse_plan(GOOD)).valid
    assert validate(problem, Plan((("pickup", "b3"),), (1,))).status == "goal"
    assert validate(problem, f"Plan:\n1. {GOOD.splitlines()[0]}", strict=False).status == "goal"
    assert [v.status for v in validate_many([(problem, GOOD), (problem, "x")])] == ["valid", "malformed"]
    assert validate(problem, GOOD, limits=Limits(plan_actions=3)).code == "plan_too_large"
    for bad in (None, 3, ["(a)"]):
        with pytest.raises(TypeError):
            validate(problem, bad)  # type: ignore[arg-type]


def test_states_can_be_walked():
    problem = tower()
    state = problem.initial
    for action in ("(unstack b1 b2)", ("stack", "b1", "b3")):
        state = problem.apply(state, action)
    assert ("on", "b1", "b3") in state.facts
    assert [problem.state_satisfies(state, goal) for goal in problem.goals] == [False, True]
    with pytest.raises(ValueError, match="arm-empty"):
        problem.apply(problem.apply(problem.initial, "(unstack b1 b2)"), "(pickup b3)")
    with pytest.raises(ValueError, match="no action"):
        problem.apply(state, "(fly)")


# --- constraints ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("constraint", "plan", "expected"),
    [
        ("(always (p))", "p+", ("constraint", 0)),
        ("(always (not (p)))", "q+ p+ p-", ("constraint", 2)),
        ("(sometime (p))", "p+ p-", ("valid", None)),
        ("(sometime (p))", "q+ q-", ("constraint", 2)),
        ("(at end (p))", "p+ p-", ("constraint", 2)),
        ("(at end (p))", "p+", ("valid", None)),
        ("(at-most-once (p))", "p+ wait p- wait", ("valid", None)),
        ("(at-most-once (p))", "p+ p- q+ p+ p-", ("constraint", 4)),
        ("(sometime-before (p) (q))", "q+ p+", ("valid", None)),
        ("(sometime-before (p) (q))", "wait p+ q+", ("constraint", 2)),
        ("(sometime-before (p) (p))", "p+", ("constraint", 1)),
        ("(sometime-after (p) (q))", "p+ q+", ("valid", None)),
        ("(sometime-after (p) (q))", "p+ q+ q-", ("constraint", 3)),
        ("(sometime-after (p) (p))", "p+", ("valid", None)),
        ("(within 2 (p))", "wait p+", ("valid", None)),
        ("(within 2 (p))", "wait wait p+", ("constraint", 2)),
        ("(within 2.9 (p))", "wait wait p+", ("constraint", 2)),
        ("(within 9 (p))", "wait wait", ("constraint", 2)),
        ("(always-within 1 (p) (q))", "p+ q+ p-", ("valid", None)),
        ("(always-within 1 (p) (q))", "wait p+ wait q+", ("constraint", 3)),
        ("(always-within 0 (p) (p))", "p+ wait", ("valid", None)),
        ("(always-within 5 (p) (q))", "p+ wait", ("constraint", 2)),
        ("(and (always (not (p))) (always (not (q))))", "q+ p+", ("constraint", 1)),
        ("(forall () (sometime (p)))", "wait", ("constraint", 1)),
    ],
)
def test_violations_and_the_state_where_they_are_certain(constraint, plan, expected):
    assert switched(constraint, plan) == expected


def test_the_earliest_failure_wins():
    assert judged("(unstack b1 b2)\n(pickup b2)", "(always (not (holding b1)))").step == 1
    assert judged("(pickup b2)", "(sometime (holding b2))").status == "precondition"
    assert judged("(pickup b2)", "(always (clear b2))").status == "constraint"
    assert judged("(pickup b9)", "(always (clear b2))").status == "malformed"
    assert switched("(sometime (q))", "p+", goal="(r)") == ("constraint", 1)


def test_a_violation_names_the_constraint_the_state_and_the_line():
    verdict = judged("; go\n(unstack b1 b2)\n(stack b1 b3)\n(pickup b2)", "(always (imply (clear b2) (arm-empty)))")
    assert (verdict.status, verdict.code, verdict.step, verdict.line) == ("constraint", "constraint_always", 1, 2)
    assert "after action 1 (unstack b1 b2)" in verdict.message and verdict.failed[0].startswith("(always (or (not")
    start = judged("", "(always (clear b2))")
    assert (start.step, start.line, start.goals_satisfied) == (0, None, 0) and "in the initial state" in start.message


def test_goals_of_a_violation_are_those_before_the_violating_state():
    verdict = judged(GOOD, "(always (not (on b1 b3)))")
    assert (verdict.step, verdict.executed, verdict.goals_satisfied) == (2, 2, 0)
    assert judged(GOOD, "(always (not (holding b2)))").goals_satisfied == 1
    assert judged(GOOD, "(sometime (on b3 b1))", progress=True).path_length == 3


def test_domain_constraints_apply_too():
    domain = BLOCKS.replace(
        "(:action pickup", "(:constraints (forall (?x ?y) (at-most-once (on ?x ?y)))) (:action pickup"
    )
    plan = "(unstack b1 b2)\n(stack b1 b2)\n" + GOOD
    assert validate_texts(domain, TOWER, GOOD).valid
    assert validate_texts(domain, TOWER, plan).step == 2


# --- numbers -------------------------------------------------------------------------------------------------------

TANK = """(define (domain tank) (:requirements :fluents)
  (:predicates (full))
  (:functions (level) (rate) (total-cost))
  (:action fill :parameters () :precondition (< (level) 10)
    :effect (and (increase (level) 4) (increase (level) 1) (increase (total-cost) (level))))
  (:action mark :parameters () :precondition (>= (level) 10) :effect (full))
  (:action reset :parameters () :effect (and (assign (level) 0) (increase (level) 1)))
  (:action split :parameters () :effect (assign (level) (/ (level) (rate))))
  (:action half :parameters () :effect (scale-down (level) 2)))"""


def tank(plan: str, init: str = "(= (level) 0)", extra: str = "") -> Verdict:
    problem = f"(define (problem t) (:domain tank) (:init {init}) (:goal (full)) {extra})"
    return validate_texts(TANK, problem, "\n".join(f"({word})" for word in plan.split()))


def test_numbers_are_read_in_the_old_state_and_increases_add_up():
    verdict = tank("fill fill mark")
    assert verdict.valid and verdict.cost == 5
    assert tank("fill mark").failed == ("(>= (level) 10)",)


@pytest.mark.parametrize(
    ("plan", "init", "code"),
    [
        ("reset", "(= (level) 0)", "effect_conflict"),
        ("fill", "(= (rate) 1)", "undefined_value"),
        ("split", "(= (level) 1)", "undefined_value"),
        ("split", "(= (level) 1) (= (rate) 0)", "undefined_value"),
        ("half", "(= (rate) 1)", "undefined_value"),
    ],
)
def test_what_cannot_be_computed_makes_an_action_inapplicable(plan, init, code):
    verdict = tank(plan, init)
    assert (verdict.status, verdict.code, verdict.step) == ("precondition", code, 1), verdict.message


def test_cost_is_the_metric_then_total_cost_then_the_length():
    assert tank("fill fill mark", extra="(:metric minimize (+ (* 2 (total-time)) (total-cost)))").cost == 11
    assert tank("fill fill mark", extra="(:metric minimize (rate))").cost is None
    assert judged(GOOD).cost == 4
    assert tank("fill").cost == 0 and tank("mark").cost is None


# --- progress ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "length"),
    [
        ("", 0),
        (GOOD, 4),
        ("(unstack b1 b2)\n(stack b1 b2)", 0),
        ("(unstack b1 b2)\n(putdown b1)\n(pickup b1)\n(stack b1 b3)", 2),
        ("(unstack b1 b2)\n(stack b1 b2)\n" * 50 + GOOD, 4),
        ("(unstack b1 b2)\n(pickup b3)", 1),
    ],
)
def test_path_length_cuts_every_loop(plan, length):
    assert judged(plan, progress=True).path_length == length


def test_a_pure_cost_does_not_make_states_different():
    problem = "(define (problem t) (:domain c) (:init (= (total-cost) 0)) (:goal (q)))"
    domain = """(define (domain c) (:predicates (p) (q)) (:functions (total-cost))
      (:action on :parameters () :effect (and (p) (increase (total-cost) 1)))
      (:action off :parameters () :effect (and (not (p)) (increase (total-cost) 1))))"""
    verdict = validate(load_problem(domain, problem), "(on)\n(off)\n(on)\n(off)", progress=True)
    assert (verdict.path_length, verdict.cost) == (0, 4)


# --- hostile and large ---------------------------------------------------------------------------------------------


def big_blocks(num_blocks: int) -> Problem:
    layout = FAMILIES["blocksworld"].draw({"n": num_blocks}, Random(1))
    return load_problem(BLOCKS, write_problem("big", "blocksworld", layout))


def test_a_legal_plan_of_a_hundred_thousand_actions():
    problem = big_blocks(30)
    upper, lower = next(f[1:] for f in sorted(problem.facts) if f[0] == "on" and ("clear", f[1]) in problem.facts)
    text = f"(unstack {upper} {lower})\n(stack {upper} {lower})\n" * 50_000
    began = time.process_time()
    verdict = validate(problem, text, progress=True)
    assert (verdict.status, verdict.executed, verdict.path_length) == ("goal", 100_000, 0)
    assert time.process_time() - began < 2
    assert validate(problem, text, limits=Limits.training()).code == "plan_too_large"


@pytest.mark.parametrize(
    "name", ["-flag", "--help", "$(reboot)".replace("(", "").replace(")", ""), "`id`", "../../etc"]
)
def test_names_are_only_names(name):
    text = TOWER.replace("b3", name)
    plan = GOOD.replace("b3", name)
    assert validate_texts(BLOCKS, text, plan).valid


def test_random_bytes_never_raise():
    rng, problem = Random(0), tower("(always (imply (clear b2) (arm-empty)))")
    pieces = [
        b"(",
        b")",
        b"pickup",
        b"b1",
        b" ",
        b"\n",
        b"\0",
        b"\xff",
        b"<think>",
        b"</think>",
        b";",
        b"?x",
        b"1:",
        b"\r",
    ]
    for _ in range(2000):
        text = b"".join(rng.choice(pieces) for _ in range(rng.randrange(30)))
        for strict in (True, False):
            assert validate(problem, text, strict, progress=True).status in STATUSES


def test_threads_share_a_problem():
    problem = big_blocks(12)
    blocks = sorted(problem.objects)
    plans = [f"(pickup {a})\n(stack {a} {b})" for a in blocks for b in blocks]
    expected = [validate(pickle.loads(pickle.dumps(problem)), plan) for plan in plans]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda plan: validate(problem, plan), plans)) == expected
