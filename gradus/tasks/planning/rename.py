"""Renaming of symbols to meaningless ones: does a policy plan, or does it know the words?

The renaming is one-to-one and the same in domain, problem and plan: a renamed plan is valid exactly when the plan is.
Keywords and ``object`` keep their names; comments are dropped, since they would tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal

from gradus.seeds import seed_of
from gradus.tasks.planning.formula import CHANGES, TOTAL_COST
from gradus.tasks.planning.pddl import Problem
from gradus.tasks.planning.plan import Action
from gradus.tasks.planning.scope import RESERVED

Level = Literal["objects", "all"]
_LETTERS, _DIGITS = "abcdefghijklmnopqrstuvwxyz", "0123456789"
_MODAL = {"always", "sometime", "at-most-once", "sometime-before", "sometime-after", "within", "always-within"}
_KEPT = {"object", "number", "define", "domain", "problem", "minimize", "maximize", "total-time", "end", "-"}
KEYWORDS = frozenset({*RESERVED, *CHANGES, *_MODAL, *_KEPT, TOTAL_COST})
_PIECE = re.compile(r";[^\n]*|[()]|[^()\s;]+|\s+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Renamed:
    """A problem in other words.

    Example:
        renamed = rename(problem, reference.actions, level="all", seed=0); renamed.mapping["pickup"]  # "q7d"
    """

    domain_text: str
    problem_text: str
    actions: tuple[Action, ...]
    mapping: Mapping[str, str]


def rename(problem: Problem, actions: Iterable[Action], *, level: Level, seed: int) -> Renamed:
    """Renames the objects, or all symbols, of a problem with its domain and a plan."""
    domain = problem.domain
    symbols = list(problem.objects)
    if level == "all":
        symbols += [*domain.types.parents, *domain.predicates, *domain.functions, *domain.actions]
        symbols += [domain.name, problem.name]
        pieces = _PIECE.findall(f"{domain.text}\n{problem.text}")
        symbols += [piece.lower() for piece in pieces if piece.startswith("?")]
    mapping = _mapping([name for name in dict.fromkeys(symbols) if name not in KEYWORDS], seed)
    return Renamed(
        domain_text=rewrite(domain.text, mapping),
        problem_text=rewrite(problem.text, mapping),
        actions=tuple(tuple(mapping.get(name, name) for name in action) for action in actions),
        mapping=mapping,
    )


def _mapping(symbols: list[str], seed: int) -> dict[str, str]:
    random = Random(seed_of("rename", seed))
    taken, mapping = {*symbols, *KEYWORDS}, {}
    for symbol in symbols:
        name = symbol
        while name in taken:
            length = random.randrange(3, 7)
            mark = "?" if symbol.startswith("?") else ""
            name = (
                mark + random.choice(_LETTERS) + "".join(random.choice(_LETTERS + _DIGITS) for _ in range(length - 1))
            )
        taken.add(name)
        mapping[symbol] = name
    return mapping


def rewrite(text: str, mapping: Mapping[str, str]) -> str:
    """PDDL or plan text with symbols exchanged and comments dropped; ``(at end ..)`` stays what it is."""
    pieces = [piece for piece in _PIECE.findall(text) if not piece.startswith(";")]
    words = [(place, piece.lower()) for place, piece in enumerate(pieces) if not piece.isspace()]
    following = [word for _, word in words[1:]] + ["", ""]
    for index, (place, word) in enumerate(words):
        if word != "at" or following[index : index + 2] != ["end", "("]:
            pieces[place] = mapping.get(word, pieces[place])
    return "".join(pieces)
