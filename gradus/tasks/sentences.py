"""Answers that no tag, marker or box shows: the sentence that names the answer, and the last value of a text.

They are the weakest readings, so whatever stands beside a value and casts doubt on it (another value, a negation, an
operation not carried out) makes it no answer. All patterns are linear in the text.
"""

from __future__ import annotations

import re

from gradus.tasks.codes import Code, Reading, not_found

MAX_LAST = 6_000
"""The last value is looked for in so many last characters."""
MAX_SHORT = 80
"""A line of up to so many characters may be an answer as it stands."""

_PHRASE = re.compile(r"(?:final )?answer {0,2}(?:is|:|=)|final answer|答案 ?(?:是|为|：|:)", re.IGNORECASE)
_SENTENCE_END = re.compile(r"\.(?=\s|\Z)|[\n。！!?？]")
_PARAGRAPH_END = re.compile(r"\n\s*\n")
_DIGITS = r"[0-9]+(?:(?:,|\{,\})[0-9]+)*(?:\.[0-9]+)?"
_NUMBER = (
    rf"(?<![\w.\\])(?<![0-9]:)[-−+]{{0,3}}[$€£¥]?{_DIGITS}(?:/[0-9]+)?(?: ?%| [A-Za-z]+|[A-Za-z]{{2,}})?"
    r"(?!\.?[\w^\\]|:[0-9])"
)
_FREE_NUMBER = re.compile(_NUMBER)
_FORMULA = re.compile(
    r"\$\$([^$]+)\$\$|\$([^$\n]+)\$|\\\(([^$\\]*(?:\\[^()$][^$\\]*)*)\\\)|\\\[([^$\\]*(?:\\[^\[\]$][^$\\]*)*)\\\]"
)
_SPAN = re.compile(f"{_FORMULA.pattern}|({_NUMBER})")
_CONSECUTIVE_WORDS = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}[ ,;:]+[A-Za-z]{2,}")
_NEGATION = re.compile(r"(?:\bnot|n['’]t|\bnever|不是|\\neq?|≠)(?: equal(?: to)?)?[\s*$:]*\Z", re.IGNORECASE)
_OR_BEFORE = re.compile(r"(?:[0-9$}\])%]|[0-9][ ,]+[A-Za-z]{1,12}),?\s*(?:\bor\b|\bto\b|或|(?<=[0-9])[-–~])[\s*$]*\Z")
_HEDGE = re.compile(rf"{_DIGITS}%?(?:,? (?:or|to) |或|[-–~])\$?{_DIGITS}")
_OPERATION = re.compile(rf"{_DIGITS}\)?(?: ?(?:[*×·÷+]|\\times|\\cdot|\\div) ?| [-/] )\(?{_DIGITS}")
_SIGNS = re.compile(r"[-−+]{2}\$?[0-9]")
_OPERATOR = r" {0,2}(?:\*(?!\*)|[×·÷+/^]|\\times|\\cdot|\\div) {0,2}"
_OPERATOR_BEFORE = re.compile(rf"[0-9A-Za-z)\]}}$](?:{_OPERATOR}| - )[$(]?\Z")
_OPERATOR_AFTER = re.compile(rf"{_OPERATOR}[0-9A-Za-z(\\$]")
_RELATION_BEFORE = re.compile(r"(?:[<>≤≥]|\\(?:le|ge|leq|geq|lt|gt)) ?[$(]?\Z")


def doubt(text: str) -> Code:
    """Says why a short text that should state one number does not, or ``ok``.

    ``6 or 7`` and ``6-7`` are hedged, ``not 7`` is negated, ``8 * 3`` without an equals sign is unevaluated.
    """
    if _SIGNS.search(text):
        return Code.NOT_A_NUMBER
    if _HEDGE.search(text):
        return Code.HEDGED
    if _NEGATION.search(re.split(r"[0-9]", text, maxsplit=1)[0]):
        return Code.NEGATED
    if "=" not in text and _OPERATION.search(text):
        return Code.UNEVALUATED
    return Code.OK


def phrase(text: str, is_number: bool) -> Reading | None:
    """What follows the last "the answer is", to the end of the sentence or, in mathematics, of the paragraph."""
    matches = list(_PHRASE.finditer(text))
    if not matches:
        return None
    after = text[matches[-1].end() :].lstrip(" \t\r\n:：=")
    is_bold = after.startswith("**")
    end = (_SENTENCE_END if is_number else _PARAGRAPH_END).search(after)
    said = after[: end.start()] if end else after
    said = said[2:].replace("**", "", 1) if is_bold else said
    said = (said if is_number else _only_formula(said)).strip()
    if not said:
        return None
    code = doubt(said) if is_number else Code.NEGATED if said.lower().startswith("not ") else Code.OK
    return Reading(text=said if code is Code.OK else None, method="phrase", code=code, num_candidates=len(matches))


def _only_formula(said: str) -> str:
    """The one formula of a sentence, or the sentence itself."""
    sentence = said[: end.start()] if (end := _SENTENCE_END.search(said)) else said
    formulas = list(_FORMULA.finditer(sentence))
    if len(formulas) == 1 and not _NEGATION.search(sentence[: formulas[0].start()]):
        return formulas[0].group()
    return sentence


def last_value(text: str, is_number: bool) -> Reading:
    """The right-most formula or free number of the last characters."""
    tail = text[-MAX_LAST:]
    line = tail.strip()
    is_line = len(text) <= MAX_LAST and 0 < len(line) <= MAX_SHORT and "\n" not in line
    if is_line and not is_number and not _CONSECUTIVE_WORDS.search(line):
        return Reading(text=line, method="last", code=Code.OK, num_candidates=1)
    spans = list((_FREE_NUMBER if is_number else _SPAN).finditer(tail))
    if not spans:
        return not_found()
    span = spans[-1]
    value = span.group() if is_number else next(group for group in span.groups() if group is not None)
    code = _doubt_beside(value, tail[max(0, span.start() - 40) : span.start()], tail[span.end() : span.end() + 12])
    return Reading(text=value.strip() if code is Code.OK else None, method="last", code=code, num_candidates=len(spans))


def _doubt_beside(value: str, before: str, after: str) -> Code:
    """Why a last value is none, judged by what stands beside it; ``ok`` where it is one."""
    if not value.strip() or _SIGNS.match(value) or _RELATION_BEFORE.search(before):
        return Code.NOT_A_NUMBER
    if _NEGATION.search(before):
        return Code.NEGATED
    if _OR_BEFORE.search(before):
        return Code.HEDGED
    return Code.UNEVALUATED if _OPERATOR_BEFORE.search(before) or _OPERATOR_AFTER.match(after) else Code.OK
