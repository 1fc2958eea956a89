"""Where a curriculum sampler stands: everything that changes while it draws, and the states it has been in."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gradus.data.adaptive import Progress
from gradus.data.credit import Credit
from gradus.data.pool import Pool
from gradus.data.strata import PoolName

WINDOW_STEPS = 50
MAX_STEPS_AHEAD = 64


@dataclass(slots=True, kw_only=True)
class Position:
    """Counters, credits and success rates; with the sampler's settings they decide every later draw.

    Example:
        position = Position(pools=pools, progress=progress, lane_credit=Credit(lanes), credit={"ferry": Credit(BUCKETS)})
        position.load(json.loads(json.dumps(position.state())))
    """

    pools: dict[PoolName, Pool]
    progress: Progress
    lane_credit: Credit
    """Places owed to each lane."""
    credit: dict[str, Credit]
    """Lane to the places owed to each bucket."""
    next_step: int = 0
    fallbacks: Counter[str] = field(default_factory=Counter)
    """Places by lane that another bucket had to fill."""
    cool_until: dict[int, int] = field(default_factory=dict)
    """Index of a resting problem to the first step at which it may be drawn again."""
    window: deque[list[int]] = field(default_factory=lambda: deque(maxlen=WINDOW_STEPS))
    """Problems per bucket of the last steps."""
    num_drawn: int = 0

    def state(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "next_step": self.next_step,
            "pools": {_pool_name(name): pool.state() for name, pool in self.pools.items()},
            "lane_credit": self.lane_credit.state(),
            "credit": {lane: credit.state() for lane, credit in self.credit.items()},
            "fallbacks": dict(self.fallbacks),
            "cool_until": {str(index): until for index, until in self.cool_until.items()},
            "window": [list(counts) for counts in self.window],
            "num_drawn": self.num_drawn,
            "progress": self.progress.state(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes back to where ``state`` was taken, from a sampler with the same pools and lanes."""
        self.next_step = int(state["next_step"])
        for name, pool in self.pools.items():
            pool.load(state["pools"][_pool_name(name)])
        self.lane_credit.load(state["lane_credit"])
        for lane, credit in self.credit.items():
            credit.load(state["credit"][lane])
        self.fallbacks = Counter(state["fallbacks"])
        self.cool_until = {int(index): int(until) for index, until in state["cool_until"].items()}
        self.window = deque((list(counts) for counts in state["window"]), maxlen=WINDOW_STEPS)
        self.progress.load(state["progress"])
        self.num_drawn = int(state["num_drawn"])


class SavedStates:
    """States of a sampler before steps that are drawn and not yet trained, so that drawing may run ahead of training.

    Example:
        saved.keep(8, state); saved.of(8)
    """

    def __init__(self) -> None:
        self._before: dict[int, dict[str, Any]] = {}

    def keep(self, step: int, state: dict[str, Any]) -> None:
        """Saves the state before ``step``; the oldest goes where there are too many."""
        self._before[step] = state
        while len(self._before) > MAX_STEPS_AHEAD:
            del self._before[min(self._before)]

    def of(self, step: int) -> dict[str, Any]:
        """The state before ``step``. ValueError where drawing has run too far ahead."""
        if step not in self._before:
            raise ValueError(f"the state after step {step - 1} is gone: drawn more than {MAX_STEPS_AHEAD} steps ahead")
        return self._before[step]

    def drop(self, step: int) -> None:
        """Forgets the state before ``step``, which is drawn further."""
        self._before.pop(step, None)

    def forget(self, step: int) -> None:
        """Forgets the states up to ``step``, which has been trained."""
        self._before = {other: state for other, state in self._before.items() if other > step}


def _pool_name(name: PoolName) -> str:
    return f"{name[0]}/{name[1] or 'all'}"
