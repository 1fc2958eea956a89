"""Which folder a run gets, inside the runs folder and never over something that is there; and whether it fits."""

from __future__ import annotations

import datetime
import re
import secrets
import shutil
from pathlib import Path

from gradus.config import Config
from gradus.exits import Code, Exit
from gradus.rundir import RunDirectory, is_free

_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
"""Names that Windows keeps for devices; a run copied there would be unreadable."""


def made_name(config: Config) -> str:
    """``<task>-<model>-<UTC time>-<4 hex>``: a name for a run that has none."""
    model = re.sub(r"[^a-z0-9]+", "-", config.model.path.lower().rsplit("@", 1)[0].rstrip("/"))[-40:].strip("-")
    task = re.sub(r"[^a-z0-9]+", "-", "-".join(config.tasks).lower())[:30].strip("-")
    now = datetime.datetime.now(datetime.UTC)
    return f"{task}-{model}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def inside(runs_dir: Path, name: str) -> Path:
    """The folder of a run; ValueError for a name that leads elsewhere."""
    if ".." in name or "/" in name or _RESERVED.fullmatch(name):
        raise ValueError(f"name={name!r} cannot be a folder's name everywhere; use letters, digits, '.', '_' and '-'")
    top = Path(runs_dir).absolute()
    path = top / name
    if path.resolve().parent != top.resolve():
        raise ValueError(f"{path} leads to {path.resolve()}, outside {top}; give that folder itself, or another name")
    return path


def next_free(path: Path) -> Path:
    """``path``, or the first of ``path-2``, ``path-3``, ... that is free."""
    candidate, number = path, 1
    while not is_free(candidate):
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


def check_disk(run: RunDirectory, *, checkpoint_bytes: int, keep_last: int, rollouts_bytes: int = 0) -> str | None:
    """A warning where space is short; Exit(MACHINE) where it cannot suffice."""
    needed = (keep_last + 1) * checkpoint_bytes + rollouts_bytes
    free = shutil.disk_usage(run.path).free
    message = f"{run.path} has {free / 1e9:.1f} GB free; the run needs about {needed / 1e9:.1f} GB"
    if free < needed:
        hint = "free space, or lower checkpoint.keep_last, or begin all the same with --force"
        raise Exit(Code.MACHINE, message, hint=hint)
    return message if free < 2 * needed else None
