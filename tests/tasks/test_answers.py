"""Reading answers: where they stand, what voids them, and that every search is linear."""

from __future__ import annotations

import time

import pytest

from gradus.tasks import answers
from gradus.tasks.answers import Code, read, read_gold, visible
from gradus.tasks.characters import to_latex
from gradus.tasks.sentences import doubt

STYLES: tuple[answers.Style, ...] = ("tag", "hash", "boxed", "tags")


def lenient(text: str, style: answers.Style = "boxed", **kwargs: object) -> tuple[str | None, str, Code]:
    reading = read(text, style=style, strict=False, **kwargs)  # type: ignore[arg-type]
    return reading.text, reading.method, reading.code


@pytest.mark.parametrize(
    ("text", "after", "early", "code"),
    [
        ("a", "a", "", Code.OK),
        ("<think>a</think>b", "b", "", Code.OK),
        ("a</think>b", "b", "", Code.OK),
        ("c<think>a</think>b", "b", "c", Code.OK),
        ("<think>a</think>b<think>c</think>d", "d", "", Code.OK),
        ("<think>a", "", "", Code.THINK_UNCLOSED),
        ("e<think>a", "", "e", Code.THINK_UNCLOSED),
        ("<Think>a</THINK>b< /think>", "<Think>a</THINK>b< /think>", "", Code.OK),
    ],
)
def test_visible(text: str, after: str, early: str, code: Code) -> None:
    assert visible(text) == (after, early, code)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a<|im_end|>", "a"),
        ("a <|im_end|>\n<|endoftext|>  ", "a"),
        ("a<|im_end|>\n<|im_start|>user", "a"),
        ("a</s>", "a"),
        ("a" + "</s>" * 5, "a</s>"),
        ("a<|im_end|>b", "a<|im_end|>b"),
    ],
)
def test_trim(text: str, expected: str) -> None:
    assert answers.trim(text) == expected


def test_facts() -> None:
    text = "<think><answer>1</answer></think><answer>2</answer><|im_end|>\n<|im_start|>user\n<answer>3</answer></s>"
    assert answers.facts(text) == {"info/closed_think": 1.0, "info/num_answers": 2.0, "info/run_on": 1.0}
    assert answers.facts("<answer>2</answer><|im_end|>") == {
        "info/closed_think": 0.0,
        "info/num_answers": 1.0,
        "info/run_on": 0.0,
    }


@pytest.mark.parametrize(
    ("text", "expected", "code"),
    [
        (r"\boxed{42}", "42", Code.OK),
        (r"\fbox{42}", "42", Code.OK),
        (r"\boxed 42 done", "42", Code.OK),
        (r"$\boxed 42$ done", "42", Code.OK),
        (r"\boxed\{42\}", "42", Code.OK),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}", Code.OK),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}", Code.OK),
        (r"\boxed{a \text{ if } \{b}", r"a \text{ if } \{b", Code.OK),
        (r"\boxed{\boxed{5}}", "5", Code.OK),
        (r"\boxed{58} recheck \boxed{59}", "59", Code.OK),
        (r"\boxed{4} or \boxed{6}", "4, 6", Code.OK),
        (r"$\boxed{4}$, $\boxed{5}$ and $\boxed{6}$", "4, 5, 6", Code.OK),
        (r"$y_1 = \boxed{4}$, $y_2 = \boxed{6}$", "4, 6", Code.OK),
        (r"\boxed{4} \text{ and } \boxed{6}", "4, 6", Code.OK),
        (r"\boxed{4}\quad\boxed{4}", "4", Code.OK),
        (r"\boxed{4} 或 \boxed{6}", "4, 6", Code.OK),
        (r"\boxed{4} no \boxed{6}", "6", Code.OK),
        (r"\boxed{4} band \boxed{6}", "6", Code.OK),
        (r"\boxed{4}" + " " * 61 + r"\boxed{6}", "6", Code.OK),
        (r"\boxed{4} \boxed{}", None, Code.EMPTY_BOX),
        (r"\boxed{4} \boxed{ }", None, Code.EMPTY_BOX),
        (r"\boxed{4} \boxed{6", None, Code.UNCLOSED_BOX),
        (r"\boxed{{6}", None, Code.UNCLOSED_BOX),
        ("no box", None, Code.NO_ANSWER),
        ("```python\n\\boxed{1}\n```", None, Code.NO_ANSWER),
        ("```latex\n\\boxed{1}\n```", "1", Code.OK),
        ("```\n\\boxed{1}", "1", Code.OK),
        (r"\boxed{7}```output 9```", "7", Code.OK),
        (r"<think>\boxed{1}</think>", None, Code.NO_ANSWER),
    ],
)
def test_strict_box(text: str, expected: str | None, code: Code) -> None:
    reading = read(text, style="boxed", strict=True)
    assert (reading.text, reading.code) == (expected, code)


