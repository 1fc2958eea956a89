"""Base against trained, in the terms of this task: the ladder of baselines, the users' table, regimes, collapse, a verdict.

Works on evaluation rows alone: each holds its context's value table (``solution``) and the decision (``parts``). A
failed answer is -1 everywhere; nothing is put in its place. Resampling is by economy.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradus.tasks.economy.collapse import of_rows
from gradus.tasks.economy.decision import canonical
from gradus.tasks.economy.ladder import ladder
from gradus.tasks.economy.memory import BEST_CONSTANT, copied
from gradus.tasks.economy.seed_reward import seed_reward
from gradus.tasks.economy.values import FAILED, Values

Floats = NDArray[np.float64]
Rows = Sequence[Mapping[str, Any]]
NUM_RESAMPLES = 10_000
MIN_ECONOMIES = 30
MIN_CELL = 10
LANGUAGES = {"en": "English", "zh": "Chinese"}
BARE = "/bare"
"""Ends the id of a problem whose examples were left out, though its twin has some."""


def flat(rows: Rows) -> list[dict[str, Any]]:
    """Evaluation rows in the terms of this task: decision (None where it failed), value, state, context."""
    made = []
    for row in rows:
        truth, parts, name = row["solution"], row["parts"], row["problem_id"]
        state = truth.get("state", {})
        has_read = "info/work" in parts
        made.append(
            {
                "context_id": name,
                "language": next((one for one in LANGUAGES if f"/{one}" in name), None),
                "has_examples": "few_shot" in truth,
                "economy_seed": truth.get("economy_seed"),
                "work": parts.get("info/work"),
                "consumption": parts.get("info/consumption"),
                "reward": parts.get("info/value", FAILED) if has_read else FAILED,
                "original": _original(parts, truth) if has_read else FAILED,
                "correct": bool(row["correct"]),
                "why": row["why"],
                "strict": parts.get("info/strict", 0.0),
                "lenient": parts.get("info/lenient", 0.0),
                "on_grid": parts.get("info/on_grid", 0.0),
                "regime": row["domain"],
                "oracle_work": truth["oracle_work"],
                "oracle_consumption": truth["oracle_consumption"],
                **state,
            }
        )
    return made


def _original(parts: Mapping[str, Any], truth: Mapping[str, Any]) -> float | None:
    """The original project's reward of a decision; None where the row has not what it needs."""
    facts = truth.get("extra_info")
    return None if facts is None else seed_reward(canonical(parts["info/work"], parts["info/consumption"]), facts)


def contexts_of(rows: Rows) -> dict[str, Mapping[str, Any]]:
    """The ``solution`` of each context, by its id."""
    return {row["problem_id"]: row["solution"] for row in rows}


# ------------------------------------------------------------------ one policy


def summary(rows: Rows) -> dict[str, Any]:
    """The users' row of one model: means and spreads of the parsed answers, rewards with and without failed ones."""
    read = [row for row in rows if row["work"] is not None]
    out: dict[str, Any] = {"num": len(rows), "num_parsed": len(read)}
    for name in ("work", "consumption"):
        column = np.array([row[name] for row in read], dtype=np.float64)
        out[f"{name}_mean"] = float(column.mean()) if len(column) else None
        out[f"{name}_std"] = float(column.std()) if len(column) else None
    rewards = np.array([row["reward"] for row in rows], dtype=np.float64)
    out["reward_mean"] = float(rewards.mean()) if len(rewards) else None
    out["reward_mean_parsed"] = float(np.mean([row["reward"] for row in read])) if read else None
    originals = [row["original"] for row in rows]
    out["original_mean"] = math.fsum(originals) / len(originals) if rows and None not in originals else None
    for name in ("strict", "lenient", "on_grid"):
        out[f"{name}_frac"] = float(np.mean([row[name] for row in rows])) if len(rows) else None
    out["failed_frac"] = float(np.mean(rewards == FAILED)) if len(rows) else None
    out["correct_frac"] = float(np.mean([row["correct"] for row in rows])) if len(rows) else None
    out["reasons"] = dict(sorted(Counter(row["why"] for row in rows).items()))
    found = of_rows(read) if read and "ln_real_wage" in read[0] else None
    out["collapse"] = found.to_json() if found else None
    if found is None:
        out["collapse_reason"] = "no answer could be read" if not read else "rows have no state; prepare the data again"
    return out


# ------------------------------------------------------------------ pairs


def _means(rows: Rows) -> tuple[dict[str, float], dict[str, Any]]:
    """(mean reward, economy) of each context."""
    rewards: dict[str, list[float]] = defaultdict(list)
    economies: dict[str, Any] = {}
    for row in rows:
        rewards[row["context_id"]].append(row["reward"])
        economies[row["context_id"]] = row["economy_seed"]
    return {name: math.fsum(found) / len(found) for name, found in rewards.items()}, economies


