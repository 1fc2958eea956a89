"""Attention over packed prompt trees: a prompt is computed once, all completions of its group grow from it.

A forward pass sees one row of ``N`` tokens: all prompts, then all completions, without padding; linear layers never
compute a padded place. Only attention knows the structure. Models take part by the attention interface of transformers
(`ATTENTION`): the layout travels as the keyword ``tree`` through the model to `attend`.

Training (`PackedTree`): a completion token attends to its group's prompt and to its own completion
(`policy/attention.py`): through torch's fused kernels on a CPU and on CUDA, else by matrix products.

Sampling lives in `rollout/local.py`, which brings its own ``tree`` object with keys and values of earlier tokens.

Shape suffixes: ``N`` packed tokens, ``P`` prompts, ``L`` prompt positions, ``B`` completions = P·G places (some empty),
``T`` completion positions, ``H`` heads, ``D`` head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface

from gradus.policy.attention import MergedAttention, SharedPrompts, masked_attention, plain_attention

ATTENTION = "gradus_tree"
Kernel = Literal["merged", "masked", "plain"]
"""See `policy/attention.py`."""
_KERNELS: dict[str, Kernel] = {"cpu": "merged", "cuda": "masked"}


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
        kernel: Kernel | None = None,
    ) -> None:
        """``prompt_of[b]`` is the index of completion b's prompt; completions of a prompt need not be neighbours.

        ``kernel``: what computes attention to a shared prompt; None: ``merged`` on a CPU, ``masked`` on CUDA, else ``plain``.
        """
        assert len(completions) == len(prompt_of)
        assert all(prompts), "a prompt has at least one token"
        assert all(completions), "a completion has at least one token"
        self.device = device
        self._kernel: Kernel = kernel or _KERNELS.get(device.type, "plain")
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
        longest_prompt, longest = self._pad_PL.shape[1], self._pad_PGT.shape[2]
        sees_all = softcap is None and (window is None or longest_prompt + longest <= window)
        whole = (_repeat(prompt_k, repeats), _repeat(prompt_v, repeats)) if sees_all else None
        if whole is not None:
            prompt_out = F.scaled_dot_product_attention(prompt_q, *whole, is_causal=True, scale=scale)
        else:
            prompt_out = plain_attention(prompt_q, prompt_k, prompt_v, scale=scale, window=window, softcap=softcap)
        out_NHD = prompt_out.transpose(1, 2).reshape(-1, num_heads, width).index_select(0, self._unpad_prompts)
        if longest == 0:
            return out_NHD
        own_q, own_k, own_v = (_gather(part, self._pad_PGT.flatten(0, 1)) for part in (q_NHD, k_NHD, v_NHD))
        if self._kernel == "merged" and whole is not None:
            own_k, own_v = _repeat(own_k, repeats), _repeat(own_v, repeats)
            bias = None
            if self._is_ragged:
                bias = torch.zeros(self._valid_PL.shape, dtype=q.dtype, device=q.device)
                bias = bias.masked_fill(~self._valid_PL, float("-inf"))[:, None, None, :]
            own_out = MergedAttention.apply(own_q, own_k, own_v, *whole, bias, scale)
        else:
            shared = SharedPrompts(k=prompt_k, v=prompt_v, lengths_P=self._prompt_lengths_P)
            if self._kernel == "masked" and softcap is None:
                own_out = masked_attention(own_q, own_k, own_v, shared, scale=scale, window=window)
            else:
                own_out = plain_attention(own_q, own_k, own_v, shared, scale=scale, window=window, softcap=softcap)
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


def _gather(x_NHD: Tensor, index: Tensor) -> Tensor:
    """Packed tokens → [rows, H, positions, D]; empty places hold some real token, which nobody attends to."""
    rows = x_NHD.index_select(0, index.flatten())
    return rows.view(*index.shape[:-1], index.shape[-1], *x_NHD.shape[1:]).transpose(-3, -2)


def _repeat(x: Tensor, repeats: int) -> Tensor:
    """Key and value heads repeated for grouped-query attention."""
    return x if repeats == 1 else x.repeat_interleave(repeats, dim=1)


def _places(prompt_of: Sequence[int], num_prompts: int) -> list[int]:
    """Place of each completion among those of its prompt."""
    counts = [0] * num_prompts
    places = []
    for prompt in prompt_of:
        places.append(counts[prompt])
        counts[prompt] += 1
    return places
