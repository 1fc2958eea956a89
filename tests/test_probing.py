"""`gradus probe` whole, as a function and as a command: files, exit codes, the table, a real policy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import gradus
from gradus import durable
from gradus.cli import main as cli
from gradus.data.problems import load_answers
from gradus.evaluation.probe_table import lines
from gradus.jsonl import read_json, read_jsonl
from gradus.probing import newest, samples_of
from gradus.recipe import to_yaml
from tests.train.runs import config_of, run, tiny

SCRIPTED = ["countdown_nano", "engine.name=scripted", "torch_threads=1", "probe.rehearse_steps=0"]


def test_a_probe_of_a_capable_policy_says_go_and_writes_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    arguments = [*SCRIPTED, "--num", "20", "--price-per-hour", "2", "--keep", "0.1", "0.9", "--out", "kept.jsonl"]
    code = cli.run(["probe", *arguments])
    out = capfd.readouterr().out
    assert (
        code == 0 and "VERDICT GO: train" in out and out.startswith("probe  countdown · nano/countdown · 20 problems")
    )
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("probe-countdown-nano-countdown-")
    found = read_json(folder / "probe.json")
    assert found["verdict"] == "GO" and found["settings"]["model"] == "nano/countdown"
    assert len((folder / "probe_rows.jsonl").read_text().splitlines()) == 20 * 16
    assert found["cost"]["disk_bytes"] > 1e6 and "folder" not in found
    assert cli.run(["--json", "probe", *arguments]) == 2, "kept.jsonl exists"
    assert "exists already" in json.loads(capfd.readouterr().out)["error"]["message"]


def test_the_same_on_a_saturated_and_on_a_hopeless_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    verdicts = {}
    for error_rate in ("0.0", "1.0"):
        code = cli.run(["--json", "probe", *SCRIPTED, f"engine.error_rate={error_rate}", "--num", "20"])
        verdicts[error_rate] = (code, json.loads(capfd.readouterr().out)["verdict"])
    assert verdicts == {"0.0": (3, "HARDER_DATA"), "1.0": (3, "SFT_FIRST")}


def test_a_real_policy_is_sampled_and_an_update_is_timed(tmp_path: Path):
    config = config_of(tiny(tmp_path))
    before = [path.read_bytes() for path in sorted((tmp_path / "policy").iterdir())]
    found = gradus.probe(config, num=5, time_update=True, folder=tmp_path / "probe")
    assert found.judgement.rule == "V2", "a random policy does not stop"
    assert found.facts["cost"]["update_seconds"] > 0 and found.facts["entropy"]["value"] > 1
    assert "raise the token limit" in "\n".join(lines(found))
    assert before == [path.read_bytes() for path in sorted((tmp_path / "policy").iterdir())]


def test_a_checkpoint_of_a_run_can_be_probed_and_trained_from(tmp_path: Path):
    run(config_of(tiny(tmp_path)), tmp_path / "runs")
    first = tmp_path / "runs" / "run"
    config = config_of(Path(f"{first}@2"), name="second", num_steps=1)
    found = gradus.probe(config, num=2, folder=tmp_path / "probe")
    assert found.facts["settings"]["step"] == 2
    other = gradus.probe(config, model=f"{first}@base", num=2, folder=tmp_path / "probe")
    assert other.facts["settings"]["step"] == 0
    assert [row["completion"] for row in found.rows] != [row["completion"] for row in other.rows]
    summary = run(config, tmp_path / "runs")
    assert summary["step"] == 1


def test_too_few_samples_for_the_groups_of_training_are_refused(tmp_path: Path):
    config = config_of(tmp_path, sampling={"group_size": 32})
    assert samples_of(config, None) == 32 and samples_of(config_of(tmp_path), None) == 16
    assert samples_of(config_of(tmp_path, probe={"samples_per_problem": 8}), None) == 8
    with pytest.raises(ValueError, match=r"16 samples per problem .* use --samples 32"):
        samples_of(config, 16)


def test_a_dry_run_samples_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    assert cli.run(["probe", "countdown_nano", "--dry-run"]) == 0  # 200 problems × 16, and six batches of 32 × 8
    assert "completions: 4,736" in capfd.readouterr().out and not list(tmp_path.iterdir())


def test_a_warm_up_learns_the_answers_of_a_file(tmp_path: Path):
    rows = [
        {"problem_id": "a", "messages": [{"role": "user", "content": "2 3 to 5"}], "completion": "<answer>2+3</answer>"}
    ]
    file = tmp_path / "warm.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = {"num_steps": 6, "sft": {"batch_size": 4, "data_file": str(file)}, "optimizer": {"learning_rate": 3e-3}}
    run(config_of(tiny(tmp_path), **changes), tmp_path / "runs", kind="sft")
    losses = [row["loss"] for row in read_jsonl(tmp_path / "runs" / "run" / "metrics.jsonl").rows]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "is empty"), ("{", "1 broken lines"), ('{"messages": []}\n', "warm.jsonl:1 is no answer to learn")],
)
def test_a_file_that_holds_no_answers_is_refused(tmp_path: Path, text: str, message: str):
    (tmp_path / "warm.jsonl").write_text(text)
    config = config_of(tmp_path, sft={"data_file": str(tmp_path / "warm.jsonl")})
    with pytest.raises(ValueError, match=message):
        load_answers(config)


def test_a_probe_beside_a_run_is_shown_in_its_report_and_gives_a_plan_its_duration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    config = config_of(tiny(tmp_path), name=None, num_steps=1)
    gradus.probe(config, num=2)
    gradus.probe(config, num=2, model="nano/countdown")  # of another model: not about this run
    (path,) = [path for path in (tmp_path / "runs").glob("probe-*/probe.json") if "policy" in str(path)]
    assert newest(config, tmp_path / "runs") == path
    assert newest(config.model_copy(update={"seed": 5, "num_steps": 7}), tmp_path / "runs") == path
    other = config.model_copy(update={"sampling": config.sampling.model_copy(update={"group_size": 2})})
    assert newest(other, tmp_path / "runs") is None
    summary = gradus.train(config)
    assert read_json(Path(summary["run"]) / "probe.json") == read_json(path)
    page = (Path(summary["run"]) / "report.html").read_text()
    assert "Probe before training" in page and "VERDICT NO_GO" in page
    (Path(summary["run"]) / "probe.json").write_text('{"schema": "gradus.probe/1", "n_problems": 3}')
    assert cli.run(["report", summary["run"]]) == 0
    page = (Path(summary["run"]) / "report.html").read_text()
    assert "Probe before training" not in page and "probe.json cannot be read" in page
    durable.write_text(tmp_path / "x.yaml", to_yaml(config))
    capfd.readouterr()
    assert cli.run(["train", "x.yaml", "num_steps=10", "--dry-run"]) == 0
    assert "duration: about 1 min for 10 steps" in capfd.readouterr().out
