"""Attention over packed prompt trees: a prompt is computed once, all completions of its group grow from it.

A forward pass sees one row of ``N`` tokens: all prompts, then all completions, without padding; linear layers never
compute a padded place. Only attention knows the structure. Models take part by the attention interface of transformers
(`ATTENTION`): the layout travels as the keyword ``tree`` through the model to `attend`.

Training (`PackedTree`): a completion token attends to its group's prompt and to its own completion. On a CPU both parts
run through torch's fused kernel and are merged by their log-sum-exp; the backward pass gives each part the merged output
and the merged log-sum-exp, which makes its gradient exact (ring attention, arXiv 2310.01889, rests on this too).
Elsewhere, with sliding windows or with soft-capped scores, plain matrix products are used.

Sampling lives in `rollout/local.py`, which brings its own ``tree`` object with keys and values of earlier tokens.

Shape suffixes: ``N`` packed tokens, ``P`` prompts, ``L`` prompt positions, ``B`` completions = P·G places (some empty),
``T`` completion positions, ``H`` heads, ``D`` head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface

ATTENTION = "gradus_tree"


class Tree(Protocol):
    """What `attend` needs: both the packed tree of training and the sampler's state provide it."""

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None, softcap: float | None
    ) -> Tensor:
        """q, k, v: [1, heads, N, D] after rotary embedding. Returns [N, H, D]."""
        ...


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    tree: Tree | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """The attention function that transformers calls in every layer."""
    if tree is None:
        raise ValueError(
            "attention was called without its tree: either this architecture does not pass extra arguments on to its "
            "attention (use Qwen, Llama, Mistral, Gemma, SmolLM, ...), or a model of gradus was called from elsewhere"
        )
    assert dropout == 0.0, "attention dropout is not supported: sampler and trainer would disagree"
    output_NHD = tree.attend(
        int(module.layer_idx),  # type: ignore[arg-type]
        query,
        key,
        value,
        scale=scaling,
        window=sliding_window,
        softcap=softcap,
    )
    return output_NHD.unsqueeze(0), None


AttentionInterface.register(ATTENTION, attend)


