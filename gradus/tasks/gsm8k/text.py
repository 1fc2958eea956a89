"""What GSM8K says: the prompts of each style and language, and the oracle's answer in that style."""

from __future__ import annotations

import re

_STEPS = {
    "en": "Solve the problem step by step.",
    "zh": "请一步一步地解答这道题。",
}
_ENDS = {
    ("hash", "en"): " End with a line of its own: #### and the number, like #### 42",
    ("hash", "zh"): "最后单独写一行：#### 和数字，例如 #### 42",
    ("boxed", "en"): r" Put the final number in \boxed{}, like \boxed{42}.",
    ("boxed", "zh"): r"把最后的数字写在 \boxed{} 中，例如 \boxed{42}。",
    ("tags", "en"): r" Think inside <think> </think>, then answer as <answer>\boxed{42}</answer>.",
    ("tags", "zh"): r"在 <think> </think> 内思考，然后这样作答：<answer>\boxed{42}</answer>。",
}
_CALCULATION = re.compile(r"<<[^<>\n]*>>")
_NO_RATIONALE = {"en": "The result is {number}.", "zh": "结果是 {number}。"}


def prompt_id(style: str, language: str) -> str:
    """Changes whenever a wording changes; recorded in every problem."""
    return f"gsm8k-{style}-{language}-1"


def instruction(style: str, language: str) -> str:
    """The system message: how to work and where to write the answer. The question stands alone in the user message."""
    return _STEPS[language] + _ENDS[style, language]


def num_calculations(answer: str) -> int:
    """Number of ``<<48/2=24>>`` notes, GSM8K's own measure of length."""
    return len(_CALCULATION.findall(answer))


def solution(answer: str, style: str, language: str) -> str:
    """The data set's rationale without its ``<<...>>`` notes, ending as the style asks."""
    rationale, _, number = answer.rpartition("####")
    number = number.strip()
    rationale = _CALCULATION.sub("", rationale).strip()
    if style == "hash":
        return f"{rationale}\n#### {number}".strip()
    if style == "boxed":
        return f"{rationale}\n\\boxed{{{number}}}".strip()
    thought = rationale or _NO_RATIONALE[language].format(number=number)
    return f"<think>\n{thought}\n</think>\n<answer>\\boxed{{{number}}}</answer>"
