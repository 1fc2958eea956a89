"""Generated exercises with boxed answers, for a start without data. They are not competition problems, and say so in
their ids. A problem belongs to a split by a hash of its kind and its numbers.
"""

from __future__ import annotations

import math
import random
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import blake2b

from gradus.seeds import seed_of
from gradus.types import Split

MAX_STEPS = 4
MAX_TRIES = 20_000
"""Draws for one problem before no new one is thought to be left."""

Pick = Callable[[int, int], int]
"""A number between two bounds, both included."""


_DIGITS = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True)
class Exercise:
    """A finished problem.

    Example:
        Exercise("remainder", "number", (17, 5), "What is the remainder ...?", ("17 = 3 * 5 + 2",), "2")
    """

    kind: str
    subject: str
    numbers: tuple[int, ...]
    """What the split and the sameness of problems depend on."""
    problem: str
    lines: tuple[str, ...]
    """The steps, each true as it stands."""
    answer: str
    """What belongs into the box."""

    @property
    def largest(self) -> int:
        """The largest number written in problem, steps or answer, without its sign."""
        return max(map(int, _DIGITS.findall(" ".join((self.problem, *self.lines, self.answer)))))

    @property
    def solution(self) -> str:
        """Steps and boxed answer."""
        return "\n".join([*self.lines, f"The answer is $\\boxed{{{self.answer}}}$."])


