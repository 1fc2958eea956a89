"""The self-test of a task: Countdown passes, and every broken scorer or oracle is caught."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from gradus import Problem, Score, load_task
from gradus.tasks import check
from gradus.tasks.check import check_task
from gradus.tasks.countdown import Countdown, CountdownConfig


@pytest.fixture(autouse=True)
def small_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The texts of a megabyte have their own tests."""
    monkeypatch.setattr(check, "MEGABYTE", 2_000)


@pytest.mark.parametrize("reward", ["default", "binary", "seed-docs", "seed-code"])
def test_countdown_passes(reward: str) -> None:
    report = check_task(load_task("countdown", reward=reward), num=40)
    assert [row for row in report.rows if not row.ok] == []
    assert report.ok
    assert report.num_problems == 40
    assert 0 < report.mean_ms < 10
    assert report.max_hostile_ms > 0
    assert len([row for row in report.rows if row.name.startswith("near miss")]) >= 8


def test_a_megabyte_takes_less_than_a_tenth_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "MEGABYTE", 1_000_000)
    assert check_task(load_task("countdown"), num=1).ok


class Broken(Countdown):
    """Countdown with one fault, named by the class."""

    def __init__(self) -> None:
        super().__init__(CountdownConfig())


class WrongOracle(Broken):
    def oracle(self, problem: Problem) -> str:
        return "<answer>1</answer>"


class NoOracle(Broken):
    def oracle(self, problem: Problem) -> str:
        raise ValueError("none")


class PaysEverything(Broken):
    def score(self, problem: Problem, text: str, **kwargs: object) -> Score:
        return replace(super().score(problem, text), reward=1.0, parts={"answer": 1.0})


class PaysEmpty(Broken):
    def score(self, problem: Problem, text: str, **kwargs: object) -> Score:
        score = super().score(problem, text)
        return score if text.strip() else replace(score, reward=0.5, parts={"answer": 0.5})


class PartsDoNotSum(Broken):
    def score(self, problem: Problem, text: str, **kwargs: object) -> Score:
        score = super().score(problem, text)
        return replace(score, parts={**score.parts, "bonus": 0.25})


class RaisesOnControls(Broken):
    def score(self, problem: Problem, text: str, **kwargs: object) -> Score:
        if isinstance(text, str):
            text.encode()
        return super().score(problem, text)


class TakesAnything(Broken):
    def score(self, problem: Problem, text: object, **kwargs: object) -> Score:
        return super().score(problem, str(text))


class Remembers(Broken):
    count = 0

    def score(self, problem: Problem, text: str, **kwargs: object) -> Score:
        Remembers.count += 1
        return replace(super().score(problem, text), why=str(Remembers.count))


class Leaks(Broken):
    def problems(self, split: str, limit: int | None = None) -> Iterable[Problem]:  # type: ignore[override]
        for problem in super().problems("train", limit):
            yield replace(problem, id=f"{split}/{problem.id}")


class Unordered(Broken):
    calls = 0

    def problems(self, split: str, limit: int | None = None) -> Iterable[Problem]:  # type: ignore[override]
        Unordered.calls += 1
        yield from load_task("countdown", seed=Unordered.calls).problems(split, limit)  # type: ignore[arg-type]


class SameIds(Broken):
    def problems(self, split: str, limit: int | None = None) -> Iterable[Problem]:  # type: ignore[override]
        for problem in super().problems(split, limit):  # type: ignore[arg-type]
            yield replace(problem, id="x")


class NotJson(Broken):
    def problems(self, split: str, limit: int | None = None) -> Iterable[Problem]:  # type: ignore[override]
        for problem in super().problems(split, limit):  # type: ignore[arg-type]
            yield replace(problem, truth={**problem.truth, "numbers": tuple(problem.truth["numbers"])})


class Empty(Broken):
    def problems(self, split: str, limit: int | None = None) -> Iterable[Problem]:  # type: ignore[override]
        return iter(())


class CasesFail(Broken):
    def check_cases(self) -> Iterable[tuple[str, str, str]]:
        return [("reads a box", "7", "7"), ("reads a marker", "8", "none")]


@pytest.mark.parametrize(
    ("broken", "row"),
    [
        (WrongOracle, "oracle is correct"),
        (NoOracle, "oracle has an answer"),
        (PaysEverything, "near miss: wrong value"),
        (PaysEmpty, "an empty text gets the lowest reward (0)"),
        (PartsDoNotSum, "reward terms sum to the reward"),
        (RaisesOnControls, "hostile texts are harmless"),
        (TakesAnything, "a completion of type NoneType"),
        (Remembers, "the same text gets the same score in any order"),
        (Leaks, "held-out problems seen in training"),
        (Unordered, "problems come in the same order twice"),
        (SameIds, "ids are unique"),
        (NotJson, "problems are JSON"),
        (Empty, "problems"),
        (CasesFail, "reads a marker"),
    ],
)
def test_every_fault_is_caught(broken: type[Broken], row: str) -> None:
    report = check_task(broken(), num=10)
    assert not report.ok
    assert row in [checked.name for checked in report.rows if not checked.ok]
