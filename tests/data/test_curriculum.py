"""The sampler: exact balance, exact quotas, exact resume; and the schedule it follows."""

import cProfile
import json
import logging
import random
from collections import Counter
from fractions import Fraction

import pytest

from gradus.config import CurriculumConfig
from gradus.data.curriculum import CurriculumSampler, Item, weights_at
from gradus.data.curriculum_metrics import Outcome
from gradus.data.schedule import read_schedule
from gradus.seeds import seed_of
from gradus.types import Completion, Group, Message, Problem, Score

DOMAINS = ("blocksworld", "ferry", "grippers", "spanner")
USERS_SCHEDULE = [(0.3, 0.70, 0.25, 0.05), (0.7, 0.40, 0.40, 0.20), (1.0, 0.20, 0.40, 0.40)]


def items(domains=DOMAINS, count=50, scores=(20, 25, 30, 35, 40)) -> list[Item]:
    return [Item(d, float(scores[i % len(scores)]), f"{d}-{i:03d}") for d in domains for i in range(count)]


def sampler(**changes) -> CurriculumSampler:
    return CurriculumSampler(**{"items": items(), "batch_size": 8, "max_steps": 100} | changes)


def keys(batches) -> list[list[str]]:
    return [[item.key for item in batch] for batch in batches]


# --- schedule ------------------------------------------------------------------------------------------------------

EARLY, MID, LATE = (
    {"easy": 0.70, "medium": 0.25, "hard": 0.05},
    {"easy": 0.40, "medium": 0.40, "hard": 0.20},
    {"easy": 0.20, "medium": 0.40, "hard": 0.40},
)


@pytest.mark.parametrize(
    ("step", "max_steps", "expected"),
    [(299, 1000, EARLY), (300, 1000, MID), (700, 1000, LATE), (3, 10, MID), (7, 10, LATE), (29, 97, EARLY),
     (30, 97, MID), (68, 97, LATE), (0, 0, EARLY), (1500, 1000, LATE), (699, 1000, MID), (0, 1000, EARLY)],
)  # fmt: skip
def test_check_points_of_the_schedule(step, max_steps, expected):
    assert weights_at(step, max_steps) == expected


def test_a_schedule_can_be_replaced():
    users = [
        {"until": 0.5, "easy": 0.9, "medium": 0.1, "hard": 0},
        {"until": 0.8, "easy": 0.3, "medium": 0.5, "hard": 0.2},
        {"easy": 1, "medium": 3, "hard": 6},
    ]
    assert weights_at(49, 100, users) == {"easy": 0.9, "medium": 0.1, "hard": 0}
    assert weights_at(50, 100, users)["medium"] == 0.5
    assert weights_at(99, 100, users) == {"easy": 0.1, "medium": 0.3, "hard": 0.6}


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [(1.0, 0, 0, 0)],
        [(1.0, -1, 1, 1)],
        [(1.0, float("nan"), 1, 1)],
        [(float("nan"), 1, 1, 1)],
        [(0.5, 1, 1, 1), (0.5, 1, 1, 1), (1.0, 1, 1, 1)],
        [(0.5, 1, 1, 1)],
        [(0.0, 1, 1, 1), (1.0, 1, 1, 1)],
        [(1.0, 1, 1)],
        [{"until": 1, "easy": 1, "hrad": 1}],
        [{"easy": 1}, {"easy": 1}],
    ],
)
def test_bad_schedules_are_refused(rows):
    with pytest.raises(ValueError):
        read_schedule(rows)


# --- balance -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch_size", "each"), [(8, 2), (12, 3), (16, 4)])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_every_micro_batch_has_the_same_number_of_each_domain(batch_size, each, accumulation):
    drawer = sampler(batch_size=batch_size, accumulation=accumulation)
    for i in range(40):
        batches = drawer.step(i)
        assert len(batches) == accumulation
        for batch in batches:
            assert Counter(item.domain for item in batch) == dict.fromkeys(DOMAINS, each)


