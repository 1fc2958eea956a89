"""The distributions of a report: histograms of reward, length and solve rate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradus.evaluation.table import Table
from gradus.report.charts import QUARTERS, Figure, histogram
from gradus.report.metrics import Metrics
from gradus.report.svg import as_percent, compact

_MAX_BINS = 25
_FEW_LEVELS = 12
_MAX_NAMED = 8

Groups = Sequence[tuple[str, np.ndarray]]
"""Name to values; the first is the base."""
_PER_STEP = (
    ("reward", "Reward per step", ""),
    ("completions/mean_length", "Mean length per step", "tokens"),
    ("rollout/solve_rate", "Solve rate per step", "share"),
)


def distributions(base: Table | None, trained: Table | None, metrics: Metrics) -> list[Figure]:
    """Base against trained over held-out completions where there is an evaluation, else one value per step."""
    tables = [(name, table) for name, table in (("base", base), ("trained", trained)) if table is not None]
    if not tables:
        return [
            _figure(name, title, unit, [("steps", np.array(metrics.values(name)))], "Bars count steps.")
            for name, title, unit in _PER_STEP
            if metrics.values(name)
        ]
    counted = ", ".join(f"{t.num_problems * t.num_samples} {name}" for name, t in tables)
    reading = f"Bars count held-out completions: {counted}."
    rewards, lengths = ([(n, t.array(key).ravel()) for n, t in tables] for key in ("reward", "num_tokens"))
    return [
        _figure("rewards", "Reward", "", rewards, reading),
        _figure("lengths", "Completion length", "tokens", lengths, reading),
        _solve_rates(tables),
    ]


def _figure(figure_id: str, title: str, unit: str, groups: Groups, reading: str) -> Figure:
    edges, places = _edges(np.concatenate([values for _, values in groups]))
    counts = [(name, np.histogram(own, edges)[0].tolist()) for name, own in groups]
    words = "; ".join(f"{name}: mean {compact(float(own.mean()))}, {len(own)} values" for name, own in groups)
    show = as_percent if unit == "share" else compact
    svg = histogram(counts, edges.tolist(), title=title, description=f"{title}. {words}.", show=show, places=places)
    names = [name for name, _ in groups]
    return Figure(
        id=figure_id, title=title, unit="" if unit == "share" else unit, svg=svg, legend=names, reading=reading
    )


def _edges(values: np.ndarray) -> tuple[np.ndarray, list[float] | None]:
    """Bin edges and the labels of the axis, None for round numbers. A few levels (rewards of 0, 0.1 and 1) get bins
    around each; very few are named themselves, so that no label stands between two of them."""
    levels = np.unique(values)
    if 1 < len(levels) <= _FEW_LEVELS:
        half = np.diff(levels).min() / 2
        num_bins = round((levels[-1] - levels[0]) / (2 * half)) + 1
        if num_bins <= _MAX_BINS:
            edges = np.linspace(levels[0] - half, levels[-1] + half, num_bins + 1)
            return edges, levels.tolist() if num_bins <= _MAX_NAMED else None
    return np.histogram_bin_edges(values, bins=min(_MAX_BINS, max(5, int(np.sqrt(len(values)))))), None


def _solve_rates(tables: Sequence[tuple[str, Table]]) -> Figure:
    samples = max(table.num_samples for _, table in tables)
    edges = [(count - 0.5) / samples for count in range(samples + 2)]
    counts = [(name, np.histogram(table.solve_rates_P, edges)[0].tolist()) for name, table in tables]
    words = "; ".join(f"{name}: {own[0]} never solved, {own[-1]} always" for name, own in counts)
    title = "Solve rate per problem"
    return Figure(
        id="solve_rates",
        title=title,
        svg=histogram(counts, edges, title=title, description=f"{words}.", show=as_percent, places=QUARTERS),
        legend=[name for name, _ in counts],
        reading=f"Bars count problems, by the share of their {samples} completions that are right. {words}.",
    )
