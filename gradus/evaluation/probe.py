"""A probe: the rows of an evaluation of training problems, read as one question: is there something to learn?

Only groups with a right and a wrong completion teach under a binary reward. Everything here is computed from rows; what
samples them is `probe_run.py`, what is concluded `verdict.py`, how it is shown `probe_table.py`.

Shape suffixes: ``P`` problems, ``K`` completions of one problem.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradus.config import ProbeLimit
from gradus.evaluation.evaluate import FAILED, estimates, slices
from gradus.evaluation.signal import beta_fit, extrapolated_mixed, mixed_after_gain, spread_share
from gradus.evaluation.stats import (
    Estimate,
    Floats,
    all_correct_at_k,
    mixed_share,
    pass_at_k,
    share_interval,
    success_variance,
)
from gradus.evaluation.table import Row, Table
from gradus.evaluation.verdict import Facts, Judgement, judge

SCHEMA = "gradus.probe/1"
GROUP_SIZES = (2, 4, 8, 16, 32)
MIXED_VARIANCE = 0.05
"""Limit of p (1 - p) in a published signal table; at 16 samples it says that the group is mixed, at others it does not."""
GAINS = (0.05, 0.10, 0.20)
"""How many more of the completions may be right after some steps: for what becomes of the mixed share then."""
FORMAT_SHARE = 0.05
"""Share of the reward's variance inside groups that correctness must explain; below it only other parts are learned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerCheck:
    """What the scorer gave to answers that are known, and how long it took.

    Example:
        ScorerCheck(gold_wrong=(), empty_paid=(), milliseconds_per_call=0.02)
    """

    gold_wrong: Sequence[str] = ()
    """Ids of problems whose worked answer does not get the highest reward."""
    empty_paid: Sequence[str] = ()
    """Ids of problems whose empty answer gets more than the lowest."""
    milliseconds_per_call: float | None = None

    @property
    def faulty(self) -> tuple[str, ...]:
        """In words, naming the first rows."""
        return tuple(
            f"{what} for {len(ids)} problems: {', '.join(ids[:5])}{', ...' if len(ids) > 5 else ''}"
            for what, ids in (
                ("the worked answer does not get the highest reward", self.gold_wrong),
                ("an empty answer gets more than the lowest reward", self.empty_paid),
            )
            if ids
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The training that is being probed for, as far as the reading needs it.

    Example:
        Plan(group_size=8, problems_per_step=16, max_tokens=512)
    """

    group_size: int
    problems_per_step: int
    max_tokens: int
    temperature: float | None = None
    limits: Mapping[ProbeLimit, float] = field(default_factory=dict)
    recipe: str = "RECIPE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A probe, whole: the verdict and all numbers behind it.

    Example:
        gradus.probe(config).judgement.verdict  # "GO"
    """

    judgement: Judgement
    facts: Mapping[str, Any]
    """The keys of ``probe.json`` beside the verdict's."""
    rows: Sequence[Row] = ()

    def to_json(self) -> dict[str, Any]:
        """``probe.json``: strict JSON; a missing number is null with a reason beside it."""
        return {"schema": SCHEMA, **self.judgement.to_json(), **self.facts}


def read(
    rows: Sequence[Row],
    plan: Plan,
    *,
    check: ScorerCheck | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Probe:
    """Reads a probe from evaluation rows of training problems.

    Args:
        rows: one per completion, at training temperature and token limit; at least ``plan.group_size`` per problem.
        plan: what the training would do.
        check: how the scorer did on known answers; None where it was not tried.
        settings: what was probed and how; copied.

    Raises:
        ValueError: no rows, or fewer completions per problem than a group of training has.
    """
    table, check = Table.of(rows), check or ScorerCheck()
    if not table.num_problems:
        raise ValueError("there are no rows to read a probe from; sample at least one problem")
    if table.num_samples < plan.group_size:
        raise ValueError(
            f"{table.num_samples} completions per problem cannot show what groups of {plan.group_size} hold; "
            f"sample at least {plan.group_size} (--samples, probe.samples_per_problem)"
        )
    facts = _facts(table, plan, check, settings or {})
    return Probe(judgement=judge(_verdict_facts(table, plan, check, facts)), facts=facts, rows=rows)


def _facts(table: Table, plan: Plan, check: ScorerCheck, settings: Mapping[str, Any]) -> dict[str, Any]:
    block, by_size = signal(table, plan.group_size), by_group_size(table)
    general = estimates(table)
    mixed = block["mixed"]["value"]
    return {
        "n_problems": table.num_problems,
        "samples_per_problem": table.num_samples,
        **block,
        "spread": {"n": plan.group_size, **_spread(table, plan.group_size).to_json()},
        "variance": _variance(table),
        "avg_entropy_bits": general["avg_entropy_bits"].to_json(),
        "entropy": general["entropy"].to_json(),
        "histogram": np.bincount(table.num_correct_P.astype(int), minlength=table.num_samples + 1).tolist(),
        "mean_tokens": general["mean_tokens"].to_json(),
        "p95_finished_tokens": _p95_finished(table),
        **{key: general[key].to_json() for key in ("truncated_frac", "format_fail_frac", "duplicate_frac")},
        "reward_parts": reward_parts(table),
        "correctness_share": correctness_share(table),
        "by_group_size": by_size,
        "as_it_learns": as_it_learns(table, plan.group_size),
        "useful_groups_per_step": plan.problems_per_step * mixed,
        "wasted_token_frac": _wasted(table, plan.group_size),
        "scoring": _scoring(table, check),
        "by_domain": {label: signal(part, plan.group_size) for label, part in slices(table, "domain")},
        "by_bucket": {label: signal(part, plan.group_size) for label, part in slices(table, "bucket")},
        "settings": dict(settings),
    }


def _verdict_facts(table: Table, plan: Plan, check: ScorerCheck, facts: Mapping[str, Any]) -> Facts:
    share = facts["correctness_share"]
    return Facts(
        accuracy=_accuracy(table),
        mixed=_mixed(table, plan.group_size),
        all_right=facts["all_right_frac"],
        all_wrong=facts["all_wrong_frac"],
        group_size=plan.group_size,
        num_problems=table.num_problems,
        mixed_by_size={int(n): one["mixed"] for n, one in facts["by_group_size"].items()},
        truncated=facts["truncated_frac"]["value"],
        duplicates=facts["duplicate_frac"]["value"],
        error_frac=facts["scoring"]["error_frac"],
        max_tokens=plan.max_tokens,
        temperature=plan.temperature,
        p95_finished_tokens=facts["p95_finished_tokens"],
        faulty=check.faulty,
        format_parts=_varying(facts["reward_parts"]) if share is not None and share < FORMAT_SHARE else (),
        recipe=plan.recipe,
        limits=plan.limits,
    )


# ---- the signal ------------------------------------------------------------------------------------------------------


def signal(table: Table, group_size: int) -> dict[str, Any]:
    """Accuracy and the three kinds of groups, for a table or a slice of it."""
    correct, samples = table.num_correct_P, table.num_samples
    return {
        "num_problems": table.num_problems,
        "accuracy": _accuracy(table).to_json(),
        "mixed": {"n": group_size, **_mixed(table, group_size).to_json()},
        "all_right_frac": _mean(all_correct_at_k(correct, samples, group_size)),
        "all_wrong_frac": _mean(1.0 - pass_at_k(correct, samples, group_size)),
    }


def _accuracy(table: Table) -> Estimate:
    return share_interval(table.solve_rates_P, table.num_samples, table.clusters)


def _mixed(table: Table, group_size: int) -> Estimate:
    shares = mixed_share(table.num_correct_P, table.num_samples, group_size)
    return share_interval(shares, table.num_samples, table.clusters)


def _spread(table: Table, group_size: int) -> Estimate:
    """Groups with two different rewards: with partial credit these teach too, if not what is right."""
    shares = spread_share(table.array("reward").tolist(), group_size)
    return share_interval(shares, table.num_samples, table.clusters)


def by_group_size(table: Table) -> dict[str, dict[str, Any]]:
    """Mixed share and its price at usual group sizes; beyond the samples taken only an extrapolation, marked as such."""
    fit: tuple[float, float] | None = None
    found: dict[str, dict[str, Any]] = {}
    for size in GROUP_SIZES:
        if size <= table.num_samples:
            mixed = _mean(mixed_share(table.num_correct_P, table.num_samples, size))
            found[str(size)] = {
                "mixed": mixed,
                "completions_per_useful_group": size / mixed if mixed > 0 else None,
                "oversampling_factor": 1 / mixed if mixed > 0 else None,
            }
        else:
            fit = fit or beta_fit(table.num_correct_P.astype(int).tolist(), table.num_samples)
            reason = f"not measured ({table.num_samples} samples)"
            found[str(size)] = {"mixed": None, "reason": reason, "extrapolated": extrapolated_mixed(*fit, size)}
    return found


def as_it_learns(table: Table, group_size: int) -> list[dict[str, float]]:
    """The mixed share after gains in accuracy, by a model (see `mixed_after_gain`). What is measured is the policy as it
    is; how fast it learns is not known before it trains, but where its groups go then is."""
    correct, now = table.num_correct_P.astype(int).tolist(), _mean(table.solve_rates_P)
    shares = {gain: mixed_after_gain(correct, table.num_samples, group_size, gain) for gain in GAINS}
    return [
        {"gain": gain, "accuracy": now + gain, "mixed": share} for gain, share in shares.items() if share is not None
    ]


def _variance(table: Table) -> dict[str, float]:
    rates = table.solve_rates_P
    biased = rates * (1 - rates)
    return {
        "biased": _mean(biased),
        "unbiased": _mean(success_variance(table.num_correct_P, table.num_samples)),
        "over_0_05_frac": float(np.mean(biased > MIXED_VARIANCE)),
    }


def _wasted(table: Table, group_size: int) -> float | None:
    """Share of the tokens that would be sampled for groups without signal."""
    tokens = table.array("num_tokens").sum(axis=1)
    total = math.fsum(tokens)
    mixed = mixed_share(table.num_correct_P, table.num_samples, group_size)
    return math.fsum(tokens * (1 - mixed)) / total if total else None


# ---- rewards ---------------------------------------------------------------------------------------------------------


def reward_parts(table: Table) -> dict[str, dict[str, float]]:
    """Mean of each term of the reward, and its variance inside groups (sample variance, mean over problems)."""
    return {
        name: {"mean": float(values.mean()), "within_group_variance": float(values.var(axis=1, ddof=1).mean())}
        for name in table.part_names()
        if not name.startswith("info/")
        for values in (table.part(name)[0],)
    }


def correctness_share(table: Table) -> float | None:
    """Share of the reward's variance inside groups that follows from correctness (squared correlation inside groups);
    None where the reward does not vary inside any group."""
    reward, correct = (_within(table.array(key)) for key in ("reward", "correct"))
    total = math.fsum((reward**2).ravel())
    if total == 0:
        return None
    both, own = math.fsum((reward * correct).ravel()), math.fsum((correct**2).ravel())
    return both**2 / (total * own) if own else 0.0


def _within(values_PK: Floats) -> Floats:
    """Differences from the mean of the own group."""
    return values_PK - values_PK.mean(axis=1, keepdims=True)


def _varying(parts: Mapping[str, Mapping[str, float]]) -> tuple[str, ...]:
    """Parts that vary inside groups, the most varying first."""
    found = [(-one["within_group_variance"], name) for name, one in parts.items() if one["within_group_variance"] > 0]
    return tuple(name for _, name in sorted(found)) or ("reward",)


# ---- lengths and scoring ---------------------------------------------------------------------------------------------


def _p95_finished(table: Table) -> float | None:
    """95th percentile of the length of completions that ended by themselves (tokens)."""
    finished = [row["num_tokens"] for rows in table.rows_PK for row in rows if row.get("finish") == "stop"]
    return float(np.percentile(finished, 95, method="higher")) if finished else None


def _scoring(table: Table, check: ScorerCheck) -> dict[str, Any]:
    statuses = [str(row.get("status", "scored")) for rows in table.rows_PK for row in rows]
    return {
        "gold_ok": not check.gold_wrong,
        "empty_ok": not check.empty_paid,
        "error_frac": sum(status in FAILED for status in statuses) / len(statuses),
        "refused_frac": statuses.count("refused") / len(statuses),
        "timeout_frac": statuses.count("timeout") / len(statuses),
        "milliseconds_per_call": check.milliseconds_per_call,
    }


def _mean(values: Floats) -> float:
    return math.fsum(values) / len(values)
