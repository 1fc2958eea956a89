"""The checker against the naive interpreter: random plans, random constraints, all five domains and one with ADL."""

import random
from collections import Counter

import pytest
from planning_naive import Naive

from gradus.tasks.planning import Domain, Problem, validate
from gradus.tasks.planning.domains import FAMILIES, write_problem
from gradus.tasks.planning.ground import Op
from gradus.tasks.planning.search import ground_ops

SIZES = {
    "blocksworld": [{"n": 2}, {"n": 4}],
    "ferry": [{"l": 3, "c": 2}, {"l": 4, "c": 3}],
    "grippers": [{"n": 1, "r": 2, "o": 2}, {"n": 2, "r": 3, "o": 3}],
    "spanner": [{"s": 2, "n": 1, "l": 2}, {"s": 3, "n": 2, "l": 3}],
    "delivery": [{"s": 2, "p": 1}, {"s": 3, "p": 2}],
}

FACTORY = """(define (domain factory)
  (:requirements :adl :fluents :action-costs)
  (:types machine part - object press - machine)
  (:constants hub - machine)
  (:predicates (on ?m - machine) (at ?p - part ?m - machine) (done ?p - part) (linked ?a ?b - machine) (alarm))
  (:functions (heat ?m - machine) (budget) (total-cost))
  (:action switch :parameters (?m - machine)
    :precondition (and (not (alarm)) (imply (on ?m) (<= (heat ?m) 3)))
    :effect (and (when (on ?m) (not (on ?m))) (when (not (on ?m)) (on ?m)) (increase (total-cost) 1)))
  (:action work :parameters (?p - part ?m - press)
    :precondition (and (at ?p ?m) (on ?m) (or (> (budget) 0) (done ?p)))
    :effect (and (done ?p) (increase (heat ?m) 2) (decrease (budget) 1)
      (when (>= (heat ?m) 4) (alarm))
      (forall (?q - part) (when (and (at ?q ?m) (not (= ?q ?p))) (not (done ?q))))))
  (:action cool :parameters (?m - machine)
    :precondition (exists (?o - machine) (and (linked ?m ?o) (not (= ?m ?o)) (not (on ?o))))
    :effect (and (assign (heat ?m) (/ (heat ?m) 2)) (not (alarm)) (scale-up (total-cost) 2)))
  (:action carry :parameters (?p - part ?a ?b - machine)
    :precondition (and (at ?p ?a) (not (= ?a ?b)) (forall (?x - press) (or (not (on ?x)) (= ?x ?a) (= ?x ?b))))
    :effect (and (not (at ?p ?a)) (at ?p ?b) (at ?p ?b)))
  (:action share :parameters (?a ?b - machine)
    :precondition (linked ?a ?b)
    :effect (and (decrease (heat ?a) 1) (increase (heat ?b) (/ 1 (heat ?a))))))
"""


def factory_problem(rng: random.Random) -> str:
    machines, parts = ["hub", "p1", "p2"], ["a", "b"]
    heat = [f"(= (heat {m}) {rng.randrange(6)})" for m in machines if rng.random() < 0.8]
    on = [f"(on {m})" for m in machines if rng.random() < 0.5]
    links = [f"(linked {a} {b})" for a in machines for b in machines if rng.random() < 0.6]
    at = [f"(at {p} {rng.choice(machines)})" for p in parts]
    goal = rng.choice(
        ["(and (done a) (not (alarm)))", "(forall (?p - part) (done ?p))", "(or (done b) (< (heat p1) 2))"]
    )
    return f"""(define (problem f) (:domain factory) (:objects p1 p2 - press a b - part)
      (:init (= (budget) {rng.randrange(4)}) {" ".join(heat + on + links + at)}) (:goal {goal})
      (:metric minimize (+ (total-cost) (* 2 (budget)))))"""


def random_plan(rng: random.Random, problem: Problem, ops: list[Op]) -> list[list[str]]:
    """A walk along applicable actions, now and then along any, with a few lines damaged; or the reference plan."""
    family = FAMILIES.get(problem.domain.name.removesuffix("-strips").replace("gripper", "grippers"))
    reference = family.refer(problem) if family and rng.random() < 0.4 else None
    if reference is not None:
        plan = [list(action) for action in reference.actions]
    else:
        state, plan = problem.initial, []
        for _ in range(rng.randrange(12)):
            choices = rng.sample(ops, min(len(ops), 30))
            if rng.random() < 0.93:
                choices = [op for op in choices if is_applicable(problem, state, op)] or choices
            op = rng.choice(choices)
            plan.append(list(op.action))
            if is_applicable(problem, state, op):
                state = problem.apply(state, op.action)
    if plan and rng.random() < 0.3:
        damage(rng, plan, list(problem.objects))
    return plan


