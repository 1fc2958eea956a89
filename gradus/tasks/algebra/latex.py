"""Normal form of a mathematical answer: one spelling for what LaTeX, Unicode and plain text write in many ways.

Only spelling changes here, never meaning: order, signs and values are left to the later tiers. Every pattern is linear
in its input, and the input is cut off at ``MAX_CHARS`` by the caller.
"""

from __future__ import annotations

import re
from functools import lru_cache

from gradus.tasks import numerals
from gradus.tasks.characters import to_latex

MAX_CHARS = 2_000
"""Longest normal form that is compared at all."""

TOKEN = re.compile(r"\\[A-Za-z]+|\\[^A-Za-z]|[0-9]+(?:\.[0-9]+)?|\.[0-9]+|[A-Za-z]+|\s+|[^\s]")
_PLAIN = re.compile(r"-?[0-9]+(?:\.[0-9]+)?|[A-Za-z]|-?[0-9]*[a-z](?:\^\{[0-9]\})?(?:[-+][0-9]+[a-z]?)?")
_ENGLISH = re.compile(r"[A-Za-z -]{3,200}")
_TIGHT_GROUPS = re.compile(r"(?<![0-9.])[0-9]{1,3}(?:(?:\{,\}|,\\!|\{,\\!\})[0-9]{3})+(?![0-9])")
_GROUP_MARK = re.compile(r"\{,\}|,\\!|\{,\\!\}")
_LEAD = re.compile(
    r"^(?:the\s+)?(?:final\s+)?(?:answer|solution)s?\s*(?:is|are|=|:)\s*:?\s*"
    r"|^(?:approximately|approx\.?|\\approx(?![A-Za-z])|\\sim(?![A-Za-z])|:)\s*",
    re.IGNORECASE,
)
_WORDS = re.compile(r"[^\W\d_][^\W\d_ .'/-]*(?:[ .'/-]+[^\W\d_]+)*\.?")
_BRACE = re.compile(r"\\[{}\\]|[{}]")
_JOINERS = ("and", "or", "And", "Or", "AND", "OR")
_RELATION = re.compile(r"[<>]|\\(?:le|ge|ne|lt|gt|leq|geq|neq|leqslant|geqslant)(?![A-Za-z])")

_RENAMED: dict[str, str] = {
    r"\dfrac": r"\frac", r"\tfrac": r"\frac", r"\cfrac": r"\frac", r"\leq": r"\le", r"\leqslant": r"\le",
    r"\geq": r"\ge", r"\geqslant": r"\ge", r"\neq": r"\ne", r"\lt": "<", r"\gt": ">", r"\varnothing": r"\emptyset",
    r"\oslash": r"\emptyset", r"\dbinom": r"\binom", r"\tbinom": r"\binom", r"\dots": r"\ldots", r"\cdots": r"\ldots",
    r"\dotsc": r"\ldots", r"\dotsb": r"\ldots", r"\lvert": "|", r"\rvert": "|", r"\vert": "|", r"\mid": "|",
    r"\lbrace": r"\{", r"\rbrace": r"\}", r"\lbrack": "[", r"\rbrack": "]", r"\ast": "*", r"\colon": ":",
    r"\backslash": r"\setminus", r"\smallsetminus": r"\setminus", r"\bigcup": r"\cup", r"\%": "%", r"\#": "#",
    r"\&": "&", r"\_": "_", r"\degree": r"^\circ", r"\infin": r"\infty", r"\wedge": r"\land", r"\vee": r"\lor",
    r"\varphi": r"\phi", r"\varepsilon": r"\epsilon", r"\vartheta": r"\theta", r"\thickapprox": r"\approx",
    r"\simeq": r"\approx", r"\prime": "'", r"\bullet": r"\cdot", r"\euro": "€", r"\pounds": "£",
    r"\R": r"\mathbb{R}", r"\textdollar": r"\$", r"\dollar": r"\$", r"\textperthousand": "‰", r"\i": "i",
}  # fmt: skip
_DROPPED = frozenset(
    "\\" + name
    for name in (
        "left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr middle displaystyle textstyle "
        "scriptstyle limits nolimits mathbf boldsymbol bm underline mathit mathsf mathnormal bf it rm sf large Large "
        "mathstrut strut ! ( ) [ ] ensuremath scriptsize small normalsize pmb boxed fbox mathop mathord mathrel"
    ).split()
)
_SIZED = frozenset("\\" + name for name in "left right bigl bigr Bigl Bigr biggl biggr Biggl Biggr".split())
_BLANK_MACROS = frozenset(r"\, \; \: \> \  \quad \qquad \enspace \thinspace \medspace \thickspace ~".split(" ")) | {
    "\\ ", "\\\n", "\\\t",
}  # fmt: skip
_TEXT_MACROS = frozenset(
    "\\" + name for name in "text mathrm mbox hbox textbf textnormal textrm textit textsf emph texttt mathtt".split()
)
_WITH_ARGUMENT = {r"\color": 1, r"\textcolor": 1, r"\hspace": 1, r"\vspace": 1, r"\phantom": 1, r"\hphantom": 1}
_MATRICES = frozenset("matrix pmatrix bmatrix Bmatrix smallmatrix array".split())
FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan arccot sinh cosh tanh coth ln log lg exp asin acos atan".split()
)


