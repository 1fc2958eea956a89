"""`gradus doctor`: is this machine fit? Versions against those that are tested, devices, memory, disk, scorer processes.

Each finding is ``ok``, ``note`` (something is missing that not everyone needs), ``warn`` or ``fail``; only the last
makes the answer no. Nothing is left behind, and nothing is downloaded.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from gradus import durable

State = Literal["ok", "note", "warn", "fail"]
CORE = ("jinja2", "matplotlib", "mpmath", "numpy", "pydantic", "rich", "ruamel.yaml", "typer")
EXTRAS = {
    "train": ("torch", "transformers", "peft", "safetensors", "datasets", "pyarrow"),
    "math": ("math-verify",),
    "trl": ("trl", "accelerate"),
    "4bit": ("bitsandbytes", "accelerate"),
}
TRACKERS = ("tensorboard", "wandb", "trackio")
TESTED = Path(__file__).parent / "tested_versions.txt"
MIN_PYTHON = (3, 11)
MIN_FREE_BYTES, MIN_MEMORY_BYTES = 1e9, 2e9
_TRIAL_BYTES = 16 << 20
_SLOW_BYTES_PER_SECOND = 20e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Example:
        Finding(name="disk", state="ok", text="runs: 51.2 GB free, 410 MB/s with fsync")
    """

    name: str
    state: State
    text: str

    def to_json(self) -> dict[str, Any]:
        """As an object."""
        return asdict(self)


def examine(runs_dir: Path) -> list[Finding]:
    """All findings; ``runs_dir`` is where runs would be written (it need not exist)."""
    return [
        *_python(),
        *_versions(),
        *_devices(),
        _memory(),
        *_disk(runs_dir),
        _workers(),
        _validator(),
        *(_tracker(name) for name in TRACKERS),
        _verl(),
    ]


def is_fit(findings: list[Finding]) -> bool:
    """Whether nothing failed."""
    return all(finding.state != "fail" for finding in findings)


def tested_versions() -> dict[str, str]:
    """Package to the version that the tests ran with."""
    lines = TESTED.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==", 1) for line in lines if "==" in line and not line.startswith("#"))


def _python() -> Iterator[Finding]:
    state: State = "ok" if sys.version_info >= MIN_PYTHON else "fail"
    yield Finding(name="python", state=state, text=f"{platform.python_version()} on {platform.platform()}")
    if sys.platform not in ("linux", "darwin"):
        yield Finding(name="platform", state="fail", text=f"{sys.platform} is not supported; use WSL on Windows")


def _versions() -> Iterator[Finding]:
    tested = tested_versions()
    for extra, names in (("", CORE), *EXTRAS.items()):
        found = {name: _version(name) for name in names}
        missing = [name for name, version in found.items() if version is None]
        label = f"gradus[{extra}]" if extra else "gradus"
        if missing:
            what = f"{', '.join(missing)} not installed"
            remedy = f"; pip install '{label}'"
            yield Finding(name=label, state="note" if extra else "fail", text=what + remedy)
        others = [
            f"{name} {version} (tested: {tested[name]})"
            for name, version in found.items()
            if version is not None and name in tested and version.partition("+")[0] != tested[name]
        ]
        if others:
            yield Finding(name=label, state="warn", text=f"not the tested versions: {', '.join(others)}")
        elif not missing:
            yield Finding(name=label, state="ok", text="the tested versions")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> Iterator[Finding]:
    if importlib.util.find_spec("torch") is None:
        yield Finding(name="devices", state="note", text="not known without torch")
        return
    from gradus.train.environment import devices

    found = devices()
    is_cpu = found[0].endswith("logical processors") and not found[0].startswith("mps")
    text = "; ".join(found) + (" (no accelerator: small policies only)" if is_cpu else "")
    yield Finding(name="devices", state="ok", text=text)


def _memory() -> Finding:
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return Finding(name="memory", state="note", text="the system does not tell")
    state: State = "ok" if total >= MIN_MEMORY_BYTES else "warn"
    return Finding(name="memory", state=state, text=f"{total / 1e9:.1f} GB")


def _disk(runs_dir: Path) -> Iterator[Finding]:
    """Writes into a temporary folder beside the runs: can it be written, renamed, synced, and how quickly?"""
    folder = runs_dir.absolute()
    while not folder.is_dir():
        folder = folder.parent
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=durable.TEMPORARY) as trial:
            durable.check_renames(Path(trial))
            started = time.monotonic()
            durable.write_bytes(Path(trial) / "trial", bytes(_TRIAL_BYTES))
            speed = _TRIAL_BYTES / max(time.monotonic() - started, 1e-9)
    except (OSError, ValueError) as error:
        yield Finding(name="disk", state="fail", text=f"{folder}: {error}; choose another place with GRADUS_RUNS_DIR")
        return
    free = shutil.disk_usage(folder).free
    is_slow, is_full = speed < _SLOW_BYTES_PER_SECOND, free < MIN_FREE_BYTES
    text = f"{folder}: {free / 1e9:.1f} GB free, folders rename in one step, {speed / 1e6:.0f} MB/s with fsync"
    yield Finding(name="disk", state="warn" if is_slow or is_full else "ok", text=text)


def _workers() -> Finding:
    """Whether a scorer in a process of its own runs, and can be killed when it hangs."""
    from gradus.tasks.pool import MATH_LIMITS

    limit = MATH_LIMITS.memory_bytes
    text = f"processes of their own, killed after their time, at most {0 if limit is None else limit / 1e9:.1f} GB each"
    has_limits = importlib.util.find_spec("resource") is not None
    return Finding(
        name="scorers", state="ok" if has_limits else "warn", text=text if has_limits else "no memory limits"
    )


def _validator() -> Finding:
    path = os.environ.get("GRADUS_VALIDATE")
    if not path:
        return Finding(name="VAL", state="note", text="GRADUS_VALIDATE is not set; own validator, no cross-check")
    is_there = os.access(path, os.X_OK)
    text = path if is_there else f"GRADUS_VALIDATE={path} is not a program"
    return Finding(name="VAL", state="ok" if is_there else "warn", text=text)


def _verl() -> Finding:
    """verl lives in an environment of its own, which another one than ours may be."""
    from gradus.train.backends.verl_place import need_verl
    from gradus.train.backends.verl_settings import VERSION

    try:
        return Finding(name="backend verl", state="ok", text=f"verl {VERSION} in {need_verl()}")
    except ValueError as error:
        return Finding(name="backend verl", state="note", text=str(error))


def _tracker(name: str) -> Finding:
    version = _version(name)
    text = f"{name} {version}" if version else "not installed; metrics.jsonl and the report need no tracker"
    return Finding(name=name, state="ok" if version else "note", text=text)
