"""Plan texts: strict and lenient reading, and that no text takes long or raises."""

import time

import pytest

from gradus.tasks.planning.limits import Limits
from gradus.tasks.planning.plan import Plan, parse_plan

AB = (("a", "x"), ("b", "y", "z"))


def strict(text: str | bytes) -> Plan:
    return parse_plan(text)


def lenient(text: str | bytes) -> Plan:
    return parse_plan(text, "lenient")


def fault(plan: Plan) -> tuple[str, int | None] | None:
    return (plan.error.code, plan.error.step) if plan.error else None


@pytest.mark.parametrize(
    "text",
    [
        "(a x)\n(b y z)",
        "(a x)\n(b y z)\n",
        "  ( a\tx )  \r\n\r\n\t(B   Y\x0b z)\r\n",
        "; plan\n(a x) ; first\n\n;\n(b y z);last",
        "0: (a x)\n1: (b y z)",
        "0.001: (a x) [1.000]\n0.0020 : (b y z) [ 2 ]",
        "9: (a x)\n(b y z)",
        "\ufeff(a x)\n(b y z)",
        b"(a x)\n(b y z)",
        b"; caf\xe9\n(a x)\n(b y z)",
        "; <plan> \u2028 is no line end\n(a x)\n(b y z)",
    ],
)
def test_both_modes_read_a_plan_file(text: str | bytes):
    assert strict(text).actions == AB and strict(text).error is None
    assert lenient(text).actions == AB and lenient(text).error is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(a x)\nthen\n(b)", ("bad_line", 2)),
        ("(a x)\n```", ("bad_line", 2)),
        ("1. (a x)", ("bad_line", 1)),
        ("- (a x)", ("bad_line", 1)),
        ("(a x) (b)", ("bad_line", 1)),
        ("(a x)(b)", ("bad_line", 1)),
        ("()", ("bad_line", 1)),
        ("(a x)\n( \t)", ("bad_line", 2)),
        ("(a x", ("unclosed", 1)),
        ("(a ; x)", ("unclosed", 1)),
        ("((a))", ("nested", 1)),
        ("(" * 100_000, ("unclosed", 1)),
        ("(a x)\n(b\0)", ("bad_char", 2)),
        ("(a x)\n; \0", ("bad_char", 2)),
        ("(a \u0445)", ("bad_char", 1)),
        ("(a\u00a0x)", ("bad_char", 1)),
        ("1: (a)\n1: (b)", ("bad_stamp", 2)),
        ("1.50: (a)\n1.5: (b)", ("bad_stamp", 2)),
        ("0.45: (a)\n0.5: (b)\n0.05: (c)", ("bad_stamp", 3)),
        ("1234567890: (a)", ("bad_line", 1)),
        ("1: 2: (a)", ("bad_line", 1)),
        ("(a x) [fast]", ("bad_line", 1)),
        ("<think>\n(a x)\n</think>\n(a x)", ("bad_line", 1)),
        ("<think>", ("bad_line", 1)),
        (b"(a \xff)", ("bad_char", 1)),
    ],
)
def test_strict_reading_refuses(text: str | bytes, expected: tuple[str, int]):
    assert fault(strict(text)) == expected


@pytest.mark.parametrize(
    "text", ["", " \t\r\n\v\f", "; nothing\n;", "<think>(a x)</think>\n \n", "thinking (a)</THINK>"]
)
@pytest.mark.parametrize("mode", ["strict", "lenient"])
@pytest.mark.parametrize("reasoning", ["keep", "strip"])
def test_these_are_the_empty_plan(text: str, mode, reasoning):
    assert parse_plan(text, mode, reasoning) == Plan((), ())


def test_reasoning_can_be_stripped_in_strict_mode():
    text = "<think>\nfirst (b)\n</think>\n\n(a x)\nno"
    plan = parse_plan(text, "strict", "strip")
    assert plan.actions == (("a", "x"),) and plan.lines == (5,) and fault(plan) == ("bad_line", 2)
    assert fault(parse_plan("<think> (a x)", "strict", "strip")) == ("no_answer", None)


