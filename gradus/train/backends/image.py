"""What becomes of each config key in another trainer: nothing is dropped silently.

Every backend has a table with an image for every leaf of the config (`tests/train/backends/` holds it to that). A key
that was set and cannot be honoured is an error; one that was left at its default is a line in what the start says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gradus.algo.presets import Algorithm
from gradus.config import Config
from gradus.keys import leaves, schema_leaves
from gradus.recipe import Resolved


@dataclass(frozen=True, slots=True)
class Sets:
    """The key becomes settings of the other trainer.

    Example:
        Sets("num_generations")
    """

    keys: tuple[str, ...]
    says: str = ""
    """What differs from native, for the user; empty: nothing."""

    def __init__(self, *keys: str, says: str = "") -> None:
        object.__setattr__(self, "keys", keys)
        object.__setattr__(self, "says", says)


@dataclass(frozen=True, slots=True)
class Ours:
    """gradus honours the key itself, as in a native run.

    Example:
        Ours()
    """

    says: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """The other trainer would ignore the key.

    Example:
        Refused("it cuts its batches by completions", "set optimizer.microbatch_size")
    """

    why: str
    remedy: str


Image = Sets | Ours | Refused

SHARED: Mapping[str, Image] = dict.fromkeys(
    (
        "torch_threads",
        "model.revision",
        "model.init",
        "model.enable_thinking",
        "model.load_in_4bit",
        "model.lora",
        "model.lora.dropout",
        "curriculum.num_problems",
        "curriculum.problems_file",
        "curriculum.balance_domains",
        "curriculum.buckets",
        "curriculum.quantiles",
        "curriculum.stages",
        "curriculum.draw",
        "curriculum.adaptive",
        "curriculum.cooldown_steps",
        "algorithm.keep_flat_groups",
        "optimizer.moments",
        "sft.batch_size",
        "sft.data_file",
        "scoring.stop_error_frac",
        "evaluation.split",
        "evaluation.num_problems",
        "evaluation.samples_per_problem",
        "evaluation.temperature",
        "evaluation.seed",
        "evaluation.primary_metric",
        "probe.num_problems",
        "probe.samples_per_problem",
        "probe.rehearse_steps",
        "probe.limits",
        "health.on_critical",
        "health.rules",
        "checkpoint.keep_last",
        "checkpoint.keep_every_steps",
        "checkpoint.verify",
        "records.rollouts_every_steps",
        "tracking.sinks",
        "tracking.project",
        "backend.name",
        "backend.extra",
    ),
    Ours(),
)
"""Keys that act in every backend through what all share: the problems and their order, how a model is loaded, evaluation,
health, checkpoints, records. Values that a backend cannot honour it refuses one by one."""


def image_of(leaf: str, images: Mapping[str, Image]) -> Image:
    """The image of a leaf of a config; task options and other mappings share that of their key."""
    parts = leaf.split(".")
    return next(images[name] for end in range(len(parts), 0, -1) if (name := ".".join(parts[:end])) in images)


def missing(images: Mapping[str, Image]) -> list[str]:
    """Leaves of the config tree that a table forgets, and names in it that are no leaves."""
    sections = {name.rpartition(".")[0] for name in schema_leaves()}
    return sorted(set(schema_leaves()) ^ {name for name in images if name not in sections})


def refused(backend: str, resolved: Resolved, images: Mapping[str, Image]) -> list[str]:
    """One complaint for each key that was set and would be ignored."""
    found = []
    for leaf, value in leaves(resolved.config).items():
        image = image_of(leaf, images)
        if isinstance(image, Refused) and resolved.origins.get(leaf, "default") != "default":
            found.append(cannot(backend, f"{leaf}={shown(value)}", image.why, image.remedy))
    return found


def promises(config: Config, images: Mapping[str, Image]) -> list[str]:
    """What is different in this backend, by key."""
    lines = []
    for leaf, image in images.items():
        if isinstance(image, Refused):
            lines.append(f"{leaf} has no effect: {image.why}")
        elif image.says:
            lines.append(f"{leaf}: {image.says}")
    return lines


def cannot(backend: str, setting: str, why: str, remedy: str) -> str:
    """The words of a refusal: key with its value, reason, what to do."""
    return f"{setting} cannot be done by backend {backend} ({why}); use --backend native, or {remedy}"


def shown(value: Any) -> str:
    """A value as one writes it in an override."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def refused_losses(backend: str, algorithm: Algorithm, *, flat: str, mean: str, ratio: str) -> list[str]:
    """What a trainer whose losses are of ratios, with advantages of whole groups, cannot do of an algorithm. ``flat``,
    ``mean`` and ``ratio`` say why it keeps groups without a signal, takes the group's mean off and needs a ratio."""
    found = []
    if not algorithm.keep_flat_groups:
        found.append(cannot(backend, "algorithm.keep_flat_groups=false", flat, "set algorithm.keep_flat_groups=true"))
    if algorithm.advantage == "none":
        found.append(cannot(backend, "algorithm.advantage=none", mean, "set algorithm.advantage=center"))
    if algorithm.ratio_level == "detached":
        found.append(cannot(backend, "algorithm.ratio_level=detached", ratio, "set algorithm.ratio_level=token"))
    only = {"sequence": "sequence", "capped": "token"}.get(algorithm.ratio_level, algorithm.aggregate)
    if algorithm.aggregate != only:
        setting = f"algorithm.ratio_level={algorithm.ratio_level} with algorithm.aggregate={algorithm.aggregate}"
        found.append(cannot(backend, setting, "it has no such loss", f"set algorithm.aggregate={only}"))
    return found
