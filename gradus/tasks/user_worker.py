"""What runs in the worker of a user's own reward function: imports it, calls it, and passes its number on."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any


def score(request: Mapping[str, Any]) -> dict[str, Any]:
    """Calls ``MODULE:FUNCTION`` with the other entries of the request as keywords. A number is a reward, None abstains."""
    arguments = dict(request)
    reward = _function(arguments.pop("function"))(**arguments)
    if reward is not None and (isinstance(reward, bool) or not isinstance(reward, (int, float))):
        raise TypeError(f"a reward is a number or None, not {type(reward).__name__}")
    return {"reward": None if reward is None else float(reward)}


@lru_cache
def _function(address: str) -> Any:
    module, _, name = address.partition(":")
    return getattr(importlib.import_module(module), name)