@pytest.mark.parametrize(
    "text",
    [
        "Here is my plan:\n(a x)\n(b y z)\nThat is optimal (I think).",
        "1. (a x)\n2. (b y z)",
        "1) (a x)\n2) (b y z)",
        "1: (a x)\n2: (b y z)",
        "- (a x)\n* (b y z)",
        "+ (a x)\n• (b y z)",
        "Step 1: (a x)\nstep 2: (b y z)",
        "1. `(a x)`\n2. **(b y z)**",
        "- **`(a x)`**\n`**(b y z)**`",
        "(a x), (b y z).",
        "(a x) (b y z)",
        "(a x)(b y z)",
        "```pddl\n(a x)\n\n(b y z)\n```",
        "<plan>(a x)\n(b y z)</plan>",
        "<answer>\n<PLAN>(a x)\n(b y z)</Plan></answer> Done.",
        "<think>(b)\n(a)</think>(a x)\n(b y z)",
        "<think>a</think><think>b</think>\n(a x)\n(b y z)",
        "(a x)\n\n; half way\n(b y z)<|im_end|>\n<|endoftext|> ",
        "(a x)\n(b y z)</s></s><eos><end_of_turn>\n",
        "(c)\nNo, better:\n(a x)\n(b y z)",
        "(c)\n```\n(a x)\n(b y z)\n```\n",
        "<plan>(c)</plan><plan>(a x)\n(b y z)</plan>",
        "\u7b54\u6848\uff1a\n\U0001f600\n(a x)\n(b y z)\n\u5b8c\u6210",
        "\u0130\u0130\u0130 <THINK>x</THINK>(a x)\n(b y z)",
        "NUL \0 in prose\n(a x)\n(b y z)",
        "(a x)\n(b y z)\n(d\u00e9j\u00e0 vu) is prose\n",
    ],
)
def test_lenient_reading_finds_the_last_block(text: str):
    plan = lenient(text)
    assert plan.actions == AB and plan.error is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>(a x)\n", ("no_answer", None)),
        ("<think>a</think>(a x)<think>", ("no_answer", None)),
        ("<think>" * 200_000, ("no_answer", None)),
        ("I cannot do it.", ("no_plan_found", None)),
        ("1.", ("no_plan_found", None)),
        ("(a x) and so on", ("no_plan_found", None)),
        ("<|(a x)|>", ("no_plan_found", None)),
        ("(a x)\n(b", ("unclosed", 2)),
        ("(a x) (b", ("unclosed", 2)),
        ("(a x)\n((b))", ("nested", 2)),
        ("(a x)\n()\n(b)", ("bad_line", 2)),
        ("(" * 100_000, ("nested", 1)),
        ("(a x)\n(b \u0443 z)", ("bad_char", 2)),
        ("(a x)\n(b \0 z)", ("bad_char", 2)),
    ],
)
def test_lenient_reading_refuses(text: str, expected: tuple[str, int | None]):
    assert fault(lenient(text)) == expected


def test_lines_point_into_the_whole_text():
    assert lenient("<think>\n\n</think>\nSo:\n\n- (a x)\n\n- (b y z)").lines == (6, 8)
    assert strict("\n\n(a x)\n").lines == (3,)


def test_only_six_characters_are_white_space():
    for character in "\x1c\x1d\x1e\x1f":
        assert strict(f"(a{character}x)").actions[0] != ("a", "x")
    assert strict("(a\x85x)").error is not None
    assert strict("\u2003(a x)").error is not None
    assert fault(lenient("\u2003(a x)")) == ("no_plan_found", None)


def test_letters_are_folded_in_ascii_alone():
    assert strict("(PicK X)").actions == (("pick", "x"),)
    assert strict("(pic\u212a x)").error is not None


def test_limits_are_malformed_not_errors():
    assert fault(parse_plan("(a x)\n" * 3, limits=Limits(plan_actions=2))) == ("plan_too_large", None)
    assert fault(parse_plan("(a x)\n" * 3, "lenient", limits=Limits(plan_actions=2))) == ("plan_too_large", None)
    assert fault(parse_plan("\u00e9" * 6, limits=Limits(plan_bytes=11))) == ("plan_too_large", None)
    assert Limits.training().plan_bytes == 1 << 20 and Limits.training().plan_actions == 20_000


@pytest.mark.parametrize("text", [None, 3, ["(a)"]])
def test_what_is_no_text_is_a_type_error(text):
    with pytest.raises(TypeError):
        parse_plan(text)


PATTERNS = [
    " ", "\n", "\r\n", ";", ";\n", "(", ")", "()", "(\n", "()\n", "(a)\n", "(a (", "<think>", "</think>", "<plan>", "<",
    "</", "`", "```\n", "*", "**", "- ", "-\n", "1. ", "1:", "1.\n", "step 1: ", "word ", "word\n", "a (\n", "(a) b\n",
    "<|im_end|>", "<||>", "<|", "|>", "</s>", "</s> ", "\u00e9", "\u00e9\n", "\u212a</think>", "\x1c", "\0", "\0\n",
    "[1]", "(a)[1]", "(a) ", "(a),", "[", "]", "•",
]  # fmt: skip


@pytest.mark.parametrize("mode", ["strict", "lenient"])
def test_long_texts_of_anything_are_read_in_linear_time(mode):
    for pattern in PATTERNS:
        for text in (pattern * (200_000 // len(pattern)), "(a " + pattern * (200_000 // len(pattern)) + "\n(b)"):
            began = time.process_time()
            parse_plan(text, mode)
            # benchmarks/planning.py measures the bounds; this is far from quadratic even on a busy machine.
            assert time.process_time() - began < 0.5, (pattern, mode)


@pytest.mark.parametrize("num", [0, 1, 63, 64, 65, 127, 128, 129, 192, 193, 5000])
@pytest.mark.parametrize("tail", ["{}", "{}</s>", "</s>{}", "{0}<|end|>{0}</s>{0}"])
def test_any_number_of_blanks_around_special_tokens_is_dropped(num: int, tail: str) -> None:
    assert lenient("(a x)\n(b y z)" + tail.format(" \n" * num)).actions == AB
    assert lenient(tail.format("\v\f" * num)) == Plan((), ())
