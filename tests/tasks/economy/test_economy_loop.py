"""What the economy does with a policy: played at an evaluation, written with it, shown in the report."""

from __future__ import annotations

import json

import pytest

from gradus.config import Config
from gradus.evaluation.run import evaluate_problems, make_engine, task_tables
from gradus.rollout.engine import Request, Sampling
from gradus.tasks.base import load_task
from gradus.tasks.economy.closed_loop import Loop, simulate
from gradus.tasks.economy.decision import canonical
from gradus.tasks.economy.loop_table import loop_table, loops_of
from gradus.tasks.economy.policies import BufferStock, make_policy
from gradus.types import Completion, Problem

OPTIONS = {"prompt": "compact", "closed_loop_months": 24, "closed_loop_economies": 2, "closed_loop_share": 0.05}


def test_a_task_without_a_world_plays_nothing() -> None:
    assert load_task("economy").play(lambda prompts: []) is None
    assert load_task("countdown").play(lambda prompts: []) is None
    assert loops_of(None, None) == {}
    with pytest.raises(ValueError, match="closed_loop_months=12"):
        load_task("economy", closed_loop_months=12)


def test_households_of_the_policy_are_counted_apart() -> None:
    found = load_task("economy", **OPTIONS).play(lambda prompts: [canonical(0.0, 0.4)] * len(prompts))
    assert found is not None
    assert found["summary"]["own_unemployment_mean"]["mean"] == 1.0, "5 of 100 households that never work"
    assert 0.08 < found["summary"]["unemployment_mean"]["mean"] < 0.13
    assert found["counts"]["asked"] == 24 * 2 * 5 and "100.0%" in found["sentence"]
    again = Loop.from_json(json.loads(json.dumps(found)))
    assert again.to_json()["summary"] == found["summary"]
    with pytest.raises(ValueError, match="without counts"):
        Loop.from_json({name: value for name, value in found.items() if name != "counts"})


def test_everybody_deciding_is_the_economy() -> None:
    loop = simulate(BufferStock(), economy_ids=range(2), months=24).summary()
    for name in ("unemployment_mean", "utility_mean"):
        assert loop[f"own_{name}"] == pytest.approx(loop[name])


def test_the_band_of_chance_is_wider_for_short_runs() -> None:
    values = (0.25, 0.05) * 5
    loops = [
        Loop(months=months, metrics={"phillips_r": values}, yearly_unemployment=(), counts={}) for months in (120, 240)
    ]
    assert [loop.phillips_verdict().partition(",")[2][:19] for loop in loops] == [
        " within the band ±0",
        " outside the band ±",
    ]
    assert "±0.12" in loops[1].phillips_verdict(), "0.39 / sqrt(10) for 20 years"


def test_tables_pair_what_met_the_same_shocks() -> None:
    task = load_task("economy", **OPTIONS)
    lazy, busy = (task.play(lambda prompts, w=w: [canonical(w, 0.4)] * len(prompts)) for w in (0.5, 1.0))
    table = loop_table(loops_of(lazy, busy))
    assert table["title"] == "What the economy does with it"
    assert table["head"] == ["measure", "base", "trained", "trained − base"]
    assert table["reading"].startswith("Of trained: Deciding for 5 % of the households, it leaves ")
    shown = {row[0]: row[1:] for row in table["rows"]}
    assert " pp [" in shown["unemployment"][2] and not any("-" in cell for row in table["rows"] for cell in row[1:])
    assert all(len(row) == 4 and all(isinstance(cell, str) for cell in row) for row in table["rows"])
    own = next(row for row in table["rows"] if row[0] == "unemployment of its households")
    assert own[2].startswith("0.0 %") and own[3].startswith("−")
    longer = load_task("economy", **{**OPTIONS, "closed_loop_months": 36})
    other = longer.play(lambda prompts: ["?"] * len(prompts))
    table = loop_table(loops_of(lazy, other))
    assert len(table["head"]) == 3 and "Not paired" in table["reading"] and "not interpretable" in table["reading"]
    alone = loop_table(loops_of(None, busy))
    assert alone["head"] == ["measure", "trained"]