class PackedTree:
    """Layout of whole groups in one packed row, for a forward pass with gradients.

    A completion's last token is predicted but never read, so it is not part of the row.

    Example:
        tree = PackedTree(prompts=[[1, 5, 9]], completions=[[4, 2], [7, 7, 2]], prompt_of=[0, 0], device=cpu)
        hidden = model(input_ids=tree.tokens_N[None], position_ids=tree.positions_N[None], tree=tree)
    """

    def __init__(
        self,
        *,
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[int]],
        prompt_of: Sequence[int],
        device: torch.device,
        use_fused: bool | None = None,
    ) -> None:
        """``prompt_of[b]`` is the index of completion b's prompt; completions of a prompt need not be neighbours.

        ``use_fused``: None picks the fused kernel where it exists.
        """
        assert len(completions) == len(prompt_of)
        assert all(prompts), "a prompt has at least one token"
        assert all(completions), "a completion has at least one token"
        self.device = device
        self.use_fused = device.type == "cpu" if use_fused is None else use_fused
        self._saved: list[tuple[Tensor, Tensor]] | None = None
        tokens: list[int] = []
        positions: list[int] = []
        prompt_starts: list[int] = []
        for prompt in prompts:
            prompt_starts.append(len(tokens))
            tokens.extend(prompt)
            positions.extend(range(len(prompt)))
        self.num_prompt_tokens = len(tokens)
        places = _places(prompt_of, len(prompts))
        self.num_places = max((place for place in places), default=-1) + 1
        longest_prompt = max(len(prompt) for prompt in prompts)
        longest = max((len(completion) - 1 for completion in completions), default=0)
        pad_PL = torch.zeros(len(prompts), longest_prompt, dtype=torch.long)
        unpad_prompts: list[int] = []
        for index, prompt in enumerate(prompts):
            pad_PL[index, : len(prompt)] = torch.arange(prompt_starts[index], prompt_starts[index] + len(prompt))
            unpad_prompts.extend(range(index * longest_prompt, index * longest_prompt + len(prompt)))
        pad_PGT = torch.zeros(len(prompts), self.num_places, longest, dtype=torch.long)
        unpad_completions: list[int] = []
        sources: list[int] = []
        for completion, prompt, place in zip(completions, prompt_of, places, strict=True):
            start, length = len(tokens), len(completion) - 1
            tokens.extend(completion[:-1])
            positions.extend(range(len(prompts[prompt]), len(prompts[prompt]) + length))
            pad_PGT[prompt, place, :length] = torch.arange(start, start + length)
            first = (prompt * self.num_places + place) * longest
            unpad_completions.extend(range(first, first + length))
            sources.append(prompt_starts[prompt] + len(prompts[prompt]) - 1)
            sources.extend(range(start, start + length))
        self.tokens_N = torch.tensor(tokens, device=device)
        self.positions_N = torch.tensor(positions, device=device)
        self.sources_M = torch.tensor(sources, dtype=torch.long, device=device)
        """For each completion token, in order, the packed place whose hidden state predicts it."""
        self.targets_M = torch.tensor(
            [token for completion in completions for token in completion], dtype=torch.long, device=device
        )
        self._pad_PL, self._pad_PGT = pad_PL.to(device), pad_PGT.to(device)
        self._unpad_prompts = torch.tensor(unpad_prompts, dtype=torch.long, device=device)
        self._unpad_completions = torch.tensor(unpad_completions, dtype=torch.long, device=device)
        lengths_P = torch.tensor([len(prompt) for prompt in prompts], device=device)
        self._prompt_lengths_P = lengths_P
        self._is_ragged = len({len(prompt) for prompt in prompts}) > 1
        self._valid_PL = torch.arange(longest_prompt, device=device)[None] < lengths_P[:, None]

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None, softcap: float | None
    ) -> Tensor:
        """See `Tree.attend`."""
        num_heads, width = q.shape[1], q.shape[3]
        q_NHD, k_NHD, v_NHD = (part[0].transpose(0, 1) for part in (q, k, v))
        repeats = num_heads // k.shape[1]
        prompt_q, prompt_k, prompt_v = (
            _gather(part[: self.num_prompt_tokens], self._pad_PL) for part in (q_NHD, k_NHD, v_NHD)
        )
        if self._saved is not None:
            self._saved.append((prompt_k.detach(), prompt_v.detach()))
        prompt_k, prompt_v = _repeat(prompt_k, repeats), _repeat(prompt_v, repeats)
        longest_prompt, longest = self._pad_PL.shape[1], self._pad_PGT.shape[2]
        is_plain = softcap is None and (window is None or longest_prompt + longest <= window)
        if is_plain:
            prompt_out = F.scaled_dot_product_attention(prompt_q, prompt_k, prompt_v, is_causal=True, scale=scale)
        else:
            prompt_out = self._attend_dense(prompt_q, prompt_k, prompt_v, None, None, scale, window, softcap)
        out_NHD = prompt_out.transpose(1, 2).reshape(-1, num_heads, width).index_select(0, self._unpad_prompts)
        if longest == 0:
            return out_NHD
        own_q, own_k, own_v = (_gather(part, self._pad_PGT.flatten(0, 1)) for part in (q_NHD, k_NHD, v_NHD))
        own_k, own_v = _repeat(own_k, repeats), _repeat(own_v, repeats)
        if self.use_fused and is_plain:
            bias = None
            if self._is_ragged:
                bias = torch.zeros(self._valid_PL.shape, dtype=q.dtype, device=q.device)
                bias = bias.masked_fill(~self._valid_PL, float("-inf"))[:, None, None, :]
            own_out = _MergedAttention.apply(own_q, own_k, own_v, prompt_k, prompt_v, bias, scale)
        else:
            own_out = self._attend_dense(own_q, own_k, own_v, prompt_k, prompt_v, scale, window, softcap)
        own_NHD = own_out.transpose(1, 2).reshape(-1, num_heads, width).index_select(0, self._unpad_completions)
        return torch.cat((out_NHD, own_NHD))

    def save_prompts(self) -> list[tuple[Tensor, Tensor]]:
        """From now on keeps each layer's prompt keys and values, [P, heads, L, D] padded on the right; returns the list."""
        self._saved = []
        return self._saved

    @property
    def prompt_lengths_P(self) -> Tensor:
        """Tokens of each prompt."""
        return self._prompt_lengths_P

    def _attend_dense(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        prompt_k: Tensor | None,
        prompt_v: Tensor | None,
        scale: float,
        window: int | None,
        softcap: float | None,
    ) -> Tensor:
        """Plain matrix products. q, k, v: [rows, H, T, D]; with a prompt its keys [P, H, L, D] come first."""
        length = q.shape[2]
        steps = torch.arange(length, device=q.device)
        scores = torch.matmul(q, k.transpose(2, 3))
        distance = steps[:, None] - steps[None, :]
        allowed = distance >= 0 if window is None else (distance >= 0) & (distance < window)
        scores = _capped(scores * scale, softcap).masked_fill(~allowed, float("-inf"))
        if prompt_k is None or prompt_v is None:
            return torch.matmul(_softmax(scores), v)
        num_prompts, heads, longest_prompt, width = prompt_k.shape
        shared_q = q.view(num_prompts, self.num_places, heads, length, width).transpose(1, 2).flatten(2, 3)
        shared = torch.matmul(shared_q, prompt_k.transpose(2, 3))
        visible = self._valid_PL[:, None, None, :].expand(-1, 1, length, -1)
        if window is not None:
            positions = torch.arange(longest_prompt, device=q.device)
            gap = self._prompt_lengths_P[:, None, None] + steps[None, :, None] - positions
            visible = visible & (gap < window)[:, None]
        visible = visible.repeat(1, 1, self.num_places, 1)
        shared = _capped(shared * scale, softcap).masked_fill(~visible, float("-inf"))
        shared = shared.unflatten(2, (self.num_places, length)).transpose(1, 2).flatten(0, 1)
        weights = _softmax(torch.cat((shared, scores), dim=3))
        on_prompt, on_own = weights.split((longest_prompt, length), dim=3)
        on_prompt = on_prompt.unflatten(0, (num_prompts, self.num_places)).transpose(1, 2).flatten(2, 3)
        from_prompt = (
            torch.matmul(on_prompt, prompt_v).unflatten(2, (self.num_places, length)).transpose(1, 2).flatten(0, 1)
        )
        return from_prompt + torch.matmul(on_own, v)


