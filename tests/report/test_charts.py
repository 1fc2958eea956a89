"""Charts: well-formed, described, inside their frame, nothing that text could change."""

from xml.etree import ElementTree

import pytest

from gradus.report.charts import Marks, Series, bubbles, forest, histogram, interval_strip, line_chart
from gradus.report.svg import Frame, as_percent, compact

WORDS = {"title": 'a <b> & "c"', "description": "d </svg>"}


def chart(*series, **options):
    return line_chart(series, **WORDS, **options)


PICTURES = {
    "line": chart(Series(name="a", dots=[(1, 2), (2, 9), (3, 4)], line=[(1, 2), (3, 4)], band=[(1, 1, 3), (3, 3, 5)])),
    "one point": chart(Series(name="a", line=[(5, 0.5)])),
    "no point": chart(Series(name="a")),
    "flat": chart(Series(name="a", line=[(1, 0.3), (2, 0.1 + 0.2)])),
    "huge": chart(Series(name="a", line=[(1, -1e299), (2, 1e299)])),
    "marks": chart(
        Series(name="a", line=[(1, 0), (9, 1)]),
        marks=Marks(resumes=[3], alerts=[(4, "<i>")], not_finite=[5]),
        limits=(0, 1),
    ),
    "log": chart(Series(name="a", line=[(1, 0.1), (2, 0.2), (4, 0.3)]), is_log_x=True),
    "histogram": histogram([("a", [1, 0]), ("b", [2, 3])], [0, 1, 2], **WORDS),
    "empty histogram": histogram([("a", [0])], [0, 1], **WORDS),
    "forest": forest([("<x>" * 20, 0.1, -0.1, 0.3, True), ("y", 0, 0, 0, False)], **WORDS, show=as_percent),
    "bubbles": bubbles([(0, 1, 3), (1, 0.5, 900)], **WORDS, x_name="x", y_name="y"),
    "strip": interval_strip(0.1, -0.1, 0.3, title="t<"),
    "strip without interval": interval_strip(0.0, None, None, title="t"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_well_formed_and_described(name):
    root = ElementTree.fromstring(PICTURES[name])
    assert root.tag == "svg" and root.get("role") == "img" and root.find("title").text
    assert "nan" not in str(PICTURES[name]) and "inf" not in str(PICTURES[name]).replace("interval", "")


def test_a_spike_does_not_flatten_the_curve():
    points = [(step, 1.0 + step % 2) for step in range(300)]
    points[150] = (150, 1e6)
    labels = [text.text for text in ElementTree.fromstring(chart(Series(name="a", dots=points))).findall("text")]
    assert "1.5" in labels and not any(label.endswith(("k", "M")) for label in labels)


def test_values_stay_inside_the_frame():
    frame = Frame(0, 10, 0, 1)
    assert frame.y(5) == frame.y(1) and frame.y(-5) == frame.y(0)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-0.0, "0"),
        (0.25, "0.25"),
        (-3, "−3"),
        (5200, "5200"),
        (12_000, "12k"),
        (3.2e6, "3.2M"),
        (1e-6, "1e-6"),
    ],
)
def test_axis_labels(value, text):
    assert compact(value) == text


def test_percent_labels():
    assert as_percent(0.5) == "50 %" and as_percent(-0.025) == "−2.5 %"