def test_a_batch_that_does_not_divide_is_refused_with_the_way_out():
    with pytest.raises(ValueError) as caught:
        sampler(batch_size=10)
    text = str(caught.value)
    for part in ("10", "4 domains", *DOMAINS, "8 or 12", "--domains a,b,c", "--balance carry"):
        assert part in text
    with pytest.raises(ValueError, match="5 domains"):
        sampler(items=items((*DOMAINS, "delivery")), batch_size=16)
    with pytest.raises(ValueError, match="3 processes"):
        sampler(num_processes=3)


def test_carry_keeps_totals_within_one():
    drawer = sampler(items=items((*DOMAINS, "delivery")), batch_size=8, balance="carry", max_steps=50)
    totals = Counter(dict.fromkeys((*DOMAINS, "delivery"), 0))
    for i in range(50):
        (batch,) = drawer.step(i)
        assert len(batch) == 8
        totals.update(item.domain for item in batch)
        assert max(totals.values()) - min(totals.values()) <= 1
    assert set(totals.values()) == {80}


def test_domain_weights_follow_the_same_rule():
    drawer = sampler(items=items(("a", "b")), batch_size=3, balance="carry", domain_weights={"a": 3, "b": 1})
    totals = Counter(item.domain for i in range(40) for item in drawer.step(i)[0])
    assert totals == {"a": 90, "b": 30}
    with pytest.raises(ValueError, match="domain_weights"):
        sampler(domain_weights={"ferry": 1})


# --- quotas --------------------------------------------------------------------------------------------------------


def bucket_counts(drawer, steps) -> dict[str, Counter]:
    counts: dict[str, Counter] = {domain: Counter() for domain in DOMAINS}
    for i in steps:
        for batch in drawer.step(i):
            for item in batch:
                counts[item.domain][drawer.buckets[item.key]] += 1
    return counts


def test_twenty_early_steps_give_exactly_the_quota():
    for counts in bucket_counts(sampler(max_steps=1000), range(20)).values():
        assert counts == {"easy": 28, "medium": 10, "hard": 2}


def test_delivered_counts_stay_within_one_of_what_was_asked():
    drawer = sampler(max_steps=300, batch_size=12)
    asked, given = Counter(), Counter()
    for i in range(300):
        for bucket, weight in weights_at(i, 300).items():
            asked[bucket] += 3 * Fraction(str(weight))
        given.update(drawer.buckets[item.key] for item in drawer.step(i)[0] if item.domain == "ferry")
        assert all(abs(given[bucket] - asked[bucket]) < 1 for bucket in asked)


def test_the_mix_changes_at_the_boundaries():
    drawer = sampler(max_steps=1000)
    shares = []
    for phase in (range(300), range(300, 700), range(700, 1000)):
        counts = sum(bucket_counts(drawer, phase).values(), Counter())
        shares.append([round(counts[b] / sum(counts.values()), 2) for b in ("easy", "medium", "hard")])
    assert shares == [[0.70, 0.25, 0.05], [0.40, 0.40, 0.20], [0.20, 0.40, 0.40]]


def test_random_draws_follow_the_weights_on_average():
    counts = sum(bucket_counts(sampler(draw="random", max_steps=10_000), range(1000)).values(), Counter())
    assert counts["easy"] / 8000 == pytest.approx(0.7, abs=0.02)


def test_an_empty_bucket_falls_back_and_is_counted():
    drawer = sampler(items=items(scores=(20, 20, 20, 30, 30)), schedule=[(1.0, 0, 0, 1)], max_steps=10)
    assert set(drawer.buckets.values()) == {"easy", "medium"}
    buckets = [drawer.buckets[item.key] for item in drawer.step(0)[0]]
    assert set(buckets) == {"medium"}
    row = drawer.metrics(0)
    assert row["curriculum/fallback/ferry"] == 2 and row["curriculum/fallback_frac"] == 1.0
    assert row["curriculum/requested/hard"] == 1.0 and row["curriculum/delivered/medium"] == 1.0


