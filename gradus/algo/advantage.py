"""Rewards of a group → advantages. Pure Python: a group has at most some dozens of completions.

Shape suffix: ``G`` completions of one group.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

EPSILON = 1e-4
"""Added to the standard deviation, as TRL does (verl adds 1e-6): a group whose rewards differ by rounding alone must
not be blown up to unit spread."""


def advantages(
    rewards_G: Sequence[float],
    *,
    kind: Literal["standardize", "center", "leave_one_out", "none"],
    epsilon: float = EPSILON,
) -> tuple[float, ...]:
    """Advantage of each completion against its own group.

    ``standardize``: (r − mean) / (std + epsilon), sample standard deviation (n − 1) as in TRL and verl.
    ``center``: r − mean. ``leave_one_out``: r − mean of the others. ``none``: r.
    A group of fewer than two has no baseline: ValueError, except for ``none``.

    Example:
        advantages((1.0, 0.0, 0.0), kind="leave_one_out")  # (1.0, -0.5, -0.5)
    """
    count = len(rewards_G)
    if kind == "none":
        return tuple(rewards_G)
    if count < 2:
        raise ValueError(f"a group of {count} completions has no baseline; sampling.group_size must be at least 2")
    mean = math.fsum(rewards_G) / count
    centered = tuple(reward - mean for reward in rewards_G)
    if kind == "center":
        return centered
    if kind == "leave_one_out":
        return tuple(value * count / (count - 1) for value in centered)
    deviation = math.sqrt(math.fsum(value * value for value in centered) / (count - 1))
    return tuple(value / (deviation + epsilon) for value in centered)
