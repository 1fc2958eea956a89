"""The files of a run: records that survive anything, going back without doubled steps, names that lead nowhere else."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradus.exits import Exit
from gradus.rundir import RunDirectory, read_jsonl, to_line


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run")


# ---- creating and opening ----


def test_a_run_directory_is_known_by_its_marker(run: RunDirectory, tmp_path: Path) -> None:
    assert RunDirectory.open(run.path).path == run.path
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match="is not a run directory"):
        RunDirectory.open(tmp_path / "other")
    with pytest.raises(ValueError, match="does not exist"):
        RunDirectory.open(tmp_path / "nowhere")


def test_a_run_of_another_schema_is_refused(run: RunDirectory) -> None:
    (run.path / ".gradus").write_text('{"schema": "gradus.run/9"}')
    with pytest.raises(ValueError, match=r"schema 'gradus\.run/9'; this version of gradus reads 'gradus.run/1'"):
        RunDirectory.open(run.path)


def test_nothing_that_is_there_becomes_a_run(run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("x")
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "mine", tmp_path / "file", run.path):
        with pytest.raises(ValueError, match="exists already"):
            RunDirectory.create(path)
    (tmp_path / "empty").mkdir()
    RunDirectory.create(tmp_path / "empty")


def test_paths_of_all_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spaces, Unicode, long names, links, relative paths, and a process that changes its folder."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path)
    for name in ("with spaces", "größe-模型", "x" * 200, "link/run", "relative"):
        run = RunDirectory.create(Path(name))
        monkeypatch.chdir("/")
        run.append_metrics({"step": 1})
        run.write_rollouts(1, [{"text": "x"}])
        monkeypatch.chdir(tmp_path)
        assert read_jsonl(tmp_path / name / "metrics.jsonl").rows == [{"step": 1}]


def test_a_moved_run_is_the_same_run(run: RunDirectory, tmp_path: Path) -> None:
    run.write_evaluation("validation", 0, [{"correct": True}], {"pass_at_1": 1.0})
    run.update_status(step=3)
    before = run.path
    shutil.move(before, tmp_path / "elsewhere")
    moved = RunDirectory.open(tmp_path / "elsewhere")
    assert moved.read_evaluation("validation", 0) == ([{"correct": True}], {"pass_at_1": 1.0})
    assert moved.status() == {"step": 3}
    for path in moved.path.rglob("*"):
        assert path.is_dir() or str(before) not in path.read_text()


# ---- records ----


def test_a_number_that_is_not_finite_is_a_string(run: RunDirectory) -> None:
    run.append_metrics({"loss": math.nan, "a": [math.inf, {"b": -math.inf}], "c": 1.5})
    assert run.metrics.read_text() == '{"loss":"NaN","a":["Infinity",{"b":"-Infinity"}],"c":1.5}\n'


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.booleans() | st.none()), max_size=4))
def test_a_line_is_ascii_and_reads_back(row: dict[str, object]) -> None:
    line = to_line(row)
    assert line.isascii()
    assert "\n" not in line
    assert json.loads(line) == row


def test_a_torn_last_line_is_left_out_and_counted(run: RunDirectory) -> None:
    for step in (1, 2, 3):
        run.append_metrics({"step": step, "reward": 0.5})
    size = run.metrics.stat().st_size
    for cut in range(1, 25):
        os.truncate(run.metrics, size - cut)
        records = read_jsonl(run.metrics)
        assert [row["step"] for row in records.rows] == ([1, 2, 3] if cut == 1 else [1, 2])
        assert records.num_torn == (0 if cut in (1, 24) else 1)


def test_lines_that_are_no_object_are_counted(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(b'{"a":1}\n[1]\n\xff\n' + b"[" * 100_000 + b'\n{"a":2}\n')
    records = read_jsonl(tmp_path / "x.jsonl")
    assert (records.rows, records.num_torn) == ([{"a": 1}, {"a": 2}], 3)
    assert read_jsonl(tmp_path / "none.jsonl").rows == []


def test_the_log_has_one_line_per_event_and_no_secrets(run: RunDirectory) -> None:
    run.log("info", "saved step 10\nwith HF_TOKEN=hf_abcdefghijklmnopqrst \x1b[2J\rü")
    lines = run.events.read_text(encoding="ascii").splitlines()
    assert len(lines) == 3
    assert lines[0].endswith(" INFO saved step 10")
    assert all(line.startswith("    ") for line in lines[1:])
    text = run.events.read_bytes()
    assert b"hf_abc" not in text
    assert b"\x1b" not in text


def test_status_fields_are_kept_until_they_are_set_again(run: RunDirectory) -> None:
    run.update_status(status="running", step=1)
    run.update_status(step=2, best=math.nan)
    assert run.status() == {"status": "running", "step": 2, "best": "NaN"}


def test_a_broken_status_is_named(run: RunDirectory) -> None:
    (run.path / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run\.json is not readable JSON"):
        run.status()


# ---- evaluations ----


def test_an_evaluation_without_its_summary_did_not_happen(run: RunDirectory) -> None:
    run.write_evaluation("validation", 10, [{"a": 1}, {"a": 2}], {"pass_at_1": 0.5})
    run.write_evaluation("validation", 2, [], {})
    assert run.evaluation_steps("validation") == [2, 10]
    assert run.read_evaluation("validation", 10) == ([{"a": 1}, {"a": 2}], {"pass_at_1": 0.5})
    (run.evaluations / "validation/step_000002.json").unlink()
    assert run.evaluation_steps("validation") == [10]
    assert run.evaluation_steps("test") == []
    with pytest.raises(ValueError, match=r"no evaluation 'validation' of step 2; there are: \[10\]"):
        run.read_evaluation("validation", 2)


def test_a_torn_evaluation_is_refused(run: RunDirectory) -> None:
    run.write_evaluation("validation", 1, [{"a": 1}, {"a": 2}], {})
    os.truncate(run.evaluations / "validation/step_000001.jsonl", 12)
    with pytest.raises(ValueError, match="1 broken lines; evaluate again"):
        run.read_evaluation("validation", 1)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/etc", "a/b", "a..b", "x" * 101, "a\0b", "-x", "a b"])
def test_the_name_of_a_set_is_one_folder(run: RunDirectory, name: str) -> None:
    with pytest.raises(ValueError, match="no name for an evaluation set"):
        run.write_evaluation(name, 0, [], {})


# ---- going back ----


def fill(run: RunDirectory, steps: range) -> None:
    for step in steps:
        run.append_metrics({"step": step})
        run.append_alert({"step": step, "rule": "H-01"})
        run.write_rollouts(step, [{"step": step}])
        run.write_evaluation("validation", step, [{"step": step}], {"step": step})


def test_what_came_after_the_checkpoint_moves_away(run: RunDirectory) -> None:
    fill(run, range(1, 4))
    lengths = run.record_lengths()
    fill(run, range(4, 7))
    run.rewind(3, lengths, attempt=1)
    fill(run, range(4, 6))
    for path in (run.metrics, run.alerts):
        assert [row["step"] for row in read_jsonl(path).rows] == [1, 2, 3, 4, 5]
        assert [row["step"] for row in read_jsonl(run.superseded / "attempt_1" / path.name).rows] == [4, 5, 6]
    assert sorted(path.name for path in run.rollouts.iterdir()) == [f"step_00000{step}.jsonl" for step in range(1, 6)]
    assert run.evaluation_steps("validation") == [1, 2, 3, 4, 5]
    assert len(list((run.superseded / "attempt_1/rollouts").iterdir())) == 3
    assert len(list((run.superseded / "attempt_1/evaluations/validation").iterdir())) == 6


def test_going_back_twice_changes_nothing_more(run: RunDirectory) -> None:
    fill(run, range(1, 3))
    lengths = run.record_lengths()
    fill(run, range(3, 5))
    run.rewind(2, lengths, attempt=1)
    before = sorted(path.relative_to(run.path) for path in run.path.rglob("*"))
    run.rewind(2, lengths, attempt=1)
    assert sorted(path.relative_to(run.path) for path in run.path.rglob("*")) == before


@pytest.mark.parametrize("torn", [b'{"step": 3, "rew', b'{"step": 3}'])
def test_a_torn_line_never_meets_the_next_one(run: RunDirectory, torn: bytes) -> None:
    """Also where the disk lost some of what was there when the checkpoint was made."""
    fill(run, range(1, 3))
    lengths = run.record_lengths()
    for kept in (lengths["metrics.jsonl"], lengths["metrics.jsonl"] - 5):
        data = run.metrics.read_bytes()[:kept] + torn
        run.metrics.write_bytes(data)
        run.rewind(2, lengths, attempt=1)
        run.append_metrics({"step": 3})
        records = read_jsonl(run.metrics)
        assert records.num_torn == 0
        assert [row["step"] for row in records.rows] in ([1, 2, 3], [1, 3])


def test_going_back_to_nothing(run: RunDirectory) -> None:
    fill(run, range(0, 3))
    run.rewind(-1, {}, attempt=4)
    assert read_jsonl(run.metrics).rows == []
    assert run.evaluation_steps("validation") == []
    assert len(read_jsonl(run.superseded / "attempt_4/metrics.jsonl").rows) == 3


def test_lengths_are_those_of_the_records(run: RunDirectory) -> None:
    assert run.record_lengths() == {"metrics.jsonl": 0, "alerts.jsonl": 0}
    run.append_metrics({"step": 1})
    assert run.record_lengths() == {"metrics.jsonl": 11, "alerts.jsonl": 0}


def test_the_sweep_takes_only_what_is_unfinished(run: RunDirectory) -> None:
    fill(run, range(1, 2))
    (run.path / ".tmp-mine").write_text("not made here")
    kept = sorted(path for path in run.path.rglob("*"))
    for folder in (run.path, run.rollouts, run.evaluations / "validation"):
        (folder / ".tmp-x-1-0123abcd").write_text("half")
        (folder / ".trash-y-1-0123abcd").mkdir()
        (folder / ".trash-y-1-0123abcd/z").write_text("half")
    assert len(run.sweep()) == 6
    assert sorted(path for path in run.path.rglob("*")) == kept


def test_a_folder_that_may_not_be_written_is_refused(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the superuser may write everywhere
    with pytest.raises(Exit) as refused:
        run.acquire()
    assert refused.value.code == 2
    assert "Permission denied" in refused.value.message
