"""The `scripted` engine: the task's oracle with an error rate. For tests, docs and dry runs; no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gradus.rollout.engine import Request, Sampling
from gradus.seeds import seed_of
from gradus.tasks.base import Task
from gradus.types import Completion

WRONG_ANSWER = "I do not know."


class ScriptedEngine:
    """A share ``1 - error_rate`` of the completions is right; which ones depends on their seeds alone.

    Tokens are the UTF-8 bytes of the text and log-probabilities are 0, so that nothing can be learned from them.

    Example:
        ScriptedEngine({"countdown": load_task("countdown")}, error_rate=0.5)
    """

    def __init__(self, tasks: dict[str, Task], *, error_rate: float) -> None:
        self._tasks = tasks
        self._error_rate = error_rate

    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        *,
        policy_step: int,
        poll: Callable[[], None] = lambda: None,
    ) -> list[tuple[Completion, ...]]:
        """See `Engine.generate`. An oracle longer than ``sampling.max_tokens`` bytes is not cut."""
        poll()
        return [tuple(self._completion(request, seed, policy_step) for seed in request.seeds) for request in requests]

    def _completion(self, request: Request, seed: int, policy_step: int) -> Completion:
        is_wrong = seed_of("scripted", seed) < self._error_rate * 2**63
        text = WRONG_ANSWER if is_wrong else self._tasks[request.problem.task].oracle(request.problem)
        tokens = tuple(text.encode())
        return Completion(
            text=text, tokens=tokens, logprobs=(0.0,) * len(tokens), finish="stop", policy_step=policy_step
        )
