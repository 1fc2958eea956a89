"""Text to answer: where in a completion the answer stands. Standard library; every search is linear in the text.

Reasoning is never an answer: only what follows the last ``</think>`` counts. Tags, markers and boxes are found by
``find`` and ``rfind``; no pattern here can backtrack over model text.
"""

from __future__ import annotations

import re
from typing import Literal

from gradus.tasks.characters import to_latex
from gradus.tasks.codes import Code, Reading, found, not_found
from gradus.tasks.sentences import last_value, phrase
from gradus.types import Finish

__all__ = ["Code", "Reading", "Style", "read", "read_gold", "visible"]

Style = Literal["tag", "hash", "boxed", "tags"]
"""Where the strict answer stands: in an answer tag, after ``####``, in a box, or in a box in an answer tag."""

MAX_CHARS = 4 << 20
"""Longer texts are refused unread (characters)."""
MAX_WALK = 200_000
"""At most so many characters, the last ones, are walked through by Python code."""
MAX_GOLD = 2_000
"""Longer golds are unreadable (characters)."""
MAX_SPAN = 10 * MAX_GOLD
"""Longer answers are left as they are written: they equal no gold."""
MAX_BOXES = 16
"""Most neighbouring boxes that are one answer."""
MAX_GAP = 60
"""Most characters between two of them."""

END_OF_TURN = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "</s>", "<|im_start|>user")


# ---------------------------------------------------------------- the parts of a completion


def trim(text: str) -> str:
    """Drops trailing blanks and end-of-turn texts, at most four of them."""
    text = text.rstrip()
    for _ in range(4):
        end = next((mark for mark in END_OF_TURN if text.endswith(mark)), None)
        if end is None:
            break
        text = text[: -len(end)].rstrip()
    return text


def visible(text: str) -> tuple[str, str, Code]:
    """Returns what follows the reasoning, what precedes it, and ``ok`` or ``think_unclosed``.

    A bare ``</think>`` is normal: the prompt may have opened the tag.
    """
    end = text.rfind("</think>")
    start = text.find("<think>")
    if end >= 0:
        return text[end + 8 :], text[: max(start, 0)], Code.OK
    if start >= 0:
        return "", text[:start], Code.THINK_UNCLOSED
    return text, "", Code.OK


def facts(text: str) -> dict[str, float]:
    """Facts about a completion that every task with tags reports: whether the reasoning was closed, how many answer
    tags follow it, and whether the model ran on into another turn."""
    text = trim(text)
    is_run_on = ("<|" in text or "</s>" in text) and any(mark in text for mark in END_OF_TURN)
    end = text.rfind("</think>")
    return {
        "info/closed_think": float(end >= 0),
        "info/num_answers": float(text.count("<answer>", max(end, 0))),
        "info/run_on": float(is_run_on),
    }


_FENCE = re.compile(r"`{3,}")
_FENCES_READ = frozenset(("latex", "tex", "math", "markdown", "md"))


def blank_fences(text: str) -> str:
    """Removes fenced blocks, which hold programs and their output; of mathematical ones only the fences."""
    if "```" not in text:
        return text
    head, text = text[:-MAX_WALK], text[-MAX_WALK:]
    kept = [head]
    place, opened = 0, None
    for fence in _FENCE.finditer(text):
        if opened is None:
            kept.append(text[place : fence.start()])
            opened = fence
            continue
        language, newline, content = text[opened.end() : fence.start()].partition("\n")
        if newline and language.strip().lower() in _FENCES_READ:
            kept.append(content)
        kept.append("\n")
        place, opened = fence.end(), None
    kept.append(text[place if opened is None else opened.start() :])
    return "".join(kept)


# ---------------------------------------------------------------- marked answers: tag, marker, box


def last_tag(text: str) -> Reading:
    """Reads the last ``<answer>`` up to the first ``</answer>`` after it; an earlier one is not recovered."""
    start = text.rfind("<answer>")
    if start < 0:
        return not_found()
    num_candidates = text.count("<answer>")
    end = text.find("</answer>", start + 8)
    if end < 0:
        return not_found(Code.UNCLOSED_TAG, "tag", num_candidates)
    return found(text[start + 8 : end], "tag", num_candidates, Code.EMPTY_TAG)


