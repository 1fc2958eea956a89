"""One recipe and one seed on native, TRL and verl: the same problems in the same order, the same prompts, the same scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gradus.data.problems import load_problems
from gradus.integrations.verl import compute_score
from gradus.rundir import read_jsonl
from gradus.tasks.base import load_task
from gradus.train.backends.scoring import paid, scored
from gradus.train.backends.verl import VerlSession
from gradus.train.backends.verl_plan import write_plan
from gradus.train.session import opened
from gradus.types import Completion
from tests.integrations.script_tasks import HOSTILE
from tests.train import runs

parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
STAGES = {"stages": [[0.5, 0.7, 0.2, 0.1], [1.0, 0.1, 0.2, 0.7]]}


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return runs.tiny(tmp_path_factory.mktemp("tiny"))


def trained_on(folder: Path) -> list[str]:
    """Problems of a finished run, in order."""
    found: list[str] = []
    for path in sorted((folder / "run" / "rollouts").glob("*.jsonl")):
        found += dict.fromkeys(row["problem_id"] for row in read_jsonl(path).rows)
    return found


def planned(config: Any, folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(plan, rows of its parquet file) as a verl run of the config writes them; verl itself is not started."""
    with runs.start_of(config, folder) as start, opened(start, load_problems(config), VerlSession) as session:
        assert isinstance(session, VerlSession)
        write_plan(session, session.folder)
        data = parquet.read_table(session.folder / "plan.parquet").to_pylist()
        return read_jsonl(session.folder / "plan.jsonl").rows, data


def test_the_same_problems_in_the_same_order(policy, tmp_path):
    pytest.importorskip("trl", reason="trl is not installed")
    from gradus.train.backends.trl import train as train_with_trl

    config = runs.config_of(policy, curriculum=STAGES)
    runs.run(config, tmp_path / "native")
    with runs.start_of(runs.config_of(policy, curriculum=STAGES, backend={"name": "trl"}), tmp_path / "trl") as start:
        train_with_trl(start)
    plan, data = planned(config, tmp_path / "verl")
    native = trained_on(tmp_path / "native")
    assert trained_on(tmp_path / "trl") == native
    assert [row["problem_id"] for row in plan] == native
    assert [row["extra_info"]["problem_id"] for row in data] == native


@pytest.mark.parametrize("reward", ["default", "binary", "seed-code"])
def test_the_same_scores_for_the_same_text(policy, tmp_path, reward):
    tasks = {"countdown": {"max_numbers": 3, "reward": reward}}
    task = load_task("countdown", **tasks["countdown"])
    problems = {problem.id: problem for problem in task.problems("train", 24)}
    _, data = planned(runs.config_of(policy, tasks=tasks), tmp_path)
    for row in data[:4]:
        problem = problems[row["extra_info"]["problem_id"]]
        for text in (task.oracle(problem), "<answer>1 + 1</answer>", "I do not know.", *HOSTILE):
            native = task.score(problem, text)
            completion = Completion(text=text, tokens=(), logprobs=(), finish="stop", policy_step=0)
            in_verl = compute_score(
                row["data_source"], text, row["reward_model"]["ground_truth"], row["extra_info"], tasks=tasks
            )
            assert paid(scored(task, problem, completion)) == native.reward == in_verl["score"]
            assert in_verl["acc"] == float(native.correct)


def test_a_longer_plan_keeps_the_steps_that_were_taken(policy, tmp_path):
    short, _ = planned(runs.config_of(policy, num_steps=4), tmp_path / "a")
    long, _ = planned(runs.config_of(policy, num_steps=8), tmp_path / "b")
    assert long[: len(short)] == short and len(long) == 2 * len(short)


def test_several_updates_share_a_batch_of_the_plan(policy, tmp_path):
    plan, _ = planned(runs.config_of(policy, optimizer={"updates_per_batch": 2}), tmp_path)
    assert [(row["batch"], row["step"]) for row in plan] == [(1, 1)] * 4 + [(2, 3)] * 4
