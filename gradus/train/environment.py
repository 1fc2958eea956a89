"""What a run ran on: package versions, commits, devices, command line. For people, and the identity of a checkpoint.

Equal bits are promised only where these facts are equal; ``differences`` names the ones that are not.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import gradus
from gradus.config import Config
from gradus.keys import leaves, resume_class
from gradus.recipe import to_yaml
from gradus.redaction import redact

PACKAGES = (
    "torch", "transformers", "peft", "safetensors", "datasets", "pyarrow", "numpy", "pydantic", "ruamel.yaml", "typer",
    "rich", "jinja2", "matplotlib", "accelerate", "trl", "verl", "vllm", "math-verify", "sympy",
)  # fmt: skip
GIT_SECONDS = 10.0


def environment() -> dict[str, Any]:
    """Content of ``environment.json``; no secrets."""
    return {
        "gradus": gradus.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": package_versions(),
        "code": git_state(Path(gradus.__file__).parent),
        "working_folder": git_state(Path.cwd()),
        "devices": devices(),
        "torch_threads": torch.get_num_threads(),
        "command": redact(shlex.join(sys.argv)),
    }


def package_versions() -> dict[str, str]:
    """Versions of the packages that are installed and can matter."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def git_state(folder: Path) -> dict[str, str] | None:
    """Commit of the git repository around ``folder`` and the SHA-256 of its uncommitted changes ("" without any);
    None where there is no repository or no git."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    changes = (_git(folder, "status", "--porcelain") or b"") + (_git(folder, "diff", "HEAD") or b"")
    return {"commit": commit.decode().strip(), "changes": hashlib.sha256(changes).hexdigest() if changes else ""}


def _git(folder: Path, *arguments: str) -> bytes | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, timeout=GIT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def devices() -> list[str]:
    """Names of the accelerators, or of the processor."""
    if torch.cuda.is_available():
        return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    kind = "mps " if torch.backends.mps.is_available() else ""
    return [f"{kind}{platform.machine()}, {os.cpu_count()} logical processors"]


def versions() -> dict[str, str]:
    """The versions that a checkpoint names."""
    return {
        "gradus": gradus.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": importlib.metadata.version("transformers"),
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One line per fact of a checkpoint's identity that changed so that equal bits are not promised any more.

    Example:
        differences({"torch_threads": 1}, {"torch_threads": 2})  # ['exact bits not promised: torch_threads 1 → 2']
    """
    pairs = [(key, before.get(key), now.get(key)) for key in ("torch_threads", "device", "dtype", "world_size")]
    for name in ("gradus", "torch", "transformers"):
        pairs.append((name, before.get("versions", {}).get(name), now.get("versions", {}).get(name)))
    return [
        f"exact bits not promised: {key} {old} → {new}"
        for key, old, new in pairs
        if old is not None and new is not None and old != new
    ]


def identity(config: Config, *, data_fingerprint: str, parent_step: int | None) -> dict[str, Any]:
    """What a checkpoint's manifest says about its run; the trainer adds device and dtype."""
    fixed = {leaf: value for leaf, value in leaves(config).items() if resume_class(leaf) == "immutable"}
    return {
        "resolved_config_sha256": hashlib.sha256(to_yaml(config).encode()).hexdigest(),
        "immutable_config_sha256": hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest(),
        "data_fingerprint": data_fingerprint,
        "model": {"path": config.model.path, "revision": config.model.revision},
        "versions": versions(),
        "torch_threads": torch.get_num_threads(),
        "world_size": int(os.environ.get("WORLD_SIZE") or 1),
        "parent_step": parent_step,
    }
