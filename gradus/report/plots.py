"""Two pictures for those who want files: `training_metrics.png` and `metrics_distribution.png`, 1600 x 1200.

matplotlib is imported here alone, with the Agg backend and without pyplot's global state; the files carry no software
tag, so that the same run gives the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradus.evaluation.table import Table
from gradus.report.metrics import Metrics
from gradus.report.results import Evaluated, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _BLUE, _ORANGE = "#1b1d21", "#1f5fa8", "#c1571a"
_DPI = 160


def training_metrics(metrics: Metrics, results: Results) -> bytes:
    """Completion length, reward, loss and Pass@1 over the steps, as PNG."""
    figure, axes = _grid()
    panels = (
        ("completions/mean_length", "Completion length (tokens)"),
        ("reward", "Reward"),
        ("loss", "Loss"),
        ("rollout/solve_rate", "Pass@1"),
    )
    for place, (name, title) in zip(axes, panels, strict=True):
        _curve(place, metrics, name, title)
    for number, (set_name, steps) in enumerate(results.evaluated.items()):
        _held_out(axes[3], set_name, steps, "os^D"[number % 4])
    if axes[3].has_data():
        axes[3].legend(frameon=False, fontsize=8)
        axes[3].set_ylim(-0.02, 1.02)
    return _png(figure)


def metrics_distribution(metrics: Metrics, results: Results) -> bytes:
    """Histograms of length, reward, loss and solve rate as PNG: base beside trained where there is an evaluation."""
    figure, axes = _grid()
    found = (("base", results.base), ("trained", results.trained))
    tables = [(name, table) for name, table in found if table is not None]
    lengths = _of(tables, "num_tokens") or _steps(metrics, "completions/mean_length")
    rates = [(name, table.solve_rates_P.tolist()) for name, table in tables]
    _histogram(axes[0], "Completion length (tokens)", lengths)
    _histogram(axes[1], "Reward", _of(tables, "reward") or _steps(metrics, "reward"))
    _histogram(axes[2], "Loss", _steps(metrics, "loss"))
    title = "Solve rate per problem" if rates else "Solve rate per step"
    _histogram(axes[3], title, rates or _steps(metrics, "rollout/solve_rate"))
    return _png(figure)


def _grid() -> tuple[Figure, list[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1600 / _DPI, 1200 / _DPI), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2).ravel().tolist()
    for place in axes:
        place.spines[["top", "right"]].set_visible(False)
        place.tick_params(labelsize=8, colors=_INK)
        place.grid(axis="y", color="#e6e6e2", linewidth=0.7)
        place.set_axisbelow(True)
    return figure, axes


def _curve(place: Axes, metrics: Metrics, name: str, title: str) -> None:
    place.set_title(title, loc="left", fontsize=10)
    place.set_xlabel("step", fontsize=8)
    points = [
        (step, value) for step, value in zip(metrics.steps, metrics.column(name), strict=True) if value is not None
    ]
    means = [
        (step, value) for step, value in zip(metrics.steps, metrics.smooth(name), strict=True) if value is not None
    ]
    if not points:
        place.text(0.5, 0.5, "not recorded", ha="center", transform=place.transAxes, color="#888888")
        return
    place.plot(*zip(*points, strict=True), ".", color=_BLUE, alpha=0.25, markersize=3)
    place.plot(*zip(*means, strict=True), color=_BLUE, linewidth=1.6, label=f"training, mean of {metrics.width(name)}")
    for step in metrics.not_finite.get(name, ()):
        place.axvline(step, color="#b3261e", linewidth=0.8, linestyle=":")


def _held_out(place: Axes, set_name: str, steps: Sequence[Evaluated], marker: str) -> None:
    known = [(one.step, one.pass_at_1) for one in steps]
    points = [(s, e.value, e.low, e.high) for s, e in known if None not in (e.value, e.low, e.high)]
    if not points:
        return
    at, values, lows, highs = (np.array(column, float) for column in zip(*points, strict=True))
    errors = np.maximum(0.0, [values - lows, highs - values])
    label = f"held out: {_plain(set_name)}"
    style = {"color": _ORANGE, "capsize": 3, "markersize": 5, "linewidth": 1.2}
    place.errorbar(at, values, yerr=errors, fmt=f"{marker}-", label=label, **style)


def _histogram(place: Axes, title: str, groups: Sequence[tuple[str, list[float]]]) -> None:
    place.set_title(title, loc="left", fontsize=10)
    groups = [(name, values) for name, values in groups if values]
    if not groups:
        place.text(0.5, 0.5, "not recorded", ha="center", transform=place.transAxes, color="#888888")
        return
    names = [name for name, _ in groups]
    place.hist([values for _, values in groups], bins=20, color=[_ORANGE, _BLUE][-len(groups) :], label=names)
    if len(groups) == 2:  # the base is hatched: told apart without colour
        for bar in place.patches[: len(place.patches) // 2]:
            bar.set(hatch="////", facecolor="white", edgecolor=_ORANGE, linewidth=0.6)
    place.set_ylabel("count", fontsize=8)
    place.legend(frameon=False, fontsize=8)


def _of(tables: Sequence[tuple[str, Table]], key: str) -> list[tuple[str, list[float]]]:
    return [(name, table.array(key).ravel().tolist()) for name, table in tables]


def _steps(metrics: Metrics, name: str) -> list[tuple[str, list[float]]]:
    return [("steps", metrics.values(name))]


def _plain(text: str) -> str:
    """Text that matplotlib does not read as a formula."""
    return text.replace("$", r"\$")


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()
