"""Tokens to an expression tree: the grammar of answers. Model text is parsed, never evaluated.

Numbers, letters with subscripts, ``+ - * / ^ !``, implicit products (never number times number), fractions, roots,
binomials, brackets, absolute value, floor and ceiling, elementary functions. All else is refused as unsupported.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from gradus.tasks.algebra.latex import FUNCTIONS
from gradus.tasks.algebra.trees import (
    EULER,
    IMAGINARY,
    INFINITY,
    PI,
    Call,
    Node,
    Refusal,
    Symbol,
    add,
    apply,
    binomial,
    divide,
    exact,
    factorial,
    literal,
    multiply,
    negate,
    power,
    root,
)
from gradus.tasks.algebra.words import is_word

MAX_TOKENS = 600
MAX_DEPTH = 40

_PI_OVER_180 = Call("/", (PI, 180))
_INVERSES = {name: "arc" + name for name in ("sin", "cos", "tan", "cot")}
_ALIASES = {"asin": "arcsin", "acos": "arccos", "atan": "arctan"}
_GREEK = frozenset(
    "\\" + name
    for name in (
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi "
        "omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell hbar"
    ).split()
)
_ACCENTS = frozenset(r"\vec \hat \bar \overline \overrightarrow \widehat \tilde \dot".split())
_CLOSING = {"(": ")", "[": "]", "{": "}", r"\lfloor": r"\rfloor", r"\lceil": r"\rceil", "|": "|"}
_SUBSCRIPT = re.compile(r"[A-Za-z0-9,+-]{1,12}")
_DIGITS = re.compile(r"[0-9]+")
_DECIMAL = re.compile(r"[0-9]*\.?[0-9]+")


def parse(tokens: Sequence[str | Fraction]) -> Node:
    """Parses all ``tokens`` as one expression; ``Refusal`` where the grammar or a limit says no."""
    parser = _Parser(tokens)
    node = parser.sum()
    if parser.at != len(parser.tokens):
        raise Refusal("unsupported")
    return node


class _Parser:
    """Recursive descent. One method per level of binding; ``depth`` is bounded, so the recursion is too."""

    def __init__(self, tokens: Sequence[str | Fraction]) -> None:
        self.tokens: list[str | Fraction] = []
        for token in tokens:
            if isinstance(token, str) and token[0].isalpha() and len(token) > 1 and not _is_name(token):
                if len(token) > 6 or (len(token) > 2 and is_word(token)):  # a word, not a product
                    raise Refusal("unsupported")
                self.tokens.extend(token)
            else:
                self.tokens.append(token)
        if len(self.tokens) > MAX_TOKENS:
            raise Refusal("too_long")
        self.at = 0
        self.depth = 0
        self.is_in_bars = False
        self.is_in_angle = False

    def peek(self, ahead: int = 0) -> str | Fraction | None:
        index = self.at + ahead
        return self.tokens[index] if index < len(self.tokens) else None

    def skip_blanks(self) -> None:
        while self.at < len(self.tokens) and self.tokens[self.at] == " ":
            self.at += 1

    def expect(self, token: str) -> None:
        self.skip_blanks()
        if self.peek() != token:
            raise Refusal("unsupported")
        self.at += 1

    def sum(self) -> Node:
        terms = [self.product()]
        while True:
            self.skip_blanks()
            token = self.peek()
            if token not in ("+", "-", r"\pm", r"\mp"):
                break
            self.at += 1
            term = self.product()
            terms.append(term if token == "+" else negate(term) if token == "-" else Call(str(token)[1:], (term,)))
        return add(*terms)

    def product(self) -> Node:
        node = self.signed()
        while True:
            self.skip_blanks()
            token = self.peek()
            if token in ("*", r"\cdot", r"\times"):
                self.at += 1
                node = multiply(node, self.signed())
            elif token in ("/", r"\div"):
                self.at += 1
                node = divide(node, self.signed())
            elif self.begins_factor(token):
                node = multiply(node, self.factor())
            else:
                return node

    def begins_factor(self, token: str | Fraction | None) -> bool:
        """Whether an implicit product goes on here. A number may only follow a closing parenthesis."""
        if token is None:
            return False
        if not isinstance(token, str) or token[0].isdigit() or token[0] == ".":
            if self.tokens[self.at - 1] == ")":
                return True
            raise Refusal("unsupported")
        if token == "|":
            return not self.is_in_bars
        return token[0].isalpha() or token in ("(", "[", "{", r"\lfloor", r"\lceil") or self.is_atom_macro(token)

    def is_atom_macro(self, token: str) -> bool:
        return token[0] == "\\" and (
            token in _GREEK
            or token in _ACCENTS
            or token in (r"\pi", r"\infty", r"\frac", r"\sqrt", r"\binom", r"\angle", r"\triangle")
            or token[1:] in FUNCTIONS
            or token.startswith(r"\text{")
        )

    def signed(self) -> Node:
        """Unary signs, in a loop: a thousand of them are no deeper than one."""
        wrap: list[str] = []
        self.skip_blanks()
        while (token := self.peek()) in ("+", "-", r"\pm", r"\mp"):
            self.at += 1
            wrap.append(str(token))
            self.skip_blanks()
        node = self.factor()
        for sign in reversed(wrap):
            node = node if sign == "+" else negate(node) if sign == "-" else Call(sign[1:], (node,))
        return node

    def factor(self) -> Node:
        """An atom with its factorials, degrees and exponent."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Refusal("too_deep")
        node = self.atom()
        if self.peek() == "!":
            self.at += 1
            node = factorial(node)
        if self.peek() == "^" and self.peek(1) == r"\circ":
            self.at += 2
            node = multiply(node, _PI_OVER_180) if self.is_in_angle else node
        elif self.peek() == "^":
            self.at += 1
            node = power(node, self.exponent())
        if self.peek() in ("^", "!"):  # 5!!, x^2^3, x^2!: which is meant?
            raise Refusal("unsupported")
        self.depth -= 1
        return node

    def exponent(self) -> Node:
        self.skip_blanks()
        token = self.peek()
        if token in ("{", "("):
            return self.group()
        if token in (r"\frac", r"\sqrt"):
            return self.atom()
        if isinstance(token, str) and len(token) == 1 and token.isalpha():
            return self.atom()
        raise Refusal("unsupported")

    def group(self) -> Node:
        """A bracketed expression; also | |, floor and ceiling."""
        self.skip_blanks()
        opening = self.peek()
        if not isinstance(opening, str) or opening not in _CLOSING:
            raise Refusal("unsupported")
        self.at += 1
        outer = self.is_in_bars
        self.is_in_bars = opening == "|"
        node = self.sum()
        self.expect(_CLOSING[opening])
        self.is_in_bars = outer
        return node

    def atom(self) -> Node:
        self.skip_blanks()
        token = self.peek()
        if token is None:
            raise Refusal("unsupported")
        if not isinstance(token, str):
            self.at += 1
            return exact(token)
        if token[0].isdigit() or token[0] == ".":
            return self.number()
        if token in ("(", "[", "{"):
            return self.group()
        if token == "|":
            return apply("abs", self.group())
        if token in (r"\lfloor", r"\lceil"):
            return apply("floor" if token == r"\lfloor" else "ceil", self.group())
        self.at += 1
        if token == r"\frac":
            return divide(self.group(), self.group())
        if token == r"\binom":
            return binomial(self.group(), self.group())
        if token in (r"\sqrt", "sqrt"):
            return self.root()
        if token in (r"\pi", "pi"):
            return PI
        if token in (r"\infty", "infty", "infinity"):
            return INFINITY
        name = token.lstrip("\\")
        if name in FUNCTIONS:
            return self.function(_ALIASES.get(name, name))
        return self.symbol(token)

    def number(self) -> Node:
        """A literal; with a fraction right behind it a mixed number; ``2.5e3`` in scientific notation."""
        token = str(self.peek())
        if not _DECIMAL.fullmatch(token):
            raise Refusal("unsupported")
        self.at += 1
        value = literal(token)
        following = self.peek()
        if following == r"\frac" and _DIGITS.fullmatch(token):
            start = self.at
            self.at += 1
            top, bottom = self.group(), self.group()
            if isinstance(top, int) and isinstance(bottom, int) and top >= 0 and bottom > 0 and self.peek() != "^":
                return exact(value + Fraction(top, bottom))
            self.at = start
            return value
        if following == " " and _DIGITS.fullmatch(token) and self.peek(2) == "/":
            top, bottom = self.peek(1), self.peek(3)
            if isinstance(top, str) and isinstance(bottom, str) and top.isdigit() and bottom.isdigit():
                self.at += 4
                return add(value, divide(literal(top), literal(bottom)))
        if following in ("e", "E"):
            return self.scientific(value, is_decimal="." in token)
        return value

    def scientific(self, value: int | Fraction, *, is_decimal: bool) -> Node:
        """``2.5e3``, ``1e6``, ``2.5e-3``; ``2e-3`` stays "twice e minus three"."""
        width = 2 if self.peek(1) in ("-", "+") else 1
        digits = self.peek(width)
        if not isinstance(digits, str) or not _DIGITS.fullmatch(digits) or (width == 2 and not is_decimal):
            return value
        if len(digits) > 6:
            raise Refusal("too_large")
        sign = -1 if self.peek(1) == "-" else 1
        self.at += width + 1
        return multiply(value, power(10, sign * int(digits)))

    def root(self) -> Node:
        index: Node = 2
        if self.peek() == "[":
            index = self.group()
        if self.peek() not in ("{", "("):
            raise Refusal("unsupported")
        return root(index, self.group())

    def function(self, name: str) -> Node:
        """``\\sin 2x``, ``\\sin^2 x``, ``\\log_2 8``: without brackets the argument is the product that follows."""
        exponent: Node | None = None
        base: Node | None = None
        while self.peek() in ("^", "_"):
            mark = self.peek()
            self.at += 1
            value = self.exponent() if mark == "^" else self.group()
            if mark == "^" and value == -1 and name in _INVERSES:
                name = _INVERSES[name]
            elif mark == "^" and exponent is None:
                exponent = value
            elif mark == "_" and name == "log" and base is None:
                base = value
            else:
                raise Refusal("unsupported")
        args = (self.argument(),) if base is None else (self.argument(), base)
        node: Node = Call("lg" if name == "log" and base == 10 else name, args)
        if name == "exp":
            node = power(EULER, args[0])
        return node if exponent is None else power(node, exponent)

    def argument(self) -> Node:
        outer, self.is_in_angle = self.is_in_angle, True
        self.skip_blanks()
        token = self.peek()
        if token in ("(", "{", "["):
            node = self.group()
            if self.peek() in ("^", "!"):  # \sin(x)^2: the square of which?
                raise Refusal("unsupported")
        else:
            node = self.factor()
            while True:
                self.skip_blanks()
                token = self.peek()
                if not isinstance(token, str) or token.lstrip("\\") in FUNCTIONS or not self.begins_factor(token):
                    break
                node = multiply(node, self.factor())
        self.is_in_angle = outer
        return node

    def symbol(self, token: str) -> Node:
        """A letter, a Greek letter or an accented group, with subscript and primes."""
        if token.startswith(r"\text{"):
            name = token[6:-1]
            if not (name.isascii() and name.isalpha() and len(name) <= 3):
                raise Refusal("unsupported")
            node: Node = 1
            for letter in name[:-1]:
                node = multiply(node, Symbol(letter))
            return multiply(node, Symbol(self.scripted(name[-1])))
        if token in _ACCENTS:
            return Symbol(self.scripted(token + self.letters()))
        if token in (r"\angle", r"\triangle"):
            self.skip_blanks()
            letters = []
            while isinstance(self.peek(), str) and str(self.peek()).isalpha() and len(letters) < 6:
                letters.append(str(self.peek()))
                self.at += 1
            return Symbol(token + "".join(letters))
        if not (token in _GREEK or (len(token) == 1 and token.isalpha() and token.isascii())):
            raise Refusal("unsupported")
        name = self.scripted(token)
        if name in ("f", "g") and self.peek() == "(":  # an unknown function, not a product
            raise Refusal("unsupported")
        return EULER if name == "e" else IMAGINARY if name == "i" else Symbol(name)

    def letters(self) -> str:
        """The letters inside one brace group."""
        self.expect("{")
        letters = []
        while isinstance(self.peek(), str) and (str(self.peek()).isalpha() or self.peek() == " "):
            letters.append(str(self.peek()).strip())
            self.at += 1
        self.expect("}")
        if not 0 < len(letters) <= 12:
            raise Refusal("unsupported")
        return "".join(letters)

    def scripted(self, name: str) -> str:
        """Appends the subscript and the primes that follow to a name."""
        while self.peek() in ("_", "'"):
            if self.peek() == "'":
                name += "'"
                self.at += 1
                continue
            self.at += 1
            self.expect("{")
            inside = []
            while self.peek() not in ("}", None):
                inside.append(str(self.peek()))
                self.at += 1
            self.expect("}")
            content = "".join(inside).replace(r"\text{", "").replace("}", "").replace(" ", "")
            if not _SUBSCRIPT.fullmatch(content):
                raise Refusal("unsupported")
            name += "_" + content
        return name


def _is_name(run: str) -> bool:
    """Runs of letters that are one name in plain text: ``sin``, ``sqrt``, ``pi``."""
    return run in FUNCTIONS or run in ("sqrt", "pi", "infty", "infinity")
