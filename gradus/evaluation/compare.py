"""Base against trained, paired by problem: did training change anything, and how sure is that?

One primary metric gives the verdict; every other number is exploratory. The verdict needs both a test with p < 0.05 and
an interval on one side of 0. Nothing here knows how the rows were made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gradus.evaluation import cases, lines, markdown
from gradus.evaluation.evaluate import FAILED
from gradus.evaluation.pairs import Line, Pair, mismatches
from gradus.evaluation.table import Row, Table
from gradus.evaluation.wording import change, number, p_value, percent, three_decimals

SCHEMA = "gradus.comparison/1"
Verdict = Literal["Better", "Worse", "Not shown"]
PrimaryMetric = Literal["pass_at_1", "mean_accuracy"]

_TABLES = ("summary", "pass_at_k", "maj_at_k", "slices", "parts")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What changed from base to trained. ``to_json`` and ``to_markdown`` hold the same facts.

    Example:
        compare(base_rows, trained_rows).sentence  # "Better: Pass@1 56.0 % → 78.0 % (+22.0 pp, 95 % CI ..."
    """

    verdict: Verdict
    sentence: str
    primary: Line
    num_problems: int
    samples_per_problem: int
    summary: Sequence[Line]
    counts: Mapping[str, int]
    """Problems by what became of them: ``fixed`` and ``broken`` (``improved`` and ``worsened`` for K > 1),
    ``both_right``, ``both_wrong``, and for K > 1 ``unchanged`` between the two."""
    gained: Sequence[Mapping[str, Any]]
    lost: Sequence[Mapping[str, Any]]
    pass_at_k: Sequence[Line]
    maj_at_k: Sequence[Line]
    """Empty for a task whose answers are not voted on."""
    base_overtakes_at: int | None
    """Smallest k at which base is ahead although trained leads at k = 1."""
    slices: Sequence[Line]
    parts: Sequence[Line]
    solve_rates: Mapping[str, Any]
    samples: Sequence[Mapping[str, Any]]
    mismatches: Sequence[str]
    """Non-empty only where the caller allowed it: the two evaluations are not the same experiment."""
    warnings: Sequence[str]
    settings: Mapping[str, Any]
    regression: Comparison | None = None
    """The same two models on problems that were not trained for; decides nothing here."""

    @property
    def moved(self) -> str:
        """What became of the problems, in a sentence."""
        words = {"both_right": "right in both", "both_wrong": "wrong in both", "unchanged": "right as often as before"}
        return ", ".join(f"{count} {words.get(word, word)}" for word, count in self.counts.items()) + "."

    def to_json(self) -> dict[str, Any]:
        """Returns strict JSON: no NaN; a missing value is null with a reason beside it."""
        tables = {name: [line.to_json() for line in getattr(self, name)] for name in _TABLES}
        other = self.regression.to_json() if self.regression else None
        return {"schema": SCHEMA, **vars(self), **tables, "primary": self.primary.to_json(), "regression": other}

    def to_markdown(self) -> str:
        """Returns a Markdown page; text of models and data sets is escaped."""
        return markdown.page(self)


def compare(
    base_rows: Sequence[Row],
    trained_rows: Sequence[Row],
    *,
    metric: PrimaryMetric = "pass_at_1",
    base_settings: Mapping[str, Any] | None = None,
    trained_settings: Mapping[str, Any] | None = None,
    allow_mismatch: bool = False,
) -> Comparison:
    """Compares two evaluations of the same problems.

    Args:
        base_rows: rows of the model before training, as of ``evaluate.rows``; any order.
        trained_rows: rows after training.
        metric: the primary metric; it alone decides the verdict.
        base_settings: ``settings`` of the base summary (temperature, hashes, ...).
        trained_settings: the same of the trained one.
        allow_mismatch: compare the common problems under a banner although problems, prompts or settings differ.

    Raises:
        ValueError: the evaluations differ in anything but the model (all differences are listed), share no problem, or
            ``metric`` is unknown.
    """
    if metric not in ("pass_at_1", "mean_accuracy"):
        raise ValueError(f"metric={metric!r} cannot decide a verdict; use pass_at_1 or mean_accuracy")
    whole = Pair(Table.of(base_rows), Table.of(trained_rows))
    differences = mismatches(whole, base_settings or {}, trained_settings or {})
    if differences and not allow_mismatch:
        raise ValueError(
            f"the evaluations cannot be compared: {'; '.join(differences)}. Evaluate both in the same way, "
            "or compare anyway under a banner with allow_mismatch=True (--allow-mismatch)"
        )
    common = set(whole.base.problem_ids) & set(whole.trained.problem_ids)
    if not common:
        raise ValueError("the evaluations have no problem in common; evaluate both models on the same problems")
    pair = Pair(*(table.only(lambda row: str(row["problem_id"]) in common) for table in whole.tables))
    return _compare(pair, metric, differences, {"base": base_settings, "trained": trained_settings})


