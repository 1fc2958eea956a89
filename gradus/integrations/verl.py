"""gradus tasks in your own verl run: `write_parquet` or `write_plan` for the data, `compute_score` for the reward. No torch,
no verl.

verl calls a reward function once for each completion, by keyword, in a thread of a reward worker. One that raises
costs its whole group without a count (0.9) or ends the run (before); None and NaN are passed on unchecked. So
`compute_score` never raises, and gives finite floats under the same keys in every row.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradus import durable
from gradus.config import Config
from gradus.data import parquet
from gradus.data.order import sampler_for
from gradus.data.prepare import verl_row
from gradus.data.problems import load_problems
from gradus.exits import Code, Exit
from gradus.tasks.base import Task, load_task, task_class
from gradus.train.backends.batches import steps_per_batch
from gradus.types import Problem, Score, Split

KEYS = ("score", "acc", "scoring_error", "refused")
"""What each row has: the reward, whether the answer is correct, whether scoring failed, whether a limit was broken."""


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any] | None = None,
    tasks: str | Mapping[str, Mapping[str, Any]] | None = None,
    **_: Any,
) -> dict[str, float]:
    """The score of one completion, for verl's ``custom_reward_function``.

    ``acc`` is whether the answer is correct, 0 or 1, and never the reward. Where scoring failed the score is the lowest
    reward of the task, and ``scoring_error`` is 1.

    Args:
        data_source: ``gradus/<task>`` or ``gradus/<task>/<domain>``, or another name that the task gives its rows.
        ground_truth: as `write_parquet` writes it.
        tasks: options by task (``reward_kwargs.tasks``, also as JSON text): those that the data were made with.

    Example:
        compute_score("gradus/countdown", "<answer>8 + 5 - 2</answer>", '{"id": "x", "numbers": [2, 5, 8], "target": 11}')
    """
    lowest = 0.0
    try:
        task = _task_of(data_source, ground_truth, tasks)
        lowest = float(task.reward_range[0])
        score = task.score(_problem_of(task, ground_truth, extra_info or {}), solution_str)
    except Exception:  # nothing that a row or a scorer does may cost its group
        return _row(lowest, is_failed=True)
    if not score.is_usable or not math.isfinite(score.reward):
        return _row(lowest, is_failed=True)
    return _row(float(score.reward), score)


def write_parquet(task: Task, path: Path, split: Split = "train", limit: int | None = None) -> int:
    """Writes the task's problems as a parquet file in verl's columns; returns their number.

    ``gradus prepare TASK --format parquet --layout verl`` also checks each problem and keeps test problems out of
    training. Exit(NOTHING_USABLE) if there are none: verl would train on nothing.

    Example:
        write_parquet(load_task("countdown", max_numbers=4), Path("data/train.parquet"), limit=10_000)
    """
    problems = list(task.problems(split, limit))
    if not problems:
        raise Exit(Code.NOTHING_USABLE, f"{task.name} has no {split} problems", hint="check its source")
    has_domains = len({problem.domain for problem in problems}) > 1
    rows = [verl_row(problem, split, index, has_domains) for index, problem in enumerate(problems)]
    durable.make_directory(path.parent)
    durable.write_bytes(path, parquet.encode(rows))
    return len(problems)


def write_plan(config: Config, path: Path, *, tokenizer: Any = None) -> int:
    """Writes the problems of all steps of a recipe in the order of a native run, as verl's data; returns their number.

    verl goes through it once, with ``data.shuffle=false``, so stages and balance of the curriculum hold there too.
    The other settings: `gradus config validate RECIPE --backend verl`.

    Args:
        tokenizer: of transformers; needed where ``sampling.max_prompt_tokens`` leaves problems out.

    Raises:
        ValueError: the order depends on results (adaptive curricula), the tokenizer is missing, or a prompt begins the
            assistant's answer, which verl would close. Exit(NOTHING_USABLE): no problem is left.

    Example:
        write_plan(resolve(["gsm8k_qwen25_3b"]).config, Path("verl/plan.parquet"), tokenizer=tokenizer)
    """
    curriculum, limit = config.curriculum, config.sampling.max_prompt_tokens
    if curriculum.adaptive != "off" or curriculum.cooldown_steps:
        raise ValueError(
            f"curriculum.adaptive={curriculum.adaptive} with cooldown_steps={curriculum.cooldown_steps} decides by results, "
            "and a plan is made before there are any; set adaptive=off and cooldown_steps=0"
        )
    if limit is not None and tokenizer is None:
        raise ValueError(f"sampling.max_prompt_tokens={limit} needs the model's tokenizer; give tokenizer=...")
    problems = [
        problem for problem in load_problems(config).train if limit is None or _length(tokenizer, problem) <= limit
    ]
    if not problems:
        message = f"every prompt has more than sampling.max_prompt_tokens={limit} tokens"
        raise Exit(Code.NOTHING_USABLE, message, hint="raise sampling.max_prompt_tokens")
    begun = [problem.id for problem in problems if problem.messages[-1].role == "assistant"]
    if begun:
        raise ValueError(
            f"the prompt of {begun[0]} begins the assistant's answer, which verl would close; choose another"
        )
    sampler = sampler_for(config, problems, kind="train")
    drawn = [problem for step in range(0, config.num_steps, steps_per_batch(config)) for problem in sampler.draw(step)]
    has_domains = len({problem.domain for problem in problems}) > 1
    rows = [verl_row(problem, "train", index, has_domains) for index, problem in enumerate(drawn)]
    durable.make_directory(path.parent)
    durable.write_bytes(path, parquet.encode(rows))
    return len(rows)


def _length(tokenizer: Any, problem: Problem) -> int:
    messages = [{"role": message.role, "content": message.content} for message in problem.messages]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])


def _task_of(data_source: str, ground_truth: str, tasks: str | Mapping[str, Mapping[str, Any]] | None) -> Task:
    name = data_source.removeprefix("gradus/").partition("/")[0]
    if not data_source.startswith("gradus/"):
        asked = str(json.loads(ground_truth)["id"]).partition("/")[0]
        name = asked if data_source in task_class(asked).data_sources else name
    options = json.loads(tasks) if isinstance(tasks, str) else tasks or {}
    return _made(name, json.dumps(dict(options.get(name, {})), sort_keys=True))


@functools.cache
def _made(name: str, options: str) -> Task:
    """Made once per reward worker."""
    return load_task(name, **json.loads(options))


def _problem_of(task: Task, ground_truth: str, extra_info: Mapping[str, Any]) -> Problem:
    truth = dict(json.loads(ground_truth))
    meta = extra_info.get("meta") or "{}"
    return Problem(
        id=str(truth.pop("id", extra_info.get("problem_id", ""))), task=task.name, messages=(), truth=truth,
        domain=str(extra_info.get("domain", task.name)), difficulty=float(extra_info.get("difficulty") or 0.0),
        meta=json.loads(meta) if isinstance(meta, str) else dict(meta),
    )  # fmt: skip


def _row(reward: float, score: Score | None = None, *, is_failed: bool = False) -> dict[str, float]:
    is_refused = score is not None and score.status == "refused"
    values = (reward, float(score is not None and score.correct), float(is_failed), float(is_refused))
    return dict(zip(KEYS, values, strict=True))
