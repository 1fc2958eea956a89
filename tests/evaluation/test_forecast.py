"""The forecast of the first steps: what it is without and with a rehearsal, its intervals, and the caution it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from gradus.evaluation.cautions import gets_worse
from gradus.evaluation.forecast import Batch, forecast
from gradus.evaluation.stats import mixed_share

NUM_SAMPLES, GROUP_SIZE, PER_BATCH = 16, 8, 16
RNG = np.random.default_rng(7)


def drawn(
    shift: float, rehearsed: int, rng: np.random.Generator, *, sharpening: float = 0.0
) -> tuple[list[Batch], dict[str, int], list[Batch]]:
    """Twenty batches of a policy whose log-odds of success rise by ``shift`` a step and spread by ``sharpening``:
    rehearsed in part, the probe's counts before the first step, and the same batches as training then sees them."""
    batches, correct, truth = [], {}, []
    for step in range(20):
        ids = [f"{step}/{number}" for number in range(PER_BATCH)]
        rates = rng.beta(1.0, 3.0, PER_BATCH)
        correct |= dict(zip(ids, rng.binomial(NUM_SAMPLES, rates).tolist(), strict=True))
        odds = (1 + sharpening * step) * np.log(rates / (1 - rates)) + shift * step
        hits = rng.binomial(GROUP_SIZE, 1 / (1 + np.exp(-odds)))
        seen = Batch(
            step=step, problem_ids=ids, mixed=float(np.mean((hits > 0) & (hits < GROUP_SIZE))), right=hits.mean() / GROUP_SIZE
        )  # fmt: skip
        truth.append(seen)
        batches.append(seen if step < rehearsed else Batch(step=step, problem_ids=ids))
    return batches, correct, truth


def of(batches: Sequence[Batch], correct: dict[str, int]):
    return forecast(batches, correct, num_samples=NUM_SAMPLES, group_size=GROUP_SIZE)


def mean(batches: Sequence[Batch], name: str) -> float:
    return float(np.mean([getattr(batch, name) for batch in batches]))


def test_without_a_rehearsal_it_is_the_probe_of_the_problems_that_come():
    batches, correct, _ = drawn(0.0, 0, RNG)
    found = of(batches, correct)
    assert found["right"]["value"] == pytest.approx(np.mean(list(correct.values())) / NUM_SAMPLES)
    assert found["mixed"]["value"] == pytest.approx(
        np.mean(mixed_share(list(correct.values()), NUM_SAMPLES, GROUP_SIZE))
    )
    assert found["mixed"]["change_per_step"] == 0 and found["mixed"]["value"] == found["mixed"]["before"]
    del correct["0/0"]
    assert of([Batch(step=0, problem_ids=["0/0"])], correct)["right"]["value"] == pytest.approx(
        np.mean(list(correct.values())) / NUM_SAMPLES
    ), "a problem that was not probed counts as the mean"


def test_where_all_was_rehearsed_it_is_what_was_seen():
    batches, correct, truth = drawn(0.05, 20, RNG)
    found = of(batches, correct)
    for name in ("mixed", "right"):
        one = found[name]
        assert one["low"] == one["value"] == one["high"] == pytest.approx(mean(truth, name))


@pytest.mark.parametrize(("shift", "sharpening"), [(-0.03, 0.0), (0.0, 0.0), (0.03, 0.01), (0.06, 0.02)])
def test_its_intervals_hold_what_training_then_sees_and_the_rehearsal_brings_it_nearer(shift: float, sharpening: float):
    rng, inside, errors = np.random.default_rng(11), {"mixed": 0, "right": 0}, {0: 0.0, 12: 0.0}
    for _ in range(100):
        batches, correct, truth = drawn(shift, 12, rng, sharpening=sharpening)
        found = of(batches, correct)
        for name in inside:
            inside[name] += found[name]["low"] <= mean(truth, name) <= found[name]["high"]
        errors[12] += abs(found["right"]["value"] - mean(truth, "right"))
        unseen = [replace(batch, mixed=None, right=None) for batch in batches]
        errors[0] += abs(of(unseen, correct)["right"]["value"] - mean(truth, "right"))
    assert min(inside.values()) >= 93, inside
    assert errors[12] < (0.2 if shift > 0.05 else 1.5) * errors[0], errors


def test_a_policy_that_gets_worse_while_it_rehearses_is_told_to_learn_more_slowly():
    ahead = {"num_steps": 20, "learning_rate": 3e-2}
    found = {}
    for shift in (-0.1, 0.0, 0.05):
        batches, correct, _ = drawn(shift, 10, np.random.default_rng(3))
        found[shift] = gets_worse({**of(batches, correct), **ahead})
    caution = found[-0.1]
    assert caution is not None and caution.override == "optimizer.learning_rate=0.01"
    assert "fewer answers became right" in caution.text
    assert found[0.0] is None and found[0.05] is None
