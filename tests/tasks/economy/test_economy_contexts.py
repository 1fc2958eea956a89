"""Contexts, prompts and examples: splits that share nothing, numbers that are the snapshot's, neighbours that may be shown."""

from __future__ import annotations

import hashlib
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from gradus.data.parquet import decode
from gradus.data.prepare import prepare
from gradus.integrations.verl import compute_score
from gradus.tasks.base import load_task
from gradus.tasks.economy import contexts, counterfactual, prompts
from gradus.tasks.economy.archive import Archive, packed
from gradus.tasks.economy.errors import DataError, LeakageError, SnapshotError
from gradus.tasks.economy.facts import seed_facts
from gradus.tasks.economy.memory import FEATURES, Memory, copied, good_rows
from gradus.tasks.economy.seed_reward import seed_reward
from gradus.tasks.economy.simulator import Economy, EconomyConfig, ShockSeries, expected_wages
from gradus.tasks.economy.snapshot import from_npz_bytes, npz_bytes

_NUMBER = re.compile(r"\d+(?:\.\d+)?")


@pytest.fixture(scope="module")
def train():
    return list(contexts.contexts("train", 40))


def test_a_context_can_be_made_alone(train) -> None:
    again = list(contexts.contexts("train", 12))
    assert [(c.id, c.household, c.snapshot.id, c.logged) for c in again] == [
        (c.id, c.household, c.snapshot.id, c.logged) for c in train[:12]
    ]
    moment = contexts.moment_of(train[25].economy_seed, train[25].month)
    assert moment.snapshot.id == train[25].snapshot.id


def test_an_economy_lives_alone_as_among_others() -> None:
    together = contexts.moments(range(12))
    for seed in (3, 9):
        alone = contexts.moments([seed])[0]
        assert [one.snapshot.id for one in alone] == [one.snapshot.id for one in together[seed]]


