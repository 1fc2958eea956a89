"""Parsed domains and problems, kept by content: a file that comes back in every step is read once."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from gradus.tasks.planning.limits import PddlError
from gradus.tasks.planning.pddl import Domain, Problem

T = TypeVar("T")


class ContentCache(Generic[T]):
    """The most recently used results of a function, failures included. Safe to share between threads.

    Example:
        domains = ContentCache(64)
        domains.get(text, lambda: Domain.parse(text))
    """

    def __init__(self, max_entries: int) -> None:
        self.max_entries = max_entries
        self._entries: OrderedDict[Hashable, T | PddlError] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The result for ``key``; makes it where it is new. A PddlError is kept and raised again."""
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
        if found is None:
            try:
                found = make()
            except PddlError as error:
                found = error
            with self._lock:
                found = self._entries.setdefault(key, found)
                while len(self._entries) > self.max_entries:
                    self._entries.popitem(last=False)
        if isinstance(found, PddlError):
            raise copy.copy(found)  # one object raised in two threads would share its traceback
        return found

    def resize(self, max_entries: int) -> None:
        """Changes the size; the oldest entries go."""
        with self._lock:
            self.max_entries = max_entries
            while len(self._entries) > max_entries:
                self._entries.popitem(last=False)


DOMAINS: ContentCache[Domain] = ContentCache(64)
PROBLEMS: ContentCache[Problem] = ContentCache(4096)


def load_domain(text: str | bytes) -> Domain:
    """`Domain.parse`, cached by content. Raises PddlError."""
    return DOMAINS.get(text, lambda: Domain.parse(text))


def load_problem(domain_text: str | bytes, problem_text: str | bytes) -> Problem:
    """`Problem.parse` against the domain, cached by content. Raises PddlError.

    Example:
        problem = load_problem(domain_text, problem_text)
    """
    return PROBLEMS.get((domain_text, problem_text), lambda: Problem.parse(problem_text, load_domain(domain_text)))
