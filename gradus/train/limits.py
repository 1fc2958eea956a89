"""What must fit before a run begins: prompts and answers into the model, checkpoints onto the disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gradus.config import Config
from gradus.exits import Code, Exit
from gradus.policy.load import Policy
from gradus.train.place import check_disk
from gradus.types import Problem

if TYPE_CHECKING:
    from gradus.train.session import Session


def within_limits(
    problems: Sequence[Problem], config: Config, policy: Policy, *, say: Callable[[str], None]
) -> Sequence[Problem]:
    """The problems whose prompts are not too long; how many are is told to ``say``.

    Raises:
        ValueError: prompts and answers do not fit the model. Exit(NOTHING_USABLE): no problem is left.
    """
    sampling, num_given = config.sampling, len(problems)
    if sampling.max_prompt_tokens is not None:
        limit = sampling.max_prompt_tokens
        problems = [problem for problem in problems if len(policy.prompt_tokens(problem.messages)) <= limit]
        if num_dropped := num_given - len(problems):
            say(f"{num_dropped} of {num_given} problems left out: prompt over {limit} tokens")
        if not problems:
            message = f"every prompt has more than sampling.max_prompt_tokens={limit} tokens"
            raise Exit(Code.NOTHING_USABLE, message, hint="raise sampling.max_prompt_tokens")
    places = getattr(policy.model.config, "max_position_embeddings", None)
    longest = max(len(policy.prompt_tokens(problem.messages)) for problem in problems[:64])
    if places is not None and longest + sampling.max_tokens > places:
        raise ValueError(
            f"sampling.max_tokens={sampling.max_tokens} and prompts of {longest} tokens do not fit the {places} positions of "
            f"{policy.source}; use sampling.max_tokens={max(1, places - longest)} or less"
        )
    return problems


def check_space(session: Session) -> None:
    """Warns of, or refuses, a disk that cannot hold the checkpoints."""
    parameters = sum(p.numel() * p.element_size() for p in session.state.policy.model.parameters())
    trained = sum(p.numel() * 8 for _, p in session.state.policy.trainable())
    keep_last = session.config.checkpoint.keep_last
    try:
        note = session.ranks.from_first(
            lambda: check_disk(session.run, checkpoint_bytes=parameters + trained, keep_last=keep_last)
        )
    except Exit as error:
        if not session.start.is_forced:
            raise
        note = f"{error.message}; it begins all the same (--force)"
    if note:
        session.warn(note)
