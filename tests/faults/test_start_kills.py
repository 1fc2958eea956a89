"""Killed before any file operation of a start: the next start does what this one would have done, and nothing is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gradus.recipe import Resolved, resolve
from gradus.rundir import RunDirectory, read_jsonl
from gradus.train import checkpoint
from gradus.train.start import Start, open_run
from tests.faults.tiny_state import assert_state_of, killed_at, load, parts_at

RECIPE = "name: first\ntasks:\n  countdown: {max_numbers: 3}\n"


@pytest.fixture
def resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Resolved:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    monkeypatch.setattr("gradus.train.environment.environment", dict)  # starts processes of its own
    return resolve([tmp_path / "recipe.yaml"])


def begin(resolved: Resolved, runs: Path, **options: Any) -> Start:
    return open_run(resolved, kind="train", runs_dir=runs, data_fingerprint="d0", **options)


def train(start: Start, until: int) -> None:
    first = start.checkpoint.step + 1 if start.checkpoint else 1
    for step in range(first, until + 1):
        start.run.append_metrics({"step": step})
        start.run.write_rollouts(step, [{"step": step}])
        if step % 2 == 0:
            checkpoint.save(start.run, step, **{**parts_at(step), "identity": start.identity})
    start.close()


def interrupted_run(resolved: Resolved, runs: Path) -> None:
    """Five steps, checkpoints of 2 and 4, a defective one of 6, and what a killed save and a killed removal left."""
    train(begin(resolved, runs), until=5)
    run = RunDirectory.open(runs / "first")
    shutil.copytree(run.checkpoints / "step_000004", run.checkpoints / "step_000006")
    shutil.copytree(run.checkpoints / "step_000004", run.checkpoints / ".tmp-step_000006-1-aaaaaaaa")
    shutil.copytree(run.checkpoints / "step_000002", run.checkpoints / ".trash-step_000000-1-bbbbbbbb")
    (run.checkpoints / "latest").write_text("step_000006\n")


def check_kills(folder: Path, act: Callable[[Path], object], check: Callable[[Path], None]) -> int:
    """Kills ``act`` before each of its operations, each time on a copy of ``folder / "runs"``; ``check`` looks at what
    is left. Returns the number of operations."""
    number = 0
    while True:
        place = folder / str(number)
        shutil.copytree(folder / "runs", place)
        was_killed = killed_at(number, lambda place=place: act(place))
        check(place)
        if not was_killed:
            return number
        number += 1


def rows(path: Path) -> list[int]:
    records = read_jsonl(path)
    assert records.num_torn == 0
    return [row["step"] for row in records.rows]


def superseded_steps(run: RunDirectory) -> list[int]:
    return sorted(step for path in run.superseded.rglob("metrics.jsonl*") for step in rows(path))


def test_a_start_that_is_killed_changes_nothing_for_the_next_one(resolved: Resolved, tmp_path: Path) -> None:
    def check(runs: Path) -> None:
        assert checkpoint.steps(RunDirectory.open(runs / "first")) == [2, 4, 6]
        with begin(resolved, runs) as start:
            run = start.run
            assert start.action == "resume"
            assert start.checkpoint is not None
            assert start.checkpoint.step == 4
            assert "skipped step_000006: MANIFEST.json is of step 4" in start.notes
            assert_state_of(load(run))  # type: ignore[arg-type]
            assert rows(run.metrics) == [1, 2, 3, 4]
            assert set(superseded_steps(run)) == {5}
            assert sorted(path.name for path in run.rollouts.iterdir()) == [
                f"step_00000{n}.jsonl" for n in (1, 2, 3, 4)
            ]
            assert not list(run.path.rglob(".t*-*"))
            assert (run.checkpoints / "latest").read_text() == "step_000004\n"
            train(start, until=6)
        assert rows(run.metrics) == [1, 2, 3, 4, 5, 6]
        assert load(run)[0] == 6  # type: ignore[index]

    interrupted_run(resolved, tmp_path / "runs")
    assert check_kills(tmp_path, lambda runs: begin(resolved, runs), check) >= 25


def test_a_first_start_that_is_killed_is_begun_again(resolved: Resolved, tmp_path: Path) -> None:
    def check(runs: Path) -> None:
        with begin(resolved, runs) as start:
            assert start.run.path.name == "first"
            assert start.action in ("new", "resume")
            assert start.checkpoint is None
            assert not list(start.run.path.rglob(".t*-*")) or start.action == "new"
            train(start, until=2)
        assert rows(runs / "first/metrics.jsonl") == [1, 2]

    (tmp_path / "runs").mkdir()
    assert check_kills(tmp_path, lambda runs: begin(resolved, runs), check) >= 20


def test_starting_from_scratch_can_be_killed_too(resolved: Resolved, tmp_path: Path) -> None:
    outcomes = set()

    def check(runs: Path) -> None:
        with begin(resolved, runs) as start:
            run = start.run
            outcomes.add(start.checkpoint is None)
            steps = {4} if start.checkpoint is None else set()
            expected = [] if start.checkpoint is None else [1, 2, 3, 4]
            assert rows(run.metrics) == expected
            assert set(superseded_steps(run)) >= steps
            assert sorted({*rows(run.metrics), *superseded_steps(run)}) == [1, 2, 3, 4, 5]
            assert [step for step in checkpoint.steps(run) if step < 5] == ([] if start.checkpoint is None else [2, 4])
        assert len(list(run.path.rglob("step_000004/MANIFEST.json"))) == 1

    interrupted_run(resolved, tmp_path / "runs")
    check_kills(tmp_path, lambda runs: begin(resolved, runs, from_scratch=True), check)
    assert outcomes == {True, False}
