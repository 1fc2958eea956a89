"""Problems of a task to files that can be trusted: each judged by its own scorer, none twice, none in two splits.

Every row and problem that is left out is counted by reason in ``manifest.json``, with the places of the first ones; of
each split, ``source_rows`` = ``rows`` + ``other_splits`` + all that was dropped. The fingerprint of a data set is a hash of its
rows, so the same options give the same fingerprint anywhere.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from gradus import __version__, durable
from gradus.data import parquet
from gradus.data.intake import MAX_PLACES, Intake
from gradus.data.problems import fingerprint, question
from gradus.data.sources import MAX_DROPPED_FRAC
from gradus.exits import Code, Exit
from gradus.tasks.base import Task, load_task
from gradus.types import SPLITS, Message, Problem, Split

Format = Literal["jsonl", "parquet"]
Layout = Literal["gradus", "verl"]
SCHEMA = "gradus.data/1"
_HARMLESS = ("duplicate", "prompt_over_budget")
"""Reasons that say nothing against the source."""
_OWN = ("data_source", "ability")
"""Columns of verl's layout that a task may fill otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A limit of prompt tokens. Nothing is ever cut: what does not fit loses the spare parts that its task names, or is
    left out.

    Example:
        Budget(max_tokens=1024, tokenizer="Qwen/Qwen2.5-7B-Instruct", count=lambda messages: 540)
    """

    max_tokens: int
    tokenizer: str
    """Whose tokens are counted."""
    count: Callable[[Sequence[Message]], int]
    """Tokens of a prompt in the tokenizer's chat template."""

    def fitted(self, task: Task, problem: Problem) -> Problem | None:
        """The problem with the longest prompt that fits, its tokens in ``meta``; None where none does."""
        for one in itertools.chain([problem], task.shorter(problem)):
            num_tokens = self.count(one.messages)
            if num_tokens <= self.max_tokens:
                return replace(one, meta={**one.meta, "prompt_tokens": num_tokens})
        return None


@dataclass
class Prepared:
    """The problems of one split that are kept, with the answer that proves each solvable, and what was left out.

    Example:
        clean(load_task("countdown"), ["test"], limit=10)["test"].problems[0].id  # "countdown/test/00000"
    """

    problems: list[Problem] = field(default_factory=list)
    solutions: list[str] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    """Problems left out, by reason."""
    num_seen: int = 0
    """Problems that the task gave."""
    places: dict[str, list[str]] = field(default_factory=dict)
    """By reason, the first of them: file and line, or the name of the problem."""
    num_shortened: int = 0
    """Problems whose prompt lost spare parts to fit the limit of tokens."""
    intake: Intake | None = None
    """What became of the rows of the source; None for generated problems."""

    def drop(self, reason: str, problem: Problem) -> None:
        """Counts a problem that is left out."""
        self.dropped[reason] += 1
        places = self.places.setdefault(reason, [])
        if len(places) < MAX_PLACES:
            places.append(str(problem.meta.get("place", problem.id)))


