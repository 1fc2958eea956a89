"""The optimizer that verl takes by name: AdamW with the schedule and the weight decay of a native run.

verl's own schedules begin a warm-up at rate 0, know no linear decay, and move once per batch; its weight decay takes
norms in. Loaded in verl's workers (``actor.optim.optimizer_impl``); works on sharded parameters as on whole ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from gradus.config import OptimizerConfig
from gradus.train.optimizer import learning_rate_at


class ScheduledAdamW(torch.optim.AdamW):
    """AdamW whose learning rate follows `learning_rate_at`, counted in updates taken.

    Example:
        ScheduledAdamW(model.parameters(), lr=1e-4, weight_decay=0.0, betas=(0.9, 0.99),
                       schedule="linear", warmup_steps=5, num_steps=100)
    """

    def __init__(self, params: Iterable[nn.Parameter], *, lr: float, weight_decay: float, betas: Any, schedule: Any,
                 warmup_steps: int, num_steps: int) -> None:  # fmt: skip
        self._config = OptimizerConfig(learning_rate=lr, schedule=schedule, warmup_steps=warmup_steps)
        self._num_steps = num_steps
        given = [parameter for parameter in params if parameter.requires_grad]
        super().__init__(
            [
                {"params": [parameter for parameter in given if parameter.ndim >= 2], "weight_decay": weight_decay},
                {"params": [parameter for parameter in given if parameter.ndim < 2], "weight_decay": 0.0},
            ],
            lr=lr,
            betas=tuple(betas),
        )

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One update with the rate of its place in the schedule."""
        taken = max((int(state["step"]) for state in self.state.values() if "step" in state), default=0)
        before = [group["lr"] for group in self.param_groups]
        rate = learning_rate_at(taken + 1, num_steps=self._num_steps, config=self._config)
        for group in self.param_groups:
            group["lr"] = rate
        try:
            return super().step(closure)
        finally:
            for group, old in zip(self.param_groups, before, strict=True):
                group["lr"] = old  # verl's own schedule, a constant, reads and writes it
