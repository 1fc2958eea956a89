"""Computer algebra for what the own grammar does not read: math-verify, in a worker process that can be killed.

Both orders are asked, because math-verify is not symmetric; equal is what both call equal. A timeout or a crash, whichever
side caused it, is undecided. Model text reaches math-verify only behind the filter of ``equivalence``.
"""

from __future__ import annotations

import importlib.util
import threading
import warnings
from collections import OrderedDict
from functools import lru_cache

from gradus.tasks.pool import MATH_LIMITS, CannotStart, WorkerPool

MAX_DECIDED = 65_536
MAX_UNDECIDED = 1_024
"""Pairs that timed out or crashed are not asked again until so many others have: about one batch."""


def is_installed() -> bool:
    """Whether math-verify can be imported (extra ``math``)."""
    return importlib.util.find_spec("math_verify") is not None


class MathVerify:
    """Asks math-verify through a pool of workers; a ``CasClient`` of ``equivalence.equal``.

    Example:
        equal(r"\\int_0^1 x\\,dx", r"\\frac{1}{2}", cas=shared())
    """

    def __init__(self, *, timeout_seconds: float = 2.0, num_workers: int = 1) -> None:
        self.pool = WorkerPool(
            "gradus.tasks.cas_worker:answer",
            timeout_seconds=timeout_seconds,
            num_workers=num_workers,
            limits=MATH_LIMITS,
        )
        self.num_unsupported = 0
        """Decisions that had to do without."""
        self.num_asked = 0
        self._reason = "" if is_installed() else "math-verify is not installed; install gradus[math]"
        self._decided: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._undecided: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()

    def equal(self, gold: str, answer: str) -> str:
        """``cas_equal``, ``cas_unequal``, ``cas_timeout``, ``cas_crash``; ``unsupported`` where there is no CAS."""
        pair = (gold, answer) if gold <= answer else (answer, gold)
        with self._lock:
            known = self._decided.get(pair) or self._undecided.get(pair)
            if known is None:
                known = self._ask(pair)
                self._keep(pair, known)
            return known

    def _ask(self, pair: tuple[str, str]) -> str:
        if not self._reason:
            self.num_asked += 1
            try:
                outcome = self.pool.call({"op": "equal", "gold": pair[0], "answer": pair[1]})
            except CannotStart as error:
                self._reason = str(error)
            else:
                if outcome.status == "ok" and outcome.reply is not None:
                    return "cas_equal" if outcome.reply.get("equal") is True else "cas_unequal"
                return "cas_timeout" if outcome.status == "timeout" else "cas_crash"
        if not self.num_unsupported:
            warnings.warn(
                f"math: some answers need computer algebra, and there is none ({self._reason}); they count as wrong",
                stacklevel=2,
            )
        self.num_unsupported += 1
        return "unsupported"

    def _keep(self, pair: tuple[str, str], why: str) -> None:
        if why in ("cas_timeout", "cas_crash"):
            if len(self._undecided) >= MAX_UNDECIDED:
                self._undecided.clear()
            self._undecided[pair] = why
            return
        self._decided[pair] = why
        if len(self._decided) > MAX_DECIDED:
            self._decided.popitem(last=False)

    def close(self) -> None:
        """Ends the workers."""
        self.pool.close()


@lru_cache(maxsize=4)
def shared(timeout_seconds: float = 2.0) -> MathVerify:
    """One client per process and deadline. Its worker starts with the first question."""
    return MathVerify(timeout_seconds=timeout_seconds)
