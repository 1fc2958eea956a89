"""Everything a report needs from a run directory, read once. Works on whole, running, interrupted and damaged runs:
what is not there, or cannot be read, is named in ``missing`` and ``damaged``, and nothing else is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from gradus import yaml12
from gradus.evaluation.probe_table import lines
from gradus.jsonl import read_json, read_jsonl
from gradus.redaction import redact
from gradus.report.health import replay
from gradus.report.metrics import Metrics
from gradus.report.rollouts import Found, read, step_files

T = TypeVar("T")

_KNOWN = (".gradus", "metrics.jsonl", "run.json", "resolved.yaml", "rollouts", "evaluations")
MAX_EVALUATION_BYTES = 256_000_000
"""Rows of all evaluations of one set that are read to pair each with the base; beyond it only base and newest are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSet:
    """The evaluations of one set of problems.

    Example:
        EvaluationSet(name="validation", summaries={0: {...}, 100: {...}}, rows={0: [...], 100: [...]})
    """

    name: str
    summaries: Mapping[int, Mapping[str, Any]]
    """By step; 0 is the base model."""
    rows: Mapping[int, list[dict[str, Any]]]
    """By step; the same steps, or only the first and the last where all would be too many bytes."""

    @property
    def last_step(self) -> int:
        """The newest evaluated step."""
        return max(self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One leaf of the config.

    Example:
        Setting(leaf="optimizer.learning_rate", value="1e-06", origin="recipes/x.yaml:12")
    """

    leaf: str
    value: str
    origin: str


@dataclass(slots=True, kw_only=True)
class RunFacts:
    """What a run directory says.

    Example:
        RunFacts.read(Path("runs/first")).metrics.columns["reward"]
    """

    path: Path
    status: dict[str, Any] = field(default_factory=dict)
    metrics: Metrics
    has_alerts: bool = False
    """Whether health rules were evaluated; they may have raised nothing."""
    alerts: list[dict[str, Any]] = field(default_factory=list)
    not_evaluable: list[str] = field(default_factory=list)
    """Health rules whose metrics the run does not have."""
    rules_off: list[str] = field(default_factory=list)
    """Health rules that the config switches off."""
    probe: list[str] = field(default_factory=list)
    """Lines of the probe that was made before training; none without `probe.json`."""
    sets: list[EvaluationSet] = field(default_factory=list)
    """The run's own evaluation split first."""
    rollouts: Found
    settings: list[Setting] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    task_tables: list[dict[str, Any]] = field(default_factory=list)
    """What the task itself says of base and trained."""
    task_tables_of: list[str] = field(default_factory=list)
    """Names of the two models that these tables compare; empty where they do not say."""
    overrides: list[str] = field(default_factory=list)
    """One line per attempt."""
    missing: list[str] = field(default_factory=list)
    """What is not in the directory, in words."""
    damaged: list[str] = field(default_factory=list)
    """What could not be read, in words."""

    @classmethod
    def of(cls, path: Path, *, replay_health: bool = False) -> RunFacts:
        """Reads a directory; with ``replay_health`` the alerts are computed anew. ValueError where nothing in it belongs
        to a run."""
        if not any((path / name).exists() for name in _KNOWN):
            what = "is not a run directory" if path.exists() else "does not exist"
            raise ValueError(f"{path} {what}; give the folder of a run, for example runs/first")
        facts = cls(path=path, metrics=Metrics.of([]), rollouts=Found([], 0))
        facts._read_records(replay_health)
        facts._read_probe()
        facts._read_settings()
        facts._read_evaluations()
        facts._read_task_tables()
        return facts

    def _read_task_tables(self) -> None:
        """The task's own tables: of base and trained, and of its reward."""
        for name, what in (
            ("comparison_tables.json", "tables of the task"),
            ("reward_audit.json", "audit of the reward"),
        ):
            if not (self.path / name).is_file():
                continue
            found = self._json(name, what)
            tables = _tables_in(found) if found else None
            whole = [one for one in tables or () if isinstance(one, dict) and {"title", "head", "rows"} <= set(one)]
            self.task_tables += whole
            if found and isinstance(of := found.get("of"), list) and all(isinstance(one, str) for one in of):
                self.task_tables_of = of
            if tables is None or len(whole) < len(tables):
                self.damaged.append(f"{name}: not a list of tables with title, head and rows")

    def setting(self, leaf: str) -> str | None:
        """A config value as text."""
        return next((setting.value for setting in self.settings if setting.leaf == leaf), None)

    @property
    def contaminated(self) -> list[str]:
        """Sets of held-out problems that training asked too, in words: their numbers measure memory."""
        found = []
        for one in self.sets:
            facts = one.summaries[one.last_step].get("contamination")
            count = facts.get("num_overlap") if isinstance(facts, Mapping) else None
            if type(count) is int and count > 0:
                total = one.summaries[one.last_step].get("n_problems")
                found.append(f"{count} of {total} problems of the {one.name} set are training problems too")
        return found

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    def _read_records(self, replay_health: bool) -> None:
        self.status = self._json("run.json", "status") or {}
        if self.status.get("last_error"):
            self.status["last_error"] = redact(str(self.status["last_error"]))
        records = read_jsonl(self.path / "metrics.jsonl")
        self.metrics = Metrics.of(records.rows)
        self._count_torn("metrics.jsonl", records.num_torn)
        if not self.metrics.steps:
            self.missing.append("metrics.jsonl: no step has been recorded, so there are no curves")
        alerts = read_jsonl(self.path / "alerts.jsonl")
        self.alerts = [row for row in alerts.rows if type(row.get("step")) is int]
        self._count_torn("alerts.jsonl", alerts.num_torn)
        self.has_alerts = (self.path / "alerts.jsonl").exists() or bool(self.status.get("has_health_rules"))
        again = replay(self.path, records.rows)
        self.not_evaluable, self.rules_off = again.not_evaluable, again.off
        if replay_health:
            self.alerts, self.has_alerts = again.alerts, True
            if again.fault:
                self.damaged.append(redact(f"resolved.yaml: health rules use their default limits ({again.fault})"))
        if not self.has_alerts:
            self.missing.append("alerts.jsonl: health rules were not evaluated")
        self.rollouts = read(self.path)
        self._count_torn("rollouts/", self.rollouts.num_torn)
        if not self.rollouts.rows:
            self.missing.append("rollouts/: no completions were recorded")

    def _read_probe(self) -> None:
        path = self.path / "probe.json"
        if path.is_file():
            self.probe = self._try("probe.json", lambda: redact("\n".join(lines(read_json(path)))).splitlines()) or []

    def _read_settings(self) -> None:
        self.environment = self._json("environment.json", "versions and devices") or {}
        origins = self._json("origins.json", "where settings came from") or {}
        path = self.path / "resolved.yaml"
        if path.is_file():
            tree = self._try(
                "resolved.yaml",
                lambda: (
                    yaml12.read(path.read_bytes().decode("utf-8", "backslashreplace").encode(), "resolved.yaml").value
                ),
            )
            self.settings = [
                Setting(leaf=leaf, value=redact(value), origin=str(origins.get(leaf, "unknown")))
                for leaf, value in _leaves(tree)
            ]
        else:
            self.missing.append("resolved.yaml: the settings are unknown")
        overrides = self.path / "overrides.txt"
        if overrides.is_file():
            self.overrides = redact(overrides.read_text(errors="replace")).splitlines()

    def _read_evaluations(self) -> None:
        folder = self.path / "evaluations"
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
        own = self.setting("evaluation.split")
        for name in sorted(names, key=lambda name: (name != own, name)):
            found = self._evaluation_set(name)
            if found is not None:
                self.sets.append(found)
        if not self.sets:
            self.missing.append("evaluations/: no held-out evaluation, so base and trained cannot be compared")

    def _evaluation_set(self, name: str) -> EvaluationSet | None:
        folder = self.path / "evaluations" / name
        files = dict(step_files(folder))
        summaries: dict[int, Mapping[str, Any]] = {}
        for step in files:
            summary = self._json(f"evaluations/{name}/step_{step:06}.json", "summary")
            if summary is not None:
                summaries[step] = summary
        steps = sorted(summaries)
        if sum(files[step].stat().st_size for step in steps) > MAX_EVALUATION_BYTES:
            steps = sorted({steps[0], steps[-1]})
            self.missing.append(
                f"evaluations/{name}: only base and newest are paired, the others would take too long to read"
            )
        rows: dict[int, list[dict[str, Any]]] = {}
        for step in steps:
            records = read_jsonl(files[step])
            if records.num_torn:
                self._count_torn(f"evaluations/{name}/{files[step].name}", records.num_torn)
            else:
                rows[step] = records.rows
        return EvaluationSet(name=name, summaries=summaries, rows=rows) if rows else None

    def _json(self, name: str, what: str) -> dict[str, Any] | None:
        path = self.path / name
        if path.is_file():
            return self._try(name, lambda: read_json(path))
        self.missing.append(f"{name}: {what} unknown")
        return None

    def _try(self, name: str, load: Callable[[], T]) -> T | None:
        try:
            return load()
        except ValueError:
            self.damaged.append(f"{name} cannot be read")
            return None

    def _count_torn(self, name: str, count: int) -> None:
        if count:
            self.damaged.append(f"{name}: {count} {'line' if count == 1 else 'lines'} cannot be read")


def _leaves(tree: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Dotted names and values as text, in the file's order."""
    if isinstance(tree, Mapping) and tree:
        return [leaf for key, value in tree.items() for leaf in _leaves(value, f"{prefix}{key}.")]
    text = {None: "null", True: "true", False: "false"}.get(tree) if isinstance(tree, bool | None) else None
    return [(prefix[:-1], str(tree) if text is None else text)] if prefix else []


def _tables_in(found: Mapping[str, Any]) -> list[Any] | None:
    """The tables of a file: under ``tables``, or one for each task under its name; None where it is something else."""
    if "tables" in found:
        return found["tables"] if isinstance(found["tables"], list) else None
    return [one.get("table") if isinstance(one, Mapping) else None for one in found.values()]
