"""The table of algorithms. A row is a vetted setting: advantage × ratio level × clip × token weights × KL.

| row       | source                                                       |
|-----------|--------------------------------------------------------------|
| grpo      | DeepSeekMath, arXiv 2402.03300                               |
| dr_grpo   | Understanding R1-Zero-Like Training, arXiv 2503.20783        |
| dapo      | DAPO, arXiv 2503.14476                                       |
| gspo      | Group Sequence Policy Optimization, arXiv 2507.18071         |
| cispo     | MiniMax-M1, arXiv 2506.13585                                 |
| rloo      | Back to Basics, arXiv 2402.14740                             |
| reinforce | Williams 1992, without a baseline                            |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gradus.config import AlgorithmConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """What the loss and the advantages need to know, complete.

    Example:
        Algorithm(advantage="standardize", ratio_level="token", clip_low=0.2, clip_high=0.2, aggregate="sequence",
                  kl_coef=0.0, entropy_coef=0.0, keep_flat_groups=True)
    """

    advantage: Literal["standardize", "center", "leave_one_out", "none"]
    ratio_level: Literal["token", "sequence", "detached", "capped"]
    """``detached``: no ratio, the plain score function. ``capped``: a constant factor, cut at 1 + clip_high."""
    clip_low: float
    """Distance of the lower bound from 1; infinite: no bound."""
    clip_high: float
    aggregate: Literal["sequence", "token", "fixed"]
    """Token weights: 1/(len·N), 1/Σlen, 1/(max_tokens·N) with N completions in the optimizer step."""
    kl_coef: float = 0.0
    entropy_coef: float = 0.0
    keep_flat_groups: bool = True
    """False: a group without reward spread is dropped and another problem is drawn."""


_UNBOUNDED = float("inf")
PRESETS: dict[str, Algorithm] = {
    "grpo": Algorithm(advantage="standardize", ratio_level="token", clip_low=0.2, clip_high=0.2, aggregate="sequence"),
    "dr_grpo": Algorithm(advantage="center", ratio_level="token", clip_low=0.2, clip_high=0.2, aggregate="fixed"),
    "dapo": Algorithm(
        advantage="standardize",
        ratio_level="token",
        clip_low=0.2,
        clip_high=0.28,
        aggregate="token",
        keep_flat_groups=False,
    ),
    "gspo": Algorithm(
        advantage="standardize", ratio_level="sequence", clip_low=3e-4, clip_high=4e-4, aggregate="sequence"
    ),
    "cispo": Algorithm(
        advantage="standardize",
        ratio_level="capped",
        clip_low=_UNBOUNDED,
        clip_high=4.0,
        aggregate="token",
        keep_flat_groups=False,
    ),
    "rloo": Algorithm(advantage="leave_one_out", ratio_level="token", clip_low=0.2, clip_high=0.2, aggregate="token"),
    "reinforce": Algorithm(
        advantage="none", ratio_level="detached", clip_low=_UNBOUNDED, clip_high=_UNBOUNDED, aggregate="token"
    ),
}


def resolve_algorithm(config: AlgorithmConfig) -> Algorithm:
    """The preset ``config.name`` with the values that the config sets itself."""
    preset = PRESETS[config.name]
    return Algorithm(
        **{
            name: preset_value if (value := getattr(config, name)) is None else value
            for name, preset_value in ((field, getattr(preset, field)) for field in Algorithm.__dataclass_fields__)
        }
    )


def cautions(algorithm: Algorithm, group_size: int) -> list[str]:
    """What should be known of an algorithm with groups of this size before it runs."""
    if algorithm.advantage == "standardize" and group_size == 2:
        return [
            "sampling.group_size=2 with standardized advantages: each is +-0.707 whatever the rewards are, so only their "
            "order teaches; use a larger group, or algorithm.advantage=center"
        ]
    return []