def _fraction(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    sign = "-" if value < 0 else ""
    return rf"{sign}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def _signed(number: int) -> str:
    """``+ 3`` or ``- 3``."""
    return f"+ {number}" if number >= 0 else f"- {-number}"


def _linear(pick: Pick) -> Exercise:
    a, x, b = pick(2, 12), pick(-12, 12), pick(1, 30)
    c = a * x + b
    lines = (f"{a}x = {c} - {b} = {c - b}", f"x = {c - b} / {a} = {x}")
    return Exercise("linear", "algebra", (a, b, c), f"Solve ${a}x + {b} = {c}$ for $x$.", lines, str(x))


def _inequality(pick: Pick) -> Exercise:
    a, x, b = pick(2, 12), pick(-12, 12), pick(1, 30)
    c = a * x + b
    lines = (f"{a}x < {c} - {b} = {c - b}", f"x < {c - b} / {a} = {x}")
    return Exercise("inequality", "algebra", (a, b, c), f"Solve ${a}x + {b} < {c}$ for $x$.", lines, f"x < {x}")


def _expand(pick: Pick) -> Exercise:
    a, b = pick(1, 12), pick(1, 12)
    lines = (f"{a} + {b} = {a + b}", f"{a} * {b} = {a * b}")
    return Exercise("expand", "algebra", (a, b), f"Expand $(x + {a})(x + {b})$.", lines, f"x^2 + {a + b}x + {a * b}")


def _quadratic(pick: Pick) -> Exercise | None:
    a, b = pick(-9, 9), pick(-9, 9)
    if a >= b or 0 in (a, b, a + b):
        return None
    equation = f"x^2 {_signed(-(a + b))}x {_signed(a * b)} = 0"
    lines = (f"{a} + ({b}) = {a + b}", f"{a} * ({b}) = {a * b}", f"(x {_signed(-a)})(x {_signed(-b)}) = 0")
    return Exercise("quadratic", "algebra", (a, b), f"Find all solutions of ${equation}$.", lines, f"{a}, {b}")


def _evaluate(pick: Pick) -> Exercise:
    a, b, c, x = pick(1, 9), pick(1, 12), pick(1, 30), pick(2, 9)
    value = a * x * x + b * x + c
    lines = (
        f"{x} * {x} = {x * x}",
        f"{a} * {x * x} = {a * x * x}",
        f"{b} * {x} = {b * x}",
        f"{a * x * x} + {b * x} + {c} = {value}",
    )
    return Exercise(
        "evaluate", "algebra", (a, b, c, x), f"Let $f(x) = {a}x^2 + {b}x + {c}$. Find $f({x})$.", lines, str(value)
    )


def _sum_of_fractions(pick: Pick) -> Exercise | None:
    a, b, c, d = pick(1, 9), pick(2, 9), pick(1, 9), pick(2, 9)
    if b == d or math.gcd(a, b) > 1 or math.gcd(c, d) > 1:
        return None
    total = Fraction(a, b) + Fraction(c, d)
    top, bottom = a * d + c * b, b * d
    lines = (f"{a} * {d} + {c} * {b} = {top}", f"{b} * {d} = {bottom}", f"{top}/{bottom} = {total}")
    problem = rf"Compute $\frac{{{a}}}{{{b}}} + \frac{{{c}}}{{{d}}}$ as a fraction in lowest terms."
    return Exercise("sum of fractions", "number", (a, b, c, d), problem, lines, _fraction(total))


def _percent(pick: Pick) -> Exercise:
    p, n = pick(1, 19) * 5, pick(2, 40) * 20
    lines = (f"{p} * {n} = {p * n}", f"{p * n} / 100 = {p * n // 100}")
    return Exercise("percent", "number", (p, n), rf"What is ${p}\%$ of ${n}$?", lines, str(p * n // 100))


def _divisor(pick: Pick) -> Exercise:
    common, a, b = pick(2, 12), pick(2, 12), pick(2, 12)
    a, b = common * a, common * b
    lines = []
    x, y = max(a, b), min(a, b)
    while y and len(lines) < MAX_STEPS:
        lines.append(f"{x} = {x // y} * {y} + {x % y}")
        x, y = y, x % y
    problem = f"What is the greatest common divisor of ${a}$ and ${b}$?"
    return Exercise("divisor", "number", (a, b), problem, tuple(lines), str(math.gcd(a, b)))


def _remainder(pick: Pick) -> Exercise:
    a, m = pick(20, 400), pick(3, 19)
    lines = (f"{a} = {a // m} * {m} + {a % m}",)
    return Exercise(
        "remainder", "number", (a, m), f"What is the remainder when ${a}$ is divided by ${m}$?", lines, str(a % m)
    )


def _power(pick: Pick) -> Exercise:
    a, n = pick(2, 9), pick(2, 4)
    lines = tuple(f"{a**k} * {a} = {a ** (k + 1)}" for k in range(1, n))
    return Exercise("power", "number", (a, n), f"Compute ${a}^{n}$.", lines, str(a**n))


def _root(pick: Pick) -> Exercise | None:
    k, m = pick(2, 12), (2, 3, 5, 6, 7, 10)[pick(0, 5)]
    lines = (f"{k * k * m} = {k * k} * {m}", f"{k} * {k} = {k * k}")
    return Exercise("root", "number", (k, m), rf"Simplify $\sqrt{{{k * k * m}}}$.", lines, rf"{k}\sqrt{{{m}}}")


def _series(pick: Pick) -> Exercise:
    a, d, n = pick(1, 12), pick(1, 9), pick(3, 12)
    last = a + (n - 1) * d
    total = n * (a + last) // 2
    lines = (
        f"{n} - 1 = {n - 1}",
        f"{a} + {n - 1} * {d} = {last}",
        f"{a} + {last} = {a + last}",
        f"{n} * {a + last} / 2 = {total}",
    )
    problem = (
        f"An arithmetic sequence begins with ${a}, {a + d}, {a + 2 * d}$. What is the sum of its first ${n}$ terms?"
    )
    return Exercise("series", "number", (a, d, n), problem, lines, str(total))


def _triangle(pick: Pick) -> Exercise:
    a, h = pick(2, 40), pick(1, 20) * 2
    lines = (f"{a} * {h} = {a * h}", f"{a * h} / 2 = {a * h // 2}")
    problem = f"A triangle has a base of ${a}$ and a height of ${h}$. What is its area?"
    return Exercise("triangle", "geometry", (a, h), problem, lines, str(a * h // 2))


def _slope(pick: Pick) -> Exercise | None:
    a, b, c, d = pick(-9, 9), pick(-9, 9), pick(-9, 9), pick(-9, 9)
    if a == c or b == d:
        return None
    slope = Fraction(d - b, c - a)
    lines = (f"{d} - ({b}) = {d - b}", f"{c} - ({a}) = {c - a}", f"{d - b} / ({c - a}) = {slope}")
    problem = f"What is the slope of the line through $({a}, {b})$ and $({c}, {d})$?"
    return Exercise("slope", "geometry", (a, b, c, d), problem, lines, _fraction(slope))


def _midpoint(pick: Pick) -> Exercise:
    a, b = pick(-12, 12), pick(-12, 12)
    c, d = a + 2 * pick(1, 9), b + 2 * pick(1, 9)
    x, y = (a + c) // 2, (b + d) // 2
    lines = (f"({a} + ({c})) / 2 = {x}", f"({b} + ({d})) / 2 = {y}")
    problem = f"What is the midpoint of $({a}, {b})$ and $({c}, {d})$?"
    return Exercise("midpoint", "geometry", (a, b, c, d), problem, lines, f"({x}, {y})")


KINDS: dict[str, Callable[[Pick], Exercise | None]] = {
    "linear": _linear,
    "inequality": _inequality,
    "expand": _expand,
    "quadratic": _quadratic,
    "evaluate": _evaluate,
    "sum of fractions": _sum_of_fractions,
    "percent": _percent,
    "divisor": _divisor,
    "remainder": _remainder,
    "power": _power,
    "root": _root,
    "series": _series,
    "triangle": _triangle,
    "slope": _slope,
    "midpoint": _midpoint,
}
"""Each draws one exercise, or None where the numbers make none."""


def chosen(kinds: Sequence[str] | None) -> tuple[Callable[[Pick], Exercise | None], ...]:
    """What draws the named kinds, in the order of the table; None: all. ValueError for a name that is no kind."""
    if kinds is None:
        return tuple(KINDS.values())
    wrong = sorted(set(kinds) - set(KINDS))
    if wrong or not kinds:
        raise ValueError(f"kinds names {wrong[0]!r}; there are: {', '.join(KINDS)}" if wrong else "kinds is empty")
    return tuple(draw for name, draw in KINDS.items() if name in kinds)


def split_of(exercise: Exercise) -> Split:
    """2 % test, 2 % validation, by a hash of kind and numbers."""
    key = f"{exercise.kind}|{','.join(map(str, exercise.numbers))}".encode()
    share = int.from_bytes(blake2b(key, digest_size=4).digest(), "little") * 100 >> 32
    return "test" if share < 2 else "validation" if share < 4 else "train"


def draw(
    split: Split, count: int, *, seed: int = 0, kinds: Sequence[str] | None = None, max_number: int | None = None
) -> Iterator[Exercise]:
    """Yields up to ``count`` distinct exercises of a split and of ``kinds``, each from the seed of its index, with no
    number above ``max_number``."""
    draws = chosen(kinds)
    seen: set[tuple[str, tuple[int, ...]]] = set()
    for index in range(count):
        rng = random.Random(seed_of("math-generated", seed, split, index))
        exercise = _draw_one(rng, split, draws, max_number, seen)
        if exercise is None:
            warnings.warn(
                f"math: {count:,} generated {split} exercises asked for, {index:,} distinct ones found", stacklevel=2
            )
            return
        seen.add((exercise.kind, exercise.numbers))
        yield exercise


def _draw_one(
    rng: random.Random,
    split: Split,
    draws: Sequence[Callable[[Pick], Exercise | None]],
    max_number: int | None,
    seen: set[tuple[str, tuple[int, ...]]],
) -> Exercise | None:
    for _ in range(MAX_TRIES):
        kind = draws[int(rng.random() * len(draws))]
        exercise = kind(lambda low, high: low + int(rng.random() * (high - low + 1)))
        if exercise is None or (max_number is not None and exercise.largest > max_number):
            continue
        if split_of(exercise) == split and (exercise.kind, exercise.numbers) not in seen:
            return exercise
    return None
