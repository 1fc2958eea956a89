"""gradus.integrations.trl in a user's own script: the same scores as native, whatever a model wrote; real TRL."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gradus import load_task
from gradus.integrations.trl import COLUMNS, dataset, reward, row_of, text_of
from gradus.tasks.base import Task, TaskConfig
from gradus.types import Problem, Score
from tests.integrations.script_tasks import HOSTILE, TASKS
from tests.models import save_model

pytest.importorskip("datasets", reason="datasets is not installed")
ROOT = Path(__file__).parents[2]


def called(scorer: Task, problems: list[Problem], completions: list, **more):
    """The reward function as GRPOTrainer calls it."""
    rows = [row_of(problem) for problem in problems]
    columns = {name: [row[name] for row in rows] for name in COLUMNS}
    return reward(scorer)(prompts=[row["prompt"] for row in rows], completions=completions, **(columns | more))


@pytest.mark.parametrize("name", sorted(TASKS))
def test_a_row_is_enough_to_score(name):
    """Same score as native for the oracle and for hostile texts, though the prompt is not part of what scoring sees."""
    task = load_task(name, **TASKS[name])
    (problem,) = list(task.problems("train", 1))
    texts = [task.oracle(problem), "I do not know.", *HOSTILE]
    native = [task.score(problem, text) for text in texts]
    expected = [score.reward if score.is_usable else None for score in native]
    assert native[0].correct
    assert called(task, [problem] * len(texts), texts) == expected
    messages = [[{"role": "assistant", "content": text}] for text in texts]
    assert called(task, [problem] * len(texts), messages) == expected


def test_reasoning_in_its_own_field_is_put_back():
    message = {"role": "assistant", "reasoning_content": "8 + 5", "content": "<answer>8 + 5 - 2</answer>"}
    assert text_of([message]) == "<think>8 + 5</think><answer>8 + 5 - 2</answer>"


class Unpaid(Task):
    """Gives what a scorer should not: an exception, an infinite reward, a timeout."""

    name = "unpaid"
    reward_range = (0.0, 1.0)

    def problems(self, split, limit=None):
        yield self.problem()

    def problem(self, **raw):
        return Problem(id="unpaid/1", task="unpaid", messages=(), truth={}, domain="unpaid", difficulty=0.0)

    def score(self, problem, text, *, finish="stop"):
        if text == "raise":
            raise ZeroDivisionError("one by none")
        status = "timeout" if text == "timeout" else "scored"
        return Score(reward=float("inf") if text == "inf" else 1.0, correct=True, parts={}, why="x", status=status)

    def oracle(self, problem):
        return "right"


def test_what_cannot_be_scored_is_none_and_counted():
    task, logged, extra = Unpaid(TaskConfig()), {}, {}
    texts = ["right", "raise", "timeout", "inf"]
    problem = task.problem()
    rewards = called(task, [problem] * 4, texts, log_metric=logged.__setitem__, log_extra=extra.__setitem__)
    assert rewards == [1.0, None, None, None]
    assert logged["scoring/error_frac"] == 0.5
    assert extra["why"][1] == "crash: ZeroDivisionError: one by none" and extra["problem_id"] == ["unpaid/1"] * 4


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("task", "chess", "unknown_task"),
        ("truth", "{", "bad_row"),
        ("truth", "[]", "bad_row"),
        ("meta", None, "bad_row"),
    ],
)
def test_a_broken_row_is_none_and_counted(column, value, why):
    task, logged, extra = load_task("countdown", max_numbers=3), {}, {}
    (problem,) = list(task.problems("train", 1))
    more = {column: [value], "log_metric": logged.__setitem__, "log_extra": extra.__setitem__}
    assert called(task, [problem], ["x"], **more) == [None]
    assert logged["scoring/error_frac"] == 1.0 and extra["why"][0].startswith(why)


def test_a_data_set_without_our_columns_is_refused():
    task = load_task("countdown", max_numbers=3)
    with pytest.raises(ValueError, match=r"lacks the columns problem_id, task.*dataset"):
        reward(task)(prompts=["x"], completions=["y"])


def test_a_begun_answer_is_refused():
    with pytest.raises(ValueError, match="begins the assistant's answer"):
        dataset(load_task("countdown", max_numbers=3, prefill_think=True), limit=1)


def test_the_example_of_the_page_runs(tmp_path, monkeypatch):
    """The script in docs/trl.md, with a tiny random policy in the place of its model."""
    trl = pytest.importorskip("trl", reason="trl is not installed")
    (script,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/trl.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names = {"model": str(save_model(tmp_path / "policy")), "config": trl.GRPOConfig(
        output_dir=str(tmp_path / "out"), per_device_train_batch_size=4, num_generations=2, max_completion_length=6,
        max_steps=1, bf16=False, gradient_checkpointing=False, use_cpu=True, report_to=[], save_strategy="no",
        disable_tqdm=True,
    )}  # fmt: skip
    exec(script, names)
    (row,) = [row for row in names["trainer"].state.log_history if "reward" in row]
    assert {"rewards/gradus/mean", "rollout/solve_rate", "scoring/error_frac"} <= row.keys()
    assert row["scoring/error_frac"] == 0.0
