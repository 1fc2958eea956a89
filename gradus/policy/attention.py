"""Attention of completions that share prompts, for the gradient, in three ways that differ by rounding alone.

`MergedAttention` runs prompt and completion through the fused kernel of CPUs and merges the two by their log-sum-exp; the
backward pass gives each part the merged output and the merged log-sum-exp, which makes its gradient exact (ring attention,
arXiv 2310.01889, rests on this too). `masked_attention` hands torch prompt and completion side by side with a mask: on CUDA
a fused kernel takes it. `plain_attention` is matrix products, for all else: MPS, soft-capped scores, a CPU with sliding
windows. The latter two go over many scores in parts and compute them again for the gradient (arXiv 2112.05682), so that
memory grows with the tokens and not with their square.

Shape suffixes: ``P`` prompts, ``L`` prompt positions, ``B`` completions = P·G places, ``T`` completion positions, ``H``
heads, ``K`` key heads, ``R`` heads per key head, ``D`` head width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

KEPT_SCORES = 1 << 20
"""Scores of a layer that are kept for the gradient; more are computed again (8 MB in float32, with their softmax)."""
PART_SCORES = 1 << 24
"""Scores that exist at a time where there are more; and elements of keys that `masked_attention` copies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPrompts:
    """Keys and values of the prompts that completions follow.

    Example:
        SharedPrompts(k=k_PKLD, v=v_PKLD, lengths_P=lengths_P)
    """

    k: Tensor
    """[P, K, L, D], padded on the right."""
    v: Tensor
    lengths_P: Tensor
    """Tokens of each prompt."""

    def part(self, first: int, last: int) -> SharedPrompts:
        """Those of some prompts."""
        return SharedPrompts(k=self.k[first:last], v=self.v[first:last], lengths_P=self.lengths_P[first:last])


