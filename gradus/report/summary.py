"""The head and the end of a report: the run in a few numbers, what is promised of it, and what it does not show."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradus.evaluation.forecast import FIRST_STEPS
from gradus.evaluation.wording import number, percent, with_minus
from gradus.report.directory import RunFacts
from gradus.report.metrics import mean
from gradus.report.results import Results

Tile = tuple[str, str, str]
"""(label, value, note)."""

_MEANS = (
    ("Reward", "reward", False),
    ("Training solve rate", "rollout/solve_rate", True),
    ("Loss", "loss", False),
    ("Length (tokens)", "completions/mean_length", False),
)
"""(label, metric, whether it is a share)."""
_MAX_NAMED = 5


def tiles(facts: RunFacts, results: Results) -> list[Tile]:
    """The run in a few numbers; the loss only where there is no reward."""
    metrics = facts.metrics
    made = [*_primary(results)]
    for label, name, is_share in _MEANS:
        values = metrics.values(name)
        if values and not (name == "loss" and metrics.values("reward")):
            shown = _alike(metrics.ends(name), is_share)
            width = metrics.width(name)
            note = "first → last step" if width == 1 else f"first → last {width} steps"
            made.append((label, " → ".join(shown), note))
    planned = facts.status.get("num_steps") or facts.setting("num_steps")
    made.append(("Steps", f"{metrics.last_step} of {planned}" if planned else str(metrics.last_step), _attempts(facts)))
    if metrics.total_seconds:
        per_step = mean(metrics.values("time/step_seconds"))
        note = "" if per_step is None else f"{number(per_step, digits=3)} s per step"
        made.append(("Time", duration(metrics.total_seconds), note))
    return made


def _primary(results: Results) -> list[Tile]:
    if results.comparison is None:
        return []
    line = results.comparison.primary
    ends = [e.value for e in (line.base, line.trained)]
    shown = _alike(ends, line.unit == "share")
    return [(line.name, " → ".join(shown), f"base → step {results.trained_step}, held out")]


def _alike(ends: Sequence[float | None], is_share: bool) -> list[str]:
    """Both ends with as many decimals: shares as percentages, all else with three digits of the larger."""
    largest = max((abs(end) for end in ends if end), default=0.0)
    digits = max(0, 2 - math.floor(math.log10(largest))) if largest else 2
    return [percent(end) if is_share or end is None else with_minus(f"{end:.{digits}f}") for end in ends]


def _attempts(facts: RunFacts) -> str:
    steps = facts.metrics.resumed_at
    named = ", ".join(map(str, steps[:_MAX_NAMED])) + (", …" if len(steps) > _MAX_NAMED else "")
    return f"resumed {len(steps)}×, at step {named}" if steps else "one attempt"


def duration(seconds: float) -> str:
    """``3 h 12 min``, ``4 min 5 s``, ``12 s``."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def promise(facts: RunFacts) -> str:
    """What a kill costs, and whether a resumed run has the bits of an unbroken one."""
    every = facts.setting("checkpoint.every_steps")
    lost = f"at most {every} steps" if every else "only the steps since the last checkpoint"
    sentences = [f"Killed at any instant, the same command goes on and loses {lost}."]
    kind = _device(facts)
    if facts.setting("backend.name") == "verl":
        sentences.append("verl goes on from its own last save; the bits of an unbroken run are not promised.")
    elif kind == "cpu":
        sentences.append(
            "On a CPU, with the same versions and number of threads, the final weights are those of an unbroken run, "
            "bit for bit."
        )
    elif kind:
        sentences.append("On an accelerator the state is restored exactly; the kernels need not repeat every bit.")
    timeouts = mean(facts.metrics.values("scoring/timeout_frac"))
    if timeouts:
        sentences.append(f"Scoring timed out for {percent(timeouts)} of the completions: there the clock decided.")
    return " ".join(sentences)


def _device(facts: RunFacts) -> str | None:
    """``cpu``, something else, or None where the run does not say."""
    setting, names = facts.setting("model.device"), facts.environment.get("devices")
    if setting not in (None, "auto"):
        return setting
    if not isinstance(names, list) or not names:
        return None
    first = str(names[0])
    return "cpu" if first.endswith("logical processors") and not first.startswith("mps") else "accelerator"


def seen_at_first(facts: RunFacts) -> str:
    """What training then saw of what a probe forecasts; empty where it did not record it."""
    mixed, solved = (
        [
            value
            for step, value in zip(facts.metrics.steps, facts.metrics.column(f"rollout/{name}"), strict=True)
            if 0 < step <= FIRST_STEPS and value is not None
        ]
        for name in ("mixed_frac", "solve_rate")
    )
    if not mixed or not solved:
        return ""
    return (
        f"Seen in the first {min(FIRST_STEPS, facts.metrics.last_step)} steps of training: {percent(mean(mixed))} of the "
        f"groups mixed, {percent(mean(solved))} of the completions right ({percent(solved[0])} in the first batch, "
        f"{percent(solved[-1])} in the last of them)."
    )


def limits(facts: RunFacts, results: Results) -> list[str]:
    """What a reader may not conclude."""
    found = []
    if results.comparison:
        found += results.comparison.warnings
        found.append(
            f"The trained model is that of step {results.trained_step}, the newest evaluated one; the set is "
            f"{results.set_name}."
        )
        found.append("Only the primary metric was decided on beforehand; every other number is exploratory.")
    num_tests = len(results.evaluated.get("test", ()))
    if num_tests > 2:
        found.append(f"The test split was used {num_tests} times: numbers on it flatter a step that they chose.")
    skipped = sum(facts.metrics.values("train/skipped"))
    if skipped:
        found.append(f"{skipped:.0f} updates were skipped, their loss or gradient was not finite; they count as steps.")
    failed = mean(facts.metrics.values("scoring/error_frac"))
    if failed:
        found.append(f"Scoring failed for {percent(failed)} of the training completions; these taught nothing.")
    if facts.rollouts.rows:
        found.append(
            "Recorded completions are the best and the worst of each group and a few at random: their shares are no "
            "solve rates."
        )
    return found
