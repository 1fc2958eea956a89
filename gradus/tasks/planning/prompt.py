"""What the policy is asked: the domain and the problem in PDDL, or the problem alone in a few lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from gradus.tasks.planning.domains import FAMILIES
from gradus.tasks.planning.formula import Atom, describe
from gradus.tasks.planning.pddl import Problem
from gradus.types import Message

Style = Literal["full", "brief"]

_TASK = (
    "A planning domain and a planning problem in PDDL follow. Find a sequence of actions that leads from the initial "
    "state to a state in which the goal holds."
)
_CONSTRAINED = "The constraints of the problem must hold along the whole way."
_RULE = "Answer with one action per line, in order, each as (action object ...), and nothing else."


def build_prompt(problem: Problem, style: Style, domain: str) -> tuple[Message, ...]:
    """One user message. ``full`` holds domain and problem in PDDL and works for any domain; ``brief`` gives the name of
    a built-in ``domain`` and the facts by object, for a policy that was trained on it. ValueError for ``brief`` elsewhere.

    Example:
        build_prompt(problem, "brief", "ferry")[0].content  # "ferry\n empty-ferry\n c0 l4 > l1\n l0 at-ferry"
    """
    text = _full(problem) if style == "full" else _brief(problem, domain)
    return (Message(role="user", content=text),)


def _full(problem: Problem) -> str:
    intro = [_TASK, *([_CONSTRAINED] if problem.constraints else []), _RULE]
    parts = ["\n".join(intro), "Domain:", _fenced(problem.domain.text), "Problem:", _fenced(problem.text)]
    return "\n".join(parts)


def _fenced(text: str) -> str:
    return f"```pddl\n{without_comments(text)}\n```"


def without_comments(text: str) -> str:
    """PDDL without comments, blank lines, and ends of lines."""
    lines = (line.partition(";")[0].rstrip() for line in text.replace("\r\n", "\n").split("\n"))
    return "\n".join(line for line in lines if line).strip()


def _brief(problem: Problem, domain: str) -> str:
    if domain not in FAMILIES:
        raise ValueError(
            f"a brief prompt leaves out the domain, which works for {', '.join(FAMILIES)}, not for {domain!r}; "
            f"use prompt=rebuild"
        )
    lines = [domain, *(f" {line}" for line in brief_lines(problem, domain))]
    others = [describe(goal, ()) for goal in problem.goals if not (isinstance(goal, Atom) and goal.terms)]
    if others:
        lines.append(f"goal {' '.join(others)}")
    if problem.constraints:
        lines.append(f"constraints {' '.join(monitor.text() for monitor in problem.world.monitors)}")
    return "\n".join(lines)


def brief_lines(problem: Problem, domain: str) -> list[str]:
    """A line per object of a built-in ``domain``: its name, the facts and, behind ``>``, the goals listed under it."""
    family = FAMILIES[domain]
    now: dict[str, list[str]] = {}
    # What stands right behind an object's name is found most easily: where it is comes first.
    for fact in sorted(problem.facts, key=lambda fact: (fact[0] not in family.silent, fact[0] in family.hosted, fact)):
        if fact[0] not in family.implied:
            name, said = _entry(fact, family.silent, family.hosted)
            now.setdefault(name, []).append(said)
    wanted: dict[str, list[str]] = {}
    atoms = [(goal.predicate, *map(str, goal.terms)) for goal in problem.goals if isinstance(goal, Atom) and goal.terms]
    for atom in sorted(atoms, key=lambda atom: atom[0] not in family.silent):
        name, said = _entry(atom, family.silent, family.hosted_goals)
        wanted.setdefault(name, []).append(said)
    lines = []
    for name in sorted({*now, *wanted}):
        aims = [">", *wanted[name]] if name in wanted else []
        lines.append(" ".join([*([name] if name else []), *now.get(name, []), *aims]))
    return lines


def _entry(fact: Sequence[str], silent: frozenset[str], hosted: frozenset[str]) -> tuple[str, str]:
    """The object under which a fact is listed, and what is said there: ("at", "c0", "l4") is "l4" under "c0", and "c0"
    under "l4" where it is hosted; ("free", "robot1", "hand") is "free hand" under "robot1"."""
    predicate, *names = fact
    if predicate in hosted and len(names) == 2:
        names = names[::-1]
    rest = names[1:] if predicate in silent and len(names) == 2 else [predicate, *names[1:]]
    return (names[0] if names else ""), " ".join(rest)
