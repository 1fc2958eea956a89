"""Engine: what turns prompts into completions. Requests are whole groups, so that a prompt is computed once."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gradus.registry import Registry
from gradus.types import Completion, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to draw tokens.

    Example:
        Sampling(temperature=1.0, max_tokens=96)
    """

    temperature: float
    """Divides the logits; 0 takes the most likely token."""
    max_tokens: int
    """Limit of a completion (tokens)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One group to sample: a prompt and one seed per completion.

    Example:
        Request(problem=problem, prompt_tokens=(1, 5, 9), seeds=(81, 4711))
    """

    problem: Problem
    prompt_tokens: tuple[int, ...]
    seeds: tuple[int, ...]
    """63-bit seeds; a completion is a function of policy, prompt, sampling and its own seed alone."""


class Engine(Protocol):
    """Samples completions. Results come in the order of the requests and of their seeds."""

    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        *,
        policy_step: int,
        poll: Callable[[], None] = lambda: None,
    ) -> list[tuple[Completion, ...]]:
        """Calls ``poll`` at least once a second of work; an exception it raises ends the call."""
        ...


def need_vllm() -> None:
    """ValueError where vLLM is missing."""
    if importlib.util.find_spec("vllm") is None:
        raise ValueError(
            "engine.name=vllm needs the package vllm: install the release for your GPU (pip install vllm) or, for a CPU, "
            "make extras-vllm; or use engine.name=local"
        )


ENGINES: Registry[type[Engine]] = Registry(
    "engine",
    {
        "local": "gradus.rollout.local:LocalEngine",
        "scripted": "gradus.rollout.scripted:ScriptedEngine",
        "vllm": "gradus.rollout.vllm:VllmEngine",
    },
)
