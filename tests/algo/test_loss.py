"""The loss against loops written from the papers in float64, and its laws.

Shape suffixes: ``B`` completions, ``T`` token positions.
"""

import math

import pytest
import torch

from gradus.algo.loss import k3, token_loss, token_weights
from gradus.algo.presets import PRESETS, Algorithm, resolve_algorithm
from gradus.config import AlgorithmConfig

B, T, MAX_TOKENS = 6, 9, 12


def batch(seed: int, *, off_policy: float = 0.5) -> dict[str, torch.Tensor]:
    """Random log-probabilities, advantages and ragged lengths."""
    generator = torch.Generator().manual_seed(seed)
    policy = -torch.rand(B, T, generator=generator, dtype=torch.float64) * 3
    lengths = torch.randint(1, T + 1, (B,), generator=generator)
    return {
        "policy_logprobs_BT": policy,
        "sampler_logprobs_BT": policy + off_policy * torch.randn(B, T, generator=generator, dtype=torch.float64),
        "reference_logprobs_BT": policy + 0.3 * torch.randn(B, T, generator=generator, dtype=torch.float64),
        "advantages_B": torch.randn(B, generator=generator, dtype=torch.float64),
        "mask_BT": torch.arange(T)[None] < lengths[:, None],
    }


def by_loops(algorithm: Algorithm, data: dict[str, torch.Tensor]) -> float:
    """The papers' formulas, one completion and one token at a time."""
    completions = []
    for row in range(B):
        length = int(data["mask_BT"][row].sum())
        policy, sampler, reference = (
            data[f"{who}_logprobs_BT"][row, :length].tolist() for who in ("policy", "sampler", "reference")
        )
        completions.append((policy, sampler, reference, float(data["advantages_B"][row])))
    total_tokens = sum(len(policy) for policy, *_ in completions)
    loss = 0.0
    for policy, sampler, reference, advantage in completions:
        length = len(policy)
        mean_log_ratio = sum(p - s for p, s in zip(policy, sampler, strict=True)) / length
        for p, s, r in zip(policy, sampler, reference, strict=True):
            ratio = math.exp(mean_log_ratio if algorithm.ratio_level == "sequence" else p - s)
            if algorithm.ratio_level == "detached":
                objective = advantage * p
            elif algorithm.ratio_level == "capped":
                objective = min(ratio, 1 + algorithm.clip_high) * advantage * p
            else:
                clipped = min(max(ratio, 1 - algorithm.clip_low), 1 + algorithm.clip_high)
                objective = min(ratio * advantage, clipped * advantage)
            divergence = math.exp(r - p) - (r - p) - 1
            weight = {"sequence": 1 / (length * B), "token": 1 / total_tokens, "fixed": 1 / (MAX_TOKENS * B)}[
                algorithm.aggregate
            ]
            loss += weight * (-objective + algorithm.kl_coef * divergence)
    return loss


def our_loss(
    algorithm: Algorithm, data: dict[str, torch.Tensor], weights_BT: torch.Tensor | None = None
) -> torch.Tensor:
    if weights_BT is None:
        weights_BT = token_weights(
            data["mask_BT"], aggregate=algorithm.aggregate, max_tokens=MAX_TOKENS, dtype=torch.float64
        )
    return (weights_BT * token_loss(algorithm=algorithm, **data).total_BT).sum()


