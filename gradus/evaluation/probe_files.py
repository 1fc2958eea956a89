"""What a probe leaves for later: the problems worth training on, and right answers to warm up on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gradus import durable
from gradus.data.prepare import Prepared
from gradus.data.prepare import rows as problem_rows
from gradus.data.problems import fingerprint
from gradus.evaluation.evaluate import rows
from gradus.evaluation.probe import signal
from gradus.evaluation.table import Row, Table
from gradus.exits import Code, Exit
from gradus.jsonl import to_lines
from gradus.tasks.base import Task
from gradus.types import Group, Problem

_BELOW = 0.5
"""Problems solved less often give their right answers to a warm-start set."""


def keep_problems(
    groups: Sequence[Group],
    all_rows: Sequence[Row],
    tasks: Mapping[str, Task],
    *,
    between: tuple[float, float],
    out: Path,
    group_size: int,
    again: Callable[[Sequence[Problem]], Sequence[Group]] | None = None,
) -> dict[str, Any]:
    """Writes the problems whose solve rate lies in ``between``, and returns what is said of them. Their estimate by the
    same samples is biased, since these chose them; ``again`` draws fresh ones.

    Raises:
        Exit: no problem, or no problem of a domain, would be left.
    """
    low, high = between
    kept = [group for group in groups if low <= group.solve_rate <= high]
    counts = Counter(group.problem.domain for group in kept)
    _refuse_empty_domains(counts, Counter(group.problem.domain for group in groups), between)
    ids = {group.problem.id for group in kept}
    facts: dict[str, Any] = {
        "file": str(out),
        "range": [low, high],
        "num_problems": len(kept),
        "by_domain": dict(sorted(counts.items())),
        "left_out": len(groups) - len(kept),
        "selected": signal(Table.of([row for row in all_rows if row["problem_id"] in ids]), group_size),
    }
    if again is not None:
        fresh = Table.of(rows(again([group.problem for group in kept])))
        facts["recheck"] = {"samples_per_problem": fresh.num_samples, **signal(fresh, group_size)}
    _write_kept(kept, out, tasks, facts)
    return facts


def _refuse_empty_domains(kept: Counter[str], before: Counter[str], between: tuple[float, float]) -> None:
    empty = sorted(domain for domain in before if not kept[domain])
    if empty:
        raise Exit(
            Code.NOTHING_USABLE,
            f"no problem of {', '.join(empty)} has a solve rate in [{between[0]:g}, {between[1]:g}] "
            f"({', '.join(f'{domain}: {before[domain]} sampled' for domain in empty)}); nothing was written",
            hint="widen --keep, sample more problems (--num), or leave the domain out of the recipe",
        )


def _write_kept(kept: Sequence[Group], out: Path, tasks: Mapping[str, Task], facts: Mapping[str, Any]) -> None:
    """Rows as `gradus prepare` writes them, with what the probe saw; and a manifest beside them."""
    problems = [group.problem for group in kept]
    solutions = [tasks[problem.task].oracle(problem) for problem in problems]
    written = problem_rows(Prepared(problems=problems, solutions=solutions), "train", "gradus")
    for row, group in zip(written, kept, strict=True):
        row["probe"] = {"k": len(group.scores), "correct": sum(score.correct for score in group.scores)}
    durable.make_directory(out.parent)
    durable.write_text(out, to_lines(written))
    manifest = {"schema": "gradus.kept/1", "fingerprint": fingerprint(problems), **facts}
    durable.write_json(out.with_suffix(".manifest.json"), manifest)


def write_warm_start(groups: Sequence[Group], out: Path) -> dict[str, Any]:
    """Writes right completions of problems that are solved in less than half of the samples, each text once."""
    written: list[dict[str, Any]] = []
    for group in groups:
        if group.solve_rate < _BELOW:
            texts = {c.text: None for c, score in zip(group.completions, group.scores, strict=True) if score.correct}
            messages = [{"role": message.role, "content": message.content} for message in group.problem.messages]
            written += [
                {"problem_id": group.problem.id, "task": group.problem.task, "messages": messages, "completion": text}
                for text in texts
            ]
    if not written:
        raise Exit(
            Code.NOTHING_USABLE,
            f"no right completion of a problem with a solve rate below {_BELOW:g}; {out} was not written",
            hint="warm up on the task's own worked answers: gradus sft RECIPE",
        )
    durable.make_directory(out.parent)
    durable.write_text(out, to_lines(written))
    return {"file": str(out), "rows": len(written), "problems": len({row["problem_id"] for row in written})}