def test_a_fallback_builds_no_debt():
    few = [*items(("a",), scores=(20, 20, 20, 30, 30)), *items(("b",))]
    drawer = sampler(items=few, batch_size=2, max_steps=1000)
    counts = Counter(drawer.buckets[item.key] for i in range(100) for item in drawer.step(i)[0] if item.domain == "a")
    assert counts == {"easy": 70, "medium": 30}


# --- passes --------------------------------------------------------------------------------------------------------


def test_every_row_comes_once_before_any_repeats():
    drawer = sampler(schedule=None, max_steps=100)
    for _ in range(3):
        seen = Counter(item.key for i in range(25) for item in drawer.step(drawer._at.next_step)[0])
        assert seen == dict.fromkeys((item.key for item in items()), 1)


def test_no_problem_comes_twice_in_a_step_while_others_are_left():
    drawer = sampler(items=items(count=7), batch_size=12, accumulation=2, schedule=None)
    for i in range(50):
        drawn = [item.key for batch in drawer.step(i) for item in batch]
        assert len(set(drawn)) == len(drawn)


def test_a_domain_smaller_than_its_places_repeats_with_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        drawer = sampler(items=[*items(("a",), count=1), *items(("b",))], batch_size=4)
    assert "domain a has 1 problems for 2 places" in caplog.text
    assert Counter(item.domain for item in drawer.step(0)[0]) == {"a": 2, "b": 2}


def test_with_replacement_repeats_early():
    drawer = sampler(draw="random", replacement=True, schedule=None)
    drawn = [item.key for i in range(25) for item in drawer.step(i)[0]]
    assert len(set(drawn)) < len(drawn)


def test_pools_do_not_depend_on_the_order_of_the_list():
    forward, backward = sampler(), sampler(items=items()[::-1])
    assert [keys(forward.step(i)) for i in range(20)] == [keys(backward.step(i)) for i in range(20)]


def test_plain_epochs_are_a_pure_function_of_seed_epoch_and_position():
    plain = CurriculumSampler.from_config(items(), CurriculumConfig(problems_per_step=7), num_steps=100, seed=5)
    order: list[int] = []
    for epoch in range(3):
        indices = list(range(200))
        random.Random(seed_of("draw", 5, epoch)).shuffle(indices)
        order += indices
    for i in range(80):
        assert plain.epoch == pytest.approx(7 * i / 200)
        assert [item.key for item in plain.draw(i)] == [items()[index].key for index in order[7 * i : 7 * i + 7]]
    assert plain.redraw(79, plain.draw(79)[:3]) == [items()[index] for index in order[560:563]]


# --- order of calls ------------------------------------------------------------------------------------------------


def test_steps_come_in_order():
    drawer = sampler()
    with pytest.raises(ValueError, match="out of order"):
        drawer.step(1)
    drawer.step(0)
    with pytest.raises(ValueError, match="out of order"):
        drawer.step(0)
    first = drawer.draw(1)
    assert drawer.draw(1) == first
    drawer.draw(5)
    with pytest.raises(ValueError, match="goes back"):
        drawer.draw(4)


def test_past_the_end_the_last_phase_goes_on():
    drawer = sampler(max_steps=2)
    for i in range(6):
        drawer.step(i)
    assert drawer.metrics()["curriculum/requested/hard"] == 0.4


def test_redrawn_problems_are_of_the_same_domain_and_bucket():
    drawer = sampler()
    (batch,) = drawer.step(0)
    again = drawer.redraw(0, batch)
    assert [(i.domain, drawer.buckets[i.key]) for i in again] == [(i.domain, drawer.buckets[i.key]) for i in batch]
    assert not {item.key for item in again} & {item.key for item in batch}


