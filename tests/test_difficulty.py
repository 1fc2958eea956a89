"""Scores from file names and the buckets they fall into: the tables of the Safety-gen data, and the edge values."""

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradus.data.curriculum import assign_bucket, bucket_edges, difficulty, parse_name
from gradus.difficulty import rank_buckets


@pytest.mark.parametrize(
    ("domain", "name", "sizes", "additive", "product"),
    [
        ("blocksworld", "bw_ops3_n4_seed200074", {"n": 4}, 20, 16),
        ("ferry", "ferry-l4-c2-s122320450", {"l": 4, "c": 2}, 26, 8),
        ("grippers", "grippers-n1-r4-o3-s299249445", {"n": 1, "r": 4, "o": 3}, 23, 12),
        ("spanner", "spanner-s3-n2-l4-s1595284416", {"s": 3, "n": 2, "l": 4}, 28, 24),
        ("delivery", "delivery-s3-p2-seed7", {"s": 3, "p": 2}, 21, 6),
        ("logistics", "logi-n3-o2-s9", {"n": 3, "r": 0, "o": 2}, 19, 3),
        ("ferry", "C:\\data-l9-c9\\FERRY-L4-C2.PDDL", {"l": 4, "c": 2}, 26, 8),
        ("ferry", "a/ferry-l4-c2-s1-constrained.v2.pddl", {"l": 4, "c": 2}, 26, 8),
        ("spanner", "spanner-s5-n4-l7", {"s": 5, "n": 4, "l": 7}, 51, 140),
        ("blocksworld", "bw_ops4_n10_seed1.pddl", {"n": 10}, 50, 100),
    ],
)
def test_names_give_sizes_and_scores(domain, name, sizes, additive, product):
    assert parse_name(domain, name) == sizes
    assert difficulty(domain, name) == additive
    assert difficulty(domain, name, "product") == product


@pytest.mark.parametrize(
    ("domain", "name"),
    [
        ("blocksworld", "p01"),
        ("grippers", "grippers"),
        ("blocksworld", "bw_ops3_nX_seed4"),
        ("blocksworld", "bw_ops3_n-4_seed4"),
        ("blocksworld", "bw_ops3_n1234567890_seed4"),
        ("delivery", "instance_s-3_p-2_v-0"),
        ("ferry", ""),
        ("ferry", "ferry-c2-l4"),
        ("ferry", "ferry-l4-c2/"),
        ("ferry", "ferry-l4x-c2"),
        ("logistics", "logi-r3-o2"),
        ("ferry", "ferry-l\u0664-c2"),
    ],
)
def test_unreadable_names_warn_and_score_lowest(domain, name, caplog):
    assert parse_name(domain, name) is None
    with caplog.at_level(logging.WARNING, "gradus.data.curriculum"):
        assert difficulty(domain, name) == 0
        assert difficulty(domain, name, "product") == 1
    assert len(caplog.records) == 2 and caplog.records[0].name == "gradus.data.curriculum"


def test_a_wrong_formula_is_refused():
    for name in ("ferry-l4-c2", "p01"):
        with pytest.raises(ValueError, match="formula='sum'"):
            difficulty("ferry", name, "sum")  # type: ignore[arg-type]


SAFETY_GEN = {
    "blocksworld": ({20: 100, 25: 105, 30: 295}, (25.0, 30.0), (205, 295, 0)),
    "ferry": ({26: 83, 29: 83, 31: 84, 34: 84, 36: 83, 39: 83}, (31.0, 36.0), (250, 167, 83)),
    "grippers": ({23: 150, 25: 93, 28: 150, 30: 107}, (25.0, 30.0), (243, 257, 0)),
    "spanner": ({28: 187, 33: 211, 35: 102}, (33.0, 35.0), (398, 102, 0)),
}


@pytest.mark.parametrize("domain", SAFETY_GEN)
def test_the_tables_of_the_original_data_come_out(domain):
    counts, edges, expected = SAFETY_GEN[domain]
    scores = [score for score, count in counts.items() for _ in range(count)]
    assert len(scores) == 500 and bucket_edges(scores) == edges
    buckets = [assign_bucket(score, *edges) for score in scores]
    assert tuple(buckets.count(bucket) for bucket in ("easy", "medium", "hard")) == expected


def test_edge_values():
    assert bucket_edges([7, 7, 7]) == (7, 7) and assign_bucket(7, 7, 7) == "easy"
    assert bucket_edges([3]) == (3, 3)
    assert bucket_edges([1, 2]) == (1.4, 1.8)
    assert [assign_bucket(score, 1.4, 1.8) for score in (1, 2)] == ["easy", "hard"]
    assert bucket_edges([1] * 90 + [100] * 10) == (1, 1)
    assert assign_bucket(100, 1, 1) == "hard"
    with pytest.raises(ValueError, match="no scores"):
        bucket_edges([])


@given(st.lists(st.one_of(st.integers(0, 60), st.floats(-1e6, 1e6)), min_size=1, max_size=300))
def test_edges_are_numpys(scores):
    assert bucket_edges(scores) == (np.percentile(scores, 40), np.percentile(scores, 80))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60))
def test_rank_buckets_are_full_ordered_and_of_the_stated_size(scores):
    keys = [(score, index) for index, score in enumerate(scores)]
    buckets = rank_buckets(keys)
    count = len(keys)
    assert buckets.count("easy") == max(1, round(0.4 * count))
    if count >= 3:
        assert set(buckets) == {"easy", "medium", "hard"}
        assert buckets.count("hard") == max(1, count - round(0.8 * count))
    order = {"easy": 0, "medium": 1, "hard": 2}
    ranked = [order[bucket] for _, bucket in sorted(zip(keys, buckets, strict=True))]
    assert ranked == sorted(ranked)
