"""The problems of a run: tasks made from the config, training and held-out problems in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradus.config import Config
from gradus.exits import Code, Exit
from gradus.jsonl import read_jsonl
from gradus.tasks.base import Task, load_task
from gradus.types import Message, Problem, Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Problems:
    """What a run trains on.

    Example:
        problems = load_problems(config); problems.train[0].id  # "countdown/train/00000"
    """

    tasks: Mapping[str, Task]
    train: tuple[Problem, ...]
    fingerprint: str
    """SHA-256 over the training problems, in order: changes with any byte of the data."""


def load_tasks(config: Config) -> dict[str, Task]:
    """Task objects by name."""
    return {name: load_task(name, **options) for name, options in config.tasks.items()}


def load_problems(config: Config) -> Problems:
    """Makes or reads the training problems, at most ``curriculum.num_problems`` of each task, and of these only those
    that ``curriculum.problems_file`` names. Exit(NOTHING_USABLE) if there are none."""
    tasks = load_tasks(config)
    limit, file = config.curriculum.num_problems, config.curriculum.problems_file
    train = tuple(problem for task in tasks.values() for problem in task.problems("train", limit))
    if file is not None:
        train = _named_in(Path(file), train)
    if not train:
        raise Exit(Code.NOTHING_USABLE, "the training split is empty", hint="check the task's source in the recipe")
    return Problems(tasks=tasks, train=train, fingerprint=fingerprint(train))


def load_answers(config: Config) -> Problems:
    """What a warm-up learns: the training problems, for their oracle answers, or the rows of ``sft.data_file``, whose
    truth is their completion. ValueError where a row has no messages or no completion."""
    file = config.sft.data_file
    if file is None:
        return load_problems(config)
    if not Path(file).is_file():
        raise ValueError(f"sft.data_file={file!r} does not exist; give a file made by gradus probe --sft-out")
    records = read_jsonl(Path(file))
    if records.num_torn or not records.rows:
        what = f"has {records.num_torn} broken lines" if records.num_torn else "is empty"
        raise ValueError(f"sft.data_file={file!r} {what}; give a file made by gradus probe --sft-out")
    tasks = load_tasks(config)
    train = tuple(_answer(file, number, row, next(iter(tasks))) for number, row in enumerate(records.rows, start=1))
    return Problems(tasks=tasks, train=train, fingerprint=fingerprint(train))


def _answer(file: str, number: int, row: Mapping[str, Any], task: str) -> Problem:
    """A row of a warm-up set as a problem."""
    messages, completion = row.get("messages"), row.get("completion")
    roles = ("system", "user", "assistant")
    is_chat = isinstance(messages, list) and all(
        isinstance(one, dict) and one.get("role") in roles and isinstance(one.get("content"), str) for one in messages
    )
    if not is_chat or not messages or not isinstance(completion, str) or not completion:
        raise ValueError(
            f"{file}:{number} is no answer to learn; a row needs messages (a list of role and content) and completion"
        )
    return Problem(
        id=f"{row.get('problem_id', 'given')}#{number}",
        task=task,
        messages=tuple(Message(role=one["role"], content=one["content"]) for one in messages),
        truth={"completion": completion},
        domain=str(row.get("task", task)),
        difficulty=0.0,
    )


def _named_in(file: Path, problems: tuple[Problem, ...]) -> tuple[Problem, ...]:
    """The problems whose ids are in a JSONL file; ValueError where the file and the problems do not belong together."""
    records = read_jsonl(file)
    names = {row["id"] for row in records.rows if isinstance(row.get("id"), str)}
    if not names or records.num_torn:
        what = f"has {records.num_torn} broken lines" if records.num_torn else "names no problem"
        raise ValueError(f"curriculum.problems_file={str(file)!r} {what}; give a file made by gradus probe --keep")
    kept = tuple(problem for problem in problems if problem.id in names)
    if len(kept) < len(names):
        missing = sorted(names - {problem.id for problem in kept})
        raise ValueError(
            f"{len(missing)} problems of {file} are not among the training problems, the first {missing[0]}; "
            "use the tasks and curriculum.num_problems that the file was made with"
        )
    return kept


def held_out_problems(
    config: Config, tasks: Mapping[str, Task], *, split: Split | None = None, limit: int | None = None
) -> list[Problem]:
    """The first problems of the evaluation split of every task."""
    split = split or config.evaluation.split
    limit = limit or config.evaluation.num_problems
    problems = [problem for task in tasks.values() for problem in task.problems(split, limit)]
    if not problems:
        raise Exit(Code.NOTHING_USABLE, f"the {split} split is empty", hint="set evaluation.split to another one")
    return problems


def question(problem: Problem) -> str:
    """What is asked, without the differences that do not matter: case and blanks."""
    return " ".join(" ".join(message.content for message in problem.messages).casefold().split())


def contamination(held_out: Iterable[Problem], train: Iterable[Problem]) -> dict[str, Any]:
    """Held-out problems whose question training asks too: their number, and the first ids. Such an evaluation measures
    memory."""
    seen = {question(problem) for problem in train}
    ids = {problem.id for problem in held_out if question(problem) in seen}
    return {"num_overlap": len(ids), "problem_ids": sorted(ids)[:20]}


def fingerprint(problems: Iterable[Problem]) -> str:
    """SHA-256 of all that a problem asks and is judged by."""
    digest = hashlib.sha256()
    for problem in problems:
        content = [problem.id, [[m.role, m.content] for m in problem.messages], dict(problem.truth), problem.domain]
        digest.update(json.dumps(content, sort_keys=True, ensure_ascii=True).encode() + b"\n")
    return digest.hexdigest()
