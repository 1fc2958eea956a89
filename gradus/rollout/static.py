"""The `local` engine's batch on CUDA: fixed shapes, so that a step is recorded once as a CUDA graph and then replayed.

A small policy's step is hundreds of kernels that each run for microseconds; started one by one they leave the GPU waiting.
Here every group has a place, every row of it a slot in memory that is made once, and finished rows go on unseen until their
whole group is done and another takes its place. The processor asks only every few tokens who has finished. A step is
recorded again when the rows' memory has grown, by doubling. A model whose step cannot be recorded is sampled from without.

What is drawn is what `rollout/local.py` draws: the same numbers for the same seed and position. Shape suffixes as there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gradus import console
from gradus.policy.load import Policy
from gradus.policy.logprobs import logit_softcap, split_model
from gradus.policy.tree import PackedTree
from gradus.rollout.draws import draw, uniforms
from gradus.rollout.engine import Sampling

FIRST_COLUMNS = 64
"""Own positions that memory begins with."""
STEPS_UNSEEN = 8
"""Tokens between two looks at who has finished: a look makes the processor wait for the GPU."""
REFILL_FRAC = 1 / 4
"""Free groups that make a refill worth a prefill."""
HAS_GRAPHS = torch.cuda.is_available()
"""Whether steps can be recorded at all."""
Finished = tuple[tuple[int, int], list[int], list[float], bool]
"""((request, place), tokens, log-probabilities, ended by itself)."""


NOT_RECORDED: set[str] = set()
"""Kinds of models whose step could not be recorded, which was said."""


def begin(step: Callable[[], None]) -> None:
    """Takes ``step`` beside the stream of the rest: libraries make their workspaces then, which cannot be recorded."""
    side, current = torch.cuda.Stream(), torch.cuda.current_stream()
    side.wait_stream(current)
    with torch.cuda.stream(side):
        step()
    current.wait_stream(side)


def record(step: Callable[[], None]) -> Callable[[], None]:
    """What takes ``step`` without Python; recording does not take it. RuntimeError where CUDA cannot."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


