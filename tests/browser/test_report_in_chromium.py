"""The report in a real browser, without network: it filters, sorts, pages, and no text in it does anything.

Covers I-12.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradus.report import html, write_report
from gradus.report.directory import RunFacts
from gradus.report.page import Page
from tests.browser.chromium import Chromium, find
from tests.report.hostile import PAYLOADS
from tests.report.made_run import make_run

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find() is None, reason="no Chromium is installed (Debian: apt-get install chromium)"),
]


@pytest.fixture
def browser() -> Iterator[Chromium]:
    browser = Chromium(find() or "")
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    path = make_run(tmp_path_factory.mktemp("runs") / "made")
    (path / "report.html").write_text(html.render(Page.of(RunFacts.of(path), max_rollouts=2000)))
    return path / "report.html"


@pytest.fixture(scope="module")
def recorded(report) -> list[dict]:
    return RunFacts.of(report.parent).rollouts.rows


def choose(browser: Chromium, **values: object) -> int:
    """Clears the form, fills it in, and returns the number of rows it leaves."""
    browser.run("document.getElementById('filters').reset()")
    for name, value in values.items():
        field = f"document.getElementById('filters').elements[{json.dumps(name)}]"
        browser.run(f"{field}.value = {json.dumps(str(value))}")
    browser.run("document.getElementById('filters').dispatchEvent(new Event('input'))")
    return int(browser.run("document.getElementById('count').textContent").split()[0])


def test_loads_offline_without_a_word(browser, report):
    browser.open(report.as_uri())
    assert browser.problems == [] and browser.requests == [report.as_uri()]
    assert browser.run("document.getElementById('without-script').hidden")
    assert browser.run("getComputedStyle(document.getElementById('filters')).display") == "flex"


def test_filters(browser, report, recorded):
    browser.open(report.as_uri())
    cases = [
        ({}, lambda row: True),
        ({"first": 20, "last": 40}, lambda row: 20 <= row["step"] <= 40),
        ({"domain": "n4"}, lambda row: row["domain"] == "n4"),
        ({"outcome": "right"}, lambda row: row["correct"]),
        ({"outcome": "wrong", "last": 50}, lambda row: not row["correct"] and row["step"] <= 50),
        ({"low": 0.05, "high": 0.5}, lambda row: 0.05 <= row["reward"] <= 0.5),
        ({"text": "25 * 2"}, lambda row: "25 * 2" in row["completion"]),
        ({"text": "no such text"}, lambda row: False),
    ]
    for values, keeps in cases:
        assert choose(browser, **values) == sum(map(keeps, recorded)), values
    assert browser.problems == []


def test_sorts_and_pages(browser, report, recorded):
    browser.open(report.as_uri())
    choose(browser, order="num_tokens")
    shown = "[...document.querySelectorAll('.rollout')].map(box => box.id)"
    longest = max(recorded, key=lambda row: row["num_tokens"])
    first = browser.run(shown)[0]
    assert recorded_by_id(recorded)[first]["num_tokens"] == longest["num_tokens"]
    choose(browser)
    seen = browser.run(shown)
    assert len(seen) == 25 and browser.run("document.getElementById('previous').disabled")
    while not browser.run("document.getElementById('next').disabled"):
        browser.run("document.getElementById('next').click()")
        seen += browser.run(shown)
    assert seen == [f"r-{row['step']}-{row['index']}" for row in recorded]


def recorded_by_id(recorded: list[dict]) -> dict[str, dict]:
    return {f"r-{row['step']}-{row['index']}": row for row in recorded}


def test_link_to_one_rollout(browser, report):
    browser.open(report.as_uri() + "#r-100-3")
    browser.run("new Promise(done => setTimeout(done, 50))")
    assert browser.run("document.querySelector('.rollout.target').id") == "r-100-3"
    browser.run("location.hash = '#r-20-1'")
    browser.run("new Promise(done => setTimeout(done, 50))")
    assert browser.run("[...document.querySelectorAll('.target')].map(box => box.id)") == ["r-20-1"]


def test_pointer_reads_a_curve(browser, report):
    browser.open(report.as_uri())
    browser.run("""{
        const chart = document.querySelector('[data-figure=pass_at_1] svg.chart'), box = chart.getBoundingClientRect();
        chart.dispatchEvent(new PointerEvent('pointermove', {clientX: box.right - 5, clientY: box.top + 20}));
    }""")
    text = browser.run("document.querySelector('[data-figure=pass_at_1] [data-readout]').textContent")
    assert text.startswith("120: training 6") and "held out: validation 5" in text and browser.problems == []


def test_light_and_dark(browser, report):
    browser.open(report.as_uri())
    color = "getComputedStyle(document.body).backgroundColor"
    found = set()
    for scheme in ("light", "dark"):
        browser.media(prefers_color_scheme=scheme)
        found.add(browser.run(color))
    assert len(found) == 2


def test_no_section_is_wider_than_a_phone(browser, report):
    browser.open(report.as_uri())
    browser._call("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True)
    assert browser.run("document.documentElement.scrollWidth") <= 390


def test_without_script_the_first_thirty_are_there(browser, report):
    browser.without_script()
    browser.open(report.as_uri())
    assert browser.run("document.querySelectorAll('#without-script details').length") == 30
    assert browser.run("document.getElementById('filters').hidden")


def test_hostile_text_stays_text(browser, tmp_path):
    size = {"num_steps": 10, "eval_every": 5, "num_problems": 6, "rollouts_every": 5}
    everything = "".join(PAYLOADS)
    address = write_report(make_run(tmp_path / "made", **size, text=lambda plain: everything + plain)).as_uri()
    browser.open(address)
    assert browser.run("window.pwned === undefined") and browser.problems == [] and browser.requests == [address]
    assert browser.run("document.querySelectorAll('img, iframe, object, embed, link, base, math').length") == 0
    assert browser.run("document.querySelectorAll('script').length") == 3
    assert choose(browser, text="<img src=x onerror=window.pwned=1>") == 24
    browser.run("document.querySelectorAll('details').forEach(box => { box.open = true; })")
    text = browser.run("document.querySelector('.completion').textContent")
    assert text.startswith("<script>window.pwned=1</script>") and "\\u202e" in text
    assert browser.run("window.pwned === undefined") and browser.problems == []
