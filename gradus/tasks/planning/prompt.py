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
    implied, silent = FAMILIES[domain].implied, FAMILIES[domain].silent
    now: dict[str, list[str]] = {}
    # What stands right behind an object's name is found most easily: where it is comes first.
    for fact in sorted(problem.facts, key=lambda fact: (fact[0] not in silent, fact)):
        if fact[0] not in implied:
            now.setdefault(fact[1] if len(fact) > 1 else "", []).append(_said(fact, silent))
    wanted: dict[str, list[str]] = {}
    others = []
    for goal in problem.goals:
        if isinstance(goal, Atom) and goal.terms:
            wanted.setdefault(str(goal.terms[0]), []).append(_said((goal.predicate, *map(str, goal.terms)), silent))
        else:
            others.append(describe(goal, ()))
    lines = [domain]
    for name in sorted({*now, *wanted}):
        aims = [">", *wanted[name]] if name in wanted else []
        lines.append(" ".join(["", *([name] if name else []), *now.get(name, []), *aims]))
    if others:
        lines.append(f"goal {' '.join(others)}")
    if problem.constraints:
        lines.append(f"constraints {' '.join(monitor.text() for monitor in problem.world.monitors)}")
    return "\n".join(lines)


def _said(fact: Sequence[str], silent: frozenset[str]) -> str:
    """A fact of an object that stands before it: ("at", "c0", "l4") is "l4", ("free", "robot1", "hand") "free hand"."""
    return " ".join(fact[2:] if fact[0] in silent and len(fact) == 3 else (fact[0], *fact[2:]))
