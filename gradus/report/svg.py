"""Inline SVG: elements with escaped text, a frame that places values, axes with round numbers.

Colours and strokes are classes of the page's style sheet (light, dark, print).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from gradus.console import escape as visible
from gradus.evaluation.wording import with_minus

WIDTH, HEIGHT = 400, 200
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 10, 26
"""Margins of the frame; labels stand in them."""

Point = tuple[float, float]
Show = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Frame:
    """Where values lie in the picture."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    is_log_x: bool = False

    def x(self, value: float) -> float:
        """Horizontal place."""
        place = math.log2 if self.is_log_x else float
        span = place(self.x_high) - place(self.x_low)
        share = (place(value) - place(self.x_low)) / span if span else 0.5
        return self.left + share * (self.width - self.left - RIGHT)

    def y(self, value: float) -> float:
        """Vertical place, inside the frame whatever the value."""
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return self.height - BOTTOM - min(1.0, max(0.0, share)) * (self.height - TOP - BOTTOM)


def compact(value: float) -> str:
    """An axis label: at most four characters of digits; thousands as k and millions as M."""
    for limit, size, unit in ((1e6, 1e6, "M"), (1e4, 1e3, "k"), (1e3, 1, "")):
        if abs(value) >= limit:
            return with_minus(f"{value / size:.4g}") + unit
    if value == 0 or abs(value) >= 1e-3:
        return with_minus(f"{value:.3g}")
    mantissa, exponent = f"{value:.2e}".split("e")
    return with_minus(f"{float(mantissa):g}e{int(exponent)}")


def as_percent(share: float) -> str:
    """An axis label for a share."""
    return with_minus(f"{100 * share:.3g}") + " %"


def picture(body: Sequence[Markup], *, title: str, description: str, frame: Frame) -> Markup:
    """The SVG element around a chart; ``data-box`` tells the page's script where values lie."""
    box = (
        coordinate(frame.left),
        coordinate(frame.width - RIGHT),
        repr(frame.x_low),
        repr(frame.x_high),
        frame.is_log_x,
    )
    size = f"0 0 {coordinate(frame.width)} {coordinate(frame.height)}"
    head = (el("title", title), el("desc", description))
    return el(
        "svg",
        *head,
        *body,
        viewBox=size,
        class_="chart",
        role="img",
        data_box=" ".join(map(str, (*box[:4], int(box[4])))),
    )


def el(tag: str, *children: Any, **attributes: Any) -> Markup:
    """An element; text and attribute values are escaped, and freed of characters that hide or reorder text.
    ``class_`` is written class, ``data_box`` data-box."""
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{coordinate(value) if isinstance(value, float) else _safe(value)}"'
        for name, value in attributes.items()
    )
    return Markup(f"<{tag}{written}>{''.join(map(_safe, children))}</{tag}>")


def _safe(value: Any) -> str:
    return str(value) if isinstance(value, Markup) else str(escape(visible(str(value))))


def y_axis(frame: Frame, show: Show, places: Sequence[float] | None = None) -> Markup:
    """Horizontal lines with their values, at round numbers or at ``places``."""
    marks = []
    for value in round_numbers(frame.y_low, frame.y_high, 5) if places is None else places:
        y = frame.y(value)
        marks.append(el("line", x1=frame.left, x2=frame.width - RIGHT, y1=y, y2=y, class_="grid"))
        marks.append(el("text", show(value), x=frame.left - 6, y=y + 3.5, class_="axis end"))
    return Markup("").join(marks)


def x_axis(frame: Frame, show: Show, places: Sequence[float] | None = None) -> Markup:
    """The base line with its values, at round numbers or at ``places``."""
    base = frame.height - BOTTOM
    marks = [el("line", x1=frame.left, x2=frame.width - RIGHT, y1=base, y2=base, class_="base")]
    for value in round_numbers(frame.x_low, frame.x_high, 6) if places is None else places:
        x = frame.x(value)
        marks.append(el("line", x1=x, x2=x, y1=base, y2=base + 3, class_="base"))
        marks.append(el("text", show(value), x=x, y=base + 14, class_="axis middle"))
    return Markup("").join(marks)


def round_numbers(low: float, high: float, count: int) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten between ``low`` and ``high``, about ``count`` of them."""
    if high <= low:
        return [low]
    wanted = (high - low) / count
    size = 10.0 ** math.floor(math.log10(wanted))
    step = next(factor * size for factor in (1, 2, 2.5, 5, 10) if factor * size >= wanted * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{place * step:.12g}") for place in range(first, last + 1)]


def path(frame: Frame, points: Sequence[Point]) -> str:
    """Path data of a line through ``points``."""
    return "M" + "L".join(f"{coordinate(frame.x(x))} {coordinate(frame.y(y))}" for x, y in points)


def coordinate(value: float) -> str:
    """A place in the picture, to a tenth."""
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text
