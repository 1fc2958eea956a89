"""The order of training problems: shuffled epochs, a pure function of (seed, epoch, position)."""

from __future__ import annotations

import random
from collections.abc import Mapping

from gradus.seeds import seed_of


class ProblemOrder:
    """Draws indices of problems; every epoch holds each index once, in its own order.

    Example:
        order = ProblemOrder(num_problems=4, seed=0); order.draw(6)  # one epoch and half of the next
    """

    def __init__(self, *, num_problems: int, seed: int) -> None:
        if num_problems < 1:
            raise ValueError("there are no training problems; check the task's source and split")
        self._num_problems = num_problems
        self._seed = seed
        self.epoch = 0
        self.position = 0
        self._permutation = self._shuffled(0)

    def draw(self, count: int) -> list[int]:
        """The next ``count`` indices, running on into further epochs."""
        drawn: list[int] = []
        while len(drawn) < count:
            if self.position == self._num_problems:
                self.epoch, self.position = self.epoch + 1, 0
                self._permutation = self._shuffled(self.epoch)
            taken = self._permutation[self.position : self.position + count - len(drawn)]
            self.position += len(taken)
            drawn += taken
        return drawn

    def state_dict(self) -> dict[str, int]:
        """Seed, epoch and position."""
        return {"seed": self._seed, "epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Goes on where ``state`` was taken."""
        assert state["seed"] == self._seed, "the seed of a run never changes"
        self.epoch, self.position = state["epoch"], state["position"]
        self._permutation = self._shuffled(self.epoch)

    def _shuffled(self, epoch: int) -> list[int]:
        indices = list(range(self._num_problems))
        random.Random(seed_of("draw", self._seed, epoch)).shuffle(indices)
        return indices
