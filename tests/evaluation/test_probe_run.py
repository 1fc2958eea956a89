"""Running a probe with the scripted engine: forecast against truth, kept problems, recheck, warm-start set, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gradus.config import Config
from gradus.data.order import sampler_for
from gradus.data.problems import Problems, load_problems
from gradus.evaluation import probe_run
from gradus.evaluation.probe_run import Sampler, Wanted, check_scorer, chosen_problems, run_probe
from gradus.evaluation.signal import mixed_probability
from gradus.exits import Code, Exit
from gradus.rollout.engine import Request, Sampling
from gradus.rollout.rollout import Timing
from gradus.rollout.scripted import WRONG_ANSWER, ScriptedEngine
from gradus.seeds import seed_of
from gradus.tasks.base import Task, load_task
from gradus.types import Completion, Problem, Score

CONFIG = Config(
    tasks={"countdown": {"min_numbers": 2, "max_numbers": 3, "operators": "+-", "reward": "binary"}},
    curriculum={"num_problems": 120, "problems_per_step": 8},  # type: ignore[arg-type]
    sampling={"group_size": 8, "max_tokens": 64},  # type: ignore[arg-type]
    engine={"name": "scripted"},  # type: ignore[arg-type]
)


class DifficultyEngine(ScriptedEngine):
    """Succeeds on a problem with a probability of its own, a hash of its id in steps of ``1 / levels``."""

    levels = 4

    def _completion(self, request: Request, seed: int, policy_step: int) -> Completion:
        self._error_rate = seed_of("difficulty", request.problem.id) % (self.levels + 1) / self.levels
        return super()._completion(request, seed, policy_step)


def sampler(problems: Problems, config: Config = CONFIG, *, error_rate: float | None = None) -> Sampler:
    tasks = dict(problems.tasks)
    engine = (
        DifficultyEngine(tasks, error_rate=0.0) if error_rate is None else ScriptedEngine(tasks, error_rate=error_rate)
    )
    return Sampler(
        engine=engine, prompt_tokens=lambda messages: (1, 2), tasks=tasks, config=config, poll=lambda: None,
        timing=Timing(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def problems() -> Problems:
    return load_problems(CONFIG)


def test_problems_are_drawn_at_random_by_the_seed_and_never_twice(problems: Problems):
    chosen = chosen_problems(CONFIG, problems.train, 50)
    other = CONFIG.model_copy(update={"seed": 1})
    assert chosen == chosen_problems(CONFIG, problems.train, 50) != chosen_problems(other, problems.train, 50)
    assert len({problem.id for problem in chosen}) == 50
    assert {p.id for p in chosen_problems(CONFIG, problems.train, 1000)} == {p.id for p in problems.train}


@pytest.mark.parametrize("changes", [{}, {"adaptive": "variance"}, {"cooldown_steps": 3}])
def test_the_problems_are_those_that_training_draws_first(problems: Problems, changes: dict[str, Any]):
    """Whatever results do to the order later: none are known yet."""
    sampler = sampler_for(CONFIG, problems.train)
    first = [problem.id for step in range(5) for problem in sampler.draw(step)]
    config = CONFIG.model_copy(update={"curriculum": CONFIG.curriculum.model_copy(update=changes)})
    assert [problem.id for problem in chosen_problems(config, problems.train, 40)] == first
    short = config.model_copy(update={"num_steps": 2})
    chosen = [problem.id for problem in chosen_problems(short, problems.train, 40)]
    assert chosen[:16] == first[:16] and len(set(chosen)) == 40, "what the run will not draw fills the rest"


def test_with_stages_the_problems_are_those_that_training_draws_first(problems: Problems):
    stages = ((0.5, 1.0, 0.0, 0.0), (1.0, 0.0, 0.0, 1.0))
    staged = CONFIG.model_copy(update={"curriculum": CONFIG.curriculum.model_copy(update={"stages": stages})})
    sampler = sampler_for(staged, problems.train)
    first = {problem.id for step in range(2) for problem in sampler.draw(step)}
    chosen = chosen_problems(staged, problems.train, len(first))
    assert {problem.id for problem in chosen} == first
    assert {sampler.buckets[problem.id] for problem in chosen} == {"easy"}


def test_where_a_batch_serves_several_steps_the_stages_are_those_of_the_steps_that_sample():
    """With eight steps and two from each batch; the second stage begins after step 4."""
    stages = ((0.5, 1.0, 0.0, 0.0), (1.0, 0.0, 0.0, 1.0))
    config = Config(
        tasks={"countdown": {"min_numbers": 2, "max_numbers": 4}},
        num_steps=8,
        curriculum={"num_problems": 300, "problems_per_step": 8, "stages": stages, "quantiles": (0.3, 0.6)},  # type: ignore[arg-type]
        optimizer={"updates_per_batch": 2},  # type: ignore[arg-type]
    )
    train = load_problems(config).train
    sampler = sampler_for(config, train)
    batches = [sampler.draw(step) for step in (0, 2, 4, 6)]
    drawn = [problem.id for batch in batches for problem in batch]
    assert [problem.id for problem in chosen_problems(config, train, len(drawn))] == drawn
    assert [{sampler.buckets[problem.id] for problem in batch} for batch in batches] == [{"easy"}] * 2 + [{"hard"}] * 2


@pytest.mark.parametrize(
    ("error_rate", "num_seeds"), [(0.1, 6), (0.9, 6), pytest.param(0.1, 100, marks=pytest.mark.slow),
                                  pytest.param(0.8, 100, marks=pytest.mark.slow)]
)  # fmt: skip
def test_accuracy_and_mixed_share_lie_in_their_intervals(problems: Problems, error_rate: float, num_seeds: int):
    """In at least 90 of 100 fixed seeds (the nominal coverage is 95 % each)."""
    truth = 1 - error_rate
    hits = []
    for seed in range(num_seeds):
        config = CONFIG.model_copy(update={"seed": seed})
        wanted = Wanted(num_problems=40 if num_seeds < 10 else 100, num_samples=16)
        facts = run_probe(sampler(problems, config, error_rate=error_rate), problems, wanted, settings={}).facts
        mixed = float(mixed_probability(truth, 8))
        pairs = ((facts["accuracy"], truth), (facts["mixed"], mixed))
        hits.append([one["low"] <= value <= one["high"] for one, value in pairs])
    for inside in zip(*hits, strict=True):
        assert sum(inside) >= 0.9 * num_seeds - 0.5


def test_kept_problems_are_those_inside_and_the_manifest_is_true(problems: Problems, tmp_path: Path):
    wanted = Wanted(num_problems=100, num_samples=16, keep=(0.1, 0.9), out=tmp_path / "kept.jsonl", recheck=16)
    probe = run_probe(sampler(problems), problems, wanted, settings={"model": "scripted"})
    rates = {str(row["problem_id"]): 0.0 for row in probe.rows}
    for row in probe.rows:
        rates[str(row["problem_id"])] += row["correct"] / 16
    inside = sorted(name for name, rate in rates.items() if 0.1 <= rate <= 0.9)
    kept = [json.loads(line) for line in (tmp_path / "kept.jsonl").read_text().splitlines()]
    manifest = json.loads((tmp_path / "kept.manifest.json").read_text())
    assert sorted(row["id"] for row in kept) == inside and 20 < len(inside) < 80
    assert all(row["probe"] == {"k": 16, "correct": round(16 * rates[row["id"]])} for row in kept)
    assert manifest["num_problems"] == len(inside) == 100 - manifest["left_out"]
    assert sum(manifest["by_domain"].values()) == len(inside)
    assert probe.facts["kept"] == {key: manifest[key] for key in probe.facts["kept"]}


def test_kept_problems_are_what_a_run_then_trains_on(problems: Problems, tmp_path: Path):
    wanted = Wanted(num_problems=100, num_samples=16, keep=(0.1, 0.9), out=tmp_path / "kept.jsonl")
    run_probe(sampler(problems), problems, wanted, settings={})
    kept = {json.loads(line)["id"] for line in (tmp_path / "kept.jsonl").read_text().splitlines()}
    curriculum = CONFIG.curriculum.model_copy(update={"problems_file": str(tmp_path / "kept.jsonl")})
    loaded = load_problems(CONFIG.model_copy(update={"curriculum": curriculum}))
    assert {problem.id for problem in loaded.train} == kept and loaded.fingerprint != problems.fingerprint
    few = curriculum.model_copy(update={"num_problems": 10})
    with pytest.raises(ValueError, match="are not among the training problems, the first countdown/train/"):
        load_problems(CONFIG.model_copy(update={"curriculum": few}))
    (tmp_path / "empty.jsonl").write_text("")
    empty = curriculum.model_copy(update={"problems_file": str(tmp_path / "empty.jsonl")})
    with pytest.raises(ValueError, match="names no problem; give a file made by gradus probe --keep"):
        load_problems(CONFIG.model_copy(update={"curriculum": empty}))


def test_fresh_samples_take_back_what_the_choice_flattered(tmp_path: Path, problems: Problems):
    """Kept at 75 % and more: the samples that chose them say more than fresh ones do (regression to the mean)."""
    wanted = Wanted(num_problems=120, num_samples=8, keep=(0.75, 1.0), out=tmp_path / "kept.jsonl", recheck=64)
    kept = run_probe(sampler(problems), problems, wanted, settings={}).facts["kept"]
    assert kept["recheck"]["accuracy"]["value"] < kept["selected"]["accuracy"]["value"] - 0.01
    assert kept["recheck"]["samples_per_problem"] == 64


def test_a_domain_left_empty_is_an_error_and_nothing_is_written(problems: Problems, tmp_path: Path):
    wanted = Wanted(num_problems=60, num_samples=16, keep=(0.1, 0.9), out=tmp_path / "kept.jsonl")
    with pytest.raises(Exit, match=r"no problem of n2, n3 has a solve rate in \[0\.1, 0\.9\]") as caught:
        run_probe(sampler(problems, error_rate=1.0), problems, wanted, settings={})
    assert caught.value.code == Code.NOTHING_USABLE and not list(tmp_path.iterdir())


def test_the_warm_start_set_holds_right_answers_to_rarely_solved_problems(problems: Problems, tmp_path: Path):
    wanted = Wanted(num_problems=100, num_samples=16, sft_out=tmp_path / "warm.jsonl")
    probe = run_probe(sampler(problems), problems, wanted, settings={})
    rows = [json.loads(line) for line in (tmp_path / "warm.jsonl").read_text().splitlines()]
    task, by_id = problems.tasks["countdown"], {problem.id: problem for problem in problems.train}
    assert rows and all(task.score(by_id[row["problem_id"]], row["completion"]).correct for row in rows)
    assert probe.facts["sft"]["rows"] == len(rows)
    with pytest.raises(Exit, match="was not written"):
        none = replace(wanted, sft_out=tmp_path / "none.jsonl")
        run_probe(sampler(problems, error_rate=0.0), problems, none, settings={})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keep": (0.1, 0.9)}, "belong together"),
        ({"keep": (0.9, 0.1), "out": Path("x")}, "is no range of solve rates"),
        ({"recheck": 16}, "samples the kept problems anew"),
        ({"recheck": 4, "keep": (0.1, 0.9), "out": Path("x")}, "--recheck 4 is below sampling.group_size=8"),
        ({"sft_out": Path(__file__)}, "exists already"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_anything_is_sampled(
    problems: Problems, changes: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(probe_run, "roll_out", lambda *_, **__: pytest.fail("it sampled"))
    with pytest.raises(ValueError, match=message):
        run_probe(sampler(problems), problems, Wanted(num_problems=5, num_samples=16, **changes), settings={})


class Generous(Task):
    """Pays for nothing, and not for a right answer."""

    name = "generous"

    def __init__(self, task: Task) -> None:
        self._task = task

    reward_range = (0.0, 1.0)
    oracle = property(lambda self: self._task.oracle)  # type: ignore[assignment]

    def problems(self, split: Any, limit: int | None = None) -> Any:
        return self._task.problems(split, limit)

    def problem(self, **raw: Any) -> Problem:
        return self._task.problem(**raw)

    def score(self, problem: Problem, text: str, *, finish: Any = "stop") -> Score:
        return Score(reward=0.2 if not text else 0.9, correct=bool(text), parts={}, why="")


def test_a_scorer_that_pays_for_nothing_or_not_for_the_right_answer_is_found():
    task = load_task("countdown", max_numbers=3)
    found = list(task.problems("train", 3))
    assert check_scorer({"countdown": task}, found).faulty == ()
    faulty = check_scorer({"countdown": Generous(task)}, found).faulty
    assert len(faulty) == 2 and found[0].id in faulty[0]
    unsolvable = task.problem(numbers=[2, 2, 2], target=99)
    assert check_scorer({"countdown": task}, [unsolvable]).gold_wrong == (unsolvable.id,)


def test_cost_is_that_of_the_steps_and_of_what_is_drawn_again(problems: Problems):
    wanted = Wanted(num_problems=40, num_samples=16, price_per_hour=3.0)
    one = run_probe(sampler(problems), problems, wanted, settings={}, time_update=lambda groups: len(groups) * 1.0)
    cost = one.facts["cost"]
    assert cost["update_seconds"] == 8.0, "eight groups of eight make a step"
    seconds = cost["num_steps"] * (8.0 + cost["generation_seconds"] + cost["scoring_seconds"])
    assert cost["hours"] == pytest.approx(seconds / 3600) and cost["money"] == pytest.approx(3 * seconds / 3600)
    dropping = CONFIG.model_copy(update={"algorithm": CONFIG.algorithm.model_copy(update={"keep_flat_groups": False})})
    again = run_probe(sampler(problems, dropping), problems, wanted, settings={}).facts
    assert again["cost"]["drawn_again_factor"] == pytest.approx(1 / again["mixed"]["value"])
    assert again["cost"]["update_seconds"] is None and not again["cost"]["is_update_included"]


def test_the_scripted_engine_answers_wrongly_in_the_words_the_tests_expect():
    engine = ScriptedEngine({}, error_rate=1.0)
    request = Request(problem=Problem(id="a", task="t", messages=(), truth={}, domain="d", difficulty=0), prompt_tokens=(),
                      seeds=(1,))  # fmt: skip
    ((completion,),) = engine.generate([request], Sampling(temperature=1.0, max_tokens=4), policy_step=0)
    assert completion.text == WRONG_ANSWER