class StaticBatch:
    """Groups that are being sampled in places of fixed size. Also the ``tree`` that attention sees while decoding.

    Example:
        batch = StaticBatch(policy, sampling, num_groups=16, group_size=8, longest_prompt=300)
        batch.admit([(0, 0, prompt_tokens, seeds)]); batch.step(); batch.take_finished()
    """

    def __init__(
        self, policy: Policy, sampling: Sampling, *, num_groups: int, group_size: int, longest_prompt: int
    ) -> None:
        self._policy, self._sampling, self._device = policy, sampling, policy.device
        self._body, self._head = split_model(policy.model)
        self._softcap = logit_softcap(policy.model)
        self._num_groups, self._group_size, self._longest_prompt = num_groups, group_size, longest_prompt
        size, device = num_groups * group_size, policy.device
        self._rows_S = torch.arange(size, device=device)
        self._group_S = self._rows_S // group_size
        self._stop_tokens = torch.tensor(policy.stop_tokens, device=device)
        # places that nobody has had yet look like a prompt and an answer of one token
        self._prompt_length_A = torch.ones(num_groups, dtype=torch.long, device=device)
        self._length_S = torch.ones(size, dtype=torch.long, device=device)
        self._last_S = torch.zeros(size, dtype=torch.long, device=device)
        self._alive_S = torch.zeros(size, dtype=torch.bool, device=device)
        self._stopped_S = torch.zeros(size, dtype=torch.bool, device=device)
        self._uniform_ST = torch.zeros(size, sampling.max_tokens, device=device)
        self._tokens_ST = torch.zeros(size, sampling.max_tokens, dtype=torch.long, device=device)
        self._logprobs_ST = torch.zeros(size, sampling.max_tokens, device=device)
        self._prompt_cache: list[tuple[Tensor, Tensor]] = []
        self._cache: list[tuple[Tensor, Tensor]] = []
        self._num_columns = min(FIRST_COLUMNS, sampling.max_tokens)
        self._open: dict[int, tuple[int, int]] = {}  # row → (request, place)
        self._age_of_group: dict[int, int] = {}  # tokens that its rows have, where they have not ended
        self._steps_unseen = 0
        self._replay: Callable[[], None] | None = None
        self._records = HAS_GRAPHS and type(policy.model).__name__ not in NOT_RECORDED
        self._hidden_by_window: dict[int | None, Tensor] = {}

    @property
    def num_rows(self) -> int:
        """Rows that are not known to have ended."""
        return len(self._open)

    def take(self, queue: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
        """Groups from the queue for the free places, if there are enough to be worth a prefill."""
        free = self._num_groups - len(self._age_of_group)
        if free < max(1, REFILL_FRAC * self._num_groups):
            return []
        taken, queue[:] = queue[:free], queue[free:]
        return taken

    def admit(self, groups: Sequence[tuple[int, int, tuple[int, ...], tuple[int, ...]]]) -> None:
        """Computes new prompts and draws their rows' first tokens. A group: (request, first place, prompt, seeds)."""
        tree = PackedTree(prompts=[group[2] for group in groups], completions=[], prompt_of=[], device=self._device)
        prompts = tree.save_prompts()
        hidden_ND = self._body(
            input_ids=tree.tokens_N[None], position_ids=tree.positions_N[None], use_cache=False, tree=tree
        )[0][0]
        free = [place for place in range(self._num_groups) if place not in self._age_of_group][: len(groups)]
        rows: list[int] = []
        for place, (request, first, _, seeds) in zip(free, groups, strict=True):
            self._age_of_group[place] = 1
            for number in range(len(seeds)):
                rows.append(place * self._group_size + number)
                self._open[rows[-1]] = (request, first + number)
        self._remember(prompts, torch.tensor(free, device=self._device))
        self._prompt_length_A[free] = tree.prompt_lengths_P
        row_S = torch.tensor(rows, device=self._device)
        drawn = uniforms([seed for group in groups for seed in group[3]], self._sampling.max_tokens)
        self._uniform_ST[row_S] = drawn.to(self._device)
        self._length_S[row_S] = 0
        self._alive_S[row_S], self._stopped_S[row_S] = True, False
        sizes = torch.tensor([len(group[3]) for group in groups], device=self._device)
        last_AD = hidden_ND.index_select(0, tree.prompt_lengths_P.cumsum(0) - 1)
        self._draw(last_AD.repeat_interleave(sizes, dim=0), row_S)
        self._steps_unseen = STEPS_UNSEEN  # some may have ended with their first token

    def step(self) -> None:
        """One token for every row."""
        longest = max(self._age_of_group.values())
        if longest > self._num_columns:
            self._num_columns = min(2 * self._num_columns, self._sampling.max_tokens)
            self._cache = [(self._grown(k), self._grown(v)) for k, v in self._cache]
            self._replay = None
        if self._replay is not None:
            self._replay()
        elif self._records:
            self._replay = self._begun()
        else:
            self._decode()
        self._age_of_group = {place: age + 1 for place, age in self._age_of_group.items()}
        self._steps_unseen += 1
        if longest + 1 >= self._sampling.max_tokens:
            self._steps_unseen = STEPS_UNSEEN

    def take_finished(self) -> list[Finished]:
        """Rows that have ended since the last look, where one is due."""
        if self._steps_unseen < STEPS_UNSEEN:
            return []
        self._steps_unseen = 0
        is_alive = self._alive_S.tolist()
        rows = [row for row in self._open if not is_alive[row]]
        if not rows:
            return []
        index = torch.tensor(rows, device=self._device)
        columns = (self._length_S, self._stopped_S, self._tokens_ST, self._logprobs_ST)
        found = [
            (self._open.pop(row), tokens[:length], logprobs[:length], stopped)
            for row, length, stopped, tokens, logprobs in zip(rows, *(x[index].tolist() for x in columns), strict=True)
        ]
        busy = {row // self._group_size for row in self._open}
        self._age_of_group = {place: age for place, age in self._age_of_group.items() if place in busy}
        return found

    # -- one step, in tensors that stay where they are --------------------------------------------------------------

    def _begun(self) -> Callable[[], None] | None:
        """Takes a step, and returns what takes the next ones; None where they cannot be recorded."""
        begin(self._decode)
        try:
            return record(self._decode)
        except RuntimeError as error:
            self._records = False
            NOT_RECORDED.add(name := type(self._policy.model).__name__)
            console.info(f"{name} is sampled from without CUDA graphs, which is slower: {str(error).splitlines()[0]}")
            return None

    def _decode(self) -> None:
        self._hidden_by_window.clear()
        # rows that have ended write where nobody looks, within what memory there is
        self._column_S = (self._length_S - 1).clamp(max=self._num_columns - 1)
        positions_S = self._prompt_length_A[self._group_S] + self._column_S
        hidden_SD = self._body(
            input_ids=self._last_S[None], position_ids=positions_S[None], use_cache=False, tree=self
        )[0][0]
        self._draw(hidden_SD, self._rows_S)

    def _draw(self, hidden: Tensor, row_S: Tensor) -> None:
        """Draws the next token of these rows, and notes which end with it."""
        logits_SV = torch.nn.functional.linear(hidden, self._head.weight, self._head.bias).float()
        if self._softcap is not None:
            logits_SV = self._softcap * torch.tanh(logits_SV / self._softcap)
        length_S, alive_S = self._length_S[row_S], self._alive_S[row_S]
        column_S = length_S.clamp(max=self._sampling.max_tokens - 1)
        token_S, logprob_S = draw(logits_SV, self._uniform_ST[row_S, column_S], self._sampling.temperature)
        for kept, new in ((self._tokens_ST, token_S), (self._logprobs_ST, logprob_S)):
            kept[row_S, column_S] = torch.where(alive_S, new, kept[row_S, column_S])
        length_S = length_S + alive_S
        stopped_S = alive_S & (token_S[:, None] == self._stop_tokens).any(dim=1)
        self._last_S[row_S], self._length_S[row_S] = token_S, length_S
        self._stopped_S[row_S] = self._stopped_S[row_S] | stopped_S
        self._alive_S[row_S] = alive_S & ~stopped_S & (length_S < self._sampling.max_tokens)

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None, softcap: float | None
    ) -> Tensor:
        """See `policy.tree.Tree.attend`; one new token per row."""
        (own_k, own_v), (prompt_k, prompt_v) = self._cache[layer], self._prompt_cache[layer]
        own_k[self._rows_S, :, self._column_S] = k[0].transpose(0, 1)
        own_v[self._rows_S, :, self._column_S] = v[0].transpose(0, 1)
        num_heads, width, num_keys = q.shape[1], q.shape[3], own_k.shape[1]
        q_SKRD = q[0].transpose(0, 1).reshape(len(self._rows_S), num_keys, num_heads // num_keys, width) * scale
        own = torch.matmul(q_SKRD, own_k.transpose(2, 3))
        shared = self._to_rows(torch.matmul(self._to_groups(q_SKRD), prompt_k.transpose(2, 3)))
        scores = torch.cat((shared, own), dim=3)
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        if window not in self._hidden_by_window:
            self._hidden_by_window[window] = self._hidden_places(window)
        scores.masked_fill_(self._hidden_by_window[window][:, None, None, :], float("-inf"))
        weights = torch.softmax(scores, dim=3, dtype=torch.float32).to(q.dtype)
        on_prompt, on_own = weights.split((self._longest_prompt, self._num_columns), dim=3)
        out = torch.matmul(on_own, own_v) + self._to_rows(torch.matmul(self._to_groups(on_prompt), prompt_v))
        return out.reshape(len(self._rows_S), num_heads, width)

    def _hidden_places(self, window: int | None) -> Tensor:
        """[S, L + T]: keys a row may not see: behind its prompt, not yet written, out of its window."""
        prompt_S1, length_S1 = self._prompt_length_A[self._group_S][:, None], self._length_S[:, None]
        prompt_L = torch.arange(self._longest_prompt, device=self._device)
        own_T = torch.arange(self._num_columns, device=self._device)
        prompt, own = prompt_L >= prompt_S1, own_T >= length_S1
        if window is not None:
            prompt = prompt | (prompt_S1 + length_S1 - 1 - prompt_L >= window)
            own = own | (length_S1 - 1 - own_T >= window)
        return torch.cat((prompt, own), dim=1)

    def _to_groups(self, x: Tensor) -> Tensor:
        """[S, K, R, X] → [A, K, G·R, X]: the rows of a group side by side, so that its prompt is read once."""
        return x.unflatten(0, (self._num_groups, -1)).transpose(1, 2).flatten(2, 3)

    def _to_rows(self, x: Tensor) -> Tensor:
        """[A, K, G·R, X] → [S, K, R, X]."""
        return x.unflatten(2, (self._group_size, -1)).transpose(1, 2).flatten(0, 1)

    # -- memory ------------------------------------------------------------------------------------------------------

    def _remember(self, prompts: list[tuple[Tensor, Tensor]], place_A: Tensor) -> None:
        """Puts the keys and values of new prompts into their places; at first makes the places."""
        if not self._cache:
            for k, _ in prompts:
                of_prompt = (self._num_groups, k.shape[1], self._longest_prompt, k.shape[3])
                own = (len(self._rows_S), k.shape[1], self._num_columns, k.shape[3])
                self._prompt_cache.append((k.new_zeros(of_prompt), k.new_zeros(of_prompt)))
                self._cache.append((k.new_zeros(own), k.new_zeros(own)))
        for (kept_k, kept_v), (k, v) in zip(self._prompt_cache, prompts, strict=True):
            kept_k[place_A, :, : k.shape[2]] = k
            kept_v[place_A, :, : v.shape[2]] = v

    def _grown(self, x: Tensor) -> Tensor:
        grown = x.new_zeros(*x.shape[:2], self._num_columns, x.shape[3])
        grown[:, :, : x.shape[2]] = x
        return grown
