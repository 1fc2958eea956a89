"""The probe's reading of rows: every verdict on its fixture, cautions, golden numbers, edges; E-07 and E-09."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from gradus.evaluation.probe import Plan, Probe, ScorerCheck, correctness_share, read
from gradus.evaluation.probe_table import hours, lines
from gradus.evaluation.table import Table
from gradus.evaluation.verdict import LIMITS, MEANING, Facts, judge
from gradus.exits import Code
from tests.evaluation.evaluation_rows import made_rows

PLAN = Plan(group_size=16, problems_per_step=16, max_tokens=100, recipe="countdown_nano")


def probed(num_correct: Sequence[int], *, plan: Plan = PLAN, check: ScorerCheck | None = None, **fields: Any) -> Probe:
    return read(made_rows(num_correct, 16, **fields), plan, check=check)


def codes(probe: Probe) -> tuple[list[str], list[str]]:
    """Codes of advice and of cautions."""
    judgement = probe.judgement
    return [one.code for one in judgement.advice], [one.code for one in judgement.cautions]


# (counts of 16) → accuracy, variance, bits, mixed with interval, verdict, rule, cautions
FIXTURES: dict[str, tuple[list[int], tuple[Any, ...], str, str, list[str]]] = {
    "decided": ([16] * 82 + [0] * 18, (0.82, 0.0, 0.0, 0.0, 0.0, 0.037), "HARDER_DATA", "V5", ["high_accuracy"]),
    "alike": ([13] * 100, (0.8125, 0.1523, 0.696, 1, 0.963, 1), "GO", "V7", ["high_accuracy"]),
    "rare": ([1] * 96 + [2] * 4, (0.065, 0.0606, 0.346, 1, 0.963, 1), "GO", "V7", ["low_accuracy"]),
    "hopeless": ([0] * 97 + [16] * 3, (0.03, 0.0, 0.0, 0.0, 0.0, 0.037), "SFT_FIRST", "V3", ["low_accuracy"]),
    "even": ([8] * 100, (0.5, 0.25, 1.0, 1, 0.963, 1), "GO", "V7", []),
    "solved": ([16] * 95 + [8] * 5, (0.975, 0.0125, 0.05, 0.05, 0.021, 0.112), "HARDER_DATA", "V4",
               ["high_accuracy", "uncertain"]),
    "thin": ([16] * 80 + [4] * 12 + [0] * 8, (0.83, 0.0225, 0.097, 0.12, 0.070, 0.199), "GO_WITH_CHANGES", "V6",
             ["high_accuracy", "uncertain"]),
    "third": ([8] * 30 + [16] * 40 + [0] * 30, (0.55, 0.075, 0.30, 0.30, 0.219, 0.396), "GO_WITH_CHANGES", "V6", []),
}  # fmt: skip


@pytest.mark.parametrize("name", FIXTURES)
def test_a_fixture_has_its_numbers_and_its_verdict(name: str):
    counts, expected, verdict, rule, cautions = FIXTURES[name]
    probe = probed(counts)
    facts = probe.facts
    mixed = facts["mixed"]
    found = (
        facts["accuracy"]["value"], facts["variance"]["biased"], facts["avg_entropy_bits"]["value"], mixed["value"],
        mixed["low"], mixed["high"],
    )  # fmt: skip
    assert found == pytest.approx(expected, abs=6e-4)
    assert (probe.judgement.verdict, probe.judgement.rule) == (verdict, rule)
    assert codes(probe)[1] == cautions
    assert probe.judgement.exit_code == (Code.DONE if verdict.startswith("GO") else Code.ANSWER_IS_NO)


def test_advice_comes_in_the_order_that_helps_most():
    assert codes(probed(FIXTURES["thin"][0]))[0] == ["harder_data", "filter", "dynamic_sampling"]
    assert codes(probed(FIXTURES["third"][0]))[0] == ["filter", "dynamic_sampling"]
    small = probed([1] * 90 + [0] * 10, plan=replace(PLAN, group_size=4))
    assert small.judgement.verdict == "GO_WITH_CHANGES"
    assert codes(small) == (
        ["filter", "larger_groups", "dynamic_sampling"],
        ["low_accuracy", "small_groups", "uncertain"],
    )
    assert small.judgement.advice[1].override == "sampling.group_size=16"
    dead = probed([0] * 85 + [16] * 4 + [8] * 11)
    assert dead.judgement.rule == "V6" and codes(dead)[0][0] == "sft_first"


def test_nothing_is_advised_that_cannot_help():
    hopeless, saturated = probed([0] * 100), probed([16] * 100)
    assert codes(hopeless)[0] == ["sft_first", "easier_data"], "no group size finds a right answer that is not there"
    assert codes(saturated)[0] == ["harder_data"], "a filter would leave no problem"
    above = probed([16] * 94 + [0] * 6)
    assert above.facts["accuracy"]["high"] > 0.95 and above.judgement.rule == "V5"
    assert codes(above)[1] == ["high_accuracy"], "on either side of the limit the advice is harder data"


def test_a_broken_scorer_comes_before_everything_and_names_its_rows():
    check = ScorerCheck(gold_wrong=["countdown/train/00007"], empty_paid=[f"p{i}" for i in range(9)])
    judgement = probed([8] * 100, check=check).judgement
    assert (judgement.verdict, judgement.rule, judgement.exit_code) == ("NO_GO", "V1", Code.ANSWER_IS_NO)
    assert "countdown/train/00007" in judgement.reasons[0] and "p4, ..." in judgement.reasons[0]
    failed = probed([0] * 100, status="timeout")
    assert failed.judgement.rule == "V1" and "100.0 %" in failed.judgement.reasons[0]


def test_truncation_names_the_limit_to_type():
    cut = made_rows([8] * 100, 16)
    for row in cut:
        row["finish"], row["num_tokens"] = ("length", 100) if row["sample"] < 10 else ("stop", 95)
    judgement = read(cut, PLAN).judgement
    assert (judgement.verdict, judgement.rule) == ("NO_GO", "V2")
    assert judgement.advice[0].override == "sampling.max_tokens=114", "1.2 times the 95th percentile of what finished"
    for row in cut:
        row["num_tokens"] = min(row["num_tokens"], 40) if row["finish"] == "stop" else 100
    assert read(cut, PLAN).judgement.advice[0].override == "sampling.max_tokens=200", "1.2 times 40 would be less"
    for row in cut:
        row["finish"] = "length" if row["sample"] < 4 else "stop"
    assert "truncated" in codes(read(cut, PLAN))[1]


def test_a_reward_that_varies_by_format_alone_is_said():
    rows = made_rows([0] * 94 + [16] * 6, 16)
    for row in rows:
        tag = 0.1 * (row["sample"] % 2)
        row["parts"] = {"format": tag, "answer": 0.9 * row["correct"]}
        row["reward"] = tag + row["parts"]["answer"]
    probe = read(rows, PLAN)
    assert probe.facts["spread"]["value"] == 1.0 and probe.facts["mixed"]["value"] == 0.0
    caution = next(one for one in probe.judgement.cautions if one.code == "format_only")
    assert "varies by format and not by correctness" in caution.text
    assert probe.facts["reward_parts"]["format"]["within_group_variance"] == pytest.approx(0.01 * 16 * 0.25 / 15)


def test_how_much_of_the_reward_follows_from_correctness():
    assert correctness_share(Table.of(made_rows([4, 8], 16))) == pytest.approx(1.0)
    assert correctness_share(Table.of(made_rows([0, 16], 16))) is None


def test_duplicates_and_few_problems_and_unclear_limits_are_cautions():
    assert codes(probed([8] * 99, completion="same"))[1] == ["duplicates", "few_problems"]
    said = [
        probed([8] * 9, plan=replace(PLAN, temperature=t), completion="same").judgement.cautions[0] for t in (0.7, 1.0)
    ]
    assert [one.override for one in said] == ["sampling.temperature=1.0", ""], "what is so already is not advised"
    unclear = probed([8] * 47 + [0] * 53)
    caution = next(one for one in unclear.judgement.cautions if one.code == "uncertain")
    needed = int(caution.override.removeprefix("--num "))
    mixed = unclear.facts["mixed"]
    half = (mixed["high"] - mixed["low"]) / 2 / math.sqrt(needed / 100)
    assert mixed["value"] + half <= 0.5 and needed % 50 == 0
    exact = probed([8] * 50 + [0] * 50)
    assert "no number of problems would decide" in exact.judgement.cautions[-1].text


def test_limits_of_the_config_decide():
    strict = replace(PLAN, limits={"min_accuracy": 0.6})
    assert probed([8] * 100, plan=strict).judgement.rule == "V3"
    assert set(LIMITS) >= set(strict.limits)


@pytest.mark.parametrize("counts", [[16], [0], [16] * 3, [0] * 3, [0, 16]])
def test_edges_have_a_stated_result(counts: list[int]):
    probe = probed(counts)
    text = json.dumps(probe.to_json(), allow_nan=False)
    assert json.loads(text)["verdict"] in MEANING
    assert "NaN" not in text and not re.search(r"\bnan\b", "\n".join(lines(probe)))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "there are no rows"),
        (made_rows([1], 1), "1 completions per problem cannot show what groups of 16 hold"),
        (made_rows([1, 2], 8), "8 completions per problem"),
    ],
)
def test_what_cannot_be_read_is_refused(rows: list[dict[str, Any]], message: str):
    with pytest.raises(ValueError, match=message):
        read(rows, PLAN)


def test_other_group_sizes_have_their_price_and_what_was_not_measured_says_so():
    sizes = probed([4] * 100).facts["by_group_size"]
    assert sizes["16"] == {"mixed": 1.0, "completions_per_useful_group": 16.0, "oversampling_factor": 1.0}
    assert sizes["2"]["mixed"] == pytest.approx(1 - (4 * 3 + 12 * 11) / (16 * 15))
    assert sizes["32"]["mixed"] is None and sizes["32"]["reason"] == "not measured (16 samples)"
    assert sizes["32"]["extrapolated"] > 0.99
    assert probed([0] * 100).facts["by_group_size"]["8"]["oversampling_factor"] is None


def test_wasted_tokens_are_weighted_by_length():
    rows = [*made_rows([0], 16), *({**row, "problem_id": "b"} for row in made_rows([8], 16))]
    for row in rows:
        row["num_tokens"] = 30 if row["problem_id"] == "b" else 10
    assert read(rows, PLAN).facts["wasted_token_frac"] == pytest.approx(0.25)


def test_the_table_says_in_words_what_the_numbers_mean():
    text = "\n".join(lines(probed(FIXTURES["third"][0])))
    assert "accuracy        55.0 %  [46.8, 62.9]    inside 10–80 %" in text
    assert "mixed groups    30.0 %  [21.9, 39.6]    all wrong 30.0 %, all right 40.0 %" in text
    assert "with 95 % intervals, of the policy before its first step; as it learns, by a model, mixed " in text
    assert 'variance        0.075   (> 0.05)        per problem at 16 samples this means "mixed"' in text
    assert "VERDICT GO_WITH_CHANGES" in text
    assert "gradus probe countdown_nano --keep 0.1 0.9 --out kept.jsonl" in text
    assert not [line for line in text.splitlines() if line != line.rstrip()]


def test_what_becomes_of_the_mixed_share_is_told_as_far_as_it_can_be():
    later = probed([4] * 60 + [8] * 40).facts["as_it_learns"]
    assert [one["gain"] for one in later] == [0.05, 0.1, 0.2]
    assert [one["accuracy"] for one in later] == pytest.approx([0.4, 0.45, 0.55])
    assert all(0.9 < one["mixed"] <= 1 for one in later)
    assert [one["gain"] for one in probed([15] * 100).facts["as_it_learns"]] == [0.05]
    rising, falling = probed([1] * 100).facts["as_it_learns"], probed([13] * 90 + [16] * 10).facts["as_it_learns"]
    assert rising[0]["mixed"] <= rising[-1]["mixed"] and falling[0]["mixed"] >= falling[-1]["mixed"]


def test_a_probe_is_json_with_the_schema():
    whole = json.loads(json.dumps(probed([8] * 10).to_json(), allow_nan=False))
    assert whole["schema"] == "gradus.probe/1" and whole["verdict"] == "GO"
    assert {"accuracy", "mixed", "variance", "histogram", "by_group_size", "scoring", "by_domain"} <= whole.keys()
    assert whole["histogram"][8] == 10 and sum(whole["histogram"]) == 10


def test_the_verdict_never_divides_by_a_mixed_share_of_zero():
    """Twenty decided problems: the interval reaches above 10 %, so the data are not refused, and nothing is mixed."""
    judgement = probed([0] * 10 + [16] * 10).judgement
    assert judgement.rule == "V6" and "dynamic_sampling" not in [one.code for one in judgement.advice]


def test_facts_can_be_judged_without_rows():
    estimate = read(made_rows([8] * 100, 16), PLAN).facts["accuracy"]
    from gradus.evaluation.stats import Estimate

    share = Estimate(**estimate)
    facts = Facts(
        accuracy=share, mixed=share, all_right=0.0, all_wrong=0.0, group_size=16, num_problems=100, mixed_by_size={},
        truncated=0.0, duplicates=0.0, error_frac=0.0, max_tokens=10, p95_finished_tokens=None,
    )  # fmt: skip
    assert judge(facts).verdict == "GO"


def test_hours_for_people():
    assert [hours(value) for value in (None, 0.001, 0.5, 1.84)] == ["—", "1 min", "30 min", "1 h 50 min"]