def is_applicable(problem: Problem, state, op: Op) -> bool:
    try:
        problem.apply(state, op.action)
    except ValueError:
        return False
    return True


def damage(rng: random.Random, plan: list[list[str]], objects: list[str]) -> None:
    place = rng.randrange(len(plan))
    kind = rng.randrange(7)
    if kind == 0:
        del plan[place]
    elif kind == 1:
        plan.insert(place, plan[rng.randrange(len(plan))])
    elif kind == 2:
        plan[place], plan[-1] = plan[-1], plan[place]
    elif kind == 3 and len(plan[place]) > 1:
        plan[place][rng.randrange(1, len(plan[place]))] = rng.choice([*objects, "nobody", "?x"])
    elif kind == 4:
        plan[place][0] = rng.choice(["fly", "move", "pickup"])
    elif kind == 5:
        plan[place] = plan[place][:-1] or ["fly"]
    else:
        plan[place].append(rng.choice(objects))


def random_formula(rng: random.Random, problem: Problem, depth: int = 2) -> str:
    facts = sorted(problem.facts)
    if depth == 0 or rng.random() < 0.4:
        fact = list(rng.choice(facts))
        for place in range(1, len(fact)):
            same = [o for o, kind in problem.objects.items() if kind == problem.objects[fact[place]]]
            fact[place] = rng.choice(same)
        return f"({' '.join(fact)})"
    head = rng.choice(["and", "or", "not", "imply"])
    count = {"not": 1, "imply": 2}.get(head, rng.randrange(1, 4))
    return f"({head} {' '.join(random_formula(rng, problem, depth - 1) for _ in range(count))})"


def random_constraint(rng: random.Random, problem: Problem) -> str:
    f, g = random_formula(rng, problem), random_formula(rng, problem)
    t = rng.choice(["0", "1", "2.7", "4", "9"])
    return rng.choice(
        [
            f"(always {f})",
            f"(sometime {f})",
            f"(at end {f})",
            f"(at-most-once {f})",
            f"(sometime-before {f} {g})",
            f"(sometime-after {f} {g})",
            f"(within {t} {f})",
            f"(always-within {t} {f} {g})",
        ]
    )


def problems(rng: random.Random, name: str, *, is_constrained: bool) -> tuple[str, str]:
    """Domain and problem text."""
    if name == "factory":
        domain_text, text = FACTORY, factory_problem(rng)
    else:
        family = FAMILIES[name]
        domain_text = family.text
        layout = family.draw(rng.choice(SIZES[name]), rng)
        text = write_problem("x", Domain.parse(domain_text).name, layout)
    if is_constrained:
        problem = Problem.parse(text, Domain.parse(domain_text))
        found = " ".join(random_constraint(rng, problem) for _ in range(rng.randrange(1, 4)))
        text = text.rstrip()[:-1] + f"(:constraints (and {found})))"
    return domain_text, text


def compare(num_problems: int, plans_per_problem: int, *, is_constrained: bool, seed: int = 0) -> Counter:
    seen: Counter[str] = Counter()
    for name in (*FAMILIES, "factory"):
        for number in range(num_problems):
            rng = random.Random(f"{seed} {name} {number} {is_constrained}")
            domain_text, text = problems(rng, name, is_constrained=is_constrained)
            problem, naive = Problem.parse(text, Domain.parse(domain_text)), Naive(domain_text, text)
            ops = ground_ops(problem)
            assert ops
            for _ in range(plans_per_problem):
                plan = random_plan(rng, problem, ops)
                plan_text = "\n".join(f"({' '.join(action)})" for action in plan)
                verdict = validate(problem, plan_text, progress=True)
                assert (verdict.status, verdict.step) == naive.judge(plan), f"{text}\n{plan_text}\n{verdict.message}"
                seen[verdict.status] += 1
    return seen


@pytest.mark.parametrize("is_constrained", [False, True])
def test_random_plans_get_the_naive_verdict(is_constrained):
    seen = compare(8, 10, is_constrained=is_constrained)
    assert sum(seen.values()) == 480
    for status in ("valid", "precondition", "goal", "malformed", *(["constraint"] if is_constrained else [])):
        assert seen[status] >= 20, seen


@pytest.mark.slow
def test_eighteen_thousand_random_plans_get_the_naive_verdict():
    plain = compare(120, 20, is_constrained=False, seed=1)
    constrained = compare(60, 10, is_constrained=True, seed=1)
    assert sum(plain.values()) == 14_400 and sum(constrained.values()) == 3_600
    assert min(plain[s] for s in ("valid", "precondition", "goal", "malformed")) > 500
    assert constrained["constraint"] > 500
