"""What every registered task keeps to, whoever wrote it: the self-test passes, and importing it stays light."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from gradus.tasks.base import TASKS, Task, load_task
from gradus.tasks.check import check_task
from gradus.types import Problem

OFFLINE: dict[str, dict[str, Any]] = {"gsm8k": {"source": "synthetic"}, "math": {"source": "generate"}}
"""Options under which a task has problems without a network; a task that is not listed must work without options."""


@pytest.fixture(params=list(TASKS))
def task(request: pytest.FixtureRequest) -> Task:
    return load_task(request.param, **OFFLINE.get(request.param, {}))


def test_self_test_passes(task: Task) -> None:
    assert [row for row in check_task(task, num=30).rows if not row.ok] == []


def test_is_described(task: Task) -> None:
    assert TASKS[task.name] is type(task)
    assert task.__doc__
    assert "Example:" in task.__doc__
    low, high = task.reward_range
    assert low < high
    assert issubclass(type(task.config), type(task).Config)


def test_a_problem_is_complete(task: Task) -> None:
    for split in task.splits:
        problem = next(iter(task.problems(split, 1)))
        assert isinstance(problem, Problem)
        assert problem.task == task.name
        assert problem.id.startswith(f"{task.name}")
        assert split in problem.id
        assert problem.domain
        assert any(message.role == "user" and message.content.strip() for message in problem.messages)


def test_a_wrong_option_is_named(task: Task) -> None:
    with pytest.raises(ValueError, match="no_such_option"):
        load_task(task.name, no_such_option=1)


def test_import_is_light() -> None:
    """Making every task and drawing nothing loads neither torch nor a network client."""
    program = (
        "import sys; from gradus.tasks.base import TASKS; [TASKS[name] for name in TASKS];"
        "heavy = {'torch', 'transformers', 'datasets', 'sympy', 'matplotlib', 'requests', 'numpy'} & set(sys.modules);"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
