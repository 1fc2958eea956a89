"""Packages that a setting of the model or the optimizer needs; looked for without importing anything."""

from __future__ import annotations

import importlib.util


def need_bitsandbytes(setting: str) -> None:
    """ValueError where ``setting`` asks for a package that is not there."""
    for name in ("bitsandbytes", "accelerate"):
        if importlib.util.find_spec(name) is None:
            raise ValueError(f"{setting} needs the package {name}; install gradus[4bit], or remove the setting")
