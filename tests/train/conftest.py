"""Saving thousands of tiny states need not wait for the disk; what is forced to it when is tested in tests/faults."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def _no_waiting_for_the_disk() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setattr(os, "fsync", lambda descriptor: None)
    yield
    patch.undo()
