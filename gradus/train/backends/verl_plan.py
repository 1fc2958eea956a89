"""The problems of all steps of a verl run, drawn before verl starts: its data, and what is expected back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradus import durable
from gradus.data import parquet
from gradus.data.order import sampler_for
from gradus.data.prepare import verl_row
from gradus.exits import Code, Exit
from gradus.jsonl import read_jsonl, to_lines
from gradus.policy.load import Policy
from gradus.train.backends.batches import steps_per_batch
from gradus.train.session import Session
from gradus.types import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What verl will train on.

    Example:
        Planned(batches={1: [problem, ...], 2: [...]}, longest_prompt=61)
    """

    batches: Mapping[int, Sequence[Problem]]
    """Problems of each of verl's steps, 1 = first."""
    longest_prompt: int
    """Tokens."""


def write_plan(session: Session, folder: Path) -> Planned:
    """Draws the problems of all steps to come and writes them as verl's data. Steps that were taken keep theirs.

    ValueError where a prompt begins the assistant's answer, which verl would close; Exit(NOTHING_USABLE) where the plan
    of the steps that were taken is lost.
    """
    config, state = session.config, session.state
    period = steps_per_batch(config)
    by_id = {problem.id: problem for problem in session.train_problems}
    path = folder / "plan.jsonl"
    batches: dict[int, list[Problem]] = {}
    for row in read_jsonl(path).rows if path.is_file() else []:
        if row["step"] <= state.step and row["problem_id"] in by_id:
            batches.setdefault(row["batch"], []).append(by_id[row["problem_id"]])
    if set(batches) != set(range(1, state.step // period + 1)):
        hint = "start again with --from-scratch"
        raise Exit(Code.NOTHING_USABLE, f"{path} does not have the {state.step} steps that were taken", hint=hint)
    planner = sampler_for(config, session.train_problems, kind="train")
    planner.load_state_dict(state.curriculum.state_dict())
    for step in range(state.step, config.num_steps, period):
        batches[step // period + 1] = planner.draw(step)
    tokens = {problem.id: _prompt(state.policy, problem) for problems in batches.values() for problem in problems}
    rows = [
        {
            "batch": batch,
            "step": (batch - 1) * period + 1,
            "problem_id": problem.id,
            "prompt_tokens": tokens[problem.id],
        }
        for batch, problems in sorted(batches.items())
        for problem in problems
    ]
    has_domains = len({problem.domain for problem in by_id.values()}) > 1
    data = [verl_row(by_id[row["problem_id"]], "train", index, has_domains) for index, row in enumerate(rows)]
    durable.make_directory(folder)
    durable.write_text(path, to_lines(rows))
    durable.write_bytes(folder / "plan.parquet", parquet.encode(data))
    return Planned(batches=batches, longest_prompt=max(map(len, tokens.values())))


def _prompt(policy: Policy, problem: Problem) -> list[int]:
    """Prompt tokens as verl renders them, which must be ours."""
    if problem.messages[-1].role == "assistant":
        raise ValueError(
            f"the prompt of {problem.id} begins the assistant's answer; verl would end that turn and open another. "
            "Choose a prompt of the task that does not, or use --backend native"
        )
    messages = [{"role": message.role, "content": message.content} for message in problem.messages]
    theirs = policy.tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=False
    )
    ours = list(policy.prompt_tokens(problem.messages))
    if list(theirs) != ours:
        place = next(
            (at for at, pair in enumerate(zip(theirs, ours, strict=False)) if pair[0] != pair[1]),
            min(len(theirs), len(ours)),
        )
        raise ValueError(
            f"the prompt of {problem.id} has other tokens in verl than in gradus, from token {place} on; "
            "use --backend native"
        )
    return ours
