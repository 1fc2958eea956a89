"""AdamW over a policy's trainable parameters, with float32 master weights where the model itself is narrower."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from gradus.config import OptimizerConfig
from gradus.policy.load import Policy
from gradus.policy.logprobs import completion_logprobs
from gradus.policy.packages import need_bitsandbytes
from gradus.rollout.ranks import ALONE, Ranks

T = TypeVar("T")
BUCKET_ELEMENTS = 1 << 24
"""Gradients that are summed over the processes at a time (64 MB in float32)."""


class Passes:
    """How the policy is gone through, forwards and backwards. Here: every process holds all weights.

    Example:
        logprobs_BT, entropy_BT = passes.logprobs(policy.model, **trees, temperature=1.0)
        passes.backward((weights_BT * loss_BT).sum(), is_last=True)
    """

    is_sharded: bool = False
    """Whether a pass needs all processes at the same time, because each holds a part of something."""

    def through(self, model: nn.Module, compute: Callable[[nn.Module], T]) -> T:
        """What ``compute`` makes of the policy, wherever its weights are; ``model`` is the policy's."""
        return compute(model)

    def logprobs(self, model: nn.Module, **arguments: Any) -> tuple[Tensor, Tensor]:
        """`completion_logprobs` of the policy, wherever its weights are."""
        return self.through(model, lambda model: completion_logprobs(model, **arguments))

    def backward(self, loss: Tensor, *, is_last: bool) -> None:
        """Adds the gradient of a micro-batch; ``is_last``: the last one of the step."""
        loss.backward()


WHOLE = Passes()
"""All weights are here."""


class Optimizer(Passes):
    """AdamW (arXiv 1711.05101) with clipping by global norm. The learning rate is given at each step, so that the
    schedule needs no state.

    Example:
        optimizer = Optimizer(policy, config.optimizer)
        norm = optimizer.clip(); optimizer.step(learning_rate=1e-6)
    """

    def __init__(self, policy: Policy, config: OptimizerConfig, ranks: Ranks = ALONE) -> None:
        self._ranks = ranks
        self._named = policy.trainable()
        self._max_grad_norm = config.max_grad_norm
        self._masters = [
            nn.Parameter(parameter.detach().float())
            if parameter.dtype in (torch.bfloat16, torch.float16)
            else parameter
            for _, parameter in self._named
        ]
        self._adamw = adamw(self._masters, config)

    @property
    def has_copy(self) -> bool:
        """Whether the policy's weights are not whole here, so that sampling needs a copy."""
        return self.is_sharded

    def says(self) -> str:
        """How the weights are held, in one line."""
        return "whole weights in every process"

    def full_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Name and whole tensor of each parameter, one at a time."""
        raise AssertionError("the weights are whole; use the policy itself")

    def clip(self) -> float:
        """Sums the gradients over all processes and scales them to the largest allowed global norm; returns the norm
        before."""
        if self._ranks.size > 1:
            self._sum_gradients()
        return float(nn.utils.clip_grad_norm_([parameter for _, parameter in self._named], self._max_grad_norm))

    @torch.no_grad()
    def _sum_gradients(self) -> None:
        """In float32, many parameters at a time; a process that had nothing to learn from adds zeros."""
        import torch.distributed as dist

        for bucket in _buckets([parameter for _, parameter in self._named]):
            flat = torch.cat(
                [
                    (parameter.new_zeros(parameter.shape) if parameter.grad is None else parameter.grad)
                    .float()
                    .flatten()
                    for parameter in bucket
                ]
            )
            dist.all_reduce(flat)
            for parameter, summed in zip(bucket, flat.split([each.numel() for each in bucket]), strict=True):
                parameter.grad = summed.view_as(parameter).to(parameter.dtype)

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
                # AdamW counts steps in tensors, the 8-bit one in integers, and shares its tables of levels
                state[f"optimizer.{key}.{name}"] = value.clone() if key.startswith("qmap") else torch.as_tensor(value)
            if master is not parameter:
                state[f"optimizer.master.{name}"] = master.detach()
        return state

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Inverse of `tensors`; a missing moment is an error, never a fresh start."""
        for (name, parameter), master in zip(self._named, self._masters, strict=True):
            if master is not parameter:
                master.data.copy_(tensors[f"optimizer.master.{name}"])
            keys = {key for key in _STATE if f"optimizer.{key}.{name}" in tensors}
            if keys not in (set(), *self._complete_states()):
                kind = type(self._adamw).__name__
                raise ValueError(
                    f"the optimizer state of {name} holds {', '.join(sorted(keys))}, which is not {kind}'s; "
                    "go on with the optimizer.moments that the run began with"
                )
            if keys:
                stored = {key: tensors[f"optimizer.{key}.{name}"] for key in keys}
                self._adamw.state[master] = {key: self._placed(key, value, master) for key, value in stored.items()}

    def _complete_states(self) -> tuple[set[str], ...]:
        """What a parameter has once it has been stepped; the 8-bit kind keeps small ones in float32."""
        if isinstance(self._adamw, torch.optim.AdamW):
            return ({"step", "exp_avg", "exp_avg_sq"},)
        moments = {"step", "state1", "state2"}
        return moments, moments | {"qmap1", "qmap2", "absmax1", "absmax2"}

    def _placed(self, key: str, value: Tensor, master: Tensor) -> Tensor | int:
        if key != "step":
            return value.to(master.device)
        if not isinstance(self._adamw, torch.optim.AdamW):
            return int(value)
        return value.to("cpu" if master.device.type == "cpu" else master.device)


_STATE = ("step", "exp_avg", "exp_avg_sq", "state1", "state2", "qmap1", "qmap2", "absmax1", "absmax2")
"""Names that the two optimizers give to what they remember of a parameter."""


def adamw(parameters: list[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW with float32 moments, or with moments of 8 bits, without decay of biases and norms; the learning rate is set
    at each step. ValueError where the package for 8 bits is missing."""
    decayed = [parameter for parameter in parameters if parameter.ndim >= 2]
    others = [parameter for parameter in parameters if parameter.ndim < 2]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    betas, device = (0.9, config.beta2), parameters[0].device
    if config.moments == "float32":
        return torch.optim.AdamW(groups, lr=0.0, betas=betas, fused=device.type in ("cpu", "cuda"))
    need_bitsandbytes("optimizer.moments=8bit")
    if device.type == "mps":
        raise ValueError("optimizer.moments=8bit works on cuda and cpu, not on mps; set optimizer.moments=float32")
    return importlib.import_module("bitsandbytes.optim").AdamW8bit(groups, lr=0.0, betas=betas)


def _buckets(parameters: list[nn.Parameter]) -> list[list[nn.Parameter]]:
    """The parameters in order, cut where a bucket is full."""
    buckets: list[list[nn.Parameter]] = []
    room = 0
    for parameter in parameters:
        if parameter.numel() > room:
            buckets.append([])
            room = BUCKET_ELEMENTS
        buckets[-1].append(parameter)
        room -= parameter.numel()
    return buckets


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
