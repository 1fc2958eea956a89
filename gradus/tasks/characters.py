"""Unicode to ASCII and LaTeX, by an explicit table: a normal form such as NFKC would read 3² as 32.

Other digits than 0-9 stay what they are, and so are no numbers.
"""

from __future__ import annotations

import re

_ZERO_WIDTH = "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\u2061\u2062\u2063\ufeff"
_BLANKS = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_SYMBOLS = {
    "−–—‐‑‒―﹣": "-", "×✕": r"\times ", "·⋅∙•": r"\cdot ", "÷": r"\div ", "∕⁄": "/", "∗": "*", "√": r"\sqrt ",
    "∛": r"\sqrt[3]", "π": r"\pi ", "∞": r"\infty ", "≤⩽≦": r"\le ", "≥⩾≧": r"\ge ", "≠": r"\ne ", "≈": r"\approx ",
    "±": r"\pm ", "∓": r"\mp ", "∪⋃": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ", "∖": r"\setminus ",
    "ℝ": r"\mathbb{R}", "°º": r"^{\circ}", "′’": "'", "…⋯": r"\ldots ", "⌊": r"\lfloor ", "⌋": r"\rfloor ",
    "⌈": r"\lceil ", "⌉": r"\rceil ", "∣": "|", "⟨〈": r"\langle ", "⟩〉": r"\rangle ", "、": ",", "。": ".",
    "∠": r"\angle ", "∫": r"\int ", "∑": r"\sum ", "∏": r"\prod ", "∧": r"\land ", "∨": r"\lor ",
    "½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}",
    "⅕": r"\frac{1}{5}", "⅖": r"\frac{2}{5}", "⅗": r"\frac{3}{5}", "⅘": r"\frac{4}{5}", "⅙": r"\frac{1}{6}",
    "⅚": r"\frac{5}{6}", "⅛": r"\frac{1}{8}", "⅜": r"\frac{3}{8}", "⅝": r"\frac{5}{8}", "⅞": r"\frac{7}{8}",
}  # fmt: skip
_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "θ": "theta", "κ": "kappa", "λ": "lambda",
    "μ": "mu", "ν": "nu", "ξ": "xi", "ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "phi", "ϕ": "phi", "χ": "chi",
    "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Π": "Pi", "Σ": "Sigma",
    "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega",
}  # fmt: skip
_TABLE: dict[int, str] = (
    dict.fromkeys(map(ord, _ZERO_WIDTH), "")
    | dict.fromkeys(map(ord, _BLANKS), " ")
    | {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
    | {ord(char): text for chars, text in _SYMBOLS.items() for char in chars}
    | {ord(char): f"\\{name} " for char, name in _GREEK.items()}
)
"""Explicit table of replacements. Never NFKC, which would turn 3² into 32. Other digits than 0-9 stay foreign."""

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789-+n")
_SUPERSCRIPT_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ]+")
_ROOT = re.compile(r"√ ?(?:([0-9]+|[A-Za-z])|\(([^()√]*)\))")


def to_latex(text: str) -> str:
    """The same text in ASCII and LaTeX, as far as the table goes. Runs of superscript digits become one exponent.

    Example:
        to_latex("−√3² × ½")  # "-\\sqrt{3}^{2} \\times  \\frac{1}{2}"
    """
    if text.isascii():
        return text
    text = _SUPERSCRIPT_RUN.sub(lambda run: "^{" + run[0].translate(_SUPERSCRIPTS) + "}", text)
    if "√" in text:
        text = _ROOT.sub(lambda root: rf"\sqrt{{{root[1] or root[2]}}}", text)
    return text.translate(_TABLE)
