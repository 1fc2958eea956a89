"""Every rule of run health on a curve that must raise it and on curves that must not; healthy runs stay silent."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from gradus.health.monitor import Monitor
from gradus.health.rule import Setting
from gradus.health.rules import RULES
from gradus.redaction import redact
from tests.health.curves import Curve, alerts, rows


def ramp(low: float, high: float, num: int = 200) -> Curve:
    """From ``low`` to ``high`` in ``num`` steps, then level."""
    return lambda t: low + (high - low) * min(1.0, t / num)


def at(*steps: int, value: float, other: float) -> Curve:
    return lambda t: value if t in steps else other


def noisy(level: float, spread: float, seed: int = 1) -> Curve:
    return lambda t: level * math.exp(spread * random.Random(f"{seed} {t}").gauss(0, 1))


def after(step: int, curve: Curve, before: float) -> Curve:
    return lambda t: curve(t - step) if t > step else before


EVALUATION = "evaluation/validation/solve_rate"


def evaluated(values: Mapping[int, float], width: float = 0.06) -> dict[str, Curve]:
    """Held-out rates at some steps with intervals of ``width``."""
    return {
        EVALUATION: lambda t: values.get(t, ""),
        f"{EVALUATION}_low": lambda t: values[t] - width / 2 if t in values else "",
        f"{EVALUATION}_high": lambda t: values[t] + width / 2 if t in values else "",
    }


SOLVE = "rollout/solve_rate"
SHORT: dict[str, Curve] = {"entropy": lambda t: 0.1, "completions/mean_length": lambda t: 20.0}
"""Answers of two nats, which repeat by right."""
SICK: list[tuple[str, str, dict[str, Curve]]] = [
    ("H-01", "WARN", {"entropy": after(20, lambda t: 0.3 * math.exp(-t / 15), 0.3)}),
    ("H-01", "CRIT", {"entropy": after(20, lambda t: 0.3 * math.exp(-t / 15), 0.3)}),
    ("H-02", "WARN", {"entropy": lambda t: 0.3 * math.exp(t / 30)}),
    ("H-03", "WARN", {"grad_norm": lambda t: {150: 0.8, 152: 0.9}.get(t, 0.1)}),
    ("H-03", "WARN", {"grad_norm": lambda t: 0.01 * 1.05**t}),
    ("H-03", "WARN", {"grad_norm": lambda t: 1.5}),
    ("H-03", "CRIT", {"grad_norm": lambda t: "NaN" if t == 5 else 0.1}),
    ("H-04", "WARN", {"kl": lambda t: 0.005 * math.exp(t / 8)}),
    ("H-05", "WARN", {"kl": ramp(0, 0.12), SOLVE: noisy(0.3, 0.05)}),
    ("H-06", "INFO", {"kl": lambda t: 0.0}),
    ("H-07", "WARN", {"sampling/mismatch_kl": lambda t: 0.02}),
    ("H-07", "CRIT", {"sampling/mismatch_kl": lambda t: 0.2}),
    ("H-07", "CRIT", {"sampling/ess_frac": after(50, lambda t: 0.2, 0.9)}),
    ("H-08", "WARN", {"frac_reward_zero_std": lambda t: 0.8}),
    ("H-08", "CRIT", {"frac_reward_zero_std": after(30, lambda t: 1.0, 0.3)}),
    ("H-09", "WARN", {"completions/clipped_ratio": lambda t: 0.3}),
    ("H-09", "CRIT", {"completions/clipped_ratio": lambda t: 0.9}),
    ("H-10", "WARN", {"completions/mean_length": ramp(100, 250), SOLVE: noisy(0.3, 0.05)}),
    ("H-10", "WARN", {"completions/mean_length": ramp(200, 50)}),
    ("H-11", "WARN", {"rewards/format/mean": ramp(0.3, 0.95), SOLVE: ramp(0.3, 0.1)}),
    (
        "H-11",
        "WARN",
        {
            "frac_reward_zero_std": lambda t: 0.7,
            "rollout/all_right_frac": lambda t: 0.0,
            "rollout/all_wrong_frac": lambda t: 0.4,
        },
    ),
    ("H-11", "INFO", {"rewards/format/mean": ramp(0.3, 0.95), SOLVE: noisy(0.3, 0.05)}),
    ("H-12", "WARN", {"reward": ramp(0.2, 0.6), **evaluated({50: 0.5, 100: 0.47, 150: 0.43})}),
    ("H-13", "WARN", {"rollout/duplicate_frac": lambda t: 0.4}),
    ("H-13", "WARN", {"rollout/duplicate_frac": after(60, lambda t: 0.8, 0.4), **SHORT}),
    ("H-14", "WARN", {"scoring/error_frac": lambda t: 0.1}),
    ("H-14", "CRIT", {"scoring/error_frac": lambda t: 0.3}),
    ("H-15", "INFO", evaluated({50: 0.4, 100: 0.41, 150: 0.4})),
    ("H-16", "WARN", {"output_std/share": lambda t: 0.2 * math.exp(-t / 67)}),
    ("H-17", "WARN", {"rollout/floor_reward_frac": lambda t: 0.5}),
    ("H-17", "WARN", {"rollout/parse_frac": ramp(0.9, 0.5)}),
    ("H-18", "INFO", {"curriculum/fallback_frac": lambda t: 0.4}),
    ("H-19", "WARN", {"train/skipped": at(7, value=1.0, other=0.0)}),
    ("H-19", "CRIT", {"replay": lambda t: float(t >= 60)}),
    ("H-20", "WARN", {"time/step_seconds": after(100, lambda t: 60.0, 10.0)}),
    ("H-21", "WARN", {SOLVE: after(40, ramp(0.5, 0.1, 20), 0.5)}),
]
SILENT: list[tuple[str, dict[str, Curve]]] = [
    ("H-01", {"entropy": lambda t: ramp(0.2, 0.3)(t) * noisy(1, 0.08)(t)}),  # type: ignore[operator]
    ("H-01", {"entropy": ramp(0.3, 0.123)}),
    ("H-01", {"entropy": at(*range(100, 105), value=0.05, other=0.2)}),
    ("H-02", {"entropy": ramp(0.2, 0.3)}),
    ("H-03", {"grad_norm": noisy(0.1, 0.35)}),
    ("H-03", {"grad_norm": at(150, value=0.8, other=0.1)}),
    ("H-04", {"kl": ramp(0, 0.06)}),
    ("H-04", {"kl": lambda t: 0.06 * math.sqrt(t / 200)}),
    ("H-05", {"kl": ramp(0, 0.12), SOLVE: lambda t: ramp(0.3, 0.6)(t) * noisy(1, 0.05)(t)}),  # type: ignore[operator]
    ("H-06", {"kl": lambda t: 1e-6}),
    ("H-07", {"sampling/mismatch_kl": noisy(0.003, 0.4)}),
    ("H-08", {"frac_reward_zero_std": noisy(0.43, 0.2)}),  # p = 0.1, n = 8
    ("H-09", {"completions/clipped_ratio": noisy(0.08, 0.4)}),
    ("H-10", {"completions/mean_length": ramp(100, 250), SOLVE: ramp(0.3, 0.6)}),
    ("H-10", {"completions/mean_length": noisy(100, 0.2)}),
    ("H-11", {"rewards/format/mean": ramp(0.3, 0.95), SOLVE: ramp(0.3, 0.6)}),
    (
        "H-11",
        {
            "frac_reward_zero_std": lambda t: 0.9,
            "rollout/all_right_frac": lambda t: 0.5,
            "rollout/all_wrong_frac": lambda t: 0.4,
        },
    ),
    ("H-12", {"reward": ramp(0.2, 0.6), **evaluated({50: 0.5, 100: 0.45, 150: 0.46})}),
    ("H-13", {"rollout/duplicate_frac": lambda t: 0.1}),
    ("H-13", {"rollout/duplicate_frac": noisy(0.55, 0.1), **SHORT}),
    ("H-13", {"rollout/duplicate_frac": ramp(0.1, 0.6), SOLVE: ramp(0.5, 0.9), **SHORT}),
    ("H-14", {"scoring/error_frac": lambda t: 0.01}),
    ("H-15", evaluated({50: 0.4, 100: 0.5, 150: 0.6})),
    ("H-16", {"output_std/share": noisy(0.2, 0.2)}),
    ("H-17", {"rollout/floor_reward_frac": lambda t: 0.05}),
    ("H-17", {"rollout/floor_reward_frac": lambda t: 0.6, SOLVE: lambda t: 0.4}),  # every wrong answer is at the floor
    ("H-18", {"curriculum/fallback_frac": lambda t: 0.0}),
    ("H-19", {"train/skipped": lambda t: 0.0}),
    ("H-20", {"time/step_seconds": noisy(10, 0.4)}),
    ("H-21", {SOLVE: noisy(0.3, 0.3)}),
    ("H-21", {SOLVE: ramp(0.5, 0.35)}),
    ("H-21", {SOLVE: after(40, ramp(0.5, 0.1, 20), 0.5), "curriculum/requested/easy": ramp(0.7, 0.2)}),
]


def _label(value: object) -> str:
    return value if isinstance(value, str) else ",".join(value) if isinstance(value, dict) else ""


@pytest.mark.parametrize(("rule", "severity", "curves"), SICK, ids=_label)
def test_a_sick_curve_is_raised(rule: str, severity: str, curves: dict[str, Curve]):
    found = [alert for alert in alerts(200, curves) if (alert.rule, alert.severity) == (rule, severity)]
    assert found, "not raised"
    alert = found[0]
    assert alert.since_step <= alert.step and alert.text and alert.causes and alert.actions
    assert rule in alert.line() and alert.to_json()["link"] == f"docs/health.md#{rule.lower()}"


@pytest.mark.parametrize(("rule", "curves"), SILENT, ids=_label)
def test_a_healthy_curve_is_not(rule: str, curves: dict[str, Curve]):
    assert [alert.line() for alert in alerts(200, curves) if alert.rule == rule] == []


def test_every_rule_has_a_sick_and_a_healthy_curve_and_a_place_in_the_documents():
    ids = [rule.id for rule in RULES]
    assert ids == [f"H-{number:02}" for number in range(1, 22)]
    assert {rule for rule, _, _ in SICK} == {rule for rule, _ in SILENT} == set(ids)


@pytest.mark.parametrize("onset", [50, 120])
def test_what_is_made_sick_on_purpose_is_caught_within_twenty_steps(onset: int):
    """Entropy collapse, a rate a hundred times too high, a format that pays alone."""
    collapse = alerts(200, {"entropy": after(onset, lambda t: 0.3 * math.exp(-t / 6), 0.3)})
    assert min(alert.step for alert in collapse) <= onset + 20
    paid_for_form = {
        "rewards/format/mean": after(onset, ramp(0.5, 0.95, 15), 0.5),
        SOLVE: after(onset, ramp(0.4, 0.1, 15), 0.4),
    }
    hacked = [alert for alert in alerts(200, paid_for_form) if alert.rule == "H-11"]
    assert hacked[0].severity == "WARN" and hacked[0].step <= onset + 20
    blown = alerts(200, {"grad_norm": after(onset, lambda t: 5.0, 0.1), "kl": after(onset, lambda t: 0.5 * t, 0.002)})
    assert min(alert.step for alert in blown) <= onset + 20


def family(name: str, seed: int, num_steps: int = 200) -> tuple[dict[str, Curve], Setting]:
    """Healthy runs of seven kinds: `evaluation.md` section on run health; groups of 2 to 16, 4 to 32 of them."""
    generator = random.Random(f"{name} {seed}")
    groups, size = generator.choice([(4, 16), (8, 8), (16, 8), (32, 4)])
    start, end = {"fast": (0.2, 0.9), "slow": (0.3, 0.36), "easy": (0.8, 0.9)}.get(name, (0.3, 0.6))
    rates = [start + (end - start) * t / num_steps for t in range(num_steps + 1)]
    draws = [[sum(generator.random() < p for _ in range(size)) for _ in range(groups)] for p in rates]
    solved = [sum(draw) / (groups * size) for draw in draws]
    flat = [sum(c in (0, size) for c in draw) / groups for draw in draws]
    target = {"rising": (0.2, 0.3), "falling": (0.3, 0.123)}.get(name, (0.3, 0.3))
    noise = [[math.exp(spread * generator.gauss(0, 1)) for _ in range(num_steps + 1)] for spread in (0.08, 0.35, 0.2)]
    spikes = set(generator.sample(range(30, num_steps, 12), 3)) if name == "spikes" else set()
    curves: dict[str, Curve] = {
        "entropy": lambda t: ramp(*target, num_steps)(t) * noise[0][t],  # type: ignore[operator]
        "grad_norm": lambda t: 0.1 * noise[1][t] * (8 if t in spikes else 1),
        "kl": lambda t: 0.03 * math.sqrt(t / num_steps) * noise[2][t],
        "rollout/solve_rate": lambda t: solved[t],
        "reward": lambda t: solved[t],
        "rewards/answer/mean": lambda t: solved[t],
        "frac_reward_zero_std": lambda t: flat[t],
        "completions/mean_length": lambda t: 100 * noise[2][t],
        "rollout/floor_reward_frac": lambda t: 1 - solved[t],
    }
    return curves, Setting(num_steps=num_steps, groups_per_step=groups, kl_coef=0.01)


FAMILIES = ["rising", "falling", "steady", "fast", "slow", "easy", "spikes"]


def num_warnings(name: str, seeds: range) -> float:
    """Warnings and worse per 200 healthy steps."""
    count = 0
    for seed in seeds:
        curves, setting = family(name, seed)
        found = Monitor(setting).replay(rows(200, curves, seed=seed))
        count += sum(alert.severity != "INFO" for alert in found)
    return count / len(seeds)


@pytest.mark.parametrize("name", FAMILIES)
def test_healthy_runs_are_left_alone(name: str):
    assert num_warnings(name, range(4)) < 1


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_healthy_runs_are_left_alone_by_many_seeds(name: str):
    assert num_warnings(name, range(200)) < 1


def test_the_documents_describe_every_rule_and_its_limits():
    page = (Path(__file__).parents[2] / "docs" / "health.md").read_text(encoding="utf-8")
    for rule in RULES:
        section = page.partition(f"\n## {rule.id}\n")[2].partition("\n## ")[0]
        assert section and all(f"`{name}` {limit:.3g}" in section for name, limit in rule.limits.items())
        assert all(f"`{metric}`" in section for metric in rule.watches)


def test_what_a_rule_says_is_not_taken_for_a_secret():
    for rule, _, curves in SICK:
        for alert in alerts(200, curves):
            assert redact(alert.line()) == alert.line(), rule


def test_groups_that_are_all_flat_are_critical_from_the_tenth_step_on():
    setting = Setting(num_steps=100, groups_per_step=4)
    found = Monitor(setting).replay(rows(30, {"frac_reward_zero_std": lambda t: 1.0}))
    assert [(alert.rule, alert.severity, alert.step) for alert in found] == [("H-08", "CRIT", 10)]
