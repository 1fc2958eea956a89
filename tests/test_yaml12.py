"""YAML 1.2: what is written is what is read, what could hide or blow up is refused, and what is written reads back.

Covers I-05.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradus.yaml12 import MAX_BYTES, read, read_value, write

READ_AS = [
    ("1e-6", 1e-6),
    ("2.0E-6", 2e-6),
    ("1e6", 1e6),
    (".5", 0.5),
    ("1.", 1.0),
    ("-0.5", -0.5),
    ("+1", 1),
    ("012", 12),
    ("0o12", 10),
    ("0x1f", 31),
    ("1_000", 1000),
    ("no", "no"),
    ("off", "off"),
    ("yes", "yes"),
    ("on", "on"),
    ("y", "y"),
    ("1:30", "1:30"),
    ("'1e-6'", "1e-6"),
    ('"2026-01-01"', "2026-01-01"),
    ("true", True),
    ("False", False),
    ("null", None),
    ("~", None),
    ("''", ""),
    ("[1, 2]", [1, 2]),
    ("{a: 1e-6}", {"a": 1e-6}),
    ("nano/countdown", "nano/countdown"),
    ("runs/x@best", "runs/x@best"),
    ("+-*/", "+-*/"),
]

REFUSED = [
    (b"a: &x 1\nb: *x", 1, "anchor"),
    (b"a: 1\nb: *x", 2, "alias"),
    (b"a: !!str 1", 1, "tag"),
    (b"a: !python/object/apply:os.system [id]", 1, "tag"),
    (b"a: ! 1", 1, "tag"),
    (b"%YAML 1.1\n---\na: 012", 2, "directive"),
    (b"%TAG ! tag:example.org,2000:\n---\na: 1", 2, "directive"),
    (b"<<: {a: 1}", 1, "merge key"),
    (b"a: 1\nb:\n  <<: {c: 1}", 3, "merge key"),
    (b"a: 1\na: 2", 2, "given twice"),
    (b"a:\n  b: 1\n  b: 2", 3, "given twice"),
    (b"a: 1\n---\nb: 2", 2, "second document"),
    (b"a: .inf", 1, "finite"),
    (b"a: [1, .NaN]", 1, "finite"),
    (b"a: 1e999", 1, "finite"),
    (b"a: 2026-01-01", 1, "date; put it in quotes"),
    (b"a: 2026-01-01T00:00:00Z", 1, "date; put it in quotes"),
    (b"a: 2026-13-41", 1, "put it in quotes"),
    (b"a: " + b"9" * 5000, 1, "not a value"),
    (b"a: =", 1, "not a value"),
    (b'a: "\\ud800"', 1, "half a character"),
    (b"1: 2", 1, "key 1 is not text"),
    (b"2026-01-01: 2", 1, "date"),
    (b"? [1]\n: 2", 1, "not text"),
    (b"[" * 100_000, 1, "nested"),
    (b"{a: " * 100_000, 1, "nested"),
    (b"a: [1", 1, "not YAML"),
    (b"a:\n  b: 1\n   c: 2", 3, "not YAML"),
    (b"a:\n\tb: 1", 2, "not YAML"),
    (b"a: b: c", 1, "not YAML"),
]


@pytest.mark.parametrize(("text", "value"), READ_AS, ids=[text for text, _ in READ_AS])
def test_values_are_read_by_yaml_1_2(text: str, value: object):
    found = read_value(text, "x")
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(("data", "line", "why"), REFUSED, ids=[f"{data[:20]!r}" for data, _, _ in REFUSED])
def test_what_hides_or_explodes_is_refused_with_its_line(data: bytes, line: int, why: str):
    with pytest.raises(ValueError, match=rf"^x\.yaml:{line}: .*{why}"):
        read(data, "x.yaml")


@pytest.mark.parametrize(
    ("data", "why"),
    [(b"a: \xff", "UTF-8"), (b"a: \x00", "not YAML"), (b"# " + b"x" * MAX_BYTES, "the limit is 1048576")],
)
def test_what_is_no_text_is_refused(data: bytes, why: str):
    with pytest.raises(ValueError, match=rf"^x\.yaml: .*{why}"):
        read(data, "x.yaml")


def test_aliases_are_refused_before_anything_is_expanded():
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))
    with pytest.raises(ValueError, match="anchor"):
        read(bomb.encode(), "x.yaml")


def test_a_large_comment_is_no_reason_to_refuse():
    assert read(b"#" * (MAX_BYTES - 6) + b"\na: 1", "x").value == {"a": 1}


def test_every_key_has_its_line():
    document = read(b"# head\na:\n  b: 1\n\n  c: [{d: 2}]\n'e': 3\n", "x")
    assert document.lines == {("a",): 2, ("a", "b"): 3, ("a", "c"): 5, ("a", "c", "d"): 5, ("e",): 6}


def test_an_empty_file_is_no_tree():
    assert read(b"# nothing\n", "x").value is None


SCALAR = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    st.sampled_from(
        [text for text, _ in READ_AS] + ["a: b", "a #b", "- x", "&a", "*a", "!a", "\x85", "\u202e", "\x1b[2J", "\ufeff"]
    ),
)
VALUE = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(max_size=8), VALUE, max_size=5))
def test_what_is_written_reads_back_equal(tree: dict):
    again = read(write(tree).encode(), "x").value
    assert again == tree and str(again) == str(tree), "also in type: 1 is not 1.0 nor true"


def test_nothing_that_a_terminal_acts_on_is_written():
    text = write({"a": "\x1b[2J\x85\u202e\u2066\ud800\x00"})
    assert text == 'a: "\\u001b[2J\\u0085\\u202e\\u2066\\ud800\\u0000"\n'


def test_a_comment_stands_behind_its_leaf():
    assert write({"a": {"b": 1}, "c": {}}, ".".join) == "a:\n  b: 1  # a.b\nc: {}  # c\n"
