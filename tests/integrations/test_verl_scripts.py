"""gradus.integrations.verl: the same scores as native under the same keys, whatever a row or a model says. No verl."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from gradus import load_task
from gradus.integrations.verl import KEYS, compute_score, write_parquet
from tests.integrations.script_tasks import HOSTILE, TASKS

ROOT = Path(__file__).parents[2]


def rows_of(path: Path) -> list[dict[str, Any]]:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    return parquet.read_table(path).to_pylist()


@pytest.mark.parametrize("name", sorted(TASKS))
def test_a_row_of_the_file_is_enough_to_score(name, tmp_path):
    task = load_task(name, **TASKS[name])
    assert write_parquet(task, tmp_path / "data" / "train.parquet", limit=1) == 1
    (row,) = rows_of(tmp_path / "data" / "train.parquet")
    (problem,) = task.problems("train", 1)
    assert row["data_source"].startswith(f"gradus/{name}")
    for text in (task.oracle(problem), "I do not know.", *HOSTILE):
        native = task.score(problem, text)
        found = compute_score(
            data_source=row["data_source"],
            solution_str=text,
            ground_truth=row["reward_model"]["ground_truth"],
            extra_info=row["extra_info"],
            tasks=json.dumps(TASKS),
            num_turns=1,
        )
        assert tuple(found) == KEYS
        assert found["score"] == native.reward and found["acc"] == float(native.correct)
        assert found["scoring_error"] == 0.0


BROKEN: list[dict[str, Any]] = [
    {"data_source": "openai/chess"},
    {"data_source": ""},
    {"ground_truth": "{"},
    {"ground_truth": "[]"},
    {"ground_truth": "{}"},
    {"ground_truth": None},
    {"extra_info": {"meta": "{"}},
    {"tasks": "{"},
    {"tasks": {"countdown": {"max_numbrs": 3}}},
    {"solution_str": None},
]


@pytest.mark.parametrize("broken", BROKEN, ids=str)
def test_what_cannot_be_scored_has_the_lowest_reward_and_is_counted(broken):
    right = {"data_source": "gradus/countdown", "solution_str": "<answer>8 + 5 - 2</answer>",
             "ground_truth": json.dumps({"id": "x", "numbers": [2, 5, 8], "target": 11})}  # fmt: skip
    assert compute_score(**right)["acc"] == 1.0
    found = compute_score(**right | broken)
    assert tuple(found) == KEYS and all(math.isfinite(value) for value in found.values())
    assert (found["score"], found["acc"], found["scoring_error"]) == (0.0, 0.0, 1.0)


def test_the_example_of_the_page_runs(tmp_path, monkeypatch):
    plan, script = re.findall(r"```python\n(.*?)```", (ROOT / "docs/verl.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(script, {})
    assert len(rows_of(tmp_path / "data/train.parquet")) == 1000
    exec(plan, {})
    assert len(rows_of(tmp_path / "verl/plan.parquet")) == 2 * 32, "three updates, two from each batch of 32"