_SYMBOL_MACRO = re.compile(r"\\(?:pi|alpha|beta|gamma|delta|theta|lambda|mu|rho|sigma|tau|phi|omega|infty|ell|epsilon)")


@lru_cache(maxsize=16_384)
def normal_form(text: str) -> str:
    """Returns the normal form; ``normal_form(normal_form(t)) == normal_form(t)``. Linear in the text.

    Example:
        normal_form(r"$\\dfrac12\\text{ cm}.$")  # "\\frac{1}{2}\\text{cm}"
    """
    text = text.strip()
    if _PLAIN.fullmatch(text):
        return text
    text = to_latex(text)
    seen: list[str] = []
    while text not in seen and len(seen) < 12:
        seen.append(text)
        text = _Pass(text).run()
    return text if text in seen else seen[-1]


def _strip(text: str) -> str:
    """Takes off final marks, braces around the whole, and a lead such as "the answer is"."""
    while True:
        before = text
        text = text.strip().lstrip(",;")
        if not text.endswith("..."):
            text = text.rstrip(".,; ")
        while text.startswith("{") and _closes_at_end(text):
            text = text[1:-1].strip()
        text = _LEAD.sub("", text, count=1)
        if text == before:
            return text


def _closes_at_end(text: str) -> bool:
    """Whether the brace that opens ``text`` is closed by its last character."""
    depth = 0
    for match in _BRACE.finditer(text):
        if len(match[0]) == 1:
            depth += 1 if match[0] == "{" else -1
            if depth == 0:
                return match.end() == len(text)
    return False


