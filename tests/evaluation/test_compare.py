"""Base against trained: golden sentence, laws under permutation, renaming and swapping, edges, mismatches, size."""

import json
import random
import resource

import numpy as np
import pytest

from gradus.evaluation.compare import compare
from tests.evaluation.evaluation_rows import made_rows

BASE_K1 = made_rows([1] * 51 + [1] * 5 + [0] * 27 + [0] * 17)
TRAINED_K1 = made_rows([1] * 51 + [0] * 5 + [1] * 27 + [0] * 17)


def random_pair(num_problems=40, num_samples=4, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.beta(1, 1, num_problems)
    base, trained = (rng.binomial(num_samples, np.clip(p + shift, 0, 1)) for shift in (0, 0.2))
    made = [made_rows(counts.tolist(), num_samples) for counts in (base, trained)]
    for row in made[0] + made[1]:
        row["num_tokens"] = int(rng.integers(5, 90))
        row["mean_nll"] = float(rng.random())
        row["reward"] += 0.1 * float(rng.random() < 0.3) if not row["correct"] else 0.0
    return made


def test_golden_sentence():
    assert compare(BASE_K1, TRAINED_K1).sentence == (
        "Better: Pass@1 56.0 % → 78.0 % (+22.0 pp, 95 % CI +11.6 to +32.4, paired p = 1.1e-4, N = 100, K = 1: "
        "27 fixed, 5 broken); smallest detectable here 14.7 pp."
    )


def test_interval_above_zero_is_not_enough():
    base, trained = made_rows([0] * 10, 4), made_rows([1, 2, 0, 1, 0, 2, 0, 3, 0, 1], 4)
    for row in base:
        row["correct"] = row["problem_id"] == "made/0004" and row["sample"] == 0
    comparison = compare(base, trained)
    assert comparison.primary.difference.low > 0 and comparison.primary.p == 0.078125
    assert comparison.verdict == "Not shown"
    assert "N = 10, K = 4: 6 improved, 1 worsened" in comparison.sentence


def test_worse():
    assert compare(TRAINED_K1, BASE_K1).verdict == "Worse"


def test_partial_credit_is_no_gain():
    base, trained = made_rows([1] * 30 + [0] * 30), made_rows([1] * 30 + [0] * 30)
    for row in trained:
        row["reward"] = max(row["reward"], 0.3)
    comparison = compare(base, trained)
    assert comparison.verdict == "Not shown" and comparison.sentence.startswith("Not shown: Pass@1 50.0 % → 50.0 %")
    lines = {line.key: line for line in comparison.summary}
    assert lines["mean_accuracy"].difference.low > 0
    assert any("partial credit" in warning for warning in comparison.warnings)
    assert compare(base, trained, metric="mean_accuracy").verdict == "Better"


def facts(comparison, sign=1):
    """Every number of a comparison that must not depend on order or names, differences taken ``sign`` times."""
    return [
        (line.key, line.p, sign * line.difference.value, {sign * line.difference.low, sign * line.difference.high})
        for line in (*comparison.summary, *comparison.pass_at_k, *comparison.slices)
        if line.difference.low is not None
    ]


def test_order_of_rows_changes_nothing():
    base, trained = random_pair()
    shuffled = [random.Random(1).sample(made, len(made)) for made in (base, trained)]
    assert compare(base, trained).to_json() == compare(*shuffled).to_json()


def test_names_of_problems_change_no_number():
    base, trained = random_pair()
    before = facts(compare(base, trained))
    names = {
        row["problem_id"]: f"x{hash_}"
        for row, hash_ in zip(base, np.random.default_rng(2).permutation(10**6), strict=False)
    }
    for row in base + trained:
        row["problem_id"] = names[row["problem_id"]]
    assert facts(compare(base, trained)) == before


def test_swapping_changes_signs_only():
    base, trained = random_pair()
    one, other = compare(base, trained), compare(trained, base)
    assert facts(one) == facts(other, sign=-1)
    assert (
        one.counts["improved"] == other.counts["worsened"]
        and one.gained[0]["problem_id"] == other.lost[0]["problem_id"]
    )


@pytest.mark.parametrize("counts", [[1], [4, 4, 4], [0, 0], [2]])
def test_edges_give_stated_results(counts):
    made = made_rows(counts, 4)
    comparison = compare(made, made)
    json.dumps(comparison.to_json(), allow_nan=False)
    assert comparison.verdict == "Not shown" and "nan" not in comparison.to_markdown().lower()
    assert comparison.sentence.endswith(".")


def test_failed_scoring_counts_as_wrong_and_is_said():
    base, trained = made_rows([1, 0, 1]), made_rows([0] * 3, reward=None, status="crash", mean_nll=None, num_tokens=0)
    comparison = compare(base, trained)
    json.dumps(comparison.to_json(), allow_nan=False)
    assert comparison.primary.trained.value == 0
    assert "Scoring failed for 100.0 % of the completions of trained; they count as wrong." in comparison.warnings


def test_nothing_in_common():
    for base, trained in (([], []), (made_rows([1]), [])):
        with pytest.raises(ValueError, match="no problem in common"):
            compare(base, trained, allow_mismatch=True)


def test_mismatches_are_all_named():
    base, trained = made_rows([1, 0, 1, 1]), made_rows([1, 0, 1])
    trained[0]["prompt"] = "another template"
    settings = {"temperature": 1.0, "scorer_sha256": "aa", "max_tokens": 64}
    arguments = {"base_settings": settings, "trained_settings": {**settings, "temperature": 0.7, "scorer_sha256": "bb"}}
    with pytest.raises(ValueError) as error:
        compare(base, trained, **arguments)
    for words in (
        "1 missing in trained",
        "prompts: 1 differ",
        "temperature: base 1.0, trained 0.7",
        "scorer_sha256",
        "--allow-mismatch",
    ):
        assert words in str(error.value)
    assert "max_tokens" not in str(error.value)
    comparison = compare(base, trained, **arguments, allow_mismatch=True)
    assert len(comparison.mismatches) == len(comparison.to_json()["mismatches"]) == 4
    assert "not the same experiment" in comparison.to_markdown() and comparison.num_problems == 3


def test_unequal_numbers_of_samples_can_be_forced():
    comparison = compare(made_rows([1, 2, 0], 2), made_rows([3, 2, 0], 3), allow_mismatch=True)
    assert comparison.primary.difference.value == pytest.approx((0.5 - 1 / 3) / 3)


def test_base_overtakes():
    base = made_rows([1] * 8 + [0] * 2, 4)
    trained = made_rows([4] * 5 + [0] * 5, 4)
    comparison = compare(base, trained)
    assert comparison.base_overtakes_at == 3 and "Base is ahead at k = 3" in comparison.to_markdown()


def test_slices_are_adjusted_and_small_ones_marked():
    base, trained = random_pair()
    comparison = compare(base, trained)
    assert [line.name for line in comparison.slices] == ["even", "odd"]
    assert all(line.extra["p_holm"] >= line.p and not line.extra["is_small"] for line in comparison.slices)


def test_buckets_come_from_easy_to_hard():
    base, trained = random_pair(24, 4)
    for row in base + trained:
        row["bucket"] = ("hard", "easy", "medium")[int(row["problem_id"][-4:]) % 3]
    assert [line.name for line in compare(base, trained).slices if "×" not in line.name][-3:] == [
        "easy", "medium", "hard",
    ]  # fmt: skip


def test_clusters_widen_the_interval():
    base, trained = random_pair(24, 4)
    plain = compare(base, trained).primary.difference
    for row in base + trained:
        row["cluster"] = int(row["problem_id"][-4:]) // 4
    clustered = compare(base, trained)
    assert clustered.primary.difference.se == pytest.approx(plain.se)
    assert clustered.primary.difference.se_clustered is not None
    assert any("6 clusters: below 10" in warning for warning in clustered.warnings)


def test_samples_show_the_change():
    comparison = compare(BASE_K1, TRAINED_K1)
    gained = next(sample for sample in comparison.samples if sample["kind"] == "gained")
    assert not gained["base"]["correct"] and gained["trained"]["correct"]
    assert len([sample for sample in comparison.samples if sample["kind"] == "any"]) == 10


def test_markdown_escapes_what_is_not_ours():
    hostile = "a|b`c`<script>[x](y)\n# d"
    base, trained = made_rows([0] * 4, domain=hostile), made_rows([1] * 4, domain=hostile)
    page = compare(base, trained).to_markdown()
    assert "<script>" not in page and "a&#124;b\\`c\\`&lt;script&gt;\\[x\\](y) \\# d" in page


def test_unknown_metric():
    with pytest.raises(ValueError, match="metric='reward'"):
        compare(BASE_K1, TRAINED_K1, metric="reward")


def test_hundred_thousand_rows():
    rng = np.random.default_rng(0)
    base, trained = (made_rows(rng.binomial(100, rng.beta(a, 1, 1000)).tolist(), 100) for a in (1, 1.2))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    compare(base, trained)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 <= 500e6
