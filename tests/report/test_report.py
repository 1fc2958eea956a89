"""A report from a run directory: complete, the same bytes twice, harmless, honest about what is missing.

Covers I-10 (same bytes, what is missing), I-11 (hostile text, nothing from outside), I-13 (R3's files).
"""

import base64
import hashlib
import json
import re
import shutil
import struct
import subprocess
import sys
import time
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gradus.evaluation.probe import Plan, read
from gradus.report import html, write_report
from gradus.report.directory import RunFacts, Setting
from gradus.report.page import Page
from gradus.report.summary import promise
from gradus.rundir import RunDirectory
from tests.evaluation.evaluation_rows import made_rows
from tests.report.hostile import PAYLOADS
from tests.report.made_run import make_run

FILES = ("report.html", "report.json", "training_report.json", "training_metrics.png", "metrics_distribution.png")
SECTIONS = (
    "head",
    "results",
    "curves",
    "distributions",
    "domains",
    "compare",
    "health",
    "rollouts",
    "settings",
    "limits",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "made")


@pytest.fixture(scope="module")
def written(run) -> Path:
    return write_report(run).parent


class Elements(HTMLParser):
    """Every element with the names of its attributes, and every address."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: Counter = Counter()
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements[tag, tuple(sorted(name for name, _ in attrs))] += 1
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "action", "xlink:href")]
        self.ids += [value or "" for name, value in attrs if name == "id"]


def rendered(path: Path) -> str:
    return html.render(Page.of(RunFacts.of(path), max_rollouts=2000))


def test_all_files_are_written(written):
    assert all((written / name).stat().st_size > 500 for name in FILES)
    for name in FILES[3:]:
        data = (written / name).read_bytes()
        assert (
            struct.unpack(">II", data[16:24]) == (1600, 1200) and b"matplotlib" not in data and b"Software" not in data
        )


def test_same_bytes_twice_and_elsewhere(run, written, tmp_path):
    first = {name: (written / name).read_bytes() for name in FILES}
    write_report(run, tmp_path / "out")
    copied = shutil.copytree(run, tmp_path / "elsewhere" / run.name)
    write_report(copied)
    for folder in (tmp_path / "out", copied):
        assert {name: (folder / name).read_bytes() for name in FILES} == first


def test_sections_and_verdict(written):
    page = (written / "report.html").read_text()
    assert set(SECTIONS) <= set(Elements(page).ids)
    assert re.search(r"Better: Pass@1 [\d.]+ % → [\d.]+ % \(\+[\d.]+ pp, 95 % CI", page)
    for words in (
        "resumed 1×, at step 72",
        "one seed",
        "bit for bit",
        "truncation above 20 %",
    ):
        assert words in page
    assert not re.search(r"\b(nan|inf)\b", re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL), re.IGNORECASE)


def test_bits_are_promised_where_they_are_kept(run):
    """verl puts a batch together as completions arrive."""
    facts = RunFacts.of(run)
    assert "bit for bit" in promise(facts)
    facts.settings.append(Setting(leaf="backend.name", value="verl", origin="override"))
    assert "the bits of an unbroken run are not promised" in promise(facts) and "bit for bit" not in promise(facts)


def test_nothing_from_outside(written):
    page = (written / "report.html").read_text()
    found = Elements(page)
    assert all(address.startswith("#") for address in found.addresses)
    assert (
        "http:" not in page
        and "https:" not in page
        and "url(#hatch)" in page
        and page.count("url(") == page.count("url(#hatch)")
    )
    assert not {"img", "link", "iframe", "object", "embed", "base"} & {tag for tag, _ in found.elements}


def test_policy_allows_exactly_the_one_script(written):
    page = (written / "report.html").read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1].replace("&#39;", "'")
    script = re.search(r"<script>(.*?)</script>", page, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    assert len(script.encode()) <= 12_000 and "innerHTML" not in script and "eval" not in script


def test_report_json(written):
    report = json.loads((written / "report.json").read_text(), parse_constant=pytest.fail)
    assert report["schema"] == "gradus.report/1" and report["verdict"] == "Better"
    assert len(report["metrics"]["values"]["reward"]) == len(report["metrics"]["steps"]) == 120
    assert report["metrics"]["not_finite"] == {"grad_norm": [30], "loss": [30]}
    assert report["evaluations"]["validation"][-1]["difference"]["low"] > 0
    assert report["settings"]["optimizer.learning_rate"] == {
        "value": "0.0001",
        "origin": "recipes/countdown_nano.yaml:14",
    }


def test_training_report(written):
    report = json.loads((written / "training_report.json").read_text())
    assert report["total_steps"] == 120 and report["total_seconds"] == pytest.approx(2.1 * (71 + 48))
    assert report["first_tenth_reward"] < report["mean_reward"] < report["last_tenth_reward"] <= report["max_reward"]
    assert report["pass_at_1"]["base"]["value"] < report["pass_at_1"]["last"]["value"]
    assert report["plots"] == {
        "training_metrics": "training_metrics.png",
        "metrics_distribution": "metrics_distribution.png",
    }


SMALL = {"num_steps": 10, "eval_every": 5, "num_problems": 6, "rollouts_every": 5}


@pytest.fixture(scope="module")
def benign_elements(tmp_path_factory) -> Counter:
    path = tmp_path_factory.mktemp("benign") / "made"
    return Elements(rendered(make_run(path, **SMALL, text=lambda plain: "benign " + plain))).elements


@pytest.mark.parametrize("payload", PAYLOADS)
def test_hostile_text_changes_no_element(payload, benign_elements, tmp_path):
    page = rendered(make_run(tmp_path / "made", **SMALL, text=lambda plain: payload + plain))
    page.encode("utf-8")
    assert Elements(page).elements == benign_elements
    carried = json.loads(re.search(r'id="rollout-data">(.*?)</script>', page)[1])
    assert not set(page + json.dumps(carried, ensure_ascii=False)) & set("\u202e\u2066\x1b\x00\x07\ud800")


def test_hostile_text_does_not_stop_the_pictures(tmp_path):
    path = make_run(tmp_path / "made", **SMALL, text=lambda plain: "".join(PAYLOADS) + plain)
    (path / "evaluations" / "validation").rename(path / "evaluations" / "$x_{1}$")
    write_report(path)


BREAKS = {
    "no evaluation": (lambda p: shutil.rmtree(p / "evaluations"), "no held-out evaluation"),
    "only the base": (
        lambda p: [f.unlink() for f in p.glob("evaluations/*/step_*") if "000000" not in f.name],
        "no later step",
    ),
    "no base": (
        lambda p: [f.unlink() for f in p.glob("evaluations/*/step_000000*")],
        "the base model was not evaluated",
    ),
    "no metrics": (lambda p: (p / "metrics.jsonl").unlink(), "no step has been recorded"),
    "torn metrics": (
        lambda p: (p / "metrics.jsonl").open("a").write('{"step": 21, "rew'),
        "metrics.jsonl: 1 line cannot be read",
    ),
    "no rollouts": (lambda p: shutil.rmtree(p / "rollouts"), "no completions were recorded"),
    "no settings": (lambda p: (p / "resolved.yaml").unlink(), "the settings are unknown"),
    "broken settings": (lambda p: (p / "resolved.yaml").write_text("a: [1"), "resolved.yaml cannot be read"),
    "broken status": (lambda p: (p / "run.json").write_text("{"), "run.json cannot be read"),
    "no status": (lambda p: (p / "run.json").unlink(), "run.json: status unknown"),
    "no alerts": (lambda p: (p / "alerts.jsonl").unlink(), "health rules were not evaluated"),
    "broken summary": (
        lambda p: (p / "evaluations/validation/step_000010.json").write_text("[]"),
        "step_000010.json cannot be read",
    ),
    "torn rows": (
        lambda p: (p / "evaluations/validation/step_000010.jsonl").open("a").write("{"),
        "1 line cannot be read",
    ),
    "uneven rows": (
        lambda p: _drop_last_line(p / "evaluations/validation/step_000020.jsonl"),
        "all need the same number",
    ),
    "other rows": (
        lambda p: (p / "evaluations/validation/step_000020.jsonl").write_text('{"a": 1}\n'),
        "row 0 has no problem_id",
    ),
    "other values": (
        lambda p: (p / "metrics.jsonl").write_text('{"step": 1, "reward": [1], "loss": {"a": 1}, "kl": true}\n'),
        "Not recorded",
    ),
    "only a marker": (
        lambda p: [shutil.rmtree(f) if f.is_dir() else f.unlink() for f in p.iterdir() if f.name != ".gradus"],
        "no step has been",
    ),
    "only empty files": (lambda p: [f.write_bytes(b"") for f in p.rglob("*") if f.is_file()], "cannot be read"),
    "no marker": (lambda p: (p / ".gradus").unlink(), "Better"),
}


def _drop_last_line(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_missing_is_named(name, tmp_path):
    path = make_run(tmp_path / "made", num_steps=20, eval_every=10, num_problems=40)
    damage, words = BREAKS[name]
    damage(path)
    page = rendered(path)
    assert words in page.replace("&#39;", "'")
    assert set(SECTIONS) <= set(Elements(page).ids)


def test_partial_runs_write_all_files(tmp_path):
    path = make_run(tmp_path / "made", num_steps=5, eval_every=10, status="interrupted")
    (path / "metrics.jsonl").unlink()
    assert "SIGTERM" in write_report(path).read_text()


def test_held_out_problems_that_training_asks_too_are_a_banner(tmp_path):
    path = make_run(tmp_path / "made", num_steps=5, eval_every=5, num_problems=40)
    assert "Contaminated" not in rendered(path)
    for summary in (path / "evaluations").glob("*/step_*.json"):
        facts = json.loads(summary.read_text())
        facts["contamination"] = {"num_overlap": 7, "problem_ids": ["<i>"]}
        summary.write_text(json.dumps(facts))
    assert "7 of" in (page := rendered(path)) and "are training problems too: their numbers measure memory" in page


def test_what_is_no_run_is_refused(tmp_path):
    for path, words in ((tmp_path, "is not a run directory"), (tmp_path / "none", "does not exist")):
        with pytest.raises(ValueError, match=words):
            write_report(path)
    assert not list(tmp_path.iterdir())


def test_evaluations_that_differ_are_compared_under_a_banner(tmp_path):
    path = make_run(tmp_path / "made", num_steps=20, eval_every=20)
    summary = path / "evaluations/validation/step_000020.json"
    content = json.loads(summary.read_text())
    content["settings"]["temperature"] = 0.5
    summary.write_text(json.dumps(content))
    page = rendered(path)
    assert "not the same experiment" in page and "temperature: base 1.0, trained 0.5" in page


def test_secrets_are_hidden(tmp_path):
    secret = "hf_" + "a1B2" * 8
    path = make_run(tmp_path / "made", num_steps=5, eval_every=5, status="failed", text=lambda plain: plain)
    (path / "environment.json").write_text(json.dumps({"command": f"gradus train --token {secret}"}))
    (path / "overrides.txt").write_text(f"attempt 1: model.path={secret}\n")
    (path / "resolved.yaml").write_text(f"model:\n  path: {secret}\n")
    (path / "run.json").write_text(json.dumps({"status": "failed", "last_error": f"401 for {secret}"}))
    write_report(path)
    for name in FILES[:3]:
        assert secret not in (path / name).read_text()


def test_long_runs_stay_small_and_fast(tmp_path):
    path = make_run(tmp_path / "made", num_steps=1000, eval_every=250, num_problems=100, text=lambda plain: plain * 12)
    started = time.process_time()
    page = rendered(path)
    assert time.process_time() - started <= 3
    assert len(page.encode()) <= 8e6
    assert re.search(r"of 1200 recorded completions", page)


def test_number_of_rollouts(tmp_path):
    path = make_run(tmp_path / "made", num_steps=40, eval_every=40, num_problems=4)
    page = Page.of(RunFacts.of(path), max_rollouts=6)
    assert [(row["step"], row["index"]) for row in page.carried.rows] == [
        (10, 0),
        (10, 1),
        (20, 0),
        (20, 1),
        (30, 0),
        (40, 0),
    ]
    assert len(Page.of(RunFacts.of(path), max_rollouts=0).carried.rows) == 0
    with pytest.raises(ValueError, match="max_rollouts=-1"):
        write_report(path, max_rollouts=-1)


def test_no_torch():
    code = (
        "import sys, gradus.report, gradus.report.html, gradus.report.rollouts, gradus.report.numbers\n"
        "print([m for m in ('torch', 'scipy', 'matplotlib', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def newest(folder: Path) -> int:
    """The last evaluated step of the run's own split."""
    return RunDirectory.open(folder).evaluation_steps("validation")[-1]


