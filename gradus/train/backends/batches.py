"""How many steps and completions a batch of rollouts has, for trainers that cut batches by completions."""

from __future__ import annotations

from gradus.config import Config
from gradus.train.backends.image import cannot

LARGEST_MICROBATCH = 8
"""Completions per forward pass where the config leaves their number open."""


def steps_per_batch(config: Config) -> int:
    """Optimizer steps that one batch of rollouts serves."""
    return config.optimizer.updates_per_batch * config.optimizer.passes_per_batch


def completions_per_step(config: Config) -> int:
    """Completions that one optimizer step learns from."""
    return config.curriculum.problems_per_step * config.sampling.group_size // config.optimizer.updates_per_batch


def microbatch(config: Config, *, num_processes: int = 1) -> int:
    """Completions per forward pass. Only for a config without `refused_batches`."""
    own = completions_per_step(config) // num_processes
    return config.optimizer.microbatch_size or max(_divisors(own, LARGEST_MICROBATCH))


def refused_batches(backend: str, config: Config, why: str) -> list[str]:
    """Cuts that do not come out even, and steps in the middle of a batch; ``why`` says what stands against those."""
    found = refused_microbatch(backend, config)
    period = steps_per_batch(config)
    keys = {
        "num_steps": config.num_steps,
        "checkpoint.every_steps": config.checkpoint.every_steps,
        "evaluation.every_steps": config.evaluation.every_steps,
    }
    for key, value in keys.items():
        if value is not None and value % period:
            found.append(cannot(backend, f"{key}={value}", why, f"set {key}={-(-value // period) * period}"))
    return found


def refused_microbatch(backend: str, config: Config, *, num_processes: int = 1) -> list[str]:
    """A micro-batch that does not divide the completions which a process has of a step."""
    own, size = completions_per_step(config) // num_processes, config.optimizer.microbatch_size
    if size is None or own % size == 0:
        return []
    sizes = ", ".join(map(str, _divisors(own, max(size, LARGEST_MICROBATCH))))
    reason = f"the {own} completions of a step{' in a process' if num_processes > 1 else ''} do not divide by it"
    return [cannot(backend, f"optimizer.microbatch_size={size}", reason, f"set one of {sizes}")]


def _divisors(number: int, limit: int) -> list[int]:
    return [value for value in range(1, min(number, limit) + 1) if number % value == 0]
