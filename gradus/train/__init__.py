"""How a policy learns. The package itself can be called: ``gradus.train(config)`` is `verbs.train`."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Train(ModuleType):
    """This module, callable: importing a part of it sets ``gradus.train`` to it, so a function there would not last."""

    def __call__(self, *args: Any, **options: Any) -> dict[str, Any]:
        from gradus.verbs import train

        return train(*args, **options)


sys.modules[__name__].__class__ = _Train