def test_tables_of_a_task_are_shown(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    table = {"title": "Who decides?", "head": ["who", "how"], "rows": [["<b>all</b>", "3 of 4"]], "reading": "By hand."}
    for of, is_other in ((), False), (("x@0", "x@1"), True), (("x@0", f"x@{newest(folder)}"), False):
        RunDirectory.open(folder).write_comparison_tables([table], of=of)
        page = write_report(folder).read_text()
        for words in ("Who decides?", "&lt;b&gt;all&lt;/b&gt;", "3 of 4", "By hand."):
            assert words in page
        assert ("These tables compare x@0 with x@1, not with the newest" in page) == is_other
    (folder / "comparison_tables.json").write_text("[1]")
    assert any("comparison_tables.json" in one for one in RunFacts.of(folder).damaged)


def test_the_first_steps_stand_beside_the_probes_forecast(tmp_path):
    """By hand from the rows: the means of what the first 20 steps recorded; rows without the metric do not count."""
    folder = make_run(tmp_path / "made", num_steps=30, eval_every=30, num_problems=4)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        if row["step"] % 2 == 0:  # two updates learn from each batch
            row.pop("rollout/mixed_frac", None)
            row.pop("rollout/solve_rate", None)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    first = [row for row in rows if 0 < row["step"] <= 20 and "rollout/mixed_frac" in row]
    means = [sum(row[f"rollout/{name}"] for row in first) / len(first) for name in ("mixed_frac", "solve_rate")]
    words = "Seen in the first 20 steps of training: {:.1f} % of the groups mixed, {:.1f} % of the completions right"
    assert len(first) == 10 and "Seen in the first" not in rendered(folder), "there is no forecast yet"
    probe = read(made_rows([3, 8, 0, 8], 8), Plan(group_size=8, problems_per_step=4, max_tokens=9), settings={})
    (folder / "probe.json").write_text(json.dumps(probe.to_json()))
    page = rendered(folder)
    assert "of the policy before its first step" in page and words.format(*(100 * mean for mean in means)) in page
    write_report(folder)
    assert json.loads((folder / "report.json").read_text())["seen_at_first"].startswith("Seen in the first 20 steps")
