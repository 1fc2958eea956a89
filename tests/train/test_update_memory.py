"""Memory of an update, counted allocation by allocation: a matter of the micro-batch, not of the batch, and never of
vocabulary × tokens."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from gradus.algo.presets import PRESETS
from gradus.policy import logprobs
from gradus.train.batch import collate
from gradus.train.update import accumulate
from tests.models import SIZES
from tests.train.test_update import group_of, policy_of, settings

LENGTH, PROMPTS = 24, 8
ROW_BYTES = 4 * SIZES["vocab_size"]
"""Of one token's logits in float32."""


def peak_bytes(policy, num_groups: int, microbatch_size: int) -> int:
    """Most bytes of tensors that were alive at one time, above those before."""
    groups = [group_of(seed % PROMPTS, [LENGTH] * 4, [1, 0, 0, 1]) for seed in range(num_groups)]
    batch = collate(groups, algorithm=PRESETS["grpo"], max_tokens=LENGTH)
    policy.model.zero_grad(set_to_none=False)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        accumulate(policy, batch, settings(microbatch_size=microbatch_size))
    alive = peak = 0
    for event in found.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            alive += event.nbytes()
            peak = max(peak, alive)
    return peak


@pytest.fixture
def policy():
    made = policy_of(family="qwen2")
    for _, parameter in made.trainable():
        parameter.grad = torch.zeros_like(parameter)
    peak_bytes(made, 1, 4)  # what the first call allocates once
    return made


def test_more_completions_in_the_same_micro_batches_cost_nothing(policy):
    assert peak_bytes(policy, 8, 8) <= 1.1 * peak_bytes(policy, 4, 8)


def test_a_token_costs_its_activations_and_no_row_of_logits(policy, monkeypatch):
    def bytes_per_token() -> float:
        return (peak_bytes(policy, 8, 16) - peak_bytes(policy, 8, 8)) / (8 * LENGTH)

    whole = bytes_per_token()
    monkeypatch.setattr(logprobs, "CHUNK_ELEMENTS", 8 * SIZES["vocab_size"])
    in_chunks = bytes_per_token()
    assert in_chunks <= whole - 1.5 * ROW_BYTES, "two rows of logits stand at the same time where all are in one chunk"
