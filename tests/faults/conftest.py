"""A kill loses nothing that was written, forced to the disk or not; the thousands of saves here need not wait for it.
What is forced when is tested by itself."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
