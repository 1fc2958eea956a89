"""The planned data of a verl run: the problems of a native run, in its order."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradus.exits import Exit
from gradus.integrations.verl import compute_score, write_plan
from gradus.policy.load import load_policy
from gradus.recipe import from_config
from gradus.rundir import read_jsonl
from gradus.tasks.base import load_task
from tests.train import runs

parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return runs.tiny(tmp_path_factory.mktemp("tiny"))


def planned(config, path: Path, **options) -> list[dict]:
    whole = from_config(config).config
    count = write_plan(whole, path, **options)
    rows = parquet.read_table(path).to_pylist()
    assert len(rows) == count
    return rows


@pytest.mark.parametrize("updates", [1, 2])
def test_the_plan_is_the_order_of_a_native_run(policy, tmp_path, updates):
    config = runs.config_of(
        policy,
        optimizer={"updates_per_batch": updates},
        curriculum={"stages": [[0.5, 0.7, 0.2, 0.1], [1.0, 0.1, 0.2, 0.7]]},
    )
    rows = planned(config, tmp_path / "verl" / "plan.parquet")
    runs.run(config, tmp_path)
    native: list[str] = []
    for step in range(1, 5):
        found = read_jsonl(tmp_path / "run" / "rollouts" / f"step_{step:06d}.jsonl").rows
        native += dict.fromkeys(row["problem_id"] for row in found)
    assert [row["extra_info"]["problem_id"] for row in rows] == native
    assert [row["extra_info"]["index"] for row in rows] == list(range(len(rows)))


def test_a_row_of_the_plan_is_enough_to_score(policy, tmp_path):
    config = runs.config_of(policy)
    task = load_task("countdown", **config.tasks["countdown"])
    by_id = {problem.id: problem for problem in task.problems("train", 24)}
    for row in planned(config, tmp_path / "plan.parquet")[:3]:
        found = compute_score(
            row["data_source"], task.oracle(by_id[row["extra_info"]["problem_id"]]),
            row["reward_model"]["ground_truth"], row["extra_info"], tasks=config.tasks,
        )  # fmt: skip
        assert found["acc"] == 1.0 and found["scoring_error"] == 0.0


def test_long_prompts_are_left_out(policy, tmp_path):
    tokenizer = load_policy(runs.config_of(policy).model).tokenizer
    config = runs.config_of(policy, sampling={"max_prompt_tokens": 1, "group_size": 4, "max_tokens": 12})
    with pytest.raises(ValueError, match=r"max_prompt_tokens=1 needs the model's tokenizer"):
        planned(config, tmp_path / "plan.parquet")
    with pytest.raises(Exit, match="every prompt has more than"):
        planned(config, tmp_path / "plan.parquet", tokenizer=tokenizer)


def test_an_order_that_depends_on_results_is_refused(policy, tmp_path):
    config = runs.config_of(policy, curriculum={"stages": [[1.0, 1, 1, 1]], "adaptive": "variance"})
    with pytest.raises(ValueError, match=r"curriculum.adaptive=variance .* decides by results"):
        planned(config, tmp_path / "plan.parquet")


def test_a_begun_answer_is_refused(policy, tmp_path):
    config = runs.config_of(policy, tasks={"countdown": {"max_numbers": 3, "prefill_think": True}})
    with pytest.raises(ValueError, match="begins the assistant's answer, which verl would close"):
        planned(config, tmp_path / "plan.parquet")
