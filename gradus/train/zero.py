"""DeepSpeed's ZeRO-2 and ZeRO-3 (arXiv 1910.02054) as an `Optimizer`: moments and gradients shared out, weights too in 3.

DeepSpeed is driven directly, with a configuration of our own: the loss is a sum over the whole step, its cut into
micro-batches is ours, and clipping is by the norm of the sum. Its state goes into our checkpoints, one file per process.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from gradus.config import OptimizerConfig
from gradus.policy.load import Policy
from gradus.rollout.ranks import Ranks
from gradus.train.optimizer import Optimizer, T, adamw
from gradus.train.parallel import Root

MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class ZeroOptimizer(Optimizer):
    """AdamW whose state DeepSpeed shares out among the processes.

    Example:
        optimizer = ZeroOptimizer(policy, config.optimizer, Ranks(rank=0, size=2), stage=3)
    """

    is_sharded = True

    def __init__(self, policy: Policy, config: OptimizerConfig, ranks: Ranks, *, stage: int) -> None:
        warnings.filterwarnings("ignore", message="`torch.distributed", category=FutureWarning)  # at every step
        if policy.device.type == "cpu":
            _on_cpu()
        deepspeed: Any = importlib.import_module("deepspeed")

        self._ranks, self._stage, self._max_grad_norm = ranks, stage, config.max_grad_norm
        self._named = policy.trainable()
        self._model = policy.model
        self._engine, self._zero, _, _ = deepspeed.initialize(
            model=Root(policy.model),
            optimizer=adamw([parameter for _, parameter in self._named], config),  # type: ignore[arg-type]
            config=_settings(config, ranks, stage=stage, dtype=self._named[0][1].dtype),
            dist_init_required=False,
        )
        self._has_gradients = False
        found = self._engine.zero_optimization_stage()
        if type(self._engine).__name__ != "DeepSpeedEngine" or found != stage:
            raise ValueError(
                f"DeepSpeed was asked for with ZeRO stage {stage}, and {type(self._engine).__name__} with stage {found} "
                "came; use the tested version (make extras-parallel)"
            )

    @property
    def has_copy(self) -> bool:
        """Stage 2 leaves the weights whole."""
        return self._stage == 3

    def through(self, model: nn.Module, compute: Callable[[nn.Module], T]) -> T:
        """See `Passes.through`."""
        return self._engine(compute)

    def backward(self, loss: Tensor, *, is_last: bool) -> None:
        """Adds this process's gradient to the sum over all: DeepSpeed takes means."""
        self._has_gradients = True
        self._engine.set_gradient_accumulation_boundary(is_last)
        self._engine.backward(loss * self._ranks.size, scale_wrt_gas=False)

    @torch.no_grad()
    def clip(self) -> float:
        """The global norm; DeepSpeed scales the gradients to the largest allowed one within its step."""
        if not self._has_gradients:
            return 0.0
        norms: Any = importlib.import_module("deepspeed.runtime.utils")
        zero: Any = self._zero
        is_whole = self._stage == 2
        norm = zero.scaled_global_norm() if is_whole else norms.combine_grad_norm_groups(zero._get_norm_groups())
        return float("nan") if norms.is_invalid_grad_norm(norm) else float(norm)

    def step(self, *, learning_rate: float) -> None:
        """One update; gradients are dropped afterwards. Nothing where no group taught anything: DeepSpeed has no such step."""
        if not self._has_gradients:
            return
        self._has_gradients = False
        for group in self._zero.param_groups:
            group["lr"] = learning_rate
        self._engine.step()

    def drop_gradients(self) -> None:
        """Forgets what was accumulated, as DeepSpeed does after an overflow."""
        self._has_gradients = False
        zero: Any = self._zero
        zero.zero_grad(set_to_none=True)
        zero.micro_step_id = -1
        if self._stage == 2:
            zero._release_preflattened_grad_buffers()
            for group in list(zero.averaged_gradients):
                zero.averaged_gradients[group] = zero.all_grad_tensors[group] = None
        else:
            zero.averaged_gradients = {}

    def full_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Name and whole tensor of each parameter, one at a time. All processes must go through it to its end."""
        deepspeed: Any = importlib.import_module("deepspeed")

        for name, parameter in self._model.named_parameters():
            with deepspeed.zero.GatheredParameters([parameter], enabled=self._stage == 3):
                yield name, parameter.detach()

    def _parts(self) -> list[Tensor]:
        """This process's part of the float32 weights, one flat tensor per group of parameters."""
        zero: Any = self._zero
        return zero.single_partition_of_fp32_groups if self._stage == 2 else zero.fp32_partitioned_groups_flat

    def tensors(self) -> dict[str, Tensor]:
        """This process's part of moments and master weights."""
        state = self._zero.optimizer.state
        found: dict[str, Tensor] = {}
        for number, part in enumerate(self._parts()):
            found[f"zero.master.{number}"] = part.detach()
            for key in MOMENTS:
                if key in state.get(part, {}):
                    found[f"zero.{key}.{number}"] = state[part][key]
        return found

    @torch.no_grad()
    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Inverse of `tensors`, by as many processes; a missing moment is an error, never a fresh start."""
        state = self._zero.optimizer.state
        for number, part in enumerate(self._parts()):
            part.copy_(tensors[f"zero.master.{number}"])
            for key in MOMENTS:
                if key in state.get(part, {}):
                    state[part][key].copy_(tensors[f"zero.{key}.{number}"])
                elif f"zero.{key}.{number}" in tensors:
                    state[part][key] = tensors[f"zero.{key}.{number}"].to(part.device if key != "step" else "cpu")

    def says(self) -> str:
        """What came of it, in one line."""
        total = sum(getattr(parameter, "ds_numel", parameter.numel()) for _, parameter in self._named)
        held = sum(part.numel() for part in self._parts())
        return f"DeepSpeedEngine, ZeRO-{self._stage}: {held:,} of {total:,} trained elements in this process"


def _on_cpu() -> None:
    """DeepSpeed on a CPU: without a search for accelerators, and talking through gloo alone. Its own way through shared
    memory would be compiled at the first start, which takes a compiler and minutes."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    ops: Any = importlib.import_module("deepspeed.ops")
    ops.__compatible_ops__["deepspeed_shm_comm"] = False


def _settings(config: OptimizerConfig, ranks: Ranks, *, stage: int, dtype: torch.dtype) -> dict[str, Any]:
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "train_batch_size": ranks.size,
        "gradient_clipping": config.max_grad_norm,
        "zero_optimization": {"stage": stage},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": dtype == torch.bfloat16},
        "communication_data_type": "fp32",
        "steps_per_print": 1_000_000_000,
    }
