"""What wrong input does to the economy, one test per kind: nothing wrong is taken silently, and every message names it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from gradus.cli import main as cli
from gradus.data.prepare import Budget, prepare
from gradus.exits import Code, Exit
from gradus.recipe import resolve
from gradus.tasks.base import load_task
from gradus.tasks.economy import analysis, counterfactual, prompts
from gradus.tasks.economy.closed_loop import TextPolicy
from gradus.tasks.economy.contexts import contexts
from gradus.tasks.economy.decision import REASONS
from gradus.tasks.economy.errors import DataError, LeakageError, SnapshotError
from gradus.tasks.economy.memory import Memory, candidate
from gradus.tasks.economy.policies import make_policy
from gradus.tasks.economy.reward import seed_reward
from gradus.tasks.economy.simulator import Economy, EconomyConfig, Shocks, ShockSeries, expected_wages
from gradus.tasks.economy.values import Values
from gradus.verbs import run


@pytest.fixture(scope="module")
def problem():
    return next(load_task("economy").problems("train", 1))


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Rows of two training contexts as `gradus prepare` writes them, and its manifest."""
    folder = tmp_path_factory.mktemp("made")
    prepare("economy", {}, folder, splits=("train",), limit=2)
    return [json.loads(line) for line in (folder / "train.jsonl").open()], (folder / "manifest.json").read_text()


def folder_of(rows, path, *, split: str = "train", memory=None):
    """A task that reads these rows from a folder."""
    content, manifest = rows
    (path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    (path / "manifest.json").write_text(manifest)
    if memory is not None:
        (path / "memory.jsonl").write_text("".join(json.dumps(row) + "\n" for row in memory))
    return load_task("economy", source=str(path))


@pytest.mark.parametrize(
    "text", ["", "yes", "{", '{"work": 1}', '{"work": NaN, "consumption": 1}', "[" * 20_000, "\x00"]
)
def test_an_answer_that_fails(problem, text: str) -> None:
    score = load_task("economy").score(problem, text)
    assert score.reward == -1.0 and not score.correct and score.why in REASONS and score.why != "ok"


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("work", 1.5, "work=1.5 of household 1 in economy 0"),
        ("work", -0.1, "work=-0.1"),
        ("consumption", float("nan"), "consumption=nan of household 1 in economy 0"),
        ("consumption", None, "consumption has shape"),
    ],
)
def test_actions_that_cannot_be(name: str, value: float | None, match: str) -> None:
    economy = Economy(EconomyConfig(n=3), expected_wages(3))
    actions = {"work": np.full((1, 3), 0.5), "consumption": np.full((1, 3), 0.5)}
    if value is None:
        actions[name] = np.full((1, 4), 0.5)
    else:
        actions[name][0, 1] = value
    before = economy.snapshot().id
    with pytest.raises(ValueError, match=match):
        economy.step(**actions, shocks=ShockSeries.draw(0, [0], 1, 3)[0])
    assert economy.snapshot().id == before, "the state is as it was"


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"order": [0, 0, 2]}, "order"),
        ({"order": [0, 1, 3]}, "order"),
        ({"work_u": [0.1, 1.0, 0.2]}, "work_u"),
        ({"wage_u": [0.1, -0.5, 0.2]}, "wage_u"),
        ({"price_u": float("nan")}, "price_u"),
    ],
)
def test_draws_that_cannot_be(changes: dict, match: str) -> None:
    good = {"work_u": [0.1, 0.5, 0.9], "order": [2, 0, 1], "wage_u": [0.1, 0.5, 0.9], "price_u": 0.5}
    Shocks(**good)
    with pytest.raises(ValueError, match=match):
        Shocks(**{**good, **changes})


def test_starts_that_cannot_be() -> None:
    for fields, match in (
        ({"wages": [0.0, 5.0]}, r"wages\[0, 0\]=0.0"),
        ({"wages": [5.0, 5.0], "savings": [[-1.0, 0.0]]}, "savings"),
        ({"wages": [5.0, 5.0], "goods": [-1.0]}, "goods"),
    ):
        with pytest.raises(ValueError, match=match):
            Economy(EconomyConfig(n=2), **fields)
    for change in ({"n": 0}, {"hours": float("inf")}, {"alpha_wage": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(change))):
            EconomyConfig(**change)
    economy = Economy(EconomyConfig(n=2), [5.0, 5.0])
    with pytest.raises(ValueError, match=r"\(1, 3\).*\(1, 2\)"):
        economy.step([[0.5, 0.5]], [[0.5, 0.5]], ShockSeries.draw(0, [0], 1, 3)[0])