_MARKER = re.compile(r"#{4,}")


def last_marker(text: str) -> Reading:
    """Reads what stands behind the last run of four or more ``#``: the rest of its line, or the next non-blank line."""
    start = text.rfind("####")
    if start < 0:
        return not_found()
    num_candidates = max(1, len(_MARKER.findall(text[-MAX_WALK:])))
    line = text[start + 4 :].lstrip().partition("\n")[0].rstrip()
    return found(line, "hash", num_candidates, Code.EMPTY_MARKER)


_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_ESCAPED_BRACE = re.compile(r"\\[{}]")
_TOKEN_END = re.compile(r"\s|\$|\\[)\]]|\Z")
_BLANKS = re.compile(r"\s*")


def closing_brace(text: str, start: int, end: int | None = None) -> int:
    """Returns the place of the brace that closes the one at ``start``, or -1; ``\\{`` and ``\\}`` do not count."""
    return _closing(_BRACE, "{", "}", text, start, end)


def _closing(pattern: re.Pattern[str], opening: str, closing: str, text: str, start: int, end: int | None) -> int:
    depth = 0
    end = min(len(text) if end is None else end, start + MAX_WALK)
    for match in pattern.finditer(text, start, end):
        mark = match.group()
        if mark == opening:
            depth += 1
        elif mark == closing:
            depth -= 1
            if depth == 0:
                return match.start()
    return -1


def _box_before(text: str, end: int) -> int:
    """Place of the last ``\\boxed`` or ``\\fbox`` that begins before ``end``, or -1."""
    return max(text.rfind(r"\boxed", 0, end), text.rfind(r"\fbox", 0, end))


def _box_at(text: str, start: int, end: int) -> tuple[str | None, int]:
    """Content of the box at ``start`` and the place after it; None where it does not close before ``end``."""
    place = start + (6 if text.startswith(r"\boxed", start) else 5)
    blanks = _BLANKS.match(text, place, end)
    place = blanks.end() if blanks else place
    if text.startswith("{", place):
        close = closing_brace(text, place, end)
        return (None, end) if close < 0 else (text[place + 1 : close], close + 1)
    if text.startswith(r"\{", place):
        close = _closing(_ESCAPED_BRACE, r"\{", r"\}", text, place, end)
        return (None, end) if close < 0 else (text[place + 2 : close], close + 2)
    token = _TOKEN_END.search(text, place, end)
    close = token.start() if token else end
    return text[place:close], close


_GAP = re.compile(
    r"(?:\s|\$|\\[()\[\],;:! ]|\\q?quad\b|[,;&、，~]|\\text ?\{ ?(?:and|or|和|或),? ?\}|\b(?:and|or)\b|[和或]"
    r"|[A-Za-z](?:_(?:[A-Za-z0-9]|\{[A-Za-z0-9]{1,8}\}))?'{0,2} ?=)*"
)


def last_box(text: str) -> Reading:
    """Reads the last box, with the boxes left of it that are the same answer: ``\\boxed{4} or \\boxed{6}`` is 4, 6.

    A last box that is empty or does not close voids the earlier ones.
    """
    start = _box_before(text, len(text))
    if start < 0:
        return not_found()
    num_candidates = text.count(r"\boxed") + text.count(r"\fbox")
    content, _ = _box_at(text, start, len(text))
    if content is None:
        return not_found(Code.UNCLOSED_BOX, "boxed", num_candidates)
    if not content or content.isspace():
        return not_found(Code.EMPTY_BOX, "boxed", num_candidates)
    contents = [content.strip()]
    for _ in range(MAX_BOXES - 1):
        before = _box_before(text, start) if num_candidates > 1 else -1
        if before < 0:
            break
        content, end = _box_at(text, before, start)
        is_neighbour = content is not None and content.strip() and start - end <= MAX_GAP
        if not is_neighbour or not _GAP.fullmatch(text, end, start):
            break
        contents.append(content.strip() if content else "")
        start = before
    answer = ", ".join(dict.fromkeys(reversed(contents)))
    return Reading(text=answer, method="boxed", code=Code.OK, num_candidates=num_candidates)


