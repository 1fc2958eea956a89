"""Groups of one step → the rollout half of its metrics row. Names and units: docs/metrics.md."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from gradus.tasks.base import Task
from gradus.types import Group


def rollout_metrics(groups: Sequence[Group], tasks: Mapping[str, Task]) -> dict[str, float]:
    """Rewards, solve rate, lengths, scoring, and the tasks' own; over all completions of the step."""
    scores = [score for group in groups for score in group.scores]
    completions = [completion for group in groups for completion in group.completions]
    rewards = [score.reward for score in scores]
    floors = [tasks[group.problem.task].reward_range[0] for group in groups for _ in group.scores]
    solve_rates = [group.solve_rate for group in groups]
    row = {
        "reward": _mean(rewards),
        "reward_std": _std(rewards),
        "frac_reward_zero_std": _mean([_std(group.rewards_G) == 0 for group in groups]),
        "rollout/solve_rate": _mean(solve_rates),
        "rollout/mixed_frac": _mean([0 < rate < 1 for rate in solve_rates]),
        "rollout/all_right_frac": _mean([rate == 1 for rate in solve_rates]),
        "rollout/all_wrong_frac": _mean([rate == 0 for rate in solve_rates]),
        "rollout/group_reward_std": _mean([_std(group.rewards_G) for group in groups]),
        "rollout/floor_reward_frac": _mean([reward <= floor for reward, floor in zip(rewards, floors, strict=True)]),
        "rollout/duplicate_frac": _mean([_duplicate_frac(group) for group in groups]),
        "scoring/error_frac": _mean([score.status in ("timeout", "crash", "invalid") for score in scores]),
        "scoring/timeout_frac": _mean([score.status == "timeout" for score in scores]),
        "scoring/refused_frac": _mean([score.status == "refused" for score in scores]),
    }
    row.update(_lengths([len(c.tokens) for c in completions], [c.finish == "length" for c in completions]))
    row.update(_parts(groups))
    for name, task in tasks.items():
        row.update(task.metrics([group for group in groups if group.problem.task == name]))
    return row


def _lengths(lengths: list[int], is_cut: list[bool]) -> dict[str, float]:
    row = {
        "completions/mean_length": _mean(lengths),
        "completions/min_length": float(min(lengths)),
        "completions/max_length": float(max(lengths)),
        "completions/clipped_ratio": _mean(is_cut),
        "rollout/p95_length_tokens": float(sorted(lengths)[math.ceil(0.95 * len(lengths)) - 1]),
    }
    ended = [length for length, cut in zip(lengths, is_cut, strict=True) if not cut]
    if ended:
        row["completions/mean_terminated_length"] = _mean(ended)
        row["completions/min_terminated_length"] = float(min(ended))
        row["completions/max_terminated_length"] = float(max(ended))
    return row


def _parts(groups: Sequence[Group]) -> dict[str, float]:
    """Means of reward terms and of facts; a part that some completions lack is averaged over those that have it."""
    values: dict[str, list[float]] = {}
    for group in groups:
        for score in group.scores:
            for name, value in score.parts.items():
                values.setdefault(name, []).append(value)
    row: dict[str, float] = {}
    for name, all_values in sorted(values.items()):
        if name == "info/format_fail":
            row["rollout/parse_frac"] = 1 - _mean(all_values)
        if name.startswith("info/"):
            row[f"scoring/{name.removeprefix('info/')}/mean"] = _mean(all_values)
        else:
            row[f"rewards/{name}/mean"] = _mean(all_values)
            row[f"rewards/{name}/std"] = _std(all_values)
    return row | {f"rewards/{name}/share": share for name, share in _shares(groups).items()}


def _shares(groups: Sequence[Group]) -> dict[str, float]:
    """How much of what the rewards of a group differ by is due to each reward term: its covariance with the reward over
    the variance of the reward, summed over groups. Nothing where no group differs. A term that is missing counts as 0."""
    covariances: dict[str, float] = {}
    variance = 0.0
    for group in groups:
        if not group.has_signal:
            continue
        scores = [score for score in group.scores if score.is_usable]
        mean = _mean([score.reward for score in scores])
        deviations = [score.reward - mean for score in scores]
        variance += math.fsum(one * one for one in deviations)
        for name in {name for score in scores for name in score.parts if not name.startswith("info/")}:
            terms = [score.parts.get(name, 0.0) for score in scores]
            moved = math.fsum(term * deviation for term, deviation in zip(terms, deviations, strict=True))
            covariances[name] = covariances.get(name, 0.0) + moved
    return {name: moved / variance for name, moved in sorted(covariances.items())} if variance > 0 else {}


def _duplicate_frac(group: Group) -> float:
    """Share of completions whose text another one of the group has already."""
    return 1 - len({completion.text for completion in group.completions}) / len(group.completions)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _std(values: Sequence[float]) -> float:
    """Sample standard deviation (n − 1); 0 for a single value."""
    if len(values) < 2:
        return 0.0
    mean = _mean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
