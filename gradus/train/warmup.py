"""Supervised warm-up (`gradus sft`): next-token loss on the task's oracle answers or a file's, so that GRPO finds signal.

Shape suffixes: ``B`` answers, ``T`` answer positions.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from gradus.data.problems import Problems, load_answers
from gradus.policy.load import Policy
from gradus.rollout.ranks import ALONE, Ranks
from gradus.seeds import seed_of
from gradus.tasks.base import Task
from gradus.train.limits import check_space
from gradus.train.optimizer import Optimizer
from gradus.train.session import RollBack, Session, opened
from gradus.train.start import Start
from gradus.types import Problem

Example = tuple[tuple[int, ...], tuple[int, ...]]
"""(prompt tokens, answer tokens with the end of the turn)."""


def sft(start: Start, problems: Problems | None = None) -> dict[str, Any]:
    """Warms ``start`` up to its last step and returns a summary; the same run directory and promise as training."""
    config = start.resolved.config
    with opened(start, problems or load_answers(config)) as session:
        check_space(session)
        while session.state.step < config.num_steps:
            try:
                take_step(session)
            except RollBack:
                session.go_back()
        return session.summary()


def take_step(session: Session) -> None:
    """One optimizer step on the oracle answers of the next problems."""
    session.poll()
    started = time.monotonic()
    state, config, tasks = session.state, session.config, session.problems.tasks
    problems = state.curriculum.draw(state.step)
    examples = [encode_example(state.policy, tasks[problem.task], problem) for problem in problems]
    row: dict[str, Any] = {"epoch": state.curriculum.epoch}
    row |= sft_update(
        state.policy,
        state.optimizer,
        examples,
        learning_rate=session.learning_rate(),
        microbatch_tokens=config.optimizer.microbatch_tokens,
        seed_parts=(config.seed, state.replay, state.step + 1, 0),
        poll=session.stop.poll,
        ranks=session.ranks,
    )
    session.count_skip(row)
    state.counters["num_tokens"] += sum(len(prompt) + len(answer) for prompt, answer in examples)
    session.finish_step(row, seconds=time.monotonic() - started)


def encode_example(policy: Policy, task: Task, problem: Problem) -> Example:
    """What the policy should say to ``problem``: the answer that it brings (``sft.data_file``), or the task's demonstration."""
    answer = problem.truth["completion"] if set(problem.truth) == {"completion"} else task.demonstration(problem)
    return policy.prompt_tokens(problem.messages), policy.answer_tokens(answer)


def sft_update(
    policy: Policy,
    optimizer: Optimizer,
    examples: Sequence[Example],
    *,
    learning_rate: float,
    microbatch_tokens: int,
    seed_parts: tuple[int, ...],
    poll: Callable[[], None] = lambda: None,
    ranks: Ranks = ALONE,
) -> dict[str, float]:
    """One optimizer step on the mean cross-entropy of all answer tokens (nats per token). Several ``ranks`` learn from
    every ``size``-th answer each."""
    num_tokens = sum(len(answer) for _, answer in examples)
    cuts = _cuts(ranks.part(examples), microbatch_tokens)
    if optimizer.is_sharded:  # all go through the weights together
        cuts += [[]] * (max(ranks.gather(len(cuts))) - len(cuts))
        poll = partial(ranks.each, poll)  # type: ignore[assignment]
    of_rank = (ranks.rank,) if ranks.size > 1 else ()

    def accumulated() -> float:
        loss = 0.0
        for number, chosen in enumerate(cuts):
            poll()
            torch.manual_seed(seed_of("update", *seed_parts, number, *of_rank))
            logprobs_BT, _ = optimizer.logprobs(
                policy.model,
                prompts=[prompt for prompt, _ in chosen or examples[:1]],
                completions=[answer for _, answer in chosen or examples[:1]],
                prompt_of=range(len(chosen) or 1),
                temperature=1.0,
            )
            part = -logprobs_BT.sum() / num_tokens * (1 if chosen else 0)
            optimizer.backward(part, is_last=number == len(cuts) - 1)
            loss += float(part.detach())
        return loss

    loss = sum(ranks.gather(accumulated()) if optimizer.is_sharded else ranks.each(accumulated))
    norm = optimizer.clip()
    ranks.agree("the gradient's norm", norm)
    is_finite = math.isfinite(loss) and math.isfinite(norm)
    if is_finite:
        optimizer.step(learning_rate=learning_rate)
    else:
        optimizer.drop_gradients()
    return {
        "loss": loss,
        "grad_norm": norm,
        "learning_rate": learning_rate,
        "train/skipped": 0.0 if is_finite else 1.0,
        "completions/mean_length": num_tokens / len(examples),
    }


def _cuts(examples: Sequence[Example], max_tokens: int) -> list[list[Example]]:
    """Examples sorted by length and cut by token budget."""
    cuts: list[list[Example]] = []
    tokens = 0
    for example in sorted(examples, key=lambda example: (len(example[0]) + len(example[1]), example)):
        size = len(example[0]) + len(example[1])
        if not cuts or tokens + size > max_tokens:
            cuts.append([])
            tokens = 0
        cuts[-1].append(example)
        tokens += size
    return cuts
