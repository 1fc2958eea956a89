"""Supervised warm-up (`gradus sft`): next-token loss on the task's oracle answers or a file's, so that GRPO finds signal.

Shape suffixes: ``B`` answers, ``T`` answer positions.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from gradus.data.problems import Problems, load_answers
from gradus.policy.load import Policy
from gradus.policy.logprobs import completion_logprobs
from gradus.seeds import seed_of
from gradus.tasks.base import Task
from gradus.train.optimizer import Optimizer
from gradus.train.session import RollBack, Session, check_space, opened
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
    session.stop.poll()
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
) -> dict[str, float]:
    """One optimizer step on the mean cross-entropy of all answer tokens (nats per token)."""
    num_tokens = sum(len(answer) for _, answer in examples)
    loss = 0.0
    for number, chosen in enumerate(_cuts(examples, microbatch_tokens)):
        poll()
        torch.manual_seed(seed_of("update", *seed_parts, number))
        logprobs_BT, _ = completion_logprobs(
            policy.model,
            prompts=[prompt for prompt, _ in chosen],
            completions=[answer for _, answer in chosen],
            prompt_of=range(len(chosen)),
            temperature=1.0,
        )
        part = -logprobs_BT.sum() / num_tokens
        part.backward()
        loss += float(part.detach())
    norm = optimizer.clip()
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
