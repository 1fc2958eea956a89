"""Several runs against one base."""

import json

import numpy as np
import pytest

from gradus.evaluation.replicates import compare_runs
from tests.evaluation.evaluation_rows import made_rows


def runs(gains, num_problems=100):
    rng = np.random.default_rng(0)
    p = rng.uniform(0.1, 0.7, num_problems)
    made = [made_rows(rng.binomial(4, np.clip(p + gain, 0, 1)).tolist(), 4) for gain in (0, *gains)]
    return made[0], {f"run {i}": rows for i, rows in enumerate(made[1:])}


def test_runs_that_agree_and_runs_that_do_not():
    agreeing = compare_runs(*runs([0.2, 0.2, 0.2]))
    assert agreeing.verdict == "Better" and "over 3 training runs +" in agreeing.sentence
    assert agreeing.difference.low > 0.1
    differing = compare_runs(*runs([0.4, 0.0, 0.2]))
    assert differing.verdict == "Not shown" and differing.runs["run 0"].verdict == "Better"
    json.dumps(differing.to_json(), allow_nan=False)


def test_both_runs_and_problems_vary():
    base, trained = runs([0.3, 0.1])
    d_RP = np.array([rates(rows) for rows in trained.values()]) - rates(base)
    squares = [np.var(d_RP.mean(axis=axis), ddof=1) / d_RP.shape[1 - axis] for axis in (0, 1)]
    difference = compare_runs(base, trained).difference
    assert difference.value == pytest.approx(d_RP.mean()) and difference.se == pytest.approx(np.sqrt(sum(squares)))


def rates(rows):
    return np.array([row["correct"] for row in rows], float).reshape(-1, 4).mean(axis=1)


def test_nothing_changed():
    base, _ = runs([0.2, 0.2])
    same = compare_runs(base, {"a": base, "b": base})
    assert same.verdict == "Not shown" and "no interval: every difference is the same" in same.sentence


def test_one_run_is_not_enough():
    base, trained = runs([0.2])
    with pytest.raises(ValueError, match="1 run cannot show"):
        compare_runs(base, trained)
