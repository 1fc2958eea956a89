"""A set of problems that is gone through again and again, each time in a new order."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from typing import Any

from gradus.seeds import seed_of


class Pool:
    """Shuffled passes over some indices: each comes once before any comes again.

    The order of a pass is a pure function of the seed, the name of the pool and the number of the pass. Indices that
    may not be drawn now are put aside and come as soon as they may.
    """

    def __init__(self, indices: Sequence[int], seed: int, *name: str) -> None:
        self.indices = tuple(indices)
        self._seed = seed
        self._name = name
        self.num_passes = 0
        """Passes finished."""
        self.position = 0
        self.aside: list[int] = []
        self._order = self._shuffled()

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, is_barred: Callable[[int], bool], used: Collection[int] = ()) -> int:
        """The next index that is not barred; where all are, one that waits and is not ``used``, if there is any."""
        for _ in range(3):
            for place, index in enumerate(self.aside):
                if not is_barred(index):
                    return self.aside.pop(place)
            while self.position < len(self._order):
                index = self._order[self.position]
                self.position += 1
                if not is_barred(index):
                    return index
                self.aside.append(index)
            if self.aside and all(is_barred(index) for index in self.indices):
                place = next((place for place, index in enumerate(self.aside) if index not in used), 0)
                return self.aside.pop(place)
            self._begin_pass()
        raise AssertionError("a pass over a pool that is not empty gives an index")

    def take_any(self, rng: random.Random) -> int:
        """A uniform index, drawn with replacement."""
        return self.indices[rng.randrange(len(self.indices))]

    def state(self) -> list[Any]:
        """Passes, position, indices put aside."""
        return [self.num_passes, self.position, list(self.aside)]

    def load(self, state: Sequence[Any]) -> None:
        """Goes on where ``state`` was taken."""
        self.num_passes, self.position, self.aside = int(state[0]), int(state[1]), [int(index) for index in state[2]]
        self._order = self._shuffled()

    def _begin_pass(self) -> None:
        self.num_passes += 1
        self.position = 0
        self.aside = []
        self._order = self._shuffled()

    def _shuffled(self) -> list[int]:
        order = list(self.indices)
        random.Random(seed_of("draw", self._seed, self.num_passes, *self._name)).shuffle(order)
        return order
