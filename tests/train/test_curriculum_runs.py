"""The curriculum in the real loop: exact balance, the schedule as asked, what is drawn is trained, exact resume."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest

import gradus.train.loop as loop
from gradus.config import Config
from gradus.data.order import outlook, sampler_for, words
from gradus.data.problems import Problems, load_problems
from gradus.difficulty import BUCKETS
from gradus.exits import Code, Exit
from gradus.seeds import seed_of
from gradus.types import Problem
from gradus.verbs import run as verb
from tests.report.test_metric_names import documented, is_documented
from tests.train import runs
from tests.train.test_loop import stopped_after

DOMAINS = ["blocksworld", "delivery", "ferry"]
STAGES = [(0.3, 0.70, 0.25, 0.05), (0.7, 0.40, 0.40, 0.20), (1.0, 0.20, 0.40, 0.40)]
NUM_STEPS = 20


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return runs.tiny(tmp_path_factory.mktemp("tiny"))


def config_of(policy: Path, **changes) -> Config:
    """Planning in three domains with half of the plans right; no model decides anything here."""
    options = {"preset": "nano", "prompt": "brief", "domains": DOMAINS, "num_train": 25, "num_validation": 2}
    curriculum = {"problems_per_step": 6, "num_problems": None, "balance_domains": True, "stages": STAGES}
    tree = {
        "num_steps": NUM_STEPS,
        "tasks": {"planning": options},
        "curriculum": {**curriculum, "buckets": "rank", **changes.pop("curriculum", {})},
        "engine": {"name": "scripted"},
        "sampling": {"group_size": 2, "max_tokens": 64},
        "evaluation": {"num_problems": 2, "samples_per_problem": 1},
        "checkpoint": {"every_steps": 50},
    }
    return runs.config_of(policy, **{**tree, **changes})


def trained_ids(folder: Path, num_steps: int = NUM_STEPS) -> list[list[str]]:
    """Ids of the problems that each step has learned from, in order of the batch."""
    found = []
    for step in range(1, num_steps + 1):
        lines = (folder / f"run/rollouts/step_{step:06d}.jsonl").read_text().splitlines()
        found.append(list(dict.fromkeys(json.loads(line)["problem_id"] for line in lines)))
    return found


@pytest.fixture(scope="module")
def whole(policy, tmp_path_factory):
    """An unbroken run."""
    folder = tmp_path_factory.mktemp("whole")
    runs.run(config_of(policy), folder)
    return folder


def test_every_step_has_the_same_number_of_each_domain(whole):
    for row in runs.metrics(whole)[1:]:
        assert [row[f"batch/domain_count/{domain}"] for domain in DOMAINS] == [2, 2, 2]
        assert row["batch/domain_rate/ferry"] == pytest.approx(1 / 3)


def test_the_delivered_mix_changes_at_30_and_70_percent(whole):
    rows = runs.metrics(whole)[1:]
    for step, row in enumerate(rows):
        phase = 0 if step < 6 else 1 if step < 14 else 2
        asked = STAGES[phase][1:]
        assert [row[f"curriculum/requested/{bucket}"] for bucket in BUCKETS] == list(asked)
        assert row["curriculum/fraction"] == step / NUM_STEPS
    for first, last, (_, *asked) in zip((0, 6, 14), (6, 14, 20), STAGES, strict=True):
        for bucket, weight in zip(BUCKETS, asked, strict=True):
            delivered = sum(6 * row[f"curriculum/delivered/{bucket}"] for row in rows[first:last])
            # Each of three domains strays by less than one place at either end of a phase.
            assert abs(delivered - 6 * (last - first) * weight) < 6
    easy = [sum(row["curriculum/delivered/easy"] for row in part) / len(part) for part in (rows[:6], rows[14:])]
    assert easy[0] > 0.6 and easy[1] < 0.3
    log = (whole / "run/events.log").read_text()
    for line in ("Step 0/20: curriculum weights = {'easy': 0.7", "Step 6/20: curriculum weights = {'easy': 0.4",
                 "Step 14/20: curriculum weights = {'easy': 0.2", "Step 10/20"):  # fmt: skip
        assert line in log
    assert "curriculum ferry: 25 problems (easy 10, medium 10, hard 5)" in log


def test_what_is_drawn_is_what_is_trained(whole, policy):
    config = config_of(policy)
    sampler = sampler_for(config, load_problems(config).train)
    assert trained_ids(whole) == [[problem.id for problem in sampler.draw(step)] for step in range(NUM_STEPS)]


def test_rows_say_rewards_by_domain_and_bucket_and_verdicts(whole):
    rows = runs.metrics(whole)[1:]
    for row in rows:
        for name in ("reward", "success"):
            by_domain = [row[f"{name}/by_domain/{domain}"] for domain in DOMAINS]
            assert sum(by_domain) / 3 == pytest.approx(row["reward" if name == "reward" else "rollout/solve_rate"])
        assert row["verdict/valid"] == row["rollout/solve_rate"]
        assert row["verdict/code/ok"] == row["verdict/valid"] or "verdict/code/ok" not in row
        assert not any(isinstance(value, float) and value != value for value in row.values())
    assert any("success/ferry/hard" in row for row in rows) and any("success/ferry/hard" not in row for row in rows)
    known = documented()
    for row in rows:
        assert [key for key in row if not is_documented(key, known)] == []
    assert {f"curriculum/fallback/{domain}" for domain in DOMAINS} < set(rows[0])


ADAPTIVE = {"adaptive": "variance", "cooldown_steps": 2}


@pytest.mark.parametrize(
    ("changes", "cut"),
    [
        ({}, 1),
        ({"curriculum": {"adaptive": "gate"}}, 5),
        ({"curriculum": ADAPTIVE, "optimizer": {"updates_per_batch": 2}}, 3),
        ({"curriculum": {"balance_domains": "carry", "problems_per_step": 4, "draw": "random"}}, 2),
        ({"curriculum": ADAPTIVE, "algorithm": {"name": "dapo"}, "sampling": {"group_size": 2, "max_redraws": 2}}, 4),
    ],
    ids=["fixed", "gate", "variance, two updates", "carry", "variance, redrawn"],
)
def test_a_resumed_run_draws_and_learns_the_same(policy, tmp_path, monkeypatch, changes, cut):
    config = config_of(policy, num_steps=6, **changes)
    runs.run(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stopped_after(patch, cut)
        with pytest.raises(Exit) as stop:
            runs.run(config, tmp_path / "cut")
    assert stop.value.code == Code.INTERRUPTED
    runs.run(config, tmp_path / "cut")
    assert trained_ids(tmp_path / "cut", 6) == trained_ids(tmp_path / "whole", 6)
    assert runs.bits(tmp_path / "cut", 6) == runs.bits(tmp_path / "whole", 6)
    ours = ("curriculum/", "batch/", "reward/", "success/", "epoch")
    cut_rows, whole_rows = (
        [{key: value for key, value in row.items() if key.startswith(ours)} for row in runs.metrics(tmp_path / name)]
        for name in ("cut", "whole")
    )
    assert cut_rows == whole_rows


def test_redrawn_groups_keep_the_balance(policy, tmp_path):
    algorithm, sampling = {"name": "dapo"}, {"group_size": 2, "max_redraws": 30}
    runs.run(config_of(policy, num_steps=4, algorithm=algorithm, sampling=sampling), tmp_path)
    for row, ids in zip(runs.metrics(tmp_path)[1:], trained_ids(tmp_path, 4), strict=True):
        assert row["rollout/dropped_groups"] > 0 and row["rollout/missing_groups"] == 0
        assert Counter(name.split("/")[2] for name in ids) == dict.fromkeys(DOMAINS, 2)


def test_held_out_problems_have_the_buckets_of_training_and_the_report_shows_the_curriculum(whole):
    from gradus.report import write_report

    rows = (whole / "run/evaluations/validation/step_000000.jsonl").read_text().splitlines()
    assert {json.loads(row)["bucket"] for row in rows} <= set(BUCKETS)
    html = write_report(whole / "run").read_text()
    for title in ("Curriculum: mix asked for", "Curriculum: mix delivered", "Problems of each domain per step",
                  "Reward by domain", "Training success by difficulty"):  # fmt: skip
        assert title in html


def test_a_plain_run_draws_shuffled_epochs(policy, tmp_path):
    config = runs.config_of(policy, num_steps=5, engine={"name": "scripted"})
    runs.run(config, tmp_path)
    ids, order = [problem.id for problem in load_problems(config).train], []
    for epoch in range(2):
        indices = list(range(24))
        random.Random(seed_of("draw", 0, epoch)).shuffle(indices)
        order += [ids[index] for index in indices]
    assert trained_ids(tmp_path, 5) == [order[4 * step : 4 * step + 4] for step in range(5)]
    rows = runs.metrics(tmp_path)[1:]
    assert [row["epoch"] for row in rows] == [pytest.approx(4 * step / 24) for step in range(5)]
    assert not any(key.startswith("curriculum/requested") for key in rows[0])
    assert "curriculum" not in (tmp_path / "run/events.log").read_text()


def test_a_warm_up_is_balanced_too(policy, tmp_path, monkeypatch):
    import gradus.train.warmup as warmup

    seen, original = [], warmup.encode_example

    def encode(policy, task, problem):
        seen.append(problem.domain)
        return original(policy, task, problem)

    monkeypatch.setattr(warmup, "encode_example", encode)
    runs.run(config_of(policy, num_steps=2, sft={"batch_size": 3}), tmp_path, kind="sft")
    assert [sorted(seen[at : at + 3]) for at in (0, 3)] == [DOMAINS, DOMAINS]


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("train", {"curriculum": {"problems_per_step": 8}},
         r"curriculum\.problems_per_step=8 is not a multiple of the 3 domains \(blocksworld, delivery, ferry\); use 6 or 9, .*"
         r"--domains a,b,c.*balance_domains=carry"),
        ("train", {"curriculum": {"problems_per_step": 2}}, "use 3, "),
        ("train", {"curriculum": {"problems_per_step": 6}, "optimizer": {"updates_per_batch": 6}},
         r"times optimizer\.updates_per_batch=6; use 18"),
        ("sft", {"sft": {"batch_size": 8}}, r"sft\.batch_size=8 is not a multiple"),
        ("sft", {"curriculum": {"adaptive": "gate"}}, r"curriculum\.adaptive=gate needs rewards"),
        ("sft", {"curriculum": {"cooldown_steps": 3}}, r"curriculum\.cooldown_steps=3 needs rewards"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_a_run_exists(policy, tmp_path, kind, changes, message):
    with pytest.raises(ValueError, match=message):
        verb(kind, config_of(policy, **changes), runs_dir=tmp_path)
    assert not list(tmp_path.glob("run/checkpoints/*"))


def test_with_exchanged_data_the_order_begins_anew(policy, tmp_path):
    def config(num_train, num_steps):
        return config_of(policy, num_steps=num_steps, curriculum={"num_problems": num_train})

    runs.run(config(60, 3), tmp_path)
    exchanged = config(60, 6)
    problems = load_problems(exchanged)
    fewer = Problems(tasks=problems.tasks, train=problems.train[:45], fingerprint="another")
    with loop_start(exchanged, tmp_path, fewer) as start:
        loop.train(start, fewer)
    assert "their order begins anew at step 3" in (tmp_path / "run/events.log").read_text()
    sampler = sampler_for(exchanged, fewer.train)
    sampler.begin_at(3)
    later = [[problem.id for problem in sampler.draw(step)] for step in (3, 4, 5)]
    assert trained_ids(tmp_path, 6)[3:] == later


def loop_start(config, folder, problems):
    from gradus.recipe import from_config
    from gradus.train.start import open_run

    return open_run(
        from_config(config), kind="train", runs_dir=folder, data_fingerprint=problems.fingerprint,
        accept_data_change=True,
    )  # fmt: skip


def made(domain: str, scores: list[float]) -> list[Problem]:
    return [
        Problem(id=f"{domain}/{number}", task="t", messages=(), truth={}, domain=domain, difficulty=score)
        for number, score in enumerate(scores)
    ]


def test_the_outlook_names_empty_buckets_and_what_can_be_delivered(policy):
    problems = made("flat", [0.5] * 10) + made("spread", [number / 20 for number in range(20)])
    config = config_of(policy, curriculum={"buckets": "percentile"})
    sampler = sampler_for(config, problems)
    lines = outlook(sampler)
    assert "curriculum flat: 10 problems (easy 10, medium 0, hard 0), cut at 0.5 and 0.5" in lines, lines
    assert "curriculum: 6 problems per step, 4 passes over the data in 20 steps" in lines
    assert "curriculum flat: no medium problems; easy ones instead" in lines
    deliverable = "curriculum flat: easy/medium/hard 70%/25%/5% up to 30% of the run, deliverable 100%/0%/0%"
    assert deliverable in lines and "curriculum: easy/medium/hard 70%/25%/5% up to 30% of the run" in lines
    assert not any(line.startswith("curriculum spread: easy") for line in lines)
    assert words(sampler, 0) is None, "nothing has been drawn"
    easier = made("spread", [0.01])[0]
    assert sampler.strata.bucket_of(problems[-1]) == "hard" and sampler.strata.bucket_of(problems[0]) == "easy"
    assert sampler.strata.bucket_of(Problem(**{**fields_of(easier), "id": "spread/new"})) == "easy"
    assert sampler.strata.bucket_of(made("elsewhere", [0.5])[0]) is None


def fields_of(problem: Problem) -> dict:
    return {name: getattr(problem, name) for name in ("id", "task", "messages", "truth", "domain", "difficulty")}
