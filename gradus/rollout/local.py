"""The `local` engine: samples in this process, with the weights that are being trained.

A prompt is computed once and its keys and values are shared by its whole group. Finished rows leave the batch
(compaction), waiting groups take their places (refill). Own keys and values live in preallocated memory that grows by
doubling. On CUDA the batch has fixed shapes instead (`rollout/static.py`). The uniform number behind a token is a hash of
the completion's seed and the position, so a completion depends neither on the batch it was in nor on its order.

Shape suffixes: ``S`` rows in the batch, ``A`` groups in the batch, ``G`` places of a group, ``L`` prompt positions,
``T`` own positions, ``K`` key heads, ``R`` query heads per key head, ``D`` head width, ``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gradus.policy.load import Policy
from gradus.policy.logprobs import logit_softcap, split_model
from gradus.policy.tree import PackedTree
from gradus.rollout.draws import draw, uniforms
from gradus.rollout.engine import Request, Sampling
from gradus.rollout.static import Finished, StaticBatch
from gradus.types import Completion

DEAD_FRAC = 1 / 8
"""Rows that may be finished and still in the batch before it is compacted: compaction copies the cache."""
REFILL_FRAC = 1 / 4
"""Free places that make a refill worth a prefill."""


class LocalEngine:
    """Engine that samples from ``policy``.

    Example:
        engine = LocalEngine(policy, batch_size=128)
        (group,) = engine.generate([request], Sampling(temperature=1.0, max_tokens=96), policy_step=0)
    """

    def __init__(self, policy: Policy, *, batch_size: int = 128, is_static: bool | None = None) -> None:
        """``is_static``: whether the batch has fixed shapes; None: on CUDA."""
        self._policy = policy
        self._batch_size = batch_size
        self._is_static = policy.device.type == "cuda" if is_static is None else is_static

    @torch.no_grad()
    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        *,
        policy_step: int,
        poll: Callable[[], None] = lambda: None,
    ) -> list[tuple[Completion, ...]]:
        """See `Engine.generate`."""
        model = self._policy.model
        was_training = model.training
        model.eval()
        try:
            queue = [
                (index, first, min(first + self._batch_size, len(request.seeds)))
                for index, request in enumerate(requests)
                for first in range(0, len(request.seeds), self._batch_size)
            ]
            batch = self._batch(requests, queue, sampling)
            done: dict[tuple[int, int], Completion] = {}
            while queue or batch.num_rows:
                poll()
                if admitted := batch.take(queue):
                    batch.admit(
                        [
                            (index, first, requests[index].prompt_tokens, requests[index].seeds[first:last])
                            for index, first, last in admitted
                        ]
                    )
                else:
                    batch.step()
                for key, tokens, logprobs, is_stopped in batch.take_finished():
                    done[key] = Completion(
                        text=self._policy.decode(tokens),
                        tokens=tuple(tokens),
                        logprobs=tuple(logprobs),
                        finish="stop" if is_stopped else "length",
                        policy_step=policy_step,
                    )
        finally:
            model.train(was_training)
        return [
            tuple(done[index, place] for place in range(len(request.seeds))) for index, request in enumerate(requests)
        ]

    def _batch(
        self, requests: Sequence[Request], queue: Sequence[tuple[int, int, int]], sampling: Sampling
    ) -> _Batch | StaticBatch:
        if not self._is_static or not queue:
            return _Batch(self._policy, sampling, batch_size=self._batch_size)
        size = max(last - first for _, first, last in queue)
        return StaticBatch(
            self._policy,
            sampling,
            num_groups=min(len(queue), max(1, self._batch_size // size)),
            group_size=size,
            longest_prompt=max(len(request.prompt_tokens) for request in requests),
        )


class _Batch:
    """Rows that are being sampled, with their cache. Also the ``tree`` that attention sees while decoding."""

    def __init__(self, policy: Policy, sampling: Sampling, *, batch_size: int) -> None:
        self._batch_size = batch_size
        self._body, self._head = split_model(policy.model)
        self._softcap = logit_softcap(policy.model)
        self._sampling = sampling
        self._device = policy.device
        self._stop_tokens = torch.tensor(policy.stop_tokens, device=self._device)
        self.num_rows = 0
        self._keys: list[tuple[int, int]] = []
        empty = torch.empty(0, dtype=torch.long, device=self._device)
        self._group_S, self._length_S, self._last_S = empty, empty, empty
        self._alive_S = empty.bool()
        self._uniform_ST = torch.empty(0, sampling.max_tokens, device=self._device)
        self._tokens_ST = torch.empty(0, sampling.max_tokens, dtype=torch.long, device=self._device)
        self._logprobs_ST = torch.empty(0, sampling.max_tokens, device=self._device)
        self._prompt_length_A = empty
        self._prompt_cache: list[tuple[Tensor, Tensor]] = []
        self._cache: list[tuple[Tensor, Tensor]] = []
        self._finished: list[Finished] = []
        self._hidden_by_window: dict[int | None, Tensor | None] = {}

    # -- life of a row ---------------------------------------------------------------------------------------------

    def take(self, queue: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
        """Takes the groups that fit from the queue, if enough places are free to be worth a prefill."""
        room, taken = self._batch_size - self.num_rows, []
        if room >= REFILL_FRAC * self._batch_size:
            while queue and queue[0][2] - queue[0][1] <= room:
                taken.append(queue.pop(0))
                room -= taken[-1][2] - taken[-1][1]
        return taken

    def admit(self, groups: Sequence[tuple[int, int, tuple[int, ...], tuple[int, ...]]]) -> None:
        """Computes new prompts, adds their rows and draws their first tokens. A group: (request, first place, prompt, seeds)."""
        self._compact()
        tree = PackedTree(prompts=[group[2] for group in groups], completions=[], prompt_of=[], device=self._device)
        prompts = tree.save_prompts()
        hidden_ND = self._body(
            input_ids=tree.tokens_N[None], position_ids=tree.positions_N[None], use_cache=False, tree=tree
        )[0][0]
        lengths_A = tree.prompt_lengths_P
        sizes = [len(group[3]) for group in groups]
        num_old, num_groups = self.num_rows, len(self._prompt_length_A)
        self._keys += [(request, first + place) for request, first, _, seeds in groups for place in range(len(seeds))]
        group_new = torch.repeat_interleave(torch.arange(len(groups)), torch.tensor(sizes)).to(self._device)
        seeds = [seed for group in groups for seed in group[3]]
        self._uniform_ST = torch.cat((self._uniform_ST, uniforms(seeds, self._sampling.max_tokens).to(self._device)))
        self._group_S = torch.cat((self._group_S, group_new + num_groups))
        self._length_S = torch.cat((self._length_S, torch.zeros_like(group_new)))
        self._last_S = torch.cat((self._last_S, torch.zeros_like(group_new)))
        self._alive_S = torch.cat((self._alive_S, torch.ones_like(group_new, dtype=torch.bool)))
        self._tokens_ST = _with_rows(self._tokens_ST, len(seeds))
        self._logprobs_ST = _with_rows(self._logprobs_ST, len(seeds))
        self._prompt_length_A = torch.cat((self._prompt_length_A, lengths_A))
        self._prompt_cache = _join_prompts(self._prompt_cache, prompts)
        self.num_rows += len(seeds)
        if self._cache:
            self._cache = [(_with_rows(k, len(seeds)), _with_rows(v, len(seeds))) for k, v in self._cache]
        self._lay_out()
        last_AD = hidden_ND.index_select(0, lengths_A.cumsum(0) - 1)
        self._draw(last_AD.index_select(0, group_new), slice(num_old, self.num_rows))

    def step(self) -> None:
        """One token for every row."""
        if self.num_rows == 0:
            return
        self._longest = int(self._length_S.max())
        self._row_S, self._column_S = torch.arange(self.num_rows, device=self._device), self._length_S - 1
        self._hidden_by_window.clear()
        positions_S = self._prompt_length_A[self._group_S] + self._column_S
        hidden_SD = self._body(
            input_ids=self._last_S[None], position_ids=positions_S[None], use_cache=False, tree=self
        )[0][0]
        self._draw(hidden_SD, slice(0, self.num_rows))

    def take_finished(self) -> list[Finished]:
        """Rows that ended since the last call."""
        finished, self._finished = self._finished, []
        return finished

    def _draw(self, hidden: Tensor, rows: slice) -> None:
        """Draws the next token of ``rows`` and retires those that end with it."""
        logits_SV = torch.nn.functional.linear(hidden, self._head.weight, self._head.bias).float()
        if self._softcap is not None:
            logits_SV = self._softcap * torch.tanh(logits_SV / self._softcap)
        length_S, alive_S = self._length_S[rows], self._alive_S[rows]
        here = torch.arange(rows.start, rows.stop, device=self._device)
        column_S = length_S.clamp(max=self._sampling.max_tokens - 1)
        token_S, logprob_S = draw(logits_SV, self._uniform_ST[here, column_S], self._sampling.temperature)
        self._tokens_ST[here, column_S] = torch.where(alive_S, token_S, self._tokens_ST[here, column_S])
        self._logprobs_ST[here, column_S] = torch.where(alive_S, logprob_S, self._logprobs_ST[here, column_S])
        self._last_S[rows] = token_S
        self._length_S[rows] = length_S + alive_S
        is_stopped_S = torch.isin(token_S, self._stop_tokens)
        ends_S = alive_S & (is_stopped_S | (self._length_S[rows] >= self._sampling.max_tokens))
        if bool(ends_S.any()):
            self._retire(here[ends_S].tolist(), is_stopped_S[ends_S].tolist())

    def _retire(self, rows: list[int], is_stopped: list[bool]) -> None:
        index = torch.tensor(rows, device=self._device)
        lengths = self._length_S[index].tolist()
        tokens, logprobs = self._tokens_ST[index].tolist(), self._logprobs_ST[index].tolist()
        for row, length, token_row, logprob_row, stopped in zip(
            rows, lengths, tokens, logprobs, is_stopped, strict=True
        ):
            self._finished.append((self._keys[row], token_row[:length], logprob_row[:length], stopped))
        self._alive_S[index] = False
        if int((~self._alive_S).sum()) >= max(1.0, DEAD_FRAC * self.num_rows):
            self._compact()

    def _compact(self) -> None:
        """Removes finished rows, and groups none of whose rows is left."""
        if bool(self._alive_S.all()):
            return
        keep = self._alive_S.nonzero()[:, 0]
        groups, self._group_S = torch.unique(self._group_S[keep], return_inverse=True)
        self._keys = [self._keys[row] for row in keep.tolist()]
        self.num_rows = len(self._keys)
        longest = int(self._length_S[keep].max()) if self.num_rows else 0
        for name in ("_length_S", "_last_S", "_alive_S", "_uniform_ST", "_tokens_ST", "_logprobs_ST"):
            setattr(self, name, getattr(self, name)[keep])
        if len(groups) < len(self._prompt_length_A):
            self._prompt_length_A = self._prompt_length_A[groups]
            self._prompt_cache = [(k[groups], v[groups]) for k, v in self._prompt_cache]
        self._cache = [(_keep_rows(k, keep, longest), _keep_rows(v, keep, longest)) for k, v in self._cache]
        self._lay_out()

    # -- attention -------------------------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        """Index tensors of the grouped layout; made anew only when rows come or go."""
        counts_A = torch.bincount(self._group_S, minlength=len(self._prompt_length_A))
        places = int(counts_A.max()) if self.num_rows else 0
        first_A = counts_A.cumsum(0) - counts_A
        order = torch.argsort(self._group_S, stable=True)
        place_S = torch.empty_like(self._group_S)
        place_S[order] = torch.arange(self.num_rows, device=self._device) - first_A[self._group_S[order]]
        self._to_row_S = self._group_S * places + place_S
        self._to_place = torch.zeros(len(counts_A) * places, dtype=torch.long, device=self._device)
        self._to_place[self._to_row_S] = torch.arange(self.num_rows, device=self._device)
        self._is_regular = len(self._to_place) == self.num_rows and bool(
            (self._to_row_S[1:] > self._to_row_S[:-1]).all()
        )
        longest = self._prompt_cache[0][0].shape[2] if self._prompt_cache else 0
        behind_AL = torch.arange(longest, device=self._device)[None] >= self._prompt_length_A[:, None]
        self._hidden_prompt_SL = behind_AL[self._group_S] if bool(behind_AL.any()) else None

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None, softcap: float | None
    ) -> Tensor:
        """See `policy.tree.Tree.attend`; one new token per row."""
        own_k, own_v = self._own_cache(layer, k)
        own_k[self._row_S, :, self._column_S] = k[0].transpose(0, 1)
        own_v[self._row_S, :, self._column_S] = v[0].transpose(0, 1)
        longest = self._longest
        own_k, own_v = own_k[:, :, :longest], own_v[:, :, :longest]
        prompt_k, prompt_v = self._prompt_cache[layer]
        num_heads, width = q.shape[1], q.shape[3]
        num_keys = prompt_k.shape[1]
        q_SKRD = q[0].transpose(0, 1).reshape(self.num_rows, num_keys, num_heads // num_keys, width) * scale
        own = torch.matmul(q_SKRD, own_k.transpose(2, 3))
        shared = self._to_rows(torch.matmul(self._to_places(q_SKRD), prompt_k.transpose(2, 3)), q_SKRD.shape[2])
        scores = torch.cat((shared, own), dim=3)
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        if window not in self._hidden_by_window:  # once a step, for all layers
            self._hidden_by_window[window] = self._hidden_places(prompt_k.shape[2], longest, window)
        if (hidden := self._hidden_by_window[window]) is not None:
            scores.masked_fill_(hidden[:, None, None, :], float("-inf"))
        weights = torch.softmax(scores, dim=3, dtype=torch.float32).to(q.dtype)
        on_prompt, on_own = weights.split((prompt_k.shape[2], longest), dim=3)
        out = torch.matmul(on_own, own_v)
        out = out + self._to_rows(torch.matmul(self._to_places(on_prompt), prompt_v), q_SKRD.shape[2])
        return out.reshape(self.num_rows, num_heads, width)

    def _hidden_places(self, longest_prompt: int, longest: int, window: int | None) -> Tensor | None:
        """[S, L + T]: keys a row may not see: behind its prompt, not yet written, out of its window. None: it sees all."""
        is_even = bool((self._length_S == longest).all())
        if self._hidden_prompt_SL is None and is_even and (window is None or longest_prompt + longest <= window):
            return None
        own = torch.arange(longest, device=self._device)[None] >= self._length_S[:, None]
        prompt = self._hidden_prompt_SL
        if prompt is None:
            prompt = torch.zeros(self.num_rows, longest_prompt, dtype=torch.bool, device=self._device)
        if window is not None:
            now_S1 = (self._prompt_length_A[self._group_S] + self._length_S - 1)[:, None]
            prompt = prompt | (now_S1 - torch.arange(longest_prompt, device=self._device) >= window)
            own = own | (self._length_S[:, None] - 1 - torch.arange(longest, device=self._device) >= window)
        return torch.cat((prompt, own), dim=1)

    def _to_places(self, x: Tensor) -> Tensor:
        """[S, K, R, X] → [A, K, G·R, X]: the rows of a group side by side, so that its prompt is read once."""
        if not self._is_regular:
            x = x.index_select(0, self._to_place)
        return x.unflatten(0, (len(self._prompt_length_A), -1)).transpose(1, 2).flatten(2, 3)

    def _to_rows(self, x: Tensor, repeats: int) -> Tensor:
        """[A, K, G·R, X] → [S, K, R, X]."""
        x = x.unflatten(2, (-1, repeats)).transpose(1, 2).flatten(0, 1)
        return x if self._is_regular else x.index_select(0, self._to_row_S)

    def _own_cache(self, layer: int, k: Tensor) -> tuple[Tensor, Tensor]:
        """Cache of a layer with room for the current column."""
        if layer == len(self._cache):
            shape = (self.num_rows, k.shape[1], min(64, self._sampling.max_tokens), k.shape[3])
            self._cache.append((k.new_zeros(shape), k.new_zeros(shape)))
        keys, values = self._cache[layer]
        if self._longest > keys.shape[2]:
            size = min(2 * keys.shape[2], self._sampling.max_tokens)
            self._cache[layer] = (_with_columns(keys, size), _with_columns(values, size))
        return self._cache[layer]


def _with_rows(x: Tensor, count: int) -> Tensor:
    return torch.cat((x, x.new_zeros(count, *x.shape[1:])))


def _with_columns(x: Tensor, size: int) -> Tensor:
    grown = x.new_zeros(*x.shape[:2], size, x.shape[3])
    grown[:, :, : x.shape[2]] = x
    return grown


def _keep_rows(x: Tensor, keep: Tensor, longest: int) -> Tensor:
    """Rows ``keep``, copying only the columns in use."""
    kept = x.new_zeros(len(keep), *x.shape[1:])
    kept[:, :, :longest] = x[:, :, :longest][keep]
    return kept


def _join_prompts(old: list[tuple[Tensor, Tensor]], new: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """Prompt caches of all layers one after the other, padded to the longer prompts."""
    if not old:
        return new
    size = max(old[0][0].shape[2], new[0][0].shape[2])
    return [
        (
            torch.cat((_padded(old_k, size), _padded(new_k, size))),
            torch.cat((_padded(old_v, size), _padded(new_v, size))),
        )
        for (old_k, old_v), (new_k, new_v) in zip(old, new, strict=True)
    ]


def _padded(x: Tensor, size: int) -> Tensor:
    return x if x.shape[2] == size else torch.nn.functional.pad(x, (0, 0, 0, size - x.shape[2]))
