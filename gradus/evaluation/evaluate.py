"""Scored completions to evaluation rows, and rows to a summary in which every number has its interval.

Names that are easily confused: ``pass_at_1`` counts full solutions only; ``mean_accuracy`` is the mean reward, partial
credit included; ``avg_entropy_bits`` says how undecided the model is about the result of a problem, ``entropy`` how
undecided it is about the next token.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradus.difficulty import BUCKETS
from gradus.evaluation.majority import NO_ANSWERS, has_answers, majority_at_k
from gradus.evaluation.paired import detectable_difference
from gradus.evaluation.stats import (
    Estimate,
    Floats,
    binary_entropy_bits,
    mean_interval,
    pass_at_k,
    ratio_interval,
    share_interval,
    variance_split,
)
from gradus.evaluation.table import Row, Table
from gradus.tasks.base import Task
from gradus.types import Group, Problem

SCHEMA = "gradus.evaluation/1"
FAILED = ("timeout", "crash", "invalid")
"""Statuses that say the judging failed, not the text: such a completion counts as wrong and is shown apart."""


def prompt_text(problem: Problem) -> str:
    """The prompt as people read it, before any chat template: one message bare, several under their roles."""
    if len(problem.messages) == 1:
        return problem.messages[0].content
    return "\n\n".join(f"[{message.role}]\n{message.content}" for message in problem.messages)


def rows(
    groups: Sequence[Group], *, buckets: Mapping[str, str] | None = None, tasks: Mapping[str, Task] | None = None
) -> list[dict[str, Any]]:
    """Returns one JSON-able row per completion.

    Args:
        groups: each problem once, with all of its completions.
        buckets: problem id to difficulty bucket, where a curriculum has assigned them.
        tasks: by name, to read what each completion answers; without them no row has an answer to vote for.
    """
    return [
        _row(group, index, (buckets or {}).get(group.problem.id), (tasks or {}).get(group.problem.task))
        for group in groups
        for index in range(len(group.completions))
    ]


def _row(group: Group, index: int, bucket: str | None, task: Task | None) -> dict[str, Any]:
    problem, completion, score = group.problem, group.completions[index], group.scores[index]
    answer = task and task.answer(problem, completion.text, correct=score.correct, finish=completion.finish)
    num_tokens = len(completion.tokens)
    return {
        "problem_id": problem.id,
        "domain": problem.domain,
        "difficulty": problem.difficulty,
        "bucket": bucket,
        "cluster": problem.meta.get("cluster"),
        "sample": index,
        "prompt": prompt_text(problem),
        "completion": completion.text,
        "solution": dict(problem.truth),
        "answer": answer,
        "reward": score.reward if math.isfinite(score.reward) else None,
        "parts": dict(score.parts),
        "correct": score.correct,
        "status": score.status,
        "why": score.why,
        "num_tokens": num_tokens,
        "finish": completion.finish,
        "mean_nll": -math.fsum(completion.logprobs) / num_tokens if num_tokens else None,
    }


def summarize(
    rows: Sequence[Row], *, settings: Mapping[str, Any] | None = None, reward_range: tuple[float, float] | None = None
) -> dict[str, Any]:
    """Returns the summary of an evaluation as strict JSON: a number that cannot be given is null, with a reason.

    Args:
        rows: as made by ``rows``; any order. ValueError where problems have unequal numbers of completions.
        settings: what was evaluated and how (model, temperature, hashes); copied. At temperature 0 there is no entropy.
        reward_range: the task's lowest and highest reward; only with it the share of lowest rewards can be given.
    """
    table = Table.of(rows)
    is_greedy = (settings or {}).get("temperature") == 0
    summary: dict[str, Any] = {
        "schema": SCHEMA,
        "n_problems": table.num_problems,
        "samples_per_problem": table.num_samples,
        **{key: estimate.to_json() for key, estimate in estimates(table, is_greedy=is_greedy).items()},
        "p95_tokens": _p95_tokens(table),
        "pass_at": {str(k): _pass_at(table, k).to_json() for k in range(1, table.num_samples + 1)},
        "maj_at": {str(k): _maj_at(table, k).to_json() for k in range(1, table.num_samples + 1)},
        "parts": {name: part_estimate(table, name).to_json() for name in table.part_names()},
        "scoring": _scoring(table),
        "variance": _variance(table),
        "detectable_difference": {
            "sd": 0.5,
            "value": detectable_difference(0.5, table.num_problems) if table.num_problems else None,
        },
        "settings": dict(settings or {}),
    }
    if reward_range is not None:
        lowest = share_interval(table.map(lambda row: row["reward"] == reward_range[0]).mean(axis=1), table.num_samples)
        summary["floor_reward_frac"] = lowest.to_json()
    for name, keys in {
        "by_domain": ("domain",),
        "by_bucket": ("bucket",),
        "by_domain_bucket": ("domain", "bucket"),
    }.items():
        summary[name] = {
            label: {k: e.to_json() for k, e in estimates(part, is_greedy=is_greedy).items()}
            for label, part in slices(table, *keys)
        }
    return summary


def slices(table: Table, *keys: str) -> list[tuple[str, Table]]:
    """Parts of a table by the values under ``keys`` (``"ferry × hard"``), sorted, buckets from easy to hard; none unless
    all rows have values."""
    values = [tuple(rows[0].get(key) for key in keys) for rows in table.rows_PK]
    if any(part is None for value in values for part in value):
        return []

    def place(value: tuple[Any, ...]) -> tuple[tuple[int, str], ...]:
        return tuple((BUCKETS.index(part) if part in BUCKETS else -1, str(part)) for part in value)

    return [
        (" × ".join(map(str, value)), Table([r for r, own in zip(table.rows_PK, values, strict=True) if own == value]))
        for value in sorted(set(values), key=place)
    ]


def estimates(table: Table, *, is_greedy: bool = False) -> dict[str, Estimate]:
    """The headline numbers of a table by metric name."""
    samples, clusters = table.num_samples, table.clusters

    def share(values_PK: np.ndarray) -> Estimate:
        return share_interval(values_PK.mean(axis=1), samples, clusters)

    return {
        "pass_at_1": share_interval(table.solve_rates_P, samples, clusters),
        "mean_accuracy": mean_reward(table),
        "avg_entropy_bits": group_entropy(table),
        "avg_score_entropy_bits": _score_entropy(table),
        "entropy": token_entropy(table, is_greedy=is_greedy),
        "mean_tokens": mean_interval(table.array("num_tokens").mean(axis=1), clusters),
        "truncated_frac": share(table.map(lambda row: row.get("finish") == "length")),
        "format_fail_frac": _format_failures(table),
        "duplicate_frac": share(_duplicates(table)),
    }


def has_unit_rewards(table: Table) -> bool:
    """Whether all rewards lie in [0, 1], so that their mean may be shown as a percentage."""
    return is_unit(table.array("reward"))


def is_unit(values: Floats) -> bool:
    """Whether all values lie in [0, 1]."""
    return bool(np.all((values >= 0) & (values <= 1)))


def mean_reward(table: Table) -> Estimate:
    """Mean of the rewards, partial credit included; a reward that is no number counts 0 and its status says so."""
    if not table.num_problems:
        return Estimate(value=None, reason="no problems")
    return _mean_of(table, table.array("reward"))


def _mean_of(table: Table, values_PK: Floats) -> Estimate:
    """Mean with a t interval, or, for values in [0, 1], with one that stays there."""
    if is_unit(values_PK):
        return share_interval(values_PK.mean(axis=1), table.num_samples, table.clusters)
    return mean_interval(values_PK.mean(axis=1), table.clusters)


def group_entropy(table: Table) -> Estimate:
    """Mean over problems of the entropy of right against wrong (bits per group)."""
    if table.num_samples == 1:
        return Estimate(value=None, num_problems=table.num_problems, reason="needs K ≥ 2")
    return share_interval(binary_entropy_bits(table.solve_rates_P), table.num_samples, table.clusters)


def token_entropy(table: Table, *, is_greedy: bool = False) -> Estimate:
    """Monte-Carlo estimate of the token entropy (nats per token): the mean of -log p of the sampled tokens.

    Unbiased for the mean entropy of the next-token distribution at the sampling temperature, since each token was drawn
    from that distribution. Training computes the entropy of the whole distribution instead: same meaning, less noise.
    """
    if is_greedy:
        return Estimate(value=None, num_problems=table.num_problems, reason="greedy decoding draws no tokens")
    nats_P, tokens_P = nats_and_tokens(table)
    if not tokens_P.any():
        return Estimate(value=None, num_problems=table.num_problems, reason="no log-probabilities in the rows")
    return ratio_interval(nats_P, tokens_P, table.clusters)


def nats_and_tokens(table: Table) -> tuple[Floats, Floats]:
    """Sums of -log p and numbers of tokens per problem, over the completions that have log-probabilities."""
    has_nll = table.map(lambda row: isinstance(row.get("mean_nll"), int | float))
    tokens = table.array("num_tokens") * has_nll
    return (tokens * table.array("mean_nll")).sum(axis=1), tokens.sum(axis=1)


def part_estimate(table: Table, name: str) -> Estimate:
    """Mean of a reward part over all completions, or of a fact (``info/...``) over those that carry it."""
    values, has = table.part(name)
    if not name.startswith("info/") or has.all():
        return _mean_of(table, values)
    return ratio_interval((values * has).sum(axis=1), has.sum(axis=1), table.clusters)


def _pass_at(table: Table, k: int) -> Estimate:
    return share_interval(pass_at_k(table.num_correct_P, table.num_samples, k), table.num_samples, table.clusters)


def _maj_at(table: Table, k: int) -> Estimate:
    if not has_answers(table):
        return Estimate(value=None, num_problems=table.num_problems, reason=NO_ANSWERS)
    return share_interval(majority_at_k(table, k), table.num_samples, table.clusters)


def _score_entropy(table: Table) -> Estimate:
    """Entropy of the mean reward read as a probability, as some published tables have it. With one completion per
    problem it measures partial credit, not diversity."""
    if not table.num_problems:
        return Estimate(value=None, reason="no problems")
    if not has_unit_rewards(table):
        return Estimate(value=None, num_problems=table.num_problems, reason="needs rewards in [0, 1]")
    return share_interval(binary_entropy_bits(table.array("reward").mean(axis=1)), table.num_samples, table.clusters)


def _format_failures(table: Table) -> Estimate:
    if not table.part("info/format_fail")[1].any():
        return Estimate(value=None, num_problems=table.num_problems, reason="the task does not report format failures")
    return part_estimate(table, "info/format_fail")


def _duplicates(table: Table) -> np.ndarray:
    """1 where a completion repeats an earlier one of the same problem."""
    flags = []
    for problem_rows in table.rows_PK:
        seen: set[str] = set()
        flags.append([])
        for row in problem_rows:
            text = str(row.get("completion"))
            flags[-1].append(float(text in seen))
            seen.add(text)
    return np.array(flags, float).reshape(table.num_problems, max(1, table.num_samples))


def _p95_tokens(table: Table) -> dict[str, Any]:
    if not table.num_problems:
        return {"value": None, "reason": "no problems"}
    return {"value": float(np.percentile(table.array("num_tokens"), 95, method="higher"))}


def _scoring(table: Table) -> dict[str, Any]:
    counts = Counter(str(row.get("status", "scored")) for problem_rows in table.rows_PK for row in problem_rows)
    total = max(1, counts.total())
    return {
        "counts": dict(sorted(counts.items())),
        "error_frac": sum(counts[status] for status in FAILED) / total,
        "timeout_frac": counts["timeout"] / total,
        "refused_frac": counts["refused"] / total,
        "no_score_frac": counts["no_score"] / total,
    }


def _variance(table: Table) -> dict[str, Any]:
    split = variance_split(table.num_correct_P, table.num_samples) if table.num_problems else None
    if split is None:
        return {
            "between": None,
            "sampling": None,
            "se_floor": None,
            "reason": "needs 2 problems with 2 completions each",
        }
    return {"between": split.between, "sampling": split.sampling, "se_floor": split.se_floor, "advice": split.advice}
