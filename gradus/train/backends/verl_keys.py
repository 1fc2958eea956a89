"""Which settings a release of verl knows, and a recipe's settings in the words of an older one.

The names are in `verl_keys.txt`, made from verl's own configuration by `docs/make_verl_keys.py`; verl need not be here.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from gradus.config import Config
from gradus.train.backends.verl_settings import ON_CPU, VERSION, A, settings_of
from gradus.train.backends.verl_told import release_of

FILE = Path(__file__).with_name("verl_keys.txt")
OLDEST = (0, 6)
"""Before it the names of `verl_keys.txt` do not reach."""
_REWARD = "reward.custom_reward_function."
DROPPED: tuple[tuple[str, tuple[int, int], str], ...] = (
    (f"{A}.rollout.seed", (0, 9), "the sampler has no seed"),
    (f"{A}.actor.data_loader_seed", (0, 7), "mini-batches are cut by a seed of verl's own"),
    (f"{A}.actor.calculate_entropy", (0, 7), "entropy is computed with a bonus for it only"),
    (f"{A}.actor.loss_scale_factor", (0, 7), "its rows are padded to data.max_response_length, and it divides by that"),
)
"""(a setting of ours, first release that knows it, what holds before)."""


@cache
def known(release: tuple[int, int]) -> frozenset[str] | None:
    """Names of the settings and groups of settings of a release; None where they are not known here.

    Example:
        "reward.reward_manager.name" in known((0, 9))
    """
    name = f"{release[0]}.{release[1]}"
    lines = [line.split() for line in FILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return frozenset(key for key, *releases in lines if name in releases) or None


def nearest(key: str, release: tuple[int, int]) -> str | None:
    """The name that was probably meant: the one most like it, or the only one that ends so."""
    names = known(release) or frozenset()
    ends = sorted(name for name in names if name.endswith(f".{key.rpartition('.')[2]}"))
    close = difflib.get_close_matches(key, sorted(names), n=1, cutoff=0.85)
    return close[0] if close else ends[0] if len(ends) == 1 else None


def own_run(config: Config, version: str | None = None) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """(settings, environment, what cannot be told) of a verl run that the user starts, with a release of verl (None: the
    tested one). ValueError as `in_release`, and for an older release on a CPU.

    Example:
        settings, environment, lacking = own_run(config, "0.8")
    """
    release, is_cpu = release_of(version or VERSION), config.model.device == "cpu"
    if is_cpu and release != release_of(VERSION):
        raise ValueError(f"model.device=cpu needs verl {VERSION}; leave --for {version} out, or set model.device=auto")
    settings, lacking = in_release(settings_of(config), release)
    return settings, dict(ON_CPU) if is_cpu else {}, lacking


def in_release(settings: Mapping[str, Any], release: tuple[int, int]) -> tuple[dict[str, Any], list[str]]:
    """(settings as ``release`` calls them, what it cannot be told, one line each). ValueError for a release
    before 0.6, and for a loss that it does not have.

    Example:
        told, lines = in_release(settings_of(config), (0, 8))
    """
    if release < OLDEST:
        raise ValueError(
            f"a recipe cannot be written for verl {release[0]}.{release[1]}; give a release from 0.6 on, or use the reward "
            "function and the data alone (docs/verl.md)"
        )
    mode = f"{A}.actor.policy_loss.loss_mode"
    if release < (0, 7) and settings.get(mode) == "cispo":
        raise ValueError(
            "algorithm.name=cispo has no loss in verl before 0.7; use a later release, or algorithm.name=grpo"
        )
    found, lines = dict(settings), []
    for key, since, instead in DROPPED:
        if release < since and key in found:
            del found[key]
            lines.append(f"{key} is not known before verl {since[0]}.{since[1]}: {instead}")
    if release < (0, 7):
        found = {key.replace(_REWARD, _REWARD.removeprefix("reward.")): value for key, value in found.items()}
    return found, lines
