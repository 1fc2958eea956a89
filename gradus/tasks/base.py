"""Task: what is asked, how an answer is judged, and what a right answer looks like. No torch, no network at import."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from gradus.health.rule import Rule
from gradus.registry import Registry
from gradus.types import SPLITS, Finish, Group, Problem, Score, Split


class TaskConfig(BaseModel):
    """Base of every task's own options: frozen, typed, unknown keys refused, attribute docstrings are the documentation."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Task(abc.ABC):
    """One family of problems with its scorer and its oracle. Registering it is enough to have it tested, its data
    validated, a warm-up corpus and a model-free dry run.

    Example:
        task = load_task("countdown", max_numbers=4)
        problem = task.problem(numbers=[2, 5, 8], target=11)
        task.score(problem, "<think>8 + 5</think><answer>8 + 5 - 2</answer>").correct  # True
    """

    name: ClassVar[str]
    Config: ClassVar[type[TaskConfig]] = TaskConfig
    scorer_class: ClassVar[Literal["inline", "math", "external", "user"]] = "user"
    """Where ``score`` may run: ``inline`` has a proven linear bound; the others need a killable worker."""
    splits: ClassVar[tuple[Split, ...]] = SPLITS
    max_lucky_frac: ClassVar[float] = 0.1
    """Largest share of problems for which the answer to another one may be right too; higher where right is a region."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Extras or binaries that some of its features need."""

    def __init__(self, config: TaskConfig) -> None:
        self.config = config

    @property
    @abc.abstractmethod
    def reward_range(self) -> tuple[float, float]:
        """Lowest and highest reward that ``score`` can give with this config."""

    @abc.abstractmethod
    def problems(self, split: Split, limit: int | None = None) -> Iterator[Problem]:
        """Yields problems in a fixed order that depends on the config alone. Nothing is read before the first one."""

    @abc.abstractmethod
    def problem(self, **raw: Any) -> Problem:
        """Builds one problem from raw fields; ValueError with value, rule and remedy where they do not fit."""

    @abc.abstractmethod
    def score(self, problem: Problem, text: str, *, finish: Finish = "stop") -> Score:
        """Judges ``text``. Total: every ``str`` gets a Score; only a non-string raises (TypeError)."""

    @abc.abstractmethod
    def oracle(self, problem: Problem) -> str:
        """Returns a completion that must be correct; ValueError where the problem has no solution."""

    def near_misses(self, problem: Problem) -> Iterable[tuple[str, str]]:
        """(label, text) pairs that look right and are not: each must score below the oracle."""
        return ()

    def check_cases(self) -> Iterable[tuple[str, str, str]]:
        """(name, expected, actual) rows of the task's own self-test, which `gradus tasks check` shows."""
        return ()

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """Metrics of its own over the groups of a step; a key without data is left out."""
        return {}

    def health_rules(self) -> Sequence[Rule]:
        """Rules of run health of its own, beside H-01 to H-20; their ids begin with the task's name."""
        return ()


TASKS: Registry[type[Task]] = Registry(
    "task",
    {
        "countdown": "gradus.tasks.countdown:Countdown",
        "gsm8k": "gradus.tasks.gsm8k:Gsm8k",
        "math": "gradus.tasks.mathematics:Mathematics",
        "planning": "gradus.tasks.planning.task:Planning",
        "economy": "gradus.tasks.economy.task:EconomyTask",
    },
)


def load_task(name: str, **fields: Any) -> Task:
    """Makes a task; keyword arguments are its config fields. ValueError names a wrong task, field or value."""
    task_class = TASKS[name]
    return task_class(task_class.Config(**fields))