# --- resume --------------------------------------------------------------------------------------------------------

SETTINGS = [
    {},
    {"draw": "random"},
    {"draw": "random", "replacement": True},
    {"balance": "carry", "batch_size": 6},
    {"balance": "none", "batch_size": 7},
    {"schedule": None, "balance": "none", "batch_size": 7},
    {"buckets": "rank", "accumulation": 2},
    {"adaptive": "variance"},
    {"adaptive": "gate"},
    {"cooldown_steps": 5},
]


def results(batch, i) -> list[Outcome]:
    rows = []
    for number, item in enumerate(batch):
        good = (i * 7 + number * 3) % 5 < 2
        rewards = (1.0, 0.0) if good else (0.0, 0.0)
        rows.append(Outcome(domain=item.domain, key=item.key, rewards=rewards, successes=(good, False)))
    return rows


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_resumed_run_draws_the_same_problems(settings):
    num_steps, cuts = 60, (1, 17, 41)
    whole, expected, states = sampler(max_steps=num_steps, **settings), [], {}
    for i in range(num_steps):
        batches = whole.step(i)
        expected.append(keys(batches))
        whole.update(i, results([item for batch in batches for item in batch], i))
        if i + 1 in cuts:
            states[i + 1] = json.dumps(whole.state_dict())
    for cut in cuts:
        resumed = sampler(max_steps=num_steps, **settings)
        resumed.load_state_dict(json.loads(states[cut]))
        for i in range(cut, num_steps):
            batches = resumed.step(i)
            assert keys(batches) == expected[i]
            resumed.update(i, results([item for batch in batches for item in batch], i))
        assert resumed.state_dict() == whole.state_dict()


def test_a_thousand_steps_resumed_anywhere_are_the_unbroken_run():
    whole = sampler(max_steps=1000)
    expected = [keys(whole.step(i)) for i in range(1000)]
    half = sampler(max_steps=1000)
    half.fast_forward(500)
    state = json.loads(json.dumps(half.state_dict()))
    resumed = sampler(max_steps=1000)
    resumed.load_state_dict(state)
    assert [keys(resumed.step(i)) for i in range(500, 1000)] == expected[500:]


def test_the_state_is_that_of_the_last_trained_step_not_of_prefetched_ones():
    ahead, lockstep = sampler(), sampler()
    for i in range(5):
        lockstep.update(i, results(lockstep.step(i)[0], i))
    batches = [ahead.step(i)[0] for i in range(9)]
    for i in range(5):
        ahead.update(i, results(batches[i], i))
    assert ahead.state_dict() == lockstep.state_dict()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"items": items(count=49)}, "another list of problems"),
        ({"seed": 1}, "seed=3407"),
        ({"batch_size": 4}, "batch_size=8"),
        ({"accumulation": 2}, "accumulation=1"),
        ({"balance": "carry"}, "balance='exact'"),
    ],
)
def test_a_state_of_another_run_is_refused(change, match):
    state = sampler().state_dict()
    with pytest.raises(ValueError, match=match):
        sampler(**change).load_state_dict(state)


@pytest.mark.parametrize("state", [{}, [], {"version": 99}, {"version": 1}, None])
def test_a_broken_state_is_refused(state):
    with pytest.raises(ValueError, match="curriculum state"):
        sampler().load_state_dict(state)


def test_another_length_of_the_run_warns(caplog):
    longer = sampler(max_steps=200)
    with caplog.at_level(logging.WARNING):
        longer.load_state_dict(sampler().state_dict())
    assert "200 steps, before 100" in caplog.text


# --- adaptive ------------------------------------------------------------------------------------------------------


