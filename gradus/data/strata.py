"""How the problems of a run are sorted before any is drawn: by domain, by bucket, into pools."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, Protocol

from gradus.data.pool import Pool
from gradus.data.schedule import DEFAULT, Phase, PhaseLike, read_schedule
from gradus.difficulty import Bucket, assign_bucket, bucket_edges, rank_buckets
from gradus.types import Problem

Balance = Literal["exact", "carry", "none"]
PoolName = tuple[str, Bucket | None]
"""(domain or "", bucket or None)."""

_log = logging.getLogger("gradus.data.curriculum")


class ItemLike(Protocol):
    """What can be sampled. ``bucket``, where present and not None, overrides the score's bucket."""

    @property
    def domain(self) -> str: ...
    @property
    def score(self) -> float: ...
    @property
    def key(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Item:
    """A problem as the sampler sees it.

    Example:
        Item(domain="ferry", score=26.0, key="ferry-l4-c2-s122320450")
    """

    domain: str
    score: float
    key: str
    bucket: Bucket | None = None
    tie: float = 0.0
    """Orders equal scores where buckets are cut by rank."""


def view_of(item: Any) -> Item:
    """What the sampler needs of a problem or an item."""
    if isinstance(item, Item):
        return item
    if isinstance(item, Problem):
        bucket, length = item.meta.get("bucket"), item.meta.get("reference_length")
        return Item(item.domain, item.difficulty, item.id, bucket, float(length or 0))
    return Item(item.domain, item.score, item.key, getattr(item, "bucket", None), float(getattr(item, "tie", 0.0)))


def read_schedules(
    schedule: Sequence[PhaseLike] | Mapping[str, Sequence[PhaseLike]] | None, domains: Sequence[str], balance: Balance
) -> dict[str, tuple[Phase, ...]]:
    """Domain to phases; empty for no schedule."""
    if schedule is None:
        return {}
    if isinstance(schedule, Mapping):
        if unknown := set(schedule) - set(domains):
            raise ValueError(f"a schedule for {min(unknown)!r}, which is not loaded; domains: {', '.join(domains)}")
        if balance == "none":
            raise ValueError("schedules by domain need balanced domains; use balance='exact' or 'carry'")
        return {domain: read_schedule(schedule.get(domain, DEFAULT)) for domain in domains}
    return dict.fromkeys(domains, read_schedule(schedule))


def read_shares(lanes: Sequence[str], weights: Mapping[str, float] | None, balance: str) -> dict[str, Fraction]:
    if not weights:
        return dict.fromkeys(lanes, Fraction(1, len(lanes)))
    if balance != "carry":
        raise ValueError(f"domain_weights need balance='carry', not {balance!r}")
    if set(weights) != set(lanes) or any(weight < 0 for weight in weights.values()) or not any(weights.values()):
        raise ValueError(f"domain_weights={dict(weights)} must give each of {', '.join(lanes)} a weight from 0 up")
    total = sum(Fraction(str(weight)) for weight in weights.values())
    return {lane: Fraction(str(weights[lane])) / total for lane in lanes}


def cut_into_buckets(
    views: Sequence[Item],
    kind: str,
    quantiles: tuple[float, float],
    edges: Mapping[str, tuple[float, float]] | None,
) -> list[Bucket]:
    """The bucket of every item, cut per domain."""
    by_domain: dict[str, list[int]] = {}
    for index, view in enumerate(views):
        by_domain.setdefault(view.domain, []).append(index)
    found: list[Bucket] = ["easy"] * len(views)
    for domain, indexes in by_domain.items():
        cut: list[Bucket]
        if kind == "rank":
            cut = rank_buckets([(views[i].score, views[i].tie, views[i].key) for i in indexes], quantiles)
        else:
            bounds = bucket_edges([views[i].score for i in indexes], quantiles)
            if kind == "fixed":
                if edges is None or domain not in edges:
                    raise ValueError(f"buckets='fixed' without edges for domain {domain!r}; give its two scores")
                bounds = edges[domain]
            cut = [assign_bucket(views[i].score, *bounds) for i in indexes]
        for index, bucket in zip(indexes, cut, strict=True):
            found[index] = views[index].bucket or bucket
    return found


def check_batch(
    batch_size: int, accumulation: int, domains: Sequence[str], balance: Balance, num_processes: int
) -> None:
    """Refuses a batch size that does not fit the domains or the processes, and says which would."""
    if batch_size < 1 or accumulation < 1:
        raise ValueError(f"batch_size={batch_size} and accumulation={accumulation} must be at least 1")
    if batch_size % num_processes:
        raise ValueError(f"batch_size={batch_size} does not divide over {num_processes} processes; use a multiple")
    count = len(domains)
    if balance == "exact" and batch_size % count:
        below, above = batch_size // count * count, -(-batch_size // count) * count
        raise ValueError(
            f"batch_size={batch_size} is not a multiple of the {count} domains ({', '.join(domains)}); use "
            f"{f'{below} or {above}' if below else above}, choose fewer domains (--domains a,b,c), or let the rest "
            f"carry over (--balance carry; in a recipe curriculum.balance_domains=carry)"
        )


def warn_of_small_domains(views: Sequence[Item], places: int) -> None:
    """Says which domains have fewer problems than places in a step."""
    for domain, count in Counter(view.domain for view in views).items():
        if count < places:
            _log.warning("domain %s has %d problems for %d places: some repeat in a step", domain, count, places)


def index_by_key(views: Sequence[Item]) -> dict[tuple[str, str], int]:
    """(domain, key) to index. ValueError for a key that a domain has twice."""
    found: dict[tuple[str, str], int] = {}
    for index, view in enumerate(views):
        if found.setdefault((view.domain, view.key), index) != index:
            raise ValueError(f"key {view.key!r} is there twice in domain {view.domain!r}; keys must be unique")
    return found


def make_pools(
    views: Sequence[Item], buckets: Sequence[Bucket], seed: int, *, by_domain: bool, by_bucket: bool
) -> dict[PoolName, Pool]:
    """One pool per domain and bucket that has problems. Their order inside it does not depend on the order of the
    list, but for the one pool of a plain run, whose epochs are shuffles of the list as it is."""
    order: Iterable[int] = range(len(views))
    if by_domain or by_bucket:
        order = sorted(order, key=lambda index: (views[index].domain, views[index].key))
    members: dict[PoolName, list[int]] = {}
    for index in order:
        name = (views[index].domain if by_domain else "", buckets[index] if by_bucket else None)
        members.setdefault(name, []).append(index)
    return {
        name: Pool(members[name], seed, *(part for part in name if part))
        for name in sorted(members, key=lambda name: (name[0], name[1] or ""))
    }


STATE_VERSION = 1
_STATE_KEYS = ("next_step", "settings", "pools", "credit", "progress", "window", "num_drawn")


class Strata:
    """The problems of a run with their buckets.

    Example:
        Strata(views, cut_into_buckets(views, "percentile", QUANTILES, None)).counts["ferry"]["easy"]  # 10
    """

    def __init__(self, views: Sequence[Item], buckets: Sequence[Bucket]) -> None:
        self.views = views
        self.buckets = buckets
        self.index_of = index_by_key(views)
        """(domain, key) to index."""
        self.by_key: dict[str, Bucket] = {view.key: bucket for view, bucket in zip(views, buckets, strict=True)}
        self.counts: dict[str, Counter[Bucket]] = {domain: Counter() for domain in sorted({v.domain for v in views})}
        """Problems by domain and bucket."""
        self.edges: dict[str, tuple[float, float]] = dict.fromkeys(self.counts, (-math.inf, -math.inf))
        """Highest score of the easy, and of the easy and medium problems of each domain, as they were cut."""
        digest = hashlib.sha256()
        for view, bucket in zip(views, buckets, strict=True):
            self.counts[view.domain][bucket] += 1
            easy, medium = self.edges[view.domain]
            if bucket == "easy":
                self.edges[view.domain] = max(easy, view.score), max(medium, view.score)
            elif bucket == "medium":
                self.edges[view.domain] = easy, max(medium, view.score)
            digest.update(f"{view.domain}\0{view.key}\0{bucket}\n".encode())
        self.fingerprint = digest.hexdigest()
        """Changes with any key, bucket or place in the list."""

    def bucket_of(self, item: ItemLike | Problem) -> Bucket | None:
        """The bucket of any item, one of another split too: by the edges of its domain; None for other domains."""
        view = view_of(item)
        if (index := self.index_of.get((view.domain, view.key))) is not None:
            return self.buckets[index]
        return view.bucket or (
            assign_bucket(view.score, *self.edges[view.domain]) if view.domain in self.edges else None
        )


def check_state(state: Any, settings: Mapping[str, Any]) -> None:
    """Refuses a sampler's state that is of another version, truncated, or of a run with other settings or problems.
    ValueError names what differs."""
    if not isinstance(state, Mapping) or state.get("version") != STATE_VERSION:
        found = state.get("version") if isinstance(state, Mapping) else type(state).__name__
        raise ValueError(f"curriculum state of version {found!r}; this program reads version {STATE_VERSION}")
    if missing := [key for key in _STATE_KEYS if key not in state]:
        raise ValueError(f"curriculum state lacks {missing[0]!r}; it is truncated: use another checkpoint")
    for key, mine in settings.items():
        theirs = state["settings"].get(key)
        if theirs != mine:
            what = "another list of problems" if key == "items" else f"{key}={theirs!r}, not {mine!r}"
            raise ValueError(f"curriculum state of {what}; start a new run or restore the old setting")
