"""Log-probabilities and entropy of completions: prompts computed once per group, the vocabulary in chunks.

Shape suffixes: ``B`` completions, ``T`` completion positions (padded on the right), ``M`` completion tokens of all
completions in a row, ``V`` vocabulary, ``C`` tokens of one chunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gradus.policy.tree import Kernel, PackedTree

CHUNK_ELEMENTS = 1 << 24
"""Logits alive at one time (64 MB in float32; the gradient of an entropy bonus holds three such tensors, all else two)."""
TILE_ELEMENTS, TILE_VOCABULARY = 1 << 21, 4096
"""The same on a CPU with a large vocabulary, and how much of the vocabulary is gone through at a time: what was just
computed is then still in the cache."""


def completion_logprobs(
    model: nn.Module,
    *,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    prompt_of: Sequence[int],
    temperature: float,
    kernel: Kernel | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-probability of each completion token and entropy of its distribution, float32 (float64 if the model is).

    ``model`` is a causal LM from `policy.load`. ``prompt_of[b]`` is the index of completion b's prompt.
    Returns ``logprobs_BT``, ``entropy_BT`` (nats, at ``temperature``), zero outside the completions. Differentiable.
    """
    body, head = split_model(model)
    tree = PackedTree(
        prompts=prompts, completions=completions, prompt_of=prompt_of, device=head.weight.device, kernel=kernel
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
    """Log-softmax at ``targets_M`` and entropy, without ever holding [M, V]; gradients recompute a tile at a time."""
    return _HeadLogprobs.apply(hidden_MD, head.weight, head.bias, targets_M, temperature, softcap)  # type: ignore[return-value]


class _HeadLogprobs(torch.autograd.Function):
    """Goes over logits in tiles of tokens by vocabulary. Forward keeps the running largest logit, the sum of exponentials
    below it and its product with the logits (online softmax, arXiv 1805.02867); backward needs only hidden states,
    log-sum-exp and entropy of each token, and computes each tile again."""

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
        for start, end, tiles in _tiles(hidden, weight):
            targets_C = targets[start:end]
            largest_C = picked_C = sum_C = dot_C = None
            for first, last in tiles:
                logits_CV, _ = _logits(
                    hidden[start:end], _part(weight, first, last), _part(bias, first, last), temperature, softcap
                )
                here_C = logits_CV.gather(1, (targets_C - first).clamp(0, last - first - 1)[:, None])[:, 0]
                highest_C = logits_CV.amax(dim=1)
                if largest_C is None or picked_C is None or sum_C is None or dot_C is None:
                    picked_C, largest_C = here_C, highest_C
                else:
                    picked_C = torch.where(targets_C >= first, here_C, picked_C)
                    former_C, largest_C = largest_C, torch.maximum(largest_C, highest_C)
                    shrunk_C = (former_C - largest_C).exp()
                    dot_C = shrunk_C * (dot_C + (former_C - largest_C) * sum_C)
                    sum_C = shrunk_C * sum_C
                shifted_CV = logits_CV.sub_(largest_C[:, None])
                exps_CV = shifted_CV.exp()
                tile_sum_C, tile_dot_C = exps_CV.sum(dim=1), torch.linalg.vecdot(exps_CV, shifted_CV)
                sum_C = tile_sum_C if sum_C is None else sum_C + tile_sum_C
                dot_C = tile_dot_C if dot_C is None else dot_C + tile_dot_C
            assert largest_C is not None and picked_C is not None and sum_C is not None and dot_C is not None
            logprobs[start:end] = picked_C - largest_C - sum_C.log()
            entropy[start:end] = sum_C.log() - dot_C / sum_C
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
        for start, end, tiles in _tiles(hidden, weight):
            grad_C, targets_C, below_C = grad_logprobs[start:end, None], targets[start:end], None
            for first, last in tiles:
                weight_VD = _part(weight, first, last)
                logits_CV, slope_CV = _logits(
                    hidden[start:end], weight_VD, _part(bias, first, last), ctx.temperature, ctx.softcap
                )
                logprobs_CV = logits_CV.sub_(lse[start:end, None])
                if has_entropy_grad:
                    probs_CV = logprobs_CV.exp()
                    slope_of_entropy_CV = logprobs_CV.add_(entropy[start:end, None]).mul_(grad_entropy[start:end, None])
                    grad_CV = slope_of_entropy_CV.add_(grad_C).mul_(probs_CV).neg_()
                else:
                    grad_CV = logprobs_CV.exp_().mul_(-grad_C)
                is_here_C = (targets_C >= first) & (targets_C < last)
                grad_CV.scatter_add_(
                    1,
                    (targets_C - first).clamp(0, last - first - 1)[:, None],
                    torch.where(is_here_C[:, None], grad_C, 0),
                )
                if ctx.temperature != 1.0:
                    grad_CV /= ctx.temperature
                if slope_CV is not None:
                    grad_CV *= slope_CV
                grad_CV = grad_CV.to(hidden.dtype)
                if len(tiles) == 1:
                    torch.mm(grad_CV, weight_VD, out=hidden_grad[start:end])
                else:
                    below_C = _added(below_C, grad_CV, weight_VD)
                if weight_grad is not None:
                    weight_grad[first:last].addmm_(grad_CV.T, hidden[start:end])
                if bias_grad is not None:
                    bias_grad[first:last] += grad_CV.sum(dim=0)
            if below_C is not None:
                hidden_grad[start:end] = below_C
        return hidden_grad, weight_grad, bias_grad, None, None, None


def _added(total: Tensor | None, grad_CV: Tensor, weight_VD: Tensor) -> Tensor:
    """``total`` + grad · weight, added up in float32 at least."""
    if total is None:
        product = grad_CV @ weight_VD
        return product if product.dtype == torch.float64 else product.float()
    if total.dtype == grad_CV.dtype:
        return total.addmm_(grad_CV, weight_VD)
    return total.add_(grad_CV @ weight_VD)


def _part(tensor: Any, first: int, last: int) -> Any:
    """Rows of a weight or a bias that may be missing."""
    return None if tensor is None else tensor[first:last]


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


def _tiles(hidden: Tensor, weight: Tensor) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """(first token, last, spans of the vocabulary): on a CPU in tiles that stay in its cache, elsewhere the vocabulary whole."""
    vocabulary = weight.shape[0]
    width = TILE_VOCABULARY if hidden.device.type == "cpu" and vocabulary > 2 * TILE_VOCABULARY else vocabulary
    elements = CHUNK_ELEMENTS if width == vocabulary else TILE_ELEMENTS
    spans = _spans(vocabulary, width)
    for start, end in _spans(len(hidden), max(1, elements // width)):
        yield start, end, spans


def _spans(count: int, size: int) -> list[tuple[int, int]]:
    return [(start, min(count, start + size)) for start in range(0, count, size)]
