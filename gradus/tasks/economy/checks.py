"""Rulings of the strict reading, for the self-test: what ordinary JSON readers decide otherwise."""

from __future__ import annotations

from collections.abc import Iterator

from gradus.tasks.economy.decision import parse_decision

CASES: tuple[tuple[str, str], ...] = (
    ('{"work": 0.9, "consumption": 0.42}', "ok"),
    ('\t\r\n {"consumption":1,"work":0} \n', "ok"),
    ('{"\\u0077ork": 0.5, "consumption": 0.5}', "ok"),
    ('{"work": -0.0, "consumption": -0}', "ok"),
    ('{"work": 1e-400, "consumption": -1e-400}', "ok"),
    ('{"work": 1.0000000000000001, "consumption": 0.5}', "ok"),
    ('\ufeff{"work": 0.5, "consumption": 0.5}', "text_before"),
    ('\x0c{"work": 0.5, "consumption": 0.5}', "text_before"),
    ('{"work": 0.5, "consumption": 0.5}\u00a0', "text_after"),
    ('{"work": 0.5, "consumption": 0.5}.', "text_after"),
    ('{"work": 0.5, "consumption": 0.5}{"work": 1, "consumption": 1}', "text_after"),
    ("", "empty"),
    (" \n\t", "empty"),
    ('```json\n{"work": 0.5, "consumption": 0.5}\n```', "fenced"),
    ("[0.5, 0.5]", "not_object"),
    ("0.5", "not_object"),
    ("true", "not_object"),
    ("I would work.", "no_object"),
    ('Answer: {"work": 0.5, "consumption": 0.5}', "text_before"),
    ('{work: 0.5, "consumption": 0.5}', "syntax"),
    ('{"work": .5, "consumption": 0.5}', "syntax"),
    ('{"work": 00.5, "consumption": 0.5}', "syntax"),
    ('{"work": +0.5, "consumption": 0.5}', "syntax"),
    ('{"work": 1_0, "consumption": 0.5}', "syntax"),
    ('{"work": 0,8, "consumption": 0.5}', "syntax"),
    ('{"work": 0.5, "consumption": 0.5,}', "syntax"),
    ('{"work": 0.5 /* much */, "consumption": 0.5}', "syntax"),
    ('{{"work": 0.5, "consumption": 0.5}}', "syntax"),
    ('{"work": nan, "consumption": 0.5}', "syntax"),
    ('{"work": ０.5, "consumption": 0.5}', "syntax"),
    ('{"Work": 0.5, "consumption": 0.5}', "unknown_key"),
    ('{"work ": 0.5, "consumption": 0.5}', "unknown_key"),
    ('{"w\u043erk": 0.5, "consumption": 0.5}', "unknown_key"),
    ('{"work": 0.5, "work": 0.5, "consumption": 0.5}', "duplicate_key"),
    ('{"work": "0.5", "consumption": 0.5}', "value_type"),
    ('{"work": true, "consumption": 0.5}', "value_type"),
    ('{"work": null, "consumption": 0.5}', "value_type"),
    ('{"work": [0.5], "consumption": 0.5}', "value_type"),
    ('{"work": NaN, "consumption": 0.5}', "non_finite"),
    ('{"work": -Infinity, "consumption": 0.5}', "non_finite"),
    ('{"work": 1.01, "consumption": 0.5}', "out_of_range"),
    ('{"work": -0.1, "consumption": 0.5}', "out_of_range"),
    ('{"work": 1e400, "consumption": 0.5}', "out_of_range"),
    ('{"work": 0.5}', "missing_key"),
    ("{}", "missing_key"),
    ('{"work": 0.5, "consu', "truncated"),
    ('{"work": 7', "truncated"),
    ("{", "truncated"),
)  # fmt: skip


def reading_cases() -> Iterator[tuple[str, str, str]]:
    """(name, expected, actual) for each ruling."""
    for text, expected in CASES:
        yield f"{text[:40]!r} is {expected}", expected, parse_decision(text).reason
