"""How hard a problem is, and which of three buckets that puts it in: easy, medium, hard.

Planning instances say their sizes in their file names; a formula makes a score of them. Buckets are cut per domain at
two percentiles of its scores, with linear interpolation between neighbours as `numpy.percentile` does.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from typing import Any, Literal

Bucket = Literal["easy", "medium", "hard"]
BUCKETS: tuple[Bucket, ...] = ("easy", "medium", "hard")
Formula = Literal["additive", "product"]
QUANTILES = (0.4, 0.8)

_log = logging.getLogger("gradus.data.curriculum")

_FIELDS: dict[str, tuple[tuple[str, str], ...]] = {
    "blocksworld": (("n", "_n"),),
    "ferry": (("l", "-l"), ("c", "-c")),
    "grippers": (("n", "-n"), ("r", "-r"), ("o", "-o")),
    "spanner": (("s", "-s"), ("n", "-n"), ("l", "-l")),
    "delivery": (("s", "-s"), ("p", "-p")),
}
"""Size and the prefix of its digits, in the order in which a name has them."""
_OTHER = (("n", "-n"), ("r", "-r"), ("o", "-o"))
_REQUIRED_OF_OTHERS = {"n"}
_WEIGHTS: dict[str, dict[str, float]] = {
    "blocksworld": {"n": 5},
    "ferry": {"l": 5, "c": 3},
    "grippers": {"n": 5, "r": 3, "o": 2},
    "spanner": {"n": 5, "l": 3, "s": 2},
    "delivery": {"s": 5, "p": 3},
}
_OTHER_WEIGHTS = {"n": 5, "r": 3, "o": 2}


def parse_name(domain: str, name: str) -> dict[str, int] | None:
    """Sizes from a file name, None where a required one is missing. Only the part behind the last slash is read; case
    does not matter; the random seed, the extension and any suffix may be there or not.

    Example:
        parse_name("ferry", "data/ferry-l4-c2-s122320450.pddl")  # {"l": 4, "c": 2}
    """
    base = re.split(r"[/\\]", name)[-1]
    is_known = domain in _FIELDS
    found: dict[str, int] = {}
    position = 0
    for size, prefix in _FIELDS.get(domain, _OTHER):
        pattern = re.compile(re.escape(prefix) + "([0-9]{1,9})(?![0-9a-z])", re.ASCII | re.IGNORECASE)
        match = pattern.search(base, position)
        if match is not None:
            found[size] = int(match[1])
            position = match.end()
        elif is_known or size in _REQUIRED_OF_OTHERS:
            return None
        else:
            found[size] = 0
    return found


def score_of(domain: str, sizes: dict[str, Any], formula: Formula = "additive") -> float:
    """The score of an instance with these sizes. ValueError for an unknown formula."""
    _check(formula)
    if formula == "additive":
        weights = _WEIGHTS.get(domain, _OTHER_WEIGHTS)
        return float(sum(weight * sizes.get(size, 0) for size, weight in weights.items()))
    if domain not in _WEIGHTS:
        return float(sizes["n"])
    return float(sizes["n"] ** 2 if domain == "blocksworld" else math.prod(sizes[size] for size in _WEIGHTS[domain]))


def _check(formula: str) -> None:
    if formula not in ("additive", "product"):
        raise ValueError(f"formula={formula!r} is not known; use 'additive' or 'product'")


def unreadable_score(formula: Formula = "additive") -> float:
    """The score of a name that says nothing. ValueError for an unknown formula."""
    _check(formula)
    return 0.0 if formula == "additive" else 1.0


def difficulty(domain: str, name: str, formula: Formula = "additive") -> float:
    """The score of a file name. One that cannot be read scores 0 (``product``: 1), with a warning.

    Example:
        difficulty("grippers", "grippers-n1-r4-o3-s299249445")  # 23.0
    """
    sizes = parse_name(domain, name)
    if sizes is not None:
        return score_of(domain, sizes, formula)
    score = unreadable_score(formula)
    _log.warning("no sizes in the file name %r of domain %s; its score is %g", name, domain, score)
    return score


def quantile(values: Sequence[float], share: float) -> float:
    """Percentile with linear interpolation between the two nearest ranks; the arithmetic is numpy's, to the bit."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * share
    below = math.floor(place)
    a, b = ordered[below], ordered[min(below + 1, len(ordered) - 1)]
    part = place - below
    return b - (b - a) * (1 - part) if part >= 0.5 else a + (b - a) * part


def bucket_edges(scores: Sequence[float], quantiles: tuple[float, float] = QUANTILES) -> tuple[float, float]:
    """The two scores that cut a domain into buckets. ValueError where there are no scores.

    Example:
        bucket_edges([1, 2])  # (1.4, 1.8)
    """
    if not scores:
        raise ValueError("there are no scores to cut into buckets; load at least one problem")
    return quantile(scores, quantiles[0]), quantile(scores, quantiles[1])


def assign_bucket(score: float, p40: float, p80: float) -> Bucket:
    """``easy`` up to the first edge, ``hard`` above the second."""
    return "easy" if score <= p40 else "medium" if score <= p80 else "hard"


def rank_buckets(keys: Sequence[Any], quantiles: tuple[float, float] = QUANTILES) -> list[Bucket]:
    """Buckets by rank of ``keys``, ties broken by the keys themselves: with three keys or more none is empty."""
    count = len(keys)
    num_easy = max(1, round(quantiles[0] * count))
    num_hard = min(max(1, count - round(quantiles[1] * count)), count - num_easy)
    buckets: list[Bucket] = ["medium"] * count
    for rank, index in enumerate(sorted(range(count), key=lambda index: keys[index])):
        if rank < num_easy:
            buckets[index] = "easy"
        elif rank >= count - num_hard:
            buckets[index] = "hard"
    return buckets
