"""A fingerprint of a problem that does not depend on the names of its objects, and the split that follows from it.

Colour refinement: objects start with the colour of their type (constants with their name) and take, round by round, the
colours of everything they stand together with in facts, goals and constraints, until the classes no longer split. Two
problems that differ by a renaming have the same fingerprint and therefore fall into the same split; that a few
different ones share one too only makes the splits stricter.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

from gradus.tasks.planning.formula import describe
from gradus.tasks.planning.pddl import Problem
from gradus.types import Split

SHARES: Mapping[Split, float] = {"train": 0.8, "validation": 0.1, "test": 0.1}
"""Parts of all instances; every fingerprint belongs to exactly one."""

Link = tuple[str, tuple[str, ...]]
"""What is said (with objects taken out) and the objects it is said of, in order."""


def fingerprint(problem: Problem) -> str:
    """32 hexadecimal digits."""
    links = _links(problem)
    colours = {
        name: _hash("constant", name) if name in problem.domain.constants else _hash("type", kind)
        for name, kind in problem.objects.items()
    }
    num_classes = len(set(colours.values()))
    for _ in colours:
        views: dict[str, list[str]] = {name: [] for name in colours}
        for text, names in links:
            seen = "|".join(colours[name] for name in names)
            for place, name in enumerate(names):
                views[name].append(f"{text}:{place}:{seen}")
        colours = {name: _hash(colours[name], *sorted(views[name])) for name in colours}
        before, num_classes = num_classes, len(set(colours.values()))
        if num_classes == before:
            break
    said = sorted(f"{text}:{'|'.join(colours[name] for name in names)}" for text, names in links)
    return _hash(problem.domain.name, *sorted(colours.values()), *said)


def _links(problem: Problem) -> list[Link]:
    links: list[Link] = [(f"fact {fact[0]}", fact[1:]) for fact in problem.facts]
    links += [(f"value {key[0]} {value}", key[1:]) for key, value in problem.numbers.items()]
    texts = [("goal", describe(goal, ())) for goal in problem.goals]
    for constraint in problem.constraints:
        head = f"{constraint.operator} {constraint.bound} {constraint.variables.types}"
        texts += [(head, describe(formula, ())) for formula in constraint.formulas]
    for head, text in texts:
        words = text.replace("(", " ( ").replace(")", " ) ").split()
        names = tuple(word for word in words if word in problem.objects)
        links.append((f"{head} {' '.join('*' if word in problem.objects else word for word in words)}", names))
    return links


def _hash(*parts: str) -> str:
    return blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()


def split_of(fingerprint: str, shares: Mapping[Split, float] = SHARES) -> Split:
    """The split that a fingerprint belongs to: its first 52 bits as a fraction, against the shares in their order."""
    place = int(fingerprint[:13], 16) / 2**52 * sum(shares.values())
    for split, share in shares.items():
        if place < share:
            return split
        place -= share
    return next(reversed(list(shares)))
