"""Rewards: the stored table against its definition, the seed formula by hand, and what cannot be scored."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gradus.tasks.base import load_task
from gradus.tasks.economy import counterfactual
from gradus.tasks.economy.contexts import contexts
from gradus.tasks.economy.errors import DataError
from gradus.tasks.economy.memory import BEST_CONSTANT
from gradus.tasks.economy.policies import BufferStock
from gradus.tasks.economy.reward import seed_reward
from gradus.tasks.economy.simulator import Economy, Shocks, tax_due
from gradus.tasks.economy.values import GRID_POINTS, Values
from tests.tasks.economy.economy_naive import naive_seed_reward


@pytest.fixture(scope="module")
def made():
    found = list(contexts("train", 4))
    return [(c, counterfactual.value_table(c.snapshot, c.household, "train")) for c in found]


def slow_value(context, share: float, worked: bool, shocks) -> float:
    """Definition of a table entry, one shock set at a time through the public interface."""
    i, total = context.household, 0.0
    for k in range(shocks.num_economies):
        economy = Economy.from_snapshots([context.snapshot])
        value = 0.0
        for month in range(12):
            drawn = shocks[month]
            work, shares = BufferStock().decide(economy.state)
            work_u = drawn.work_u[k : k + 1].copy()
            if month == 0:
                work_u[0, i], work[0, i], shares[0, i] = 0.5, float(worked), share
            result = economy.step(
                work,
                shares,
                Shocks(work_u=work_u, order=drawn.order[k], wage_u=drawn.wage_u[k], price_u=drawn.price_u[k]),
            )
            value += 0.99**month * math.log(1 + result.quantity[0, i] / 16.8)
        state = economy.state
        z = 168 * state.wage[0, i]
        y = (0.95 * (z - float(tax_due(z))) + result.credit[0]) / state.price[0]
        a = state.savings[0, i] / state.price[0]
        gain = math.log(1 + (y + a / 24) / 16.8) - math.log(1 + y / 16.8)
        total += value + 0.99**12 * sum(0.99**m * gain for m in range(24))
    return total / shocks.num_economies


def test_the_table_is_its_definition(made) -> None:
    context, values = made[0]
    shocks = counterfactual.shock_sets("train", context.snapshot, context.household)
    for point, worked in ((0, False), (20, True), (33, False), (50, True)):
        expected = slow_value(context, point / 50, worked, shocks)
        assert values.table[GRID_POINTS * worked + point] == pytest.approx(expected, rel=1e-6)


def test_rewards_are_scaled_from_random_to_best(made) -> None:
    for _, values in made:
        grid = [values.j(w / 50, c / 50) for w in range(51) for c in range(51)]
        assert values.j_random == pytest.approx(math.fsum(grid) / len(grid))
        assert values.j_oracle == max(grid)
        assert values.reward(values.oracle_work, values.oracle_consumption) == 1.0
        rewards = [values.reward_of(j) for j in grid]
        assert min(rewards) > -0.8 and max(rewards) == 1.0
        slope = (values.reward_of(values.j_random) - values.reward_of(values.j_random - 1e-6)) / 1e-6
        assert slope * values.gap == pytest.approx(1, rel=1e-3)


def test_live_rewards_agree_with_the_table(made) -> None:
    for context, values in made:
        answers = [(0.9, 0.42), (0.3, 0.9), (1.0, 0.43), (0.55, 0.311)]
        live = counterfactual.live_rewards(context.snapshot, context.household, answers, values, split="train")
        for (work, share), reward in zip(answers, live, strict=True):
            tolerance = 1e-5 if abs(share * 50 - round(share * 50)) < 1e-9 else 0.05
            assert reward == pytest.approx(values.reward(work, share), abs=tolerance)


def test_a_table_is_refused_that_cannot_be_used(made) -> None:
    row = made[0][1].to_row()
    assert Values.from_row(row, "x") == made[0][1]
    with pytest.raises(DataError, match="row-7: the row has no value_table"):
        Values.from_row({}, "row-7")
    with pytest.raises(DataError, match="row-7: value_table must have 102 finite"):
        Values.from_row({**row, "value_table": [float("nan"), *row["value_table"][1:]]}, "row-7")
    with pytest.raises(DataError, match=r"row-7: .* 0\.01 apart"):
        Values.from_row({**row, "j_oracle": row["j_random"] + 0.01}, "row-7")
    with pytest.raises(ValueError, match="household=100"):
        counterfactual.branch_values(
            made[0][0].snapshot, 100, [0.5], counterfactual.shock_sets("train", made[0][0].snapshot, 0)
        )


# ------------------------------------------------------------------ the task's score


@pytest.fixture(scope="module")
def problem():
    return next(load_task("economy").problems("train", 1))


def test_failures_cost_one_and_valid_answers_less(problem) -> None:
    task = load_task("economy")
    for text in ("", "work 1", '{"work": 2, "consumption": 0}'):
        score = task.score(problem, text)
        assert (score.reward, score.correct, score.parts["format"]) == (-1.0, False, -1.0)
        assert "value" not in score.parts
    values = Values.from_row(problem.truth, problem.id)
    worst = min((values.reward(w / 50, c / 50), w, c) for w in range(51) for c in range(51))
    score = task.score(problem, f'{{"work": {worst[1] / 50}, "consumption": {worst[2] / 50}}}')
    assert -0.8 < score.reward == worst[0] and score.why == "ok"
    assert task.score(problem, '{"work": 1, "consumption": 0.5}').parts["info/strict"] == 1.0


def test_options_of_the_reward(problem) -> None:
    off = '{"work": 0.953, "consumption": 0.41}'
    plain = load_task("economy").score(problem, off).reward
    assert load_task("economy", grid_penalty=0.02).score(problem, off).reward == pytest.approx(plain - 0.02)
    ladder = load_task("economy", format_ladder=True)
    assert ladder.score(problem, f"```{off}```").reward == -0.9
    assert ladder.score(problem, "nothing").reward == -1.0
    live = load_task("economy", mode="live").score(problem, '{"work": 0.9, "consumption": 0.42}')
    assert live.reward == pytest.approx(
        load_task("economy").score(problem, '{"work": 0.9, "consumption": 0.42}').reward, abs=1e-5
    )
    block = load_task("economy", envelope="answer")
    assert block.score(problem, f"<think>x</think><answer>{off}</answer>").reward == plain
    assert block.score(problem, off).why == "no_object"
    assert block.score(problem, f"<answer>{off}").why == "truncated"


def test_other_sources_are_refused(problem) -> None:
    other = type(problem)(
        **{**{f: getattr(problem, f) for f in problem.__slots__}, "truth": {**problem.truth, "data_source": "x"}}
    )
    with pytest.raises(DataError, match="'x'"):
        load_task("economy").score(other, "{}")


def test_correct_is_the_default_rewards(problem) -> None:
    task = load_task("economy", reward="seed")
    oracle = load_task("economy").oracle(problem)
    seed_problem = next(task.problems("train", 1))
    score = task.score(seed_problem, oracle)
    assert score.correct and score.reward < 1
    assert score.reward == pytest.approx(seed_reward(oracle, seed_problem.truth["extra_info"]), abs=1e-12)
    assert best_constant_is_mediocre(task, seed_problem)


def best_constant_is_mediocre(task, problem) -> bool:
    work, consumption = BEST_CONSTANT
    return task.score(problem, f'{{"work": {work}, "consumption": {consumption}}}').parts["info/value"] <= 1.0


# ------------------------------------------------------------------ the seed reward

ANSWER = '{"work": 0.8, "consumption": 0.6}'


def test_seed_reward_by_hand() -> None:
    assert seed_reward("garbage") == -1.0
    assert seed_reward(ANSWER, data_source="other") == 0.0
    assert seed_reward("garbage", data_source="other") == 0.0
    # no facts: income 0, so the buffer ratio is 1, target 0.25 + 0.5 * (1 - 1/2) = 0.5; cons = 1 - 2 * 0.1 = 0.8
    assert seed_reward(ANSWER) == pytest.approx(0.30 * 0.8, abs=1e-12)
    # employed: target_w = 0.95 - 0.08 = 0.87, band 0.72..1.02, half 0.15: 1 - 2 * 0.07 / 0.15
    micro = 0.3 * (1 - 2 * 0.07 / 0.15) + 0.7 * 0.8
    assert seed_reward(ANSWER, {"gt_employed": 1}) == pytest.approx(0.30 * micro, abs=1e-12)
    # unemployment 0.11 is the middle of its band: guard = 1
    assert seed_reward(ANSWER, {"unemployment_rate": 0.11}) == pytest.approx(0.65 + 0.30 * 0.8, abs=1e-12)
    # outside: (0.02 - 0.01) / 0.18; at the edge itself -1
    assert seed_reward(ANSWER, {"unemployment_rate": 0.01}) == pytest.approx(-0.65 * (0.01 / 0.18) + 0.24, abs=1e-12)
    assert seed_reward(ANSWER, {"unemployment_rate": 0.02}) == pytest.approx(-0.65 + 0.24, abs=1e-12)
    # annual: Okun exactly right, Phillips off by 0.125, mean unemployment in the middle of 0.04..0.15
    facts = {"r_okun_12m": -0.894, "r_phil_12m": -0.551, "u_mean_12m": 0.095}
    annual = 0.4 * 1 + 0.4 * 0.5 + 0.2 * 1
    assert seed_reward(ANSWER, facts) == pytest.approx(0.45 * annual + 0.20 * 0.8, abs=1e-12)
    # extremes of consumption cost 0.05 * 0.5
    assert seed_reward('{"work": 0, "consumption": 0.0}') == pytest.approx(0.30 * 0.0 - 0.025, abs=1e-12)


SPREADS = {
    "income": 9000.0, "lump_sum": 500.0, "tax_paid": 900.0, "dpi": 9000.0, "wealth": 60_000.0, "buffer_ratio": 6.0,
    "gt_employed": 1.0, "unemployment_rate": 0.2, "u_mean_12m": 0.15, "gdp_growth": 8.0,
    "wage_inflation": 5.0, "price_inflation": 8.0,
    "r_okun_12m": 0.7, "r_phil_12m": 0.7,
}  # fmt: skip
"""How widely each fact is drawn, on both sides of 0."""


def test_seed_reward_is_the_documented_formula() -> None:
    rng = np.random.default_rng(1)
    for _ in range(3000):
        work, consumption = (float(x) for x in np.round(rng.random(2), 2))
        facts = {name: float(rng.normal(0, spread)) for name, spread in SPREADS.items() if rng.random() < 0.7}
        facts |= {"gt_employed": float(rng.integers(2))} if "gt_employed" in facts else {}
        answer = f'{{"work": {work}, "consumption": {consumption}}}'
        assert seed_reward(answer, facts) == pytest.approx(naive_seed_reward(work, consumption, facts), abs=1e-12)


def test_seed_reward_reads_as_the_original_did() -> None:
    good = seed_reward(ANSWER)
    for text in (f"```json\n{ANSWER}\n```", f"So: {ANSWER} because", '{"work": 0.1, "work": 0.8, "consumption": 0.6}',
                 '{"work": "0.8", "consumption": 0.6, "x": 1}'):  # fmt: skip
        assert seed_reward(text) == good
    for text in ('{"work": NaN, "consumption": 0.6}', '{"work": 0.8}', "[1]", '{"work": 1.2, "consumption": 0}',
                 '{"work": null, "consumption": 0}', "{" * 5000, '{"a":' * 100_000, None):  # fmt: skip
        assert seed_reward(text) == -1.0
    assert seed_reward('{"work": true, "consumption": 0.6}') == good


def test_seed_reward_takes_facts_in_any_state() -> None:
    plain = seed_reward(ANSWER)
    for facts in (None, {}, "{}", "not json", "[1]", {"unemployment_rate": None}, {"gdp_growth": "x"},
                  {"gdp_growth": float("nan")}, {"price_inflation": float("inf")}, {"unknown": 3}):  # fmt: skip
        assert seed_reward(ANSWER, facts) == plain
    facts = {"income": 5000.0, "lump_sum": 300, "tax_paid": 700, "wealth": 9200.0}
    buffer = (9200 + 4600) / (4600 + 1e-8)
    target = 0.25 + 0.5 * (1 - 1 / (1 + buffer))
    assert seed_reward(ANSWER, facts) == pytest.approx(0.30 * (1 - 2 * abs(0.6 - target)), abs=1e-12)


def test_the_seed_reward_is_bounded() -> None:
    rng = np.random.default_rng(0)
    names = ("income", "wealth", "unemployment_rate", "gdp_growth", "wage_inflation", "price_inflation", "r_okun_12m")
    for _ in range(200):
        facts = {name: float(rng.normal(0, 10)) for name in names}
        assert -1 <= seed_reward(f'{{"work": {rng.random()}, "consumption": {rng.random()}}}', facts) <= 1
