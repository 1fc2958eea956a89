"""What verbs take: recipes, runs, KEY=VALUE, and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from gradus.recipe import Resolved

Split = Literal["train", "validation", "test"]
Recipe = Annotated[
    list[str], typer.Argument(metavar="RECIPE|RUN [KEY=VALUE]...", help="YAML files, or a run, and overrides.")
]


def names_and_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """What names recipes, runs or tasks, and what is KEY=VALUE."""
    from gradus.recipe import is_override

    return [one for one in arguments if not is_override(one)], [one for one in arguments if is_override(one)]


def run_folder(names: Sequence[str]) -> Path | None:
    """The folder of a run, where exactly one is given; any other existing folder is no recipe either."""
    if len(names) != 1 or not Path(names[0]).is_dir():
        return None
    from gradus.rundir import RunDirectory

    return RunDirectory.open(Path(names[0])).path


def config_of(arguments: Sequence[str]) -> Resolved:
    """The config of recipes and overrides, or of a run and overrides."""
    from gradus.recipe import resolve

    names, overrides = names_and_overrides(arguments)
    folder = run_folder(names)
    if folder is None:
        return resolve(names, overrides)
    from gradus.rundir import RunDirectory
    from gradus.train.start import stored

    return stored(RunDirectory.open(folder), tuple(overrides))


def without_secrets(value: Any) -> Any:
    """A JSON value whose texts are safe to show: a config may hold what its author did not mean to publish."""
    from gradus.redaction import redact

    if isinstance(value, dict):
        return {key: without_secrets(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    return redact(value) if isinstance(value, str) else value
