"""The numbers of a report as JSON: `report.json` holds all of the page, `training_report.json` is a short summary."""

from __future__ import annotations

from typing import Any

from gradus.report.metrics import mean, tenths
from gradus.report.page import Page
from gradus.report.results import Evaluated

SCHEMA = "gradus.report/1"
PLOTS = {"training_metrics": "training_metrics.png", "metrics_distribution": "metrics_distribution.png"}


def report_json(page: Page) -> dict[str, Any]:
    """Everything that the page shows, with intervals and metric names, as strict JSON."""
    facts, metrics = page.facts, page.facts.metrics
    return {
        "schema": SCHEMA,
        "name": facts.name,
        "status": {
            key: facts.status.get(key) for key in ("kind", "status", "step", "num_steps", "attempt", "best_step")
        },
        "verdict": page.comparison.verdict if page.comparison else None,
        "sentence": page.verdict,
        "promise": page.promise,
        "comparison": page.comparison.to_json() if page.comparison else None,
        "evaluations": {name: [_evaluated(one) for one in steps] for name, steps in page.results.evaluated.items()},
        "metrics": {
            "steps": metrics.steps,
            "values": metrics.columns,
            "means": {name: metrics.smooth(name) for name in metrics.columns},
            "not_finite": metrics.not_finite,
            "resumed_at": metrics.resumed_at,
        },
        "probe": facts.probe,
        "seen_at_first": page.seen_at_first,
        "alerts": facts.alerts,
        "num_rollouts": {"shown": len(page.carried.rows), "recorded": page.carried.num_recorded},
        "settings": {s.leaf: {"value": s.value, "origin": s.origin} for s in facts.settings},
        "limits": page.limits,
        "missing": facts.missing,
        "damaged": facts.damaged,
    }


def training_report(page: Page) -> dict[str, Any]:
    """Length, reward and loss in short: mean, first and last tenth, extremes; Pass@1 of base and newest step."""
    metrics = page.facts.metrics
    summary: dict[str, Any] = {"total_steps": metrics.last_step, "total_seconds": metrics.total_seconds}
    for name, metric in (("tokens", "completions/mean_length"), ("reward", "reward"), ("loss", "loss")):
        values = metrics.values(metric)
        first, last = tenths(values)
        summary |= {
            f"mean_{name}": mean(values),
            f"first_tenth_{name}": first,
            f"last_tenth_{name}": last,
            f"min_{name}": min(values, default=None),
            f"max_{name}": max(values, default=None),
        }
    steps = page.results.evaluated.get(page.results.set_name, [])
    by_step = {one.step: one.pass_at_1.to_json() for one in steps}
    summary["pass_at_1"] = {"base": by_step.get(0), "last": by_step.get(max(by_step)) if any(by_step) else None}
    summary["plots"] = PLOTS
    return summary


def _evaluated(one: Evaluated) -> dict[str, Any]:
    return {
        "step": one.step,
        "num_problems": one.num_problems,
        "pass_at_1": one.pass_at_1.to_json(),
        "mean_accuracy": one.mean_accuracy.to_json(),
        "difference": None if one.difference is None else one.difference.to_json(),
    }
