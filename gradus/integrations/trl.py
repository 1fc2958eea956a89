"""gradus tasks in your own TRL script: `dataset` for the prompts, `reward` for the scores. No torch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gradus.tasks.base import Task
from gradus.train.backends.scoring import paid
from gradus.types import Finish, Problem, Score, Split

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = ("problem_id", "task", "domain", "difficulty", "truth", "meta")
"""Columns of `dataset` beside ``prompt``; TRL hands them to the reward function."""
Reward = Callable[..., "list[float | None]"]
"""What `GRPOTrainer` calls by keyword, once for each batch of completions."""


def dataset(task: Task, split: Split = "train", limit: int | None = None) -> Dataset:
    """The task's problems as a data set for `GRPOTrainer`, in the task's order.

    ``truth`` and ``meta`` are JSON texts: Arrow would merge the mappings of all rows into one with invented nulls.
    ValueError where a prompt ends in a begun answer, which TRL would close instead of continuing.

    Example:
        dataset(load_task("countdown", max_numbers=4), limit=10_000)
    """
    from datasets import Dataset

    return Dataset.from_list([row_of(problem) for problem in _with_open_prompts(task.problems(split, limit))])


def row_of(problem: Problem) -> dict[str, Any]:
    """One row: ``prompt`` as messages, and all that scoring needs. Never the rendered prompt: a tokenizer that adds a
    beginning-of-text token would add a second one."""
    return {
        "prompt": [{"role": message.role, "content": message.content} for message in problem.messages],
        "problem_id": problem.id,
        "task": problem.task,
        "domain": problem.domain,
        "difficulty": problem.difficulty,
        "truth": json.dumps(dict(problem.truth)),
        "meta": json.dumps(dict(problem.meta)),
    }


def reward(tasks: Task | Iterable[Task], *, tokenizer: Any = None) -> Reward:
    """The reward function of one task, or of several whose data sets were joined.

    It gives the task's reward, or None where scoring failed: TRL leaves such a completion out of its group's mean and
    gives it no advantage. It never raises for what a model wrote. TRL logs ``rewards/gradus/mean``, the mean of each
    reward part, ``scoring/error_frac`` and ``rollout/solve_rate``.

    Args:
        tasks: must have the options that the data set was made with.
        tokenizer: decodes completions as `gradus` does and tells cut ones from ended ones; without it the text is that
            of TRL, and every completion counts as ended.

    Example:
        GRPOTrainer(model, reward_funcs=[reward(task)], train_dataset=dataset(task)).train()
    """
    by_name = {task.name: task for task in ([tasks] if isinstance(tasks, Task) else tasks)}

    def gradus(
        *,
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        if missing := [name for name in COLUMNS if name not in columns]:
            raise ValueError(
                f"the data set lacks the columns {', '.join(missing)}; make it with gradus.integrations.trl.dataset, "
                "and set remove_unused_columns=False in GRPOConfig"
            )
        scores: list[Score] = []
        for number, completion in enumerate(completions):
            row = {name: columns[name][number] for name in COLUMNS}
            if tokenizer is not None and completion_ids is not None:
                text, finish = decoded(tokenizer, completion_ids[number])
            else:
                text, finish = text_of(completion), "stop"
            scores.append(judge(by_name, row, text, finish))
        for name, value in _means(scores).items() if log_metric else ():
            log_metric(name, value)  # type: ignore[misc]  # it is there
        if log_extra is not None:
            log_extra("problem_id", list(columns["problem_id"]))
            log_extra("why", [score.why for score in scores])
        return [paid(score) for score in scores]

    return gradus


def problem_of(row: Mapping[str, Any]) -> Problem:
    """The problem behind a row, without its prompt, which no scorer reads. ValueError for a row that is none."""
    truth, meta = json.loads(row["truth"]), json.loads(row["meta"])
    if not isinstance(truth, dict) or not isinstance(meta, dict):
        raise ValueError(f"truth and meta of {row['problem_id']!r} must be JSON objects; make the rows with `dataset`")
    return Problem(
        id=row["problem_id"], task=row["task"], messages=(), truth=truth,
        domain=row["domain"], difficulty=row["difficulty"], meta=meta,
    )  # fmt: skip


def judge(tasks: Mapping[str, Task], row: Mapping[str, Any], text: str, finish: Finish) -> Score:
    """The task's score of ``text``. What cannot be scored, because of its row or its scorer, says so in ``status``."""
    if row["task"] not in tasks:
        return _failed("invalid", f"unknown_task: {row['task']!r} is not one of {', '.join(sorted(tasks))}")
    try:
        problem = problem_of(row)
    except (ValueError, TypeError, RecursionError) as error:
        return _failed("invalid", f"bad_row: {error}")
    try:
        return tasks[problem.task].score(problem, text, finish=finish)
    except Exception as error:  # a user's scorer; the sample is lost and counted, the run goes on
        return _failed("crash", f"crash: {type(error).__name__}: {error}")


def decoded(tokenizer: Any, tokens: Sequence[int]) -> tuple[str, Finish]:
    """Text of a completion as everywhere in gradus, and whether it ended by itself: its last token is a special one."""
    text = tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text, "stop" if tokens and tokens[-1] in tokenizer.all_special_ids else "length"


def text_of(completion: Any) -> str:
    """The text of TRL's completion: a string, or messages. Reasoning that a response template has put into a field of
    its own goes back where the model wrote it."""
    if isinstance(completion, str):
        return completion
    parts = []
    for message in completion:
        thinking = message.get("reasoning_content") or message.get("thinking")
        parts.append((f"<think>{thinking}</think>" if thinking else "") + (message.get("content") or ""))
    return "".join(parts)


def _failed(status: Any, why: str) -> Score:
    return Score(reward=0.0, correct=False, parts={}, why=why, status=status)


def _with_open_prompts(problems: Iterable[Problem]) -> Iterable[Problem]:
    for problem in problems:
        if problem.messages[-1].role == "assistant":
            raise ValueError(
                f"the prompt of {problem.id} begins the assistant's answer; TRL would end that turn and open another. "
                "Choose a prompt of the task that does not, or train with gradus train"
            )
        yield problem


def _means(scores: Sequence[Score]) -> dict[str, float]:
    """What TRL logs beside the reward. A part that some completions lack is averaged over those that have it."""
    failed = [score.status in ("timeout", "crash", "invalid") for score in scores]
    means = {"rollout/solve_rate": _mean([score.correct for score in scores]), "scoring/error_frac": _mean(failed)}
    values: dict[str, list[float]] = {}
    for score in scores:
        for name, value in score.parts.items():
            key = f"scoring/{name.removeprefix('info/')}" if name.startswith("info/") else f"rewards/{name}"
            values.setdefault(f"{key}/mean", []).append(value)
    return means | {name: _mean(found) for name, found in sorted(values.items())}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / max(1, len(values))
