"""Synthetic word problems, drawn from templates by a seed. They are not GSM8K, and say so in their ids.

Every intermediate result is an integer between 0 and 10,000. A problem belongs to a split by a hash of its template and
its numbers, so that no other name or object can bring a held-out problem into training.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from hashlib import blake2b
from typing import NamedTuple

from gradus.seeds import seed_of
from gradus.tasks.gsm8k.templates import NAMES, OBJECTS, TEMPLATES, Numbers, Template
from gradus.types import Split

MAX_VALUE = 10_000
MAX_STEPS = 4
MAX_TRIES = 20_000
"""Draws for one problem before no new one is thought to be left."""


class Exercise(NamedTuple):
    """A finished problem."""

    template: str
    question: str
    answer: str
    """Rationale and ``#### number``, as in GSM8K."""
    num_steps: int


def solve(template: Template, numbers: Numbers) -> Numbers | None:
    """All results by name, or None where one is no integer in range."""
    known = dict(numbers)
    for result, left, operator, right in template.steps:
        a, b = known[left], known[right]
        if operator == "/" and a % b:
            return None
        known[result] = {"+": a + b, "-": a - b, "*": a * b, "/": a // b if operator == "/" else 0}[operator]
        if not 0 <= known[result] <= MAX_VALUE:
            return None
    return known


def split_of(template: Template, numbers: Numbers) -> Split:
    """2 % test, 2 % validation, by a hash of the template and its numbers."""
    key = f"{template.name}|{','.join(f'{name}={numbers[name]}' for name in sorted(numbers))}".encode()
    share = int.from_bytes(blake2b(key, digest_size=4).digest(), "little") * 100 >> 32
    return "test" if share < 2 else "validation" if share < 4 else "train"


def draw(
    split: Split,
    count: int,
    *,
    seed: int = 0,
    language: str = "en",
    max_steps: int = MAX_STEPS,
    max_number: int = MAX_VALUE,
) -> Iterator[Exercise]:
    """Yields up to ``count`` distinct problems of a split, each from the seed of its index: of at most ``max_steps``
    calculations, with no number or result above ``max_number``."""
    templates = [template for template in TEMPLATES if len(template.steps) <= max_steps]
    seen: set[tuple[str, ...]] = set()
    for index in range(count):
        rng = random.Random(seed_of("gsm8k-synthetic", seed, split, index))
        for _ in range(MAX_TRIES):
            template = templates[int(rng.random() * len(templates))]
            numbers = template.draw(lambda low, high, rng=rng: low + int(rng.random() * (high - low + 1)))
            key = (template.name, *(f"{name}={value}" for name, value in sorted(numbers.items())))
            known = solve(template, numbers)
            is_fit = known is not None and max(known.values()) <= max_number
            if is_fit and key not in seen and split_of(template, numbers) == split:
                break
        else:
            warnings.warn(
                f"gsm8k: {count:,} synthetic {split} problems asked for, {index:,} distinct ones found", stacklevel=2
            )
            return
        seen.add(key)
        assert known is not None
        yield _write(template, known, rng, language)


def _write(template: Template, known: Numbers, rng: random.Random, language: str) -> Exercise:
    column = 0 if language == "en" else 1
    first, second = _two(rng, NAMES)
    one, other = _two(rng, OBJECTS)
    places = {**known, "x": first[column], "y": second[column], "o": one[column], "q": other[column]}
    lines = []
    for (result, left, operator, right), line in zip(template.steps, template.lines[language], strict=True):
        step = f"{known[left]} {operator} {known[right]} = {known[result]}"
        lines.append(line.format(step=step, **places))
    answer = "\n".join([*lines, f"#### {known[template.steps[-1][0]]}"])
    return Exercise(template.name, template.question[language].format(**places), answer, len(template.steps))


def _two(rng: random.Random, table: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], tuple[str, str]]:
    """Two different rows of a table."""
    first = int(rng.random() * len(table))
    second = (first + 1 + int(rng.random() * (len(table) - 1))) % len(table)
    return table[first], table[second]
