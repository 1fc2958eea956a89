"""What the probed training will cost: seconds of a step from what the probe measured, of the whole run, and money."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gradus.algo.presets import resolve_algorithm
from gradus.config import Config
from gradus.rollout.rollout import Timing
from gradus.types import Group


def cost(
    config: Config,
    timing: Timing,
    groups: Sequence[Group],
    *,
    mixed: float,
    time_update: Callable[[Sequence[Group]], float] | None,
    price_per_hour: float | None,
) -> dict[str, Any]:
    """Seconds of a training step by what ``timing`` says of the sampling of ``groups``, and of the whole run.

    Args:
        mixed: share of mixed groups. Where flat groups are dropped and drawn again, sampling is counted 1 / ``mixed``
            times, at most as often as ``sampling.max_redraws`` allows.
        time_update: seconds of one real update with the groups of a step; None leaves the update out.
        price_per_hour: of the machine, in any currency.
    """
    keeps_flat = resolve_algorithm(config.algorithm).keep_flat_groups
    completions = [completion for group in groups for completion in group.completions]
    num_tokens = sum(len(completion.tokens) for completion in completions)
    per_step = config.curriculum.problems_per_step * config.sampling.group_size
    updates = config.optimizer.updates_per_batch * config.optimizer.passes_per_batch
    speed = num_tokens / max(timing.rollout_seconds, 1e-9)
    again = 1.0 if keeps_flat else min(1 / max(mixed, 1e-9), 1.0 + config.sampling.max_redraws)
    generation = again * per_step * num_tokens / len(completions) / speed / updates
    scoring = again * per_step * timing.scoring_seconds / len(completions) / updates
    update = None if time_update is None else time_update(_one_step(groups, config))
    measured = {
        "num_steps": config.num_steps,
        "tokens_per_second": speed,
        "generation_seconds": generation,
        "scoring_seconds": scoring,
        "drawn_again_factor": again,
    }
    return with_update(measured, update, price_per_hour)


def with_update(
    measured: Mapping[str, Any], update_seconds: float | None, price_per_hour: float | None
) -> dict[str, Any]:
    """The cost where an update takes so long; None: it is not known and not included."""
    per_step = measured["generation_seconds"] + measured["scoring_seconds"] + (update_seconds or 0.0)
    hours = measured["num_steps"] * per_step / 3600
    return {
        **measured,
        "update_seconds": update_seconds,
        "is_update_included": update_seconds is not None,
        "hours": hours,
        "money": None if price_per_hour is None else price_per_hour * hours,
    }


def _one_step(groups: Sequence[Group], config: Config) -> list[Group]:
    """As many groups as one optimizer step learns from, each cut to the group size of training."""
    size = config.sampling.group_size
    count = max(1, config.curriculum.problems_per_step // config.optimizer.updates_per_batch)
    repeated = [groups[index % len(groups)] for index in range(count)]
    return [replace(group, completions=group.completions[:size], scores=group.scores[:size]) for group in repeated]
