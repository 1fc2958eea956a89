"""gradus: post-train language models with GRPO on tasks whose answers a program can check.

Importing this package imports neither torch nor numpy; what a name needs is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gradus.types import Completion, Group, Message, Problem, Score

if TYPE_CHECKING:
    from gradus.probing import probe
    from gradus.tasks.base import load_task
    from gradus.verbs import compare, evaluate, train

__all__ = ["Completion", "Group", "Message", "Problem", "Score", "compare", "evaluate", "load_task", "probe", "train"]
__version__ = "0.1.0"

_HOMES = {
    "load_task": "gradus.tasks.base",
    "probe": "gradus.probing",
    "evaluate": "gradus.verbs",
    "compare": "gradus.verbs",
}


def __getattr__(name: str) -> Any:
    if name == "train":
        return importlib.import_module("gradus.train")  # a package that can be called
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'gradus' has no attribute {name!r}")
