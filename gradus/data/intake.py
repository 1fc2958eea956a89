"""What became of the rows of a data set while one split was read: nothing is left out without a count and a place."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

MAX_PLACES = 5
"""Places named per reason."""
HARMLESS = frozenset({"torn_last_line", "also_in_test", "few_shot_example"})
"""Reasons that say nothing against a source: what a killed writer leaves, and what is kept apart on purpose."""


@dataclass(slots=True)
class Intake:
    """Rows read, rows that belong to another split, and rows left out by reason. What remains are the split's problems.

    Example:
        intake = Intake(); intake.drop("broken_line", "train.jsonl:17"); intake.dropped  # Counter({"broken_line": 1})
    """

    num_rows: int = 0
    """Rows of the source that were read, those left out included."""
    num_elsewhere: int = 0
    """Rows of another split."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Rows left out, by reason."""
    places: dict[str, list[str]] = field(default_factory=dict)
    """By reason, where the first of them stand."""

    def drop(self, reason: str, place: str = "") -> None:
        """Counts a row that is left out."""
        self.dropped[reason] += 1
        places = self.places.setdefault(reason, [])
        if place and len(places) < MAX_PLACES:
            places.append(place)

    @property
    def num_bad(self) -> int:
        """Rows left out because something is wrong with them."""
        return sum(count for reason, count in self.dropped.items() if reason not in HARMLESS)
