"""The content of `report.html`, section by section, before any markup: words, tables, charts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from gradus.evaluation.compare import Comparison
from gradus.evaluation.pairs import Line
from gradus.evaluation.wording import NOTHING, difference, value
from gradus.redaction import redact
from gradus.report import compared, summary
from gradus.report.browser import Carried, carry
from gradus.report.charts import Figure
from gradus.report.compared import Cells, Slices, line_cells
from gradus.report.curves import curves
from gradus.report.directory import RunFacts
from gradus.report.histograms import distributions
from gradus.report.results import Evaluated, Results


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Everything the template shows.

    Example:
        page = Page.of(RunFacts.of(Path("runs/first")), max_rollouts=2000)
    """

    facts: RunFacts
    results: Results
    carried: Carried
    tiles: list[summary.Tile]
    promise: str
    curves: list[Figure]
    absent_curves: list[str]
    """Titles of the charts that this run has no data for."""
    distributions: list[Figure]
    pass_at_k: Figure | None
    maj_at_k: Figure | None
    shift: Markup | None
    """Solve rate of each problem before and after."""
    slices: list[Slices]
    seen_at_first: str
    """What the first steps saw, beside the probe's forecast."""
    limits: list[str]
    """What the report does not show."""

    @classmethod
    def of(cls, facts: RunFacts, *, max_rollouts: int) -> Page:
        """Computes the whole page from what was read."""
        results = Results.of(facts)
        made, absent = curves(facts.metrics, results.pass_at_1(), facts.alerts)
        comparison = results.comparison
        return cls(
            facts=facts,
            results=results,
            carried=carry(facts.rollouts.rows, max_rollouts=max_rollouts),
            tiles=summary.tiles(facts, results),
            promise=summary.promise(facts),
            curves=made,
            absent_curves=absent,
            distributions=distributions(results.base, results.trained, facts.metrics),
            pass_at_k=compared.pass_at_k(comparison) if comparison else None,
            maj_at_k=compared.maj_at_k(comparison) if comparison else None,
            shift=compared.shift(comparison) if comparison else None,
            slices=compared.slices(comparison) if comparison else [],
            seen_at_first=summary.seen_at_first(facts),
            limits=summary.limits(facts, results),
        )

    @property
    def comparison(self) -> Comparison | None:
        """Base against the newest evaluation."""
        return self.results.comparison

    @property
    def verdict(self) -> str:
        """The one sentence of the report."""
        return self.comparison.sentence if self.comparison else self.results.reason

    @property
    def task_tables_note(self) -> str:
        """Which models the task's tables compare, where these are not those of the verdict above."""
        names, run = self.facts.task_tables_of, self.facts.path.name
        if len(names) != 2 or names[1].endswith(f"@{self.results.trained_step}"):
            return ""
        return (
            f"These tables compare {names[0]} with {names[1]}, not with the newest evaluation, that of step "
            f"{self.results.trained_step}: gradus compare {run}@base {run}@last makes them anew."
        )

    @property
    def evaluated(self) -> list[Cells]:
        """Held-out evaluations: step, Pass@1, change since the base, mean accuracy, problems."""
        sets = self.results.evaluated
        return [
            [f"{name} {one.step}" if len(sets) > 1 else str(one.step), *_evaluated(one)]
            for name, steps in sets.items()
            for one in steps
        ]

    @property
    def summary(self) -> list[Cells]:
        """Headline numbers of the comparison."""
        return [line_cells(line) for line in self.comparison.summary] if self.comparison else []

    @property
    def parts(self) -> list[Cells]:
        """Reward terms and facts of the comparison."""
        return [line_cells(line)[:5] for line in self.comparison.parts] if self.comparison else []

    @property
    def changes(self) -> list[tuple[str, list[Cells]]]:
        """The largest gains and losses of single problems."""
        return compared.changes(self.comparison) if self.comparison else []

    @property
    def alerts(self) -> list[Cells]:
        """Alerts of the health rules, in order of steps."""
        keys = ("severity", "rule", "text", "causes", "actions")
        ordered = sorted(self.facts.alerts, key=lambda row: row["step"])
        return [[str(row["step"]), *(_words(row.get(key)) for key in keys)] for row in ordered]

    @property
    def settings(self) -> list[Cells]:
        """Config leaves: those that someone set first."""
        ordered = sorted(self.facts.settings, key=lambda setting: setting.origin == "default")
        return [[setting.leaf, setting.value, setting.origin] for setting in ordered]

    @property
    def environment(self) -> list[Cells]:
        """What the run ran on."""
        return [[str(key), _words(found)] for key, found in self.facts.environment.items()]


def _evaluated(one: Evaluated) -> Cells:
    change = NOTHING
    if (d := one.difference) is not None:
        change = difference(Line(key="", name="", unit="share", base=d, trained=d, difference=d))
    accuracy = value(one.mean_accuracy, "share" if one.has_unit_rewards else "reward")
    return [value(one.pass_at_1, "share"), change, accuracy, str(one.num_problems)]


def _words(found: Any) -> str:
    """A JSON value as one line for people."""
    if isinstance(found, Mapping):
        return ", ".join(f"{key} {_words(item)}" for key, item in found.items())
    if isinstance(found, list):
        return "; ".join(map(_words, found))
    return "" if found is None else redact(str(found))
