"""The difficulty table of a data folder: scores, buckets, and what is odd, by domain, before anything is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gradus.difficulty import (
    BUCKETS,
    Bucket,
    Formula,
    assign_bucket,
    bucket_edges,
    parse_name,
    quantile,
    score_of,
    unreadable_score,
)
from gradus.jsonl import read_json, read_jsonl
from gradus.tasks.planning.cache import load_problem
from gradus.tasks.planning.folder import Row, read_pddl, read_rows, search_places
from gradus.tasks.planning.measure import Source, measure
from gradus.tasks.planning.pddl import Problem

STAND_INS: tuple[Bucket, ...] = ("medium", "easy", "hard")
"""Where a place goes whose bucket is empty, as in the sampler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainTable:
    """The scores of one domain.

    Example:
        table_of("ferry", [(26.0, True), (31.0, True)]).buckets  # {"easy": 1, "medium": 0, "hard": 1}
    """

    domain: str
    num_samples: int
    minimum: float
    maximum: float
    mean: float
    median: float
    p40: float
    p80: float
    buckets: dict[Bucket, int]
    num_unreadable: int = 0
    """File names that say no sizes; they count as easy."""
    unreadable: tuple[str, ...] = ()
    """The first three of them."""
    num_disagreeing: int = 0
    """Rows whose file name says other sizes than their PDDL has."""
    num_solved: int = 0
    """Problems whose goal holds at the start."""
    num_unchecked: int = 0
    """Rows whose PDDL could not be read, so that neither is known."""

    def to_json(self) -> dict[str, Any]:
        """All numbers."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The table as people read it."""
        easy, medium, hard = (self.buckets[bucket] for bucket in BUCKETS)

        def share(count: int) -> str:
            return f"{count:>3} samples ({count / self.num_samples:.1%})"

        lines = [
            f"Domain: {self.domain}",
            f"  Samples analyzed: {self.num_samples}",
            "  Difficulty Score Statistics:",
            f"    Min:    {self.minimum:.1f}",
            f"    Max:    {self.maximum:.1f}",
            f"    Mean:   {self.mean:.1f}",
            f"    Median: {self.median:.1f}",
            "  Percentiles (for bucketing):",
            f"    40th (p40): {self.p40:.1f}",
            f"    80th (p80): {self.p80:.1f}",
            "  Bucket Distribution:",
            f"    Easy   (≤{self.p40:.1f}):   {share(easy)}",
            f"    Medium ({self.p40:.1f}-{self.p80:.1f}):  {share(medium)}",
            f"    Hard   (>{self.p80:.1f}):   {share(hard)}",
        ]
        if self.num_unreadable:
            names = ", ".join(map(repr, self.unreadable))
            lines.append(f"  File names without sizes: {self.num_unreadable} ({names}); they count as easy")
        for bucket in BUCKETS:
            if not self.buckets[bucket]:
                other = next(name for name in STAND_INS if self.buckets[name])
                lines.append(f"  No {bucket} problems: a curriculum draws {other} ones instead")
        if self.num_disagreeing:
            lines.append(f"  File name and PDDL disagree about the sizes: {self.num_disagreeing}")
        if self.num_solved:
            lines.append(f"  Goal holds at the start: {self.num_solved}")
        if self.num_unchecked:
            lines.append(f"  PDDL not found or not readable: {self.num_unchecked}")
        return lines


def table_of(domain: str, scored: Sequence[tuple[float, bool]], **oddities: Any) -> DomainTable:
    """The table of (score, whether the name was readable) pairs."""
    scores = [score for score, _ in scored]
    p40, p80 = bucket_edges(scores)
    counts: Counter[Bucket] = Counter(
        assign_bucket(score, p40, p80) if is_readable else "easy" for score, is_readable in scored
    )
    return DomainTable(
        domain=domain,
        num_samples=len(scores),
        minimum=min(scores),
        maximum=max(scores),
        mean=sum(scores) / len(scores),
        median=quantile(scores, 0.5),
        p40=p40,
        p80=p80,
        buckets={bucket: counts[bucket] for bucket in BUCKETS},
        **oddities,
    )


