"""What TRL's trainer asks of gradus at each of its places: problems, prompts, completions, scores, gradients, and what
becomes of a finished step. `train/backends/trl.py` makes the trainer that asks.

Shape suffixes: ``B`` completions of a batch that this process has, in the order of problems, ``G`` of one problem.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gradus.data.order import words
from gradus.evaluation.run import Evaluator
from gradus.policy.load import Policy
from gradus.rollout.rollout import Timing
from gradus.seeds import seed_of
from gradus.train.backends.scoring import paid, scored
from gradus.train.loop import evaluate_now, sample, stop_on_scoring_errors
from gradus.train.metrics import rollout_metrics
from gradus.train.optimizer import Optimizer
from gradus.train.records import rollout_rows
from gradus.train.session import Session
from gradus.types import Completion, Group, Problem

THEIR_NAMES = {
    "loss": ("loss",),
    "grad_norm": ("grad_norm",),
    "entropy": ("entropy",),
    "kl": ("kl",),
    "clip_ratio/low_mean": ("clip_ratio/low_mean",),
    "clip_ratio/low_min": ("clip_ratio/low_min",),
    "clip_ratio/high_mean": ("clip_ratio/high_mean",),
    "clip_ratio/high_max": ("clip_ratio/high_max",),
    "clip_ratio/region_mean": ("clip_ratio/region_mean",),
    "cispo_clip_ratio": ("clip_ratio/high_mean", "clip_ratio/region_mean"),
}
"""What TRL logs of an update, and what we call it. All that concerns rewards and lengths is computed from the groups."""


class Conductor:
    """What the trainer asks at each of its places: problems, prompts, scores, and what becomes of a finished step.

    Example:
        conductor = Conductor(session, evaluator, Stepper(state.optimizer, state.policy))
    """

    def __init__(self, session: Session, evaluator: Evaluator, stepper: Stepper) -> None:
        self.session = session
        self._evaluator = evaluator
        self.stepper = stepper
        self._drawn: list[Problem] = []
        self._problems_B: list[Problem] = []
        self._prompts_B: list[tuple[int, ...]] = []
        self._groups: list[Group] = []
        self._row: dict[str, Any] = {}
        self._rollout_seconds = self._scoring_seconds = 0.0
        self._step_started = time.monotonic()

    @property
    def policy(self) -> Policy:
        """The policy that learns."""
        return self.session.state.policy

    @property
    def sampler(self) -> Policy:
        """The policy that samples, with whole weights. All processes must ask for it."""
        return self.session.sampler

    def begin_batch(self, places_B: Sequence[int]) -> None:
        """Draws the problems of the next batch. ``places_B`` are those of TRL's rows: each place G times, in order."""
        session, state, config = self.session, self.session.state, self.session.config
        self._step_started = time.monotonic()
        num_each, own = config.sampling.group_size, self._own_places()
        expected = [place for place in own for _ in range(num_each)]
        assert list(places_B) == expected, "TRL no longer hands over whole groups in order"
        assert state.step % session.steps_per_save == 0, "a batch begins where a run can be saved"
        problems = state.curriculum.draw(state.step)
        if (line := words(state.curriculum, state.step)) is not None:
            session.info(line)
        self._drawn, self._problems_B = problems, [problems[place] for place in own for _ in range(num_each)]
        self._rollout_seconds = self._scoring_seconds = 0.0
        torch.manual_seed(seed_of("trl", config.seed, state.replay, state.step + 1))

    def _own_places(self) -> range:
        """The places in the batch of problems whose completions are this process's, as TRL deals them out."""
        ranks = self.session.ranks
        count = self.session.config.curriculum.problems_per_step // ranks.size
        return range(ranks.rank * count, (ranks.rank + 1) * count)

    def prompts(self) -> list[list[int]]:
        """Prompt tokens of each completion of the batch, as a native run renders them."""
        known: dict[str, tuple[int, ...]] = {}
        for problem in self._problems_B:
            if problem.id not in known:
                known[problem.id] = self.policy.prompt_tokens(problem.messages)
        self._prompts_B = [known[problem.id] for problem in self._problems_B]
        return [list(tokens) for tokens in self._prompts_B]

    def sampled(
        self, sample: Callable[[list[list[int]]], tuple[list[list[int]], Any]], prompts: list[list[int]]
    ) -> Any:
        """Samples this process's completions, at most ``engine.batch_size`` at a time, without dropout. Each such part has
        a seed by its place in the batch, whichever process it falls to. A signal ends it at once. With ``engine.name=vllm``
        it is gradus' own engine that samples, as in a native run."""
        if self._has_engine:
            return self._rolled_out(), None
        started, session, state = time.monotonic(), self.session, self.session.state
        model, width = self.sampler.model, session.config.engine.batch_size
        if session.config.backend.extra.get("use_vllm"):
            width = len(prompts)  # vLLM wants whole groups, and bounds its batches itself
        first_of_all = session.ranks.rank * len(prompts)
        tokens_B: list[list[int]] = []
        logprobs_B: list[Any] | None = None

        def sample_all() -> None:
            nonlocal tokens_B, logprobs_B
            with session.stop.at_once():
                for first in range(0, len(prompts), width):
                    place = first_of_all + first
                    torch.manual_seed(seed_of("trl", session.config.seed, state.replay, state.step + 1, place))
                    tokens, logprobs = sample(prompts[first : first + width])
                    tokens_B += tokens
                    logprobs_B = logprobs if logprobs is None else [*(logprobs_B or []), *logprobs]

        was_training = model.training
        model.eval()
        try:
            session.ranks.each(sample_all)
        finally:
            model.train(was_training)
        self._rollout_seconds += time.monotonic() - started
        return tokens_B, logprobs_B

    @property
    def _has_engine(self) -> bool:
        return self.session.config.engine.name == "vllm"

    def _rolled_out(self) -> list[list[int]]:
        """Samples and scores the whole batch as a native run does, and gives TRL this process's tokens."""
        timing = Timing()
        self._groups = sample(self.session, self._drawn, Counter(), timing)
        self._rollout_seconds, self._scoring_seconds = timing.rollout_seconds, timing.scoring_seconds
        own = [self._groups[place] for place in self._own_places()]
        return [list(completion.tokens) for group in own for completion in group.completions]

    def reward(self, *, completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float | None]:
        """The reward function that TRL calls: scores this process's completions, and keeps the groups of all."""
        if self._has_engine:
            return [paid(score) for place in self._own_places() for score in self._groups[place].scores]
        started, ranks = time.monotonic(), self.session.ranks
        parts = ranks.each(lambda: self._grouped(completion_ids))
        self._groups = [group for part in parts for group in part]
        self._scoring_seconds += time.monotonic() - started
        return [paid(score) for group in parts[ranks.rank] for score in group.scores]

    def _grouped(self, completion_ids: Sequence[Sequence[int]]) -> list[Group]:
        step, num_each = self.session.state.step, self.session.config.sampling.group_size
        completions, scores = [], []
        for problem, tokens in zip(self._problems_B, completion_ids, strict=True):
            self.session.stop.poll()
            completions.append(self._completion(tokens, step))
            scores.append(scored(self.session.problems.tasks[problem.task], problem, completions[-1]))
        return [
            Group(
                problem=self._problems_B[first],
                prompt_tokens=self._prompts_B[first],
                completions=tuple(completions[first : first + num_each]),
                scores=tuple(scores[first : first + num_each]),
            )
            for first in range(0, len(scores), num_each)
        ]

    def _completion(self, tokens: Sequence[int], step: int) -> Completion:
        """TRL gives no log-probabilities of its sampler, so there are none."""
        text = self.policy.decode(tokens)
        finish = "stop" if tokens and tokens[-1] in self.policy.stop_tokens else "length"
        return Completion(text=text, tokens=tuple(tokens), logprobs=(), finish=finish, policy_step=step)

    def end_batch(self, advantages_B: Sequence[float]) -> None:
        """Counts and records what was sampled, and lets the curriculum learn of it."""
        session, state, config = self.session, self.session.state, self.session.config
        groups, tasks = self._groups, self.session.problems.tasks
        advantages = [advantage for part in session.ranks.gather(list(advantages_B)) for advantage in part]
        state.curriculum.observe(state.step, groups)
        row = {"epoch": state.curriculum.epoch}
        row |= rollout_metrics(groups, tasks) | state.curriculum.metrics(state.step)
        row["time/rollout_seconds"], row["time/scoring_seconds"] = self._rollout_seconds, self._scoring_seconds
        num_tokens = sum(len(completion.tokens) for group in groups for completion in group.completions)
        row["time/tokens_per_second"] = num_tokens / max(self._rollout_seconds, 1e-9)
        num_prompt_tokens = sum(len(group.prompt_tokens) * len(group.completions) for group in groups)
        state.counters["num_tokens"] += num_tokens + num_prompt_tokens
        stop_on_scoring_errors(session, row["scoring/error_frac"])
        served = range(state.step + 1, state.step + 1 + session.steps_per_save)
        if state.step == 0 or any(step % config.records.rollouts_every_steps == 0 for step in served):
            state.records[str(served[0])] = rollout_rows(groups, advantages, step=served[0], seed=config.seed)
        self._row = row

    def poll(self) -> None:
        """May raise to stop, where the step can be forgotten: in the first one of a batch."""
        if self.session.state.step % self.session.steps_per_save == 0:
            self.session.poll()

    def backward(self, loss: Tensor, *, is_last: bool) -> None:
        """Adds the gradient of a micro-batch. TRL's losses are to be averaged over the processes, gradus sums."""
        self.session.state.optimizer.backward(loss / self.session.ranks.size, is_last=is_last)

    def end_step(self, logs: Mapping[str, Any]) -> None:
        """Records, evaluates and saves after an optimizer step, of which ``logs`` is what TRL says."""
        session, row = self.session, {**self._row, "learning_rate": self.session.learning_rate()}
        for theirs, ours in THEIR_NAMES.items():
            if logs.get(theirs) is not None:
                row |= dict.fromkeys(ours, float(logs[theirs]))
        row["train/skipped"] = 1.0 if self.stepper.was_skipped else 0.0
        seconds = time.monotonic() - self._step_started
        row["time/update_seconds"] = seconds - row.get("time/rollout_seconds", 0) - row.get("time/scoring_seconds", 0)
        session.count_skip(row)
        self._row = {"epoch": session.state.curriculum.epoch}
        session.finish_step(row, seconds=seconds, evaluate=self._evaluated)
        self._step_started = time.monotonic()

    def _evaluated(self) -> dict[str, float]:
        with attention(self.policy.model, None):
            return evaluate_now(self.session, self._evaluator)


