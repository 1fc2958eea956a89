"""The charts of a report: curves with bands, histograms, forest plots, bubbles. Own code: a page needs no library.

Every chart has a title and a description for readers who do not see it, and no meaning by colour alone: series differ
in dash and fill too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from gradus.report.svg import (
    BOTTOM,
    HEIGHT,
    TOP,
    WIDTH,
    Frame,
    Point,
    Show,
    as_percent,
    compact,
    coordinate,
    el,
    path,
    picture,
    x_axis,
    y_axis,
)  # fmt: skip

_MAX_LABEL = 20
_OUTSIDE = 0.01
"""Share of the raw points on either side that may lie outside the frame: one spike cannot flatten a curve."""
QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart with its words.

    Example:
        Figure(id="loss", title="Loss", svg=svg, reading="Not a measure of progress.", latest="0.004 (last 20)")
    """

    id: str
    title: str
    svg: Markup
    unit: str = ""
    legend: Sequence[str] = ()
    """Names of the series, in the order of their styles; empty for one."""
    reading: str = ""
    """How to read it."""
    latest: str = ""
    """The newest value."""
    cursor: dict[str, Any] = field(default_factory=dict)
    """What the page shows under the pointer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What one curve shows.

    Example:
        Series(name="reward", dots=[(1, 0.2), (2, 0.4)], line=[(1, 0.2), (2, 0.3)])
    """

    name: str
    dots: Sequence[Point] = ()
    """Raw values."""
    line: Sequence[Point] = ()
    """Running mean, or the values themselves."""
    band: Sequence[tuple[float, float, float]] = ()
    """(x, low, high)."""
    has_markers: bool = False
    """Whether the line's points are circles: few, each a measurement with an interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """Events on the axis of steps.

    Example:
        Marks(resumes=[120], alerts=[(40, "H-09 truncation")], not_finite=[77])
    """

    resumes: Sequence[int] = ()
    alerts: Sequence[tuple[int, str]] = ()
    not_finite: Sequence[int] = ()


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    description: str,
    show: Show = compact,
    marks: Marks = Marks(),
    limits: tuple[float, float] | None = None,
    is_log_x: bool = False,
) -> Markup:
    """Curves over steps, or over k: raw values as dots, means as lines, intervals as bands.

    Args:
        limits: the values that are possible, for shares (0, 1); the axis never goes beyond them.
        is_log_x: for pass@k; the axis has powers of two.
    """
    frame = _frame(series, limits, is_log_x)
    body = [y_axis(frame, show), _places(frame, series), *_events(frame, marks)]
    for number, one in enumerate(series, start=1):
        body += _curve(frame, one, number, show)
    body.append(el("line", x1=0, x2=0, y1=TOP, y2=HEIGHT - BOTTOM, class_="cursor"))
    return picture(body, title=title, description=description, frame=frame)


def _curve(frame: Frame, one: Series, number: int, show: Show) -> list[Markup]:
    drawn = []
    if one.band:
        edge = [(x, high) for x, _, high in one.band] + [(x, low) for x, low, _ in reversed(one.band)]
        drawn.append(el("path", d=path(frame, edge) + "Z", class_=f"band b{number}"))
    if one.dots:
        dots = "".join(f"M{coordinate(frame.x(x))} {coordinate(frame.y(y))}h0" for x, y in one.dots)
        drawn.append(el("path", d=dots, class_=f"dots s{number}"))
    if len(one.line) > 1:
        drawn.append(el("path", d=path(frame, one.line), class_=f"line s{number}"))
    if one.has_markers or len(one.line) == 1:
        for x, y in one.line:
            label = el("title", f"{compact(x)}: {show(y)}")
            drawn.append(el("circle", label, cx=frame.x(x), cy=frame.y(y), r=3.2, class_=f"marker s{number}"))
    return drawn


def _events(frame: Frame, marks: Marks) -> list[Markup]:
    bottom, drawn = HEIGHT - BOTTOM, []
    for step in marks.resumes:
        drawn.append(el("line", x1=frame.x(step), x2=frame.x(step), y1=TOP, y2=bottom, class_="resume"))
    for step in marks.not_finite:
        cross = f"M{coordinate(frame.x(step) - 4)} {TOP}l8 8m0-8l-8 8"
        drawn.append(el("path", el("title", f"not finite at step {step}"), d=cross, class_="not-finite"))
    for step, text in marks.alerts:
        triangle = f"M{coordinate(frame.x(step) - 4)} {bottom}h8l-4-7z"
        drawn.append(el("path", el("title", text), d=triangle, class_="alert"))
    return drawn


def _frame(series: Sequence[Series], limits: tuple[float, float] | None, is_log_x: bool) -> Frame:
    xs = [x for one in series for x, _ in (*one.dots, *one.line)] or [0.0, 1.0]
    ys = [y for one in series for _, y in one.line] + [end for one in series for _, *ends in one.band for end in ends]
    for one in series:
        raw = sorted(y for _, y in one.dots)
        if raw:
            cut = int(_OUTSIDE * len(raw))
            ys += [raw[cut], raw[-1 - cut]]
    low, high = (min(ys), max(ys)) if ys else (0.0, 1.0)
    if low == high == 0:
        high = 0.1
    elif high - low <= 1e-9 * abs(high):
        low, high = low - 0.1 * abs(high), high + 0.1 * abs(high)
    else:
        low, high = low - 0.06 * (high - low), high + 0.06 * (high - low)
    if limits is not None:
        low, high = max(low, limits[0]), min(high, limits[1])
    return Frame(min(xs), max(xs), low, high, is_log_x=is_log_x)


def _places(frame: Frame, series: Sequence[Series]) -> Markup:
    if not frame.is_log_x:
        return x_axis(frame, compact)
    ks = sorted({x for one in series for x, _ in one.line})
    named = el("text", "k =", x=frame.left - 8, y=frame.height - BOTTOM + 14, class_="axis end")
    return x_axis(frame, compact, [k for k in ks if math.log2(k).is_integer() or k == ks[-1]]) + named


def histogram(
    groups: Sequence[tuple[str, Sequence[int]]],
    edges: Sequence[float],
    *,
    title: str,
    description: str,
    show: Show = compact,
    places: Sequence[float] | None = None,
) -> Markup:
    """Counts of one or two groups over the same bins; of two the first is hatched, the second filled.

    Args:
        edges: of the bins, ascending; one more than there are counts.
        places: labels of the axis; None: round numbers.
    """
    top = max((count for _, counts in groups for count in counts), default=0) or 1
    frame = Frame(edges[0], edges[-1], 0, top * 1.05)
    body = [y_axis(frame, compact), x_axis(frame, show, places)]
    for number, (name, counts) in enumerate(groups):
        for left, right, count in zip(edges, edges[1:], counts, strict=False):
            if count:
                width = (frame.x(right) - frame.x(left)) / len(groups)
                x, y = frame.x(left) + number * width, frame.y(count)
                label = el("title", f"{name}: {count} in {show(left)} to {show(right)}")
                size = {"width": max(0.8, width - 1.2), "height": HEIGHT - BOTTOM - y}
                body.append(el("rect", label, x=x + 0.6, y=y, **size, class_=f"bar bar{number + 3 - len(groups)}"))
    return picture(body, title=title, description=description, frame=frame)


def forest(
    rows: Sequence[tuple[str, float, float, float, bool]], *, title: str, description: str, show: Show
) -> Markup:
    """Differences with their intervals, one row each: (label, value, low, high, is_small); small ones are pale."""
    height = 20.0 * len(rows) + TOP + BOTTOM
    ends = [0.0, *(end for _, _, low, high, _ in rows for end in (low, high))]
    pad = 0.05 * (max(ends) - min(ends) or 1.0)
    left = 24 + 6.5 * min(_MAX_LABEL, max((len(label) for label, *_ in rows), default=0))
    frame = Frame(min(ends) - pad, max(ends) + pad, 0, 1, WIDTH, height, left=left)
    body = [x_axis(frame, show), el("line", x1=frame.x(0), x2=frame.x(0), y1=TOP, y2=height - BOTTOM, class_="zero")]
    for place, (label, value, low, high, is_small) in enumerate(rows):
        y, style = TOP + 20.0 * place + 10, "faint" if is_small else "full"
        name = label if len(label) <= _MAX_LABEL else label[: _MAX_LABEL - 1] + "…"
        body.append(el("text", el("title", label), name, x=left - 8, y=y + 4, class_="label end"))
        body.append(el("line", x1=frame.x(low), x2=frame.x(high), y1=y, y2=y, class_=f"interval {style}"))
        words = el("title", f"{show(value)} [{show(low)}, {show(high)}]")
        body.append(el("rect", words, x=frame.x(value) - 4, y=y - 4, width=8, height=8, class_=f"estimate {style}"))
    return picture(body, title=title, description=description, frame=frame)


def bubbles(
    counts: Sequence[tuple[float, float, int]], *, title: str, description: str, x_name: str, y_name: str
) -> Markup:
    """Problems by their share before (x) and after (y); the area of a bubble is their number."""
    side = 300.0
    frame = Frame(-0.06, 1.06, -0.06, 1.06, side, side)
    largest = max((count for _, _, count in counts), default=1)
    biggest = min(16.0, 5 * math.sqrt(largest))
    body = [y_axis(frame, as_percent, QUARTERS), x_axis(frame, as_percent, QUARTERS)]
    body.append(el("line", x1=frame.x(0), y1=frame.y(0), x2=frame.x(1), y2=frame.y(1), class_="diagonal"))
    for x, y, count in counts:
        moved = "up" if y > x else "down" if y < x else "same"
        label = el("title", f"{count} problems: {as_percent(x)} → {as_percent(y)}")
        radius = max(2.0, biggest * math.sqrt(count / largest))
        body.append(el("circle", label, cx=frame.x(x), cy=frame.y(y), r=radius, class_=f"bubble {moved}"))
    body.append(el("text", f"{x_name} →", x=side, y=side - 1, class_="axis end"))
    body.append(el("text", f"{y_name} ↑", x=0, y=TOP, class_="axis"))
    return picture(body, title=title, description=description, frame=frame)


def interval_strip(value: float, low: float | None, high: float | None, *, title: str) -> Markup:
    """A tiny picture for a table cell: the interval of a difference beside the zero line, scaled to itself."""
    scale = max(abs(end) for end in (value, low or 0.0, high or 0.0)) or 1.0

    def x(at: float) -> float:
        return 55.0 + 50.0 * at / scale

    body = [el("title", title), el("line", x1=55, x2=55, y1=2, y2=18, class_="zero")]
    is_clear = False
    if low is not None and high is not None:
        is_clear = low > 0 or high < 0
        body.append(el("line", x1=x(low), x2=x(high), y1=10, y2=10, class_="interval full"))
    body.append(el("circle", cx=x(value), cy=10, r=3.5, class_="estimate clear" if is_clear else "estimate unclear"))
    return el("svg", *body, viewBox="0 0 110 20", class_="strip", role="img")
