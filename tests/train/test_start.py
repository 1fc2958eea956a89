"""What a training command does with the directory it finds, row by row. Covers I-07."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gradus.exits import Code, Exit
from gradus.keys import resume_class, schema_leaves
from gradus.recipe import resolve
from gradus.rundir import RunDirectory, read_jsonl
from gradus.train import checkpoint, environment, place
from gradus.train.place import check_disk
from gradus.train.start import Start, open_existing, open_run, stored
from tests.faults.tiny_state import parts_at

RECIPE = """\
# a comment that stays
name: first
num_steps: 100
tasks:
  countdown: {max_numbers: 3}
optimizer:
  schedule: linear
"""


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path / "runs"


def begin(runs: Path, *overrides: str, **options: Any) -> Start:
    resolved = resolve([runs.parent / "recipe.yaml"], overrides)
    return open_run(resolved, **{"kind": "train", "runs_dir": runs, "data_fingerprint": "d0", **options})


def train(start: Start, until: int, every: int = 2, status: str = "interrupted") -> None:
    """What a trainer leaves: a row per step, a checkpoint now and then."""
    first = start.checkpoint.step + 1 if start.checkpoint else 1
    for step in range(first, until + 1):
        start.run.append_metrics({"step": step, "attempt": start.attempt})
        if step % every == 0:
            checkpoint.save(start.run, step, **{**parts_at(step), "identity": start.identity})
    start.run.update_status(status=status, step=until)
    start.close()


# ---- new ----


def test_a_new_run_says_all_about_itself(runs: Path) -> None:
    with begin(runs, "seed=3") as start:
        path = start.run.path
        assert (start.action, start.attempt, start.checkpoint, start.notes) == ("new", 1, None, [])
        assert path == runs / "first"
        assert (path / "config.yaml").read_text() == RECIPE
        assert (path / "overrides.txt").read_text() == "attempt 1: seed=3\n"
        assert stored(start.run).config == start.resolved.config
        origins = json.loads((path / "origins.json").read_text())
        assert origins["seed"] == "override"
        assert origins["num_steps"].endswith("recipe.yaml:3")
        assert origins["checkpoint.keep_last"] == "default"
        status = start.run.status()
        assert (status["status"], status["kind"], status["step"], status["attempt"]) == ("running", "train", 0, 1)
        assert status["pid"] == os.getpid()
        assert start.identity["torch_threads"] == torch.get_num_threads()
        assert len(start.identity["immutable_config_sha256"]) == 64
        with pytest.raises(Exit, match="in use by process"):
            begin(runs, "seed=3")
    assert (path / ".lock").read_bytes() == b""


def test_two_recipes_are_both_kept(runs: Path) -> None:
    (runs.parent / "more.yaml").write_text("seed: 5\n")
    resolved = resolve([runs.parent / "recipe.yaml", runs.parent / "more.yaml"])
    with open_run(resolved, kind="train", runs_dir=runs, data_fingerprint="d0") as start:
        assert (start.run.path / "config.yaml").read_text() == RECIPE
        assert (start.run.path / "config.2.yaml").read_text() == "seed: 5\n"


def test_a_run_without_a_name_is_always_new(runs: Path) -> None:
    names = set()
    for _ in range(3):
        with begin(runs, "name=null") as start:
            names.add(start.run.path.name)
    assert len(names) == 3
    assert all(name.startswith("countdown-nano-countdown-20") for name in names)


def test_a_start_that_was_killed_before_it_began_is_begun_again(runs: Path) -> None:
    begin(runs).close()
    (runs / "first/run.json").unlink()
    with begin(runs, "seed=9") as start:
        assert start.action == "new"
        assert stored(start.run).config.seed == 9


# ---- the directory decides ----


def test_an_unfinished_run_goes_on_from_its_newest_checkpoint(runs: Path) -> None:
    train(begin(runs), until=5)
    with begin(runs) as start:
        assert (start.action, start.attempt) == ("resume", 2)
        assert start.checkpoint is not None
        assert start.checkpoint.step == 4
        assert start.notes == ["first resumes from step_000004"]
        assert [row["step"] for row in read_jsonl(start.run.metrics).rows] == [1, 2, 3, 4]
        assert [row["step"] for row in read_jsonl(start.run.superseded / "attempt_1/metrics.jsonl").rows] == [5]
        assert (start.run.superseded / "attempt_1/environment.json").is_file()
        assert (start.run.path / "overrides.txt").read_text() == "attempt 1:\nattempt 2:\n"
        assert start.identity["parent_step"] == 4
        assert start.run.status()["step"] == 4


def test_no_step_is_ever_doubled(runs: Path) -> None:
    for attempt, until in enumerate((3, 5, 5, 9), start=1):
        start = begin(runs)
        assert start.attempt == attempt
        train(start, until)
    assert [row["step"] for row in read_jsonl(runs / "first/metrics.jsonl").rows] == list(range(1, 10))


def test_a_run_killed_before_its_first_checkpoint_starts_at_step_0(runs: Path) -> None:
    train(begin(runs), until=1)
    with begin(runs) as start:
        assert (start.action, start.checkpoint) == ("resume", None)
        assert "has no checkpoint yet; it starts at step 0" in start.notes[0]
        assert read_jsonl(start.run.metrics).rows == []


def test_checkpoints_that_vanished_are_never_a_silent_restart(runs: Path) -> None:
    train(begin(runs), until=4)
    shutil.rmtree(runs / "first/checkpoints")
    with pytest.raises(Exit, match="had a checkpoint of step 4 and has none now") as ended:
        begin(runs)
    assert ended.value.code == Code.NOTHING_USABLE
    assert len(read_jsonl(runs / "first/metrics.jsonl").rows) == 4


def test_a_newer_checkpoint_that_vanished_is_named(runs: Path) -> None:
    train(begin(runs), until=4)
    shutil.rmtree(runs / "first/checkpoints/step_000004")
    with begin(runs) as start:
        assert start.notes == ["the checkpoint of step 4 is gone", "first resumes from step_000002"]
        start.run.checkpoints.joinpath(".bad-step_000004-1-0123abcd").mkdir()
    with begin(runs) as start:
        assert "kept the defective .bad-step_000004-1-0123abcd; remove it when it is not needed" in start.notes


def test_a_skipped_checkpoint_is_named(runs: Path) -> None:
    train(begin(runs), until=4)
    (runs / "first/checkpoints/step_000004/trainer.json").unlink()
    with begin(runs) as start:
        skipped = "skipped step_000004: trainer.json is missing"
        assert start.notes == [skipped, "first resumes from step_000002"]
        assert skipped in start.run.events.read_text()
        assert (start.run.checkpoints / "latest").read_text() == "step_000002\n"


def test_a_finished_run_is_left_alone(runs: Path) -> None:
    train(begin(runs, "num_steps=6"), until=6, status="finished")
    before = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}
    for overrides in ((), ("num_steps=4",), ("checkpoint.keep_last=5",)):
        start = begin(runs, "num_steps=6", *overrides)
        assert (start.action, start.checkpoint) == ("finished", None)
        start.close()
    assert {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()} == before


def test_a_finished_run_goes_on_when_it_gets_more_steps(runs: Path) -> None:
    train(begin(runs, "num_steps=6"), until=6, status="finished")
    with begin(runs, "num_steps=8") as start:
        assert start.action == "resume"
        assert start.checkpoint is not None
        assert start.checkpoint.step == 6
        assert "num_steps 6 → 8" in start.notes
        assert (start.run.path / "overrides.txt").read_text() == "attempt 1: num_steps=6\nattempt 2: num_steps=8\n"
    assert stored(RunDirectory.open(runs / "first")).config.num_steps == 8


def test_fewer_steps_than_were_taken_are_refused(runs: Path) -> None:
    train(begin(runs), until=4)
    with pytest.raises(ValueError, match=r"num_steps=3 is less than the 4 steps that .* has taken; give num_steps=4"):
        begin(runs, "num_steps=3")
    with begin(runs) as start:  # nothing was changed, the lock is free
        assert start.attempt == 2


def test_a_folder_that_is_no_run_is_never_touched(runs: Path) -> None:
    (runs / "first").mkdir(parents=True)
    (runs / "first/thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="is not a run directory"):
        begin(runs)
    assert [path.name for path in (runs / "first").iterdir()] == ["thesis.tex"]


def test_new_takes_the_next_free_name(runs: Path) -> None:
    names = []
    for seed in (1, 2, 3):
        with begin(runs, f"seed={seed}", new=True) as start:
            names.append(start.run.path.name)
            assert start.action == "new"
    assert names == ["first", "first-2", "first-3"]


def test_a_run_of_another_verb_is_refused(runs: Path) -> None:
    begin(runs, kind="sft").close()
    with pytest.raises(ValueError, match="is a run of gradus sft, not of gradus train"):
        begin(runs)


def test_a_status_that_is_not_ours_is_named(runs: Path) -> None:
    begin(runs).close()
    (runs / "first/run.json").write_text('{"status": "running"}')
    with pytest.raises(ValueError, match=r"run\.json lacks attempt, data_fingerprint, kind, step"):
        begin(runs)


def test_from_scratch_keeps_the_old_files(runs: Path) -> None:
    start = begin(runs)
    start.run.write_evaluation("validation", 0, [{"a": 1}], {})
    train(start, until=4)
    start.run.update_status(best_step=4, replay={"from_step": 2, "replay": 1})
    for path in (runs / "first/checkpoints").glob("step_*/MANIFEST.json"):
        path.write_bytes(b"")
    with pytest.raises(Exit, match="skipped step_000004"):
        begin(runs)
    with begin(runs, from_scratch=True) as start:
        old = start.run.superseded / "attempt_1"
        assert (start.action, start.attempt, start.checkpoint) == ("new", 2, None)
        assert read_jsonl(start.run.metrics).rows == []
        assert start.run.evaluation_steps("validation") == []
        assert len(read_jsonl(old / "metrics.jsonl").rows) == 4
        assert (old / "checkpoints/step_000004/trainer.json").is_file()
        assert (old / "evaluations/validation/step_000000.json").is_file()
        assert checkpoint.steps(start.run) == []
        assert start.run.status()["best_step"] is None
        assert start.run.status()["replay"] is None
    with begin(runs) as start:
        assert (start.action, start.attempt, start.checkpoint) == ("resume", 3, None)


# ---- a run by its folder ----


def test_a_run_is_continued_by_its_folder(runs: Path, tmp_path: Path) -> None:
    train(begin(runs, "seed=3"), until=4)
    shutil.move(runs / "first", tmp_path / "moved")
    start = open_existing(tmp_path / "moved", ("num_steps=200",), kind="train", data_fingerprint=lambda config: "d0")
    assert (start.action, start.attempt) == ("resume", 2)
    assert start.resolved.config.seed == 3
    assert start.resolved.config.num_steps == 200
    assert start.resolved.origins["seed"] == "override"
    assert start.resolved.origins["num_steps"] == "override"
    assert start.resolved.origins["optimizer.schedule"].endswith("recipe.yaml:7")
    start.close()
    again = open_existing(tmp_path / "moved", (), kind="train", data_fingerprint="d0", new=True)
    assert (again.run.path.name, again.action, again.resolved.config.num_steps) == ("moved-2", "new", 200)
    again.close()


# ---- changes ----


@pytest.mark.parametrize(
    "override",
    ["num_steps=1000", "checkpoint.every_steps=7", "checkpoint.keep_last=2", "evaluation.every_steps=5",
     "records.rollouts_every_steps=1", "scoring.stop_error_frac=0.5"],
)  # fmt: skip
def test_a_change_that_matters_to_no_number_is_accepted_and_recorded(runs: Path, override: str) -> None:
    train(begin(runs), until=2)
    with begin(runs, override) as start:
        leaf, value = override.split("=")
        assert [note for note in start.notes if note.startswith(f"{leaf} ") and note.endswith(f"→ {value}")]
        assert not [note for note in start.notes if "exact bits" in note]
        assert f"attempt 2: {override}\n" in (start.run.path / "overrides.txt").read_text()
        assert leaf in start.run.events.read_text()
    with begin(runs, override) as start:
        assert start.notes == ["first resumes from step_000002"]


@pytest.mark.parametrize("override", ["optimizer.microbatch_size=4", "optimizer.on_nonfinite=stop", "model.device=cpu"])
def test_a_change_that_costs_exact_bits_says_so(runs: Path, override: str) -> None:
    train(begin(runs), until=2)
    with begin(runs, override) as start:
        leaf, value = override.split("=")
        note = next(note for note in start.notes if note.startswith("exact bits not promised: "))
        assert note.startswith(f"exact bits not promised: {leaf} ")
        assert note.endswith(f"→ {value}")


@pytest.mark.parametrize(
    "override",
    ["seed=1", "model.path=nano/other", "tasks.countdown.max_numbers=4", "algorithm.name=dapo",
     "sampling.group_size=16", "optimizer.learning_rate=1e-5", "curriculum.problems_per_step=8",
     "evaluation.num_problems=10", "model.lora.rank=8"],
)  # fmt: skip
def test_a_change_of_what_the_run_is_is_refused_with_the_difference(runs: Path, override: str) -> None:
    train(begin(runs), until=2)
    before = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}
    leaf = override.split("=")[0]
    with pytest.raises(ValueError, match=r"cannot change in a run\. Undo it, or add --new") as refused:
        begin(runs, override)
    assert leaf in str(refused.value)
    assert "and is " in str(refused.value)
    assert {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()} == before
    with begin(runs, override, new=True) as start:
        assert start.run.path.name == "first-2"


def test_all_refused_changes_are_named_at_once(runs: Path) -> None:
    begin(runs).close()
    with pytest.raises(ValueError) as refused:
        begin(runs, "seed=1", "sampling.group_size=4", "num_steps=7")
    lines = str(refused.value).splitlines()
    assert lines[0] == f"seed was 0 in {runs / 'first'} and is 1 now"
    assert lines[1].startswith(f"sampling.group_size was 8 in {runs / 'first'} and is 4 now; they cannot change")
    assert len(lines) == 2


def test_every_key_has_its_place_in_the_table() -> None:
    assert {resume_class(leaf) for leaf in schema_leaves()} == {"mutable", "inexact", "immutable"}


def test_changed_data_are_refused_or_accepted_and_recorded(runs: Path) -> None:
    train(begin(runs), until=2)
    with pytest.raises(ValueError, match=r"had fingerprint d0 and have d1 now.* --accept-data-change"):
        begin(runs, data_fingerprint="d1")
    with begin(runs, data_fingerprint="d1", accept_data_change=True) as start:
        assert "data changed: fingerprint d0 → d1, accepted" in start.notes
        assert start.identity["data_fingerprint"] == "d1"
        assert start.run.status()["num_data_changes"] == 1
    with begin(runs, data_fingerprint="d1") as start:
        assert start.notes == ["first resumes from step_000002"]


def test_another_machine_is_named(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(begin(runs), until=2)
    versions = environment.versions()
    monkeypatch.setattr(environment, "versions", lambda: {**versions, "torch": "9.9.9"})
    with begin(runs, "torch_threads=2") as start:
        assert start.notes[1:] == [
            "exact bits not promised: torch_threads 1 → 2",
            f"exact bits not promised: torch {versions['torch']} → 9.9.9",
        ]
    torch.set_num_threads(1)


# ---- names and places ----


@pytest.mark.parametrize("name", ["CON", "nul.txt", "lpt1", "a..b"])
def test_names_that_are_no_folder_everywhere_are_refused(runs: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a folder's name everywhere"):
        begin(runs, f"name={name}")


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", "", "-x", "x" * 101, ".hidden"])
def test_names_that_lead_elsewhere_are_refused(runs: Path, name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        begin(runs, f"name='{name}'")


def test_a_link_that_leads_elsewhere_is_refused(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    runs.mkdir()
    (runs / "first").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="leads to"):
        begin(runs)
    (tmp_path / "runs link").symlink_to(runs)
    with begin(tmp_path / "runs link", "name=second") as start:
        assert start.run.path == tmp_path / "runs link/second"


def test_made_names_are_folder_names(runs: Path) -> None:
    config = resolve([runs.parent / "recipe.yaml"], ["model.path=Qwen/Qwen2.5-3B"]).config
    assert place.made_name(config).startswith("countdown-qwen-qwen2-5-3b-20")


def test_a_place_that_cannot_be_written_is_refused_before_torch_is_imported(runs: Path, tmp_path: Path) -> None:
    """A start that is refused takes no seconds: not for the place, nor for a config that may not change."""
    begin(runs).close()
    (tmp_path / "file").write_text("")
    script = """
