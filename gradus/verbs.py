"""The verbs as library functions: what `gradus train`, `sft`, `evaluate` and `compare` do, without printing results.

`gradus.train(config)`, `gradus.evaluate(...)` and `gradus.compare(...)` are these.
"""

from __future__ import annotations

import importlib.util
import os
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradus import console, durable
from gradus.algo.presets import cautions, resolve_algorithm
from gradus.config import Config
from gradus.exits import Code, Exit
from gradus.recipe import Resolved, from_config
from gradus.rundir import RunDirectory, read_json, read_jsonl
from gradus.train.start import stored
from gradus.types import Split

if TYPE_CHECKING:
    from gradus.data.problems import Problems
    from gradus.evaluation.compare import Comparison, PrimaryMetric
    from gradus.evaluation.replicates import Replication
    from gradus.train.start import Kind, Start

Evaluated = tuple[list[dict[str, Any]], Mapping[str, Any], Path]
"""Rows, summary, and the folder for what is made of them."""
_MEANS = {"tokens": "completions/mean_length", "reward": "reward", "loss": "loss"}
_ADDRESS = re.compile(r"(?P<run>.+)@(?P<which>base|best|last|\d{1,9})")


def train(config: Config | Resolved, **options: Any) -> dict[str, Any]:
    """Trains with GRPO, or goes on with the run that the config names, and writes the report. Returns the summary.

    Args:
        config: what to run.
        options: of `train.start.open_run`: ``new``, ``from_scratch``, ``accept_data_change``; ``force`` begins although
            the disk is too small; and ``runs_dir``.

    Raises:
        ValueError: the config or the run directory does not fit. Exit: anything that ends a run before its end.
    """
    return run("train", config, **options)