def plain_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    prompts: SharedPrompts | None = None,
    *,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """Causal attention by matrix products. q: [B, H, T, D]; k, v: [B, K, T, D]; the keys of ``prompts`` come before, the
    same for each G rows. Returns [B, H, T, D]."""
    rows, heads, length = q.shape[:3]
    num_groups = rows if prompts is None else len(prompts.lengths_P)
    places = rows // num_groups
    keys = length if prompts is None else length + prompts.k.shape[2]
    options = {"scale": scale, "window": window, "softcap": softcap}
    if rows * heads * length * keys <= KEPT_SCORES:
        return _part(q, k, v, prompts, 0, **options)
    groups_at_once = max(1, PART_SCORES // (places * heads * length * keys))
    span = min(length, max(1, PART_SCORES // (places * heads * keys)))
    outputs = []
    for group in range(0, num_groups, groups_at_once):
        of_group = slice(group * places, (group + groups_at_once) * places)
        of_prompt = None if prompts is None else prompts.part(group, group + groups_at_once)
        spans = []
        for first in range(0, length, span):
            last = min(length, first + span)
            arguments = (q[of_group, :, first:last], k[of_group, :, :last], v[of_group, :, :last], of_prompt, first)
            spans.append(_computed_again(_part, *arguments, **options))
        outputs.append(torch.cat(spans, dim=2))
    return torch.cat(outputs)


def masked_attention(
    q: Tensor, k: Tensor, v: Tensor, prompts: SharedPrompts, *, scale: float, window: int | None
) -> Tensor:
    """The same by torch's `scaled_dot_product_attention`. A prompt's keys and values stand before those of each of its
    completions for the time of the call."""
    rows, heads, length, width = q.shape
    num_groups, longest = len(prompts.lengths_P), prompts.k.shape[2]
    places, options = rows // num_groups, {"scale": scale, "window": window}
    of_group = places * heads * (longest + length) * width
    if num_groups * of_group <= KEPT_SCORES:
        return _masked_part(q, k, v, prompts, **options)
    groups_at_once = max(1, PART_SCORES // of_group)
    outputs = []
    for group in range(0, num_groups, groups_at_once):
        chosen = slice(group * places, (group + groups_at_once) * places)
        of_prompt = prompts.part(group, group + groups_at_once)
        outputs.append(_computed_again(_masked_part, q[chosen], k[chosen], v[chosen], of_prompt, **options))
    return torch.cat(outputs)


def _computed_again(work: Callable[..., Tensor], *arguments: Any, **options: Any) -> Tensor:
    """``work``, of which nothing but its arguments is kept for the gradient."""
    if not torch.is_grad_enabled():
        return work(*arguments, **options)
    return checkpoint(work, *arguments, use_reentrant=False, preserve_rng_state=False, **options)  # type: ignore[return-value]


def _masked_part(
    q: Tensor, k: Tensor, v: Tensor, prompts: SharedPrompts, *, scale: float, window: int | None
) -> Tensor:
    num_prompts, longest, length = len(prompts.lengths_P), prompts.k.shape[2], q.shape[2]
    places, repeats = q.shape[0] // num_prompts, q.shape[1] // k.shape[1]
    positions, steps = torch.arange(longest, device=q.device), torch.arange(length, device=q.device)
    ahead = steps[:, None] - steps
    allowed, visible = ahead >= 0, (positions < prompts.lengths_P[:, None])[:, None]  # [T, T], [P, 1, L]
    if window is not None:
        allowed = allowed & (ahead < window)
        visible = visible & (prompts.lengths_P[:, None, None] + steps[:, None] - positions < window)
    mask = torch.cat((visible.expand(-1, length, -1), allowed.expand(num_prompts, -1, -1)), dim=2)
    keys, values = (
        torch.cat((shared.repeat_interleave(places, dim=0), own), dim=2).repeat_interleave(repeats, dim=1)
        for shared, own in ((prompts.k, k), (prompts.v, v))
    )
    mask = mask.repeat_interleave(places, dim=0)[:, None]
    return F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, scale=scale)


def _part(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    prompts: SharedPrompts | None,
    first: int,
    *,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """`plain_attention` of the queries from position ``first`` on; keys and values up to the last of them."""
    num_keys, span = k.shape[1], q.shape[2]
    q = (q * scale).unflatten(1, (num_keys, -1)).flatten(2, 3)  # [B, K, R·T, D]
    ahead = torch.arange(first, first + span, device=q.device)[:, None] - torch.arange(k.shape[2], device=q.device)
    allowed = ahead >= 0 if window is None else (ahead >= 0) & (ahead < window)
    own = torch.matmul(q, k.transpose(2, 3)).unflatten(2, (-1, span))
    own = _capped(own, softcap).masked_fill_(~allowed, float("-inf"))  # [B, K, R, T, own keys]
    if prompts is None:
        return torch.matmul(_softmax(own).flatten(2, 3), v).unflatten(2, (-1, span)).flatten(1, 2)
    num_prompts, longest = len(prompts.lengths_P), prompts.k.shape[2]
    positions = torch.arange(longest, device=q.device)
    visible = (positions < prompts.lengths_P[:, None])[:, None, None, None]  # [P, 1, 1, 1, L]
    if window is not None:
        now = prompts.lengths_P[:, None] + torch.arange(first, first + span, device=q.device)
        visible = visible & (now[:, :, None] - positions < window)[:, None, None]
    by_prompt = q.unflatten(0, (num_prompts, -1)).transpose(1, 2)  # [P, K, G, R·T, D]
    places = by_prompt.shape[2]
    shared = torch.matmul(by_prompt.flatten(2, 3), prompts.k.transpose(2, 3)).unflatten(2, (-1, span))
    shared = _capped(shared, softcap).masked_fill_(~visible, float("-inf"))  # [P, K, G·R, T, L]
    shared = shared.unflatten(2, (places, -1)).transpose(1, 2).flatten(0, 1)
    on_prompt, on_own = _softmax(torch.cat((shared, own), dim=4)).flatten(2, 3).split((longest, k.shape[2]), dim=3)
    on_prompt = on_prompt.unflatten(0, (num_prompts, -1)).transpose(1, 2).flatten(2, 3)
    from_prompt = torch.matmul(on_prompt, prompts.v).unflatten(2, (places, -1)).transpose(1, 2).flatten(0, 1)
    return (from_prompt + torch.matmul(on_own, v)).unflatten(2, (-1, span)).flatten(1, 2)


def _capped(scores: Tensor, softcap: float | None) -> Tensor:
    return scores if softcap is None else softcap * torch.tanh(scores / softcap)


def _softmax(scores: Tensor) -> Tensor:
    """In float32 at least, as the fused kernels do."""
    return torch.softmax(scores, dim=-1, dtype=torch.float64 if scores.dtype == torch.float64 else torch.float32).to(
        scores.dtype
    )


class MergedAttention(torch.autograd.Function):
    """softmax over (prompt keys, own keys so far) by two fused calls; keeps no scores for the backward pass.

    q, k, v: [P·G, H, T, D]; prompt keys and values [P, H, L, D]; bias [P, 1, 1, L] or None.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, prompt_k: Tensor, prompt_v: Tensor, bias: Tensor | None, scale: float
    ) -> Tensor:
        own_out, own_lse = _FUSED(q, k, v, 0.0, True, attn_mask=None, scale=scale)
        num_prompts = prompt_k.shape[0]
        shared_out, shared_lse = _FUSED(
            _by_prompt(q, num_prompts), prompt_k, prompt_v, 0.0, False, attn_mask=bias, scale=scale
        )
        shared_out = _by_completion(shared_out, q.shape)
        shared_lse = _by_completion(shared_lse[..., None], (*q.shape[:3], 1))[..., 0]
        lse = torch.logaddexp(own_lse, shared_lse)
        out = own_out * (own_lse - lse).exp()[..., None].to(q.dtype) + shared_out * (shared_lse - lse).exp()[
            ..., None
        ].to(q.dtype)
        ctx.save_for_backward(q, k, v, prompt_k, prompt_v, bias, out, lse)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        q, k, v, prompt_k, prompt_v, bias, out, lse = ctx.saved_tensors
        num_prompts = prompt_k.shape[0]
        q_grad, k_grad, v_grad = _FUSED_BACKWARD(grad, q, k, v, out, lse, 0.0, True, attn_mask=None, scale=ctx.scale)
        shared_q_grad, prompt_k_grad, prompt_v_grad = _FUSED_BACKWARD(
            _by_prompt(grad, num_prompts),
            _by_prompt(q, num_prompts),
            prompt_k,
            prompt_v,
            _by_prompt(out, num_prompts),
            _by_prompt(lse[..., None], num_prompts)[..., 0].contiguous(),
            0.0,
            False,
            attn_mask=bias,
            scale=ctx.scale,
        )
        return q_grad + _by_completion(shared_q_grad, q.shape), k_grad, v_grad, prompt_k_grad, prompt_v_grad, None, None


_FUSED = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
_FUSED_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default


def _by_prompt(x: Tensor, num_prompts: int) -> Tensor:
    """[P·G, H, T, D] → [P, H, G·T, D]."""
    return x.unflatten(0, (num_prompts, -1)).transpose(1, 2).flatten(2, 3)


def _by_completion(x: Tensor, shape: Sequence[int]) -> Tensor:
    """[P, H, G·T, D] → [P·G, H, T, D]."""
    return x.unflatten(2, (-1, shape[2])).transpose(1, 2).flatten(0, 1)
