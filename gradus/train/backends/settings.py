"""The other trainers by name: what each is told, what it cannot honour, whether it can train here."""

from __future__ import annotations

from typing import Any

from gradus.config import Config
from gradus.recipe import Resolved
from gradus.train.backends import trl_settings, verl_check, verl_compose, verl_place, verl_ray, verl_settings
from gradus.train.backends.verl_told import Finding

_OF_A_RUN = ("output_dir", "use_cpu")
"""Settings that are known only where a run is."""


def check(resolved: Resolved, backend: str | None = None) -> None:
    """ValueError with everything that ``backend`` (None: the config's own) cannot honour; nothing for the native one."""
    name = backend or resolved.config.backend.name
    if name == "trl":
        trl_settings.check(resolved)
    elif name == "verl":
        verl_check.check(resolved)


def need(config: Config) -> None:
    """ValueError where the config's backend cannot train here: it is not installed, or not in its tested release, does not
    know a key of ``backend.extra``, or no Ray answers at the address that was given."""
    backend = config.backend
    if backend.name == "trl":
        trl_settings.need_trl()
        trl_settings.need_place(backend.extra)
    elif backend.name == "verl":
        python = verl_place.need_verl()
        if backend.ray_address is not None:
            verl_ray.check_answers(python, backend.ray_address)
        verl_compose.refuse_unknown(python, backend.extra)


def told(config: Config, backend: str) -> dict[str, Any]:
    """What ``backend`` is told, by its own names, as far as it is known without a run."""
    if backend == "verl":
        return verl_settings.settings_of(config)
    settings = trl_settings.arguments(config)
    return {key: value for key, value in settings.items() if key not in _OF_A_RUN}


def differences(config: Config, backend: str) -> list[str]:
    """What is not as in a native run, one line each."""
    return (verl_check if backend == "verl" else trl_settings).differences(config)


def found(config: Config, backend: str) -> list[Finding]:
    """What the linter of ``backend`` says of what it is told; only verl has one."""
    return verl_check.findings(config) if backend == "verl" else []
