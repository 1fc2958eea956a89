"""Task: what is asked, how an answer is judged, and what a right answer looks like. No torch, no network at import."""

from __future__ import annotations

import abc
import runpy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from gradus.data.intake import Intake
from gradus.health.rule import Rule
from gradus.registry import Registry
from gradus.types import SPLITS, Finish, Group, Message, Problem, Score, Split

Answer = Callable[[Sequence[Sequence[Message]]], Sequence[str]]
"""Prompts to completions, in order."""


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
    reads_prepared: ClassVar[bool] = False
    """Whether ``source`` may be a folder that `gradus prepare` has written."""
    data_sources: ClassVar[tuple[str, ...]] = ()
    """What ``data_source`` may be in its rows of verl's layout, other than ``gradus/NAME``."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Extras or binaries that some of its features need."""

    def __init__(self, config: TaskConfig) -> None:
        self.config = config
        self.intakes: dict[Split, Intake] = {}
        """What became of the source's rows when ``problems`` of a split was last read; nothing for generated ones."""

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

    def answer(self, problem: Problem, text: str, *, correct: bool, finish: Finish = "stop") -> str | None:
        """What ``text`` answers, written alike for texts that answer alike, so that completions can vote (maj@k); None
        where it answers nothing, and for a task whose answers are not voted on. Total for every ``str``.

        ``correct`` is what `score` said: right answers may so be written like the gold, in whatever form they came.
        """
        return None

    @abc.abstractmethod
    def oracle(self, problem: Problem) -> str:
        """Returns a completion that must be correct; ValueError where the problem has no solution."""

    def example(self) -> Problem:
        """A problem like those of the training split, for a dry run: the first one, unless that costs much to make."""
        return next(iter(self.problems("train", 1)))

    def demonstration(self, problem: Problem) -> str:
        """Returns what a warm-up shows: the oracle's completion, unless an option asks for worse ones."""
        return self.oracle(problem)

    def is_same_truth(self, first: Problem, second: Problem) -> bool:
        """Whether two problems that ask the same have the same answer; of a pair that has not, none is used."""
        return dict(first.truth) == dict(second.truth)

    def near_misses(self, problem: Problem) -> Iterable[tuple[str, str]]:
        """(label, text) pairs that look right and are not: each must score below the oracle."""
        return ()

    def check_cases(self) -> Iterable[tuple[str, str, str]]:
        """(name, expected, actual) rows of the task's own self-test, which `gradus tasks check` shows."""
        return ()

    @property
    def oracle_is_paid_best(self) -> bool:
        """Whether the oracle's answer gets the highest reward; not so for a reward kept only for comparison."""
        return True

    def reward_audit(self, problems: Sequence[Problem]) -> Mapping[str, Any] | None:
        """Which terms of the reward an answer to these problems can change, looked at before training: JSON values with
        ``refusal`` (why nobody should train on it; None where it may be), ``warnings`` and a ``table`` for the report.
        None for a task that has nothing to say."""
        return None

    def comparison_tables(
        self,
        base: Sequence[Mapping[str, Any]],
        trained: Sequence[Mapping[str, Any]],
        *,
        played: tuple[Mapping[str, Any] | None, Mapping[str, Any] | None] = (None, None),
    ) -> Sequence[Mapping[str, Any]]:
        """Tables of its own for the report, from the evaluation rows of both models on the same problems and what `play`
        gave for each: mappings with ``title``, ``head``, ``rows`` (of text) and ``reading``."""
        return ()

    def play(self, answer: Answer) -> Mapping[str, Any] | None:
        """What becomes of the task's world if the policy decides in it, as JSON values, with a ``sentence`` for people;
        ``answer`` gives the policy's most likely answer to each prompt. None for a task without such a world."""
        return None

    def shorter(self, problem: Problem) -> Iterator[Problem]:
        """The same problem with ever shorter prompts, for a limit of tokens; nothing where a prompt has no spare parts."""
        return iter(())

    def columns(self, problem: Problem) -> Mapping[str, Any]:
        """Facts about a problem that `gradus prepare` writes as columns of their own, so that other programs can filter
        by them; nobody here reads them back. In verl's layout a mapping under ``extra_info`` joins the column of that
        name, and ``data_source`` and ``ability`` take the place of the usual ones."""
        return {}

    def side_tables(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Rows by name that `gradus prepare` writes beside the problems."""
        return {}

    def side_files(self, problems: Mapping[Split, Sequence[Problem]]) -> Mapping[str, bytes]:
        """Files by name that `gradus prepare` writes beside the problems that it keeps, for what no table holds."""
        return {}

    def data_facts(self) -> Mapping[str, Any]:
        """What the manifest of prepared data says of how they were made, after they were."""
        return {}

    @classmethod
    def data_options(cls, path: str) -> dict[str, Any]:
        """The options under which the task reads the user's file or folder ``path`` (`gradus tasks check --data`)."""
        return {"source": path}

    def data_lines(self) -> list[str]:
        """What `gradus tasks check --data` says about the data themselves; nothing for most tasks."""
        return []

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """Metrics of its own over the groups of a step; a key without data is left out."""
        return {}

    def health_rules(self) -> Sequence[Rule]:
        """Rules of run health of its own, beside H-01 to H-21; their ids begin with the task's name."""
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


_FROM_FILES: dict[Path, tuple[bytes, tuple[str, ...]]] = {}
"""Files of the user's that were run, and the tasks that each registered."""


def register_file(path: str | Path) -> tuple[str, ...]:
    """Runs a Python file of the user's and returns the names of the tasks that it registers. It runs once, and again
    when its content has changed (a notebook, a long session): its tasks then take the places of the earlier ones.

    Raises:
        ValueError: no such file, or it registers no task.
    """
    file = Path(path).resolve()
    if not file.is_file():
        raise ValueError(f"there is no file {path}; give the path of the Python file that registers your task")
    content = file.read_bytes()
    earlier_content, earlier = _FROM_FILES.get(file, (None, ()))
    if content == earlier_content:
        return earlier
    _FROM_FILES.pop(file, None)
    for name in earlier:
        TASKS.discard(name)
    before = set(TASKS)
    runpy.run_path(str(file))
    found = tuple(name for name in TASKS if name not in before)
    if not found:
        raise ValueError(f'{path} registers no task; add TASKS.add("name", YourTask) at its end')
    _FROM_FILES[file] = (content, found)
    return found


def task_class(name: str, path: str | None = None) -> type[Task]:
    """The class of a task; ``path`` is the file of the user's that registers it. ValueError where there is none."""
    if path is not None and name not in (found := register_file(path)):
        raise ValueError(f"{path} registers {', '.join(found)}, not {name!r}; name the task as the file does")
    return TASKS[name]


def load_task(name: str, *, path: str | None = None, **fields: Any) -> Task:
    """Makes a task; keyword arguments are its config fields, and ``path`` the file of your own that registers it.
    ValueError names a wrong task, field or value."""
    chosen = task_class(name, path)
    return chosen(chosen.Config(**fields))
