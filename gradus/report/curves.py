"""The curves of a report: which charts there are over the steps, from which metrics, and how each is to be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradus.difficulty import BUCKETS
from gradus.evaluation.stats import Estimate
from gradus.report.charts import Figure, Marks, Series, line_chart
from gradus.report.metrics import Metrics
from gradus.report.svg import Point, Show, as_percent, compact

MAX_POINTS = 1500
"""Points of a curve that are drawn; longer runs show every second, third, ... one, their means over all."""
MAX_PARTS = 5
_PARTS = "parts"

Evaluations = Mapping[str, Mapping[int, Estimate]]
"""Set name to step to Pass@1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One chart over steps.

    Example:
        Curve(id="kl", title="KL to the reference", unit="nats/token", metrics=("kl",))
    """

    id: str
    title: str
    unit: str = ""
    """``share`` is shown as a percentage."""
    metrics: tuple[str, ...]
    names: tuple[str, ...] = ("",)
    """What the metrics are called in the legend."""
    reading: str = ""


_REWARD = Curve(
    id="reward", title="Reward", metrics=("reward",),
    reading="Mean over all completions of the step, before any KL term. What is trained on, not what is reported.",
)  # fmt: skip
_PASS_AT_1 = Curve(
    id="pass_at_1", title="Pass@1", unit="share", metrics=("rollout/solve_rate",), names=("training",),
    reading="Share of right completions. Held-out bands are 95 % intervals; training problems change each step.",
)  # fmt: skip
CURVES = (
    Curve(id="length", title="Completion length", unit="tokens", names=("mean", "95th percentile"),
          metrics=("completions/mean_length", "rollout/p95_length_tokens")),
    Curve(id="truncated", title="Truncated completions", unit="share", metrics=("completions/clipped_ratio",),
          reading="Cut off at the token limit. Above 20 %: raise sampling.max_tokens."),
    Curve(id="groups", title="Groups", unit="share", names=("mixed", "all right", "all wrong"),
          metrics=("rollout/mixed_frac", "rollout/all_right_frac", "rollout/all_wrong_frac"),
          reading="Only mixed groups teach which completions are right."),
    Curve(id="draws", title="Groups drawn in vain", unit="groups", names=("dropped", "missing"),
          metrics=("rollout/dropped_groups", "rollout/missing_groups"),
          reading="Dropped because all rewards were equal; missing after the last draw."),
    Curve(id="loss", title="Loss", metrics=("loss",),
          reading="Not a measure of progress: in GRPO with one update per batch it is near 0 by construction."),
    Curve(id="entropy", title="Token entropy", unit="nats/token", metrics=("entropy",),
          reading="How undecided the policy is about the next token. Below a third of its start it stops exploring."),
    Curve(id="kl", title="KL to the reference", unit="nats/token", metrics=("kl",)),
    Curve(id="grad_norm", title="Gradient norm", metrics=("grad_norm",), reading="Before clipping."),
    Curve(id="clip", title="Clipped tokens", unit="share", names=("ratio too low", "ratio too high"),
          metrics=("clip_ratio/low_mean", "clip_ratio/high_mean"), reading="0 is normal with one update per batch."),
    Curve(id="mismatch", title="Sampler against trainer", unit="nats/token", metrics=("sampling/mismatch_kl",),
          reading="Above 0.01 the two disagree: precision, template, temperature or stale weights."),
    Curve(id="scoring", title="Scoring", unit="share", names=("failed", "refused"),
          metrics=("scoring/error_frac", "scoring/refused_frac")),
    Curve(id="learning_rate", title="Learning rate", metrics=("learning_rate",)),
    Curve(id="seconds", title="Time per step", unit="seconds", names=("step", "sampling", "update"),
          metrics=("time/step_seconds", "time/rollout_seconds", "time/update_seconds")),
    Curve(id="speed", title="Sampling speed", unit="tokens/s", metrics=("time/tokens_per_second",)),
)  # fmt: skip


_BY_NAME = (
    ("curriculum_asked", "Curriculum: mix asked for", "share", "curriculum/requested/", "",
     "Weights of easy, medium and hard problems."),
    ("curriculum_given", "Curriculum: mix delivered", "share", "curriculum/delivered/", "_window",
     "Over the last 50 steps. Far from what was asked for: a bucket is empty."),
    ("domains", "Problems of each domain per step", "problems", "batch/domain_count/", "",
     "All equal where domains are balanced."),
    ("reward_by_domain", "Reward by domain", "", "reward/by_domain/", "", ""),
    ("reward_by_difficulty", "Reward by difficulty", "", "reward/by_difficulty/", "", ""),
    ("success_by_domain", "Training success by domain", "share", "success/by_domain/", "", ""),
    ("success_by_difficulty", "Training success by difficulty", "share", "success/by_difficulty/", "", ""),
)  # fmt: skip
"""(id, title, unit, beginning and end of the metrics' names, reading) of charts with a line for each name between."""
MAX_NAMES = 8


def curves(
    metrics: Metrics, evaluations: Evaluations, alerts: Sequence[Mapping[str, Any]]
) -> tuple[list[Figure], list[str]]:
    """Returns the charts there is data for, and the titles of the others.

    Args:
        alerts: rows with an integer ``step``; ``rule`` and ``text`` are shown.
    """
    events = [(row["step"], f"{row.get('rule', 'alert')}: {row.get('text', '')}") for row in alerts]
    made, absent = [], []
    for curve in (_REWARD, _PASS_AT_1, _parts(metrics), *_curriculum(metrics), *CURVES):
        held_out = evaluations if curve is _PASS_AT_1 else {}
        if len(curve.metrics) == 1 and curve.id == _PARTS and _is_the_reward(metrics, curve.metrics[0]):
            continue
        if any(metrics.has(name) for name in curve.metrics) or any(held_out.values()):
            made.append(_figure(curve, metrics, held_out, events))
        else:
            absent.append(curve.title)
    return made, absent


def _is_the_reward(metrics: Metrics, name: str) -> bool:
    """Whether a reward part is all of the reward, so that its chart would be the reward's."""
    pairs = zip(metrics.column(name), metrics.column("reward"), strict=True)
    return all(a == b or (a is not None and b is not None and abs(a - b) < 1e-9) for a, b in pairs)


def _parts(metrics: Metrics) -> Curve:
    """Reward terms, the first of them by name."""
    found = [name for name in metrics.columns if name.startswith("rewards/") and name.endswith("/mean")][:MAX_PARTS]
    return Curve(
        id=_PARTS,
        title="Reward parts",
        metrics=tuple(found),
        names=tuple(name.removeprefix("rewards/").removesuffix("/mean") for name in found),
        reading="Format up and correctness down is a reward that is being gamed.",
    )


def _curriculum(metrics: Metrics) -> list[Curve]:
    """What a curriculum asked for and delivered, and results by domain and bucket; nothing for runs without one."""
    found = []
    for id, title, unit, prefix, suffix, reading in _BY_NAME:
        names = [name for name in metrics.columns if name.startswith(prefix) and name.endswith(suffix)]
        labels = [name.removeprefix(prefix).removesuffix(suffix) for name in names]
        kept = [(name, label) for name, label in zip(names, labels, strict=True) if label and "/" not in label]
        kept.sort(key=lambda one: (BUCKETS.index(one[1]) if one[1] in BUCKETS else -1, one[1]))
        if len(kept) > 1:
            metric_names, words = zip(*kept[:MAX_NAMES], strict=True)
            found.append(Curve(id=id, title=title, unit=unit, metrics=metric_names, names=words, reading=reading))
    return found


def _figure(curve: Curve, metrics: Metrics, held_out: Evaluations, events: Sequence[tuple[int, str]]) -> Figure:
    own = [(name, words) for name, words in zip(curve.metrics, curve.names, strict=True) if metrics.has(name)]
    has_dots = len(own) == 1
    series = [_over_steps(metrics, name, words or curve.title, has_dots) for name, words in own]
    series += [_held_out(f"held out: {name}", estimates) for name, estimates in held_out.items()]
    lost = sorted({step for name, _ in own for step in metrics.not_finite.get(name, ())})
    is_share = curve.unit == "share"
    show = as_percent if is_share else compact
    svg = line_chart(
        series,
        title=curve.title,
        description=_description(curve, series, lost),
        show=show,
        marks=Marks(resumes=metrics.resumed_at, alerts=events, not_finite=lost),
        limits=(0.0, 1.0) if is_share else None,
    )
    latest = _latest(metrics, own[0][0], show) if len(series) == len(own) == 1 else ""
    return Figure(
        id=curve.id,
        title=curve.title,
        unit="" if is_share else curve.unit,
        svg=svg,
        legend=[one.name for one in series] if len(series) > 1 or any(curve.names) else [],
        reading=curve.reading,
        latest=latest,
        cursor=cursor(series, is_share=is_share),
    )


def _latest(metrics: Metrics, name: str, show: Show) -> str:
    last, width = metrics.ends(name)[1], metrics.width(name)
    if last is None:
        return ""
    return f"{show(last)} ({'last step' if width == 1 else f'last {width}'})"


def _over_steps(metrics: Metrics, name: str, words: str, has_dots: bool) -> Series:
    column = metrics.column(name)
    stride = max(1, -(-len(column) // MAX_POINTS))
    dots, line = (_points(metrics.steps, values, stride) for values in (column, metrics.smooth(name)))
    return Series(name=words, dots=dots if has_dots else (), line=line)


def _points(steps: Sequence[int], values: Sequence[float | None], stride: int) -> list[Point]:
    pairs = list(zip(steps, values, strict=True))[::stride]
    return [(float(step), value) for step, value in pairs if value is not None]


def _held_out(name: str, estimates: Mapping[int, Estimate]) -> Series:
    known = [(float(step), e) for step, e in sorted(estimates.items())]
    line = [(step, e.value) for step, e in known if e.value is not None]
    band = [(step, e.low, e.high) for step, e in known if e.low is not None and e.high is not None]
    return Series(name=name, line=line, band=band, has_markers=True)


def cursor(series: Sequence[Series], *, is_share: bool) -> dict[str, Any]:
    """Places and values of each series, to four digits: what a pointer needs."""
    lines = [
        {"name": one.name, "x": [x for x, _ in one.line], "y": [float(f"{y:.4g}") for _, y in one.line]}
        for one in series
    ]
    return {"is_share": is_share, "series": lines}


def _description(curve: Curve, series: Sequence[Series], lost: Sequence[int]) -> str:
    show = as_percent if curve.unit == "share" else compact
    parts = []
    for one in series:
        if one.line:
            (first, before), (last, after) = one.line[0], one.line[-1]
            parts.append(f"{one.name}: {show(before)} at step {first:.0f}, {show(after)} at step {last:.0f}")
    if lost:
        parts.append(f"not finite at {len(lost)} steps")
    return f"{curve.title} over steps. {'; '.join(parts)}."