@pytest.mark.parametrize(
    ("text", "expected", "code"),
    [
        ("#### 18", "18", Code.OK),
        ("####18", "18", Code.OK),
        ("###### 18", "18", Code.OK),
        ("#### 1\nso\n#### 18", "18", Code.OK),
        ("####\n\n 18\nand more", "18", Code.OK),
        ("#### 18 apples\nand more", "18 apples", Code.OK),
        ("### 18", None, Code.NO_ANSWER),
        ("18 ####", None, Code.EMPTY_MARKER),
        ("#### 18\n####", None, Code.EMPTY_MARKER),
    ],
)
def test_strict_marker(text: str, expected: str | None, code: Code) -> None:
    reading = read(text, style="hash", strict=True)
    assert (reading.text, reading.code) == (expected, code)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"<think>a</think><answer>\boxed{3}</answer>", "3"),
        (r"a</think><answer>It is \boxed{3}.</answer> bye", "3"),
        (r"<answer>\boxed{3}</answer>", None),
        (r"<think>a</think>\boxed{3}", None),
        (r"<think>a</think>\boxed{3}<answer>3</answer>", None),
        (r"<think>a<answer>\boxed{3}</answer></think>", None),
    ],
)
def test_strict_tags(text: str, expected: str | None) -> None:
    assert read(text, style="tags", strict=True).text == expected


def test_a_present_mark_decides() -> None:
    """Weaker places are not searched once a stronger one is there, even if it holds nothing."""
    assert lenient("The answer is 5.\n####", "hash", is_number=True) == (None, "hash", Code.EMPTY_MARKER)
    assert lenient(r"The answer is 5. \boxed{", "hash", is_number=True) == (None, "boxed", Code.UNCLOSED_BOX)
    assert lenient(r"#### 4 then \boxed{5}", "hash", is_number=True)[0] == r"4 then \boxed{5}"


def test_lenient_order() -> None:
    assert lenient(r"<answer>6</answer> \boxed{5} the answer is 7") == ("5", "boxed", Code.OK)
    assert lenient(r"<answer>6</answer> the answer is 7") == ("6", "tag", Code.OK)
    assert lenient(r"\boxed{8}<think>a</think>the answer is 7") == ("8", "early", Code.OK)
    assert lenient(r"\boxed{<think>a</think>the answer is 7") == ("7", "phrase", Code.OK)
    assert lenient("First 3, then 9. The answer is 7.\n\nBye 4") == ("7", "phrase", Code.OK)
    assert lenient("so we end up with $x = 7$ here") == ("x = 7", "last", Code.OK)


@pytest.mark.parametrize(
    "phrase", ["The answer is 7", "Answer: 7", "ANSWER = 7", "final answer: 7", "答案是 7", "答案：7"]
)
def test_phrases(phrase: str) -> None:
    assert lenient(f"First 3. {phrase}. Bye", "hash", is_number=True) == ("7", "phrase", Code.OK)


@pytest.mark.parametrize("line", ["28 percent", r"\frac{9}{4}", "x>3", "$5$", "(1, 2)"])
def test_a_short_line_is_its_own_answer(line: str) -> None:
    assert lenient(line) == (line, "last", Code.OK)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("that makes 25 dollars.", "25 dollars"),
        ("that makes 25%", "25%"),
        ("that makes $1,250.50 in all", "$1,250.50 in"),
        ("v2 has a cost of 30 and uses B12", "30 and"),
        ("we get -5", "-5"),
        ("it takes 3/4", "3/4"),
        ("8 * 3 = 24", "24"),
    ],
)
def test_last_number(text: str, value: str) -> None:
    assert lenient(text, "hash", is_number=True) == (value, "last", Code.OK)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("it is 6 or 7", Code.HEDGED),
        ("it is 6, 7 or 8", Code.HEDGED),
        ("it is 6-7", Code.HEDGED),
        ("it is 6 to 7", Code.HEDGED),
        ("it is not 7", Code.NEGATED),
        ("it isn't 7", Code.NEGATED),
        ("it is 8 * 3", Code.UNEVALUATED),
        ("it is --7", Code.NOT_A_NUMBER),
        ("it is > 7", Code.NOT_A_NUMBER),
        ("no number at all", Code.NO_ANSWER),
    ],
)
def test_doubtful_last_values_are_no_answer(text: str, code: Code) -> None:
    reading = read(f"So {text}", style="hash", strict=False, is_number=True)
    assert (reading.text, reading.code) == (None, code)
    if code is not Code.NO_ANSWER and ">" not in text:
        assert lenient(f"The answer is {text.removeprefix('it is ')}", "hash", is_number=True)[0] is None


