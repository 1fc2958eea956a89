r"""Golds of many kinds, and rewrites of a gold that keep or break its meaning: pairs whose right answer is known.

A rewrite is a function from (gold, random generator) to a text, or None where it does not apply. What a rewrite may
touch is found by strict patterns, so that "keeps" and "breaks" are true by construction.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from fractions import Fraction

Rewrite = Callable[[str, random.Random], str | None]

_INTEGER = re.compile(r"-?[0-9]+")
_DECIMAL = re.compile(r"-?[0-9]+\.[0-9]+")
_FRACTION = re.compile(r"-?\\frac\{[0-9]+\}\{[0-9]+\}")
_INNER_FRACTION = re.compile(r"\\frac\{([0-9]+)\}\{([0-9]+)\}")
_LITERAL = re.compile(r"(?<![0-9._^{\\])(?<!\^\{)(?<!_\{)[1-9][0-9]*(?![0-9.])")
_PAIR = re.compile(r"([(\[])([^()\[\],;=]+),([^()\[\],;=]+)([)\]])")


def is_number(gold: str) -> bool:
    """Whether the gold is one plain number, as a literal or as a fraction."""
    return any(pattern.fullmatch(gold) for pattern in (_INTEGER, _DECIMAL, _FRACTION))


def value(gold: str) -> Fraction:
    """Value of a plain number."""
    if match := _INNER_FRACTION.search(gold):
        return (-1 if gold.startswith("-") else 1) * Fraction(int(match[1]), int(match[2]))
    return Fraction(gold)


_NO_EXPRESSION = re.compile(
    r"[,;=<>:\[\]%$°]|\\(?:le|leq|leqslant|ge|geq|geqslant|ne|neq|in|cup|pm|text|mathrm|infty|begin|[{} ]|oslash|propto"
    r"|circ|mathbb)(?![a-z])|(?<!\\)\b[A-Za-z]{3,}"
)


def is_expression(gold: str) -> bool:
    """Whether the gold is one value: no list, relation, label, bracketed group, unit or text."""
    return bool(gold) and not _NO_EXPRESSION.search(gold)


# ---------------------------------------------------------------- rewrites that keep the meaning


def blanks(gold: str, rng: random.Random) -> str | None:
    """Blanks around operators and inside brackets."""
    if re.search(r"\\(?:text|mathrm)|[A-Za-z]{3,} ", gold):
        return None
    return re.sub(r"([+=(])(?!\})", lambda match: match[1] + " " * rng.randint(1, 2), gold)


def no_blanks(gold: str, rng: random.Random) -> str | None:
    """All blanks removed that do not end a macro or separate words or digits."""
    if re.search(r"\\(?:text|mathrm| )|[A-Za-z]{2,} [A-Za-z]", gold):
        return None
    return re.sub(r"(?<![A-Za-z0-9,]) | (?![A-Za-z0-9])", "", gold)


def dollars(gold: str, rng: random.Random) -> str | None:
    return rng.choice(["${}$", r"\({}\)", r"\[{}\]", "$${}$$"]).format(gold)


def final_dot(gold: str, rng: random.Random) -> str | None:
    return gold + rng.choice([".", ",", " ."])


def braces(gold: str, rng: random.Random) -> str | None:
    return "{" + gold + "}"


def boxed(gold: str, rng: random.Random) -> str | None:
    return r"\boxed{" + gold + "}"


def dfrac(gold: str, rng: random.Random) -> str | None:
    return gold.replace(r"\frac", rng.choice([r"\dfrac", r"\tfrac", r"\cfrac"])) if r"\frac" in gold else None


def short_frac(gold: str, rng: random.Random) -> str | None:
    """``\\frac{1}{2}`` as ``\\frac12``."""
    short = re.sub(r"\\frac\{([0-9])\}\{([0-9])\}(?![0-9])", r"\\frac\1\2", gold)
    return short if short != gold else None


def slash(gold: str, rng: random.Random) -> str | None:
    return re.sub(r"\\frac\{([0-9]+)\}\{([0-9]+)\}", r"\1/\2", gold) if _FRACTION.fullmatch(gold) else None


def left_right(gold: str, rng: random.Random) -> str | None:
    if "(" not in gold or r"\left" in gold or gold.count("(") != gold.count(")"):
        return None
    return gold.replace("(", r"\left(").replace(")", r"\right)")


def labelled(gold: str, rng: random.Random) -> str | None:
    """``x =`` in front, for a letter that does not occur."""
    if not is_expression(gold):
        return None
    letter = next(letter for letter in "wzkq" if letter not in gold)
    return rng.choice([f"{letter} = {gold}", f"{letter}={gold}"])


def unit(gold: str, rng: random.Random) -> str | None:
    if not is_number(gold):
        return None
    return gold + rng.choice(
        [r"\text{ cm}", " dollars", r"\text{ square units}", r"\mathrm{~m}^2", " apples", r"\,\text{kg}"]
    )


def groups(gold: str, rng: random.Random) -> str | None:
    if not _INTEGER.fullmatch(gold) or abs(int(gold)) < 1000:
        return None
    mark = rng.choice([",", "{,}", r"\,", r",\!"])
    return f"{int(gold):,}".replace(",", mark)


def scaled(gold: str, rng: random.Random) -> str | None:
    """A fraction with top and bottom multiplied."""
    if not _INNER_FRACTION.search(gold) or re.search(r"[0-9]\s*\\frac", gold):
        return None
    factor = rng.randint(2, 9)
    return _INNER_FRACTION.sub(
        lambda match: rf"\frac{{{int(match[1]) * factor}}}{{{int(match[2]) * factor}}}", gold, count=1
    )


def decimal(gold: str, rng: random.Random) -> str | None:
    """A terminating decimal for a fraction, or a final zero for a decimal."""
    if _DECIMAL.fullmatch(gold):
        return gold + "0"
    if not is_number(gold) or "frac" not in gold:
        return None
    number = value(gold)
    digits = next((digits for digits in range(1, 9) if (number * 10**digits).denominator == 1), None)
    return None if digits is None else f"{float(number):.{digits}f}"


def swapped_sum(gold: str, rng: random.Random) -> str | None:
    """``a + b`` as ``b + a``."""
    match = re.fullmatch(r"([^-+()/|]+)\+([^-+()/|]+)", gold)
    if not match or not is_expression(gold) or match[1].count("{") != match[1].count("}"):
        return None
    return f"{match[2]}+{match[1]}"


def reordered(gold: str, rng: random.Random) -> str | None:
    """A plain list or a set of numbers from its end."""
    opened = gold.startswith(r"\{")
    inside = gold[2:-2] if opened else gold
    parts = [part.strip() for part in inside.split(",")]
    if len(parts) < 2 or not all(is_number(part) for part in parts) or re.search(r",[0-9]{3}(?![0-9])", inside):
        return None
    listed = ", ".join(reversed(parts))
    return rf"\{{{listed}\}}" if opened else listed


KEEPING: dict[str, Rewrite] = {
    function.__name__: function
    for function in (
        blanks, no_blanks, dollars, final_dot, braces, boxed, dfrac, short_frac, slash, left_right, labelled, unit,
        groups, scaled, decimal, swapped_sum, reordered,
    )
}  # fmt: skip


# ---------------------------------------------------------------- rewrites that break it


def _change_literal(gold: str, rng: random.Random, change: Callable[[str], str]) -> str | None:
    """One number of the gold replaced; never in an index, an exponent or text."""
    if re.search(r"\\(?:text|mathrm|ldots)|[A-Za-z]{3,} |x=0|[0-9]\^\{?0", gold) or gold == "0":
        return None
    spots = list(_LITERAL.finditer(gold))
    if not spots:
        return None
    spot = rng.choice(spots)
    return gold[: spot.start()] + change(spot[0]) + gold[spot.end() :]


def plus_one(gold: str, rng: random.Random) -> str | None:
    return _change_literal(gold, rng, lambda digits: str(int(digits) + 1))


def other_digit(gold: str, rng: random.Random) -> str | None:
    def change(digits: str) -> str:
        at = rng.randrange(len(digits))
        return digits[:at] + rng.choice([digit for digit in "123456789" if digit != digits[at]]) + digits[at + 1 :]

    return _change_literal(gold, rng, change)


def times_ten(gold: str, rng: random.Random) -> str | None:
    return _change_literal(gold, rng, lambda digits: digits + "0")


def sign(gold: str, rng: random.Random) -> str | None:
    """The opposite number or expression."""
    if not is_expression(gold) or "|" in gold or not re.search(r"[1-9]|[A-Za-z]", gold):
        return None
    return gold[1:] if re.fullmatch(r"-[^+-]+", gold) else f"-({gold})"


def over_hundred(gold: str, rng: random.Random) -> str | None:
    if not is_number(gold) or value(gold) == 0:
        return None
    number = value(gold) / 100
    return rf"\frac{{{number.numerator}}}{{{number.denominator}}}"


def listed(gold: str, rng: random.Random) -> str | None:
    return f"{gold}, 98765" if is_expression(gold) else None


def hedged(gold: str, rng: random.Random) -> str | None:
    return f"{gold} or 98765" if is_expression(gold) else None


def not_equal(gold: str, rng: random.Random) -> str | None:
    return rf"\neq {gold}" if is_expression(gold) else None


def greater(gold: str, rng: random.Random) -> str | None:
    return f"> {gold}" if is_expression(gold) else None


def negated(gold: str, rng: random.Random) -> str | None:
    return f"not {gold}" if is_expression(gold) else None


def swapped_pair(gold: str, rng: random.Random) -> str | None:
    match = _PAIR.fullmatch(gold)
    if not match or match[2].strip() == match[3].strip():
        return None
    return f"{match[1]}{match[3]},{match[2]}{match[4]}"


def other_bracket(gold: str, rng: random.Random) -> str | None:
    match = _PAIR.fullmatch(gold)
    if not match:
        return None
    opening, closing = match[1], match[4]
    if rng.random() < 0.5:
        opening = "[" if opening == "(" else "("
    else:
        closing = "]" if closing == ")" else ")"
    return f"{opening}{match[2]},{match[3]}{closing}"


def one_missing(gold: str, rng: random.Random) -> str | None:
    """A plain list without its last value."""
    parts = [part.strip() for part in gold.split(",")]
    is_list = len(parts) > 1 and all(is_number(part) for part in parts) and len(set(map(value, parts))) == len(parts)
    return None if not is_list or re.search(r",[0-9]{3}(?![0-9])", gold) else ", ".join(parts[:-1])


BREAKING: dict[str, Rewrite] = {
    function.__name__: function
    for function in (
        plus_one, other_digit, times_ten, sign, over_hundred, listed, hedged, not_equal, greater, negated, swapped_pair,
        other_bracket, one_missing,
    )
}  # fmt: skip


# ---------------------------------------------------------------- golds


def generated_golds(count: int, seed: int = 0) -> Iterator[str]:
    """Golds of all kinds in about the shares of competition problems."""
    rng = random.Random(seed)
    for _ in range(count):
        yield rng.choice(_MAKERS)(rng)


def _int(rng: random.Random) -> str:
    return str(
        rng.choice([1, 1, -1]) * rng.choice([rng.randint(1, 20), rng.randint(1, 999), rng.randint(1000, 99_999_999)])
    )


def _decimal(rng: random.Random) -> str:
    return f"{rng.choice(['', '-'])}{rng.randint(0, 400)}.{rng.randint(1, 999)}"


def _frac(rng: random.Random) -> str:
    bottom = rng.choice([2, 3, 4, 5, 7, 8, 9, 11, 12, 16, 20, 25, 36, 125])
    top = rng.choice([n for n in range(1, 60) if n % bottom])
    return f"{rng.choice(['', '', '-'])}\\frac{{{top}}}{{{bottom}}}"


def _surd(rng: random.Random) -> str:
    root = rng.choice([2, 3, 5, 6, 7, 10, 11, 13])
    head = rng.choice(
        ["", str(rng.randint(2, 40)), f"{rng.randint(1, 30)}+", f"{rng.randint(1, 30)}-{rng.randint(2, 9)}"]
    )
    body = head + rf"\sqrt{{{root}}}"
    return rf"\frac{{{body}}}{{{rng.randint(2, 30)}}}" if rng.random() < 0.4 else body


def _pi(rng: random.Random) -> str:
    return rng.choice(
        [
            rf"{rng.randint(2, 90)}\pi",
            rf"\frac{{{rng.randint(2, 9)}\pi}}{{{rng.choice([5, 7, 11, 13])}}}",
            r"\frac{\pi}{6}",
        ]
    )


def _polynomial(rng: random.Random) -> str:
    letter = rng.choice("xyntp")
    a, b, c = rng.randint(2, 30), rng.randint(2, 30), rng.randint(1, 99)
    return f"{a}{letter}^{{2}}{rng.choice('+-')}{b}{letter}{rng.choice('+-')}{c}"


def _rational(rng: random.Random) -> str:
    return rf"\frac{{{rng.randint(2, 20)}x{rng.choice('+-')}{rng.randint(1, 20)}}}{{x^{{2}}+{rng.randint(1, 50)}}}"


def _tuple(rng: random.Random) -> str:
    parts = rng.sample([_int(rng), _frac(rng), _surd(rng), _pi(rng), _decimal(rng)], rng.choice([2, 2, 3]))
    return "(" + ",".join(parts) + ")"


def _list(rng: random.Random) -> str:
    return ", ".join(str(number) for number in rng.sample(range(-40, 99), rng.randint(2, 4)))


def _set(rng: random.Random) -> str:
    return rf"\{{{_list(rng)}\}}"


def _interval(rng: random.Random) -> str:
    low = rng.randint(-40, 40)
    return f"{rng.choice('([')}{low},{low + rng.randint(1, 50)}{rng.choice(')]')}"


def _union(rng: random.Random) -> str:
    low = rng.randint(-40, 40)
    return rf"(-\infty,{low}{rng.choice(')]')} \cup {rng.choice('([')}{low + rng.randint(1, 50)},\infty)"


def _relation(rng: random.Random) -> str:
    return f"x {rng.choice(['<', '>', chr(92) + 'le', chr(92) + 'ge'])} {_frac(rng)}"


def _equation(rng: random.Random) -> str:
    return f"y = {rng.randint(2, 30)}x {rng.choice('+-')} {rng.randint(1, 30)}"


def _circle(rng: random.Random) -> str:
    return f"x^{{2}} + {rng.randint(2, 9)}y^{{2}} = {rng.randint(1, 99)}"


def _matrix(rng: random.Random) -> str:
    cells = [str(rng.randint(-20, 20)) for _ in range(4)]
    return rf"\begin{{pmatrix}} {cells[0]} & {cells[1]} \\ {cells[2]} & {cells[3]} \end{{pmatrix}}"


def _plus_minus(rng: random.Random) -> str:
    return rng.choice([rf"\pm {rng.randint(1, 30)}", rf"{rng.randint(1, 30)} \pm \sqrt{{{rng.choice([2, 3, 5, 7])}}}"])


def _power(rng: random.Random) -> str:
    base = rng.randint(2, 9)
    forms = [rf"{base}^{{{rng.randint(2, 60)}}}", rf"{base}e^{{{rng.randint(2, 9)}}}", rf"\ln {rng.randint(2, 30)}"]
    return rng.choice(forms)


_MAKERS = (
    [_int] * 10 + [_decimal] * 2 + [_frac] * 5 + [_surd] * 3 + [_pi] * 2 + [_polynomial] * 3 + [_rational] * 2
    + [_tuple] * 2 + [_list] * 2 + [_set, _interval, _union, _relation, _equation, _circle, _matrix, _plus_minus, _power]
)  # fmt: skip


def pairs(golds: Iterator[str], seed: int = 0) -> Iterator[tuple[str, str, bool, str]]:
    """(gold, rewritten, is it equal, name of the rewrite) for every rewrite that applies."""
    rng = random.Random(seed)
    for gold in golds:
        for is_equal, rewrites in ((True, KEEPING), (False, BREAKING)):
            for name, rewrite in rewrites.items():
                text = rewrite(gold, rng)
                if text is not None and text != gold:
                    yield gold, text, is_equal, name
