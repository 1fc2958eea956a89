"""Real short runs by the command line and by the library: warm-up, training, going on, evaluation, comparison."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradus.recipe import resolve
from gradus.rundir import RunDirectory
from tests.command_line import call, only_json

TINY = [
    "model.init=random", "num_steps=2", "curriculum.problems_per_step=2", "curriculum.num_problems=8", "sampling.group_size=2",
    "sampling.max_tokens=8", "evaluation.num_problems=3", "evaluation.samples_per_problem=2", "torch_threads=1",
]  # fmt: skip


@pytest.mark.slow
def test_from_warm_up_to_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    assert call(capfd, "sft", "sft_countdown_nano", "name=warm", *TINY, "sft.batch_size=2")[0] == 0
    start = [
        "countdown_nano",
        "name=first",
        *TINY,
        "model.init=pretrained",
        "model.path=./runs/warm/checkpoints/step_000002/model",
    ]
    code, out, err = call(capfd, "train", *start)
    assert code == 0 and "step=2/2" in out and "finished: 2 steps" in out and "report: " in out and "new run" in err
    assert (tmp_path / "runs/first/report.html").is_file()
    assert call(capfd, "train", *start)[1].startswith("finished: 2 steps"), "nothing is left to do"
    code, out, _ = call(capfd, "train", "runs/first", "num_steps=3", "--json")
    assert code == 0 and only_json(out)["action"] == "resume"
    code, out, _ = call(capfd, "evaluate", "runs/first@last", "--set", "test", "--limit", "2")
    assert code == 0 and "pass_at_1" in out
    assert call(capfd, "compare", "runs/first@base", "runs/first@3")[0] in (0, 3)
    assert call(capfd, "compare", "runs/first@base", "runs/first@last", "--set", "train")[0] == 4
    assert call(capfd, "compare", "runs/first@base", "runs/first@last", "--set", "train", "--evaluate")[0] in (0, 3)


@pytest.mark.slow
def test_the_library_trains_as_the_command_does(tmp_path: Path):
    import gradus
    from gradus.train.start import stored

    config = resolve(["countdown_nano"], [*TINY, "name=library"]).config
    summary = gradus.train(config, runs_dir=tmp_path)
    assert summary["step"] == 2 and summary["action"] == "new"
    rows = gradus.evaluate(f"{tmp_path}/library@last", stored(RunDirectory.open(tmp_path / "library")), limit=2)
    assert rows["n_problems"] == 2
    assert gradus.compare(f"{tmp_path}/library@2", f"{tmp_path}/library@2").verdict == "Not shown"
