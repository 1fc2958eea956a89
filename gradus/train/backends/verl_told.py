"""Settings of verl as somebody gave them, and what is known beside them: what the rules of `verl_lint` read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from gradus.train.backends.verl_settings import VERSION, A

Level = Literal["error", "warning", "note"]

DEFAULTS: Mapping[str, Any] = {
    "data.train_batch_size": 1024,
    "data.shuffle": True,
    "data.dataloader_num_workers": 8,
    "data.filter_overlong_prompts": False,
    "data.max_prompt_length": 512,
    f"{A}.actor.ppo_mini_batch_size": 256,
    f"{A}.actor.loss_agg_mode": "token-mean",
    f"{A}.actor.policy_loss.loss_mode": "vanilla",
    f"{A}.actor.clip_ratio_c": 3.0,
    f"{A}.actor.checkpoint.save_contents": ["model", "optimizer", "extra"],
    f"{A}.model.lora_rank": 0,
    f"{A}.rollout.n": 1,
    "trainer.total_epochs": 30,
    "trainer.save_freq": -1,
    "trainer.nnodes": 1,
    "trainer.n_gpus_per_node": 8,
    "trainer.resume_mode": "auto",
    "trainer.logger": ["console", "wandb"],
}
"""verl's own values, where a rule asks for a key that was not set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a rule says of some settings.

    Example:
        Finding(rule="V-03", level="error", text="algorithm.kl_ctrl.kl_coef=0.005 has no effect: ...")
    """

    rule: str
    level: Level
    """``error``: something was set and will not happen, or verl will not start."""
    text: str

    def to_json(self) -> dict[str, str]:
        """As an object."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.rule} {self.level}: {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known beside the settings; None: it is not.

    Example:
        Facts(sources=frozenset({"gradus/countdown"}), num_rows=2080)
    """

    sources: frozenset[str] | None = None
    """Values of ``data_source`` in the training data."""
    num_rows: int | None = None
    longest_prompt: int | None = None
    """Tokens."""
    data_faults: tuple[str, ...] = ()
    """What verl could not use of the data."""
    is_planned: bool = False
    """Whether the order of the rows is the curriculum."""
    saved_step: int | None = None
    """Where ``trainer.default_local_dir`` says that a run is."""
    saved_world_size: int | None = None
    log_exists: bool = False
    """Whether the file that the ``file`` logger would write is there already."""
    place_faults: tuple[str, ...] = ()
    """Packages that verl's environment lacks or has in a release that verl does not take."""


class Told:
    """Settings and what stands for those that were not given.

    Example:
        Told({"+trainer.nnodes": 2}).number("trainer.nnodes")  # 2
    """

    def __init__(self, settings: Mapping[str, Any], version: str = VERSION) -> None:
        self.given = {key.lstrip("+~"): value for key, value in settings.items()}
        self.added = {key.lstrip("+~") for key in settings if key[:1] in "+~"}
        """Keys that were added to verl's own, or taken away."""
        self.version = release_of(version)

    def __getitem__(self, key: str) -> Any:
        return self.given.get(key, DEFAULTS.get(key))

    def number(self, key: str) -> float | None:
        """The value where it is a number."""
        value = self[key]
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    def below(self, *prefixes: str) -> dict[str, Any]:
        """What was given below some keys, without nulls."""
        return {key: value for key, value in self.given.items() if key.startswith(prefixes) and value is not None}

    def shown(self, key: str) -> str:
        """As an override."""
        return f"{key}={self[key]}"


def release_of(version: str) -> tuple[int, int]:
    """``0.9.1`` → (0, 9). ValueError for what is no release, or one before 0.4."""
    parts = version.split(".")
    if len(parts) < 2 or not all(part.isdecimal() for part in parts[:2]) or (int(parts[0]), int(parts[1])) < (0, 4):
        raise ValueError(
            f"{version!r} is no release of verl that is known here; give one from 0.4 on, such as {VERSION}"
        )
    return int(parts[0]), int(parts[1])
