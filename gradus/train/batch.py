"""Groups → Batch: everything that one optimizer step learns from, as tensors; and its cut into micro-batches.

Shape suffixes: ``P`` prompts, ``L`` prompt positions, ``B`` completions, ``T`` completion positions.
Padding is on the right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from gradus.algo.advantage import advantages
from gradus.algo.loss import token_weights
from gradus.algo.presets import Algorithm
from gradus.rollout.ranks import ALONE, Ranks
from gradus.types import Group


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One optimizer step's data. On the CPU; a micro-batch moves to the device when its turn comes.

    Example:
        for chosen in microbatches(batch, max_tokens=8192): ...
    """

    prompts_PL: Tensor
    prompt_lengths_P: Tensor
    prompt_of_B: Tensor
    """Index of each completion's prompt."""
    tokens_BT: Tensor
    mask_BT: Tensor
    """True on the tokens of usable completions: what counts in the loss."""
    lengths_B: Tensor
    """Tokens of each completion, usable or not."""
    sampler_logprobs_BT: Tensor
    advantages_B: Tensor
    weights_BT: Tensor
    """Weight of each token in the loss; from the counts of this whole step."""

    @property
    def num_completions(self) -> int:
        """B."""
        return len(self.lengths_B)

    def prompt(self, index: int) -> list[int]:
        """Tokens of prompt ``index``."""
        return self.prompts_PL[index, : int(self.prompt_lengths_P[index])].tolist()

    def completion(self, index: int) -> list[int]:
        """Tokens of completion ``index``."""
        return self.tokens_BT[index, : int(self.lengths_B[index])].tolist()

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """All fields under ``prefix.<field>``, for a checkpoint."""
        return {f"{prefix}.{field.name}": getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], prefix: str) -> Batch:
        """Inverse of `tensors`."""
        return cls(**{field.name: tensors[f"{prefix}.{field.name}"] for field in fields(cls)})


def collate(groups: Sequence[Group], *, algorithm: Algorithm, max_tokens: int) -> Batch:
    """One optimizer step from whole groups. Completions without a usable score, and groups with fewer than two usable
    ones, stay out of baseline, weights and loss."""
    completions = [completion for group in groups for completion in group.completions]
    longest = max(len(completion.tokens) for completion in completions)
    lengths_B = torch.tensor([len(completion.tokens) for completion in completions])
    within_BT = torch.arange(longest)[None] < lengths_B[:, None]
    tokens_BT = torch.zeros(len(completions), longest, dtype=torch.long)
    sampler_logprobs_BT = torch.zeros(len(completions), longest)
    for row, completion in enumerate(completions):
        tokens_BT[row, : len(completion.tokens)] = torch.tensor(completion.tokens)
        sampler_logprobs_BT[row, : len(completion.tokens)] = torch.tensor(completion.logprobs)
    usable, values = zip(*(_group_advantages(group, algorithm) for group in groups), strict=True)
    usable_B = torch.tensor([flag for flags in usable for flag in flags])
    mask_BT = within_BT & usable_B[:, None]
    longest_prompt = max(len(group.prompt_tokens) for group in groups)
    prompts_PL = torch.zeros(len(groups), longest_prompt, dtype=torch.long)
    for row, group in enumerate(groups):
        prompts_PL[row, : len(group.prompt_tokens)] = torch.tensor(group.prompt_tokens)
    return Batch(
        prompts_PL=prompts_PL,
        prompt_lengths_P=torch.tensor([len(group.prompt_tokens) for group in groups]),
        prompt_of_B=torch.tensor([row for row, group in enumerate(groups) for _ in group.completions]),
        tokens_BT=tokens_BT,
        mask_BT=mask_BT,
        lengths_B=lengths_B,
        sampler_logprobs_BT=sampler_logprobs_BT,
        advantages_B=torch.tensor([value for group in values for value in group], dtype=torch.float32),
        weights_BT=token_weights(mask_BT, aggregate=algorithm.aggregate, max_tokens=max_tokens),
    )


def microbatches(
    batch: Batch,
    *,
    max_tokens: int,
    max_size: int | None = None,
    needs_advantage: bool = False,
    ranks: Ranks = ALONE,
) -> list[list[int]]:
    """Completion indices of each forward pass: at most ``max_tokens`` tokens, a group's prompt counted once.

    Completions with equal prompts stay together and shorter groups come first, so that little is padded in attention.
    A completion that alone exceeds the budget is a micro-batch of its own. Completions without weight are left out; with
    ``needs_advantage`` also those whose advantage is 0, which have no gradient where only advantages give one.
    Of several ``ranks`` each gets whole groups, about as many tokens as the others.
    """
    by_prompt: dict[int, list[int]] = {}
    is_used_B = (batch.weights_BT != 0).any(dim=1)
    if needs_advantage:
        is_used_B = is_used_B & (batch.advantages_B != 0)
    for index in is_used_B.nonzero()[:, 0].tolist():
        by_prompt.setdefault(int(batch.prompt_of_B[index]), []).append(index)
    lengths = batch.lengths_B.tolist()
    if ranks.size > 1:
        tokens_of = {
            prompt: int(batch.prompt_lengths_P[prompt]) + sum(lengths[index] for index in by_prompt[prompt])
            for prompt in by_prompt
        }
        by_prompt = {prompt: by_prompt[prompt] for prompt in _dealt(tokens_of, ranks.size)[ranks.rank]}
    order = sorted(by_prompt, key=lambda prompt: (max(lengths[index] for index in by_prompt[prompt]), prompt))
    cuts: list[list[int]] = []
    tokens, last_prompt = 0, -1
    for prompt in order:
        for index in sorted(by_prompt[prompt], key=lambda index: (lengths[index], index)):
            extra = lengths[index] + (int(batch.prompt_lengths_P[prompt]) if prompt != last_prompt else 0)
            if not cuts or tokens + extra > max_tokens or (max_size is not None and len(cuts[-1]) >= max_size):
                cuts.append([])
                tokens, extra = 0, lengths[index] + int(batch.prompt_lengths_P[prompt])
            cuts[-1].append(index)
            tokens += extra
            last_prompt = prompt
    return cuts


def _dealt(tokens_of: dict[int, int], size: int) -> list[list[int]]:
    """The prompts of each rank: the largest groups first, each to whoever has the fewest tokens so far."""
    dealt: list[list[int]] = [[] for _ in range(size)]
    totals = [0] * size
    for prompt in sorted(tokens_of, key=lambda prompt: (-tokens_of[prompt], prompt)):
        rank = totals.index(min(totals))
        dealt[rank].append(prompt)
        totals[rank] += tokens_of[prompt]
    return dealt


def _group_advantages(group: Group, algorithm: Algorithm) -> tuple[list[bool], list[float]]:
    """(usable, advantage) of each completion."""
    usable = [score.is_usable for score in group.scores]
    if sum(usable) < 2:
        return [False] * len(usable), [0.0] * len(usable)
    rewards = [reward for reward, flag in zip(group.rewards_G, usable, strict=True) if flag]
    values = iter(advantages(rewards, kind=algorithm.advantage))
    return usable, [next(values) if flag else 0.0 for flag in usable]
