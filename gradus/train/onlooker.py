"""The run directory as the other processes of a run see it: they read, and the first process alone writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gradus.rundir import RunDirectory


class Onlooker(RunDirectory):
    """A run directory that nothing is written to. The records of a run are the first process's.

    Example:
        Onlooker(Path("runs/first")).append_metrics({"step": 1})  # nothing happens
    """

    def tolerate(self, kind: str, write: Callable[[], None]) -> None:
        """Nothing: records, events and the status are the first process's."""

    def write_status(self, **fields: Any) -> None:
        """Nothing."""

    def write_evaluation(
        self, set_name: str, step: int, rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]
    ) -> None:
        """Nothing."""

    def write_comparison(self, comparison: Mapping[str, Any], markdown: str) -> None:
        """Nothing."""

    def write_comparison_tables(self, tables: Sequence[Mapping[str, Any]], of: Sequence[str | None] = ()) -> None:
        """Nothing."""

    def rewind(self, step: int, lengths: Mapping[str, int], attempt: int) -> None:
        """Nothing."""

    def supersede(self, name: str, attempt: int) -> None:
        """Nothing."""

    def sweep(self) -> list[str]:
        """Nothing is swept."""
        return []

    def acquire(self) -> None:
        """The lock is the first process's."""

    def release(self) -> None:
        """The lock is the first process's."""

    def check_lock(self) -> None:
        """The lock is the first process's."""
