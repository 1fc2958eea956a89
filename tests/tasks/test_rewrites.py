"""Pairs with a known answer by construction: golds rewritten so that their meaning stays or breaks."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from rewrites import BREAKING, KEEPING, generated_golds, pairs

from gradus.tasks.equivalence import equal, is_opaque, is_readable

DATA = os.environ.get("GRADUS_TEST_DATA")


def errors(cases: Iterator[tuple[str, str, bool, str]]) -> tuple[int, list[tuple], list[tuple], Counter[str]]:
    """(number of pairs, false positives, false negatives, pairs per rewrite)."""
    paid: list[tuple] = []
    refused: list[tuple] = []
    names: Counter[str] = Counter()
    for gold, text, is_equal, name in cases:
        names[name] += 1
        verdict = equal(gold, text)
        if verdict.equal != is_equal:
            (refused if is_equal else paid).append((name, gold, text, verdict.why))
    return names.total(), paid, refused, names


def test_three_thousand_rewrites_are_all_decided_right():
    total, paid, refused, names = errors(islice(pairs(generated_golds(400, seed=1)), 3_000))
    assert total == 3_000
    assert paid == []
    assert refused == []
    assert set(names) == set(KEEPING) | set(BREAKING)


def college_golds() -> list[str]:
    """Readable golds of the college mathematics set that are not prose."""
    if DATA is None:
        return []
    lines = (Path(DATA) / "college_math_ccby" / "college_math_ccby.jsonl").read_text(encoding="utf-8").splitlines()
    golds = [json.loads(line)["answer"] for line in lines]
    return [gold for gold in golds if is_readable(gold) and not is_opaque(gold)]


@pytest.mark.slow
def test_ninety_thousand_rewrites_are_wrong_at_most_once_in_ten_thousand(capsys: pytest.CaptureFixture[str]):
    college = college_golds()
    total, paid, refused, _ = errors(pairs(iter([*generated_golds(7_000, seed=2), *college])))
    with capsys.disabled():
        print(
            f" [{total} pairs, {len(college)} college golds: {len(paid)} paid wrongly, {len(refused)} refused wrongly]"
        )
    assert total >= 90_000
    assert len(paid) + len(refused) <= total / 10_000, (paid[:10], refused[:10])


@pytest.mark.skipif(DATA is None, reason="GRADUS_TEST_DATA is not set: no college mathematics")
def test_rewrites_of_college_golds_are_decided_right():
    total, paid, refused, _ = errors(islice(pairs(iter(college_golds()), seed=3), 3_000))
    assert total == 3_000
    assert len(paid) + len(refused) <= 1, (paid, refused)
