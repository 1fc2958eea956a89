"""Trees to numbers: are two expressions equal? 80 digits at fixed points, pure Python (mpmath), imported at first use.

Variables take fixed values made from their names, so that a tree can be evaluated before its partner is known. First in
the reals: a point where a side is undefined (an even root or a logarithm of a negative number) decides nothing, so
1/sqrt(n) equals sqrt(1/n), but sqrt(x^2) is not x. Where fewer than two real points are left, in the complex numbers.
"""

from __future__ import annotations

import hashlib
import threading
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

from gradus.tasks.algebra.trees import MAX_EXPONENT, MAX_FACTORIAL, Call, Node, Refusal, Symbol, symbols, walk

DIGITS = 80
"""Working precision."""
MAX_ANGLE = 100_000_000
MAX_CONSTANT_DIGITS = 40
"""Numbers inside an irrational expression may not be longer: two of them could agree to the working precision."""
POSITIVE_POINTS = (0, 1, 3)
"""Points at which all variables are positive; enough for what has no branches."""
ALL_POINTS = (0, 1, 2, 3, 4, 5)
_SAME = 50
"""Values are equal if they agree to so many digits."""
_CANCELLED = 60
"""A sum that is smaller than its terms by so many digits is 0."""
_MPMATH = {"arcsin": "asin", "arccos": "acos", "arctan": "atan", "arccot": "acot"} | {
    name: name for name in "abs floor ceil ! binom ln log lg sin cos tan cot sec csc sinh cosh tanh coth".split()
}
"""Operations that have a value, and mpmath's names for those that are computed there as they are."""
_BRANCHED = frozenset("root abs ln log lg floor ceil ! binom arcsin arccos arctan arccot".split())
_local = threading.local()


class Undefined(ArithmeticError):
    """The expression has no value here."""


def context() -> Any:
    """This thread's own mpmath context: mpmath changes its precision while it works, so threads must not share one."""
    if not hasattr(_local, "context"):
        import mpmath

        _local.context = mpmath.mp.clone()
        _local.context.dps = DIGITS
        _local.same = _local.context.mpf(10) ** -_SAME
        _local.cancelled = _local.context.mpf(10) ** -_CANCELLED
    return _local.context


class Facts(NamedTuple):
    """What one walk over a tree shows."""

    is_branched: bool
    """Agreement at positive points says nothing about negative ones: roots, absolute values, logarithms."""
    has_bare_log: bool
    """A logarithm without a base occurs."""
    has_i: bool
    is_long: bool
    """A number is too long to be told apart numerically from its neighbours."""


@lru_cache(maxsize=8_192)
def facts(node: Node) -> Facts:
    """Looks at every node once."""
    is_branched = has_bare_log = has_i = is_long = False
    for part in walk(node):
        if isinstance(part, Call):
            is_branched |= part.op in _BRANCHED or (part.op == "^" and not isinstance(part.args[1], int))
            has_bare_log |= part.op == "log" and len(part.args) == 1
            has_i |= part.op == "i"
        elif isinstance(part, (int, Fraction)):
            is_long |= max(abs(part.numerator), part.denominator) >= 10**MAX_CONSTANT_DIGITS
    return Facts(is_branched, has_bare_log, has_i, is_long)


def check_constants(node: Node) -> None:
    """Refuses numbers that are too long to be told apart numerically."""
    if facts(node).is_long:
        raise Refusal("too_large")


def is_same(left: Any, right: Any) -> bool:
    """Whether two values agree to 50 digits."""
    context()
    return abs(left - right) <= _local.same * max(abs(left), abs(right))


