"""The strict reading: every ruling, what cut texts are, and agreement with an ordinary reader where that one is right."""

from __future__ import annotations

import json
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradus.tasks.economy.checks import CASES
from gradus.tasks.economy.decision import REASONS, canonical, parse_decision
from gradus.tasks.economy.lenient import parse_lenient

GOOD = '{"work": 0.5, "consumption": 0.25}'


@pytest.mark.parametrize(("text", "reason"), CASES)
def test_rulings(text: str, reason: str) -> None:
    decision = parse_decision(text)
    assert decision.reason == reason
    assert decision.ok == (reason == "ok")
    assert (decision.work is None) == (reason != "ok")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "not_text"),
        (b"{}", "not_text"),
        ("-1", "not_object"),
        ('"work"', "not_object"),
        ("null", "not_object"),
        ("nullify", "no_object"),
        ('null {"work": 1, "consumption": 1}', "text_before"),
        ("{'work': 0.5}", "syntax"),
        ('{"work": 0.5 "consumption": 0.5}', "syntax"),
        ('{"work" 0.5}', "syntax"),
        ('{"work\n": 0.5, "consumption": 0.5}', "syntax"),
        ('{"wo\\qrk": 0.5, "consumption": 0.5}', "syntax"),
        ('{"work": {"a": 1}, "consumption": 0.5}', "value_type"),
        ('{"work": 0.5, "consumption": Infinity}', "non_finite"),
        ('{"work": tru, "consumption": 0.5}', "syntax"),
        ('{"work": 0x1, "consumption": 0.5}', "syntax"),
        ('{"work": 0.5, "consumption": 0.5}\x00', "text_after"),
        ('{"work": ' + "1" * 5000 + ', "consumption": 0.5}', "out_of_range"),
        ('{"work": 0.' + "3" * 5000 + ', "consumption": 0.5}', "ok"),
        ('{"work": 0.5, "consumption": 0.5, "why": 1}', "unknown_key"),
        ('{"work": 0.5, "consumption": 0.5, "work": 0.5}', "duplicate_key"),
        ('{"why": 1}', "unknown_key"),
        ('{"work": 0.5}}', "missing_key"),
        ('{"work": ٠.5, "consumption": 0.5}', "syntax"),
        ('{"work": 0.5, "consumption": "a', "value_type"),
        ("```", "fenced"),
    ],
)
def test_more_rulings(text: object, reason: str) -> None:
    assert parse_decision(text).reason == reason


def test_every_proper_prefix_is_truncated() -> None:
    for text in (GOOD, '{"consumption":1.0e-2,"\\u0077ork":-0.0}', ' {\n"work" : 1 , "consumption" : 0\t}'):
        body = text.strip()
        for end in range(1, len(body)):
            prefix = body[:end]
            assert parse_decision(prefix).reason == "truncated", prefix
        assert parse_decision(body).ok


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"work": 7', "truncated"),  # 7e-1
        ('{"work": -3', "truncated"),  # -3e-999 is 0
        ('{"work": 1e', "truncated"),
        ('{"work": 1e+', "truncated"),
        ('{"work": 1e0', "truncated"),
        ('{"work": 2e-0', "truncated"),
        ('{"work": 12e5', "out_of_range"),
        ('{"work": 1e400', "out_of_range"),
        ('{"work": 2e+', "out_of_range"),
        ('{"work": 0.5, "wor', "unknown_key"),
        ('{"wrok', "unknown_key"),
        ('{"\\u00', "truncated"),
        ('{"\\u01', "unknown_key"),
        ('{"work": 0.5, "consumption": 0.5,', "syntax"),
        ('{"work": tru', "syntax"),
    ],
)
def test_cut_texts(text: str, reason: str) -> None:
    assert parse_decision(text).reason == reason


@given(st.floats(0, 1), st.floats(0, 1))
def test_every_valid_answer_is_read_exactly(work: float, consumption: float) -> None:
    decision = parse_decision(json.dumps({"consumption": consumption, "work": work}))
    assert (decision.work, decision.consumption) == (work, consumption)


@given(st.text(alphabet='{}":,.0159eE+-\\ workcnsumpti', max_size=60) | st.text(max_size=40))
def test_any_text_gets_a_reason_and_agrees_with_json(text: str) -> None:
    decision = parse_decision(text)
    assert decision.reason in REASONS
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if decision.ok:
        assert isinstance(value, dict) and {k: float(v) for k, v in value.items()} == {
            "work": decision.work, "consumption": decision.consumption}  # fmt: skip
    elif isinstance(value, dict) and set(value) == {"work", "consumption"}:
        numbers = [v for v in value.values() if isinstance(v, (int, float)) and not isinstance(v, bool)]
        assert len(numbers) < 2 or not all(0 <= v <= 1 for v in numbers) or text.count("work") + text.count("\\u") > 1


def test_negative_zero_is_zero() -> None:
    decision = parse_decision('{"work": -0, "consumption": -1e-400}')
    assert math.copysign(1, decision.work or 0) == 1 and math.copysign(1, decision.consumption or 0) == 1


@pytest.mark.parametrize(
    "unit", ['{"work": 0.5, ', "{", '{"', "[", "9", '{"work": 0.', '{"work": 1e-', '{"\\u0077', '"', " "]
)
def test_long_texts_are_quick(unit: str) -> None:
    text = ('{"work": ' if unit == "9" else "") + unit * (100_000 // len(unit))
    best = math.inf
    for _ in range(3):
        started = time.thread_time()
        assert not parse_decision(text).ok
        best = min(best, time.thread_time() - started)
    assert best < 0.05


def test_grid_is_noted() -> None:
    assert parse_decision(canonical(0.94, 0.36)).on_grid
    assert not parse_decision(canonical(0.95, 0.36)).on_grid


@pytest.mark.parametrize(
    ("text", "stage"),
    [
        (GOOD, "strict"),
        (f"```json\n{GOOD}\n```", "cleanup"),
        (f"\ufeff{GOOD}<|im_end|>", "cleanup"),
        (f"<think>hm {{}}</think>{GOOD}", "cleanup"),
        (f"I decide: {GOOD}. Thanks.", "embedded"),
        ('{"Work": 0.5, "Consumption": 0.25}', "alias"),
        ('{"work": "50%", "consumption": "0.25"}', "alias"),
        ("{'work': 0.5, 'consumption': 0.25,}", "literal"),
        ("{work: 0.5, consumption: 0.25}", "literal"),
        ("work: 0.5 and consumption is 0.25", "regex"),
    ],
)
def test_lenient_stages(text: str, stage: str) -> None:
    assert parse_lenient(text) == (0.5, 0.25, stage)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0.5 0.25",
        '{"work": 1.5, "consumption": 0.25}',
        '{"work": 0.5}',
        "work: 5, consumption: 1",
        '{"work": true, "consumption": false}',
        "{" * 100_000,
        None,
    ],
)
def test_lenient_has_limits_and_no_default(text: object) -> None:
    assert parse_lenient(text) is None