class _Pass:
    """One pass over the tokens of a text."""

    def __init__(self, text: str) -> None:
        text = _strip(text)
        if _ENGLISH.fullmatch(text) and (number := numerals.read(text.replace("-", " ").split())) is not None:
            text = str(number)
        if "\\\\" in text and r"\begin" not in text:
            text = text.replace("\\\\", "\\")
        text = _TIGHT_GROUPS.sub(lambda match: _GROUP_MARK.sub("", match[0]), text)
        self.is_relation = _RELATION.search(text) is not None
        self.tokens: list[str] = TOKEN.findall(text)
        self.at = 0
        self.parts: list[str] = []
        self.is_blank = False
        self.groups: list[bool] = []
        """Per open brace: is it the first argument of a fraction?"""
        if self.tokens.count("$") == 1:  # a lone dollar sign is money, a pair is markup
            self.tokens[self.tokens.index("$")] = r"\$"

    def run(self) -> str:
        while self.at < len(self.tokens):
            self.step()
        return _strip("".join(self.parts))

    def put(self, token: str) -> None:
        """Writes ``token``; keeps only blanks that carry meaning: between digits, letters, and after ``1,``."""
        parts = self.parts
        if parts and (token[0].isalnum() or token[0] == "."):
            last = parts[-1]
            if last[0] == "\\" and last[-1].isalpha():
                if token[0].isalpha():
                    parts.append(" ")
            elif (
                self.is_blank
                and (
                    last[-1].isalnum()
                    or (last[-1] in "})" and token[0].isalpha() and len(token) > 2)  # a word may be a unit
                    or (last == "," and token[0].isdigit() and parts[-2:-1] and parts[-2][-1].isdigit())
                )
            ):
                parts.append(" ")
        self.is_blank = False
        parts.append(token)

    def peek(self, ahead: int = 1) -> str:
        """The token ``ahead`` of the present one, or an empty string."""
        index = self.at + ahead
        return self.tokens[index] if index < len(self.tokens) else ""

    def step(self) -> None:
        """Handles one token."""
        token = _RENAMED.get(self.tokens[self.at], self.tokens[self.at])
        if token.isspace() or token in _BLANK_MACROS or token == "$":
            self.is_blank = True
        elif token[0] == "\\" and token[-1:].isalpha():
            self.macro(token)
        elif token in _DROPPED:
            pass
        elif token == "**" or (token == "*" and self.peek() == "*"):
            self.at += 1
            self.script("^")
        elif token in ("^", "_"):
            self.script(token)
        elif token == "{" and self.peek() == "}":
            self.at += 1
            self.is_blank = True
        elif token == "{":
            self.open_group(is_numerator=False)
        elif token == "}":
            self.put(token)
            if self.groups and self.groups.pop():
                self.brace_argument()
                self.skip_to_group(is_numerator=False)
        elif token in ("<", ">", "!") and self.peek() == "=":
            self.at += 1
            self.put({"<": r"\le", ">": r"\ge", "!": r"\ne"}[token])
        elif token == "." and self.peek() == "." and self.peek(2) == ".":
            self.at += 2
            self.put(r"\ldots")
        elif token in _JOINERS and self.parts and self.at < len(self.tokens) - 1:
            self.join_word(token)
        else:
            self.put(token)
        self.at += 1

    def join_word(self, word: str) -> None:
        """ "and" and "or" between values separate them; between relations they are logic."""
        if self.is_relation:
            self.put(r"\land" if word.lower() == "and" else r"\lor")
        else:
            self.put(",")
            self.is_blank = True

    def macro(self, token: str) -> None:
        """Handles a named control sequence."""
        if token in _DROPPED:
            if token in _SIZED and self.peek() == ".":
                self.at += 1
            elif self.peek() == "{" and self.peek(3) == "}" and self.peek(2).isalnum():  # \\mathbf{u}_1
                self.put(self.peek(2))
                self.at += 3
            return
        if token in _TEXT_MACROS:
            self.text(token)
        elif token in _WITH_ARGUMENT:
            self.is_blank = True
            self.argument()
        elif token == r"\operatorname":
            name = self.argument().strip("*{} ")
            self.put("\\" + name if name in FUNCTIONS else r"\text{" + name + "}" if name.isalpha() else name or ",")
        elif token in (r"\begin", r"\end"):
            name = self.argument()
            if name == "array" and token == r"\begin":
                self.argument()
            self.put(token + "{" + ("matrix" if name in _MATRICES else name) + "}")
        else:
            self.put(token)
            if token == r"\frac":
                self.brace_argument()
                self.skip_to_group(is_numerator=True)
            elif token == r"\sqrt":
                self.root_argument()
            elif token == r"\mathbb":
                self.brace_argument()

    def argument(self) -> str:
        """Takes the group or token that follows; afterwards the present token is its last one."""
        self.at += 1
        while self.at < len(self.tokens) and self.tokens[self.at].isspace():
            self.at += 1
        if self.at >= len(self.tokens) or self.tokens[self.at] != "{":
            return "".join(self.tokens[self.at : self.at + 1])
        depth, start = 0, self.at + 1
        while self.at < len(self.tokens):
            depth += (self.tokens[self.at] == "{") - (self.tokens[self.at] == "}")
            if depth == 0:
                return "".join(self.tokens[start : self.at])
            self.at += 1
        return "".join(self.tokens[start:])

    def text(self, token: str) -> None:
        r"""``\text{...}``: words stay wrapped, "and" is a word, anything else is read as if it were not wrapped."""
        content = " ".join(self.argument().replace("~", " ").replace(r"\ ", " ").split())
        if content.lower() in _JOINERS and self.parts:
            self.join_word(content)
        elif content in ("i", "e"):
            self.put(content)
        elif _WORDS.fullmatch(content):
            self.put(r"\text{" + content + "}")
        else:
            self.is_blank = True
            if content:
                self.put(content)
                self.is_blank = True

    def brace_argument(self) -> None:
        """Puts braces around the unbraced argument that follows: one digit or letter, or a symbol's macro."""
        index = self.at + 1
        while index < len(self.tokens) and self.tokens[index].isspace():
            index += 1
        token = self.tokens[index] if index < len(self.tokens) else ""
        if token.isalnum():
            rest = [token[1:]] if len(token) > 1 else []
            self.tokens[index : index + 1] = ["{", token[0], "}", *rest]
        elif _SYMBOL_MACRO.fullmatch(token):
            self.tokens[index : index + 1] = ["{", token, "}"]

    def skip_to_group(self, *, is_numerator: bool) -> None:
        """Enters the group that follows, if one does."""
        index = self.at + 1
        while index < len(self.tokens) and self.tokens[index].isspace():
            index += 1
        if index < len(self.tokens) and self.tokens[index] == "{":
            self.at = index
            self.open_group(is_numerator=is_numerator)

    def open_group(self, *, is_numerator: bool) -> None:
        self.put("{")
        self.groups.append(is_numerator)

    def root_argument(self) -> None:
        r"""``\sqrt3``, ``\sqrt 12``, ``\sqrt[3]8``: a number after a root is its argument whole."""
        index = self.at + 1
        while index < len(self.tokens) and self.tokens[index].isspace():
            index += 1
        if index < len(self.tokens) and self.tokens[index] == "[" and "]" in self.tokens[index : index + 8]:
            index = self.tokens.index("]", index) + 1
        while index < len(self.tokens) and self.tokens[index].isspace():
            index += 1
        token = self.tokens[index] if index < len(self.tokens) else ""
        if token[:1].isdigit() or _SYMBOL_MACRO.fullmatch(token):
            self.tokens[index : index + 1] = ["{", token, "}"]
        elif token[:1].isalpha():
            self.tokens[index : index + 1] = ["{", token[0], "}", *([token[1:]] if token[1:] else [])]

    def script(self, mark: str) -> None:
        """An exponent or index: always in braces; ``^12`` is twelve, ``^-1`` is minus one; degrees are one token."""
        index = self.at + 1
        while index < len(self.tokens) and self.tokens[index].isspace():
            index += 1
        following = self.tokens[index : index + 3]
        if mark == "^" and following[:1] == [r"\circ"]:
            self.put(r"^\circ")
            self.at = index
        elif mark == "^" and following == ["{", r"\circ", "}"]:
            self.put(r"^\circ")
            self.at = index + 2
        elif mark == "^" and following[:1] in (["'"], [r"\prime"]):
            self.put("'")
            self.at = index
        elif mark == "^" and following in (["{", r"\prime", "}"], ["{", "'", "}"]):
            self.put("'")
            self.at = index + 2
        else:
            self.put(mark)
            token = following[0] if following else ""
            width = 2 if token == "-" and len(following) > 1 and following[1][0].isalnum() else 1
            if token[:1].isdigit() or width == 2:
                self.tokens[index : index + width] = ["{", *following[:width], "}"]
            else:
                self.brace_argument()
