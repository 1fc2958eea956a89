"""Fair shares of a small number of places: what is given never strays a whole place from what is due."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=str)


class Credit(Generic[Name]):
    """Who is owed how many places.

    Example:
        credit = Credit(("easy", "hard"))
        credit.allot(1, (Fraction(3, 4), Fraction(1, 4)))  # ["easy"]; easy is now owed -1/4, hard 1/4
    """

    def __init__(self, names: Sequence[Name]) -> None:
        self.names = tuple(names)
        self.owed = dict.fromkeys(self.names, Fraction(0))

    def allot(self, num_places: int, shares: Sequence[Fraction]) -> list[Name]:
        """Gives each place to whoever is owed most (ties: the first name), whose credit then drops by 1.

        ``shares`` sum to 1, in the order of the names.
        """
        for name, share in zip(self.names, shares, strict=True):
            self.owed[name] += num_places * share
        given: list[Name] = []
        for _ in range(num_places):
            name = max(self.names, key=self.owed.__getitem__)
            self.owed[name] -= 1
            given.append(name)
        return given

    def state(self) -> dict[str, str]:
        """Credits as exact fractions."""
        return {name: str(credit) for name, credit in self.owed.items()}

    def load(self, state: Mapping[str, str]) -> None:
        """Goes on where ``state`` was taken."""
        self.owed = {name: Fraction(state[name]) for name in self.names}
