"""A user's own reward function in place of a preset: found by its address, run in a worker process with a deadline.

Correctness stays what the task says it is; only the reward is the user's. What the function does wrong (raises, hangs,
returns no finite number in range) is the tool's failure, so the completion is neither paid nor charged.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from gradus.tasks.pool import CannotStart, Outcome, WorkerPool
from gradus.types import Score

LOWEST, HIGHEST = 0.0, 1.0
"""Range of a user's rewards."""


class UserReward:
    """``FILE.py:FUNCTION`` or ``MODULE:FUNCTION``, called as ``f(completion=..., gold=..., correct=...)``.

    Example:
        UserReward("my_rewards.py:short").apply(score, completion="#### 18", gold="18")
    """

    def __init__(self, address: str, *, timeout_seconds: float = 2.0) -> None:
        place, separator, name = address.rpartition(":")
        if not separator or not place or not name.isidentifier():
            raise ValueError(
                f"reward_function={address!r} is not FILE.py:FUNCTION or MODULE:FUNCTION, e.g. my_rewards.py:short"
            )
        path = ()
        if place.endswith(".py"):
            file = Path(place).resolve()
            if not file.is_file():
                raise ValueError(f"reward_function: there is no file {place}; give its path from the folder you are in")
            place, path = file.stem, (str(file.parent),)
        self.function = f"{place}:{name}"
        self._pool = WorkerPool(
            "gradus.tasks.user_worker:score", num_workers=1, timeout_seconds=timeout_seconds, path=path
        )

    def apply(self, score: Score, *, completion: str, gold: str) -> Score:
        """``score`` with the user's reward. A score that judges nothing (unreadable gold) stays as it is."""
        if not score.is_usable:
            return score
        request = {"function": self.function, "completion": completion, "gold": gold, "correct": score.correct}
        try:
            outcome = self._pool.call(request)
        except CannotStart as error:
            outcome = Outcome("crash", None, str(error))
        facts = {name: value for name, value in score.parts.items() if name.startswith("info/")}
        reward = outcome.reply.get("reward") if outcome.reply else None
        if outcome.status == "ok" and reward is None:
            return replace(score, reward=0.0, parts={"custom": 0.0, **facts, "info/usable": 0.0}, status="no_score")
        if outcome.status == "ok" and isinstance(reward, float) and LOWEST <= reward <= HIGHEST:
            return replace(score, reward=reward, parts={"custom": reward, **facts})
        status = {"timeout": "timeout", "crash": "crash"}.get(outcome.status, "invalid")
        why = outcome.why or f"reward {reward} is outside {LOWEST:g} to {HIGHEST:g}"
        parts = {"custom": 0.0, **facts, "info/usable": 0.0}
        return replace(score, reward=0.0, parts=parts, status=status, why=f"{score.why}: {why}")


@lru_cache(maxsize=16)
def shared(address: str, timeout_seconds: float = 2.0) -> UserReward:
    """One worker per function and deadline in this process."""
    return UserReward(address, timeout_seconds=timeout_seconds)
