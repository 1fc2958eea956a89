"""Reports of runs: `write_report` makes them from a run directory alone, without torch and without network."""

from __future__ import annotations

from pathlib import Path

__all__ = ["write_report"]


def write_report(
    run_path: Path, out: Path | None = None, *, max_rollouts: int = 2000, replay_health: bool = False
) -> Path:
    """Writes `report.html`, `report.json`, `training_report.json` and two PNG, and returns the path of the first.

    A pure function of the directory: the same files give the same bytes. A running, interrupted or damaged run has a
    report too, which names what is missing.

    Args:
        run_path: a run directory.
        out: folder for the files; None: the run directory itself.
        max_rollouts: completions that the page carries at most.
        replay_health: compute the alerts anew from the metrics instead of reading `alerts.jsonl`.

    Raises:
        ValueError: nothing in ``run_path`` belongs to a run, or ``max_rollouts`` is negative.
    """
    from gradus import durable
    from gradus.jsonl import finite
    from gradus.report import html, numbers, plots
    from gradus.report.directory import RunFacts
    from gradus.report.page import Page

    if max_rollouts < 0:
        raise ValueError(f"max_rollouts={max_rollouts} is negative; it must be 0 or more")
    page = Page.of(RunFacts.of(Path(run_path), replay_health=replay_health), max_rollouts=max_rollouts)
    folder = Path(run_path) if out is None else Path(out)
    durable.make_directory(folder, what="report")
    files = {
        "training_metrics.png": plots.training_metrics(page.facts.metrics, page.results),
        "metrics_distribution.png": plots.metrics_distribution(page.facts.metrics, page.results),
    }
    for name, data in files.items():
        durable.write_bytes(folder / name, data, what="report")
    durable.write_json(folder / "training_report.json", numbers.training_report(page), what="report")
    durable.write_json(folder / "report.json", finite(numbers.report_json(page)), what="report")
    durable.write_text(folder / "report.html", html.render(page), what="report")
    return folder / "report.html"
