"""From scored groups to rows, and from rows to a summary."""

import json
import math

import pytest

from gradus.evaluation.evaluate import prompt_text, rows, summarize
from gradus.types import Completion, Group, Message, Problem, Score
from tests.evaluation.evaluation_rows import made_rows


def group(*correct, problem_id="countdown/test/00001", reward=None):
    problem = Problem(
        id=problem_id,
        task="countdown",
        messages=(Message(role="system", content="Think."), Message(role="user", content="2, 5, 8 to 11?")),
        truth={"target": 11},
        domain="n3",
        difficulty=0.25,
        meta={"cluster": "t1"},
    )
    completions = tuple(
        Completion(text=f"try {i}", tokens=(1, 2), logprobs=(-0.5, -0.25), finish="stop", policy_step=0)
        for i in range(len(correct))
    )
    scores = tuple(
        Score(reward=float(c) if reward is None else reward, correct=c, parts={"value": float(c)}, why="correct")
        for c in correct
    )
    return Group(problem=problem, prompt_tokens=(1,), completions=completions, scores=scores)


def test_one_row_per_completion():
    first, second = rows([group(True, False)], buckets={"countdown/test/00001": "easy"})
    assert (first["sample"], second["sample"], first["correct"], second["correct"]) == (0, 1, True, False)
    assert (first["bucket"], first["cluster"], first["domain"]) == ("easy", "t1", "n3")
    assert first["mean_nll"] == 0.375 and first["num_tokens"] == 2 and first["solution"] == {"target": 11}
    assert first["prompt"] == "[system]\nThink.\n\n[user]\n2, 5, 8 to 11?"
    json.dumps(first, allow_nan=False)


def test_bare_prompt_of_one_message():
    problem = group(True).problem
    single = Problem(
        id="a", task="t", messages=(Message(role="user", content="hi"),), truth={}, domain="d", difficulty=0.0
    )
    assert prompt_text(single) == "hi" and prompt_text(problem).startswith("[system]")


def test_a_reward_that_is_no_number_is_null():
    row = rows([group(False, reward=math.nan)])[0]
    assert row["reward"] is None and summarize([row])["mean_accuracy"]["value"] == 0


def test_one_sample_partial_credit_example():
    """100 problems, one completion each: 78 scores of 1, 20 of 0 and two format-only scores of 0.2. A published table
    gives 78.40 %, 78.00 % and "entropy" 0.0144 for it: the last measures partial credit, not diversity."""
    made = made_rows([1] * 78 + [0] * 22)
    for row in made[-2:]:
        row["reward"] = 0.2
    summary = summarize(made)
    assert summary["mean_accuracy"]["value"] == pytest.approx(0.784, abs=1e-12)
    assert summary["pass_at_1"]["value"] == 0.78
    assert summary["avg_score_entropy_bits"]["value"] == pytest.approx(0.01444, abs=5e-6)
    assert summary["avg_entropy_bits"] == {
        "value": None,
        "low": None,
        "high": None,
        "se": None,
        "num_problems": 100,
        "reason": "needs K ≥ 2",
    }


def test_token_entropy_weighs_tokens():
    made = made_rows([1, 0])
    made[0].update(num_tokens=30, mean_nll=0.1)
    made[1].update(num_tokens=10, mean_nll=0.5)
    assert summarize(made)["entropy"]["value"] == pytest.approx(0.2)
    assert summarize(made, settings={"temperature": 0})["entropy"]["reason"] == "greedy decoding draws no tokens"
    assert summarize(made_rows([1, 0], mean_nll=None))["entropy"]["reason"] == "no log-probabilities in the rows"


def test_shares():
    made = made_rows([2, 0], 4)
    made[0]["finish"] = "length"
    made[1]["completion"] = made[0]["completion"]
    made[2]["status"] = "timeout"
    for row in made:
        row["parts"]["info/format_fail"] = float(row["sample"] == 3)
    summary = summarize(made, reward_range=(0.0, 1.0))
    assert summary["truncated_frac"]["value"] == summary["duplicate_frac"]["value"] == 0.125
    assert summary["format_fail_frac"]["value"] == 0.25 and summary["floor_reward_frac"]["value"] == 0.75
    assert summary["scoring"]["timeout_frac"] == summary["scoring"]["error_frac"] == 0.125
    assert set(summary["pass_at"]) == {"1", "2", "3", "4"} and summary["p95_tokens"]["value"] == 13
    assert set(summary["by_domain"]) == {"even", "odd"} and summary["by_bucket"] == {}


@pytest.mark.parametrize("made", [[], made_rows([1]), made_rows([0] * 3, 2), made_rows([4] * 3, 4)])
def test_edges_give_stated_results_and_strict_json(made):
    summary = summarize(made, reward_range=(0, 1))
    json.dumps(summary, allow_nan=False)
    assert summary["pass_at_1"].get("reason") or 0 <= summary["pass_at_1"]["value"] <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda made: made.pop(), "between 1 and 2 completions"),
        (lambda made: made.append(dict(made[0])), "has sample 0 twice"),
        (lambda made: made[0].pop("reward"), "row 0 has no reward"),
        (lambda made: made[0].update(parts=[1]), "row 0 is no evaluation row"),
        (lambda made: made[1].update(reward="NaN"), "row 1 is no evaluation row"),
    ],
)
def test_rows_that_do_not_fit_are_named(change, message):
    made = made_rows([1, 0], 2)
    change(made)
    with pytest.raises(ValueError, match=message):
        summarize(made)


def test_buckets_stand_from_easy_to_hard():
    made = made_rows([1] * 6)
    for row, bucket in zip(made, ["hard", "medium", "easy"] * 2, strict=True):
        row["bucket"] = bucket
    summary = summarize(made)
    assert list(summary["by_bucket"]) == ["easy", "medium", "hard"]
    assert list(summary["by_domain_bucket"]) == [
        f"{d} × {b}" for d in ("even", "odd") for b in ("easy", "medium", "hard")
    ]
