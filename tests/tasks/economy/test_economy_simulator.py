"""The simulation against its equations in plain Python, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gradus.tasks.economy.errors import SnapshotError
from gradus.tasks.economy.policies import Constant, Noisy, make_policy, play
from gradus.tasks.economy.simulator import (
    Economy,
    EconomyConfig,
    Shocks,
    ShockSeries,
    Snapshot,
    expected_wages,
    run,
    tax_due,
)
from tests.tasks.economy.economy_naive import naive_run, naive_tax

N = 30


def close(a: object, b: object) -> bool:
    a, b = np.asarray(a, float), np.asarray(b, float)
    return a.shape == b.shape and bool((np.abs(a - b) <= 1e-9 * (1 + np.abs(b))).all())


def recorded(seed: int, months: int, low: int, high: int):
    """Actions on the grid, and draws, of one economy: low and high bound the consumption index."""
    rng = np.random.default_rng(seed)
    wages = np.sort(rng.uniform(2, 800, N))
    work = rng.uniform(0.5, 1, (months, N))
    share = 0.02 * rng.integers(low, high + 1, (months, N))
    order = np.array([rng.permutation(N) for _ in range(months)])
    return wages, work, share, rng.random((months, N)), order, rng.random((months, N)), rng.random(months)


@pytest.mark.parametrize("public", [False, True])
@pytest.mark.parametrize(("low", "high"), [(0, 10), (30, 50), (0, 50)], ids=["surplus", "shortage", "mixed"])
def test_trajectories_equal_the_equations(low: int, high: int, public: bool) -> None:
    wages, work, share, work_u, order, wage_u, price_u = recorded(low + high, 48, low, high)
    config = EconomyConfig.public(n=N) if public else EconomyConfig(n=N)
    shocks = ShockSeries(work_u=work_u, order=order, wage_u=wage_u, price_u=price_u)
    trajectory = run(Economy(config, wages), work, share, shocks)
    expected = naive_run(wages.tolist(), work.tolist(), share.tolist(), work_u.tolist(), order.tolist(),
                         wage_u.tolist(), price_u.tolist())  # fmt: skip
    for name in ("savings", "wage", "consumption", "tax", "income"):
        assert close(getattr(trajectory, name)[:, 0], expected[name]), name
    for name in ("price", "goods", "rate", "credit"):
        assert close(getattr(trajectory, name)[:, 0], expected[name]), name
    for name, series in expected["annual"].items():
        assert close(trajectory.annual[name][:, 0], series), name
    if low == 30:
        assert trajectory.rationed.any()


def test_households_together_in_a_batch_live_as_alone() -> None:
    batch = Economy(EconomyConfig(), np.repeat(expected_wages(100)[None], 3, axis=0))
    policy, rng = Constant(0.8, 0.7), np.random.default_rng(0)
    shocks = ShockSeries.draw(5, [4, 9, 2], 24, 100)
    for month in shocks:
        play(batch, policy, month, rng)
    alone, own = Economy(EconomyConfig(), expected_wages(100)), ShockSeries.draw(5, [9], 24, 100)
    for month in own:
        play(alone, policy, month, rng)
    assert np.array_equal(batch.state.savings[1], alone.state.savings[0])


def test_draws_do_not_depend_on_batch_or_length() -> None:
    long, short = ShockSeries.draw(1, [3, 8], 24, 20), ShockSeries.draw(1, [8], 12, 20)
    assert np.array_equal(long.work_u[:12, 1], short.work_u[:, 0])
    assert np.array_equal(long.order[:12, 1], short.order[:, 0])
    later = ShockSeries.draw(1, [8], 12, 20, skip=12)
    assert np.array_equal(later.wage_u[:, 0], long.wage_u[12:, 1])
    raw = np.random.Generator(np.random.PCG64(np.random.SeedSequence([1, 8]))).random((12, 61))
    assert np.array_equal(short.order[3, 0], np.argsort(raw[3, 20:40], kind="stable"))
    assert np.array_equal(short.price_u[:, 0], raw[:, 60])


def test_given_order_equals_drawn_order() -> None:
    drawn = ShockSeries.draw(2, [0, 1], 36, 100)
    given = ShockSeries(work_u=drawn.work_u, order=drawn.order, wage_u=drawn.wage_u, price_u=drawn.price_u)
    ends = []
    for shocks in (drawn, given):
        economy = Economy(EconomyConfig(), np.repeat(expected_wages(100)[None], 2, axis=0))
        for month in shocks:
            play(economy, Constant(0.5, 0.9), month, np.random.default_rng(0))
        ends.append(economy.state.savings)
    assert np.array_equal(*ends)


def test_one_series_serves_every_economy() -> None:
    shocks = ShockSeries.draw(2, [0], 12, 100)
    economy = Economy(EconomyConfig(), np.repeat(expected_wages(100)[None], 2, axis=0))
    for month in shocks:
        play(economy, Constant(0.5, 0.95), month, np.random.default_rng(0))
    assert np.array_equal(economy.state.savings[0], economy.state.savings[1])


def test_money_and_goods_are_conserved() -> None:
    economy = Economy(EconomyConfig(), expected_wages(100))
    rng = np.random.default_rng(0)
    for t, month in enumerate(ShockSeries.draw(3, [0], 11, 100), start=1):
        before = economy.state
        result = play(economy, Noisy(0.6, 0.3, 0.7, 0.3), month, rng)
        assert result.tax.sum() == pytest.approx(100 * result.credit.sum())
        gained = result.income.sum() - result.consumption.sum()
        assert economy.state.savings.sum() - before.savings.sum() == pytest.approx(gained)
        made = 168 * result.worked.sum()
        assert economy.state.goods[0] - before.goods[0] == pytest.approx(made - result.quantity.sum(), abs=1e-6)
        assert (economy.state.goods >= 0).all() and (economy.state.savings >= -1e-6).all()
        assert economy.state.month == t


@pytest.mark.parametrize(
    "income, due", [(0, 0), (500, 50), (5000, 754.875), (20000, 4932.791667), (200000, 71082.291667)]
)
def test_tax_check_values(income: float, due: float) -> None:
    assert float(tax_due(income)) == pytest.approx(due, abs=1e-6)


def test_tax_equals_brackets() -> None:
    incomes = np.concatenate([np.linspace(0, 60_000, 997), np.array([9700, 39475, 84200, 160725, 204100, 510300]) / 12])
    assert close(tax_due(incomes), [naive_tax(x) for x in incomes])


def test_wages_are_those_of_the_paper() -> None:
    low, tenth, median, ninth, top = np.quantile(expected_wages(100), [0, 0.1, 0.5, 0.9, 1])
    assert low == pytest.approx(2.28, rel=0.02) and tenth == pytest.approx(14.8, rel=0.05)
    assert median == pytest.approx(88, rel=0.03) and ninth == pytest.approx(327, rel=0.05)
    assert top == pytest.approx(788, rel=0.02)
    assert expected_wages(100).mean() == pytest.approx(135, rel=0.02)


def test_shown_flows_are_actual_or_stale() -> None:
    ends = {}
    for config in (EconomyConfig(), EconomyConfig.public()):
        economy = Economy(config, expected_wages(100))
        shocks = ShockSeries.draw(3, [0], 2, 100)
        economy.step(np.ones((1, 100)), np.full((1, 100), 0.5), shocks[0])
        result = economy.step(np.zeros((1, 100)), np.zeros((1, 100)), shocks[1])
        assert not result.income.any() and not result.consumption.any()
        ends[config.stale_view] = economy.snapshot()
    assert not ends[False].shown_income.any() and not ends[False].shown_consumption.any()
    assert ends[True].shown_income.all() and ends[True].shown_consumption.all()
    assert np.array_equal(ends[True].savings, ends[False].savings)


def test_hours_make_output_proportional() -> None:
    economy = Economy(EconomyConfig(participation="hours"), expected_wages(100))
    result = economy.step(np.full((1, 100), 0.5), np.zeros((1, 100)), ShockSeries.draw(3, [0], 1, 100)[0])
    assert result.supply[0] == pytest.approx(168 * 50)
    assert economy.history("unemployment")[0, 0] == pytest.approx(0.5)


# ------------------------------------------------------------------ snapshots


def grown(months: int = 20) -> Economy:
    economy = Economy(EconomyConfig(), np.repeat(expected_wages(100)[None], 2, axis=0), people_seeds=[7, 8])
    rng = np.random.default_rng(1)
    for month in ShockSeries.draw(4, [0, 1], months, 100):
        play(economy, Noisy(0.8, 0.2, 0.7, 0.2), month, rng)
    return economy


@pytest.mark.parametrize("months", [0, 1, 2, 20])
def test_a_restored_economy_goes_on_bit_for_bit(months: int, tmp_path: Path) -> None:
    economy = Economy(EconomyConfig(), np.repeat(expected_wages(100)[None], 2, axis=0)) if not months else grown(months)
    for ending in (".npz", ".json"):
        for b, snapshot in enumerate(economy.snapshots()):
            snapshot.save(tmp_path / f"{b}{ending}")
    read = [[Snapshot.load(tmp_path / f"{b}{ending}") for b in range(2)] for ending in (".npz", ".json")]
    assert [one.id for one in read[0]] == [one.id for one in read[1]] == [one.id for one in economy.snapshots()]
    later = ShockSeries.draw(6, [0, 1], 30, 100)
    copies = [Economy.from_snapshots(read[0]), Economy.from_snapshots(read[1], people=False)]
    for month in later:
        for one in (economy, *copies):
            play(one, Constant(0.9, 0.6), month, np.random.default_rng(0))
    for copy in copies:
        assert np.array_equal(copy.state.savings, economy.state.savings)
        assert np.array_equal(copy.state.rate, economy.state.rate)
    assert copies[0].snapshot(1).id == economy.snapshot(1).id
    assert all(
        np.array_equal(a, b) for a, b in zip(copies[0].annual().values(), economy.annual().values(), strict=True)
    )


def test_a_snapshot_is_repeated_in_rows() -> None:
    snapshots = grown().snapshots()
    economy = Economy.from_snapshots(snapshots, repeat=3)
    assert np.array_equal(economy.state.savings[4], snapshots[1].savings)
    assert np.array_equal(economy.state.savings[2], snapshots[0].savings)


def test_a_damaged_snapshot_is_refused() -> None:
    good = json.loads(json.dumps(grown().snapshot().to_json()))
    Snapshot.from_json(good)
    with pytest.raises(SnapshotError, match="schema 'other'; this version reads"):
        Snapshot.from_json({**good, "schema": "other"})
    with pytest.raises(SnapshotError, match="no 'wage'"):
        Snapshot.from_json({**good, "arrays": {k: v for k, v in good["arrays"].items() if k != "wage"}})
    with pytest.raises(SnapshotError, match="hash"):
        Snapshot.from_json({**good, "price": good["price"] * 2})
    with pytest.raises(SnapshotError, match="not finite"):
        Snapshot.from_json({**good, "arrays": {**good["arrays"], "wage": [float("nan")] * 100}})
    for data in (b"", b"PK\x03\x04", b"\x80\x04N."):
        with pytest.raises(SnapshotError, match="no snapshot"):
            Snapshot.from_bytes(data)


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", header=np.array([{"a": 1}], dtype=object))
    with pytest.raises(SnapshotError):
        Snapshot.load(tmp_path / "evil.npz")


# ------------------------------------------------------------------ bad input


def refused(match: str, work=None, share=None, **shocks) -> None:
    economy = grown(3)
    before, month = economy.snapshot(0).id, ShockSeries.draw(9, [0, 1], 1, 100)[0]
    parts = {"work_u": month.work_u, "order": month.order, "wage_u": month.wage_u, "price_u": month.price_u, **shocks}
    fine = np.full((2, 100), 0.5)
    with pytest.raises(ValueError, match=match):
        economy.step(fine if work is None else work, fine if share is None else share, Shocks(**parts))
    assert economy.snapshot(0).id == before


def changed(value: float, b: int = 1, i: int = 7) -> np.ndarray:
    array = np.full((2, 100), 0.5)
    array[b, i] = value
    return array


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan"), float("inf")])
def test_actions_outside_the_range_are_refused(value: float) -> None:
    refused("work=.* of household 7 in economy 1", work=changed(value))
    refused("consumption=.* of household 7 in economy 1", share=changed(value))


def test_shapes_that_do_not_fit_are_refused() -> None:
    refused(r"work has shape \(2, 99\); needed is \(2, 100\)", work=np.zeros((2, 99)))
    refused("shape", work_u=np.zeros((3, 100)), order=np.tile(np.arange(100), (3, 1)), wage_u=np.zeros((3, 100)))
    refused("shapes", wage_u=np.zeros((2, 99)))
    refused("price_u", price_u=np.zeros(3))


def test_wrong_draws_are_refused() -> None:
    refused("work_u.* is outside", work_u=changed(1.0))
    refused("wage_u.* is outside", wage_u=changed(-0.5))
    refused("price_u.* is outside", price_u=[0.5, float("nan")])
    order = np.tile(np.arange(100), (2, 1))
    order[1, 3] = 4
    refused("order in row 1 is no permutation", order=order)
    refused("order.* is no permutation", order=order + 1)
    refused("whole numbers", order=order * 1.0)


@pytest.mark.parametrize(
    ("match", "fields"),
    [
        ("wages.* above 0", {"wages": [[0.0, 1.0]]}),
        ("wages.* above 0", {"wages": [[float("nan"), 1.0]]}),
        ("savings.* 0 or more", {"savings": [[-1.0, 1.0]]}),
        ("goods.* 0 or more", {"goods": [-1.0]}),
        ("price.* above 0", {"price": [0.0]}),
        (r"shape \(1, 3\)", {"wages": [[1.0, 2.0, 3.0]]}),
    ],
)
def test_wrong_starts_are_refused(match: str, fields: dict) -> None:
    with pytest.raises(ValueError, match=match):
        Economy(EconomyConfig(n=2), **{"wages": [[1.0, 2.0]], **fields})


@pytest.mark.parametrize("fields", [{"n": 0}, {"alpha_price": float("inf")}, {"hours": 0.0}, {"participation": "x"}])
def test_wrong_parameters_are_refused(fields: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        EconomyConfig(**fields)


def test_an_unknown_policy_is_named() -> None:
    with pytest.raises(ValueError, match="'greedy' is unknown; there are: buffer_stock"):
        make_policy("greedy")
