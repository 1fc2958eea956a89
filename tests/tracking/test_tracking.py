"""Trackers read a run from outside: what they get, that they continue, and that none can change, slow or stop a run."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import gradus
from gradus import verbs
from gradus.recipe import resolve
from gradus.rundir import RunDirectory
from gradus.tracking.follow import Tail, feed
from gradus.tracking.followers import Followers
from gradus.tracking.sinks import OVERVIEW, SINKS, RunFacts, check_installed, series

TINY = [
    "model.init=random", "num_steps=3", "curriculum.problems_per_step=2", "curriculum.num_problems=8", "sampling.group_size=2",
    "sampling.max_tokens=8", "evaluation.num_problems=2", "evaluation.samples_per_problem=2", "torch_threads=1",
]  # fmt: skip


class Recorder:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.facts: list[RunFacts] = []
        self.steps: list[int] = []
        self.alerts: list[Mapping[str, Any]] = []
        self.is_closed = False

    def open(self, run: RunFacts) -> str | None:
        self.facts.append(run)
        return run.tracker_run or "tracker-run-1"

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.steps.append(step)

    def alert(self, alert: Mapping[str, Any]) -> None:
        self.alerts.append(alert)

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    made = RunDirectory.create(tmp_path / "runs" / "first")
    (made.path / "resolved.yaml").write_text("seed: 3\ntracking:\n  project: mine\n")
    for step in range(4):
        made.append_metrics({"step": step, "reward": step / 4, "loss": float("nan"), "time/step_seconds": 1.0})
    made.append_alert({"rule": "H-09", "severity": "WARN", "step": 2, "text": "long", "actions": []})
    return made


def test_a_tracker_gets_every_step_once_and_goes_on_where_it_was(run: RunDirectory):
    first, second = Recorder(), Recorder()
    assert feed(first, run, "wandb", is_over=lambda: True)["num_steps_sent"] == 4
    assert first.steps == [0, 1, 2, 3] and len(first.alerts) == 1 and first.is_closed
    assert (first.facts[0].project, first.facts[0].name, first.facts[0].tracker_run) == ("mine", "first", None)
    run.append_metrics({"step": 4, "reward": 1.0})
    sent = feed(second, run, "wandb", is_over=lambda: True)
    assert second.steps == [4] and second.alerts == [] and second.facts[0].tracker_run == "tracker-run-1"
    assert sent == {"sink": "wandb", "tracker_run": "tracker-run-1", "step": 4, "num_steps_sent": 1}


def test_rows_that_a_run_takes_back_are_not_sent_twice(run: RunDirectory):
    recorder, looks = Recorder(), iter([False, False, True])

    def is_over() -> bool:
        look = next(looks)
        if recorder.steps:  # as after a crash: back to step 1, and on
            lines = run.metrics.read_bytes().splitlines(keepends=True)
            run.metrics.write_bytes(b"".join(lines[:2]))
        if look:
            for step in range(2, 6):
                run.append_metrics({"step": step, "reward": 0.5})
        return look

    feed(recorder, run, "wandb", is_over=is_over)
    assert recorder.steps == [0, 1, 2, 3, 4, 5]


def test_a_torn_last_line_waits_for_its_end(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"st')
    tail = Tail(path)
    assert list(tail.new()) == [{"step": 1}] and list(tail.new()) == []
    with path.open("a") as file:
        file.write('ep": 2}\nnot json\n{"step": 3}\n')
    assert list(tail.new()) == [{"step": 2}, {"step": 3}]
    assert list(Tail(tmp_path / "none").new()) == []


def test_series_have_an_overview_of_twelve_and_only_numbers():
    assert len(OVERVIEW) == 12
    named = series({"step": 3, "reward": 0.5, "epoch": 1, "loss": "NaN", "time/update_seconds": 2.0, "flag": True})
    assert named == {"overview/reward": 0.5, "training/epoch": 1.0, "time/update_seconds": 2.0}


def test_a_missing_package_is_said_before_anything_runs(run: RunDirectory, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"'trackio'.*not installed; pip install trackio"):
        check_installed("trackio")
    with pytest.raises(ValueError, match="not installed"):
        Followers(run, ["trackio"], finish_seconds=1, warn=print)


BROKEN = {
    "raises": "def init(**_): raise RuntimeError('no network; api_key=0123456789012345678901234567890123456789')",
    "dies": "import os\ndef init(**_): os._exit(9)",
    "hangs": "import time\ndef init(**_): time.sleep(600)",
}


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder before all others on the path of this and of child processes."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{Path(gradus.__file__).parents[1]}")
    return folder


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_tracker_costs_one_warning(fault: str, run: RunDirectory, broken: Path):
    (broken / "trackio.py").write_text(BROKEN[fault])
    said: list[str] = []
    followers = Followers(run, ["trackio"], finish_seconds=1.0, warn=said.append)
    began = time.monotonic()
    if fault != "hangs":
        while not said and time.monotonic() - began < 60:
            followers.check()
            time.sleep(0.05)
    followers.finish()
    followers.check()
    assert len(said) == 1 and "trackio" in said[0] and f"gradus track {run.path} --sink trackio" in said[0]
    assert "0123456789" not in said[0], "no secret of the tracker's words is repeated"


@pytest.mark.slow
def test_a_run_has_the_same_bits_with_a_broken_tracker(tmp_path: Path, broken: Path, capfd: pytest.CaptureFixture[str]):
    (broken / "trackio.py").write_text(BROKEN["raises"])
    for name, more in (("plain", []), ("tracked", ["tracking.sinks=[trackio]"])):
        gradus.train(resolve(["countdown_nano"], [*TINY, f"name={name}", *more]).config, runs_dir=tmp_path / "out")
    plain, tracked = (tmp_path / "out" / name for name in ("plain", "tracked"))
    weights = "checkpoints/step_000003/model/model.safetensors"
    assert (plain / weights).read_bytes() == (tracked / weights).read_bytes()
    assert len((tracked / "metrics.jsonl").read_text().splitlines()) == 4
    assert capfd.readouterr().err.count("tracker trackio") == 1


def test_a_missing_tracker_leaves_no_run_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "trackio" else find(name))
    config = resolve(["countdown_nano"], ["tracking.sinks=[trackio]", "curriculum.num_problems=4", "name=first"])
    with pytest.raises(ValueError, match=r"'trackio'.*not installed"):
        verbs.run("train", config, runs_dir=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


# ---- the real ones ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(SINKS))
def test_the_real_tracker_takes_a_run_and_continues_it(
    name: str, run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed (pip install {name})")
    monkeypatch.setenv("GRADUS_OFFLINE", "1")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    for step in (0, 4):
        if step:
            run.append_metrics({"step": step, "reward": 1.0})
        done = subprocess.run(
            [sys.executable, "-m", "gradus", "track", str(run.path), "--sink", name, "--json"],
            capture_output=True, text=True, timeout=120, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        (sent,) = json.loads(done.stdout)["sent"]
        assert sent["num_steps_sent"] == (1 if step else 4) and sent["tracker_run"]
    if name == "tensorboard":
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(run.path / "tracking" / "tensorboard"))
        events.Reload()
        found = {event.step: event.value for event in events.Scalars("overview/reward")}
        assert found == {0: 0.0, 1: 0.25, 2: 0.5, 3: 0.75, 4: 1.0}
        assert "overview/loss" not in events.Tags()["scalars"]
