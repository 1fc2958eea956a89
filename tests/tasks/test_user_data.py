"""A user's own data and own task, exactly as the guides show them: rows in JSONL, a reward function, a file by path."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gradus.data.prepare import prepare
from gradus.recipe import resolve
from gradus.tasks import base
from gradus.tasks.base import load_task

GUIDE = (Path(__file__).parents[2] / "docs" / "mathematics.md").read_text(encoding="utf-8")
TASK = '''
from gradus.tasks.base import TASKS
from gradus.tasks.countdown import Countdown


class Twin(Countdown):
    """Countdown under another name."""

    name = "{name}"


TASKS.add("{name}", Twin)
'''


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    monkeypatch.setattr(base.TASKS, "_entries", dict(base.TASKS._entries))
    monkeypatch.setattr(base, "_FROM_FILES", {})


def blocks(heading: str) -> list[str]:
    """Code blocks of a section of the guide."""
    section = GUIDE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```\w*\n(.*?)```", section, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the guide shows: rows, reward function and recipe."""
    rows, _ = blocks("Your own data")
    code, recipe, *_ = blocks("Your own reward")
    sums = "".join(json.dumps({"question": f"What is {n} + 1?", "answer": str(n + 1)}) + "\n" for n in range(120))
    (tmp_path / "mine.jsonl").write_text(rows + sums)
    (tmp_path / "my_rewards.py").write_text(code)
    (tmp_path / "mine.yaml").write_text(f"num_steps: 2\n{recipe}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_guides_rows_and_reward_function_work_together(folder: Path):
    options = resolve(["mine.yaml"]).config.tasks["math"]
    task = load_task("math", **options)
    problems = list(task.problems("train"))
    fraction = task.problem(problem="Solve 2x = 3.", answer=r"\frac{3}{2}")
    right = task.score(fraction, r"<think>Halve.</think><answer>\boxed{1.5}</answer>")
    assert len(problems) > 100 and right.correct and 0.98 < right.reward < 1.0
    assert right.parts["custom"] == right.reward
    longer = task.score(fraction, f"<think>{'Halve. ' * 100}</think><answer>\\boxed{{1.5}}</answer>")
    assert longer.correct and longer.reward < right.reward
    assert task.score(fraction, r"<think>Halve.</think><answer>\boxed{2}</answer>").reward == 0.0


def test_the_guides_rows_can_be_prepared(folder: Path):
    manifest = prepare("math", {"source": "mine.jsonl", "columns": {"problem": "question"}}, folder / "prepared")
    assert sum(part["rows"] for part in manifest["splits"].values()) == 122


def test_a_task_of_ones_own_is_found_by_its_path(tmp_path: Path):
    (tmp_path / "twin.py").write_text(TASK.format(name="twin"))
    (tmp_path / "mine.yaml").write_text("num_steps: 2\ntasks:\n  twin:\n    path: ./twin.py\n    max_numbers: 3\n")
    config = resolve([tmp_path / "mine.yaml"]).config
    assert config.tasks["twin"]["path"] == str(tmp_path / "twin.py") and config.tasks["twin"]["max_numbers"] == 3
    task = load_task("twin", **config.tasks["twin"])
    problem = next(task.problems("train"))
    assert task.name == "twin" and task.score(problem, task.oracle(problem)).correct
    again = load_task("twin", **config.tasks["twin"])
    assert type(again) is type(task), "a file that has not changed is run once"
    (tmp_path / "twin.py").write_text(TASK.format(name="twin") + "\n# changed\n")
    edited = load_task("twin", **config.tasks["twin"])
    assert type(edited) is not type(task) and edited.config == task.config, "an edited file takes effect"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "there is no file"),
        ("x = 1", "registers no task"),
        (TASK.format(name="another"), "registers another, not 'lost'"),
    ],
)
def test_a_path_without_the_task_is_an_early_error(tmp_path: Path, content: str | None, complaint: str):
    if content is not None:
        (tmp_path / "lost.py").write_text(content)
    (tmp_path / "mine.yaml").write_text("tasks:\n  lost:\n    path: ./lost.py\n")
    with pytest.raises(ValueError, match=complaint):
        resolve([tmp_path / "mine.yaml"])