@pytest.mark.parametrize("name", sorted(PRESETS))
@pytest.mark.parametrize("kl_coef", [0.0, 0.05])
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_papers_loops(name, kl_coef, seed):
    algorithm = resolve_algorithm(AlgorithmConfig(name=name, kl_coef=kl_coef))
    data = batch(seed)
    assert float(our_loss(algorithm, data)) == pytest.approx(by_loops(algorithm, data), rel=1e-12)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_on_policy_gradient_is_reinforce(name):
    """With the sampler's own policy every surrogate has the gradient of weight · advantage · log-probability."""
    algorithm, data = PRESETS[name], batch(3, off_policy=0.0)
    data["reference_logprobs_BT"] = None  # type: ignore[assignment]
    policy = data["policy_logprobs_BT"].clone().requires_grad_()
    our_loss(algorithm, {**data, "policy_logprobs_BT": policy}).backward()
    weights = token_weights(data["mask_BT"], aggregate=algorithm.aggregate, max_tokens=MAX_TOKENS, dtype=torch.float64)
    expected = -weights * data["advantages_B"][:, None]
    if algorithm.ratio_level == "sequence":  # the mean ratio spreads the gradient evenly over the completion
        expected = expected.sum(1, keepdim=True) / data["mask_BT"].sum(1, keepdim=True) * data["mask_BT"]
    torch.testing.assert_close(policy.grad, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("aggregate", ["sequence", "token", "fixed"])
def test_any_cut_of_the_batch_gives_the_same_loss(aggregate):
    """The weights know the whole step, so parts simply add up."""
    algorithm = resolve_algorithm(AlgorithmConfig(name="grpo", aggregate=aggregate))
    data = batch(1)
    weights = token_weights(data["mask_BT"], aggregate=aggregate, max_tokens=MAX_TOKENS, dtype=torch.float64)
    whole = our_loss(algorithm, data, weights)
    for cut in ([[0], [1, 2], [3, 4, 5]], [[5, 1, 3], [0, 2, 4]], [[i] for i in range(B)]):
        parts = sum(our_loss(algorithm, {k: v[rows] for k, v in data.items()}, weights[rows]) for rows in cut)
        assert float(parts) == pytest.approx(float(whole), rel=1e-12)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_padding_never_matters(name):
    algorithm, data = PRESETS[name], batch(2)
    before = float(our_loss(algorithm, data))
    for key in ("policy_logprobs_BT", "sampler_logprobs_BT", "reference_logprobs_BT"):
        data[key] = torch.where(data["mask_BT"], data[key], 7.0)
    assert float(our_loss(algorithm, data)) == pytest.approx(before, rel=1e-12)


def test_weights_by_hand():
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], dtype=torch.bool)
    sequence = token_weights(mask, aggregate="sequence", max_tokens=8)
    assert sequence[0].tolist() == [0.25, 0.25, 0, 0]
    assert sequence[1].tolist() == [0.125] * 4
    assert token_weights(mask, aggregate="token", max_tokens=8).sum() == pytest.approx(1.0)
    assert token_weights(mask, aggregate="fixed", max_tokens=8)[0, 0] == 1 / 16
    assert not token_weights(torch.zeros_like(mask), aggregate="token", max_tokens=8).any()


def test_k3_is_never_negative_and_zero_only_at_equality():
    policy, reference = torch.randn(1000, dtype=torch.float64), torch.randn(1000, dtype=torch.float64)
    assert (k3(policy, reference) > 0).all()
    assert not k3(policy, policy).any()


def test_entropy_bonus_lowers_the_loss_by_its_weighted_mean():
    algorithm = resolve_algorithm(AlgorithmConfig(name="dapo", entropy_coef=0.02))
    data = batch(4)
    entropy = torch.rand(B, T, dtype=torch.float64)
    weights = token_weights(data["mask_BT"], aggregate="token", max_tokens=MAX_TOKENS, dtype=torch.float64)
    with_bonus = (weights * token_loss(algorithm=algorithm, entropy_BT=entropy, **data).total_BT).sum()
    expected = float(our_loss(PRESETS["dapo"], data)) - 0.02 * float(entropy[data["mask_BT"]].mean())
    assert float(with_bonus) == pytest.approx(expected, rel=1e-12)


def test_overrides_replace_only_what_they_name():
    assert resolve_algorithm(AlgorithmConfig(name="dapo")) == PRESETS["dapo"]
    changed = resolve_algorithm(AlgorithmConfig(name="dapo", keep_flat_groups=True, clip_low=0.1))
    assert (changed.keep_flat_groups, changed.clip_low, changed.clip_high) == (True, 0.1, 0.28)