import sys
from pathlib import Path
from gradus.exits import Exit
from gradus.recipe import resolve
from gradus.train.start import open_run
recipe, runs, file = map(Path, sys.argv[1:])
for place, override in ((file / "runs", "seed=0"), (runs, "seed=1")):
    try:
        open_run(resolve([recipe], [override]), kind="train", runs_dir=place, data_fingerprint="d0")
    except (Exit, ValueError) as error:
        print(getattr(error, "code", 2), "torch" in sys.modules)
"""
    arguments = [sys.executable, "-c", script, runs.parent / "recipe.yaml", runs, tmp_path / "file"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["2 False", "2 False"]


# ---- secrets and space ----


def test_a_secret_in_the_config_is_refused(runs: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.path holds what looks like a secret"):
        begin(runs, "model.path=https://me:hunter2@host/model")


def test_secrets_stay_out_of_the_run_directory(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canaries = ["hf_CANARYcanary0123456789", "c0ffee" * 6 + "c0ff", "hunter2canary"]
    (runs.parent / "recipe.yaml").write_text(f"# token: {canaries[0]}\n# WANDB_API_KEY={canaries[1]}\n" + RECIPE)
    monkeypatch.setenv("HF_TOKEN", canaries[0])
    monkeypatch.setattr(sys, "argv", ["gradus", "train", f"https://me:{canaries[2]}@host", f"--token={canaries[0]}"])
    with begin(runs) as start:
        start.run.log("error", f"login failed: {canaries[1]} https://me:{canaries[2]}@host")
        environment_text = (start.run.path / "environment.json").read_text()
        assert "gradus train" in environment_text
        for path in start.run.path.rglob("*"):
            assert path.is_dir() or not [canary for canary in canaries if canary in path.read_text()], path


def test_the_environment_names_versions_devices_and_commits(runs: Path) -> None:
    facts = environment.environment()
    assert facts["packages"]["torch"] == torch.__version__
    assert facts["torch_threads"] == torch.get_num_threads()
    assert facts["devices"]
    assert json.dumps(facts).isascii()
    assert environment.git_state(runs.parent) is None


def test_uncommitted_changes_have_a_hash(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
        subprocess.run(["git", "-C", tmp_path, *identity, *arguments], check=True, capture_output=True)

    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "x")
    clean = environment.git_state(tmp_path)
    (tmp_path / "a").write_text("2")
    changed = environment.git_state(tmp_path)
    assert clean is not None
    assert changed is not None
    assert clean["changes"] == ""
    assert len(clean["commit"]) == 40
    assert changed["commit"] == clean["commit"]
    assert len(changed["changes"]) == 64


def test_space_is_checked_before_it_is_needed(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with begin(runs) as start:
        run = start.run
    for free, is_refused, is_warned in ((39, True, True), (40, False, True), (79, False, True), (80, False, False)):
        usage = shutil._ntuple_diskusage(100, 0, free * 10**9)  # type: ignore[attr-defined]
        monkeypatch.setattr(place.shutil, "disk_usage", lambda path, usage=usage: usage)
        if is_refused:
            with pytest.raises(Exit, match=r"39\.0 GB free; the run needs about 40\.0 GB") as refused:
                check_disk(run, checkpoint_bytes=10**10, keep_last=3)
            assert refused.value.code == Code.MACHINE
        else:
            assert (check_disk(run, checkpoint_bytes=10**10, keep_last=3) is not None) == is_warned
