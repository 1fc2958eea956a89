"""TrainState: the only mutable object of a run. Its tensors and its JSON are the checkpoint."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradus.data.curriculum import CurriculumSampler
from gradus.policy.load import Policy
from gradus.train.batch import Batch
from gradus.train.checkpoint import Checkpoint
from gradus.train.optimizer import Optimizer
from gradus.types import Problem


@dataclass(slots=True)
class TrainState:
    """Everything that changes while a run trains.

    Example:
        state = TrainState(policy=policy, optimizer=optimizer, curriculum=sampler)
    """

    policy: Policy
    optimizer: Optimizer
    curriculum: CurriculumSampler[Problem]
    """Which problems come next."""
    step: int = 0
    """Optimizer steps taken, skipped ones included."""
    replay: int = 0
    """How often the run went back; part of all seeds, so that a replay does not repeat the failure."""
    pending: list[Batch] = field(default_factory=list)
    """Updates of the current rollouts that are still to come."""
    records: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Completions to be written down, by the step that will have learned from them."""
    counters: dict[str, Any] = field(
        default_factory=lambda: {
            "num_tokens": 0,
            "skips_in_a_row": 0,
            "num_skipped": 0,
            "train_seconds": 0.0,
            "best_step": None,
            "best_value": None,
            "recent_error_frac": [],
            "unrecorded": None,
        }
    )
    """JSON-able facts. ``unrecorded`` is the row of a step whose evaluation a signal cut off."""

    def tensors(self) -> dict[str, Tensor]:
        """The tensor half of a checkpoint; moments that are shared out have files of their own (`train.shards`)."""
        tensors = {} if self.optimizer.is_sharded else self.optimizer.tensors()
        for number, batch in enumerate(self.pending):
            tensors |= batch.tensors(f"pending.{number}")
        tensors["rng.torch"] = torch.get_rng_state()
        if self.policy.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self.policy.device)
        return tensors

    def json(self) -> dict[str, Any]:
        """The other half."""
        version, internal, gauss = random.getstate()
        kind, keys, position, has_gauss, cached = np.random.get_state()
        return {
            "step": self.step,
            "replay": self.replay,
            "curriculum": self.curriculum.state_dict(),
            "num_pending": len(self.pending),
            "records": self.records,
            "counters": self.counters,
            "rng": {
                "python": [version, list(internal), gauss],
                "numpy": [kind, np.asarray(keys).tolist(), int(position), int(has_gauss), float(cached)],
            },
        }

    def restore(self, checkpoint: Checkpoint, *, is_data_changed: bool = False) -> bool:
        """Takes over all but the model's weights, which `load_policy` read. Returns whether the order of problems was
        taken over too: where the data were exchanged and their list differs, it begins anew."""
        state, tensors = checkpoint.state, checkpoint.tensors
        self.step, self.replay, self.counters = state["step"], state["replay"], dict(state["counters"])
        is_order_kept = self._restore_order(state.get("curriculum"), is_data_changed)
        self.pending = [Batch.from_tensors(tensors, f"pending.{number}") for number in range(state["num_pending"])]
        self.records = dict(state["records"])
        self.optimizer.load_tensors(tensors)
        torch.set_rng_state(tensors["rng.torch"])
        if self.policy.device.type == "cuda" and "rng.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["rng.cuda"], self.policy.device)
        version, internal, gauss = state["rng"]["python"]
        random.setstate((version, tuple(internal), gauss))
        kind, keys, position, has_gauss, cached = state["rng"]["numpy"]
        np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
        return is_order_kept

    def _restore_order(self, stored: Any, is_data_changed: bool) -> bool:
        try:
            self.curriculum.load_state_dict(stored)
        except ValueError:
            if not is_data_changed:
                raise
            self.curriculum.begin_at(self.step)
            return False
        return True
