"""Sizes of generated instances: three levels per domain, named sets of them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gradus.difficulty import BUCKETS, Bucket

Preset = Literal["nano", "default", "user", "large"]
Span = tuple[int, int]
LEVELS: tuple[Bucket, ...] = BUCKETS
LEVEL_ORDER: tuple[Bucket, ...] = ("easy", "medium", "easy", "medium", "hard")
"""Levels of successive instances: 40, 40 and 20 percent, which is how percentile buckets are cut."""


@dataclass(frozen=True, slots=True)
class Sizing:
    """Which sizes a preset draws, by level.

    Example:
        Sizing({"easy": ({"n": 4}, {"n": 5}), ..}, repeats=False)
    """

    levels: Mapping[Bucket, tuple[dict[str, int], ...]]
    repeats: bool
    """Whether the training split may hold instances that are equal up to renaming."""


def _grid(**spans: Span) -> tuple[dict[str, int], ...]:
    """All sizes in a box; more nuts than spanners is no size."""
    ranges = (range(low, high + 1) for low, high in spans.values())
    grid = (dict(zip(spans, values, strict=True)) for values in itertools.product(*ranges))
    return tuple(sizes for sizes in grid if not {"s", "n"} <= set(sizes) or sizes["s"] >= sizes["n"])


def _blocks(*spans: Span) -> tuple[tuple[dict[str, int], ...], ...]:
    return tuple(_grid(n=n) for n in spans)


def _ferry(*spans: tuple[Span, Span]) -> tuple[tuple[dict[str, int], ...], ...]:
    return tuple(_grid(l=locations, c=cars) for locations, cars in spans)


def _grippers(*spans: tuple[Span, Span, Span]) -> tuple[tuple[dict[str, int], ...], ...]:
    return tuple(_grid(n=robots, r=rooms, o=balls) for robots, rooms, balls in spans)


def _spanner(*spans: tuple[Span, Span, Span]) -> tuple[tuple[dict[str, int], ...], ...]:
    return tuple(_grid(s=spanners, n=nuts, l=locations) for spanners, nuts, locations in spans)


def _delivery(*spans: tuple[Span, Span]) -> tuple[tuple[dict[str, int], ...], ...]:
    return tuple(_grid(s=side, p=packages) for side, packages in spans)


_NANO = {
    "blocksworld": _blocks((3, 4), (4, 4), (5, 5)),
    "ferry": _ferry(((3, 5), (2, 3)), ((3, 5), (3, 3)), ((6, 6), (3, 3))),
    "grippers": _grippers(((1, 1), (3, 5), (2, 3)), ((1, 1), (3, 5), (3, 3)), ((1, 1), (6, 6), (3, 3))),
    "spanner": _spanner(((3, 4), (1, 1), (3, 5)), ((4, 5), (2, 2), (3, 5)), ((4, 5), (3, 3), (5, 5))),
    "delivery": _delivery(((3, 4), (1, 1)), ((3, 3), (2, 2)), ((5, 5), (1, 1))),
}
"""Small enough for the embedded policy, large enough that held-out instances exist."""
_DEFAULT = {
    "blocksworld": _blocks((4, 5), (6, 7), (8, 10)),
    "ferry": _ferry(((4, 5), (2, 3)), ((5, 6), (4, 5)), ((6, 8), (6, 8))),
    "grippers": _grippers(((1, 1), (3, 4), (2, 3)), ((1, 2), (4, 5), (4, 5)), ((2, 3), (5, 6), (6, 7))),
    "spanner": _spanner(((3, 4), (2, 3), (4, 6)), ((5, 6), (3, 4), (6, 8)), ((7, 8), (5, 6), (8, 10))),
    "delivery": _delivery(((3, 4), (1, 1)), ((4, 5), (2, 2)), ((5, 6), (3, 4))),
}
_USER = {
    "blocksworld": _blocks((4, 4), (5, 5), (6, 6)),
    "ferry": _ferry(((4, 4), (2, 3)), ((5, 5), (2, 3)), ((6, 6), (2, 3))),
    "grippers": _grippers(((1, 1), (3, 3), (2, 4)), ((1, 1), (4, 4), (2, 4)), ((2, 2), (3, 4), (2, 4))),
    "spanner": _spanner(((3, 3), (2, 2), (4, 4)), ((3, 3), (3, 3), (4, 4)), ((4, 4), (3, 3), (4, 4))),
    "delivery": _delivery(((2, 2), (1, 2)), ((3, 3), (1, 2)), ((4, 4), (1, 2))),
}
"""The sizes of the Safety-gen data."""
_LARGE = {
    "blocksworld": _blocks((11, 12), (13, 14), (15, 17)),
    "ferry": _ferry(((9, 9), (9, 10)), ((10, 10), (10, 11)), ((11, 12), (11, 12))),
    "grippers": _grippers(((3, 3), (7, 7), (8, 9)), ((3, 4), (7, 8), (10, 11)), ((4, 4), (8, 9), (12, 13))),
    "spanner": _spanner(((9, 9), (7, 7), (11, 12)), ((10, 11), (8, 8), (12, 13)), ((12, 13), (9, 10), (13, 15))),
    "delivery": _delivery(((7, 7), (4, 5)), ((8, 8), (5, 6)), ((9, 9), (6, 7))),
}
"""Beyond ``default``: only for tests of what was never trained on."""

_TABLES = {"nano": (_NANO, True), "default": (_DEFAULT, False), "user": (_USER, True), "large": (_LARGE, False)}


def sizing(preset: Preset, domain: str) -> Sizing:
    """The sizes of a domain. ValueError for an unknown preset."""
    if preset not in _TABLES:
        raise ValueError(f"preset={preset!r} is not known; use one of {', '.join(_TABLES)}")
    table, repeats = _TABLES[preset]
    return Sizing(dict(zip(LEVELS, table[domain], strict=True)), repeats)