def run(
    kind: Kind,
    config: Config | Resolved | Path,
    overrides: Sequence[str] = (),
    *,
    runs_dir: Path | None = None,
    force: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Begins or goes on with a training run or a warm-up; a ``Path`` is the folder of a run to go on with. ``force``
    makes a warning of a disk that is too small."""
    from gradus.data.order import sampler_for
    from gradus.data.problems import fingerprint, load_answers, load_problems
    from gradus.rollout.engine import need_vllm
    from gradus.tracking.sinks import check_installed
    from gradus.train.interrupt import catch_signals
    from gradus.train.launch import joined
    from gradus.train.start import open_existing, open_run, opened_together

    need_torch(f"gradus {kind}")
    loaded: list[Problems] = []
    audits: dict[str, Mapping[str, Any]] = {}

    def fingerprint_of_data(config: Config) -> str:
        loaded.append(load_answers(config) if kind == "sft" else load_problems(config))
        if kind == "train":
            audits.update(_audited(loaded[0]))
        sampler_for(config, loaded[0].train, kind=kind)  # what does not fit the problems is refused before a run exists
        return fingerprint(loaded[0].train)

    options |= {"kind": kind, "data_fingerprint": fingerprint_of_data}

    def open_start() -> Start:
        if isinstance(config, Path):
            return open_existing(config, tuple(overrides), **options)
        for name in resolved.config.tracking.sinks:  # before a run exists
            check_installed(name)
        if resolved.config.engine.name == "vllm":
            need_vllm()
        return open_run(resolved, runs_dir=runs_folder() if runs_dir is None else runs_dir, **options)

    if isinstance(config, Path):
        resolved = stored(RunDirectory.open(config), tuple(overrides))
    else:
        resolved = from_config(config) if isinstance(config, Config) else config
    with catch_signals() as stop, joined(resolved.config, kind) as launch:
        with stop.at_once():
            start = opened_together(launch, open_start)
        start.is_forced = force
        with start:
            if kind == "train" and start.action == "new":
                _attach_probe(start)
            if start.action != "finished":
                _record_audits(start, audits)
            return _to_the_end(start, loaded[0] if loaded else None)


def _attach_probe(start: Start) -> None:
    """Puts the newest probe about this config, if there is one beside the run, into the run, for its report."""
    from gradus.probing import newest

    path = newest(start.resolved.config, start.run.path.parent)
    if path is not None:
        data = path.read_bytes()
        start.run.tolerate("probe", lambda: durable.write_bytes(start.run.path / "probe.json", data))


def need_torch(what: str) -> None:
    """Says what is missing before anything is made or loaded."""
    for package in ("torch", "transformers", "safetensors"):
        if importlib.util.find_spec(package) is None:
            raise ValueError(f"{what} needs the package {package}; install gradus[train]")


def runs_folder() -> Path:
    """``GRADUS_RUNS_DIR``, or ``runs`` in the working folder."""
    return Path(os.environ.get("GRADUS_RUNS_DIR") or "runs")


def _to_the_end(start: Start, problems: Problems | None) -> dict[str, Any]:
    facts = {"run": str(start.run.path), "action": start.action}
    if start.action == "finished":
        return facts | start.run.status()
    console.info(f"{'resumes' if start.action == 'resume' else 'new run'}: {start.run.path}")
    try:
        summary = _loop(start.kind, start.resolved.config.backend.name)(start, problems)
        return facts | summary | {"report": start.ranks.from_first(lambda: _report(start.run))}
    except (Exit, ValueError, OSError):
        raise
    except Exception as error:
        start.run.log("error", "".join(traceback.format_exception(error)))
        message = f"internal error: {type(error).__name__}: {error}"
        raise Exit(Code.INTERNAL, message, hint=f"its traceback is in {start.run.events}") from error


def _loop(kind: Kind, backend: str) -> Callable[[Start, Problems | None], dict[str, Any]]:
    if kind == "sft":
        from gradus.train.warmup import sft

        return sft
    if backend == "trl":
        from gradus.train.backends.trl import train as train_with_trl

        return train_with_trl
    if backend == "verl":
        from gradus.train.backends.verl import train as train_with_verl

        return train_with_verl
    from gradus.train.loop import train

    return train


def _report(run: RunDirectory) -> str | None:
    """A report that the disk refuses is a warning: the training is done and safe."""
    from gradus.report import write_report

    try:
        return str(write_report(run.path))
    except OSError as error:
        console.warn(
            f"the report could not be written ({error.strerror}); free space and run: gradus report {run.path}"
        )
        return None


def closing(path: Path) -> str:
    """What a run says at its end, read from its directory: steps and time, means, base against trained, warnings."""
    run = RunDirectory.open(path)
    status, rows = run.status(), read_jsonl(run.metrics).rows
    seconds = sum(_numbers(rows, "time/step_seconds"))
    resumed = f" (resumed {status['attempt'] - 1}×)" if status.get("attempt", 1) > 1 else ""
    lines = [f"{status.get('status')}: {status.get('step')} steps in {console.duration(seconds)}{resumed}"]
    means = {name: _numbers(rows, key) for name, key in _MEANS.items()}
    lines.append(" · ".join(f"mean {name} {sum(values) / len(values):.4g}" for name, values in means.items() if values))
    if (path / "comparison.json").is_file():
        lines.append(str(read_json(path / "comparison.json").get("sentence")))
    num_warnings = len(read_jsonl(run.alerts).rows)
    report = path / "report.html"
    lines.append(f"warnings: {num_warnings}" + (f" · report: {report}" if report.is_file() else ""))
    return "\n".join(line for line in lines if line)


def _numbers(rows: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    return [row[key] for row in rows if isinstance(row.get(key), int | float)]


def evaluate(
    model: str,
    config: Config | Resolved,
    *,
    split: Split | None = None,
    limit: int | None = None,
    samples: int | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Evaluates a model on held-out problems of the config's tasks; writes rows and summary. Returns the summary.

    Args:
        model: ``RUN@base``, ``RUN@<step>``, ``RUN@best``, ``RUN@last``, a folder, ``nano/...`` or a Hub id.
        split: None: ``evaluation.split``.
        limit: problems, from the beginning of the split; None: ``evaluation.num_problems``.
        samples: completions per problem; None: ``evaluation.samples_per_problem``.
        out: folder for rows and summary; None: the run's own, for a model of a run.
    """
    from gradus.evaluation.run import evaluate_model
    from gradus.train.launch import refuse_several

    refuse_several("gradus evaluate")
    need_torch("gradus evaluate")
    from gradus.train.address import locate

    resolved = from_config(config) if isinstance(config, Config) else config
    return evaluate_model(locate(model), resolved=resolved, split=split, limit=limit, samples=samples, out=out)


def compare(
    base: str,
    trained: str,
    *,
    metric: PrimaryMetric = "pass_at_1",
    split: Split | None = None,
    allow_mismatch: bool = False,
    out: Path | None = None,
    regression: tuple[str, str] | None = None,
) -> Comparison:
    """Compares evaluations that exist: did training change anything, and how sure is that?

    Args:
        base: ``RUN@base``, ``RUN@<step>``, ``RUN@best``, ``RUN@last``, or a ``.jsonl`` file of evaluation rows.
        trained: one of the same.
        metric: decides the verdict.
        split: None: the run's ``evaluation.split``.
        out: folder for ``comparison.json`` and ``.md``; None: the trained run's.
        regression: base and trained on problems that were not trained for, named in the same way; shown, not judged.

    Raises:
        ValueError: the evaluations are not the same experiment.
        Exit: NOTHING_USABLE names the `gradus evaluate` command that is missing.
    """
    from gradus.evaluation.compare import compare as compare_rows
    from gradus.evaluation.markdown import regression_table

    def compared(base: Evaluated, trained: Evaluated) -> Comparison:
        settings = {"base_settings": base[1].get("settings"), "trained_settings": trained[1].get("settings")}
        return compare_rows(base[0], trained[0], metric=metric, allow_mismatch=allow_mismatch, **settings)

    before, after = evaluated(base, split), evaluated(trained, split)
    comparison = compared(before, after)
    if regression is not None:
        other = compared(*(evaluated(name, split) for name in regression))
        comparison = replace(comparison, regression=other)
    folder = out or after[2]
    durable.make_directory(folder)
    durable.write_json(folder / "comparison.json", comparison.to_json())
    durable.write_text(folder / "comparison.md", comparison.to_markdown())
    tables = _task_tables(before[0], after[0], before[1], after[1])
    if comparison.regression is not None:
        tables.append(regression_table(comparison.regression))
    beside = folder / "comparison_tables.json"
    if tables or beside.exists():  # those of an earlier comparison are not those of this one
        of = [one[1].get("settings", {}).get("model") for one in (before, after)]
        durable.write_json(beside, {"of": of, "tables": tables})
    return comparison


def _audited(problems: Problems) -> dict[str, Mapping[str, Any]]:
    """What the tasks say of their rewards; ValueError where one says that its reward cannot teach."""
    audits = {}
    for name, task in problems.tasks.items():
        found = task.reward_audit([problem for problem in problems.train if problem.task == name])
        if found is not None:
            if found["refusal"]:
                raise ValueError(f"tasks.{name}: {found['refusal']}")
            audits[name] = found
    return audits


def _record_audits(start: Start, audits: Mapping[str, Mapping[str, Any]]) -> None:
    """Puts what was found of the rewards into the run, for its report; warns of that, and of the algorithm's settings."""
    notes = [f"tasks.{name}: {warning}" for name, found in audits.items() for warning in found["warnings"]]
    if start.kind == "train":
        config = start.resolved.config
        notes += cautions(resolve_algorithm(config.algorithm), config.sampling.group_size)
    for note in notes:
        console.warn(note)
        start.run.log("warning", note)
    if audits:
        path = start.run.path / "reward_audit.json"
        start.run.tolerate("reward audit", lambda: durable.write_json(path, audits))


def _task_tables(
    base_rows: list[dict[str, Any]],
    trained_rows: list[dict[str, Any]],
    base: Mapping[str, Any],
    trained: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """What the tasks themselves say of two evaluations; none for tasks of other packages."""
    from gradus.evaluation.run import task_tables
    from gradus.tasks.base import TASKS, load_task

    names = {row["problem_id"].partition("/")[0] for row in trained_rows} & set(TASKS)
    tasks = {name: load_task(name) for name in sorted(names)}
    return task_tables(tasks, base_rows, trained_rows, base=base, trained=trained)


def compare_runs(
    base: str, trained: Sequence[str], *, metric: PrimaryMetric, split: Split | None, allow_mismatch: bool
) -> Replication:
    """Compares several runs of one recipe with one base; each run also gets its own comparison.

    Raises:
        As `compare`.
    """
    from gradus.evaluation.replicates import compare_runs as compare_all

    for name in trained:
        compare(base, name, metric=metric, split=split, allow_mismatch=allow_mismatch)
    rows = {name: evaluated(name, split)[0] for name in trained}
    return compare_all(evaluated(base, split)[0], rows, metric=metric, allow_mismatch=allow_mismatch)


def address(name: str) -> dict[str, str] | None:
    """``RUN@which`` as its two parts, ``run`` and ``which``; None for any other name of a model."""
    match = _ADDRESS.fullmatch(name)
    return match.groupdict() if match else None


def evaluate_if_missing(name: str, split: Split | None) -> None:
    """Evaluates a model of a run where `compare` would find nothing."""
    try:
        evaluated(name, split)
    except Exit:
        found = address(name)
        assert found is not None, "only what a run lacks is an Exit"
        console.info(f"evaluating {name}")
        evaluate(name, stored(RunDirectory.open(Path(found["run"]))), split=split)


def evaluated(name: str, split: Split | None) -> Evaluated:
    """Rows and summary of an evaluation that exists, and the folder for what is made of them."""
    found = address(name)
    if found is None:
        return _rows_of_file(Path(name))
    run = RunDirectory.open(Path(found["run"]))
    set_name = split or stored(run).config.evaluation.split
    step = _step(run, found["which"])
    if step is None or step not in run.evaluation_steps(set_name):
        hint = f"run: gradus evaluate {name} --set {set_name}"
        raise Exit(Code.NOTHING_USABLE, f"{name} has not been evaluated on the {set_name} split", hint=hint)
    return (*run.read_evaluation(set_name, step), run.path)


def _rows_of_file(path: Path) -> tuple[list[dict[str, Any]], Mapping[str, Any], Path]:
    if path.suffix != ".jsonl" or not path.is_file():
        raise ValueError(
            f"{str(path)!r} is not RUN@base, RUN@<step>, RUN@best or RUN@last, and no .jsonl file of evaluation rows"
        )
    records = read_jsonl(path)
    summary = path.with_suffix(".json")
    return records.rows, read_json(summary) if summary.is_file() else {}, path.parent


def _step(run: RunDirectory, which: str) -> int | None:
    """The step behind a name; None where the run has none yet."""
    if which == "base":
        return 0
    if which == "best":
        return run.status().get("best_step")
    if which == "last":
        return run.status().get("checkpoint_step")
    return int(which)
