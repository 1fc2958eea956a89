"""Reading, filtering and printing recorded completions, hostile ones included. Covers I-17."""

import csv
import io
import json
from pathlib import Path

import pytest

from gradus.report.rollouts import Filter, bounds, read, show, span

HOSTILE = "[/INST]\x1b]0;gone\x07\x1b[2J\rover\u202egnp.exe\u2066\x9b1m\ud800 [red]x[/red]"


def row(step, index, **fields):
    return {
        "step": step,
        "problem_id": f"countdown/train/{index:05}",
        "domain": "n3" if index % 2 else "n4",
        "difficulty": 0.5,
        "sample": index,
        "prompt": "make 11",
        "completion": f"try {index}",
        "reward": index / 10,
        "parts": {"value": index / 10},
        "correct": index > 2,
        "status": "scored",
        "why": "wrong_value",
        "num_tokens": 50 - index,
        "finish": "stop",
        "advantage": 0.0,
        "policy_step": step - 1,
        **fields,
    }


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "rollouts").mkdir()
    for step in (10, 20):
        lines = [json.dumps(row(step, index)) for index in range(4)]
        (tmp_path / f"rollouts/step_{step:06}.jsonl").write_text("\n".join(lines) + '\n{"torn')
    (tmp_path / "rollouts/.tmp-step_000030.jsonl").write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (Filter(), 8),
        (Filter(steps=(20, 20)), 4),
        (Filter(domain="n3"), 4),
        (Filter(bucket="hard"), 0),
        (Filter(is_correct=True), 2),
        (Filter(status="timeout"), 0),
        (Filter(rewards=(0.1, 0.2)), 4),
        (Filter(text="try 3"), 2),
        (Filter(text="make"), 8),
        (Filter(steps=(0, 15), is_correct=False, text="try 1"), 1),
    ],
)
def test_filters(run, keep, expected):
    found = read(run, keep)
    assert len(found.rows) == expected
    assert found.num_torn == sum(1 for step in (10, 20) if keep.steps is None or keep.steps[0] <= step <= keep.steps[1])


def test_orders(run):
    assert [(r["step"], r["index"]) for r in read(run).rows][:5] == [(10, 0), (10, 1), (10, 2), (10, 3), (20, 0)]
    assert [(r["step"], r["index"]) for r in read(run, order="reward").rows][:3] == [(10, 3), (20, 3), (10, 2)]
    assert [r["num_tokens"] for r in read(run, order="length").rows][:2] == [50, 50]


def test_rows_without_numbers_come_last(run):
    (run / "rollouts/step_000030.jsonl").write_text(json.dumps(row(30, 0, reward="NaN", num_tokens=None)))
    for order in ("reward", "length"):
        assert read(run, order=order).rows[-1]["step"] == 30
    assert len(read(run, Filter(rewards=(-1e9, 1e9))).rows) == 8


def test_an_empty_run_has_none(tmp_path):
    assert read(tmp_path).rows == [] and show([]) == ""


def test_arguments():
    assert span("7") == (7, 7) and span("7:20") == (7, 20)
    assert bounds("0.5") == (0.5, 0.5) and bounds("-1:") == (-1, float("inf")) and bounds(":1")[0] == float("-inf")
    for read_argument, text in ((span, "a"), (span, "1:2:3"), (bounds, "x:1"), (bounds, ""), (bounds, "nan:1")):
        with pytest.raises(ValueError, match="write"):
            read_argument(text)


def test_text_cannot_act_on_a_terminal():
    text = show([row(10, 0, completion=HOSTILE, problem_id=HOSTILE, why="a\nb", domain=HOSTILE, parts={HOSTILE: 1})])
    assert not any((ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 for c in text)
    assert not set(text) & set("\u202e\u2066\ud800")
    assert "\\x1b[2J" in text and "[/INST]" in text and "\\u202e" in text and "\\ud800" in text
    text.encode("utf-8")


def test_completion_cannot_imitate_a_head_line():
    text = show([row(10, 0, completion="x\n── step 99 · right")])
    assert [line for line in text.split("\n") if line.startswith("──")] == [text.split("\n")[0]]


def test_jsonl_reads_back():
    rows = [row(10, 0, completion=HOSTILE, advantage=float("nan"))]
    line = show(rows, "jsonl")
    assert line.isascii() and json.loads(line)["completion"] == HOSTILE and json.loads(line)["advantage"] == "NaN"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", " =1+1", "\n=1"])
def test_csv_cells_are_no_formulas(text):
    cells = list(csv.DictReader(io.StringIO(show([row(10, 0, completion=text, prompt='a,"b"\n')], "csv"))))
    assert cells[0]["completion"][0] == "'" and cells[0]["prompt"] == 'a,"b"\n' and cells[0]["reward"] == "0.0"
    assert json.loads(cells[0]["parts"]) == {"value": 0.0}
