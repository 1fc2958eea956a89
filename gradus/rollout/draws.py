"""Draws of tokens: uniform numbers from seed and position, and inversion of the cumulative distribution. All in float32:
MPS knows nothing wider.

Shape suffixes: ``S`` rows, ``V`` vocabulary; ``S1`` is one column.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

LARGE_VOCABULARY, BLOCK = 8192, 256
"""From how many tokens on the vocabulary is searched by blocks, and their size."""


def draw(logits_SV: Tensor, uniform_S: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Tokens by inversion of the cumulative distribution, and their log-probabilities (nats, at ``temperature``).

    Temperature 0 takes the most likely token; its log-probability is that at temperature 1. ``logits_SV`` may be
    overwritten.
    """
    if temperature == 0:
        token_S = logits_SV.argmax(dim=1)
    elif logits_SV.shape[1] >= LARGE_VOCABULARY:
        return _draw_by_blocks(logits_SV if temperature == 1.0 else logits_SV.div_(temperature), uniform_S)
    else:
        logits_SV = logits_SV if temperature == 1.0 else logits_SV / temperature
        cumulative_SV = torch.softmax(logits_SV, dim=1).cumsum(dim=1)
        threshold_S1 = uniform_S[:, None] * cumulative_SV[:, -1:]
        token_S = torch.searchsorted(cumulative_SV, threshold_S1, right=True)[:, 0]
        # Rounding can lift the threshold to the very end, where no token is left.
        token_S = torch.where(token_S < logits_SV.shape[1], token_S, logits_SV.argmax(dim=1))
    return token_S, logits_SV.gather(1, token_S[:, None])[:, 0] - logits_SV.logsumexp(dim=1)


def _draw_by_blocks(logits_SV: Tensor, uniform_S: Tensor) -> tuple[Tensor, Tensor]:
    """The same inversion with one exponential per logit: first the block of the vocabulary, by the blocks' sums, then the
    token within it. Overwrites ``logits_SV``."""
    vocabulary = logits_SV.shape[1]
    exps_SV = logits_SV.sub_(logits_SV.amax(dim=1, keepdim=True)).exp_()
    whole = vocabulary // BLOCK * BLOCK
    sums = exps_SV[:, :whole].unflatten(1, (-1, BLOCK)).sum(dim=2)
    if whole < vocabulary:
        sums = torch.cat((sums, exps_SV[:, whole:].sum(dim=1, keepdim=True)), dim=1)
    ends = sums.cumsum(dim=1)
    threshold_S1 = uniform_S[:, None] * ends[:, -1:]
    block_S1 = torch.searchsorted(ends, threshold_S1, right=True)
    # Rounding can lift a threshold to the very end, where nothing is left, or leave it a little below its block.
    block_S1 = torch.where(block_S1 < ends.shape[1], block_S1, sums.argmax(dim=1, keepdim=True))
    rest_S1 = (threshold_S1 - (ends.gather(1, block_S1) - sums.gather(1, block_S1))).clamp(min=0.0)
    places = block_S1 * BLOCK + torch.arange(BLOCK, device=logits_SV.device)
    inside = exps_SV.gather(1, places.clamp(max=vocabulary - 1)).masked_fill_(places >= vocabulary, 0.0)
    found_S1 = torch.searchsorted(inside.cumsum(dim=1), rest_S1, right=True)
    found_S1 = torch.where(found_S1 < BLOCK, found_S1, inside.argmax(dim=1, keepdim=True))
    chosen_S = inside.gather(1, found_S1)[:, 0]
    return places.gather(1, found_S1)[:, 0], chosen_S.log() - sums.sum(dim=1).log()


def uniforms(seeds: Sequence[int], count: int) -> Tensor:
    """[len(seeds), count] numbers in [0, 1): SplitMix64 (Steele, Lea & Flood, 2014) of seed and position, 24 bits each."""
    state = np.array(seeds, dtype=np.uint64)[:, None] + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(
        0x9E3779B97F4A7C15
    )
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return torch.from_numpy((state >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24))
