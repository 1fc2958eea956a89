"""What competition mathematics says: the prompts of each style and language, and the oracle's answer in that style."""

from __future__ import annotations

from gradus.tasks import answers

_INSTRUCTIONS = {
    ("tags", "en"): "Solve the problem. Think inside <think> </think>, then give the final answer as "
    r"<answer>\boxed{...}</answer>, with only the answer in the box.",
    (
        "tags",
        "zh",
    ): r"解答这道题。在 <think> </think> 内思考，然后以 <answer>\boxed{...}</answer> 给出最终答案，方框内只写答案。",
    ("boxed", "en"): r"Solve the problem step by step and end with the final answer alone in \boxed{...}.",
    ("boxed", "zh"): r"请一步一步地解答这道题，最后把最终答案单独写在 \boxed{...} 中。",
}
_NO_SOLUTION = {"en": "The answer is {gold}.", "zh": "答案是 {gold}。"}
_TAGS = ("<think>", "</think>", "<answer>", "</answer>")


def prompt_id(style: str, language: str) -> str:
    """Changes whenever a wording changes; recorded in every problem."""
    return f"math-{style}-{language}-1"


def instruction(style: str, language: str) -> str:
    """The system message. The problem stands alone in the user message."""
    return _INSTRUCTIONS[style, language]


def worked(solution: str, gold: str, *, style: str, language: str, keeps_code: bool) -> str:
    """The data set's solution, ending in the gold as the style asks.

    Code and output blocks of tool-integrated solutions stay or go; they are text, and are never run.
    """
    for tag in _TAGS:
        solution = solution.replace(tag, "")
    if not keeps_code:
        solution = answers.blank_fences(solution)
    solution = solution.strip() or _NO_SOLUTION[language].format(gold=gold)
    if style == "tags":
        return f"<think>\n{solution}\n</think>\n<answer>\\boxed{{{gold}}}</answer>"
    return (
        solution if answers.last_box(answers.blank_fences(solution)).text == gold else f"{solution}\n\\boxed{{{gold}}}"
    )