def paired(
    first: Mapping[str, float], second: Mapping[str, float], economies: Mapping[str, Any], *, seed: int = 0
) -> dict[str, Any]:
    """second - first by context: mean, 95 % interval from 10 000 resamples of economies, wins, ties and losses.

    Raises ValueError where the contexts differ.
    """
    if set(first) != set(second):
        only = sorted(set(first) ^ set(second))
        raise ValueError(
            f"base and trained have different contexts ({len(only)} in one only, such as {only[0]}); pairs must match by "
            "context_id, so evaluate both on the same problems"
        )
    names = sorted(first)
    difference = np.array([second[name] - first[name] for name in names])
    clusters = sorted({str(economies[name]) for name in names})
    index = {cluster: k for k, cluster in enumerate(clusters)}
    place = np.array([index[str(economies[name])] for name in names])
    sums, counts = np.bincount(place, weights=difference), np.bincount(place).astype(np.float64)
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, len(clusters)])))
    weights = rng.multinomial(len(clusters), np.full(len(clusters), 1 / len(clusters)), size=NUM_RESAMPLES)
    resampled = (weights @ sums) / (weights @ counts)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return {
        "value": float(difference.mean()),
        "low": float(low),
        "high": float(high),
        "wins": int((difference > 1e-12).sum()),
        "ties": int((np.abs(difference) <= 1e-12).sum()),
        "losses": int((difference < -1e-12).sum()),
        "num_economies": len(clusters),
    }


def verdict(against_base: Mapping[str, Any], against_constant: Mapping[str, Any]) -> str:
    """``improved`` only where trained beats the base model and the best constant answer, both with intervals above 0."""
    if against_base["num_economies"] < MIN_ECONOMIES:
        return "underpowered"
    if against_base["high"] < 0:
        return "worse"
    if against_base["low"] <= 0:
        return "no_change"
    return "improved" if against_constant["low"] > 0 else "improved_below_constant"


def compare(base_rows: Rows, trained_rows: Rows) -> dict[str, Any]:
    """Everything of section "economic decisions" of a report. ValueError where the contexts differ."""
    base, trained = flat(base_rows), flat(trained_rows)
    (base_means, economies), (trained_means, _) = _means(base), _means(trained)
    truths = contexts_of(trained_rows)
    values = {name: Values.from_row(truth, name) for name, truth in truths.items()}
    differences = {"trained - base": paired(base_means, trained_means, economies)}
    constant = {name: one.reward(*BEST_CONSTANT) for name, one in values.items()}
    differences["trained - best constant"] = paired(constant, trained_means, economies)
    shown = {name: truth["few_shot"] for name, truth in truths.items() if truth.get("few_shot")}
    if shown:
        copy = {
            name: values[name].reward(*copied([{"work": w, "consumption": c} for w, c in examples]))
            for name, examples in shown.items()
        }
        differences["trained - few-shot copy"] = paired(copy, {name: trained_means[name] for name in shown}, economies)
    twins = [name.removesuffix(BARE) for name in trained_means if name.endswith(BARE)]
    for model, means in (("base", base_means), ("trained", trained_means)) if twins else ():
        without, with_them = {one: means[one + BARE] for one in twins}, {one: means[one] for one in twins}
        differences[f"{model}: with - without examples"] = paired(without, with_them, economies)
    return {
        "models": {"base": summary(base), "trained": summary(trained)},
        "ladder": ladder(truths),
        "differences": differences,
        "verdict": verdict(differences["trained - base"], differences["trained - best constant"]),
        "strata": strata(base, trained),
        "prompts": by_prompt(base, trained),
    }


def strata(base: Rows, trained: Rows) -> list[dict[str, Any]]:
    """Regime x worked x wealth tercile: number of contexts, rewards, difference (with an interval from 10 contexts on),
    the best answers' means."""
    found = _cells(base, trained, ("regime", "worked", "wealth_tercile"))
    return [
        entry
        | {name: math.fsum(row[name] for row in rows) / len(rows) for name in ("oracle_work", "oracle_consumption")}
        for entry, rows in found
    ]


def by_prompt(base: Rows, trained: Rows) -> list[dict[str, Any]]:
    """The same by language, and with and without examples; nothing where all prompts are of one kind."""
    cells = [entry for entry, _ in _cells(base, trained, ("language", "has_examples"))]
    return cells if len(cells) > 1 else []


def _cells(base: Rows, trained: Rows, keys: Sequence[str]) -> list[tuple[dict[str, Any], list[Mapping[str, Any]]]]:
    """For each combination of ``keys`` its entry, and the rows of the trained model."""
    cells: dict[tuple[Any, ...], tuple[list[Any], list[Any]]] = defaultdict(lambda: ([], []))
    for which, rows in enumerate((base, trained)):
        for row in rows:
            cells[tuple(row.get(key) for key in keys)][which].append(row)
    out = []
    for values, (ours, theirs) in sorted(cells.items(), key=str):
        (first, economies), (second, _) = _means(ours), _means(theirs)
        entry: dict[str, Any] = {**dict(zip(keys, values, strict=True)), "num": len(first)}
        entry["base"] = math.fsum(first.values()) / len(first)
        entry["trained"] = math.fsum(second.values()) / len(second)
        entry["difference"] = entry["trained"] - entry["base"]
        if len(first) >= MIN_CELL:
            interval = paired(first, second, economies)
            entry |= {"low": interval["low"], "high": interval["high"]}
        out.append((entry, theirs))
    return out
