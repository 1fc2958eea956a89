"""The tutorial as a reader follows it: its files are saved, its commands typed, in order; only the sizes are smaller."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from gradus.tasks.base import TASKS
from tests.command_line import call

PAGE = Path(__file__).parent.parent / "docs/tutorial.md"
FILES = ("middle.py", "middle_start.yaml", "middle.yaml")
SMALL = {
    "sft": ["num_steps=2", "torch_threads=1"],
    "train": [
        "num_steps=2", "torch_threads=1", "curriculum.problems_per_step=2", "curriculum.num_problems=8",
        "evaluation.num_problems=2", "evaluation.samples_per_problem=2",
    ],
    "probe": ["--num", "6", "--samples", "8", "torch_threads=1"],
}  # fmt: skip
ANSWERS = {"probe": (0, 3), "compare": (0, 3)}
"""Exit codes of verbs whose answer may be no."""


def blocks(kind: str) -> list[str]:
    """The page's code blocks of one language; "" are the commands."""
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def save_files(folder: Path) -> None:
    for name, text in zip(FILES, [*blocks("python"), *blocks("yaml")], strict=True):
        (folder / name).write_text(text, encoding="utf-8")


def test_the_task_of_the_tutorial_is_sound(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    save_files(tmp_path)
    try:
        code, out, err = call(capfd, "tasks", "check", "--path", "middle.py", "--num", "20")
        assert code == 0, out + err
    finally:
        TASKS.discard("middle")


@pytest.mark.slow
def test_the_commands_of_the_tutorial_work_in_their_order(tmp_path, monkeypatch, capfd):
    pytest.importorskip("trl")
    monkeypatch.chdir(tmp_path)
    save_files(tmp_path)
    lines = [line.removeprefix("gradus ") for line in "".join(blocks("")).splitlines() if line.startswith("gradus ")]
    assert [shlex.split(line)[0] for line in lines][:4] == ["tasks", "sft", "probe", "train"]
    for line in lines:
        words = shlex.split(line, comments=True)
        code, _, err = call(capfd, *words, *SMALL.get(words[0], []))
        assert code in ANSWERS.get(words[0], (0,)), (line, err)
