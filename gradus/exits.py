"""Exit codes of the command line, and the one exception that carries one. ValueError means exit code 2 everywhere."""

from __future__ import annotations

from enum import IntEnum
from functools import partial
from typing import Any


class Code(IntEnum):
    """What an exit status means; 75 asks a scheduler to start the same command again."""

    DONE = 0
    INTERNAL = 1
    USAGE = 2
    ANSWER_IS_NO = 3
    NOTHING_USABLE = 4
    DIVERGED = 5
    MACHINE = 6
    SCORING = 7
    HEALTH = 8
    INTERRUPTED = 75
    FORCED = 130


class Exit(Exception):
    """Ends the command with ``code``. The message says what is wrong and what is needed; ``hint`` what to do next.

    Example:
        raise Exit(Code.MACHINE, "no space left while saving step 120; the checkpoint of step 100 is intact",
                   hint="free 2.1 GB and run: gradus train runs/x")
    """

    def __init__(self, code: Code, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels between the processes of a run with all it says."""
        return partial(Exit, hint=self.hint), (self.code, self.message)
