"""Health rules in a real run: alerts are recorded once, equal those of a replay, and stop a run where it asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gradus.exits import Code, Exit
from gradus.health.rule import Level, Rule
from gradus.jsonl import read_jsonl
from gradus.recipe import resolve
from gradus.report.directory import RunFacts
from gradus.rundir import RunDirectory
from gradus.tasks.countdown import Countdown
from tests.train.runs import config_of, metrics, run, tiny


def _long(history: Any, setting: Any, limits: Any) -> list[Level] | None:
    if not history.has("completions/mean_length"):
        return None
    value = history.series("completions/mean_length").last
    return [
        Level(severity="CRIT", is_on=value > limits["warn"], is_off=False, value=value, threshold=limits["warn"],
              hold=2, is_early=True)
    ]  # fmt: skip


RULE = Rule(
    id="countdown-length", watches=("completions/mean_length",), check=_long, text="answers of a random policy are long",
    causes=("it is random",), actions=("train it",), limits={"warn": 5.0},
)  # fmt: skip


@pytest.fixture
def with_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Countdown, "health_rules", lambda self: (RULE,))


def alerts(tmp_path: Path) -> list[dict[str, Any]]:
    return read_jsonl(tmp_path / "run" / "alerts.jsonl").rows


@pytest.mark.usefixtures("with_rule")
def test_a_critical_alert_stops_the_run_after_its_step_is_saved_and_it_can_go_on(tmp_path: Path):
    policy = tiny(tmp_path)
    with pytest.raises(Exit, match="health rule countdown-length") as caught:
        run(config_of(policy, health={"on_critical": "stop"}), tmp_path)
    assert caught.value.code == Code.HEALTH and "health.on_critical=alert" in caught.value.hint
    status = RunDirectory.open(tmp_path / "run").status()
    assert (status["status"], status["exit_code"], status["checkpoint_step"]) == ("failed", 8, 2)
    (alert,) = alerts(tmp_path)
    assert (alert["rule"], alert["severity"], alert["step"], alert["since_step"]) == ("countdown-length", "CRIT", 2, 1)
    assert run(config_of(policy, health={"on_critical": "alert"}), tmp_path)["step"] == 4
    assert alerts(tmp_path) == [alert], "it is not raised a second time when the run goes on"
    assert RunFacts.of(tmp_path / "run", replay_health=True).alerts == [alert], "a replay says the same"


def test_rules_are_watched_without_a_trace_in_the_numbers(tmp_path: Path):
    run(config_of(tiny(tmp_path)), tmp_path)
    assert len(metrics(tmp_path)) == 5
    facts = RunFacts.of(tmp_path / "run")
    assert (
        facts.has_alerts
        and "H-04 (kl)" in facts.not_evaluable
        and not any("H-03" in one for one in facts.not_evaluable)
    )


def test_a_wrong_rule_is_refused_with_the_config():
    with pytest.raises(ValueError, match=r"override: health\.rules\.H-99 is no rule; there are: H-01, H-02"):
        resolve([], ["tasks.countdown={}", "health.rules={H-99: off}"])
    with pytest.raises(ValueError, match=r"health\.rules\.H-13\.wrn is no limit; H-13 has: warn, clear"):
        resolve([], ["tasks.countdown={}", "health.rules={H-13: {wrn: 1}}"])
    rules = resolve([], ["tasks.countdown={}", "health.rules={H-13: off, H-09: {warn: 0.4}}"]).config.health.rules
    assert rules == {"H-13": "off", "H-09": {"warn": 0.4}}