# ---------------------------------------------------------------- the two readings


def read(text: str, *, style: Style, strict: bool, finish: Finish = "stop", is_number: bool = False) -> Reading:
    """Finds the answer of a completion. Total for every ``str``; another type is a TypeError.

    Args:
        style: where the strict answer stands.
        strict: only there; otherwise also in weaker places, of which the first that applies decides.
        finish: ``length`` rules out sentences and last values, which may have been cut.
        is_number: the answer is one number, so that hedges and unevaluated operations are no answer.
    """
    if not isinstance(text, str):
        raise TypeError(f"a completion is a str, not {type(text).__name__}")
    if finish not in ("stop", "length"):
        raise ValueError(f"finish={finish!r} does not exist; a completion ends by 'stop' or 'length'")
    if len(text) > MAX_CHARS:
        return not_found(Code.TOO_LONG)
    text = trim(text)
    if not text:
        return not_found(Code.EMPTY)
    after, early, code = visible(text)
    if code is not Code.OK:
        return not_found(Code.TRUNCATED if finish == "length" else code)
    if style != "tag":
        after = blank_fences(after)
    reading = _strict(after, style, "</think>" in text) if strict else _lenient(after, early, style, finish, is_number)
    if reading.text is None:
        is_cut = finish == "length" and reading.code in _CUT
        return not_found(Code.TRUNCATED, reading.method, reading.num_candidates) if is_cut else reading
    if style == "tag" or len(reading.text) > MAX_WALK or reading.text.isascii():
        return reading
    return found(to_latex(reading.text), reading.method, reading.num_candidates, Code.NO_ANSWER)


_CUT = frozenset((Code.NO_ANSWER, Code.UNCLOSED_TAG, Code.UNCLOSED_BOX, Code.EMPTY_MARKER))
"""Codes that a completion cut by the token limit turns into ``truncated``."""


def _strict(after: str, style: Style, has_closed_think: bool) -> Reading:
    if style == "hash":
        return last_marker(after)
    if style == "boxed":
        return last_box(after)
    tag = last_tag(after)
    if style == "tag" or tag.text is None:
        return tag
    return last_box(tag.text) if has_closed_think else not_found(Code.NO_ANSWER, "tag", tag.num_candidates)


def _lenient(after: str, early: str, style: Style, finish: Finish, is_number: bool) -> Reading:
    tag = last_tag(after)
    if style == "tag":
        return _lenient_tag(after, tag)
    if style == "hash":
        after = tag.text or after
        marked = (last_marker(after), last_box(after), tag if tag.text is not None else not_found())
    else:
        marked = (last_box(after), tag, _early(early))
    for reading in marked:
        if reading.method != "none":
            return reading
    if finish == "length":
        return not_found()
    tail = after[-MAX_WALK:]
    return phrase(tail, is_number) or last_value(tail, is_number)


def _lenient_tag(after: str, tag: Reading) -> Reading:
    """An expression: the tag, else the last box, else what an unclosed last tag holds."""
    if tag.text is not None:
        return tag
    box = last_box(after)
    if box.text is not None or tag.code is not Code.UNCLOSED_TAG:
        return box if box.text is not None else tag
    return found(after[after.rfind("<answer>") + 8 :], "tag", tag.num_candidates, Code.UNCLOSED_TAG)


def _early(early: str) -> Reading:
    """A box before the reasoning."""
    box = last_box(blank_fences(early))
    return Reading(text=box.text, method="early", code=Code.OK, num_candidates=1) if box.text else not_found()


_PLACEHOLDERS = frozenset(
    ("?", "??", "answer", "the answer", "proof", "n/a", "none given", "todo", "see solution", "...")
)


def read_gold(text: str) -> str | None:
    """Reads a gold from a box, from behind ``####``, or from the text itself; None where it is unreadable."""
    text = blank_fences(trim(text))
    for reading in (last_box(text), last_marker(text)):
        if reading.method != "none":
            gold = reading.text
            break
    else:
        gold = text
    gold = to_latex(gold).strip() if gold else ""
    return None if not gold or len(gold) > MAX_GOLD or gold.lower().strip(" .") in _PLACEHOLDERS else gold
