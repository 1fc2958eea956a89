"""`gradus sft`, `train`, `evaluate` and `compare`: what makes, measures and compares models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gradus.cli.arguments import Recipe, Split, config_of, names_and_overrides, run_folder, without_secrets
from gradus.exits import Code

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and do nothing.")]
New = Annotated[bool, typer.Option("--new", help="Take NAME-2, NAME-3, ... if the name is taken.")]
FromScratch = Annotated[bool, typer.Option("--from-scratch", help="Move what the run has to superseded/, begin again.")]
Force = Annotated[bool, typer.Option("--force", help="Begin although the disk is too small.")]
AcceptData = Annotated[bool, typer.Option("--accept-data-change", help="Go on although the data have changed.")]
SetName = Annotated[Split | None, typer.Option("--set", help="Split; default: evaluation.split of the config.")]


def sft(
    arguments: Recipe,
    new: New = False,
    from_scratch: FromScratch = False,
    accept: AcceptData = False,
    force: Force = False,
    data: Annotated[
        Path | None, typer.Option("--data", help="JSONL with messages and completion, instead of oracle answers.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Warm up a model on the oracle's answers, or on those of a file."""
    if data is not None:
        arguments = [*arguments, f"sft.data_file={json.dumps(str(data.absolute()))}"]
    _train("sft", arguments, dry_run, new=new, from_scratch=from_scratch, accept_data_change=accept, force=force)


def train(
    arguments: Recipe,
    new: New = False,
    from_scratch: FromScratch = False,
    accept: AcceptData = False,
    force: Force = False,
    backend: Annotated[
        Literal["native", "trl", "verl"] | None,
        typer.Option("--backend", help="Who trains; short for backend.name=..."),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Train with GRPO; an interrupted run goes on by itself."""
    if backend is not None:
        arguments = [*arguments, f"backend.name={backend}"]
    _train("train", arguments, dry_run, new=new, from_scratch=from_scratch, accept_data_change=accept, force=force)


def _train(kind: Literal["train", "sft"], arguments: Sequence[str], is_dry: bool, **options: Any) -> None:
    from gradus import console, verbs

    if is_dry:
        return plan_only(kind, arguments)
    names, overrides = names_and_overrides(arguments)
    folder = run_folder(names)
    summary = verbs.run(kind, config_of(arguments) if folder is None else folder, overrides, **options)
    console.answer(summary, verbs.closing(Path(summary["run"])))
    return None


def plan_only(kind: Literal["train", "sft", "evaluate", "probe"], arguments: Sequence[str]) -> None:
    """What a command would do (`--dry-run`)."""
    from gradus import console, plan
    from gradus.evaluation.probe_table import cost_line
    from gradus.jsonl import read_json
    from gradus.probing import newest
    from gradus.verbs import runs_folder

    resolved = config_of(arguments)
    config = resolved.config
    if kind == "train":
        from gradus.train.backends.settings import check

        check(resolved)
    facts = without_secrets(plan.plan(config, kind))
    if kind == "train" and (path := newest(config, runs_folder())) is not None:
        cost = read_json(path).get("cost") or {}
        facts["probe"] = {"file": str(path), "cost": cost}
        if cost:
            facts["work"]["duration"] = cost_line({**cost, "num_steps": config.num_steps, "hours": cost["hours"]
                                                   * config.num_steps / cost["num_steps"]})  # fmt: skip
    console.answer(facts, plan.as_text(facts))


def evaluate(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL [KEY=VALUE]...", help="RUN@base, RUN@<step>, RUN@best, RUN@last, a folder or a Hub id."
        ),
    ],
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Whose tasks and settings; default: the run's.")
    ] = None,
    split: SetName = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Problems.")] = None,
    samples: Annotated[int | None, typer.Option("--samples", min=1, help="Completions per problem.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for rows and summary.")] = None,
    dry_run: DryRun = False,
) -> None:
    """Measure a model on held-out problems, with intervals."""
    from gradus import console, verbs

    names, overrides = names_and_overrides(arguments)
    if len(names) != 1:
        raise ValueError(f"evaluate takes one model, not {len(names)}; e.g. gradus evaluate runs/first@last")
    settings = [recipe] if recipe else [found["run"]] if (found := verbs.address(names[0])) else []
    if dry_run:
        return plan_only("evaluate", [*settings, *overrides])
    summary = verbs.evaluate(
        names[0], config_of([*settings, *overrides]), split=split, limit=limit, samples=samples, out=out
    )
    console.answer(summary, _estimates(summary))
    return None


def _estimates(summary: dict[str, Any]) -> str:
    """The numbers of a summary that have an interval, as a table."""
    from gradus import console

    rows = [("measure", "value", "95 % interval")]
    for name, estimate in summary.items():
        if isinstance(estimate, dict) and isinstance(estimate.get("value"), int | float):
            low, high = estimate.get("low"), estimate.get("high")
            interval = "" if low is None or high is None else f"{low:.4g} to {high:.4g}"
            rows.append((name, f"{estimate['value']:.4g}", interval))
    for name, by_k in (("pass", summary.get("pass_at", {})), ("maj", summary.get("maj_at", {}))):
        rows += [
            (f"{name}_at_{k}", f"{one['value']:.4g}", f"{one['low']:.4g} to {one['high']:.4g}")
            for k, one in by_k.items()
            if k != "1" and one["value"] is not None
        ]
    played = [f"{name}: {found['sentence']}" for name, found in summary.get("played", {}).items()]
    return "\n".join([console.table(rows), *played])


def compare(
    base: Annotated[str, typer.Argument(metavar="BASE", help="RUN@base, RUN@<step>, or a .jsonl file of rows.")],
    trained: Annotated[list[str], typer.Argument(metavar="TRAINED...", help="The same, one or more.")],
    metric: Annotated[Literal["pass_at_1", "mean_accuracy"], typer.Option("--metric", help="Decides.")] = "pass_at_1",
    split: SetName = None,
    evaluate: Annotated[bool, typer.Option("--evaluate", help="Evaluate first what has not been.")] = False,
    require_better: Annotated[
        bool, typer.Option("--require-better", help="Exit 3 unless the verdict is Better.")
    ] = False,
    allow_mismatch: Annotated[
        bool, typer.Option("--allow-mismatch", help="Compare different settings, under a banner.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Folder; default: the trained run.")] = None,
    regression: Annotated[
        tuple[str, str] | None,
        typer.Option("--regression", metavar="BASE TRAINED", help="Both on other problems; shown, not judged."),
    ] = None,
) -> int:
    """Say whether training changed anything, with its interval. Exit 3 if it made things worse."""
    from gradus import console, verbs

    if out is not None and len(trained) > 1:
        raise ValueError(f"--out={out} cannot hold {len(trained)} comparisons; compare one at a time, or leave it out")
    if regression is not None and len(trained) > 1:
        raise ValueError(f"--regression goes with one trained model, not {len(trained)}; compare one at a time")
    options: dict[str, Any] = {"metric": metric, "split": split, "allow_mismatch": allow_mismatch}
    if evaluate:
        for name in (base, *trained):
            verbs.evaluate_if_missing(name, split)
    if len(trained) == 1:
        found = verbs.compare(base, trained[0], out=out, regression=regression, **options)
    else:
        found = verbs.compare_runs(base, trained, **options)
    other = getattr(found, "regression", None)
    console.answer(found.to_json(), found.sentence + (f"\nOther problems: {other.sentence}" if other else ""))
    is_no = found.verdict == "Worse" or (require_better and found.verdict != "Better")
    return Code.ANSWER_IS_NO if is_no else Code.DONE
