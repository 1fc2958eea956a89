"""The ladder of baselines: what policies earn on the same contexts that know nothing, a rule, or a formula of the state.

Each rung has its mean of the default reward and of the original project's, so that a model can be placed on both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from gradus.tasks.economy.decision import canonical
from gradus.tasks.economy.memory import BEST_CONSTANT, copied
from gradus.tasks.economy.policies import buffer_share
from gradus.tasks.economy.seed_reward import seed_reward
from gradus.tasks.economy.values import CORRECT_FROM, Values

Action = tuple[float, float]
NOISY_BASE = ((0.83, 0.194), (0.694, 0.106))
"""Mean and spread of the reference project's base model, as a state-blind rung."""
NUM_DRAWS = 8
"""Answers per context of the random rungs."""
REGRESSION = (
    (0.807045, 0.045211, 0.051813, -0.139247, -0.022463, -0.028574, 0.100531),
    (0.381192, 0.028481, -0.130943, -0.090849, 0.110058, 0.105512, -0.364163),
)
"""Work and consumption by the numbers ``regression`` of a context's state, constant first: least squares on the best
answers of all training contexts; a slow test fits them again."""


def ladder(truths: Mapping[str, Mapping[str, Any]], *, seed: int = 0) -> dict[str, dict[str, Any]]:
    """By rung: mean reward with its standard error, share correct, and the original's reward where its facts are there."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, len(truths)])))
    rewards: dict[str, list[float]] = {}
    right: dict[str, list[float]] = {}
    originals: dict[str, list[float]] = {}
    for name in sorted(truths):
        truth = truths[name]
        values = Values.from_row(truth, name)
        for rung, actions in _rungs(truth, values, rng).items():
            earned = [values.reward(*action) for action in actions]
            rewards.setdefault(rung, []).append(_mean(earned))
            right.setdefault(rung, []).append(_mean([float(one >= CORRECT_FROM) for one in earned]))
            facts = truth.get("extra_info")
            if facts is not None:
                found = [seed_reward(canonical(*action), facts) for action in actions]
                originals.setdefault(rung, []).append(_mean(found))
    return {
        name: {
            "mean": _mean(found),
            "se": float(np.std(found) / math.sqrt(len(found))),
            "correct": _mean(right[name]),
            "num": len(found),
            "original": _mean(originals[name]) if len(originals.get(name, ())) == len(found) else None,
        }
        for name, found in rewards.items()
    }


def _rungs(truth: Mapping[str, Any], values: Values, rng: np.random.Generator) -> dict[str, list[Action]]:
    """What each rung answers in one context; several answers where it draws."""
    drawn = rng.random((NUM_DRAWS, 2))
    noisy = np.clip([[rng.normal(*moments) for moments in NOISY_BASE] for _ in range(NUM_DRAWS)], 0, 1)
    rungs: dict[str, list[Action]] = {
        "random": [(float(work), float(share)) for work, share in drawn],
        "base-like": [(float(work), float(share)) for work, share in noisy],
        "parse fallback (1, 0.5)": [(1.0, 0.5)],
        "best constant": [BEST_CONSTANT],
    }
    state = truth.get("state", {})
    if "regression" in state:
        rungs["len rule"] = [_len(state)]
        rungs["regression on the state"] = [regressed(state["regression"])]
    if "wealth_months" in state:
        rungs["buffer_stock rule"] = [(0.95, float(buffer_share(np.array(state["wealth_months"]))))]
    if truth.get("few_shot"):
        rungs["few-shot copy"] = [copied([{"work": w, "consumption": c} for w, c in truth["few_shot"]])]
    return rungs | {"best of the grid": [(values.oracle_work, values.oracle_consumption)]}


def regressed(features: list[float]) -> Action:
    """The decision that the fitted formula gives."""
    work, share = (row[0] + math.fsum(b * x for b, x in zip(row[1:], features, strict=True)) for row in REGRESSION)
    return min(max(work, 0.0), 1.0), min(max(share, 0.0), 1.0)


def _len(state: Mapping[str, Any]) -> Action:
    """The rule `len` of a household's expected income, from its state alone."""
    wealth, rate = state["wealth_months"], state["regression"][5]
    work = min((1 / (wealth * (1 + rate) + 1e-12)) ** 0.1, 1.0)
    return work, min((math.exp(-state["ln_real_wage"]) / (1 + wealth)) ** 0.1, 1.0)


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)
