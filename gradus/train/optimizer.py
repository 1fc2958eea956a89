"""AdamW over a policy's trainable parameters, with float32 master weights where the model itself is narrower."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gradus.config import OptimizerConfig
from gradus.policy.load import Policy


class Optimizer:
    """AdamW (arXiv 1711.05101) with clipping by global norm. The learning rate is given at each step, so that the
    schedule needs no state.

    Example:
        optimizer = Optimizer(policy, config.optimizer)
        norm = optimizer.clip(); optimizer.step(learning_rate=1e-6)
    """

    def __init__(self, policy: Policy, config: OptimizerConfig) -> None:
        self._named = policy.trainable()
        self._max_grad_norm = config.max_grad_norm
        self._masters = [
            nn.Parameter(parameter.detach().float())
            if parameter.dtype in (torch.bfloat16, torch.float16)
            else parameter
            for _, parameter in self._named
        ]
        decayed = [master for master in self._masters if master.ndim >= 2]
        others = [master for master in self._masters if master.ndim < 2]
        self._adamw = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=0.0,
            betas=(0.9, config.beta2),
            fused=self._masters[0].device.type in ("cpu", "cuda"),
        )

    def clip(self) -> float:
        """Scales the gradients to the largest allowed global norm; returns the norm before."""
        return float(nn.utils.clip_grad_norm_([parameter for _, parameter in self._named], self._max_grad_norm))

    def step(self, *, learning_rate: float) -> None:
        """One update; gradients are dropped afterwards."""
        for (_, parameter), master in zip(self._named, self._masters, strict=True):
            if master is not parameter and parameter.grad is not None:
                master.grad = parameter.grad.float()
        for group in self._adamw.param_groups:
            group["lr"] = learning_rate
        self._adamw.step()
        for (_, parameter), master in zip(self._named, self._masters, strict=True):
            if master is not parameter:
                parameter.data.copy_(master.data)
        self.drop_gradients()

    def drop_gradients(self) -> None:
        """Forgets what was accumulated."""
        for (_, parameter), master in zip(self._named, self._masters, strict=True):
            parameter.grad = None
            master.grad = None

    def tensors(self) -> dict[str, Tensor]:
        """Moments, step counts and master weights, by parameter name."""
        state: dict[str, Tensor] = {}
        for (name, parameter), master in zip(self._named, self._masters, strict=True):
            for key, value in self._adamw.state.get(master, {}).items():
                state[f"optimizer.{key}.{name}"] = value
            if master is not parameter:
                state[f"optimizer.master.{name}"] = master.detach()
        return state

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Inverse of `tensors`; a missing moment is an error, never a fresh start."""
        for (name, parameter), master in zip(self._named, self._masters, strict=True):
            if master is not parameter:
                master.data.copy_(tensors[f"optimizer.master.{name}"])
            keys = {key for key in ("step", "exp_avg", "exp_avg_sq") if f"optimizer.{key}.{name}" in tensors}
            assert keys in (set(), {"step", "exp_avg", "exp_avg_sq"}), (
                f"optimizer state of {name} is incomplete: {sorted(keys)}"
            )
            if keys:
                self._adamw.state[master] = {
                    key: tensors[f"optimizer.{key}.{name}"].to(
                        "cpu" if key == "step" and master.device.type == "cpu" else master.device
                    )
                    for key in keys
                }


def learning_rate_at(step: int, *, num_steps: int, config: OptimizerConfig) -> float:
    """Learning rate of update ``step`` (1 = first): linear warm-up, then the schedule. A pure function of the step."""
    if step <= config.warmup_steps:
        return config.learning_rate * step / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    progress = (step - config.warmup_steps - 1) / max(1, num_steps - config.warmup_steps)
    if config.schedule == "linear":
        return config.learning_rate * (1 - progress)
    return config.learning_rate * (1 + math.cos(math.pi * progress)) / 2
