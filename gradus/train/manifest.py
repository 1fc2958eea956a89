"""The proof that a checkpoint is whole: size and SHA-256 of each of its files, and of the list itself. No torch."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from gradus import durable
from gradus.rundir import step_name

SCHEMA = "gradus.checkpoint/1"
MANIFEST = "MANIFEST.json"

Verify = Literal["hash", "size"]
"""How a checkpoint is checked; ``size`` reads no file, for very large models."""


def write_manifest(folder: Path, step: int, identity: Mapping[str, Any]) -> None:
    """Writes the manifest of a finished folder and forces the folder's names to the disk."""
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    fields = {"schema": SCHEMA, "step": step, **identity, "saved_at": now, "files": files}
    durable.write_text(folder / MANIFEST, _manifest_text(fields), what="manifest")
    for path in sorted(path for path in folder.rglob("*") if path.is_dir()):
        durable.sync(path, what="checkpoint")
    durable.sync(folder, what="checkpoint")


def _manifest_text(fields: Mapping[str, Any]) -> str:
    """The manifest's bytes. It ends with its own hash, so that a flipped bit in it is seen too."""
    body = json.dumps(fields, indent=2, allow_nan=False)
    return json.dumps({**fields, "manifest_sha256": hashlib.sha256(body.encode()).hexdigest()}, indent=2) + "\n"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def defect(folder: Path, verify: Verify) -> str | None:
    """Why a checkpoint folder is not whole; None if it is. ``size`` skips the hashes (very large models)."""
    try:
        text = (folder / MANIFEST).read_text()
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, UnicodeDecodeError) as error:
        return f"{MANIFEST} is not readable ({error})"
    try:
        manifest = json.loads(text)
        fields = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
        is_own = _manifest_text(fields) == text
    except (ValueError, AttributeError, RecursionError):
        return f"{MANIFEST} is not readable JSON"
    if not is_own:
        return f"{MANIFEST} does not match its own hash"
    if manifest["schema"] != SCHEMA:
        return f"{MANIFEST} has schema {manifest['schema']!r}, not {SCHEMA!r}"
    if step_name(manifest["step"]) != folder.name:
        return f"{MANIFEST} is of step {manifest['step']}"
    return _defect_of_files(folder, manifest["files"], verify)


def _defect_of_files(folder: Path, files: Mapping[str, Mapping[str, Any]], verify: Verify) -> str | None:
    for name, expected in files.items():
        path = folder / name
        try:
            num_bytes = path.stat().st_size
            if num_bytes != expected["bytes"]:
                return f"{name} is {num_bytes} of {expected['bytes']} bytes"
            if verify == "hash" and _sha256(path) != expected["sha256"]:
                return f"{name} does not match its hash"
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} is not readable ({error.strerror})"
    return None
