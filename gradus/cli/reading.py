"""`gradus report`, `rollouts`, `track` and `doctor`: reading what a run left, and what the machine is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

Order = Literal["reward", "length", "step"]
Format = Literal["text", "jsonl", "csv", "parquet"]


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder; default: the run's.")] = None,
    max_rollouts: Annotated[int, typer.Option("--max-rollouts", min=0, help="Completions in the page at most.")] = 2000,
    replay_health: Annotated[
        bool, typer.Option("--replay-health", help="Compute the alerts anew from the metrics.")
    ] = False,
) -> None:
    """Write report.html, report.json and the pictures of a run."""
    from gradus import console
    from gradus.report import write_report

    path = write_report(run, out, max_rollouts=max_rollouts, replay_health=replay_health)
    console.answer({"report": str(path)}, str(path))


def rollouts(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    step: Annotated[str | None, typer.Option("--step", metavar="A[:B]", help="A step, or a range.")] = None,
    domain: Annotated[str | None, typer.Option("--domain", help="Only this domain.")] = None,
    bucket: Annotated[str | None, typer.Option("--bucket", help="Only this difficulty bucket.")] = None,
    correct: Annotated[bool | None, typer.Option("--right/--wrong", help="Only right, or only wrong ones.")] = None,
    status: Annotated[str | None, typer.Option("--status", help="Only this outcome of scoring.")] = None,
    reward: Annotated[str | None, typer.Option("--reward", metavar="LO:HI", help="Range of the reward.")] = None,
    grep: Annotated[str | None, typer.Option("--grep", metavar="TEXT", help="Completions that contain TEXT.")] = None,
    sort: Annotated[Order, typer.Option("--sort", help="Highest reward, longest, or earliest first.")] = "step",
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 20,
    format: Annotated[Format, typer.Option("--format", help="Output.")] = "text",
    out: Annotated[Path | None, typer.Option("--out", help="Write to this file; parquet needs one.")] = None,
) -> None:
    """Show recorded completions beside their rewards."""
    from gradus import console
    from gradus.report import rollouts as recorded
    from gradus.rundir import RunDirectory

    keep = recorded.Filter(
        steps=recorded.span(step) if step else None,
        rewards=recorded.bounds(reward) if reward else None,
        domain=domain,
        bucket=bucket,
        is_correct=correct,
        status=status,
        text=grep,
    )
    found = recorded.read(RunDirectory.open(run).path, keep, sort)
    if found.num_torn:
        console.warn(f"{found.num_torn} lines could not be read and were left out")
    shown = found.rows[:limit]
    facts = {"matched": len(found.rows), "shown": len(shown), "torn_lines": found.num_torn}
    if out is not None:
        _write_rollouts(shown, format, out)
        return console.answer(facts | {"out": str(out)}, f"{len(shown)} of {len(found.rows)} completions in {out}")
    if format == "parquet":
        raise ValueError("--format parquet is no text; name a file with --out FILE.parquet")
    console.answer(facts | {"rollouts": shown}, recorded.show(shown, format))
    console.info(f"{len(shown)} of {len(found.rows)} completions")
    return None


def track(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    sink: Annotated[list[str], typer.Option("--sink", help="tensorboard, wandb or trackio; may be given repeatedly.")],
    follow: Annotated[bool, typer.Option("--follow", help="Go on until stdin is closed.")] = False,
) -> None:
    """Send a run's metrics and alerts to experiment trackers: what they have not got yet."""
    from gradus import console
    from gradus.rundir import RunDirectory
    from gradus.tracking.follow import stdin_is_closed, track

    if follow and len(sink) > 1:
        raise ValueError(f"--follow takes one --sink, not {len(sink)}; start a process for each")
    directory = RunDirectory.open(run)
    sent = [track(directory, name, **({"is_over": stdin_is_closed()} if follow else {})) for name in sink]
    lines = [f"{one['sink']}: {one['num_steps_sent']} steps sent, up to step {one['step']}" for one in sent]
    console.answer({"sent": sent}, "\n".join(lines))


def doctor() -> int:
    """Say whether this machine is fit: versions, devices, disk, scorers. Exit 3 if not."""
    from gradus import console
    from gradus.doctor import examine, is_fit
    from gradus.exits import Code
    from gradus.verbs import runs_folder

    findings = examine(runs_folder())
    rows = [("", "what", "found"), *((one.state, one.name, one.text) for one in findings)]
    console.answer({"ok": is_fit(findings), "findings": [one.to_json() for one in findings]}, console.table(rows))
    return Code.DONE if is_fit(findings) else Code.ANSWER_IS_NO


def _write_rollouts(rows: list[dict[str, Any]], format: Format, path: Path) -> None:
    from gradus import durable
    from gradus.data import parquet
    from gradus.report.rollouts import show

    if path.exists():
        raise ValueError(f"{path} exists already; give another --out, or remove it")
    data = parquet.encode(rows, as_text=("parts",)) if format == "parquet" else show(rows, format).encode() + b"\n"
    durable.write_bytes(path, data)
