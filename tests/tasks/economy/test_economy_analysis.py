"""Collapse, audit, ladder, verdicts and closed loop on policies whose judgement is known beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from gradus.tasks.base import load_task
from gradus.tasks.economy import analysis
from gradus.tasks.economy.analysis_tables import tables
from gradus.tasks.economy.audit import audit
from gradus.tasks.economy.closed_loop import TextPolicy, differences, simulate
from gradus.tasks.economy.collapse import collapse, of_rows, spearman
from gradus.tasks.economy.decision import canonical
from gradus.tasks.economy.ladder import ladder
from gradus.tasks.economy.loop_metrics import gini
from gradus.tasks.economy.policies import BufferStock, Constant, Noisy
from gradus.tasks.economy.seed_reward import seed_parts
from gradus.tasks.economy.task import EconomyTask
from gradus.tasks.economy.values import Values
from gradus.types import Completion, Group, Message, Problem


def states(num: int, rng: np.random.Generator):
    """Wages and wealth, and decisions that suit them: like those of the task, without simulating it."""
    wage, wealth = rng.normal(4.5, 1.0, num), rng.gamma(1.5, 2.0, num)
    work = np.clip(0.9 + 0.15 * (wage - 4.5) + rng.normal(0, 0.05, num), 0, 1)
    share = np.clip(0.7 - 0.09 * wealth + rng.normal(0, 0.03, num), 0.1, 0.9)
    return wage, wealth, work, share


SYNTHETIC = {
    "constant": lambda w, c, rng: (np.full(len(w), 0.8), np.full(len(w), 0.3)),
    "few_points": lambda w, c, rng: np.where(rng.random(len(w)) < 0.5, [[0.8], [0.6]], 0.2),
    "reversed": lambda w, c, rng: (1.4 - w + rng.normal(0, 0.05, len(w)), 1 - c + rng.normal(0, 0.05, len(w))),
    "state_blind": lambda w, c, rng: (rng.normal(0.83, 0.194, len(w)), rng.normal(0.694, 0.106, len(w))),
    "healthy": lambda w, c, rng: (w + rng.normal(0, 0.05, len(w)), c + rng.normal(0, 0.05, len(w))),
}


@pytest.mark.parametrize("expected", SYNTHETIC)
def test_five_policies_are_told_apart(expected: str) -> None:
    verdicts = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        wage, wealth, work, share = states(400, rng)
        answers = SYNTHETIC[expected](work, share, rng)
        found = collapse(np.clip(answers[0], 0, 1), np.clip(answers[1], 0, 1), wage, wealth, seed=seed)
        verdicts.append(found.verdict)
    assert verdicts == [expected] * 10


@pytest.mark.slow
@pytest.mark.parametrize("expected", SYNTHETIC)
def test_five_policies_are_told_apart_on_validation_contexts(expected: str, validation) -> None:
    wage, wealth, work, share = validation
    verdicts = []
    for seed in range(50):
        answers = SYNTHETIC[expected](work, share, np.random.default_rng(seed))
        found = collapse(np.clip(answers[0], 0, 1), np.clip(answers[1], 0, 1), wage, wealth, seed=seed)
        verdicts.append(found.verdict)
    assert verdicts.count(expected) >= 48


@pytest.fixture(scope="module")
def validation():
    """States of the 400 validation contexts, and their best answers."""
    truths = [problem.truth for problem in load_task("economy").problems("validation")]
    states = [[one["state"][name] for one in truths] for name in ("ln_real_wage", "wealth_months")]
    best = [[one[name] for one in truths] for name in ("oracle_work", "oracle_consumption")]
    return [np.array(column) for column in (*states, *best)]


def test_few_rows_decide_only_what_needs_no_state() -> None:
    wage, wealth, work, share = states(50, np.random.default_rng(0))
    assert collapse(work, share, wage, wealth).verdict == "undetermined"
    assert collapse(np.full(50, 1.0), np.full(50, 0.5), wage, wealth).verdict == "constant"
    only_work = states(400, np.random.default_rng(1))
    blind = np.random.default_rng(2).uniform(0.2, 0.8, 400)
    assert collapse(only_work[2], blind, only_work[0], only_work[1]).verdict == "partial"


def test_what_cannot_be_computed_is_null_with_a_reason() -> None:
    wage, wealth, _, _ = states(120, np.random.default_rng(0))
    found = collapse(np.full(120, 0.8), np.full(120, 0.3), wage, wealth, oracle_work=np.linspace(0, 1, 120))
    assert found.rho_work is None and found.entropy_bits == 0
    assert any("rho_work is null" in note for note in found.notes)
    assert any("one value of work has 100%" in note for note in found.notes)
    assert of_rows([{"work": None}]) is None
    with pytest.raises(ValueError, match="2, 1, 1, 1 rows"):
        collapse([1, 1], [1], [1], [1])


def test_rank_correlation_with_ties() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 5, 60), rng.integers(0, 7, 60)
    assert spearman(x, y) == pytest.approx(scipy_stats.spearmanr(x, y).statistic)


# ------------------------------------------------------------------ the audit


def test_the_seed_reward_is_found_inert() -> None:
    rng = np.random.default_rng(0)
    groups = []
    for _ in range(64):
        facts = {"unemployment_rate": float(rng.uniform(0, 0.3)), "r_okun_12m": -0.9, "gt_employed": 1, "income": 5000.0,
                 "wealth": float(rng.uniform(0, 1e5))}  # fmt: skip
        rows = [seed_parts(canonical(w, c), facts) for w, c in rng.random((8, 2))]
        groups.append([{name: row[name] for name in ("annual", "guard", "micro", "reg")} for row in rows])
    found = audit(groups, {"annual": 0.45, "guard": 0.30, "micro": 0.20, "reg": 0.05})
    inert = {term.name for term in found.terms if term.is_inert}
    assert inert == {"annual", "guard"} and found.inert_frac == pytest.approx(0.75)
    assert found.refusal is not None and "75%" in found.refusal and "annual, guard" in found.refusal
    assert sum(term.share for term in found.terms) == pytest.approx(1)


def test_one_live_term_passes_the_audit() -> None:
    rng = np.random.default_rng(0)
    groups = [[{"value": float(v), "format": 0.0} for v in rng.random(8)] for _ in range(64)]
    found = audit(groups, {"value": 1.0})
    assert found.refusal is None and found.warnings == () and found.terms[0].share == pytest.approx(1)
    flat = [[{"value": 0.5}] * 8 for _ in range(64)]
    assert audit(flat, {"value": 1.0}).refusal and "equal rewards" in audit(flat, {"value": 1.0}).warnings[0]
    with pytest.raises(ValueError, match="63 groups of at least 8"):
        audit(groups[:63], {"value": 1.0})


# ------------------------------------------------------------------ base against trained


def truth(seed: int, rng: np.random.Generator) -> dict:
    """A context whose best answer follows its state."""
    wage, wealth, work, share = (float(x[0]) for x in states(1, rng))
    table = [[-((c / 50 - share) ** 2) * 4 + worked * 0.5 * work**2 for c in range(51)] for worked in (0, 1)]
    values = Values.of(table[0] + table[1])
    state = {"ln_real_wage": wage, "wealth_months": wealth, "worked": 1, "wealth_tercile": 1}
    return {"data_source": "gradus/economy", "economy_seed": seed, "state": state, **values.to_row()}


def evaluation_rows(truths: list[dict], answer, rng) -> list[dict]:
    from gradus.evaluation.evaluate import rows

    task = load_task("economy")
    groups = []
    for k, one in enumerate(truths):
        problem = Problem(id=f"economy/validation/{k:05d}", task="economy", messages=(Message(role="user", content=str(k)),),
                          truth=one, domain="boom", difficulty=0.5)  # fmt: skip
        texts = [answer(one, rng) for _ in range(2)]
        completions = tuple(
            Completion(text=t, tokens=(1,), logprobs=(0.0,), finish="stop", policy_step=0) for t in texts
        )
        groups.append(Group(problem=problem, prompt_tokens=(1,), completions=completions,
                            scores=tuple(task.score(problem, t) for t in texts)))  # fmt: skip
    return rows(groups)


def near_best(one: dict, rng: np.random.Generator) -> str:
    work, share = one["oracle_work"] + rng.normal(0, 0.03), one["oracle_consumption"] + rng.normal(0, 0.03)
    return canonical(float(np.clip(work, 0, 1)), float(np.clip(share, 0, 1)))


def blind(one: dict, rng: np.random.Generator) -> str:
    if rng.random() < 0.1:
        return "I would rather not."
    return canonical(*(float(x) for x in np.clip(rng.normal([0.83, 0.694], [0.194, 0.106]), 0, 1)))


@pytest.fixture(scope="module")
def compared():
    rng = np.random.default_rng(0)
    truths = [truth(1_000_000 + k // 4, rng) for k in range(160)]
    return evaluation_rows(truths, blind, rng), evaluation_rows(truths, near_best, rng)


def test_base_and_trained_in_the_terms_of_the_task(compared) -> None:
    found = analysis.compare(*compared)
    base, trained = found["models"]["base"], found["models"]["trained"]
    assert found["verdict"] == "improved"
    assert base["failed_frac"] == pytest.approx(1 - base["strict_frac"]) and base["failed_frac"] > 0.05
    assert base["reward_mean"] < base["reward_mean_parsed"], "a failed answer stays -1"
    assert (base["collapse"]["verdict"], trained["collapse"]["verdict"]) == ("state_blind", "healthy")
    assert found["ladder"]["best of the grid"]["mean"] == 1.0
    assert found["ladder"]["random"]["mean"] < found["ladder"]["best constant"]["mean"] < trained["reward_mean"]
    assert sum(cell["num"] for cell in found["strata"]) == 160
    assert analysis.compare(compared[1], compared[0])["verdict"] == "worse"
    assert analysis.compare(compared[0], compared[0])["verdict"] == "no_change"


def test_few_economies_are_too_few(compared) -> None:
    few = [[row for row in rows if row["solution"]["economy_seed"] < 1_000_010] for rows in compared]
    assert analysis.compare(*few)["verdict"] == "underpowered"


def test_pairs_must_match(compared) -> None:
    with pytest.raises(ValueError, match="different contexts"):
        analysis.compare(compared[0][:-2], compared[1])


def test_tables_are_text(compared) -> None:
    made = load_task("economy").comparison_tables(*compared)
    assert made[0]["title"].startswith("Did it learn") and made[1]["title"] == "Decisions: base and trained"
    answers = dict(made[0]["rows"])
    assert answers["Did it learn?"].startswith("yes") and "95 % CI" in answers["Did it learn?"]
    assert answers["Is it collapsed?"].startswith("no")
    for one in made:
        assert one["rows"] and all(isinstance(cell, str) for row in one["rows"] for cell in row)
        assert all(len(row) == len(one["head"]) for row in one["rows"])


def test_languages_and_examples_are_told_apart(compared) -> None:
    """Twins of one context: with examples the answer is near the best, without them blind."""

    def named(rows, ending: str, few_shot: bool):
        return [
            row | {"problem_id": row["problem_id"] + ending,
                   "solution": row["solution"] | ({"few_shot": [[0.9, 0.4]]} if few_shot else {})}
            for row in rows
        ]  # fmt: skip

    blind_rows, good_rows = compared
    base = named(blind_rows, "/en", True) + named(blind_rows, "/en/bare", False)
    trained = named(good_rows, "/en", True) + named(blind_rows, "/en/bare", False)
    found = analysis.compare(base, trained)
    assert [(cell["language"], cell["has_examples"], cell["num"]) for cell in found["prompts"]] == [
        ("en", False, 160), ("en", True, 160)
    ]  # fmt: skip
    assert found["prompts"][0]["difference"] == 0 < found["prompts"][1]["low"]
    effect = found["differences"]
    assert effect["base: with - without examples"]["value"] == 0
    assert effect["trained: with - without examples"]["low"] > 0
    assert effect["trained - few-shot copy"]["num_economies"] == effect["trained - base"]["num_economies"]
    assert tables(found, {})[-1]["rows"][1][0] == "English, with examples"
    assert analysis.compare(*compared)["prompts"] == [], "one kind of prompt needs no table"


def test_a_model_that_says_nothing_still_has_its_table(compared) -> None:
    rng = np.random.default_rng(0)
    truths = [row["solution"] for row in compared[0][::2]]
    silent = evaluation_rows(truths, lambda one, rng: "", rng)
    found = analysis.compare(silent, compared[1])
    assert found["models"]["base"]["reward_mean"] == -1 and found["models"]["base"]["collapse"] is None
    assert found["models"]["base"]["work_mean"] is None
    assert tables(found, {})


# ------------------------------------------------------------------ closed loop


def test_closed_loops_share_shocks() -> None:
    base = simulate(BufferStock(), economy_ids=range(8), months=48)
    again = simulate(BufferStock(), economy_ids=range(8), months=48)
    assert base.metrics == again.metrics
    assert all(entry["mean"] in (0.0, None) for entry in differences(base, again).values())
    lazy = simulate(Noisy(0.5, 0.1, 0.5, 0.1), economy_ids=range(8), months=48)
    assert differences(base, lazy)["unemployment_mean"]["low"] > 0.2
    assert base.summary()["okun_r_mechanical"]["mean"] < -0.9
    with pytest.raises(ValueError, match="same months"):
        differences(base, simulate(BufferStock(), economy_ids=range(8), months=36))


def test_a_correlation_without_variance_is_null() -> None:
    everybody = simulate(Constant(1.0, 0.5), economy_ids=range(2), months=48)
    found = everybody.summary()
    assert found["unemployment_mean"]["mean"] == 0
    assert found["phillips_r"]["mean"] is None and "no variance" in found["phillips_r"]["reason"]
    assert everybody.phillips_verdict().startswith("undetermined")


@pytest.mark.parametrize("fallback", ["uniform", "last", "idle", "public"])
def test_text_policies_are_read_strictly_and_failures_counted(fallback: str) -> None:
    def answer(prompts):
        return ["?" if "Did not work" in p[-1].content else canonical(0.9, 0.4) for p in prompts]

    loop = simulate(TextPolicy(answer=answer, fallback=fallback), economy_ids=range(2), months=24, share=0.05)
    assert loop.counts["asked"] == 2 * 24 * 5
    assert loop.counts["failed"] == loop.counts["failed/no_object"] > 0
    assert loop.counts["failed"] == sum(n for name, n in loop.counts.items() if name.startswith("fallback/"))
    assert not loop.is_interpretable


def test_an_unknown_fallback_is_named() -> None:
    with pytest.raises(ValueError, match="'zero' is unknown; there are: uniform, last, idle, public"):
        TextPolicy(answer=lambda prompts: [], fallback="zero")


def test_gini() -> None:
    assert gini(np.array([[1.0, 1, 1, 1], [0, 0, 0, 4.0], [0, 0, 0, 0]])) == pytest.approx([0.0, 0.75, 0.0])


# ------------------------------------------------------------------ what a run may do


def test_training_on_an_inert_reward_is_refused() -> None:
    seed = load_task("economy", reward="seed")
    problems = list(seed.problems("train", 2))
    found = seed.reward_audit(problems)
    assert found is not None
    assert "75% of the reward's weight" in found["refusal"] and "allow_inert=True" in found["refusal"]
    assert {term["name"] for term in found["terms"] if term["is_inert"]} == {"annual", "guard"}
    allowed = load_task("economy", reward="seed", allow_inert=True).reward_audit(problems)
    assert allowed is not None and allowed["refusal"] is None
    assert "75% of the reward's weight" in allowed["warnings"][-1] and "allow_inert" in allowed["warnings"][-1]
    for options, terms in (({}, {"value"}), ({"grid_penalty": 0.02}, {"value", "grid"})):
        live = load_task("economy", **options).reward_audit(problems)
        assert live is not None and live["refusal"] is None and live["warnings"] == []
        assert {term["name"] for term in live["terms"] if not term["is_inert"]} == terms
        assert sum(term["share"] for term in live["terms"]) == pytest.approx(1)


def test_collapse_ends_a_run_by_its_health_rules() -> None:
    from gradus.health.history import History
    from gradus.health.rule import Setting

    narrow, unreadable = load_task("economy").health_rules()
    history, setting = History(), Setting(num_steps=100)
    assert narrow.check(history, setting, narrow.limits) is None
    history.add({"step": 1, "economy/work_std": 0.01, "economy/consumption_std": 0.015, "rollout/parse_frac": 0.5})
    for rule in (narrow, unreadable):
        (level,) = rule.check(history, setting, rule.limits) or [None]
        assert level is not None and level.severity == "CRIT" and level.is_on and level.hold == 2
    history.add({"step": 2, "economy/work_std": 0.2, "economy/consumption_std": 0.01, "rollout/parse_frac": 1.0})
    for rule in (narrow, unreadable):
        (level,) = rule.check(history, setting, rule.limits) or [None]
        assert level is not None and not level.is_on and level.is_off


def test_contexts_of_the_seed_reward_can_be_prepared(tmp_path) -> None:
    from gradus.data.prepare import prepare

    manifest = prepare("economy", {"reward": "seed"}, tmp_path, splits=("train",), limit=2)
    assert manifest["splits"]["train"]["rows"] == 2


# ------------------------------------------------------------------ the ladder


def test_every_rung_stands_in_both_rewards() -> None:
    truths = {problem.id: problem.truth for problem in load_task("economy").problems("train", 20)}
    found = ladder(truths)
    assert {"random", "base-like", "len rule", "best constant", "buffer_stock rule", "best of the grid"} < set(found)
    assert found["random"]["mean"] < found["best constant"]["mean"] < found["best of the grid"]["mean"] == 1.0
    assert all(-1 <= rung["original"] <= 1 and rung["num"] == 20 for rung in found.values())
    bare = {
        name: {k: v for k, v in truth.items() if k not in ("extra_info", "state")} for name, truth in truths.items()
    }
    assert ladder(bare)["random"] == {**found["random"], "original": None}
    assert "len rule" not in ladder(bare)


def test_the_len_rung_is_the_rule() -> None:
    from gradus.tasks.economy.ladder import _len
    from gradus.tasks.economy.policies import Len
    from gradus.tasks.economy.simulator import Economy

    task = load_task("economy")
    assert isinstance(task, EconomyTask)
    for problem in task.problems("train", 10):
        work, share = Len().decide(Economy.from_snapshots([task.maker.snapshot_of(problem)]).state)
        household = problem.truth["household"]
        expected = (work[0, household], share[0, household])
        assert _len(problem.truth["state"]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_the_regression_is_the_one_of_the_training_contexts() -> None:
    from gradus.data.problems import question
    from gradus.tasks.economy.ladder import REGRESSION

    once = {question(problem): problem for problem in load_task("economy").problems("train")}
    truths = [problem.truth for problem in once.values()]
    features = np.array([[1.0, *one["state"]["regression"]] for one in truths])
    for row, name in zip(REGRESSION, ("oracle_work", "oracle_consumption"), strict=True):
        fitted = np.linalg.lstsq(features, np.array([one[name] for one in truths]), rcond=None)[0]
        assert row == pytest.approx(fitted, abs=1e-4)
