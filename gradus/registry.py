"""One Registry class; three instances: tasks, engines, backends. A wrong name answers with the right ones."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Registry(Generic[T]):
    """Names to objects. An entry may be the object or ``"module:attribute"``, imported when first asked for.

    Example:
        tasks = Registry("task", {"countdown": "gradus.tasks.countdown:Countdown"})
        tasks["countdwon"]  # ValueError: task 'countdwon' does not exist; did you mean 'countdown'? ...
    """

    def __init__(self, kind: str, entries: dict[str, str | T] | None = None) -> None:
        self.kind = kind
        self._entries: dict[str, str | T] = dict(entries or {})

    def add(self, name: str, entry: str | T) -> None:
        """Registers ``entry``; a name that is taken is an error."""
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} exists already; choose another name")
        self._entries[name] = entry

    def discard(self, name: str) -> None:
        """Forgets a name; one that is not there is no error."""
        self._entries.pop(name, None)

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            near = difflib.get_close_matches(name, self._entries, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(
                f"{self.kind} {name!r} does not exist; {hint}There are: {', '.join(sorted(self._entries))}"
            )
        entry = self._entries[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            entry = getattr(importlib.import_module(module), attribute)
            self._entries[name] = entry
        return entry  # type: ignore[return-value]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))
