"""What an answer earns, with its parts: the default reward by counterfactual values, or the original project's own.

Pure: no files, no random numbers, the same in any process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradus.tasks import answers
from gradus.tasks.economy.decision import Decision, parse_decision
from gradus.tasks.economy.errors import DataError
from gradus.tasks.economy.lenient import parse_lenient
from gradus.tasks.economy.seed_reward import seed_parts, seed_reward
from gradus.tasks.economy.values import CORRECT_FROM, FAILED, Values
from gradus.types import Finish, Score

__all__ = ["FAILED", "REWARDS", "SOURCE", "read", "score", "seed_reward"]

SOURCE = "gradus/economy"
"""The data source that the default reward judges."""
REWARDS = ("counterfactual", "seed")
LADDER = -0.9
"""With ``format_ladder``: reward of an answer that only the lenient reading understands."""


def read(text: str, envelope: str, finish: Finish = "stop") -> Decision:
    """The decision of a whole completion, or of its last answer block."""
    if envelope == "none":
        return parse_decision(text)
    start = text.rfind("<answer>")
    if start < 0:
        return Decision(False, "truncated" if finish == "length" else "no_object")
    inner = text[start + len("<answer>") :]
    end = inner.find("</answer>")
    return Decision(False, "truncated") if end < 0 else parse_decision(inner[:end])


def score(
    text: str,
    truth: Mapping[str, Any],
    values: Values,
    *,
    reward: str = "counterfactual",
    envelope: str = "none",
    grid_penalty: float = 0.0,
    format_ladder: bool = False,
    finish: Finish = "stop",
) -> Score:
    """Judges a completion. ``correct`` is always the default reward's: 90 % of the way from random to best.

    Raises DataError for a row of another data source.
    """
    source = truth.get("data_source", SOURCE)
    if reward == "counterfactual" and source != SOURCE:
        raise DataError(f"data_source={source!r} is not judged by this reward; rows of {SOURCE!r} are needed")
    decision = read(text, envelope, finish)
    worth = FAILED
    if decision.ok:
        assert decision.work is not None and decision.consumption is not None
        worth = values.reward(decision.work, decision.consumption)
    parts, total = _parts(text, decision, worth, truth, reward, grid_penalty, format_ladder)
    parts["info/strict"] = float(decision.ok)
    parts["info/lenient"] = float(decision.ok or parse_lenient(text) is not None)
    parts["info/format_fail"] = float(not decision.ok)
    parts["info/truncated"] = float(decision.reason == "truncated")
    if decision.ok:
        assert decision.work is not None and decision.consumption is not None
        parts["info/work"], parts["info/consumption"] = decision.work, decision.consumption
        parts["info/on_grid"], parts["info/value"] = float(decision.on_grid), worth
    parts.update(answers.facts(text))
    return Score(reward=total, correct=decision.ok and worth >= CORRECT_FROM, parts=parts, why=decision.reason)


def _parts(
    text: str,
    decision: Decision,
    worth: float,
    truth: Mapping[str, Any],
    reward: str,
    grid_penalty: float,
    format_ladder: bool,
) -> tuple[dict[str, float], float]:
    """Reward terms, and their sum."""
    if reward == "seed":
        return _seed_terms(text, truth)
    if not decision.ok:
        total = LADDER if format_ladder and parse_lenient(text) is not None else FAILED
        return {"format": total}, total
    grid = -grid_penalty if not decision.on_grid else 0.0
    return {"format": 0.0, "value": worth, "grid": grid}, worth + grid


def _seed_terms(text: str, truth: Mapping[str, Any]) -> tuple[dict[str, float], float]:
    """The original's terms, weighted; ``bound`` is what its last clip takes away."""
    parts = seed_parts(text, truth.get("extra_info"))
    total = parts["total"]
    if len(parts) == 1:
        return {"format": total}, total
    terms = {name: parts[f"w_{name}"] * parts[name] for name in ("annual", "guard", "micro", "reg")}
    terms["bound"] = total - sum(terms.values())
    return terms, total