class _MergedAttention(torch.autograd.Function):
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


def _gather(x_NHD: Tensor, index: Tensor) -> Tensor:
    """Packed tokens → [rows, H, positions, D]; empty places hold some real token, which nobody attends to."""
    rows = x_NHD.index_select(0, index.flatten())
    return rows.view(*index.shape[:-1], index.shape[-1], *x_NHD.shape[1:]).transpose(-3, -2)


def _repeat(x: Tensor, repeats: int) -> Tensor:
    """Key and value heads repeated for grouped-query attention."""
    return x if repeats == 1 else x.repeat_interleave(repeats, dim=1)


def _capped(scores: Tensor, softcap: float | None) -> Tensor:
    return scores if softcap is None else softcap * torch.tanh(scores / softcap)


def _softmax(scores: Tensor) -> Tensor:
    """In float32 at least, as the fused kernels do."""
    return torch.softmax(scores, dim=-1, dtype=torch.float64 if scores.dtype == torch.float64 else torch.float32).to(
        scores.dtype
    )


def _places(prompt_of: Sequence[int], num_prompts: int) -> list[int]:
    """Place of each completion among those of its prompt."""
    counts = [0] * num_prompts
    places = []
    for prompt in prompt_of:
        places.append(counts[prompt])
        counts[prompt] += 1
    return places
