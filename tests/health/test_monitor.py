"""How alerts come and go: held, cleared, rested, silent at first; limits and rules by config; replay equals live."""

from __future__ import annotations

import itertools

import pytest

from gradus.config import Config
from gradus.health.history import Series
from gradus.health.monitor import Monitor, setting_of
from gradus.health.rule import Setting
from tests.health.curves import alerts, rows

SETTING = Setting(num_steps=400, kl_coef=0.01)
DUPLICATES = "rollout/duplicate_frac"


def steps_of(found: list, rule: str) -> list[int]:
    return [alert.step for alert in found if alert.rule == rule]


def test_a_condition_is_held_before_it_is_raised():
    found = alerts(100, {DUPLICATES: lambda t: 0.9 if t > 40 else 0.0})
    (alert,) = [one for one in found if one.rule == "H-13"]
    assert alert.since_step == 44 and alert.step == 46, "the mean of ten passes 0.3 at the fourth"


def test_nothing_is_raised_in_the_first_twenty_steps():
    assert steps_of(alerts(100, {DUPLICATES: lambda t: 0.9}), "H-13") == [21]


def test_it_is_raised_again_only_after_it_was_cleared_and_has_rested():
    sick = {DUPLICATES: lambda t: 0.9 if t % 40 > 20 else 0.0}
    found = steps_of(alerts(400, sick), "H-13")
    assert len(found) > 2 and all(later - earlier >= 50 for earlier, later in itertools.pairwise(found))
    assert steps_of(alerts(400, {DUPLICATES: lambda t: 0.9}), "H-13") == [21], "never cleared"


def test_rules_are_switched_off_and_limits_replaced_by_name():
    curves = {DUPLICATES: lambda t: 0.4}
    assert steps_of(Monitor(SETTING, {"H-13": "off"}).replay(rows(50, curves)), "H-13") == []
    assert steps_of(Monitor(SETTING, {"H-13": {"warn": 0.5}}).replay(rows(50, curves)), "H-13") == []
    with pytest.raises(ValueError, match=r"health\.rules\.H-99 is no rule; there are: H-01, H-02"):
        Monitor(SETTING, {"H-99": "off"})
    with pytest.raises(ValueError, match=r"health\.rules\.H-13\.wrn is no limit; H-13 has: warn, clear"):
        Monitor(SETTING, {"H-13": {"wrn": 0.5}})


def test_a_metric_that_never_comes_makes_a_rule_not_evaluable_and_not_quiet():
    monitor = Monitor(SETTING)
    monitor.replay([{"step": step, "loss": 0.1, "grad_norm": 0.1} for step in range(1, 30)])
    missing = [rule.id for rule in monitor.not_evaluable()]
    assert "H-01" in missing and "H-13" in missing and "H-03" not in missing


def test_row_by_row_and_at_once_give_the_same_alerts():
    made = rows(200, {DUPLICATES: lambda t: 0.4, "entropy": lambda t: 0.3 * 0.97**t})
    one, other = Monitor(SETTING), Monitor(SETTING)
    live = [alert for row in made for alert in one.feed(row)]
    assert live == other.replay(made) and live
    late = Monitor(SETTING)
    before = late.replay(made[:90])
    assert [*before, *late.replay(made[90:])] == live, "a resumed run goes on where it was"


def test_the_setting_comes_from_the_config_alone():
    config = Config(tasks={"countdown": {}}, num_steps=7, algorithm={"kl_coef": 0.1}, model={"dtype": "float32"})  # type: ignore[arg-type]
    setting = setting_of(config)
    assert (setting.num_steps, setting.kl_coef, setting.groups_per_step, setting.is_float32) == (7, 0.1, 16, True)


def test_disagreement_of_sampler_and_trainer_at_the_first_step_is_said_at_once():
    sick = Setting(num_steps=100, is_float32=True)
    found = Monitor(sick).replay(rows(2, {"sampling/mismatch_kl": lambda t: 0.005}))
    assert [(alert.rule, alert.step) for alert in found] == [("H-07", 1)]
    assert not Monitor(SETTING).replay(rows(2, {"sampling/mismatch_kl": lambda t: 0.005}))


def test_series_means_medians_and_averages_are_those_of_their_definitions():
    series, values = Series(), [float(3 * k % 7) for k in range(40)]
    average = None
    for step, value in enumerate(values):
        series.add(value, step)
        average = value if average is None else average + 2 / 11 * (value - average)
        assert series.ema(10) == pytest.approx(average)
    assert series.mean(5) == pytest.approx(sum(values[-5:]) / 5)
    assert series.mean(5, back=5) == pytest.approx(sum(values[-10:-5]) / 5)
    assert series.median(7, back=3) == sorted(values[-10:-3])[3]
    assert series.reference == (sorted(values[:20])[9] + sorted(values[:20])[10]) / 2
    change, error = series.rise(10)
    first, second = values[-20:-10], values[-10:]

    def variance(part: list[float]) -> float:
        mean = sum(part) / len(part)
        return sum((value - mean) ** 2 for value in part) / (len(part) - 1)

    assert change == pytest.approx((sum(second) - sum(first)) / 10)
    assert error == pytest.approx(((variance(first) + variance(second)) / 10) ** 0.5)
