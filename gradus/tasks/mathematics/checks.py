"""The self-test that users ran by hand: readings, all combinations of format, and comparisons, with what is expected."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from gradus.tasks.equivalence import equal
from gradus.tasks.mathematics.score import format_reward, grade

_READINGS = (
    ("a box", r"So $\boxed{42}$.", "42"),
    ("a nested box", r"\boxed{\frac{\sqrt{3}}{2}}", r"\frac{\sqrt{3}}{2}"),
    ("a box in a tag", r"<think>a</think><answer>\boxed{42}</answer>", "42"),
    ("a tag alone", "<think>a</think><answer>42</answer>", "42"),
    ("the last of two boxes", r"\boxed{41}. No, I must correct that: \boxed{42}", "42"),
    ("two boxes side by side", r"\boxed{4} and \boxed{6}", "4, 6"),
    ("a sentence", "Therefore the answer is 42.", "42"),
    ("a formula at the end", "It follows that x equals $42$.", "42"),
    ("only in the thought", r"<think>\boxed{42}</think> That was all of it.", "nothing"),
    ("an unclosed thought", r"<think>\boxed{42}", "nothing"),
    ("an empty box", r"\boxed{41} or rather \boxed{}", "nothing"),
    ("a box that does not close", r"\boxed{42", "nothing"),
    ("in the output of code", "```output\n\\boxed{42}\n```", "nothing"),
    ("nothing", "I do not know.", "nothing"),
)
_COMPARISONS = (
    (r"\frac{3}{4}", "0.75", True),
    (r"\frac{2}{3}", "0.67", False),
    (r"\frac{2}{7}", r"\frac{2}{9}", False),
    (r"\sqrt{12}", r"2\sqrt{3}", True),
    ("30000", "30001", False),
    ("0.4", "40", False),
    (r"12\%", "0.12", True),
    ("(2,5)", "[2,5]", False),
    (r"(-\infty,3)", "x<3", True),
    ("x^2+7x+10", "(x+2)(x+5)", True),
    ("1, 2", "2, 1", True),
    (r"4\text{ g}", r"4\text{ kg}", False),
    ("212_3", "212_4", False),
    ("9", r"\neq 9", False),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", "(1,2)", True),
    (r"\text{(B)}", "B", True),
    ("3 1/4", r"\frac{13}{4}", True),
    ("5", "x = 5", True),
)


def self_test() -> Iterator[tuple[str, str, str]]:
    """(name, expected, actual) for each case."""
    for name, completion, expected in _READINGS:
        reading, _ = grade("42", completion)
        yield f"reading {name}", expected, reading.text or "nothing"
    for has_thought, has_answer, has_box in product((True, False), repeat=3):
        inside = r"\boxed{42}" if has_box else "42"
        text = f"{'<think>a</think>' if has_thought else 'a '}{f'<answer>{inside}</answer>' if has_answer else inside}"
        expected = (1.0 if has_box else 0.5) if has_thought and has_answer else 0.0
        yield f"format of {text}", f"{expected:g}", f"{format_reward(text):g}"
    for gold, answer, expected in _COMPARISONS:
        yield f"{answer} for {gold}", _word(expected), _word(equal(gold, answer).equal)


def _word(is_equal: bool) -> str:
    return "equal" if is_equal else "different"