def _compare(pair: Pair, metric: PrimaryMetric, differences: list[str], settings: Mapping[str, Any]) -> Comparison:
    summary = lines.summary(pair)
    primary = next(line for line in summary if line.key == metric)
    verdict, counts, passes = _verdict(primary), cases.counts(pair), lines.passes(pair)
    gained, lost = cases.changes(pair)
    return Comparison(
        verdict=verdict,
        sentence=_sentence(verdict, primary, pair, counts),
        primary=primary,
        num_problems=pair.base.num_problems,
        samples_per_problem=pair.trained.num_samples,
        summary=summary,
        counts=counts,
        gained=gained,
        lost=lost,
        pass_at_k=passes,
        maj_at_k=lines.majorities(pair),
        base_overtakes_at=lines.base_overtakes_at(passes),
        slices=lines.slices(pair),
        parts=lines.parts(pair),
        solve_rates=cases.solve_rates(pair),
        samples=cases.samples(pair, gained, lost),
        mismatches=differences,
        warnings=_warnings(pair, primary),
        settings=settings,
    )


def _verdict(line: Line) -> Verdict:
    low, high = line.difference.low, line.difference.high
    if line.p is None or line.p >= 0.05 or low is None or high is None:
        return "Not shown"
    return "Better" if low > 0 else "Worse" if high < 0 else "Not shown"


def _sentence(verdict: Verdict, line: Line, pair: Pair, counts: Mapping[str, int]) -> str:
    """For example: Better: Pass@1 56.0 % → 78.0 % (+22.0 pp, 95 % CI +11.6 to +32.4, paired p = 1.1e-4, N = 100, K = 1:
    27 fixed, 5 broken); smallest detectable here 14.7 pp."""
    show = percent if line.unit == "share" else three_decimals
    tests = [f"paired p = {p_value(line.p)}"] if line.p is not None else []
    moved = ", ".join(f"{counts[word]} {word}" for word in cases.words(pair))
    size = f"N = {pair.base.num_problems}, K = {pair.trained.num_samples}: {moved}"
    detectable = line.extra["detectable_difference"]
    ending = ""
    if detectable is not None:
        ending = (
            f"; smallest detectable here {f'{100 * detectable:.1f} pp' if line.unit == 'share' else show(detectable)}"
        )
    return (
        f"{verdict}: {line.name} {show(line.base.value)} → {show(line.trained.value)} "
        f"({change(line.difference, line.unit, *tests, size)}){ending}."
    )


def _warnings(pair: Pair, primary: Line) -> list[str]:
    count, clusters, d = pair.base.num_problems, pair.clusters, primary.difference
    warnings = ["This compares one checkpoint with its base, not a training recipe: one seed."]
    if count < 50:
        warnings.append(f"{count} problems: below 50 the intervals of shares near 0 or 1 are too narrow.")
    if clusters is not None and len(set(clusters)) < 10:
        warnings.append(f"{len(set(clusters))} clusters: below 10 the clustered standard error is too small.")
    if d.se and d.se_clustered and d.se_clustered > 1.2 * d.se:
        ratio = number(d.se_clustered / d.se, digits=3)
        warnings.append(
            f"Problems share clusters: the clustered standard error is used; it is {ratio} times the plain one."
        )
    for name, table in zip(("base", "trained"), pair.tables, strict=True):
        partial = table.map(lambda row: not row["correct"] and (row["reward"] or 0) > 0).mean()
        failed = table.map(lambda row: row.get("status") in FAILED).mean()
        if partial > 0:
            held = f"{percent(partial)} of the completions are wrong and rewarded"
            warnings.append(f"Mean accuracy of {name} holds partial credit: {held}.")
        if failed > 0:
            warnings.append(f"Scoring failed for {percent(failed)} of the completions of {name}; they count as wrong.")
    return warnings
