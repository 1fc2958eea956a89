"""A household at a moment as a problem: its prompt, what it is judged by, and what is known of it; and shorter prompts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gradus.tasks.economy import contexts, facts, memory, prompts
from gradus.tasks.economy.errors import DataError
from gradus.tasks.economy.options import EconomyTaskConfig
from gradus.tasks.economy.reward import SOURCE
from gradus.tasks.economy.snapshot import Snapshot
from gradus.tasks.economy.values import Values
from gradus.types import Message, Problem


def assembled(
    config: EconomyTaskConfig,
    name: str,
    snapshot: Snapshot,
    household: int,
    values: Values,
    language: str,
    place: Mapping[str, Any],
    examples: Sequence[dict[str, Any]],
) -> Problem:
    """The problem ``name``. ``place`` has ``split``, ``economy_seed`` and what else is known of where it comes from."""
    similar = contexts.features(snapshot, household)
    wealth = float(contexts.wealth(snapshot)[household])
    truth: dict[str, Any] = {
        "data_source": SOURCE,
        "snapshot_id": snapshot.id,
        "split": place["split"],
        "economy_seed": place["economy_seed"],
        "month": snapshot.month,
        "household": household,
        "state": {
            "ln_real_wage": similar["ln_real_wage"],
            "wealth_months": wealth,
            "worked": int(snapshot.worked[household]),
            "wealth_tercile": contexts.tercile(wealth),
            "regression": _regression_features(snapshot, household),
        },
        **values.to_row(),
        "extra_info": facts.seed_facts(snapshot, household),
    }
    if examples:
        truth["few_shot"] = _decisions(examples)
    if "snapshot" in place:
        truth["snapshot"] = place["snapshot"]
    return Problem(
        id=name,
        task="economy",
        messages=_messages(config, snapshot, household, language, examples),
        truth=truth,
        domain=contexts.regime(snapshot),
        difficulty=min(max(1 - values.reward(*memory.BEST_CONSTANT), 0.0), 1.0),
        meta={
            "source": config.source,
            "prompt": f"{prompts.PROMPT_IDS[config.prompt]}-{language}",
            "lang": language,
            "context_id": name.removesuffix(f"/{language}"),
            "regime_seed": contexts.regime_seed(snapshot),
            "features": similar,
            "few_shot_ids": [example["id"] for example in examples],
            "cluster": f"economy {place['economy_seed']}" if place["economy_seed"] is not None else name,
            **{key: value for key, value in place.items() if key not in ("split", "economy_seed", "snapshot")},
        },
    )


def _regression_features(snapshot: Snapshot, household: int) -> list[float]:
    """Logarithms of real full-time pay, of savings in goods and in months of pay, of the credit; the goods market's
    imbalance; the interest rate."""
    similar = contexts.features(snapshot, household)
    savings = math.log1p(float(snapshot.savings[household]) / (16.8 * snapshot.price))
    return [similar["ln_real_wage"], savings, similar["ln_wealth"], similar["ln_credit"], similar["imbalance"],
            snapshot.rate]  # fmt: skip


def shortened(
    config: EconomyTaskConfig, problem: Problem, snapshot: Snapshot, examples: Sequence[dict[str, Any]]
) -> Iterator[Problem]:
    """Ever shorter prompts for the same decision: without the last example, the one before, the table."""
    household, language = problem.truth["household"], problem.meta["lang"]
    steps = [(num, True) for num in reversed(range(len(examples)))]
    for num, has_table in [*steps, (0, False)]:
        kept = examples[:num]
        truth = {key: value for key, value in problem.truth.items() if key != "few_shot"}
        yield replace(
            problem,
            messages=_messages(config, snapshot, household, language, kept, has_table=has_table),
            truth=truth | ({"few_shot": _decisions(kept)} if kept else {}),
            meta={**problem.meta, "few_shot_ids": [example["id"] for example in kept], "has_table": has_table},
        )


def _decisions(examples: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    return [[example["work"], example["consumption"]] for example in examples]


def _messages(
    config: EconomyTaskConfig,
    snapshot: Snapshot,
    household: int,
    language: str,
    examples: Sequence[dict[str, Any]],
    *,
    has_table: bool = True,
) -> tuple[Message, ...]:
    return prompts.messages(
        snapshot,
        household,
        language=language,
        form=config.prompt,
        envelope=config.envelope,
        examples=examples,
        has_table=has_table,
    )


def snapshot_of(problem: Problem) -> Snapshot:
    """The snapshot that a problem was made from: stored, or simulated again from its economy's seed. DataError where
    neither is possible."""
    truth = problem.truth
    if "snapshot" in truth:
        return Snapshot.from_json(truth["snapshot"])
    if truth.get("economy_seed") is None:
        raise DataError(f"{problem.id}: a snapshot is needed, and the row has neither one nor an economy seed")
    snapshot = contexts.moment_of(truth["economy_seed"], truth["month"]).snapshot
    if snapshot.id != truth["snapshot_id"]:
        raise DataError(f"{problem.id}: snapshot {truth['snapshot_id']} was made by another version; prepare it again")
    return snapshot


def facts_of_contexts() -> dict[str, Any]:
    """Seeds and thresholds behind all contexts, for the manifest of prepared data."""
    return {
        "economy_seeds": {
            split: [first, first + contexts.NUM_ECONOMIES[split] - 1] for split, first in contexts.FIRST_SEED.items()
        },
        "contexts_per_economy": contexts.PER_ECONOMY,
        "thresholds": {
            "growth_mean": contexts.GROWTH_MEAN,
            "growth_sd": contexts.GROWTH_SD,
            "unemployment_mean": contexts.UNEMPLOYMENT_MEAN,
            "unemployment_sd": contexts.UNEMPLOYMENT_SD,
            "recession_below": contexts.RECESSION_BELOW,
            "boom_above": contexts.BOOM_ABOVE,
            "wealth_terciles": list(contexts.WEALTH_TERCILES),
        },
    }
