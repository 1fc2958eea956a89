"""Ranks: the processes of one run, how work is dealt out to them, and how they tell each other what came of it.

Every process holds the whole state of the run and takes every decision itself, from the same facts; so what one of them
found out (completions, scores, a signal, an error) must reach all before anything is decided. With one process, which
is the usual case, everything here is a plain function call.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from gradus import console
from gradus.exits import Code, Exit

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ranks:
    """The processes of a run, seen from one of them.

    Example:
        parts = ranks.each(lambda: [score(item) for item in ranks.part(items)])
        scores = ranks.joined(parts)  # in the order of `items`, in every process
    """

    rank: int = 0
    """Number of this process."""
    size: int = 1
    """How many there are."""

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def part(self, items: Sequence[T]) -> list[T]:
        """Every ``size``-th item, beginning with this process's own number."""
        return list(items[self.rank :: self.size])

    def joined(self, parts: Sequence[Sequence[T]]) -> list[T]:
        """What `part` dealt out, put together again."""
        missing = object()
        rounds = itertools.zip_longest(*parts, fillvalue=missing)
        return [item for items in rounds for item in items if item is not missing]  # type: ignore[misc]

    def gather(self, value: T) -> list[T]:
        """The values of all processes, by rank. Exit(MACHINE) where one of them is gone."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        found: list[Any] = [None] * self.size
        try:
            dist.all_gather_object(found, value)
        except RuntimeError as error:
            raise _lost(error) from error
        return found

    def each(self, work: Callable[[], T]) -> list[T]:
        """Every process works; all get all results. What one of them raises, all raise."""
        if self.size == 1:
            return [work()]
        return self._shared([_attempted(work)])

    def from_first(self, work: Callable[[], T]) -> T:
        """The first process works, the others wait; all get its result, or raise its error."""
        if self.size == 1:
            return work()
        return self._shared([_attempted(work)] if self.is_first else [])[0]

    def agree(self, what: str, value: Any) -> None:
        """Exit(INTERNAL) where the processes hold different values of ``what``: they would drift apart unseen."""
        values = self.gather(repr(value))  # by its text: not-a-number equals nothing, itself included
        if len(set(values)) > 1:
            shown = ", ".join(f"{other} in process {rank}" for rank, other in enumerate(values))
            raise Exit(
                Code.INTERNAL,
                f"the processes of the run disagree: {what} is {shown}; it must be the same everywhere",
                hint="check that all machines have the same files and versions, then run the same command again",
            )

    def _shared(self, own: list[tuple[T | None, Exception | None]]) -> list[T]:
        """The results of all who worked, after all have heard of each other."""
        told = [(value, _portable(error, self.rank)) for value, error in own]
        outcomes = [outcome for outcomes in self.gather(told) for outcome in outcomes]
        errors = [error for _, error in outcomes if error is not None]
        if errors:
            if not self.is_first:
                console.hush()  # the first process says it
            if own and (mine := own[0][1]) is not None and _is_weighty(mine):
                raise mine
            raise next(filter(_is_weighty, errors), errors[0])
        return [value for value, _ in outcomes]  # type: ignore[misc]


ALONE = Ranks()
"""One process."""


def _attempted(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return work(), None
    except Exception as error:
        return None, error


def _is_weighty(error: Exception) -> bool:
    """Whether this is more than a signal, which others may have heard at the same time as something failed."""
    return not (isinstance(error, Exit) and error.code == Code.INTERRUPTED)


def _portable(error: Exception | None, rank: int) -> Exception | None:
    """An error as other processes can raise it."""
    if error is None or isinstance(error, Exit):
        return error
    if isinstance(error, ValueError):
        return ValueError(str(error))
    if isinstance(error, OSError):
        return OSError(error.errno, error.strerror, error.filename)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return MemoryError(str(error))
    return Exit(Code.INTERNAL, f"internal error in process {rank}: {type(error).__name__}: {error}")


def _lost(error: RuntimeError) -> Exit:
    console.debug(str(error))
    return Exit(
        Code.MACHINE,
        "another process of this run has ended; all of them are needed",
        hint="its own message says why; then run the same command again",
    )