@pytest.mark.parametrize(
    "text", ["so it was $5$ or $6$", "so x is not $6$", "so we had x < 6 for them", "we got 2 * 6 there"]
)
def test_doubtful_values_in_mathematics(text: str) -> None:
    assert lenient(text)[0] is None


def test_doubt_of_plain_numbers() -> None:
    assert {doubt(text) for text in ("7", "-7", "7 apples", "1,250", "3/4", "2 + 3 = 5", "$7.50", "7%")} == {Code.OK}


@pytest.mark.parametrize("text", ["The answer is 5", "so 5", "<answer>5", r"\boxed{5", "<think>5", "5 ####"])
@pytest.mark.parametrize("style", STYLES)
def test_a_cut_completion_is_truncated(text: str, style: answers.Style) -> None:
    for strict in (True, False):
        reading = read(text, style=style, strict=strict, finish="length")
        if not (style == "tag" and not strict and text == "<answer>5"):
            assert reading.text is None
            assert reading.code is Code.TRUNCATED


def test_a_marked_answer_before_the_cut_counts() -> None:
    assert lenient(r"\boxed{5} and so", finish="length")[0] == "5"
    assert lenient("<answer>5</answer> and", "hash", finish="length")[0] == "5"
    assert lenient("#### 5\nand", "hash", finish="length")[0] == "5"


def test_countdown_reads_weaker_places_leniently() -> None:
    assert lenient("<answer>1 + 2</answer>", "tag")[0] == "1 + 2"
    assert lenient(r"so \boxed{1 + 2}", "tag")[0] == "1 + 2"
    assert lenient("so <answer>1 + 2", "tag")[0] == "1 + 2"
    assert lenient("so 1 + 2", "tag") == (None, "none", Code.NO_ANSWER)


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ("3²", "3^{2}"), ("½", r"\frac{1}{2}"), ("−5", "-5"), ("２５", "25"), ("√2", r"\sqrt{2}"),
        ("√(a+1)", r"\sqrt{a+1}"), ("5\u200b0", "50"), ("72°", r"72^{\circ}"), ("٣", "٣"), ("ﬁ", "ﬁ"),
    ],
)  # fmt: skip
def test_characters(span: str, expected: str) -> None:
    assert to_latex(span) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("so 5 * 2 = 10\n#### 10", "10"),
        (r"Therefore $\boxed{\frac{1}{2}}$.", r"\frac{1}{2}"),
        ("```python\nprint(\\boxed{3})\n```\n```output\n3\n```\nso $\\boxed{7}$", "7"),
        ("  42 ", "42"),
        ("", None), (" \n", None), ("?", None), ("proof", None), ("Answer.", None), (r"\boxed{}", None),
        (r"\boxed{3", None), ("####", None), ("x" * 2001, None),
    ],
)  # fmt: skip
def test_read_gold(text: str, expected: str | None) -> None:
    assert read_gold(text) == expected


@pytest.mark.parametrize("style", STYLES)
def test_other_types_and_finishes_are_refused(style: answers.Style) -> None:
    for text in (None, b"a", 3):
        with pytest.raises(TypeError, match="is a str"):
            read(text, style=style, strict=True)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'stop' or 'length'"):
        read("a", style=style, strict=True, finish="eos")  # type: ignore[arg-type]


def test_empty_and_too_long() -> None:
    assert read(" \n", style="boxed", strict=False).code is Code.EMPTY
    assert read("x" * (answers.MAX_CHARS + 1), style="boxed", strict=False).code is Code.TOO_LONG


UNITS = (
    "<think>", "</think>", "<answer>", "</answer>", r"\boxed{", r"\boxed{}", r"\boxed{1}", "{", "}", "#", "-", ",", "$",
    "`",     "```a\n", "7", " ", "\n", "answer is ", "final answer", "1,", "6 or ", "$a", "$a$", r"\(", r"\(a",
    r"\[a", "√(", "a b ",
)  # fmt: skip


@pytest.mark.parametrize("unit", UNITS)
def test_a_megabyte_takes_less_than_a_tenth_of_a_second(unit: str) -> None:
    body = unit * (1_000_000 // len(unit))
    for text in (body, rf"\boxed{body}", f"{body}</think>", f"the answer is {body} 5"):
        for style in STYLES:
            seconds = min(_cpu_seconds(text, style) for _ in range(2))
            assert seconds < 0.1, (unit, style)


def _cpu_seconds(text: str, style: answers.Style) -> float:
    started = time.process_time()
    read(text, style=style, strict=False, is_number=style == "hash")
    return time.process_time() - started
