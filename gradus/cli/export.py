"""`gradus export`: a trained model for everybody else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from gradus.cli.arguments import without_secrets

Dtype = Literal["float32", "bfloat16", "float16"]


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; must be new or empty.")],
    step: Annotated[str, typer.Option("--step", help="best, last, or a number.")] = "best",
    merge: Annotated[bool, typer.Option("--merge", help="Add the adapter to its base: whole weights.")] = False,
    dtype: Annotated[Dtype | None, typer.Option("--dtype", help="Of the weights; default: as trained.")] = None,
    push: Annotated[str | None, typer.Option("--push", metavar="ORG/NAME", help="Upload it to the Hub.")] = None,
    private: Annotated[bool, typer.Option("--private/--public", help="For a repository that is new.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and do nothing.")] = False,
) -> None:
    """Write a checkpoint so that transformers, peft and vLLM load it, with a model card."""
    from gradus import console
    from gradus.integrations import export as exports
    from gradus.train.address import locate

    located = locate(f"{run}@{step}")
    if dry_run:
        facts = {"model": located.model, "step": located.step, "from": located.path, "out": str(out), "push": push}
        facts = without_secrets(facts)
        console.answer(facts, "\n".join(f"{name}: {value}" for name, value in facts.items() if value is not None))
        return
    made = exports.export(located, out, merge=merge, dtype=dtype)
    for note in made["notes"]:
        console.warn(note)
    lines = [f"{size:>14,}  {name}" for name, size in made["files"].items()]
    lines.append(f"{made['bytes']:>14,}  {out}: step {made['step']} of {run}")
    if push is not None:
        console.info("\n".join(lines))  # seen before anything leaves the machine
        made["address"] = exports.push(out, push, is_private=private)
        lines.append(f"uploaded: {made['address']}")
    console.answer(made, "\n".join(lines))
