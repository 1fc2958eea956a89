"""What a completion of competition mathematics is worth: both readings, equality, format, and the reward presets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from gradus.tasks import answers
from gradus.tasks.algebra.latex import normal_form
from gradus.tasks.answers import Style
from gradus.tasks.codes import Code, Reading
from gradus.tasks.equivalence import MAX_RAW_CHARS, CasClient, Equivalence, equal, is_opaque
from gradus.types import Finish, Score

_REFUSED = ("too_long", "too_deep", "too_large")


def grade(
    gold: str,
    completion: str,
    *,
    style: Style = "tags",
    strict: bool = False,
    finish: Finish = "stop",
    cas: CasClient | None = None,
) -> tuple[Reading, Equivalence]:
    """Reads a completion and compares what it says with ``gold``. Total for every ``str``.

    Example:
        grade(r"\\frac{3}{4}", r"So it is $\\boxed{0.75}$.")[1].equal  # True
    """
    reading = answers.read(completion, style=style, strict=strict, finish=finish)
    if reading.text is None:
        return reading, Equivalence(False, "none", str(reading.code))
    return reading, equal(gold, reading.text, cas=cas)


def answered(text: str, *, style: Style = "tags", finish: Finish = "stop") -> str | None:
    """What the lenient reading finds, in normal form; None where there is nothing that could equal a gold."""
    reading = answers.read(text, style=style, strict=False, finish=finish)
    if reading.text is None or len(reading.text) > MAX_RAW_CHARS:
        return None
    return normal_form(reading.text.strip()) or None


# ---------------------------------------------------------------- format


def format_reward(text: str) -> float:
    """0 unless one closed, non-blank thought is followed by one closed, non-blank answer; then 0.5, or 1 with a box.

    The prompt may have opened the thought. The box must hold something and be closed.
    """
    text = answers.trim(text)
    end, start = text.find("</think>"), text.find("<think>")
    if end < 0 or text.count("</think>") > 1 or text.count("<think>") > 1 or start > end:
        return 0.0
    opened = start + 7 if start >= 0 else 0
    if text[:opened].strip("<think> \n\t\r") or not text[opened:end].strip():
        return 0.0
    after = text[end + 8 :]
    if text.count("<answer>") != 1 or text.count("</answer>") != 1:
        return 0.0
    tag = answers.last_tag(after)
    if tag.text is None:
        return 0.0
    return 0.5 if answers.last_box(tag.text).text is None else 1.0


def loose_format_reward(text: str) -> float:
    """trl_GRPO's rule as coded: a think pair and an answer pair anywhere, empty or not; with any box in the first
    answer 1, else 0.5."""
    thought = text.find("<think>")
    answer = text.find("<answer>")
    if thought < 0 or text.find("</think>", thought + 7) < 0 or answer < 0:
        return 0.0
    end = text.find("</answer>", answer + 8)
    if end < 0:
        return 0.0
    inside = text[answer + 8 : end]
    box = inside.find("\\boxed{")
    return 1.0 if box >= 0 and inside.find("}", box) >= 0 else 0.5


# ---------------------------------------------------------------- rewards: reward terms, which sum to the reward

Preset = Literal["default", "binary", "seed-docs", "seed-code", "format-accuracy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a preset may look at."""

    text: str
    is_strict: bool
    is_lenient: bool
    format_weight: float


Terms = dict[str, float]

PRESETS: dict[str, tuple[Callable[[Judged], Terms], float]] = {
    "default": (lambda judged: {"answer": 1.0 if judged.is_strict else 0.5 if judged.is_lenient else 0.0}, 1.0),
    "binary": (lambda judged: {"answer": float(judged.is_lenient)}, 1.0),
    "seed-docs": (lambda judged: {"format": loose_format_reward(judged.text)}, 1.0),
    "seed-code": (
        lambda judged: {"format": loose_format_reward(judged.text), "accuracy": float(judged.is_lenient)},
        2.0,
    ),
    "format-accuracy": (
        lambda judged: {
            "format": judged.format_weight * format_reward(judged.text),
            "accuracy": (1.0 - judged.format_weight) * judged.is_lenient,
        },
        1.0,
    ),
}
"""How each preset pays, and the highest reward that it can give; the lowest is 0."""


def score(
    text: str,
    gold: str,
    *,
    preset: Preset = "default",
    style: Style = "tags",
    format_weight: float = 0.1,
    finish: Finish = "stop",
    cas: CasClient | None = None,
) -> Score:
    """Scores a completion: the preset decides the reward, the lenient reading decides ``correct``.

    A gold that cannot be read pays nobody: status ``no_score``. Neither does a decision that the CAS did not survive.
    """
    reading, lenient = grade(gold, text, style=style, finish=finish, cas=cas)
    strict_reading, strict = grade(gold, text, style=style, strict=True, finish=finish, cas=cas)
    if not lenient.equal and (strict.equal or not strict.decided):
        reading, lenient = strict_reading, strict
    status: Literal["scored", "refused", "no_score", "timeout", "crash"] = "scored"
    if lenient.why == "gold_unreadable" or not gold.strip():
        status, lenient, strict = "no_score", Equivalence(False, "none", "gold_unreadable"), lenient
    elif not lenient.decided:
        status = "timeout" if lenient.why == "cas_timeout" else "crash"
    elif lenient.why in _REFUSED and not strict.equal:
        status = "refused"
    is_strict, is_lenient = strict.equal and status == "scored", lenient.equal and status == "scored"
    judged = Judged(text=text, is_strict=is_strict, is_lenient=is_lenient, format_weight=format_weight)
    parts = PRESETS[preset][0](judged) if status == "scored" else {"answer": 0.0}
    reward = sum(parts.values())
    parts["info/strict"] = float(is_strict)
    parts["info/lenient"] = float(is_lenient)
    parts["info/format_fail"] = float(strict_reading.text is None)
    parts["info/truncated"] = float(reading.code is Code.TRUNCATED)
    parts["info/usable"] = float(status in ("scored", "refused"))
    parts["info/num_boxes"] = float(text.count("\\boxed") + text.count("\\fbox"))
    parts["info/opaque"] = float(is_opaque(gold))
    parts["info/unsupported"] = float(lenient.why == "unsupported")
    parts.update(answers.facts(text))
    return Score(reward=reward, correct=is_lenient, parts=parts, why=lenient.why, status=status)
