"""Advantages: laws that hold for every group, and values worked out by hand."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradus.algo.advantage import EPSILON, advantages
from gradus.algo.presets import PRESETS, cautions

REWARDS = st.lists(st.floats(-10, 10), min_size=2, max_size=16)
BASELINED = ("standardize", "center", "leave_one_out")


@given(rewards=REWARDS, kind=st.sampled_from(BASELINED))
def test_a_baseline_makes_them_sum_to_zero(rewards, kind):
    assert math.fsum(advantages(rewards, kind=kind)) == pytest.approx(0, abs=1e-6)


@given(rewards=REWARDS, shift=st.floats(-5, 5), kind=st.sampled_from(BASELINED))
def test_shifting_all_rewards_changes_nothing(rewards, shift, kind):
    shifted = advantages([reward + shift for reward in rewards], kind=kind)
    assert shifted == pytest.approx(advantages(rewards, kind=kind), abs=1e-6 / EPSILON)


@given(rewards=REWARDS)
def test_leave_one_out_is_the_distance_from_the_mean_of_the_others(rewards):
    for index, value in enumerate(advantages(rewards, kind="leave_one_out")):
        others = rewards[:index] + rewards[index + 1 :]
        assert value == pytest.approx(rewards[index] - statistics.fmean(others), abs=1e-9)


def test_standard_deviation_is_the_sample_one():
    # rewards 1, 0: mean 1/2, sample deviation sqrt(1/2): ±0.7071 before epsilon
    assert advantages((1.0, 0.0), kind="standardize", epsilon=0.0) == pytest.approx((0.5**0.5, -(0.5**0.5)))


def test_values_by_hand():
    assert advantages((1.0, 0.0, 0.0), kind="center") == pytest.approx((2 / 3, -1 / 3, -1 / 3))
    assert advantages((1.0, 0.0, 0.0), kind="leave_one_out") == pytest.approx((1.0, -0.5, -0.5))
    assert advantages((1.0, 0.1), kind="none") == (1.0, 0.1)


@pytest.mark.parametrize("kind", BASELINED)
def test_equal_rewards_give_exactly_nothing(kind):
    assert advantages((1.0,) * 8, kind=kind) == (0.0,) * 8


@pytest.mark.parametrize("kind", BASELINED)
def test_a_group_of_one_is_refused(kind):
    with pytest.raises(ValueError, match="group_size must be at least 2"):
        advantages((1.0,), kind=kind)


@pytest.mark.parametrize(
    ("name", "group_size", "is_warned"), [("grpo", 2, True), ("grpo", 3, False), ("dr_grpo", 2, False)]
)
def test_two_standardized_completions_are_warned_of(name, group_size, is_warned):
    """Whatever the rewards are, the advantages are the same: what the warning says."""
    algorithm = PRESETS[name]
    assert bool(cautions(algorithm, group_size)) is is_warned
    one, other = (advantages([low, 1.0] * (group_size - 1), kind=algorithm.advantage)[0] for low in (0.0, 0.9))
    assert (one == pytest.approx(other, abs=2e-3)) is (algorithm.advantage == "standardize")
