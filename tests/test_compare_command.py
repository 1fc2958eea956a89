"""`gradus compare` as a user meets it: what it writes beside a run, files of rows, problems that were not trained for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command_line import call, make_run, only_json


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made run, in the current folder."""
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs" / "x")
    return Path("runs/x")


def test_compare_writes_what_it_found_beside_the_run(run: Path, capfd: pytest.CaptureFixture[str]):
    code, out, _ = call(capfd, "compare", "runs/x@base", "runs/x@last", "--json")
    assert code == 3 and only_json(out)["verdict"] == "Worse"
    assert json.loads((run / "comparison.json").read_text())["verdict"] == "Worse" and (run / "comparison.md").exists()


def test_files_of_rows_can_be_compared(run: Path, capfd: pytest.CaptureFixture[str]):
    files = [run / "evaluations" / "validation" / f"step_00000{step}.jsonl" for step in (0, 2)]
    assert call(capfd, "compare", *map(str, files), "--out", "there")[0] == 3
    assert Path("there/comparison.json").exists()


def renamed(source: Path, to: Path) -> None:
    """The rows of an evaluation as rows of other problems."""
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    to.write_text("".join(json.dumps({**row, "problem_id": f"other-{row['problem_id']}"}) + "\n" for row in rows))


def test_other_problems_stand_beside_the_verdict_and_do_not_decide_it(run: Path, capfd: pytest.CaptureFixture[str]):
    for name, step in (("before", 2), ("after", 0)):
        renamed(run / f"evaluations/validation/step_00000{step}.jsonl", Path(f"{name}.jsonl"))
    options = ["--regression", "before.jsonl", "after.jsonl"]
    code, out, _ = call(capfd, "compare", "runs/x@base", "runs/x@last", *options)
    first, second = out.splitlines()
    assert code == 3 and first.startswith("Worse: ") and second.startswith("Other problems: Better: ")
    found = json.loads((run / "comparison.json").read_text())
    assert (found["verdict"], found["regression"]["verdict"]) == ("Worse", "Better")
    assert "## Regression: problems not trained for" in (run / "comparison.md").read_text()
    (table,) = json.loads((run / "comparison_tables.json").read_text())["tables"]
    assert ["Pass@1", "12.5 % [5.5, 26.1]", "75.0 % [59.8, 85.8]"] in [row[:3] for row in table["rows"]]
    assert table["reading"] == found["regression"]["sentence"]
    assert call(capfd, "report", "runs/x")[0] == 0 and table["title"] in (run / "report.html").read_text()
    assert call(capfd, "compare", *["runs/x@base"] * 3, *options)[0] == 2, "one trained model"
    assert call(capfd, "compare", "runs/x@base", "runs/x@last")[0] == 3
    assert json.loads((run / "comparison_tables.json").read_text())["tables"] == [], (
        "what was not asked for again is not shown again"
    )