def test_snapshots_that_cannot_be(problem) -> None:
    economy = Economy(EconomyConfig(n=2), [5.0, 5.0])
    good = json.loads(json.dumps(economy.snapshot().to_json()))
    for change, match in (({"schema": "x"}, "schema 'x'"), ({"price": 7.0}, "hash")):
        with pytest.raises(SnapshotError, match=match):
            load_task("economy").problem(snapshot={**good, **change}, household=0)
    short = {**good, "arrays": {**good["arrays"], "income": [1.0]}}
    with pytest.raises(SnapshotError, match="income has 1 entries for 2 households"):
        load_task("economy").problem(snapshot=short, household=0)
    del good["arrays"]["wage"]
    with pytest.raises(SnapshotError, match="wage"):
        load_task("economy").problem(snapshot=good, household=0)


def test_rows_that_cannot_be_scored(rows, tmp_path) -> None:
    content, manifest = rows
    for change, match in (
        ({"value_table": None}, "economy/train/00001: the row has no value_table"),
        ({"value_table": [0.0] * 101}, "economy/train/00001: value_table must have 102 finite"),
        ({"j_oracle": content[1]["truth"]["j_random"] + 0.01}, r"economy/train/00001: .* 0\.01 apart"),
        ({"data_source": "econ_agent"}, "economy/train/00001: data_source='econ_agent'"),
    ):
        broken = [content[0], {**content[1], "truth": {**content[1]["truth"], **change}}]
        with pytest.raises(DataError, match=match):
            list(folder_of((broken, manifest), tmp_path).problems("train"))


def test_contexts_that_teach_nothing_are_left_out_and_counted(tmp_path, monkeypatch) -> None:
    real = counterfactual.value_table

    def sometimes_flat(snapshot, household, split):
        return Values.of([0.0] * 102) if household % 2 else real(snapshot, household, split)

    monkeypatch.setattr(counterfactual, "value_table", sometimes_flat)
    task = load_task("economy")
    kept = list(task.problems("train", 20))
    intake = task.intakes["train"]
    assert 0 < len(kept) < 20 and all(problem.truth["household"] % 2 == 0 for problem in kept)
    assert intake.dropped["gap_too_small"] > 0 and intake.places["gap_too_small"][0].startswith("economy/train/")
    assert intake.num_rows == len(kept) + intake.dropped.total()


def test_facts_that_are_missing_or_wrong_count_as_absent() -> None:
    answer = '{"work": 0.8, "consumption": 0.6}'
    for facts in ({}, None, "{", {"income": None}, {"unemployment_rate": float("inf")}, {"anything": 1}):
        assert seed_reward(answer, facts) == seed_reward(answer)


def test_another_data_source(problem) -> None:
    assert seed_reward('{"work": 0.8, "consumption": 0.6}', data_source="other") == 0.0
    other = replace(problem, truth={**problem.truth, "data_source": "other"})
    with pytest.raises(DataError, match="'other'"):
        load_task("economy").score(other, "{}")


def test_economies_where_they_do_not_belong(rows, tmp_path) -> None:
    content, _ = rows
    task = folder_of(rows, tmp_path, split="validation")
    with pytest.raises(LeakageError, match="economy 0 belongs to train, and stands in validation"):
        list(task.problems("validation"))
    memory = [{"id": "memory/1000003/24/1", "economy_seed": 1_000_003, "features": [0.0] * 6}]
    few = folder_of(rows, tmp_path, memory=memory).config.model_copy(update={"few_shot": 3})
    with pytest.raises(LeakageError, match="1000003, which is no training economy"):
        list(type(task)(few).problems("train"))
    assert content


def test_a_memory_that_is_too_small(problem) -> None:
    task = load_task("economy", few_shot=3)
    task.maker.memory = Memory.of([])
    made = next(task.problems("train", 1))
    assert made.meta["few_shot_ids"] == [] and "few_shot" not in made.truth
    assert task.maker.counts["examples_missing"] == 3
    assert made.messages == problem.messages, "the prompt without examples"
    first = next(contexts("train", 1))
    task.maker.memory = Memory.of(
        [candidate(first, counterfactual.value_table(first.snapshot, first.household, "train"))]
    )
    assert next(task.problems("train", 1)).meta["few_shot_ids"] == [], "its own economy is all there is"
    assert len(next(task.problems("validation", 1)).meta["few_shot_ids"]) == 1
    assert task.maker.counts["examples_missing"] == 3 + 3 + 2


