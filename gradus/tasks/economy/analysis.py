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


def flat(rows: Rows) -> list[dict[str, Any]]:
    """Evaluation rows in the terms of this task: decision (None where it failed), value, state, context."""
    made = []
    for row in rows:
        truth, parts = row["solution"], row["parts"]
        state = truth.get("state", {})
        has_read = "info/work" in parts
        made.append(
            {
                "context_id": row["problem_id"],
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
    if all(truth.get("few_shot") for truth in truths.values()):
        copy = {
            name: values[name].reward(*copied([{"work": w, "consumption": c} for w, c in truth["few_shot"]]))
            for name, truth in truths.items()
        }
        differences["trained - few-shot copy"] = paired(copy, trained_means, economies)
    return {
        "models": {"base": summary(base), "trained": summary(trained)},
        "ladder": ladder(truths),
        "differences": differences,
        "verdict": verdict(differences["trained - base"], differences["trained - best constant"]),
        "strata": strata(base, trained),
    }


def strata(base: Rows, trained: Rows) -> list[dict[str, Any]]:
    """Regime x worked x wealth tercile: number of contexts, rewards, difference (with an interval from 10 contexts on),
    the best answers' means."""
    cells: dict[tuple[Any, ...], tuple[list[Any], list[Any]]] = defaultdict(lambda: ([], []))
    for which, rows in enumerate((base, trained)):
        for row in rows:
            cells[row["regime"], row.get("worked"), row.get("wealth_tercile")][which].append(row)
    out = []
    for (regime, worked, tercile), (ours, theirs) in sorted(cells.items(), key=str):
        (first, economies), (second, _) = _means(ours), _means(theirs)
        entry: dict[str, Any] = {"regime": regime, "worked": worked, "wealth_tercile": tercile, "num": len(first)}
        entry["base"] = math.fsum(first.values()) / max(1, len(first))
        entry["trained"] = math.fsum(second.values()) / max(1, len(second))
        entry["difference"] = entry["trained"] - entry["base"]
        if len(first) >= MIN_CELL:
            interval = paired(first, second, economies)
            entry |= {"low": interval["low"], "high": interval["high"]}
        for name in ("oracle_work", "oracle_consumption"):
            entry[name] = math.fsum(row[name] for row in theirs) / max(1, len(theirs))
        out.append(entry)
    return out


# ------------------------------------------------------------------ tables for people


def tables(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The comparison as tables: title, head, rows of text, and a sentence to read them by."""
    tables_of = (_answers_table, _models_table, _differences_table, _ladder_table, _strata_table)
    return [table(found) for table in tables_of]


_VERDICTS = {
    "improved": "yes: better than the base model and than the best constant answer, both intervals above 0",
    "improved_below_constant": "better than the base model; that it beats the best constant answer is not shown",
    "no_change": "not shown: the interval of trained − base includes 0",
    "worse": "no: worse than the base model",
    "underpowered": f"undecided: fewer than {MIN_ECONOMIES} economies were evaluated",
}
_SHAPES = {
    "constant": "yes: one answer for everybody",
    "few_points": "yes: a few answers make up nearly all",
    "reversed": "no, but it decides against the state: the opposite of what suits it",
    "state_blind": "it varies without regard to the state: wage and wealth do not show in the answers",
    "partial": "no: work follows the wage, but consumption does not follow wealth",
    "healthy": "no: answers vary with the state as they should",
    "undetermined": "undecided: fewer than 100 answers could be read",
}


def _answers_table(found: Mapping[str, Any]) -> dict[str, Any]:
    """The two questions that a reader comes with."""
    trained = found["models"]["trained"]
    against_base = found["differences"]["trained - base"]
    interval = f"{against_base['value']:+.3f}, 95 % CI {against_base['low']:+.3f} to {against_base['high']:+.3f}"
    shape = (trained["collapse"] or {}).get("verdict")
    collapsed = _SHAPES[shape] if shape else f"undecided: {trained['collapse_reason']}"
    rows = [
        ["Did it learn?", f"{_VERDICTS[found['verdict']]} (mean reward {interval})"],
        ["Is it collapsed?", collapsed],
    ]
    return {
        "title": "Did it learn, and is it collapsed?",
        "head": ["question", "answer"],
        "rows": rows,
        "reading": "What the economy does with it stands below, if tasks.economy.closed_loop_months is set.",
    }


def _text(value: Any, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def _models_table(found: Mapping[str, Any]) -> dict[str, Any]:
    rows = []
    for name, one in found["models"].items():
        shape = one["collapse"] or {}
        rows.append(
            [
                name,
                f"{_text(one['work_mean'])} / {_text(one['work_std'])}",
                f"{_text(one['consumption_mean'])} / {_text(one['consumption_std'])}",
                _text(one["reward_mean"]),
                _text(one["reward_mean_parsed"]),
                _text(one["strict_frac"]),
                _text(one["lenient_frac"]),
                _text(one["failed_frac"]),
                shape.get("verdict", "undetermined"),
                f"{_text(shape.get('rho_work'), 2)} / {_text(shape.get('rho_consumption'), 2)}",
            ]
        )
    head = ["model", "work mean / std", "consumption mean / std", "reward", "reward of parsed", "strict parse", "lenient parse",
            "share of -1", "collapse", "rank correlation work–wage / consumption–wealth"]  # fmt: skip
    reading = (
        "Failed answers count as -1. A healthy policy works more for a higher real wage (correlation above 0) and spends a "
        "smaller share when rich (below 0); a spread alone says nothing."
    )
    return {"title": "Decisions: base and trained", "head": head, "rows": rows, "reading": reading}


def _differences_table(found: Mapping[str, Any]) -> dict[str, Any]:
    rows = [
        [
            name,
            f"{d['value']:+.3f}",
            f"{d['low']:+.3f} to {d['high']:+.3f}",
            f"{d['wins']} / {d['ties']} / {d['losses']}",
        ]
        for name, d in found["differences"].items()
    ]
    reading = f"Verdict: {found['verdict']}. Paired by context, resampled by economy."
    return {
        "title": "Differences in reward",
        "head": ["difference", "mean", "95 % interval", "wins / ties / losses"],
        "rows": rows,
        "reading": reading,
    }


def _ladder_table(found: Mapping[str, Any]) -> dict[str, Any]:
    rungs = [(name, r["mean"], r["se"], r["correct"], r["original"]) for name, r in found["ladder"].items()]
    for name, one in found["models"].items():
        if one["reward_mean"] is not None:
            rungs.append((f"{name} model", one["reward_mean"], None, one["correct_frac"], one["original_mean"]))
    rows = [
        [name, _text(mean), _text(se), f"{correct:.0%}", _text(original)]
        for name, mean, se, correct, original in sorted(rungs, key=lambda rung: rung[1])
    ]
    return {
        "title": "Ladder of baselines",
        "head": ["policy", "mean reward", "standard error", "correct", "the original project's reward"],
        "rows": rows,
        "reading": (
            "The best constant answer knows nothing of the state: a trained policy below it has learned little. Most of "
            "the original project's reward is the same for every answer."
        ),
    }


def _strata_table(found: Mapping[str, Any]) -> dict[str, Any]:
    rows = []
    for cell in found["strata"]:
        interval = f"{cell['low']:+.3f} to {cell['high']:+.3f}" if "low" in cell else "too few"
        worked = {1: "worked", 0: "did not work"}.get(cell["worked"], "–")
        wealth = {0: "poor", 1: "middle", 2: "rich"}.get(cell["wealth_tercile"], "–")
        rows.append(
            [f"{cell['regime']}, {worked}, {wealth}", str(cell["num"]), _text(cell["base"]), _text(cell["trained"]),
             f"{cell['difference']:+.3f}", interval, f"{cell['oracle_work']:.2f} / {cell['oracle_consumption']:.2f}"]
        )  # fmt: skip
    return {
        "title": "By regime, work and wealth",
        "head": ["contexts", "number", "base", "trained", "difference", "95 % interval", "best work / consumption"],
        "rows": rows,
        "reading": "Intervals from 10 contexts on.",
    }
