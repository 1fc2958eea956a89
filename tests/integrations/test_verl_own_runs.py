"""A verl run of the user's own, as docs/verl.md shows it: real verl, on a CPU, with the problems and the scores of gradus."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from gradus import load_task
from gradus.policy.load import resolve_address
from gradus.rundir import read_jsonl
from gradus.train.backends.verl_place import environment, need_verl
from gradus.train.backends.verl_settings import ON_CPU
from tests.command_line import call

PAGE = Path(__file__).parents[2] / "docs/verl.md"
SMALL = ["num_steps=2", "curriculum.problems_per_step=4", "sampling.group_size=4", "sampling.max_tokens=48"]


@pytest.mark.slow
def test_the_command_of_the_page_trains_on_the_tasks_rewards(tmp_path, monkeypatch, capfd):
    try:
        python = need_verl()
    except ValueError as error:
        pytest.skip(str(error))
    monkeypatch.chdir(tmp_path)
    _, script = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(script, {})
    policy, _ = resolve_address("nano/countdown")
    recipe = ("countdown_nano", "model.device=cpu", f"model.path={policy}", *SMALL)
    code, answer, said = call(capfd, "--json", "config", "validate", *recipe, "--backend", "verl")
    assert code == 0, said
    told = json.loads(answer)
    assert told["environment"] == ON_CPU
    (command,) = re.findall(r"python -m verl.trainer.main_ppo (.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    shown = [*shlex.split(command.replace("\\\n", " ")), "data.val_files=data/train.parquet"]
    again = {word.partition("=")[0] for word in shown}
    arguments = [*(word for word in told["overrides"] if word.partition("=")[0] not in again), *shown]
    own = {**told["environment"], "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [str(python), "-m", "verl.trainer.main_ppo", *arguments], env=environment(own), capture_output=True, text=True,
        timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    task = load_task("countdown", max_numbers=4)
    problems = {problem.id: problem for problem in task.problems("train", 1000)}
    rows = read_jsonl(tmp_path / "verl/rollouts/1.jsonl").rows
    assert len(rows) == 16 and len({row["output"] for row in rows}) > 8
    for row in rows:
        score = task.score(problems[json.loads(row["gts"])["id"]], row["output"])
        assert row["score"] == pytest.approx(score.reward, rel=1e-6)
    assert any(row["score"] > 0 for row in rows)
    assert (tmp_path / "verl/global_step_1/actor/huggingface/model.safetensors").is_file(), "a model to load"
