"""The loss: pure functions of tensors, blind to models and trainers.

``loss = (weights_BT * token_loss_BT).sum()``. The weights carry the whole aggregation and are made once per optimizer
step from the counts of the whole step, so any cut into micro-batches or ranks gives the same gradient.

Shape suffixes: ``B`` completions, ``T`` token positions of a completion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gradus.algo.presets import Algorithm


def token_weights(
    mask_BT: Tensor,
    *,
    aggregate: Literal["sequence", "token", "fixed"],
    max_tokens: int,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Weight of each token in the loss of one optimizer step; zero outside ``mask_BT``.

    ``sequence``: 1/(len·N), every completion counts the same. ``token``: 1/Σlen, every token counts the same.
    ``fixed``: 1/(max_tokens·N), no length in the denominator (Dr. GRPO). N = completions with at least one token.
    ``mask_BT`` must hold all completions of the step. Returns zeros where nothing is left to learn from.
    """
    assert mask_BT.ndim == 2
    lengths_B = mask_BT.sum(dim=1)
    num_completions = int((lengths_B > 0).sum())
    if num_completions == 0:
        return torch.zeros(mask_BT.shape, dtype=dtype, device=mask_BT.device)
    if aggregate == "sequence":
        scale_B = 1.0 / (lengths_B.clamp(min=1).to(dtype) * num_completions)
    elif aggregate == "token":
        scale_B = torch.full_like(lengths_B, 1.0 / float(lengths_B.sum()), dtype=dtype)
    else:
        scale_B = torch.full_like(lengths_B, 1.0 / (max_tokens * num_completions), dtype=dtype)
    return mask_BT * scale_B[:, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLoss:
    """Per-token terms, before the weights; gradients flow through ``total_BT`` and ``policy_BT``."""

    total_BT: Tensor
    policy_BT: Tensor
    """Clipped surrogate, negated."""
    kl_BT: Tensor | None
    """k3 estimate of KL(policy || reference), ≥ 0; None without a reference."""
    log_ratio_BT: Tensor
    """log policy − log sampler, detached; zero outside the mask."""


def token_loss(
    *,
    algorithm: Algorithm,
    policy_logprobs_BT: Tensor,
    sampler_logprobs_BT: Tensor,
    advantages_B: Tensor,
    mask_BT: Tensor,
    reference_logprobs_BT: Tensor | None = None,
    entropy_BT: Tensor | None = None,
) -> TokenLoss:
    """Loss of every token. All log-probabilities are at the sampling temperature, in nats."""
    assert policy_logprobs_BT.shape == sampler_logprobs_BT.shape == mask_BT.shape
    assert advantages_B.shape == mask_BT.shape[:1]
    log_ratio_BT = torch.where(mask_BT, policy_logprobs_BT - sampler_logprobs_BT, 0.0)
    policy_BT = -_surrogate(algorithm, policy_logprobs_BT, log_ratio_BT, advantages_B[:, None], mask_BT)
    total_BT, kl_BT = policy_BT, None
    if reference_logprobs_BT is not None:
        kl_BT = k3(policy_logprobs_BT, reference_logprobs_BT)
        total_BT = total_BT + algorithm.kl_coef * kl_BT
    if algorithm.entropy_coef > 0:
        assert entropy_BT is not None, "an entropy bonus needs the entropy"
        total_BT = total_BT - algorithm.entropy_coef * entropy_BT
    return TokenLoss(total_BT=total_BT, policy_BT=policy_BT, kl_BT=kl_BT, log_ratio_BT=log_ratio_BT.detach())


def k3(policy_logprobs_BT: Tensor, reference_logprobs_BT: Tensor) -> Tensor:
    """Non-negative, unbiased estimate of KL(policy || reference) under policy samples (Schulman, "Approximating KL
    Divergence", 2020): r − 1 − log r with r = reference / policy."""
    log_ratio = reference_logprobs_BT - policy_logprobs_BT
    return torch.expm1(log_ratio) - log_ratio


def _surrogate(
    algorithm: Algorithm, logprobs_BT: Tensor, log_ratio_BT: Tensor, advantages_B1: Tensor, mask_BT: Tensor
) -> Tensor:
    """What is maximised, per token."""
    if algorithm.ratio_level == "detached":
        return advantages_B1 * logprobs_BT
    if algorithm.ratio_level == "capped":
        factor_BT = torch.exp(log_ratio_BT.detach()).clamp(max=1 + algorithm.clip_high)
        return factor_BT * advantages_B1 * logprobs_BT
    if algorithm.ratio_level == "sequence":
        lengths_B1 = mask_BT.sum(dim=1, keepdim=True).clamp(min=1)
        log_ratio_BT = (log_ratio_BT.sum(dim=1, keepdim=True) / lengths_B1).expand_as(log_ratio_BT)
    ratio_BT = torch.exp(log_ratio_BT)
    clipped_BT = ratio_BT.clamp(1 - algorithm.clip_low, 1 + algorithm.clip_high)
    return torch.minimum(ratio_BT * advantages_B1, clipped_BT * advantages_B1)
