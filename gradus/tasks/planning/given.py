"""The rows of a user's data folder that belong to a split, with their PDDL."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from gradus.tasks.planning.fingerprint import fingerprint, split_of
from gradus.tasks.planning.folder import Loaded, load_rows, read_rows
from gradus.tasks.planning.options import PlanningConfig
from gradus.types import SPLITS, Message, Split

_log = logging.getLogger(__name__)


def load_folder(config: PlanningConfig, split: Split) -> list[Loaded]:
    """The rows of a split with their PDDL: of the folder named like it, else of those marked so, else by fingerprint.

    Raises ValueError where the split has no rows.
    """
    assert config.data_root is not None
    root = Path(config.data_root)
    own = root / split
    has_folders = any((root / name).is_dir() and any((root / name).glob("*.jsonl")) for name in SPLITS)
    if has_folders and not any(own.glob("*.jsonl")):
        raise ValueError(f"{str(root)!r} has no folder for the {split} split; choose another split")
    found = read_rows(own if has_folders else root, config.domains, allow_bad_rows=config.allow_bad_rows)
    for note in found.notes:
        _log.warning("%s", note)
    rows = found.rows
    is_marked = any("split" in row.meta for row in rows)
    if is_marked and not has_folders:
        rows = tuple(row for row in rows if row.meta.get("split", "train") == split)
    elif split != "train" and not has_folders and not config.held_out:
        raise ValueError(
            f"{str(root)!r} is not split, so it has no {split} problems; set held_out=0.1 to keep a tenth from training, "
            f"or evaluate on another data folder"
        )
    rows = tuple(row for row in rows if split == "test" or row.domain != config.holdout)
    if not rows:
        raise ValueError(f"{str(root)!r} has no rows of the {split} split; choose another split")
    loaded = load_rows(rows, root, pddl_root=config.pddl_root, skip_missing=config.skip_missing)
    if config.held_out and not has_folders and not is_marked:
        half = config.held_out / 2
        shares: dict[Split, float] = {"train": 1 - config.held_out, "validation": half, "test": half}
        loaded = [entry for entry in loaded if split_of(fingerprint(entry.problem), shares) == split]
    return loaded


def stored_messages(prompt: str | list[dict[str, Any]]) -> tuple[Message, ...]:
    """A stored prompt as messages; text becomes one user message."""
    if isinstance(prompt, str):
        return (Message(role="user", content=prompt),)
    return tuple(Message(role=message["role"], content=message["content"]) for message in prompt)
