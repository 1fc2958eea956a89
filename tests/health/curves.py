"""Made-up runs: rows of metrics of a healthy kind, and curves that replace some of them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import Any

from gradus.health.monitor import Monitor
from gradus.health.rule import Alert, Setting

Curve = Callable[[int], float | str]
"""Value of a metric by step, from 1."""
HEALTHY: Mapping[str, Curve] = {
    "reward": lambda t: 0.4,
    "rollout/solve_rate": lambda t: 0.4,
    "rollout/duplicate_frac": lambda t: 0.02,
    "rollout/floor_reward_frac": lambda t: 0.05,
    "rollout/parse_frac": lambda t: 0.95,
    "frac_reward_zero_std": lambda t: 0.2,
    "rewards/answer/mean": lambda t: 0.4,
    "rewards/format/mean": lambda t: 0.9,
    "entropy": lambda t: 0.3,
    "kl": lambda t: 0.002,
    "grad_norm": lambda t: 0.1,
    "train/skipped": lambda t: 0.0,
    "sampling/mismatch_kl": lambda t: 1e-5,
    "sampling/ess_frac": lambda t: 0.99,
    "completions/clipped_ratio": lambda t: 0.05,
    "completions/mean_length": lambda t: 100.0,
    "scoring/error_frac": lambda t: 0.0,
    "output_std/share": lambda t: 0.2,
    "curriculum/fallback_frac": lambda t: 0.0,
    "time/step_seconds": lambda t: 10.0,
    "time/rollout_seconds": lambda t: 6.0,
    "time/update_seconds": lambda t: 4.0,
}


def rows(num_steps: int, curves: Mapping[str, Curve], *, noise: float = 0.02, seed: int = 0) -> list[dict[str, Any]]:
    """Healthy rows with some metrics replaced; the others have a little multiplicative noise, the given ones none. A
    curve that gives ``""`` leaves its key out of the row."""
    generator = random.Random(seed)
    made = []
    for step in range(1, num_steps + 1):
        row: dict[str, Any] = {"step": step, "attempt": 1, "replay": 0}
        for key, curve in {**HEALTHY, **curves}.items():
            value = curve(step)
            if key in curves or not isinstance(value, float):
                row[key] = value
            else:
                row[key] = value * math.exp(noise * generator.gauss(0, 1))
        made.append({key: value for key, value in row.items() if value != ""})
    return made


def alerts(num_steps: int, curves: Mapping[str, Curve], setting: Setting | None = None, **options: Any) -> list[Alert]:
    """What the rules raise on such a run."""
    return Monitor(setting or Setting(num_steps=num_steps, kl_coef=0.01)).replay(rows(num_steps, curves, **options))
