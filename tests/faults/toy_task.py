"""A task that a model with random weights solves now and then: say digits. Its rewards differ inside every group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from gradus.tasks.base import Task
from gradus.types import Finish, Message, Problem, Score, Split


class Toy(Task):
    """More digits, more reward."""

    name = "toy"
    scorer_class: ClassVar[Any] = "inline"

    @property
    def reward_range(self) -> tuple[float, float]:
        return 0.0, 1.0

    def problems(self, split: Split, limit: int | None = None) -> Iterator[Problem]:
        for number in range(limit if limit is not None else 10):
            yield self.problem(number=number, split=split)

    def problem(self, **raw: Any) -> Problem:
        number, split = raw["number"], raw.get("split", "train")
        return Problem(
            id=f"toy/{split}/{number:05d}",
            task="toy",
            messages=(Message(role="user", content=f"{number} {'digits ' * (number % 3)}please"),),
            truth={},
            domain="toy",
            difficulty=0.5,
        )

    def score(self, problem: Problem, text: str, *, finish: Finish = "stop") -> Score:
        num_digits = sum(character.isdigit() for character in text)
        reward = min(1.0, num_digits / 8)
        return Score(reward=reward, correct=num_digits >= 3, parts={"digits": reward}, why="counted")

    def oracle(self, problem: Problem) -> str:
        return "12345678"
