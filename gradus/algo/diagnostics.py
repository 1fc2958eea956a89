"""Sums over tokens that become a step's diagnostics: clipping, drift from the sampler, KL, entropy.

Micro-batches add up their sums; `finish` turns them into metrics. All values are unweighted means over the tokens that
the loss saw. Shape suffixes: ``B`` completions, ``T`` token positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gradus.algo.loss import TokenLoss
from gradus.algo.presets import Algorithm


class Diagnostics:
    """Accumulates over the micro-batches of one optimizer step.

    Example:
        diagnostics = Diagnostics(algorithm); diagnostics.add(terms, ...); row.update(diagnostics.finish())
    """

    def __init__(self, algorithm: Algorithm) -> None:
        self._algorithm = algorithm
        self._sums: dict[str, float] = {}
        self._num_tokens = 0
        self._ratios: list[Tensor] = []
        self._log_ratios: list[Tensor] = []
        self._clipped_low: list[Tensor] = []
        self._clipped_high: list[Tensor] = []

    @torch.no_grad()
    def add(self, terms: TokenLoss, *, advantages_B: Tensor, mask_BT: Tensor, entropy_BT: Tensor) -> None:
        """Takes the terms of one micro-batch."""
        log_ratio = terms.log_ratio_BT
        level = log_ratio
        lengths_B1 = mask_BT.sum(dim=1, keepdim=True).clamp(min=1)
        if self._algorithm.ratio_level == "sequence":
            level = (log_ratio.sum(dim=1, keepdim=True) / lengths_B1).expand_as(log_ratio)
        ratio = level.exp()
        low = (ratio < 1 - self._algorithm.clip_low) & (advantages_B[:, None] < 0) & mask_BT
        high = (ratio > 1 + self._algorithm.clip_high) & (advantages_B[:, None] > 0) & mask_BT
        used = mask_BT.any(dim=1)
        self._clipped_low.append((low.sum(dim=1) / lengths_B1[:, 0])[used])
        self._clipped_high.append((high.sum(dim=1) / lengths_B1[:, 0])[used])
        self._ratios.append(log_ratio.exp()[mask_BT])
        self._log_ratios.append(log_ratio[mask_BT])
        self._add("entropy", entropy_BT[mask_BT])
        self._add("policy_loss", terms.policy_BT[mask_BT])
        self._add("clip_low", low[mask_BT].float())
        self._add("clip_high", high[mask_BT].float())
        if terms.kl_BT is not None:
            self._add("kl", terms.kl_BT[mask_BT])
        self._num_tokens += int(mask_BT.sum())

    def on_cpu(self) -> Diagnostics:
        """The same, with its tensors on the CPU: to be sent to another process."""
        for name in ("_ratios", "_log_ratios", "_clipped_low", "_clipped_high"):
            setattr(self, name, [tensor.cpu() for tensor in getattr(self, name)])
        return self

    @classmethod
    def joined(cls, parts: Sequence[Diagnostics]) -> Diagnostics:
        """What several processes saw, as one."""
        if len(parts) == 1:
            return parts[0]
        whole = cls(parts[0]._algorithm)
        for part in parts:
            whole._num_tokens += part._num_tokens
            for name, value in part._sums.items():
                whole._sums[name] = whole._sums.get(name, 0.0) + value
            for name in ("_ratios", "_log_ratios", "_clipped_low", "_clipped_high"):
                getattr(whole, name).extend(getattr(part, name))
        return whole

    def finish(self) -> dict[str, float]:
        """Metrics of the step; empty if it saw no token."""
        if self._num_tokens == 0:
            return {}
        ratio, log_ratio = (torch.cat(parts).cpu().double() for parts in (self._ratios, self._log_ratios))
        low_B, high_B = torch.cat(self._clipped_low), torch.cat(self._clipped_high)
        mean = {name: total / self._num_tokens for name, total in self._sums.items()}
        metrics = {
            "entropy": mean["entropy"],
            "clip_ratio/low_mean": mean["clip_low"],
            "clip_ratio/low_min": float(low_B.min()),
            "clip_ratio/high_mean": mean["clip_high"],
            "clip_ratio/high_max": float(high_B.max()),
            "clip_ratio/region_mean": mean["clip_low"] + mean["clip_high"],
            "sampling/sampling_logp_difference/mean": float(log_ratio.abs().mean()),
            "sampling/sampling_logp_difference/max": float(log_ratio.abs().max()),
            "sampling/importance_sampling_ratio/min": float(ratio.min()),
            "sampling/importance_sampling_ratio/mean": float(ratio.mean()),
            "sampling/importance_sampling_ratio/max": float(ratio.max()),
            "sampling/mismatch_kl": float((ratio - 1 - log_ratio).mean()),
            "sampling/ess_frac": float(ratio.sum() ** 2 / (len(ratio) * (ratio**2).sum())),
        }
        if "kl" in mean:
            metrics["kl"] = mean["kl"]
        return metrics

    def _add(self, name: str, values: Tensor) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + float(values.cpu().double().sum())  # MPS has no float64