def run_with_rates(drawer, rates, num_steps):
    """Feeds success rates by bucket; returns what was asked at each step for the first domain."""
    asked = []
    for i in range(num_steps):
        (batch,) = drawer.step(i)
        asked.append(drawer._last.weights["blocksworld"])
        outcomes = [
            Outcome(domain=item.domain, key=item.key, rewards=(0.0, 1.0), successes=(True,) * n + (False,) * (10 - n))
            for item in batch
            for n in [round(10 * rates[drawer.buckets[item.key]])]
        ]
        drawer.update(i, outcomes)
    return asked


def test_variance_shrinks_what_is_always_or_never_solved():
    drawer = sampler(adaptive="variance", max_steps=100_000)
    asked = run_with_rates(drawer, {"easy": 1.0, "medium": 0.5, "hard": 0.0}, 200)
    easy, medium, hard = map(float, asked[-1])
    assert sum(asked[-1]) == 1
    assert medium > 0.7 > 0.25 > easy > 0 and hard > 0


def test_a_gate_holds_a_phase_until_its_bucket_is_solved_or_the_limit_comes():
    stuck = run_with_rates(sampler(adaptive="gate"), {"easy": 0.1, "medium": 0.1, "hard": 0.0}, 100)
    phases = [[float(w) for w in asked] for asked in stuck]
    assert phases[44] == [0.7, 0.25, 0.05] and phases[45] == [0.4, 0.4, 0.2]
    assert phases[89] == [0.4, 0.4, 0.2] and phases[90] == [0.2, 0.4, 0.4]
    free = run_with_rates(sampler(adaptive="gate"), {"easy": 0.9, "medium": 0.9, "hard": 0.0}, 100)
    assert float(free[30][0]) == 0.4 and float(free[70][0]) == 0.2


def test_a_problem_without_spread_rests():
    drawer = sampler(items=items(("a",), count=12), batch_size=4, schedule=None, cooldown_steps=2)
    last_seen: dict[str, int] = {}
    for i in range(30):
        (batch,) = drawer.step(i)
        for item in batch:
            if item.key in last_seen:
                assert i - last_seen[item.key] == 3  # 12 problems, 4 a step: the others rest
            last_seen[item.key] = i
        drawer.update(i, [Outcome(domain="a", key=b.key, rewards=(0.0, 0.0), successes=(False, False)) for b in batch])


def test_where_all_rest_none_comes_twice_in_a_step():
    drawer = sampler(items=items(("a",), count=8), batch_size=4, schedule=None, cooldown_steps=9)
    for i in range(20):
        (batch,) = drawer.step(i)
        assert len({item.key for item in batch}) == 4
        drawer.update(i, [Outcome(domain="a", key=b.key, rewards=(0.0, 0.0), successes=(False, False)) for b in batch])


def test_adaptive_draws_need_the_results_before():
    drawer = sampler(adaptive="variance")
    drawer.step(0)
    with pytest.raises(ValueError, match="no results"):
        drawer.step(1)
    with pytest.raises(ValueError, match="fast-forward"):
        drawer.fast_forward(3)


# --- problems, groups, metrics -------------------------------------------------------------------------------------


def group(problem: Problem, rewards: tuple[float, ...]) -> Group:
    completion = Completion(text="x", tokens=(1,), logprobs=(0.0,), finish="stop", policy_step=0)
    scores = tuple(Score(reward=r, correct=r == 1, parts={"tier": r}, why="ok") for r in rewards)
    return Group(problem=problem, prompt_tokens=(1,), completions=(completion,) * len(rewards), scores=scores)


def problems() -> list[Problem]:
    return [
        Problem(id=f"{d}/{i}", task="t", messages=(Message(role="user", content="?"),), truth={}, domain=d,
                difficulty=i / 20, meta={"bucket": "easy"} if i == 19 else {})
        for d in ("a", "b") for i in range(20)
    ]  # fmt: skip