@lru_cache(maxsize=4_096)
def _coordinate(name: str, point: int) -> Fraction:
    """Value of a variable at a point: generic in a range that depends on the point; sign by the place of the letter
    in the alphabet at points 2 and 4, so that variables change sign apart; all negative at point 5."""
    seed = int.from_bytes(hashlib.blake2b(f"{point}:{name}".encode(), digest_size=24).digest(), "big")
    share = Fraction(seed, 2**192)
    low, high = ((0.1, 0.9), (1.1, 2.9), (0.2, 1.9), (4, 9), (1.2, 4.1), (0.1, 0.9))[point]
    value = Fraction(low) + share * (Fraction(high) - Fraction(low))
    letter = ord(name.lstrip("\\")[:1] or "a")
    is_negative = point == 5 or (point == 2 and letter % 2 == 0) or (point == 4 and letter // 2 % 2 == 1)
    return -value if is_negative else value


def evaluate(node: Node, point: int | None = None, *, is_complex: bool = False, is_log_natural: bool = False) -> Any:
    """Value of a tree (mpf or mpc). ``Undefined`` where there is none, ``Refusal`` over a limit.

    ``point`` None: constants only. ``is_log_natural`` is the base of a bare ``\\log``.
    """
    value = _evaluate(node, point, is_complex, is_log_natural)
    if value is None:
        raise Undefined
    return value


@lru_cache(maxsize=16_384)
def _evaluate(node: Node, point: int | None, is_complex: bool, is_log_natural: bool) -> Any | None:
    """The same; None where undefined. Cached: a gold meets many answers, an element of a list many others."""
    ctx = context()
    try:
        value = _Evaluation(ctx, point, is_complex, is_log_natural).value(node)
    except Refusal:
        raise
    except (ArithmeticError, ValueError):
        return None
    return value if ctx.isfinite(value) else None


class _Evaluation:
    """One walk over one tree."""

    def __init__(self, ctx: Any, point: int | None, is_complex: bool, is_log_natural: bool) -> None:
        self.ctx = ctx
        self.point = point
        self.is_complex = is_complex
        self.is_log_natural = is_log_natural

    def value(self, node: Node) -> Any:
        ctx = self.ctx
        if isinstance(node, int):
            return ctx.mpf(node)
        if isinstance(node, Fraction):
            return ctx.mpf(node.numerator) / node.denominator
        if isinstance(node, Symbol):
            if self.point is None:
                raise Undefined(node.name)
            return self.value(_coordinate(node.name, self.point))
        op = node.op
        if op == "+":
            return self.sum([self.value(arg) for arg in node.args])
        if op == "*":
            return self.value(node.args[0]) * self.value(node.args[1])
        if op == "/":
            return self.value(node.args[0]) / self.value(node.args[1])
        if op == "^":
            return self.power(node.args[0], node.args[1])
        if op == "root":
            return self.root(self.value(node.args[1]), 1, int(node.args[0]))  # type: ignore[arg-type]
        if op in ("pi", "e"):
            return +getattr(ctx, op)
        if op == "i":
            if not self.is_complex:
                raise Undefined("i")
            return ctx.mpc(0, 1)
        return self.function(op, [self.value(arg) for arg in node.args])

    def sum(self, terms: list[Any]) -> Any:
        total = sum(terms[1:], terms[0])
        return self.ctx.zero if abs(total) <= _local.cancelled * max(map(abs, terms)) else total

    def power(self, base: Node, exponent: Node) -> Any:
        value = self.value(base)
        if isinstance(exponent, int):
            return value**exponent
        if isinstance(exponent, Fraction):
            return self.root(value, exponent.numerator, exponent.denominator)
        above = self.value(exponent)
        if abs(above) > MAX_EXPONENT:
            raise Refusal("too_large")
        if value == 0:
            raise Undefined("0 to a power that is not a number")
        if not self.is_complex and value < 0:
            raise Undefined("power of a negative number")
        return self.ctx.exp(above * self.ctx.log(value))

    def root(self, value: Any, top: int, bottom: int) -> Any:
        """value^(top/bottom); odd roots of negative reals are real."""
        ctx = self.ctx
        if value == 0:
            if top < 0:
                raise Undefined("division by zero")
            return value
        is_real = not isinstance(value, ctx.mpc) or value.imag == 0
        if is_real and ctx.re(value) < 0:
            if bottom % 2:
                return (-1) ** (top % 2) * ctx.root(-ctx.re(value), bottom) ** top
            if not self.is_complex:
                raise Undefined("even root of a negative number")
        return ctx.root(value, bottom) ** top

    def function(self, op: str, args: list[Any]) -> Any:
        ctx = self.ctx
        if op not in _MPMATH:  # infinity, or a sign that stands for two
            raise Refusal("unsupported")
        arg = args[0]
        if op == "abs":
            return abs(arg)
        if op in ("floor", "ceil"):
            return self.rounded(op, arg)
        if op in ("!", "binom"):
            return self.gamma(op, args)
        if op in ("ln", "log", "lg"):
            return self.log(op, args)
        if op in ("sin", "cos", "tan", "cot", "sec", "csc"):
            if abs(arg) > MAX_ANGLE:
                raise Refusal("too_large")
            return self.angle(op, arg)
        if op in ("arcsin", "arccos") and not self.is_complex and abs(arg) > 1:
            raise Undefined(op)
        if op in ("sinh", "cosh", "tanh", "coth") and abs(arg) > MAX_EXPONENT:
            raise Refusal("too_large")
        return getattr(ctx, _MPMATH[op])(arg)

    def angle(self, op: str, arg: Any) -> Any:
        """Trigonometric functions; sines and cosines that are noise are 0, so that tan 90 degrees is undefined."""
        ctx = self.ctx
        noise = _local.cancelled * max(1, abs(arg))
        sine, cosine = (value if abs(value) > noise else ctx.zero for value in (ctx.sin(arg), ctx.cos(arg)))
        if op == "sin":
            return sine
        if op == "cos":
            return cosine
        top, bottom = {"tan": (sine, cosine), "cot": (cosine, sine), "sec": (1, cosine), "csc": (1, sine)}[op]
        return top / bottom

    def log(self, op: str, args: list[Any]) -> Any:
        ctx = self.ctx
        for arg in args:
            if arg == 0 or (not self.is_complex and arg < 0):
                raise Undefined(op)
        if len(args) == 2:
            return ctx.log(args[0]) / ctx.log(args[1])
        value = ctx.log(args[0])
        return value if op == "ln" or (op == "log" and self.is_log_natural) else value / ctx.log(10)

    def rounded(self, op: str, arg: Any) -> Any:
        ctx = self.ctx
        if isinstance(arg, ctx.mpc):
            raise Undefined(op)
        nearest = ctx.nint(arg)
        if abs(arg - nearest) <= _local.same * max(1, abs(arg)):
            return nearest
        return ctx.floor(arg) if op == "floor" else ctx.ceil(arg)

    def gamma(self, op: str, args: list[Any]) -> Any:
        ctx = self.ctx
        if any(abs(arg) > MAX_FACTORIAL for arg in args):
            raise Refusal("too_large")
        if op == "!":
            return ctx.gamma(args[0] + 1)
        return ctx.gamma(args[0] + 1) / (ctx.gamma(args[1] + 1) * ctx.gamma(args[0] - args[1] + 1))


def equal(left: Node, right: Node) -> bool:
    """Whether two expressions agree wherever both are defined. ``Refusal("unsupported")`` where that is too seldom."""
    check_constants(left)
    check_constants(right)
    if _agree(left, right, is_log_natural=False):
        return True
    return facts(left).has_bare_log and facts(right).has_bare_log and _agree(left, right, is_log_natural=True)


def _agree(left: Node, right: Node, *, is_log_natural: bool) -> bool:
    names = symbols(left) | symbols(right)
    if not names:
        values = [evaluate_constant(node, is_log_natural=is_log_natural) for node in (left, right)]
        return is_same(*values)
    is_branched = facts(left).is_branched or facts(right).is_branched
    for is_complex in (False, True):
        points = POSITIVE_POINTS if is_complex or not is_branched else ALL_POINTS
        num_defined = 0
        for point in points:
            try:
                how = {"is_complex": is_complex, "is_log_natural": is_log_natural}
                first, second = evaluate(left, point, **how), evaluate(right, point, **how)
            except Undefined:
                continue
            if not is_same(first, second):
                return False
            num_defined += 1
        if num_defined >= 2:
            return True
    raise Refusal("unsupported")


def evaluate_constant(node: Node, *, is_log_natural: bool = False) -> Any:
    """Value of a tree without variables: real if it can be, else complex. ``Refusal`` where it has none."""
    for is_complex in (False, True):
        try:
            return evaluate(node, is_complex=is_complex, is_log_natural=is_log_natural)
        except Undefined:
            continue
    raise Refusal("unsupported")


def proportion(left: Node, right: Node) -> Any | None:
    """The constant c with left = c · right at all points, or None; with one, the equations to 0 are one."""
    check_constants(left)
    check_constants(right)
    ratio = None
    num_points = 0
    is_complex = facts(left).has_i or facts(right).has_i
    for point in ALL_POINTS:
        try:
            first, second = (evaluate(node, point, is_complex=is_complex) for node in (left, right))
        except Undefined:
            continue
        if first == 0 and second == 0:
            continue
        if first == 0 or second == 0:
            return None
        if ratio is not None and not is_same(first / second, ratio):
            return None
        ratio = first / second
        num_points += 1
    if num_points < 2:
        raise Refusal("unsupported")
    return ratio
