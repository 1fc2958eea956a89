"""A rehearsal takes the run's own first steps, in any setting, and leaves nothing behind."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

import gradus
from gradus.data.problems import load_problems
from gradus.evaluation.probe_table import lines
from gradus.exits import Code, Exit
from gradus.jsonl import read_json, read_jsonl
from gradus.train.rehearsal import Rehearsal
from tests.train.runs import config_of, run, tiny


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, which must be empty afterwards."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": {"updates_per_batch": 2}},
        {"evaluation": {"every_steps": 1}, "checkpoint": {"every_steps": 1}},
        {"optimizer": {"schedule": "linear"}, "backend": {"name": "trl"}, "tracking": {"sinks": ["tensorboard"]}},
    ],
    ids=["plain", "updates", "evaluated", "foreign"],
)
def test_what_is_rehearsed_is_what_the_run_then_does(tmp_path: Path, trace: Path, changes: dict[str, Any]):
    config = config_of(tiny(tmp_path), num_steps=6, **changes)
    rehearsal = Rehearsal.of(config, load_problems(config), 3)
    assert not list(trace.iterdir()) and rehearsal.num_steps == 3 and rehearsal.update_seconds > 0
    native = {key: value for key, value in changes.items() if key not in ("backend", "tracking")}
    run(config_of(tmp_path / "policy", num_steps=6, **native), tmp_path / "runs")
    rows = {row["step"]: row for row in read_jsonl(tmp_path / "runs" / "run" / "metrics.jsonl").rows}
    every = config.optimizer.updates_per_batch
    assert [batch.step for batch in rehearsal.batches] == list(range(0, 6, every))
    for batch in rehearsal.batches:
        row = rows[batch.step + 1]
        seen = (row["rollout/mixed_frac"], row["rollout/solve_rate"]) if batch.step < 3 else (None, None)
        assert (batch.mixed, batch.right) == seen
    rollouts = sorted(tmp_path.glob("runs/run/rollouts/*.jsonl"))
    recorded = {row["problem_id"] for path in rollouts for row in read_jsonl(path).rows if row["step"] <= every}
    assert recorded <= set(rehearsal.batches[0].problem_ids)


def test_where_flat_groups_are_dropped_they_are_counted_as_sampled(tmp_path: Path, trace: Path):
    config = config_of(tiny(tmp_path), algorithm={"name": "dapo"}, sampling={"max_redraws": 1})
    first = Rehearsal.of(config, load_problems(config), 2).batches[0]
    assert first.mixed is not None and 0 <= first.mixed < 1 and first.right is None


def test_a_rehearsal_that_ends_early_says_why_and_the_probe_is_kept(
    tmp_path: Path, trace: Path, monkeypatch: pytest.MonkeyPatch
):
    config = config_of(tiny(tmp_path), optimizer={"on_nonfinite": "stop"})

    def broken(*_: Any, **__: Any) -> dict[str, float]:
        return {"loss": float("nan"), "train/skipped": 1.0}

    monkeypatch.setattr("gradus.train.loop.update", broken)
    with pytest.raises(
        Exit, match=r"^rehearsal: loss or gradient of step 1 is not finite; the probe itself is writ"
    ) as error:
        gradus.probe(config, num=2, rehearse=2, folder=tmp_path / "probe")
    assert error.value.code == Code.DIVERGED and not list(trace.iterdir())
    assert read_json(tmp_path / "probe" / "probe.json")["n_problems"] == 2


def test_a_probe_with_a_rehearsal_tells_the_forecast(tmp_path: Path, trace: Path):
    config = config_of(tiny(tmp_path), probe={"rehearse_steps": 3})
    found = gradus.probe(config, num=5, rehearse=2, folder=tmp_path / "probe", price_per_hour=2.0)
    ahead, cost = found.facts["forecast"], found.facts["cost"]
    assert (ahead["num_steps"], ahead["rehearsed_steps"]) == (4, 2)
    assert read_json(tmp_path / "probe" / "probe.json")["forecast"] == ahead
    assert cost["is_update_included"] and cost["money"] == pytest.approx(2 * cost["hours"]) and cost["disk_bytes"]
    text = "\n".join(lines(found))
    assert "first 4 steps" in text and "from a rehearsal of 2" in text and "update a step" in text
    assert found.judgement.verdict == "NO_GO"
    assert "forecast" not in gradus.probe(config, num=2, folder=tmp_path / "other").facts, (
        "nothing to learn, nor asked for"
    )