def test_problems_are_drawn_as_they_are_and_groups_observed():
    config = CurriculumConfig(problems_per_step=4, balance_domains=True, stages=tuple(USERS_SCHEDULE))
    drawer = CurriculumSampler.from_config(problems(), config, num_steps=10, seed=0)
    assert drawer.buckets["a/19"] == "easy", "a task may overrule the score"
    drawn = drawer.draw(0)
    assert all(isinstance(problem, Problem) for problem in drawn)
    drawer.observe(0, [group(problem, (1.0, 0.0) if problem.domain == "a" else (0.0, 0.0)) for problem in drawn])
    row = drawer.metrics()
    assert row["batch/domain_count/a"] == 2 and row["batch/domain_rate/a"] == 0.5
    assert row["reward/by_domain/a"] == 0.5 and row["success/by_domain/b"] == 0.0
    assert row["group/identical_rate"] == 1.0
    assert row["curriculum/fraction"] == 0.0 and row["curriculum/requested/easy"] == 0.7
    assert sum(row[f"curriculum/delivered/{bucket}"] for bucket in ("easy", "medium", "hard")) == 1
    assert not any(key.startswith("success/a/hard") for key in row), "a key without data is left out"
    assert "curriculum/requested/a/easy" not in row


def test_schedules_may_differ_by_domain():
    drawer = sampler(schedule={"ferry": [(1.0, 0, 0, 1)]})
    drawer.step(0)
    row = drawer.metrics()
    assert row["curriculum/requested/ferry/hard"] == 1.0 and row["curriculum/requested/spanner/hard"] == 0.05
    with pytest.raises(ValueError, match="not loaded"):
        sampler(schedule={"logistics": [(1.0, 1, 1, 1)]})


def test_updates_of_one_batch_are_balanced_each():
    config = CurriculumConfig(problems_per_step=8, balance_domains=True)
    drawer = CurriculumSampler.from_config(items(), config, num_steps=10, seed=0, updates_per_batch=2)
    drawn = drawer.draw(0)
    for part in (drawn[:4], drawn[4:]):
        assert Counter(item.domain for item in part) == dict.fromkeys(DOMAINS, 1)
    with pytest.raises(ValueError, match="not a multiple"):
        CurriculumSampler.from_config(items(), config, num_steps=10, seed=0, updates_per_batch=4)


def test_bad_problem_lists_are_refused():
    with pytest.raises(ValueError, match="no problems"):
        sampler(items=[])
    with pytest.raises(ValueError, match="twice"):
        sampler(items=[*items(), items()[0]])
    with pytest.raises(ValueError, match="edges"):
        sampler(buckets="fixed")


def test_the_work_of_a_step_does_not_grow_with_the_number_of_problems():
    def num_calls(count: int) -> int:
        drawer = sampler(batch_size=64, items=items(count=count), max_steps=1000)
        drawer.step(0)
        profile = cProfile.Profile()
        profile.enable()
        for i in range(1, 30):
            drawer.step(i)
        profile.disable()
        return sum(entry.callcount for entry in profile.getstats())

    assert num_calls(4000) < 1.5 * num_calls(500)


@pytest.mark.parametrize(
    "fields",
    [
        {"stages": [(0.5, 1, 1, 1)]},
        {"stages": [(1.0, 0, 0, 0)]},
        {"stages": []},
        {"stages": [(0.5, 1, 1, 1), (0.4, 1, 1, 1)]},
        {"quantiles": (0.8, 0.4)},
        {"adaptive": "gate"},
    ],
)
def test_the_config_refuses_what_the_sampler_would(fields):
    with pytest.raises(ValueError):
        CurriculumConfig(**fields)


def test_every_config_field_is_understood():
    for fields in (
        {"draw": "random"},
        {"draw": "with_replacement"},
        {"balance_domains": "carry", "buckets": "rank"},
        {"stages": USERS_SCHEDULE, "adaptive": "variance", "cooldown_steps": 2},
    ):
        drawer = CurriculumSampler.from_config(
            items(), CurriculumConfig(problems_per_step=8, **fields), num_steps=5, seed=0
        )
        assert len(drawer.draw(0)) == 8
