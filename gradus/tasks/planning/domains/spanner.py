"""Spanner: a man walks a one-way chain from the shed to the gate, collects spanners on the way, tightens nuts there.

A spanner breaks when it is used, so what is not picked up in passing is lost: a plan that turns back does not exist.
"""

from __future__ import annotations

import itertools
from random import Random

from gradus.tasks.planning.domains.family import (
    Family,
    Layout,
    Reference,
    Sizes,
    facts_of,
    goal_facts,
    has_plain_goal,
    pairs_of,
)
from gradus.tasks.planning.pddl import Problem
from gradus.tasks.planning.plan import Action

DOMAIN = """(define (domain spanner)
  (:requirements :strips :typing)
  (:types location locatable - object man nut spanner - locatable)
  (:predicates (at ?m - locatable ?l - location) (carrying ?m - man ?s - spanner) (useable ?s - spanner)
    (link ?l1 ?l2 - location) (tightened ?n - nut) (loose ?n - nut))
  (:action walk
    :parameters (?start ?end - location ?m - man)
    :precondition (and (at ?m ?start) (link ?start ?end))
    :effect (and (not (at ?m ?start)) (at ?m ?end)))
  (:action pickup_spanner
    :parameters (?l - location ?s - spanner ?m - man)
    :precondition (and (at ?m ?l) (at ?s ?l))
    :effect (and (not (at ?s ?l)) (carrying ?m ?s)))
  (:action tighten_nut
    :parameters (?l - location ?s - spanner ?m - man ?n - nut)
    :precondition (and (at ?m ?l) (at ?n ?l) (carrying ?m ?s) (useable ?s) (loose ?n))
    :effect (and (not (loose ?n)) (not (useable ?s)) (tightened ?n))))
"""


def draw(sizes: Sizes, random: Random) -> Layout:
    """Each spanner at a uniform location; all nuts at the gate. ValueError for fewer spanners than nuts."""
    if sizes["s"] < sizes["n"]:
        raise ValueError(f"spanner: s={sizes['s']} spanners for n={sizes['n']} nuts; needs s >= n")
    spanners = [f"spanner{index}" for index in range(1, sizes["s"] + 1)]
    nuts = [f"nut{index}" for index in range(1, sizes["n"] + 1)]
    chain = ["shed", *(f"location{index}" for index in range(1, sizes["l"] + 1)), "gate"]
    return Layout(
        objects=(
            ("bob", "man"),
            *((spanner, "spanner") for spanner in spanners),
            *((nut, "nut") for nut in nuts),
            *((place, "location") for place in chain),
        ),
        facts=(
            ("at", "bob", "shed"),
            *(fact for s in spanners for fact in (("at", s, random.choice(chain[1:-1])), ("useable", s))),
            *(fact for nut in nuts for fact in (("at", nut, "gate"), ("loose", nut))),
            *(("link", a, b) for a, b in itertools.pairwise(chain)),
        ),
        goals=tuple(("tightened", nut) for nut in nuts),
    )


def refer(problem: Problem) -> Reference | None:
    """The first spanners on the way, as many as there are loose nuts: a shortest plan."""
    men = problem.objects_of(("man",)) if "man" in problem.domain.types else ()
    links, at = pairs_of(problem, "link"), pairs_of(problem, "at")
    is_chain = len(links) == len(facts_of(problem, "link"))
    if not is_chain or len(men) != 1 or facts_of(problem, "carrying") or not has_plain_goal(problem, "tightened"):
        return None
    nuts = [nut for (nut,) in goal_facts(problem, "tightened") if ("tightened", nut) not in problem.facts]
    man, usable = men[0], [spanner for (spanner,) in facts_of(problem, "useable") if spanner in at]
    where = {at.get(nut) for nut in nuts}
    if len(where) > 1 or len(usable) < len(nuts) or any(("loose", nut) not in problem.facts for nut in nuts):
        return None
    place, taken = at[man], []
    actions: list[Action] = []
    while nuts:
        for spanner in usable:
            if at[spanner] == place and len(taken) < len(nuts):
                actions.append(("pickup_spanner", place, spanner, man))
                taken.append(spanner)
        if {place} == where:
            break
        if place not in links or len(actions) > len(problem.objects):
            return None
        actions.append(("walk", place, links[place], man))
        place = links[place]
    if len(taken) < len(nuts):
        return None
    actions += [("tighten_nut", place, spanner, man, nut) for spanner, nut in zip(taken, nuts, strict=True)]
    return Reference(actions=tuple(actions), is_optimal=True)


def constrain(problem: Problem, random: Random) -> str | None:
    """Either nobody comes back to the shed, or a spanner is taken only when another has been taken before."""
    usable = [spanner for (spanner,) in facts_of(problem, "useable")]
    man = problem.objects_of(("man",))[0]
    if len(usable) < 2 or random.random() < 0.25:
        return "(forall (?m - man) (at-most-once (at ?m shed)))"
    late, early = random.sample(usable, 2)
    return f"(always (imply (not (carrying {man} {early})) (not (carrying {man} {late}))))"


def _sizes_of(problem: Problem) -> dict[str, float]:
    def count(name: str) -> int:
        return len(problem.objects_of((name,))) if name in problem.domain.types else 0

    ends = {"shed", "gate"} & set(problem.objects)
    return {"s": count("spanner"), "n": count("nut"), "l": max(0, count("location") - len(ends))}


FAMILY = Family(
    name="spanner",
    text=DOMAIN,
    size_names=("s", "n", "l"),
    stem=lambda sizes, seed: f"spanner-s{sizes['s']}-n{sizes['n']}-l{sizes['l']}-s{seed}",
    draw=draw,
    sizes_of=_sizes_of,
    refer=refer,
    constrain=constrain,
    silent=frozenset({"at", "link"}),
    hosted=frozenset({"at"}),
)
