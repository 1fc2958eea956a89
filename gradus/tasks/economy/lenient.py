"""The lenient reading of an answer, for diagnosis alone: what was probably meant. It never feeds a reward.

Stages, in order: strict, cleanup, embedded, alias, literal, regex. Linear in the text; nothing is evaluated.
"""

from __future__ import annotations

import json
import re

from gradus.tasks.economy.decision import parse_decision

STAGES = ("strict", "cleanup", "embedded", "alias", "literal", "regex")
MAX_LENGTH = 100_000
"""Longer texts are read strictly alone (characters)."""
_MAX_LITERAL = 2_000
_MAX_CANDIDATES = 64
_THINK_END = "</think>"
_SPECIAL = re.compile(r"<\|[A-Za-z_]{1,24}\|>|</s>|<s>|</?answer>")
_FENCE = re.compile(r"```[A-Za-z]{0,12}")
_OBJECT = re.compile(r"\{[^{}]{0,2000}\}")
_NUMBER = r"([0-9]{1,20}(?:\.[0-9]{1,20})?(?:[eE]-?[0-9]{1,3})?|\.[0-9]{1,20})"
_PERCENT = re.compile(_NUMBER + r"[ ]?%")
_PLAIN = re.compile(_NUMBER)
_ALIASES = {
    "work": "work", "labor": "work", "labour": "work", "work_probability": "work", "work_propensity": "work",
    "work_willingness": "work", "工作": "work", "consumption": "consumption", "consume": "consumption",
    "consumption_share": "consumption", "consumption_propensity": "consumption", "spending": "consumption",
    "消费": "consumption",
}  # fmt: skip
_PAIRS = {
    name: re.compile(
        rf"\b{name}\b[\"'*` ]{{0,4}}(?:[:=]|is|of)[\"'*` ]{{0,4}}{_NUMBER}(?![0-9.]*[%0-9])", re.IGNORECASE
    )
    for name in ("work", "consumption")
}
_QUOTES = {"“": '"', "”": '"', "‘": "'", "’": "'", "：": ":", "，": ","}

Reading = tuple[float, float, str]


def parse_lenient(text: object) -> Reading | None:
    """(work, consumption, stage) of an answer that a person would understand; None where even that fails."""
    strict = parse_decision(text)
    if strict.ok:
        assert strict.work is not None and strict.consumption is not None
        return strict.work, strict.consumption, "strict"
    if not isinstance(text, str) or len(text) > MAX_LENGTH:
        return None
    clean = _cleaned(text)
    again = parse_decision(clean)
    if again.ok:
        assert again.work is not None and again.consumption is not None
        return again.work, again.consumption, "cleanup"
    return _by_objects(clean) or _by_sentences(clean)


def _cleaned(text: str) -> str:
    """Without byte-order mark, thought, fences and the text of special tokens."""
    text = text.rpartition(_THINK_END)[2]
    return _SPECIAL.sub("", _FENCE.sub("", text.replace("\ufeff", "").replace("\u00a0", " "))).strip()


def _by_objects(text: str) -> Reading | None:
    candidates = [match[0] for match in _OBJECT.finditer(text)][:_MAX_CANDIDATES]
    for candidate in candidates:
        pair = _exact(candidate)
        if pair:
            return (*pair, "embedded")
    for candidate in candidates:
        pair = _pair(_members(candidate))
        if pair:
            return (*pair, "alias")
    for candidate in candidates:
        if len(candidate) <= _MAX_LITERAL and (pair := _pair(_loose_members(candidate))):
            return (*pair, "literal")
    return None


def _members(candidate: str) -> list[tuple[str, object]]:
    """Members of a JSON object; none where it is not one."""
    try:
        value = json.loads(candidate, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return []
    return value if isinstance(value, list) else []


def _exact(candidate: str) -> tuple[float, float] | None:
    found = {key: value for key, value in _members(candidate) if key in ("work", "consumption")}
    if len(found) < 2 or any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in found.values()):
        return None
    return _checked({key: float(value) for key, value in found.items() if isinstance(value, (int, float))})


def _pair(members: list[tuple[str, object]]) -> tuple[float, float] | None:
    found: dict[str, float] = {}
    for key, value in members:
        name = _ALIASES.get(str(key).strip().lower().replace(" ", "_").replace("-", "_"))
        number = _number(value)
        if name and number is not None:
            found[name] = number
    return _checked(found)


def _number(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return float(value) if abs(value) < 1e9 else None
    if not isinstance(value, str):
        return None
    written = value.strip()[:64]
    if match := _PERCENT.fullmatch(written):
        return float(match[1]) / 100
    return float(written) if _PLAIN.fullmatch(written) else None


def _checked(found: dict[str, float]) -> tuple[float, float] | None:
    if len(found) < 2 or not all(0 <= value <= 1 for value in found.values()):
        return None
    return found["work"] + 0.0, found["consumption"] + 0.0


def _loose_members(candidate: str) -> list[tuple[str, object]]:
    """Members of an object with single quotes, bare keys, a comma too many or Chinese marks, by cutting at commas."""
    inner = candidate[1:-1]
    for mark, plain in _QUOTES.items():
        inner = inner.replace(mark, plain)
    members: list[tuple[str, object]] = []
    for piece in inner.split(",")[:16]:
        key, colon, value = piece.partition(":")
        if colon:
            members.append((key.strip().strip("\"'` "), value.strip().strip("\"'` ")))
    return members


def _by_sentences(text: str) -> Reading | None:
    """``work: 0.9 ... consumption: 0.4``: the last of each."""
    found: dict[str, float] = {}
    for name, pattern in _PAIRS.items():
        for match in pattern.finditer(text):
            found[name] = float(match[1])
    pair = _checked(found)
    return (*pair, "regex") if pair else None