def test_contexts_aim_at_every_cell(train) -> None:
    assert [c.economy_seed for c in train] == [i // 10 for i in range(40)]
    for i, context in enumerate(train):
        assert context.cell == (i + context.num_passed) % 18
        assert contexts.cells(context.snapshot)[context.household] == context.cell


def test_splits_share_no_economy() -> None:
    seeds = {s: set(range(f, f + contexts.NUM_ECONOMIES[s])) for s, f in contexts.FIRST_SEED.items()}
    assert not seeds["train"] & seeds["validation"] and not (seeds["train"] | seeds["validation"]) & seeds["test"]
    assert contexts.split_of(1_000_039) == "validation" and contexts.split_of(1_000_040) is None
    with pytest.raises(ValueError, match="'val' does not exist"):
        next(contexts.contexts("val"))


@pytest.mark.slow
def test_thresholds_are_those_of_the_training_economies() -> None:
    found = [m.snapshot for b in range(0, 200, 20) for e in contexts.moments(range(b, b + 20)) for m in e]
    growth, u = np.array([contexts.growth_12(s) for s in found]), np.array([contexts.unemployment_12(s) for s in found])
    assert growth.mean() == pytest.approx(contexts.GROWTH_MEAN, abs=1e-6)
    assert growth.std() == pytest.approx(contexts.GROWTH_SD, abs=1e-6)
    assert u.mean() == pytest.approx(contexts.UNEMPLOYMENT_MEAN, abs=1e-6)
    assert u.std() == pytest.approx(contexts.UNEMPLOYMENT_SD, abs=1e-6)
    low, high = np.quantile([contexts.cycle(s) for s in found], [0.2, 0.8])
    assert (low, high) == pytest.approx((contexts.RECESSION_BELOW, contexts.BOOM_ABOVE), abs=1e-4)
    terciles = np.quantile(np.concatenate([contexts.wealth(s) for s in found]), [1 / 3, 2 / 3])
    assert terciles.tolist() == pytest.approx(contexts.WEALTH_TERCILES, abs=1e-5)


# ------------------------------------------------------------------ prompts


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_number_of_a_prompt_is_the_snapshots(train, language: str) -> None:
    for context in train:
        allowed = prompts.numbers(context.snapshot, context.household)
        for message in prompts.messages(context.snapshot, context.household, language=language):
            found = set(_NUMBER.findall(message.content))
            assert found <= allowed, (context.id, found - allowed)


def test_a_prompt_knows_the_hours_of_its_economy() -> None:
    economy = Economy(EconomyConfig(n=2, hours=100.0), [5.0, 6.0])
    snapshot = economy.snapshot()
    assert "full-time income $600.00" in prompts.messages(snapshot, 1, language="en")[1].content
    assert snapshot.full_income.tolist() == [500.0, 600.0]


def test_both_languages_say_the_same_numbers(train) -> None:
    for context in train:
        said = [
            sorted(_NUMBER.findall(prompts.messages(context.snapshot, context.household, language=language)[1].content))
            for language in ("en", "zh")
        ]
        assert said[0] == said[1]


def test_a_shortage_is_told_where_it_happened() -> None:
    told = {}
    for config in (EconomyConfig(), EconomyConfig.public()):
        economy = Economy(config, expected_wages(100))
        for month in ShockSeries.draw(0, [0], 36, 100):
            result = economy.step(np.full((1, 100), 0.9), np.full((1, 100), 0.9), month)
            if result.rationed.any():
                break
        snapshot = economy.snapshot()
        i = int(np.argmax(result.rationed[0]))
        told[config.shortage_notice] = "shortage" in prompts.messages(snapshot, i, language="en")[1].content
        assert result.rationed[0, i]
        served = int(np.argmin(result.rationed[0]))
        assert result.rationed.all() or "shortage" not in prompts.messages(snapshot, served, language="en")[1].content
    assert told == {"rationed": True, "never": False}


def test_a_fresh_economy_has_a_prompt() -> None:
    snapshot = Economy(EconomyConfig(), expected_wages(100)).snapshot()
    assert "2001.01" in prompts.messages(snapshot, 3, language="en")[1].content
    assert "saved 0.0" in prompts.compact(snapshot, 3)
    assert seed_facts(snapshot, 3)["buffer_ratio"] == 1.0


def test_facts_of_the_seed_reward_are_of_one_month(train) -> None:
    context = train[3]
    snapshot, i = context.snapshot, context.household
    facts = seed_facts(snapshot, i)
    assert facts["tax_paid"] == snapshot.tax[-1, i] and facts["lump_sum"] == snapshot.credits[-1]
    assert facts["dpi"] == pytest.approx(facts["income"] + facts["lump_sum"] - facts["tax_paid"])
    assert facts["price_inflation"] == pytest.approx((snapshot.prices[-1] / snapshot.prices[-13] - 1) * 100)
    assert facts["gdp_growth"] == pytest.approx((snapshot.output[-1] / snapshot.output[-13] - 1) * 100)
    assert -1 <= facts["r_phil_12m"] <= 1


# ------------------------------------------------------------------ memory


def row(economy: int, name: int, reward: float = 0.95, **changes) -> dict:
    features = [float(economy), 0.5, 0.0, 0.1, 1.0, 0.02]
    return {"id": f"memory/{economy}/24/{name}", "economy_seed": economy, "stratum": "boom/1", "reward": reward,
            "constant_reward": 0.8, "features": features, "work": 0.9, "consumption": 0.4, **changes}  # fmt: skip


def query(x: float) -> dict[str, float]:
    return dict(zip(FEATURES, [x, 0.5, 0.0, 0.1, 1.0, 0.02], strict=True))


def test_nearest_first_one_per_economy_never_its_own() -> None:
    rows = [row(economy, name) for economy in range(6) for name in range(2)]
    memory = Memory.of(rows)
    assert memory.scale[1] == 1.0, "a range of zero scales by 1"
    found = memory.nearest(query(2.2), economy_seed=2, k=3)
    assert [one["economy_seed"] for one in found] == [3, 1, 4]
    assert [one["id"] for one in memory.nearest(query(3), economy_seed=None, k=1)] == ["memory/3/24/0"]
    without = Memory.of([one for one in rows if one["id"] != found[0]["id"]])
    assert without.nearest(query(2.2), economy_seed=2, k=3) != found
    assert memory.nearest(query(2), economy_seed=2, k=0) == []
    assert len(Memory.of(rows[:2]).nearest(query(2), economy_seed=1, k=3)) == 1
    assert Memory.of(rows[:2]).nearest(query(2), economy_seed=0, k=3) == []
    assert copied(found) == (pytest.approx(0.9), pytest.approx(0.4))


@pytest.mark.parametrize("seed", [1_000_000, 2_000_079, 200, -1])
def test_other_economies_are_never_remembered(seed: int) -> None:
    with pytest.raises(LeakageError, match=str(seed)):
        Memory.of([row(1, 0), row(seed, 0)])
    with pytest.raises(ValueError, match="twice"):
        Memory.of([row(1, 0), row(1, 0)])


def test_good_is_good_within_its_stratum_employed_or_not() -> None:
    employed = [row(e, 0, reward=0.5 + e / 100) for e in range(50)]
    idle = [row(e, 1, reward=-0.5 + e / 100, stratum="boom/0", constant_reward=-0.2) for e in range(50)]
    good, thin = good_rows([*employed, *idle])
    kept = {stratum: [one["reward"] for one in good if one["stratum"] == stratum] for stratum in ("boom/1", "boom/0")}
    assert min(kept["boom/1"]) > 0.8 and min(kept["boom/0"]) > -0.2
    assert len(kept["boom/0"]) == 15 and "boom/0" in thin
    bad_idle = row(60, 1, reward=-0.6, stratum="boom/0", constant_reward=-0.2)
    assert bad_idle["id"] not in {one["id"] for one in good_rows([*idle, bad_idle])[0]}


@pytest.fixture(scope="module")
def few_shot_task():
    return load_task("economy", few_shot=3, memory_contexts=20, lang="both")


def test_examples_in_a_prompt_are_of_training_economies(few_shot_task) -> None:
    problems = list(few_shot_task.problems("validation", 2))
    assert [p.id for p in problems] == ["economy/validation/00000/en", "economy/validation/00000/zh"]
    assert problems[0].truth == problems[1].truth
    for problem in problems:
        ids = problem.meta["few_shot_ids"]
        assert ids and all(contexts.split_of(int(name.split("/")[1])) == "train" for name in ids)
        assert problem.messages[1].content.count("→") == len(ids)
    own = next(few_shot_task.problems("train", 1))
    assert all(not name.startswith(f"memory/{own.truth['economy_seed']}/") for name in own.meta["few_shot_ids"])


def test_a_context_of_another_split_cannot_be_remembered() -> None:
    with pytest.raises(LeakageError, match="no training context"):
        Memory.build(contexts.contexts("validation", 1))


# ------------------------------------------------------------------ the task


def test_a_problem_from_raw_fields() -> None:
    economy = Economy(EconomyConfig(), expected_wages(100))
    for month in ShockSeries.draw(0, [0], 30, 100):
        economy.step(np.full((1, 100), 0.9), np.full((1, 100), 0.5), month)
    task, snapshot = load_task("economy"), economy.snapshot()
    problem = task.problem(snapshot=snapshot, household=12)
    assert task.score(problem, task.oracle(problem)).reward == 1.0
    assert problem.truth["snapshot_id"] == snapshot.id
    assert task.problem(snapshot=snapshot.to_json(), household=12) == problem
    live = load_task("economy", mode="live")
    again = live.problem(snapshot=snapshot, household=12)
    assert live.score(again, live.oracle(again)).reward == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(ValueError, match="snapshot and household, not snapshot"):
        task.problem(snapshot=snapshot)
    with pytest.raises(ValueError, match="household=100"):
        task.problem(snapshot=snapshot, household=100)
    with pytest.raises(DataError, match="neither"):
        load_task("economy", mode="live").score(problem, task.oracle(problem))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Six training and six validation contexts with English prompts in full."""
    folder = tmp_path_factory.mktemp("economy")
    prepare("economy", {}, folder, splits=("train", "validation"), limit=6)
    return folder


@pytest.mark.parametrize("options", [{"lang": "fr"}, {"reward": "x"}, {"prompt": "compact", "few_shot": 3}, {"few_shot": 9},
                                     {"mode": "live", "reward": "seed"}, {"grid_penalty": 0.5}])  # fmt: skip
def test_wrong_options_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        load_task("economy", **options)


def test_a_prepared_folder_gives_the_same_problems(tmp_path) -> None:

    made = list(load_task("economy").problems("train", 3))
    for format in ("jsonl", "parquet"):
        prepare("economy", {}, tmp_path / format, splits=("train",), limit=3, format=format)
        read = list(load_task("economy", source=str(tmp_path / format)).problems("train"))
        assert [(p.id, p.truth, p.messages) for p in read] == [(p.id, p.truth, p.messages) for p in made]
    made = json.loads((tmp_path / "jsonl" / "manifest.json").read_text())["made"]
    assert made["economy_seeds"]["test"] == [2_000_000, 2_000_079]
    (tmp_path / "jsonl" / "validation.jsonl").write_bytes((tmp_path / "jsonl" / "train.jsonl").read_bytes())
    with pytest.raises(LeakageError, match="economy 0 belongs to train, and stands in validation"):
        next(load_task("economy", source=str(tmp_path / "jsonl")).problems("validation"))
    text = (tmp_path / "jsonl" / "train.jsonl").read_text().replace("value_table", "other")
    (tmp_path / "jsonl" / "train.jsonl").write_text(text)
    with pytest.raises(DataError, match="economy/train/00000: the row has no value_table"):
        next(load_task("economy", source=str(tmp_path / "jsonl")).problems("train"))
    with pytest.raises(ValueError, match=r"no manifest\.json"):
        next(load_task("economy", source=str(tmp_path)).problems("train"))


FLAT = ("lang", "context_id", "snapshot_id", "economy_seed", "month", "household", "regime", "worked", "wealth_tercile",
        "regime_seed", "feature_ln_real_wage", "feature_inflation", "value_table", "j_random", "j_oracle", "oracle_work",
        "oracle_consumption", "few_shot_ids", "prompt_tokens")  # fmt: skip


def test_prepared_files_can_be_filtered_by_column(prepared, tmp_path) -> None:

    rows = [json.loads(line) for line in (prepared / "train.jsonl").read_text().splitlines()]
    for row in rows:
        assert set(FLAT) < set(row) and row["prompt_tokens"] is None
        assert all(row[name] == row["truth"][name] for name in ("household", "oracle_work", "value_table"))
        assert (row["regime"], row["lang"], row["worked"]) == (row["domain"], "en", row["truth"]["state"]["worked"])
        known = {name: value for name, value in row["extra_info"].items() if value is not None}
        assert known == row["truth"]["extra_info"]
    prepare("economy", {}, tmp_path, splits=("train",), limit=3, format="parquet", layout="verl")
    for given, row in zip(decode(tmp_path / "train.parquet"), rows, strict=False):
        assert set(FLAT) < set(given) and len(given["value_table"]) == 102
        assert all(given[name] == row[name] for name in FLAT)
        assert given["extra_info"]["problem_id"] == row["id"] and given["extra_info"]["split"] == "train"
        assert given["extra_info"]["dpi"] == row["truth"]["extra_info"]["dpi"]


SHAPES = [{"prompt": "compact"}, {"lang": "both"}, {"reward": "seed"}, {"lang": "zh", "skip_contexts": 1}]


@pytest.mark.parametrize("options", SHAPES)
def test_one_prepared_folder_serves_every_prompt(prepared, options: dict, monkeypatch) -> None:
    made = list(load_task("economy", **options).problems("train", 4))
    monkeypatch.setattr(counterfactual, "value_table", None)  # nothing is valued again
    read = list(load_task("economy", source=str(prepared), **options).problems("train", 4))
    assert [(p.id, p.truth, p.messages, p.domain) for p in read] == [
        (p.id, p.truth, p.messages, p.domain) for p in made
    ]
    assert all(json.dumps(dict(p.meta)) for p in read)


def test_the_same_options_give_the_same_bytes(tmp_path) -> None:
    found = []
    for name in ("a", "b"):
        counterfactual._KNOWN.clear()
        prepare(
            "economy", {"reward": "seed"}, tmp_path / name, splits=("test",), limit=2, format="parquet", layout="verl"
        )
        found.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert found[0] == found[1] and set(found[0]) == {"test.parquet", "snapshots-test.npz", "manifest.json"}


def test_snapshots_stand_beside_the_rows(prepared, tmp_path, monkeypatch) -> None:
    manifest = json.loads((prepared / "manifest.json").read_text())
    for split in ("train", "validation"):
        name = f"snapshots-{split}.npz"
        content = (prepared / name).read_bytes()
        assert manifest["beside"][name] == hashlib.sha256(content).hexdigest()
        archive = Archive(content)
        rows = [json.loads(line) for line in (prepared / f"{split}.jsonl").read_text().splitlines()]
        assert set(archive) == {row["snapshot_id"] for row in rows}
        assert packed(archive[one] for one in reversed(list(archive))) == content, "the same bytes in any order"
    monkeypatch.setattr(contexts, "moments", None)  # nothing is simulated again
    live = load_task("economy", source=str(prepared), lang="zh", mode="live")
    problem = next(live.problems("validation", 1))
    assert live.score(problem, live.oracle(problem)).reward == pytest.approx(1.0, abs=1e-5)
    (tmp_path / "manifest.json").write_bytes((prepared / "manifest.json").read_bytes())
    (tmp_path / "train.jsonl").write_bytes((prepared / "train.jsonl").read_bytes())
    (tmp_path / "snapshots-train.npz").write_bytes((prepared / "snapshots-validation.npz").read_bytes())
    with pytest.raises(DataError, match=r"economy/train/00000: snapshot .* is not beside the rows"):
        next(load_task("economy", source=str(tmp_path), lang="zh").problems("train", 1))


def test_archives_that_are_none() -> None:
    snapshot = Economy(EconomyConfig(n=2), [5.0, 6.0]).snapshot()
    header, arrays = from_npz_bytes(packed([snapshot, snapshot]))
    assert len(header["snapshots"]) == 1 and Archive(npz_bytes(header, arrays))[snapshot.id].id == snapshot.id
    pickled = io.BytesIO()
    np.savez(pickled, header=np.array([{}], dtype=object))
    for data, match in (
        (b"PK", "no snapshot of"),
        (pickled.getvalue(), "no snapshot of"),
        (snapshot.to_bytes(), "schema 'gradus.snapshot/1'"),
        (npz_bytes(header, {k: v for k, v in arrays.items() if k != "wage"}), "no 'wage'"),
    ):
        with pytest.raises(SnapshotError, match=match):
            Archive(data)
    changed = npz_bytes(header, arrays | {"wage": arrays["wage"] + 1})
    with pytest.raises(SnapshotError, match="changed or damaged"):
        Archive(changed)[snapshot.id]


def test_seed_parity_files_serve_the_original_reward_and_ours(tmp_path) -> None:
    """A reward function that knows its own data source and ``extra_info`` alone, and verl's by gradus."""
    options = {"reward": "seed"}
    prepare("economy", options, tmp_path, splits=("train",), limit=2, format="parquet", layout="verl")
    for row in decode(tmp_path / "train.parquet"):
        assert (row["data_source"], row["ability"]) == ("econ_agent", "economic_decision")
        assert row["reward_model"]["style"] == "rule"
        for answer in ('{"work": 0.8, "consumption": 0.6}', '{"work": 0.1, "consumption": 1}', "no"):
            theirs = seed_reward(answer, row["extra_info"], data_source=row["data_source"])
            ours = compute_score(
                row["data_source"], answer, row["reward_model"]["ground_truth"], row["extra_info"], {"economy": options}
            )
            assert ours["score"] == pytest.approx(theirs, abs=1e-12) and not ours["scoring_error"]
    refused = compute_score("econ_agent", "no", json.dumps({"id": "countdown/train/00000"}))
    assert refused["scoring_error"] == 1.0, "a name of economic decisions alone"


def test_held_out_contexts_can_be_asked_without_examples_too() -> None:
    task = load_task("economy", few_shot=3, memory_contexts=20, without_examples=True, lang="both")
    made = list(task.problems("validation", 4))
    assert [p.id.removeprefix("economy/validation/00000") for p in made] == ["/en", "/en/bare", "/zh", "/zh/bare"]
    assert {p.meta["context_id"] for p in made} == {"economy/validation/00000"}
    assert ["few_shot" in p.truth for p in made] == [bool(p.meta["few_shot_ids"]) for p in made] == [True, False] * 2
    assert made[1].messages == next(load_task("economy").problems("validation", 1)).messages
    assert all("bare" not in p.id for p in task.problems("train", 4)), "training shows them always"
    with pytest.raises(ValueError, match="few_shot=3"):
        load_task("economy", without_examples=True)


def test_contexts_of_a_warm_up_can_be_passed_over(prepared) -> None:
    ids = [p.id for p in load_task("economy").problems("train", 5)]
    for source in ("generate", str(prepared)):
        later = load_task("economy", source=source, skip_contexts=3)
        assert [p.id for p in later.problems("train", 2)] == ids[3:5]
        assert next(later.problems("validation", 1)).id == "economy/validation/00000"


def test_examples_can_be_read_from_the_folder(tmp_path) -> None:

    options = {"few_shot": 3, "memory_contexts": 20}
    for format in ("jsonl", "parquet"):
        manifest = prepare("economy", options, tmp_path / format, splits=("validation",), limit=2, format=format)
        assert manifest["made"]["thin_strata"] and manifest["made"]["counts"]["examples_missing"] > 0
        task = load_task("economy", source=str(tmp_path / format), **options)
        assert task.maker.memory.rows == load_task("economy", **options).maker.memory.rows
        (problem, _) = task.problems("validation")
        assert problem.meta["few_shot_ids"]


def test_collapse_shows_in_the_metrics() -> None:
    from gradus.types import Completion, Group

    task = load_task("economy")
    problem = next(task.problems("train", 1))
    texts = ['{"work": 0.8, "consumption": 0.4}'] * 3 + ['{"work": 0.6, "consumption": 0.4}', "?"]
    completion = Completion(text="", tokens=(1,), logprobs=(0.0,), finish="stop", policy_step=0)
    group = Group(problem=problem, prompt_tokens=(1,), completions=(completion,) * 5,
                  scores=tuple(task.score(problem, text) for text in texts))  # fmt: skip
    row = task.metrics([group])
    assert row["economy/work_mean"] == pytest.approx(0.75) and row["economy/consumption_std"] == 0
    assert row["economy/top1_frac"] == 0.75
    assert task.metrics([replace(group, completions=(), scores=())]) == {}
