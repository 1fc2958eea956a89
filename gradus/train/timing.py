"""How long one update takes: a real forward and backward pass over the groups of one step, without taking the step."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from gradus.algo.presets import resolve_algorithm
from gradus.config import Config
from gradus.policy.load import Policy
from gradus.train.batch import collate
from gradus.train.update import Settings, accumulate
from gradus.types import Group


def seconds_of_update(config: Config, policy: Policy, groups: Sequence[Group]) -> float:
    """Seconds of forward and backward over ``groups``, the second of two passes: the first also warms up.

    The optimizer's own arithmetic is left out: it would move the weights that are being probed. The KL term's second
    forward pass is left out too, as there is no reference copy here.
    """
    algorithm = resolve_algorithm(config.algorithm)
    batch = collate(groups, algorithm=algorithm, max_tokens=config.sampling.max_tokens)
    settings = Settings(
        algorithm=replace(algorithm, kl_coef=0.0),
        temperature=config.sampling.temperature,
        learning_rate=0.0,
        microbatch_tokens=config.optimizer.microbatch_tokens,
        microbatch_size=config.optimizer.microbatch_size,
        seed_parts=(config.seed, 0, 0, 0),
    )
    seconds = 0.0
    for _ in range(2):
        _wait(policy)
        started = time.monotonic()
        accumulate(policy, batch, settings)
        _wait(policy)
        seconds = time.monotonic() - started
        for _, parameter in policy.trainable():
            parameter.grad = None
    return seconds


def _wait(policy: Policy) -> None:
    """Until the device has done what it was given."""
    if policy.device.type == "cuda":
        torch.cuda.synchronize(policy.device)
