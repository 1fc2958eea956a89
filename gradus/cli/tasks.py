"""`gradus tasks` and `gradus prepare`: what can be asked, whether it is sound, and its problems as files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gradus.cli.arguments import Split, names_and_overrides
from gradus.exits import Code

if TYPE_CHECKING:
    from gradus.data.prepare import Budget
    from gradus.tasks.check import CheckReport

app = typer.Typer(help="What can be asked: list the tasks, check one.")


@app.command("list")
def list_tasks() -> None:
    """List the tasks."""
    from gradus import console
    from gradus.tasks.base import TASKS, load_task

    facts, rows = [], [("task", "scorer", "splits", "reward", "needs")]
    for name in TASKS:
        task = load_task(name)
        (low, high), needs = task.reward_range, list(task.needs)
        rows.append((name, task.scorer_class, " ".join(task.splits), f"{low:g} to {high:g}", " ".join(needs)))
        scorer = {"name": name, "scorer_class": task.scorer_class, "splits": list(task.splits)}
        facts.append(scorer | {"reward_range": [low, high], "needs": needs})
    console.answer({"tasks": facts}, console.table(rows))


@app.command()
def check(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[TASK]... [KEY=VALUE]...", help="Default: all.")
    ] = None,
    path: Annotated[Path | None, typer.Option("--path", help="A Python file of yours that registers a task.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="The tasks' source: a file or folder.")] = None,
    num: Annotated[int, typer.Option("--num", min=1, help="Problems to try.")] = 200,
) -> int:
    """Test tasks and their rewards: right answers, wrong ones, hostile ones. Exit 3 if one fails."""
    from gradus import console
    from gradus.recipe import resolve
    from gradus.tasks.base import TASKS, load_task, register_file
    from gradus.tasks.check import check_task

    names, overrides = names_and_overrides(arguments or [])
    names += register_file(path) if path else []
    names = names or list(TASKS)
    if data is not None:
        options = [(name, TASKS[name].data_options(str(data))) for name in names]
        overrides += [
            f"tasks.{name}.{key}={json.dumps(value)}" for name, given in options for key, value in given.items()
        ]
    chosen = resolve([], [*(f"tasks.{name}={{}}" for name in names), *_prefixed(overrides, names)]).config.tasks
    made = [load_task(name, **options) for name, options in chosen.items()]
    reports = [check_task(task, num) for task in made]
    lines = [task.data_lines() for task in made]
    facts = [{**asdict(one), "ok": one.ok, "data": about} for one, about in zip(reports, lines, strict=True)]
    texts = ["\n".join([_check_text(one), *about]) for one, about in zip(reports, lines, strict=True)]
    console.answer({"checks": facts}, "\n\n".join(texts))
    return Code.DONE if all(one.ok for one in reports) else Code.ANSWER_IS_NO


def _prefixed(overrides: Sequence[str], names: Sequence[str]) -> list[str]:
    """Task options as keys of the config tree; ``max_numbers=3`` means that option of every task named."""
    whole = [one for one in overrides if one.startswith("tasks.")]
    return whole + [f"tasks.{name}.{one}" for one in overrides if not one.startswith("tasks.") for name in names]


def _check_text(report: CheckReport) -> str:
    from gradus import console

    marks = {True: "ok", False: "WRONG"}
    body = [(marks[row.ok], row.name, row.expected, row.actual) for row in report.rows]
    times = f"{report.mean_ms:.3f} ms per score, {report.max_hostile_ms:.1f} ms at most for a hostile text"
    head = f"{report.task}: {report.num_problems} problems, {times}"
    return f"{head}\n{console.table([('', 'check', 'expected', 'actual'), *body])}"


def _budget(model: str, max_tokens: int) -> Budget:
    """The limit of prompt tokens as the tokenizer of ``model`` counts them."""
    from gradus.data.prepare import Budget
    from gradus.policy.load import load_tokenizer
    from gradus.policy.turns import prompt_tokens
    from gradus.verbs import need_torch

    need_torch("gradus prepare --tokenizer")
    loaded = load_tokenizer(model)
    return Budget(max_tokens=max_tokens, tokenizer=model, count=lambda messages: len(prompt_tokens(loaded, messages)))


def prepare(
    arguments: Annotated[list[str], typer.Argument(metavar="TASK [KEY=VALUE]...", help="A task and its options.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder; default: data/TASK.")] = None,
    split: Annotated[Split | None, typer.Option("--split", help="Only this split.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Problems per split at most.")] = None,
    format: Annotated[Literal["jsonl", "parquet"], typer.Option("--format", help="File format.")] = "jsonl",
    layout: Annotated[Literal["gradus", "verl"], typer.Option("--layout", help="Columns.")] = "gradus",
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", metavar="MODEL", help="Count prompt tokens as this model does.")
    ] = None,
    max_prompt_tokens: Annotated[
        int, typer.Option("--max-prompt-tokens", min=1, help="Limit, with --tokenizer; longer prompts are left out.")
    ] = 1024,
    yes: Annotated[bool, typer.Option("--yes", help="Overwrite what is in the folder.")] = False,
) -> None:
    """Write a task's problems to files: valid, unique, without overlap of train and test."""
    from gradus import console
    from gradus.data.prepare import prepare as write
    from gradus.recipe import resolve
    from gradus.tasks.base import task_class
    from gradus.types import SPLITS

    names, overrides = names_and_overrides(arguments)
    if len(names) != 1:
        raise ValueError(f"prepare takes one task, not {len(names)}; see `gradus tasks list`")
    options = resolve([], [f"tasks.{names[0]}={{}}", *_prefixed(overrides, names)]).config.tasks[names[0]]
    folder = out or Path("data") / names[0]
    splits = SPLITS if split is None else (split,)
    manifest = write(
        names[0],
        options,
        folder,
        splits=splits,
        limit=limit,
        format=format,
        layout=layout,
        budget=None if tokenizer is None else _budget(tokenizer, max_prompt_tokens),
        is_overwriting=yes,
        tell=console.info,
    )
    rows = [("split", "rows", "left out", "file")]
    for name, part in manifest["splits"].items():
        dropped = ", ".join(
            f"{count} {why} (first: {', '.join(part['first_dropped'].get(why, [])[:2])})"
            for why, count in part["dropped"].items()
        )
        rows.append((name, str(part["rows"]), dropped or "none", str(folder / part["file"])))
    text = f"{console.table(rows)}\nfingerprint {manifest['fingerprint']}"
    if task_class(names[0]).reads_prepared and layout == "gradus":
        text += f"\nto use them: gradus train RECIPE tasks.{names[0]}.source={folder}"
    console.answer({"out": str(folder), **manifest}, text)
