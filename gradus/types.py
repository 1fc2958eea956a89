"""The nouns of gradus: Message, Problem, Completion, Score, Group. Standard library only.

Every value is complete when it is made and never changes afterwards; a later stage makes a new value of a later type.
Shape suffixes on parallel sequences: ``G`` completions of one group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Finish = Literal["stop", "length"]
"""How a completion ended: the model ended its turn, or the token limit cut it."""

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One chat message.

    Example:
        Message(role="user", content="Use 2, 5, 8 to make 11.")
    """

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One question that a program can check the answer of. JSON-able throughout.

    Example:
        Problem(id="countdown/train/00017", task="countdown", messages=(Message(role="user", content="..."),),
                truth={"numbers": [2, 5, 8], "target": 11}, domain="n3", difficulty=0.27, meta={})
    """

    id: str
    """Stable and readable: task, split, index."""
    task: str
    """Name of the task that scores it."""
    messages: tuple[Message, ...]
    """The prompt, before any chat template."""
    truth: Mapping[str, Any]
    """What the scorer needs; never shown to the policy."""
    domain: str
    """Slice used for balance and for tables (``n3``, ``ferry``); the task's name where there is only one."""
    difficulty: float
    """In [0, 1]; 0 is easiest. Comparable within a domain only."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Facts nobody scores on (source, row number)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What the policy said to one prompt.

    Example:
        Completion(text="<answer>8 + 5 - 2</answer>", tokens=(17, 4, 9), logprobs=(-0.1, -0.02, -0.3),
                   finish="stop", policy_step=120)
    """

    text: str
    """Decoded tokens, special tokens left out."""
    tokens: tuple[int, ...]
    """Sampled token ids, with the end-of-turn token when ``finish`` is ``stop``."""
    logprobs: tuple[float, ...]
    """Log-probability (nats) of each token under the sampler, at the sampling temperature."""
    finish: Finish
    policy_step: int
    """Optimizer steps behind the policy that sampled it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The judgement of one completion. ``reward`` is trained on, ``correct`` is reported: two fields, two purposes.

    Example:
        Score(reward=0.1, correct=False, parts={"answer": 0.1, "info/strict": 0.0}, why="wrong_value")
    """

    reward: float
    correct: bool
    parts: Mapping[str, float]
    """Plain names are reward terms and sum to ``reward``; names beginning with ``info/`` are facts.
    ``info/usable`` = 0 means that nobody may be paid or charged for this completion."""
    why: str
    """A code from a closed list, optionally followed by ``: detail``."""
    status: Literal["scored", "refused", "no_score", "timeout", "crash", "invalid"] = "scored"
    """``scored`` and ``refused`` judge the text; the others say that the judging failed."""

    @property
    def is_usable(self) -> bool:
        """Whether the reward may enter a baseline or a loss."""
        return self.status in ("scored", "refused") and self.parts.get("info/usable", 1.0) != 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """All completions of one problem in one step, with their scores: what an advantage is computed over.

    Example:
        Group(problem=problem, prompt_tokens=(1, 5, 9), completions=(a, b), scores=(good, bad)).solve_rate  # 0.5
    """

    problem: Problem
    prompt_tokens: tuple[int, ...]
    completions: tuple[Completion, ...]
    scores: tuple[Score, ...]

    def __post_init__(self) -> None:
        assert len(self.completions) == len(self.scores), "one score per completion"

    @property
    def rewards_G(self) -> tuple[float, ...]:
        """Reward of each completion, usable or not."""
        return tuple(score.reward for score in self.scores)

    @property
    def solve_rate(self) -> float:
        """Share of correct completions."""
        return sum(score.correct for score in self.scores) / len(self.scores)

    @property
    def has_signal(self) -> bool:
        """Whether the usable rewards differ: without spread there is nothing to learn from the group."""
        usable = [score.reward for score in self.scores if score.is_usable]
        return len(usable) >= 2 and max(usable) > min(usable)
