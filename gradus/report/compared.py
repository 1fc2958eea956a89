"""A comparison as the report shows it: table cells with a strip for each difference, pass@k, problems, slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from gradus.evaluation.compare import Comparison
from gradus.evaluation.pairs import Line
from gradus.evaluation.wording import NOTHING, difference, p_value, percent, value
from gradus.report.charts import Figure, Series, bubbles, forest, interval_strip, line_chart
from gradus.report.curves import cursor
from gradus.report.svg import as_percent

Cells = list[Any]

_MAX_MARKERS = 16
_MAX_FOREST = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Slices:
    """Pass@1 of the parts of a problem set.

    Example:
        Slices(title="domain", picture=svg, rows=[["ferry", ...]])
    """

    title: str
    picture: Markup
    rows: list[Cells]


def line_cells(line: Line) -> Cells:
    """Name, base, trained, difference, a strip with its interval, p-value."""
    d = line.difference
    strip = "" if d.value is None else interval_strip(d.value, d.low, d.high, title=difference(line))
    before, after = value(line.base, line.unit), value(line.trained, line.unit)
    return [line.label, before, after, difference(line), strip, p_value(line.p)]


def changes(comparison: Comparison) -> list[tuple[str, list[Cells]]]:
    """The largest gains and losses of single problems."""
    tables = (("Largest gains", comparison.gained), ("Largest losses", comparison.lost))
    return [
        (title, [[e["problem_id"], e["domain"] or NOTHING, percent(e["base"]), percent(e["trained"])] for e in entries])
        for title, entries in tables
        if entries
    ]


def pass_at_k(comparison: Comparison) -> Figure | None:
    """Both models over k; None for one completion per problem."""
    reading = "Share of problems with a right completion among k. Where the curves meet, base could do the same."
    return _over_k("pass_at_k", "Pass@k", comparison.pass_at_k, reading)


def maj_at_k(comparison: Comparison) -> Figure | None:
    """Both models over k; None for one completion per problem, and where answers are not voted on."""
    reading = "Share of problems for which the answer that most of k completions give is right; ties count in part."
    return _over_k("maj_at_k", "Maj@k", comparison.maj_at_k, reading)


def _over_k(key: str, title: str, lines: Sequence[Line], reading: str) -> Figure | None:
    if len(lines) < 2:
        return None
    series = []
    for name in ("trained", "base"):
        points = [(float(line.extra["k"]), getattr(line, name)) for line in lines]
        band = [(k, e.low, e.high) for k, e in points]
        curve = [(k, e.value) for k, e in points]
        series.append(Series(name=name, line=curve, band=band, has_markers=len(points) <= _MAX_MARKERS))
    words = "; ".join(f"k = {n}: {percent(x.base.value)} → {percent(x.trained.value)}" for n, x in enumerate(lines, 1))
    return Figure(
        id=key,
        title=title,
        svg=line_chart(series, title=title, description=words, show=as_percent, limits=(0.0, 1.0), is_log_x=True),
        legend=[one.name for one in series],
        reading=reading,
        cursor=cursor(series, is_share=True),
    )


def shift(comparison: Comparison) -> Markup:
    """Solve rate of each problem before and after."""
    rates = comparison.solve_rates
    before, after = (max(1, len(rates[name]) - 1) for name in ("base", "trained"))
    up, down = list(comparison.counts.values())[:2]
    return bubbles(
        [(b / before, t / after, count) for b, t, count in rates["joint"]],
        title="Solve rate per problem, before and after",
        description=f"{up} problems above the diagonal (gained), {down} below (lost).",
        x_name="base",
        y_name="trained",
    )


def slices(comparison: Comparison) -> list[Slices]:
    """By domain, by bucket and by both, as far as there are at least two of a kind."""
    kinds = dict.fromkeys(line.extra["by"] for line in comparison.slices)
    return [_slices_by(by, [line for line in comparison.slices if line.extra["by"] == by]) for by in kinds]


def _slices_by(by: str, lines: list[Line]) -> Slices:
    title = by.replace("_", " and ")
    intervals = [
        (line.name, d.value, d.low, d.high, bool(line.extra["is_small"]))
        for line in lines
        if (d := line.difference).value is not None and d.low is not None and d.high is not None
    ]
    picture = forest(
        intervals[:_MAX_FOREST],
        title=f"Difference of Pass@1 by {title}",
        description="; ".join(f"{line.name}: {difference(line)}" for line in lines[:_MAX_FOREST]),
        show=as_percent,
    )
    rows = [[*line_cells(line)[:4], p_value(line.extra["p_holm"]), str(line.extra["n"])] for line in lines]
    return Slices(title=title, picture=picture, rows=rows)
