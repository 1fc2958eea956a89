"""`gradus probe`: is there something to learn before anything is trained?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradus.cli.arguments import Recipe, config_of, names_and_overrides, run_folder
from gradus.cli.runs import DryRun, plan_only


def probe(
    arguments: Recipe,
    model: Annotated[
        str | None, typer.Option("--model", help="RUN@base, RUN@<step>, RUN@best, RUN@last, a folder or a Hub id.")
    ] = None,
    num: Annotated[int | None, typer.Option("--num", min=1, help="Problems; default: probe.num_problems.")] = None,
    samples: Annotated[
        int | None, typer.Option("--samples", min=2, help="Completions per problem; default: 16 or the group size.")
    ] = None,
    keep: Annotated[
        tuple[float, float] | None,
        typer.Option("--keep", metavar="LO HI", help="Write the problems whose solve rate is inside."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="File for the problems of --keep.")] = None,
    recheck: Annotated[
        int | None, typer.Option("--recheck", min=2, help="Sample each kept problem so often again, afresh.")
    ] = None,
    sft_out: Annotated[
        Path | None, typer.Option("--sft-out", help="File for right answers to rarely solved problems, for gradus sft.")
    ] = None,
    time_update: Annotated[
        bool, typer.Option("--time-update", help="Take one real forward and backward pass, for the cost.")
    ] = False,
    rehearse: Annotated[
        int | None,
        typer.Option(
            "--rehearse",
            min=0,
            help="Take so many steps of the training too, for the forecast; nothing of them is kept.",
        ),
    ] = None,
    price_per_hour: Annotated[
        float | None, typer.Option("--price-per-hour", min=0, help="Of the machine, in any currency.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="For probe.json and rows; default: a run's own, or a new one.")
    ] = None,
    dry_run: DryRun = False,
) -> int | None:
    """Say whether training can work: sample as training would, judge, advise. Exit 3 if it cannot yet."""
    from gradus import console, probing
    from gradus.evaluation import probe_table

    if dry_run:
        return plan_only("probe", arguments)
    names, overrides = names_and_overrides(arguments)
    found = probing.probe(
        config_of(arguments),
        model=model,
        num=num,
        samples=samples,
        keep=keep,
        out=out,
        recheck=recheck,
        sft_out=sft_out,
        time_update=time_update,
        rehearse=rehearse,
        price_per_hour=price_per_hour,
        folder=folder or run_folder(names),
        recipe=" ".join([*names, *overrides, *([f"model.path={model}"] if model else [])]),
    )
    console.answer(found.to_json(), "\n".join(probe_table.lines(found)))
    console.info(f"written: {found.facts['folder']}")
    return found.judgement.exit_code
