"""Log-probabilities and entropy of completions: prompts computed once per group, the vocabulary in chunks.

Shape suffixes: ``B`` completions, ``T`` completion positions (padded on the right), ``M`` completion tokens of all
completions in a row, ``V`` vocabulary, ``C`` tokens of one chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gradus.policy.tree import PackedTree

CHUNK_ELEMENTS = 1 << 24
"""Logits alive at one time (64 MB in float32; the gradient of an entropy bonus holds three such tensors, all else two)."""


def completion_logprobs(
    model: nn.Module,
    *,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    prompt_of: Sequence[int],
    temperature: float,
    use_fused: bool | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-probability of each completion token and entropy of its distribution, float32 (float64 if the model is).

    ``model`` is a causal LM from `policy.load`. ``prompt_of[b]`` is the index of completion b's prompt.
    Returns ``logprobs_BT``, ``entropy_BT`` (nats, at ``temperature``), zero outside the completions. Differentiable.
    """
    body, head = split_model(model)
    tree = PackedTree(
        prompts=prompts, completions=completions, prompt_of=prompt_of, device=head.weight.device, use_fused=use_fused
    )
    hidden_ND = body(input_ids=tree.tokens_N[None], position_ids=tree.positions_N[None], use_cache=False, tree=tree)[0][
        0
    ]
    hidden_MD = hidden_ND.index_select(0, tree.sources_M)
    logprobs_M, entropy_M = head_logprobs(
        hidden_MD, head, tree.targets_M, temperature=temperature, softcap=logit_softcap(model)
    )
    lengths = torch.tensor([len(completion) for completion in completions], device=logprobs_M.device)
    mask_BT = torch.arange(int(lengths.max()), device=lengths.device)[None] < lengths[:, None]
    zeros_BT = torch.zeros(mask_BT.shape, dtype=logprobs_M.dtype, device=mask_BT.device)
    return zeros_BT.masked_scatter(mask_BT, logprobs_M), zeros_BT.masked_scatter(mask_BT, entropy_M)


def split_model(model: nn.Module) -> tuple[nn.Module, nn.Linear]:
    """(everything below the output head, the output head) of a Hugging Face causal LM, with or without adapters."""
    inner = model.get_base_model() if hasattr(model, "peft_config") else model  # type: ignore[operator]
    return inner.base_model, inner.get_output_embeddings()  # type: ignore[operator, return-value]


def logit_softcap(model: nn.Module) -> float | None:
    """Soft cap that the architecture puts on its logits (Gemma 2), or None."""
    return getattr(model.config, "final_logit_softcapping", None)


def head_logprobs(
    hidden_MD: Tensor, head: nn.Linear, targets_M: Tensor, *, temperature: float, softcap: float | None = None
) -> tuple[Tensor, Tensor]:
    """Log-softmax at ``targets_M`` and entropy, without ever holding [M, V]; gradients recompute a chunk at a time."""
    return _HeadLogprobs.apply(hidden_MD, head.weight, head.bias, targets_M, temperature, softcap)  # type: ignore[return-value]


class _HeadLogprobs(torch.autograd.Function):
    """Backward needs only hidden states, log-sum-exp and entropy of each token: logits are recomputed by chunks."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        softcap: float | None,
    ) -> tuple[Tensor, Tensor]:
        wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        logprobs, entropy, lse = (torch.empty(len(hidden), dtype=wide, device=hidden.device) for _ in range(3))
        for start, end in _chunks(len(hidden), weight.shape[0]):
            logits_CV = _logits(hidden[start:end], weight, bias, temperature, softcap)[0]
            largest_C = logits_CV.amax(dim=1)
            shifted_CV = logits_CV.sub_(largest_C[:, None])
            picked_C = shifted_CV.gather(1, targets[start:end, None])[:, 0]
            exps_CV = shifted_CV.exp()
            sum_C = exps_CV.sum(dim=1)
            logprobs[start:end] = picked_C - sum_C.log()
            entropy[start:end] = sum_C.log() - torch.linalg.vecdot(exps_CV, shifted_CV) / sum_C
            lse[start:end] = largest_C + sum_C.log()
        ctx.save_for_backward(hidden, weight, bias, targets, lse, entropy)
        ctx.temperature, ctx.softcap = temperature, softcap
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, grad_logprobs: Tensor, grad_entropy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        hidden, weight, bias, targets, lse, entropy = ctx.saved_tensors
        hidden_grad = torch.empty_like(hidden)
        weight_grad = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        bias_grad = torch.zeros_like(bias) if bias is not None and ctx.needs_input_grad[2] else None
        has_entropy_grad = bool(grad_entropy.any())
        for start, end in _chunks(len(hidden), weight.shape[0]):
            logits_CV, slope_CV = _logits(hidden[start:end], weight, bias, ctx.temperature, ctx.softcap)
            logprobs_CV = logits_CV.sub_(lse[start:end, None])
            grad_C = grad_logprobs[start:end, None]
            if has_entropy_grad:
                probs_CV = logprobs_CV.exp()
                slope_of_entropy_CV = logprobs_CV.add_(entropy[start:end, None]).mul_(grad_entropy[start:end, None])
                grad_CV = slope_of_entropy_CV.add_(grad_C).mul_(probs_CV).neg_()
            else:
                grad_CV = logprobs_CV.exp_().mul_(-grad_C)
            grad_CV.scatter_add_(1, targets[start:end, None], grad_C)
            if ctx.temperature != 1.0:
                grad_CV /= ctx.temperature
            if slope_CV is not None:
                grad_CV *= slope_CV
            grad_CV = grad_CV.to(hidden.dtype)
            torch.mm(grad_CV, weight, out=hidden_grad[start:end])
            if weight_grad is not None:
                weight_grad.addmm_(grad_CV.T, hidden[start:end])
            if bias_grad is not None:
                bias_grad += grad_CV.sum(dim=0)
        return hidden_grad, weight_grad, bias_grad, None, None, None


def _logits(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float, softcap: float | None
) -> tuple[Tensor, Tensor | None]:
    """(logits at the temperature in float32 or wider, derivative of the soft cap); both may be overwritten."""
    logits = nn.functional.linear(hidden, weight, bias)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    slope = None
    if softcap is not None:
        bounded = logits.div_(softcap).tanh_()
        slope = 1 - bounded * bounded
        logits = bounded.mul_(softcap)
    return (logits if temperature == 1.0 else logits.div_(temperature)), slope


def _chunks(count: int, vocabulary: int) -> list[tuple[int, int]]:
    size = max(1, CHUNK_ELEMENTS // vocabulary)
    return [(start, min(count, start + size)) for start in range(0, count, size)]
