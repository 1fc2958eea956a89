"""The first steps of a training, for `gradus probe --rehearse`: taken as the run will take them, and nothing is kept.

A probe sees the policy as it is; how fast it learns shows only when it trains. A rehearsal has the seeds of the run, so on
the same machine the run's first steps will be these.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradus import console
from gradus.algo.presets import resolve_algorithm
from gradus.config import Config
from gradus.data.order import batches_ahead
from gradus.data.problems import Problems
from gradus.evaluation.forecast import FIRST_STEPS, Batch
from gradus.exits import Code, Exit
from gradus.recipe import from_config
from gradus.train.loop import evaluator_of, reference_of, take_step
from gradus.train.session import RollBack, Session, opened
from gradus.train.start import Start, open_run
from gradus.types import Problem

_SECONDS_PER_LINE = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What a rehearsal showed.

    Example:
        Rehearsal.of(config, load_problems(config), 10).batches[0].mixed  # share of mixed groups of the first batch
    """

    num_steps: int
    """Optimizer steps that were taken."""
    batches: Sequence[Batch]
    """What the first `FIRST_STEPS` steps of the run sample, the rehearsed batches with what was seen."""
    update_seconds: float
    """Median of a step's update, the first left out where there are others: it also warms up."""

    @classmethod
    def of(cls, config: Config, problems: Problems, num_steps: int) -> Rehearsal:
        """Takes the first ``num_steps`` optimizer steps of the run that ``config`` describes, without evaluation. Schedules
        are those of the whole run. The native trainer takes them, whichever the config names.

        Raises:
            Exit: as a training ends early: DIVERGED, SCORING, MACHINE, INTERRUPTED.
        """
        num_steps = min(num_steps, config.num_steps)
        with tempfile.TemporaryDirectory(prefix="gradus-rehearsal-") as folder:
            try:
                rows, used = _taken(_quiet(config), problems, num_steps, Path(folder))
            except Exit as error:
                hint = "" if error.code == Code.INTERRUPTED else error.hint  # there is no run to go on with
                raise Exit(error.code, f"rehearsal: {error.message}; the probe itself is written", hint=hint) from error
        updates = [row["time/update_seconds"] for row in rows]
        return cls(
            num_steps=num_steps,
            batches=_batches(config, used, {row["step"]: row for row in rows}),
            update_seconds=statistics.median(updates[1:] or updates),
        )


class _Session(Session):
    """Remembers its rows; writes no metrics and no checkpoint."""

    rows: list[dict[str, Any]]
    num_steps: int
    said: float

    def record(self, row: Mapping[str, Any]) -> None:
        """Keeps the row, shows it to the health rules, and says now and then how far it is."""
        self.rows.append({"step": self.state.step, **row})
        self._watch(self.rows[-1])
        if time.monotonic() - self.said > _SECONDS_PER_LINE:
            console.info(f"rehearsed {self.state.step} of {self.num_steps} steps")
            self.said = time.monotonic()

    def save(self) -> None:
        """Nothing: what is rehearsed is forgotten."""


def _quiet(config: Config) -> Config:
    """As ``config``, without trackers and evaluation, and never stopped by a health rule."""
    return config.model_copy(
        update={
            "name": "rehearsal",
            "backend": type(config.backend)(),
            "tracking": type(config.tracking)(),
            "evaluation": config.evaluation.model_copy(update={"every_steps": None}),
            "health": config.health.model_copy(update={"on_critical": "log"}),
        }
    )


def _taken(
    config: Config, problems: Problems, num_steps: int, folder: Path
) -> tuple[list[dict[str, Any]], Sequence[Problem]]:
    """Rows of metrics of the steps, and the problems that the training draws from."""
    start: Start = open_run(from_config(config), kind="train", runs_dir=folder, data_fingerprint=problems.fingerprint)
    with start, opened(start, problems, _Session) as session:
        assert isinstance(session, _Session)
        session.rows, session.num_steps, session.said = [], num_steps, time.monotonic()
        algorithm = resolve_algorithm(config.algorithm)
        evaluator, reference = evaluator_of(session), reference_of(session, algorithm)
        while session.state.step < num_steps:
            try:
                take_step(session, evaluator, algorithm, reference)
            except RollBack:
                session.go_back()  # there is no checkpoint: ends as a run would
        return session.rows, session.train_problems


def _batches(config: Config, problems: Sequence[Problem], rows: Mapping[int, Mapping[str, Any]]) -> list[Batch]:
    """The batches of the first steps, each with what its row says, if it was taken."""
    return [
        Batch(
            step=step,
            problem_ids=tuple(problem.id for problem in batch),
            **(_seen(rows[step + 1], config) if step + 1 in rows else {}),
        )
        for step, batch in itertools.takewhile(lambda one: one[0] < FIRST_STEPS, batches_ahead(config, problems))
    ]


def _seen(row: Mapping[str, Any], config: Config) -> dict[str, float]:
    """Shares among all groups that were sampled. Where flat groups were dropped and others drawn, the row describes those
    that were kept, and only how many were dropped is known of the rest."""
    if "rollout/dropped_groups" not in row:
        return {"mixed": row["rollout/mixed_frac"], "right": row["rollout/solve_rate"]}
    kept = config.curriculum.problems_per_step - row["rollout/missing_groups"]
    return {"mixed": kept / (kept + row["rollout/dropped_groups"])}