def difficulty_tables(
    data_root: Path | str,
    *,
    domains: Sequence[str] | None = None,
    pddl_root: Path | str | None = None,
    formula: Formula = "additive",
    source: Source = "name",
    allow_bad_rows: bool = False,
) -> tuple[list[DomainTable], tuple[str, ...]]:
    """One table per domain of a data folder, and what was noticed in its files.

    The folder has one file per domain, or is what `gradus prepare planning` wrote: then its training problems are shown.
    Raises ValueError where there are no data, and, with a ``source`` that needs it, where PDDL is missing.
    """
    root = Path(data_root)
    if (root / "manifest.json").is_file():
        return _prepared_tables(root, domains, formula, source)
    if root.is_dir() and not any(root.glob("*.jsonl")) and any((root / "train").glob("*.jsonl")):
        root = root / "train"
    found = read_rows(root, domains, allow_bad_rows=allow_bad_rows)
    by_domain: dict[str, list[Row]] = {}
    for row in found.rows:
        by_domain.setdefault(row.domain, []).append(row)
    places, texts = search_places(data_root, pddl_root), {}
    tables = [
        _table(domain, rows, [_problem(row, places, texts, source) for row in rows], formula, source)
        for domain, rows in by_domain.items()
    ]
    return tables, found.notes


def _prepared_tables(
    root: Path, domains: Sequence[str] | None, formula: Formula, source: Source
) -> tuple[list[DomainTable], tuple[str, ...]]:
    """The tables of a prepared folder, whose rows hold their PDDL."""
    manifest = read_json(root / "manifest.json")
    if (manifest.get("task"), manifest.get("format"), manifest.get("layout")) != ("planning", "jsonl", "gradus"):
        raise ValueError(
            f"{str(root)!r} was not written by `gradus prepare planning` in its own layout as JSONL; write one so, or give "
            "a folder with one JSONL file per domain"
        )
    found: dict[str, list[tuple[Row, Problem]]] = {}
    for number, record in enumerate(read_jsonl(root / "train.jsonl").rows, start=1):
        truth, meta = record["truth"], record["meta"]
        row = Row(
            domain=record["domain"],
            prompt=None,
            meta={"problem_file": meta["name"], "ref_len": truth["reference_length"]},
            place=f"train.jsonl:{number}",
        )
        found.setdefault(row.domain, []).append((row, load_problem(truth["domain"], truth["problem"])))
    if not found:
        raise ValueError(f"{str(root)!r} has no training problems; write them with `gradus prepare planning`")
    if domains is not None and (missing := [name for name in domains if name not in found]):
        raise ValueError(
            f"{root / 'train.jsonl'} has no problem of domain {missing[0]!r}; there are {', '.join(sorted(found))}"
        )
    tables = [
        _table(domain, [row for row, _ in pairs], [problem for _, problem in pairs], formula, source)
        for domain, pairs in found.items()
        if domains is None or domain in domains
    ]
    return tables, ()


def _problem(row: Row, places: Sequence[Path], texts: dict[Path, str], source: Source) -> Problem | None:
    try:
        return read_pddl(row, places, texts)[2]
    except (ValueError, OSError) as error:
        if source != "name":
            raise ValueError(f"{row.place}: {error}; source={source} needs every PDDL file") from None
        return None


def _table(
    domain: str, rows: Sequence[Row], problems: Iterable[Problem | None], formula: Formula, source: Source
) -> DomainTable:
    scored: list[tuple[float, bool]] = []
    unreadable: list[str] = []
    counts: Counter[str] = Counter()
    for row, problem in zip(rows, problems, strict=True):
        sizes = parse_name(domain, row.file_name)
        if sizes is None and source == "name":
            unreadable.append(row.file_name)
        if problem is None:
            counts["unchecked"] += 1
            scored.append((score_of(domain, sizes, formula) if sizes else unreadable_score(formula), sizes is not None))
            continue
        length = row.meta.get("ref_len")
        measured = measure(
            domain, row.file_name, problem, source=source, formula=formula,
            reference_length=length if isinstance(length, int) else None,
        )  # fmt: skip
        scored.append((measured.score, not measured.is_easy_by_rule))
        counts["disagreeing"] += measured.name_disagrees
        world = problem.world
        counts["solved"] += world.num_goals_true(world.start, world.numbers) == len(world.goals)
    return table_of(
        domain,
        scored,
        num_unreadable=len(unreadable),
        unreadable=tuple(unreadable[:3]),
        num_disagreeing=counts["disagreeing"],
        num_solved=counts["solved"],
        num_unchecked=counts["unchecked"],
    )