class Echo:
    """An engine that answers every prompt with the same decision, and counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, ...]] = []

    def generate(self, requests, sampling: Sampling, *, policy_step, poll=lambda: None):
        def answer(request: Request) -> tuple[Completion, ...]:
            self.asked.append(request.prompt_tokens)
            text = canonical(0.9, 0.4)
            one = Completion(text=text, tokens=(1,), logprobs=(0.0,), finish="stop", policy_step=policy_step)
            return (one,) * len(request.seeds)

        return [answer(request) for request in requests]


def test_an_evaluation_plays_and_asks_equal_prompts_once() -> None:
    config = Config(tasks={"economy": OPTIONS})
    task = load_task("economy", **OPTIONS)
    engine = Echo()
    problem = next(task.problems("train", 1))
    rows, summary = evaluate_problems(
        engine,
        lambda messages: tuple(messages[0].content.encode()),
        config,
        [problem],
        {"economy": task},
        split="train",
        model="m",
        policy_step=0,
        template="",
    )
    played = summary["played"]["economy"]
    assert played["counts"] == {"asked": 24 * 2 * 5}
    assert len(rows) == config.evaluation.samples_per_problem
    months = engine.asked[1:]
    assert len(months) <= 24 * 2 * 5, "households in the same situation are asked once a month"
    tables = task_tables({"economy": task}, rows, rows, base={}, trained=summary)
    assert "What the economy does with it" in [one["title"] for one in tables]
    assert dict(tables[0]["rows"])["What does the economy do with it?"].startswith("Deciding for 5 % of the households")
    silent = task_tables({"economy": task}, rows, rows, base={}, trained={})
    assert "closed_loop_months=120" in dict(silent[0]["rows"])["What does the economy do with it?"]


def test_a_scripted_engine_does_not_play() -> None:
    config = Config(tasks={"economy": OPTIONS}, engine={"name": "scripted"})
    task = load_task("economy", **OPTIONS)
    problem: Problem = next(task.problems("train", 1))
    engine = make_engine(config, None, {"economy": task})  # type: ignore[arg-type]
    _, summary = evaluate_problems(
        engine,
        lambda m: (1,),
        config,
        [problem],
        {"economy": task},
        split="train",
        model="m",
        policy_step=0,
        template="",
    )
    assert "played" not in summary


BANDS = {
    "composite": (("composite",), (0.100, 0.35, 0.034, 0.77, -0.91, 0.46)),
    "constant": (("constant", 1.0, 0.5), (0.055, 0.71, 0.0, None, None, 0.35)),
    "noisy": (("noisy", 0.96, 0.05, 0.45, 0.10), (0.062, 0.64, 0.046, 0.01, -0.99, 0.37)),
    "base-like": (("noisy", 0.83, 0.194, 0.694, 0.106), (0.096, 0.36, 0.190, 0.03, -1.00, 0.46)),
    "uniform": (("uniform",), (0.121, 0.28, 0.500, 0.00, -1.00, 0.54)),
}
METRICS = {"inflation_sd": 0.02, "years_in_5_percent_frac": 0.08, "unemployment_mean": 0.01, "phillips_r": 0.12,
           "okun_r_mechanical": 0.1, "gini_savings": 0.03}  # fmt: skip
"""What is compared, and how far the means of 60 economies may be from the reference of 200."""


@pytest.mark.parametrize("name", BANDS)
def test_rules_behave_as_in_the_reference_tables(name: str) -> None:
    """Means over economies of 20 years; undefined where nothing varies."""
    (rule, *numbers), expected = BANDS[name]
    found = simulate(make_policy(rule, *numbers), economy_ids=range(60), months=240).summary()
    for (metric, tolerance), reference in zip(METRICS.items(), expected, strict=True):
        mean = found[metric]["mean"]
        assert mean is None if reference is None else mean == pytest.approx(reference, abs=tolerance), metric
