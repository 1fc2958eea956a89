"""What can be wrong with the data of economic decisions. All are ValueErrors: something that was given does not fit."""

from __future__ import annotations


class SnapshotError(ValueError):
    """A stored economy cannot be read: another schema, a wrong hash, a missing array."""


class DataError(ValueError):
    """A row cannot be scored: no value table, an unusable one, or another data source."""


class LeakageError(ValueError):
    """What is kept apart for validation or test would be seen in training."""