def prepare(
    name: str,
    options: Mapping[str, Any],
    out: Path,
    *,
    splits: Sequence[Split] = SPLITS,
    limit: int | None = None,
    format: Format = "jsonl",
    layout: Layout = "gradus",
    budget: Budget | None = None,
    is_overwriting: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Writes ``<split>.<format>``, the task's side tables and files, and ``manifest.json`` into ``out`` and returns it.
    ``budget`` limits the tokens of a prompt; ``tell`` gets a line before each split.

    Raises:
        ValueError: a wrong option, or ``out`` holds something already. Exit: no usable problems.
    """
    task = load_task(name, **options)
    if out.exists() and not is_overwriting and any(out.iterdir()):
        raise ValueError(f"{out} is not empty; give another folder with --out, or overwrite it with --yes")
    prepared = clean(task, [split for split in splits if split in task.splits], limit=limit, budget=budget, tell=tell)
    contents = {
        f"{split}.{format}": _encode(rows(data, split, layout, task), format) for split, data in prepared.items()
    }
    parts = {
        split: _facts(data) | {"file": file, "sha256": hashlib.sha256(content).hexdigest()}
        for (split, data), (file, content) in zip(prepared.items(), contents.items(), strict=True)
    }
    beside = {
        f"{table}.{format}": _encode([dict(row) for row in rows], format) for table, rows in task.side_tables().items()
    }
    beside |= task.side_files({split: data.problems for split, data in prepared.items()})
    manifest = {
        "schema": SCHEMA,
        "gradus": __version__,
        "task": name,
        "options": task.config.model_dump(mode="json"),
        "format": format,
        "layout": layout,
        "fingerprint": fingerprint(problem for data in prepared.values() for problem in data.problems),
        "splits": parts,
        **(
            {"beside": {file: hashlib.sha256(content).hexdigest() for file, content in beside.items()}}
            if beside
            else {}
        ),
        **({"prompt_tokens": {"max": budget.max_tokens, "tokenizer": budget.tokenizer}} if budget else {}),
        **({"made": dict(task.data_facts())} if task.data_facts() else {}),
    }
    durable.make_directory(out)
    for file, content in (contents | beside).items():
        durable.write_bytes(out / file, content)
    durable.write_json(out / "manifest.json", manifest)
    return manifest


def clean(
    task: Task,
    splits: Sequence[Split],
    *,
    limit: int | None = None,
    budget: Budget | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> dict[Split, Prepared]:
    """The problems of each split that are valid, unique and in no later split: what the test asks is not trained on."""
    prepared: dict[Split, Prepared] = {}
    for split in splits:
        tell(f"{task.name}: making and checking the problems of {split}")
        prepared[split] = _valid(task, split, limit, budget)
    _check_loss(task, prepared)
    taken: dict[str, str] = {}
    for split in reversed(SPLITS):
        if split in prepared:
            _leave_out(prepared[split], taken)
            taken |= {question(problem): f"also_in_{split}" for problem in prepared[split].problems}
    for split, data in prepared.items():
        if not data.problems:
            hint = "give another source or other options"
            raise Exit(
                Code.NOTHING_USABLE, f"{task.name}: no usable problem in split {split!r} ({_reasons(data)})", hint=hint
            )
    return prepared


def _valid(task: Task, split: Split, limit: int | None, budget: Budget | None) -> Prepared:
    """Problems whose prompt fits and whose oracle gets the highest reward, each question once, none with two truths."""
    data = Prepared()
    for problem in task.problems(split, limit):
        data.num_seen += 1
        if budget is not None:
            fitted = budget.fitted(task, problem)
            if fitted is None:
                data.drop("prompt_over_budget", problem)
                continue
            data.num_shortened += fitted.messages != problem.messages
            problem = fitted
        reason, solution = _proof(task, problem)
        if reason:
            data.drop(reason, problem)
        else:
            data.problems.append(problem)
            data.solutions.append(solution)
    data.intake = task.intakes.get(split)
    first: dict[str, Problem] = {}
    conflicts: dict[str, str] = {}
    for problem in data.problems:
        if not task.is_same_truth(first.setdefault(question(problem), problem), problem):
            conflicts[question(problem)] = "conflicting_truth"
    _leave_out(data, conflicts)
    _leave_out_repeats(data)
    return data


def _check_loss(task: Task, prepared: Mapping[Split, Prepared]) -> None:
    """Exit(NOTHING_USABLE) where too many of all problems are not valid."""
    num_seen = sum(data.num_seen for data in prepared.values())
    num_bad = sum(data.dropped.total() - sum(data.dropped[one] for one in _HARMLESS) for data in prepared.values())
    if num_bad > MAX_DROPPED_FRAC * num_seen:
        reasons = "; ".join(f"{split}: {_reasons(data)}" for split, data in prepared.items() if data.dropped)
        raise Exit(
            Code.NOTHING_USABLE,
            f"{task.name}: {num_bad} of {num_seen} problems are not valid ({reasons}); "
            f"at most {MAX_DROPPED_FRAC:.0%} may be left out",
            hint=f"see which: gradus tasks check {task.name}",
        )


def _proof(task: Task, problem: Problem) -> tuple[str, str]:
    """(reason to leave the problem out or "", the oracle's answer)."""
    try:
        solution = task.oracle(problem)
    except ValueError:
        return "no_solution", ""
    score = task.score(problem, solution)
    if not score.is_usable:
        return f"scoring_{score.status}" if score.status != "scored" else score.why.partition(":")[0], ""
    if not score.correct or (task.oracle_is_paid_best and score.reward < task.reward_range[1]):
        return "solution_below_maximum", ""
    return "", solution


def _leave_out(data: Prepared, reasons: Mapping[str, str]) -> None:
    """Leaves out, and counts, the problems whose question has a reason."""
    _keep(data, [reasons.get(question(problem), "") for problem in data.problems])


def _leave_out_repeats(data: Prepared) -> None:
    seen: set[str] = set()
    reasons = []
    for problem in data.problems:
        reasons.append("duplicate" if question(problem) in seen else "")
        seen.add(question(problem))
    _keep(data, reasons)


def _keep(data: Prepared, reasons: Sequence[str]) -> None:
    """Keeps the problems whose reason is empty and counts the others."""
    kept = [index for index, reason in enumerate(reasons) if not reason]
    for problem, reason in zip(data.problems, reasons, strict=True):
        if reason:
            data.drop(reason, problem)
    data.problems = [data.problems[index] for index in kept]
    data.solutions = [data.solutions[index] for index in kept]


def _reasons(data: Prepared) -> str:
    reasons = (
        f"{count} {reason}, first: {', '.join(data.places.get(reason, [])[:3])}"
        for reason, count in data.dropped.most_common()
    )
    return "; ".join(reasons) or "the source is empty"


def _facts(data: Prepared) -> dict[str, Any]:
    difficulties = [problem.difficulty for problem in data.problems]
    intake = data.intake or Intake(num_rows=len(data.problems) + data.dropped.total())
    shortened = {"shortened": data.num_shortened} if data.num_shortened else {}
    return shortened | {
        "source_rows": intake.num_rows,
        "rows": len(data.problems),
        "other_splits": intake.num_elsewhere,
        "dropped": dict(sorted((data.dropped + intake.dropped).items())),
        "first_dropped": dict(sorted({**intake.places, **data.places}.items())),
        "domains": dict(sorted(Counter(problem.domain for problem in data.problems).items())),
        "mean_difficulty": round(sum(difficulties) / len(difficulties), 6),
        "fingerprint": fingerprint(data.problems),
    }


def rows(data: Prepared, split: Split, layout: Layout, task: Task | None = None) -> list[dict[str, Any]]:
    """The rows of a file, JSON values throughout, with the task's own columns behind the common ones."""
    own = [dict(task.columns(problem)) if task else {} for problem in data.problems]
    if layout == "gradus":
        made = [
            {**asdict(problem), "messages": _messages(problem), "solution": solution}
            for problem, solution in zip(data.problems, data.solutions, strict=True)
        ]
    else:
        has_domains = len({problem.domain for problem in data.problems}) > 1
        made = [verl_row(problem, split, index, has_domains) for index, problem in enumerate(data.problems)]
        for row, columns in zip(made, own, strict=True):
            row["extra_info"] = {**columns.pop("extra_info", {}), **row["extra_info"]}
    return [
        row | {name: value for name, value in columns.items() if name not in row or name in _OWN}
        for row, columns in zip(made, own, strict=True)
    ]


def _messages(problem: Problem) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in problem.messages]


def verl_row(problem: Problem, split: Split, index: int, has_domains: bool) -> dict[str, Any]:
    """verl's columns. The source's name is never one that verl knows: for those it uses a reward of its own."""
    return {
        "data_source": f"gradus/{problem.task}" + (f"/{problem.domain}" if has_domains else ""),
        "ability": problem.task,
        "prompt": _messages(problem),
        "reward_model": {"style": "rule", "ground_truth": json.dumps({"id": problem.id, **problem.truth})},
        "extra_info": {
            "split": split,
            "index": index,
            "problem_id": problem.id,
            "domain": problem.domain,
            "difficulty": problem.difficulty,
            "bucket": "",
            "meta": json.dumps(dict(problem.meta)),
        },
    }


def _encode(rows: list[dict[str, Any]], format: Format) -> bytes:
    if format == "parquet":
        return parquet.encode(rows, as_text=("truth", "meta"))
    return "".join(json.dumps(row) + "\n" for row in rows).encode()
