"""The tables of a comparison: headline numbers, pass@k, maj@k, slices by domain and difficulty, reward parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from gradus.evaluation import evaluate
from gradus.evaluation.majority import has_answers, majority_at_k
from gradus.evaluation.paired import holm, mcnemar, paired_interval
from gradus.evaluation.pairs import Line, Pair, power
from gradus.evaluation.stats import (
    Estimate,
    Floats,
    binary_entropy_bits,
    pass_at_k,
    ratio_residuals,
    share_interval,
)
from gradus.evaluation.table import Table

NAMES = {
    "pass_at_1": "Pass@1",
    "mean_accuracy": "Mean accuracy",
    "avg_entropy_bits": "Avg entropy",
    "entropy": "Token entropy",
    "mean_tokens": "Mean tokens",
    "truncated_frac": "Truncated",
    "format_fail_frac": "Format failures",
}
UNITS = {"avg_entropy_bits": "bits/group", "entropy": "nats/token", "mean_tokens": "tokens"}
_REWARD_STEPS = 1000
"""Rewards are usually multiples of a thousandth; the test of their mean is then exact."""
SMALL_SLICE = 20
"""Slices with fewer problems are shown in grey: their intervals are too wide to say much."""


def summary(pair: Pair) -> list[Line]:
    """Headline numbers; mean accuracy first, then Pass@1, as published tables have them."""
    base, trained = (evaluate.estimates(table) for table in pair.tables)
    cuts = [table.map(lambda row: row.get("finish") == "length").mean(axis=1) for table in pair.tables]
    return [
        _mean_accuracy(pair, base["mean_accuracy"], trained["mean_accuracy"]),
        _pass_at_1(pair),
        _group_entropy(pair, base, trained),
        _token_entropy(pair, base, trained),
        _tokens(pair, base["mean_tokens"], trained["mean_tokens"]),
        pair.share_line("truncated_frac", NAMES["truncated_frac"], cuts[0], cuts[1]),
        _format_failures(pair, base, trained),
    ]


def _mean_accuracy(pair: Pair, base: Estimate, trained: Estimate) -> Line:
    unit = "share" if all(evaluate.has_unit_rewards(table) for table in pair.tables) else "reward"
    means = [table.array("reward").mean(axis=1) for table in pair.tables]
    lattice = pair.lattice * _REWARD_STEPS
    line = pair.line("mean_accuracy", NAMES["mean_accuracy"], unit, base, trained, means[1] - means[0], lattice=lattice)
    return replace(line, extra=power(means[0], means[1], line.difference))


def _pass_at_1(pair: Pair) -> Line:
    before, after = pair.base.solve_rates_P, pair.trained.solve_rates_P
    line = pair.share_line("pass_at_1", NAMES["pass_at_1"], before, after)
    extra = power(before, after, line.difference)
    if pair.lattice == 1 and pair.clusters is None:
        extra["mcnemar_mid_p"] = mcnemar(int(np.sum(before > after)), int(np.sum(after > before)))[1]
    return replace(line, extra=extra)


def _group_entropy(pair: Pair, base: Mapping[str, Estimate], trained: Mapping[str, Estimate]) -> Line:
    key = "avg_entropy_bits"
    if base[key].value is None or trained[key].value is None:
        return _untested(key, base, trained)
    before, after = (binary_entropy_bits(table.solve_rates_P) for table in pair.tables)
    return pair.line(key, NAMES[key], UNITS[key], base[key], trained[key], after - before)


def _token_entropy(pair: Pair, base: Mapping[str, Estimate], trained: Mapping[str, Estimate]) -> Line:
    """The difference of two ratios has the difference of their influences per problem as its parts."""
    before, after = base["entropy"].value, trained["entropy"].value
    if before is None or after is None:
        return _untested("entropy", base, trained)
    residuals = [ratio_residuals(*evaluate.nats_and_tokens(table))[0] for table in pair.tables]
    d_P = residuals[1] - residuals[0] + (after - before)
    return pair.line("entropy", NAMES["entropy"], UNITS["entropy"], base["entropy"], trained["entropy"], d_P)


def _tokens(pair: Pair, base: Estimate, trained: Estimate) -> Line:
    before, after = (table.array("num_tokens").mean(axis=1) for table in pair.tables)
    return pair.line("mean_tokens", NAMES["mean_tokens"], "tokens", base, trained, after - before, lattice=pair.lattice)


def _format_failures(pair: Pair, base: Mapping[str, Estimate], trained: Mapping[str, Estimate]) -> Line:
    parts = [table.part("info/format_fail") for table in pair.tables]
    if not all(has.all() for _, has in parts):
        return _untested("format_fail_frac", base, trained)
    return pair.share_line("format_fail_frac", NAMES["format_fail_frac"], *(values.mean(axis=1) for values, _ in parts))


def _untested(key: str, base: Mapping[str, Estimate], trained: Mapping[str, Estimate]) -> Line:
    reason = base[key].reason or trained[key].reason or "not in all rows"
    nothing = Estimate(value=None, reason=reason)
    return Line(
        key=key, name=NAMES[key], unit=UNITS.get(key, "share"), base=base[key], trained=trained[key], difference=nothing
    )


def passes(pair: Pair) -> list[Line]:
    """Pass@k for each k that both have completions for. No p-values: only k = 1 can be the primary metric."""
    return _over_k(pair, "Pass", lambda table, k: pass_at_k(table.num_correct_P, table.num_samples, k))


def majorities(pair: Pair) -> list[Line]:
    """maj@k for each k that both have completions for; nothing where either model's answers are not known."""
    return _over_k(pair, "Maj", majority_at_k) if all(has_answers(table) for table in pair.tables) else []