class Stepper(torch.optim.Optimizer):
    """gradus' optimizer as the trainer takes it: master weights, moments by name, and no step that is not finite.

    Example:
        stepper = Stepper(state.optimizer, policy); stepper.clip(); stepper.step(); stepper.was_skipped
    """

    def __init__(self, optimizer: Optimizer, policy: Policy) -> None:
        super().__init__([parameter for _, parameter in policy.trainable()], {"lr": 1.0})
        self._optimizer = optimizer
        self._norm = math.nan
        self.was_skipped = False
        """Whether the last step was left out because a gradient was not finite."""

    def clip(self) -> float:
        """The global norm of the gradients of all processes, before they are scaled to the largest allowed one."""
        self._norm = self._optimizer.clip()
        return self._norm

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update with the learning rate of the schedule; nothing changes where a gradient is not finite."""
        assert closure is None
        (group,) = self.param_groups
        self.was_skipped = not math.isfinite(self._norm)
        if self.was_skipped:
            self._optimizer.drop_gradients()
        else:
            self._optimizer.step(learning_rate=float(group["lr"]))


@contextlib.contextmanager
def attention(model: nn.Module, name: str | None) -> Iterator[None]:
    """Lets the model attend in another way: ``name`` of transformers' implementations; None: gradus' own."""
    from gradus.policy.tree import ATTENTION

    inner: Any = model.get_base_model() if hasattr(model, "peft_config") else model  # type: ignore[operator]
    before = inner.config._attn_implementation
    inner.set_attn_implementation(name or ATTENTION)
    try:
        yield
    finally:
        inner.set_attn_implementation(before)


def padded_attention(model: nn.Module) -> str:
    """What padded rows are computed with."""
    inner: Any = model.get_base_model() if hasattr(model, "peft_config") else model  # type: ignore[operator]
    return "sdpa" if getattr(inner, "_supports_sdpa", False) else "eager"
