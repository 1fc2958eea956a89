"""Evaluations of a run, read as results: Pass@1 over the steps, each paired with the base; base against the newest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gradus.evaluation.compare import Comparison, PrimaryMetric, compare
from gradus.evaluation.evaluate import has_unit_rewards, mean_reward
from gradus.evaluation.paired import paired_interval
from gradus.evaluation.stats import Estimate, share_interval
from gradus.evaluation.table import Table
from gradus.report.directory import EvaluationSet, RunFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """One held-out evaluation.

    Example:
        Evaluated(step=100, num_problems=200, pass_at_1=..., mean_accuracy=...,
                  has_unit_rewards=True, difference=...)
    """

    step: int
    num_problems: int
    pass_at_1: Estimate
    mean_accuracy: Estimate
    has_unit_rewards: bool
    """Whether the mean accuracy may be shown as a percentage."""
    difference: Estimate | None
    """Pass@1 minus that of the base model on the same problems; None for the base, or where the problems differ."""


@dataclass(slots=True, kw_only=True)
class Results:
    """What the evaluations of a run say.

    Example:
        Results.of(facts).comparison.sentence
    """

    evaluated: dict[str, list[Evaluated]] = field(default_factory=dict)
    """Set name to its evaluations, by step."""
    comparison: Comparison | None = None
    """Base against the newest evaluation of the run's own set."""
    set_name: str = ""
    base: Table | None = None
    trained: Table | None = None
    trained_step: int = 0
    reason: str = ""
    """Why there is no comparison."""

    @classmethod
    def of(cls, facts: RunFacts) -> Results:
        """Reads all sets; what is damaged is added to ``facts.damaged``."""
        results = cls(reason="No verdict: there is no held-out evaluation.")
        for number, one in enumerate(facts.sets):
            tables = _tables(one, facts)
            results.evaluated[one.name] = _evaluated(tables)
            if number == 0:
                results._compare(one, tables, facts.setting("evaluation.primary_metric"))
        return results

    def pass_at_1(self) -> dict[str, dict[int, Estimate]]:
        """Set name to step to Pass@1."""
        return {name: {one.step: one.pass_at_1 for one in steps} for name, steps in self.evaluated.items()}

    def _compare(self, one: EvaluationSet, tables: Mapping[int, Table], metric: str | None) -> None:
        self.set_name = one.name
        later = [step for step in tables if step > 0]
        self.base = tables.get(0)
        if not later:
            self.reason = "No verdict: the base model was evaluated, but no later step."
            return
        self.trained_step = max(later)
        self.trained = tables[self.trained_step]
        if self.base is None:
            self.reason = "No verdict: the base model was not evaluated, so there is nothing to compare with."
            return
        primary: PrimaryMetric = "mean_accuracy" if metric == "mean_accuracy" else "pass_at_1"
        try:
            self.comparison = compare(
                one.rows[0],
                one.rows[self.trained_step],
                metric=primary,
                base_settings=_settings(one, 0),
                trained_settings=_settings(one, self.trained_step),
                allow_mismatch=True,
            )
        except ValueError as error:
            self.reason = f"No verdict: {error}."


def _tables(one: EvaluationSet, facts: RunFacts) -> dict[int, Table]:
    tables = {}
    for step, rows in sorted(one.rows.items()):
        try:
            tables[step] = Table.of(rows)
        except ValueError as error:
            facts.damaged.append(f"evaluations/{one.name}, step {step}: {error}")
    return {step: table for step, table in tables.items() if table.num_problems}


def _evaluated(tables: Mapping[int, Table]) -> list[Evaluated]:
    base = tables.get(0)
    found = []
    for step, table in tables.items():
        difference = None
        if base is not None and step > 0 and table.problem_ids == base.problem_ids:
            difference = paired_interval(table.solve_rates_P - base.solve_rates_P, base.clusters, bounds=(-1.0, 1.0))
        pass_at_1 = share_interval(table.solve_rates_P, table.num_samples, table.clusters)
        found.append(
            Evaluated(
                step=step,
                num_problems=table.num_problems,
                pass_at_1=pass_at_1,
                mean_accuracy=mean_reward(table),
                has_unit_rewards=has_unit_rewards(table),
                difference=difference,
            )
        )
    return found


def _settings(one: EvaluationSet, step: int) -> Mapping[str, Any]:
    settings = one.summaries[step].get("settings")
    return settings if isinstance(settings, Mapping) else {}