def _over_k(pair: Pair, name: str, read: Callable[[Table, int], Floats]) -> list[Line]:
    lines = []
    for k in range(1, min(table.num_samples for table in pair.tables) + 1):
        values = [read(table, k) for table in pair.tables]
        base, trained = (
            share_interval(v, table.num_samples, pair.clusters) for v, table in zip(values, pair.tables, strict=True)
        )
        difference = paired_interval(values[1] - values[0], pair.clusters, bounds=(-1.0, 1.0))
        lines.append(
            Line(
                key=f"{name.lower()}_at_{k}",
                name=f"{name}@{k}",
                unit="share",
                base=base,
                trained=trained,
                difference=difference,
                extra={"k": k},
            )
        )
    return lines


def base_overtakes_at(pass_lines: Sequence[Line]) -> int | None:
    """Smallest k at which base is ahead although trained leads at k = 1 (arXiv 2504.13837)."""
    gains = [line.difference.value or 0.0 for line in pass_lines]
    if not gains or gains[0] <= 0:
        return None
    return next((k for k, gain in enumerate(gains, 1) if gain < -1e-12), None)


def slices(pair: Pair) -> list[Line]:
    """Pass@1 per domain, per bucket and per both; ``p_holm`` is adjusted within each of the three."""
    lines: list[Line] = []
    trained = {str(rows[0]["problem_id"]): rows for rows in pair.trained.rows_PK}
    for keys in (("domain",), ("bucket",), ("domain", "bucket")):
        parts = evaluate.slices(pair.base, *keys)
        if len(parts) < 2:
            continue
        own = []
        for label, part in parts:
            sub = Pair(part, Table([trained[i] for i in part.problem_ids]))
            line = sub.share_line("pass_at_1", label, part.solve_rates_P, sub.trained.solve_rates_P)
            facts = {"by": "_".join(keys), "n": part.num_problems, "is_small": part.num_problems < SMALL_SLICE}
            own.append(replace(line, extra=facts))
        adjusted = holm([1.0 if line.p is None else line.p for line in own])
        lines += [replace(line, extra={**line.extra, "p_holm": p}) for line, p in zip(own, adjusted, strict=True)]
    return lines


def parts(pair: Pair) -> list[Line]:
    """Mean of every reward term and every fact (``info/...``): format and correctness apart."""
    return [_part(pair, name) for name in sorted({*pair.base.part_names(), *pair.trained.part_names()})]


def _part(pair: Pair, name: str) -> Line:
    is_fact = name.startswith("info/")
    base, trained = (evaluate.part_estimate(table, name) for table in pair.tables)
    columns = [table.part(name) for table in pair.tables]
    difference = Estimate(value=None, reason="not in all rows")
    if not is_fact or all(has.all() for _, has in columns):
        bounds = (-1.0, 1.0) if all(evaluate.is_unit(values) for values, _ in columns) else None
        d_P = columns[1][0].mean(axis=1) - columns[0][0].mean(axis=1)
        difference = paired_interval(d_P, pair.clusters, bounds=bounds)
    return Line(
        key=name, name=name, unit="fact" if is_fact else "reward", base=base, trained=trained, difference=difference
    )
