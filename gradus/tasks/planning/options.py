"""Options of the task `planning`, and which of them go together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from gradus.difficulty import Formula
from gradus.tasks.base import TaskConfig
from gradus.tasks.planning.domains import FAMILIES
from gradus.tasks.planning.measure import Source as ScoreSource
from gradus.tasks.planning.measure import Unreadable
from gradus.tasks.planning.presets import Preset
from gradus.tasks.planning.reward import PlanningReward, Profile


class PlanningConfig(TaskConfig):
    """Options of the task `planning`."""

    data_root: str | None = None
    """Folder with one JSONL file per domain (or one such folder per split in it); null: generated problems."""
    pddl_root: str | None = None
    """Where the PDDL files of a data folder are looked for first."""
    domains: tuple[str, ...] | None = None
    """null: the five built-in ones; with ``data_root`` those that have a file."""
    held_out: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Share of the instances of an unsplit data folder that is kept from training, half of it for each other split."""
    allow_bad_rows: bool = False
    """Whether more than 5 % of a data file may be unusable."""
    skip_missing: bool = False
    """Whether rows whose PDDL is missing or wrong are left out instead of ending the run."""
    preset: Preset = "default"
    """Sizes of generated problems."""
    num_train: Annotated[int, Field(ge=1)] = 500
    """Generated training problems per domain."""
    num_validation: Annotated[int, Field(ge=1)] = 40
    """Generated validation problems per domain."""
    num_test: Annotated[int, Field(ge=1)] = 80
    """Generated test problems per domain."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides the generated problems."""
    constraint_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of generated problems that get a trajectory constraint, where one can be found."""
    holdout: str | None = None
    """Domain that only the test split has."""
    anonymise: Literal["none", "objects", "all"] = "none"
    """Rename objects, or all symbols, to meaningless names."""
    demonstrations: Literal["reference", "worked"] = "reference"
    """What a warm-up (`gradus sft`) shows: the reference plan, or a ``worked`` one that does one object after the other
    and repeats in comments what the ``brief`` prompt says."""
    slip_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the actions that a warm-up's demonstrations (`gradus sft`) forget or do with other objects: what leaves a
    small policy something to learn from rewards."""
    prompt: Literal["auto", "keep", "rebuild", "brief"] = "auto"
    """``keep`` the stored prompt, ``rebuild`` it with domain and problem, or the ``brief`` form without the domain;
    ``auto`` keeps what a data folder has and rebuilds for generated problems."""
    formula: Formula = "additive"
    """How sizes become a difficulty score."""
    score_source: ScoreSource = "name"
    """Where the sizes come from: the file name, the PDDL, or the reference length instead of sizes."""
    unreadable: Unreadable = "easy"
    """What a file name without sizes means: the bucket easy, or measure the PDDL."""
    reward: Profile = "default"
    """Reward profile."""
    reward_constants: Mapping[str, float] = {}
    """Numbers of the profile to change."""

    @model_validator(mode="after")
    def _fits_together(self) -> PlanningConfig:
        PlanningReward(self.reward, **self.reward_constants)
        if self.data_root is None:
            for name in self.domains or ():
                if name not in FAMILIES:
                    raise ValueError(f"domain {name!r} has no generator; there are {', '.join(FAMILIES)}")
            if self.prompt == "keep":
                raise ValueError("prompt=keep needs a data folder; generated problems have no stored prompt")
        elif self.prompt == "keep" and self.anonymise != "none":
            raise ValueError("prompt=keep would show the names that anonymise hides; use prompt=rebuild")
        if self.prompt == "brief" and self.anonymise == "all":
            raise ValueError("prompt=brief leaves out the domain, which anonymise=all makes up; use prompt=rebuild")
        if self.demonstrations == "worked" and (self.data_root or self.constraint_rate or self.anonymise != "none"):
            raise ValueError("demonstrations=worked is for generated problems without constraints and renaming")
        if self.domains is not None and not self.domains:
            raise ValueError("domains=[] leaves nothing; name at least one domain")
        if self.holdout is not None and self.holdout not in (self.domains or tuple(FAMILIES)):
            raise ValueError(f"holdout={self.holdout!r} is none of the domains; name one of them")
        return self