def test_prompts_over_the_budget(tmp_path) -> None:
    options = {"few_shot": 3, "memory_contexts": 20}
    task = load_task("economy", **options)
    lengths = [len(p.messages[1].content) for p in task.problems("validation", 4)]
    whole = next(task.problems("validation", 1))
    ladder = [len(p.messages[1].content) for p in task.shorter(whole)]
    num_examples = len(whole.meta["few_shot_ids"])
    assert num_examples and len(ladder) == num_examples + 1, "examples one by one, then the table"
    assert ladder == sorted(ladder, reverse=True) and ladder[0] < lengths[0]

    def count(messages):
        return len(messages[1].content)

    for limit, num_kept, has_table in ((ladder[0], num_examples - 1, True), (ladder[-1], 0, False)):
        fitted = Budget(max_tokens=limit, tokenizer="characters", count=count).fitted(task, whole)
        assert fitted is not None and len(fitted.meta["few_shot_ids"]) == num_kept
        assert fitted.meta["has_table"] is has_table and fitted.meta["prompt_tokens"] == limit
        assert len(fitted.truth.get("few_shot", [])) == num_kept
        text = fitted.messages[1].content
        assert text.startswith(whole.messages[1].content[:60]) and ("month | income" in text) is has_table
    budget = Budget(max_tokens=sorted(lengths)[2] - 400, tokenizer="characters", count=count)
    manifest = prepare("economy", options, tmp_path / "a", splits=("validation",), limit=4, budget=budget)
    part = manifest["splits"]["validation"]
    assert manifest["prompt_tokens"] == {"max": budget.max_tokens, "tokenizer": "characters"}
    assert part["shortened"] > 0 and part["rows"] + part["dropped"].get("prompt_over_budget", 0) == 4
    with pytest.raises(Exit, match=r"4 prompt_over_budget, first: economy/validation/00000"):
        prepare("economy", options, tmp_path / "b", splits=("validation",), limit=4,
                budget=Budget(max_tokens=10, tokenizer="characters", count=count))  # fmt: skip


def test_the_command_counts_with_a_models_tokenizer(tmp_path, capsys) -> None:
    out = str(tmp_path / "x")
    command = ["prepare", "economy", "--split", "train", "--limit", "2", "--out", out, "--tokenizer", "nano/countdown"]
    assert cli.run([*command, "--max-prompt-tokens", "4000"]) == 0
    (row, _) = (json.loads(line) for line in (tmp_path / "x" / "train.jsonl").open())
    assert 400 < row["meta"]["prompt_tokens"] <= 4000
    assert cli.run([*command, "--yes", "--max-prompt-tokens", "10"]) == Code.NOTHING_USABLE
    assert "prompt_over_budget" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("act", "match"),
    [
        (lambda: load_task("economy", lang="fr"), "lang.*'en', 'zh' or 'both'"),
        (lambda: load_task("economy", reward="profit"), "reward.*'counterfactual' or 'seed'"),
        (lambda: load_task("economy", closed_loop_fallback="zero"), "closed_loop_fallback.*'uniform', 'last', 'idle'"),
        (lambda: TextPolicy(answer=lambda prompts: [], fallback="zero"), "there are: uniform, last, idle, public"),
        (lambda: make_policy("greedy"), "there are: buffer_stock, constant"),
    ],
)
def test_unknown_names(act, match: str) -> None:
    with pytest.raises(ValueError, match=match.replace(".", r"[\s\S]", 1) if ".*" in match else match):
        act()


def test_what_cannot_be_computed_is_null_with_a_reason() -> None:
    nothing = analysis.summary([])
    assert nothing["reward_mean"] is None and nothing["collapse"] is None and nothing["collapse_reason"]


def test_pairs_of_different_contexts() -> None:
    with pytest.raises(ValueError, match="such as b"):
        analysis.paired({"a": 0.0, "b": 0.0}, {"a": 0.0}, {"a": 1})


def test_settings_that_are_refused_before_a_model_is_loaded(tmp_path) -> None:
    tree = ["tasks.economy={}", "name=x", "model.path=no/such/model"]
    for override, match in (
        ("sampling.group_size=1", r"group_size"),
        ("truncation=left", "truncation"),
        ("algorithm.use_kl_loss=false", "use_kl_loss"),
    ):
        with pytest.raises(ValueError, match=match):
            resolve([], [*tree, override])
    with pytest.raises(ValueError, match=r"tasks.economy: 75% of the reward's weight .* set allow_inert=True"):
        run("train", resolve([], [*tree, "tasks.economy.reward=seed", "curriculum.num_problems=2"]), runs_dir=tmp_path)


def test_every_language_has_every_text() -> None:
    for table in (prompts._SYSTEM, prompts._QUESTION):
        assert set(table) == {"en", "zh"}
    for table in (prompts._FORM, prompts._REMINDER):
        assert set(table) == {(lang, envelope) for lang in ("en", "zh") for envelope in ("none", "answer")}
