"""Rewards: tiers that never meet, progress that cannot be padded, and the profiles of the original script."""

from random import Random

import pytest

from gradus.tasks.planning import Problem, load_problem, validate
from gradus.tasks.planning.domains import FAMILIES
from gradus.tasks.planning.generate import Instance, constrained, instance, plan_text
from gradus.tasks.planning.reward import ORIGINAL_CLASS, PROFILES, Constants, PlanningReward, RewardResult
from gradus.tasks.planning.search import ground_ops
from gradus.tasks.planning.validate import STATUS_OF_CODE

SIZES = {
    "blocksworld": {"n": 4},
    "ferry": {"l": 4, "c": 2},
    "grippers": {"n": 2, "r": 3, "o": 2},
    "spanner": {"s": 3, "n": 2, "l": 3},
    "delivery": {"s": 3, "p": 1},
}
TIERS = {
    "malformed": (-1.0, -1.0),
    "constraint": (-0.90, -0.65),
    "precondition": (-0.60, -0.35),
    "goal": (-0.30, -0.05),
    "valid": (1.0, 1.0),
}
GOOD = "(unstack b1 b2)\n(stack b1 b3)\n(pickup b2)\n(stack b2 b1)"
TOWER = """(define (problem swap) (:domain blocksworld) (:objects b1 b2 b3)
  (:init (arm-empty) (on b1 b2) (on-table b2) (clear b1) (on-table b3) (clear b3))
  (:goal (and (on b2 b1) (on b1 b3))) (:constraints (always (not (on b3 b1)))))"""


def tower() -> Problem:
    return load_problem(FAMILIES["blocksworld"].text, TOWER)


def paid(plan: str, profile="default", ref_len: int | None = 4, **constants) -> float:
    return PlanningReward(profile, **constants)(tower(), plan, ref_len).total


def some_instances(count: int) -> list[Instance]:
    found = []
    for name, sizes in SIZES.items():
        for seed in range(count):
            made = instance(FAMILIES[name], sizes, seed)
            found.append(made)
            variant = constrained(made, 0, must_bind=False)
            if variant is not None:
                found.append(variant)
    return found


def steps_from(ops, facts: frozenset[int], rng: Random, num_steps: int):
    """Random applicable actions: (action, state after it)."""
    for _ in range(num_steps):
        applicable = [op for op in ops if op.condition.holds(facts, {})]
        if not applicable:  # the man of spanner stands at the gate
            return
        op = rng.choice(applicable)
        after = set(facts)
        op.apply(after, {})
        facts = frozenset(after)
        yield op.action, facts


def walk(made: Instance, rng: Random, num_steps: int) -> list[tuple[str, ...]]:
    problem = made.draft.problem
    return [action for action, _ in steps_from(ground_ops(problem), problem.world.start, rng, num_steps)]


# --- default -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "total"),
    [
        (GOOD, 1.0),
        ("", -1.0),
        ("I give up", -1.0),
        ("<think>" + GOOD, -1.0),
        ("(unstack b1 b2)\n(stack b1 b2)", -0.95),
        ("(unstack b1 b2)", -0.95),
        ("(unstack b1 b2)\n(putdown b1)", -0.30 + 0.25 * (0.9 * 0.5) / 2),
        ("(unstack b1 b2)\n(stack b1 b3)", -0.30 + 0.25 * (1 + 0.9 * 0.5) / 2),
        ("(unstack b1 b2)\n(stack b1 b3)\n(pickup b1)", -0.60 + 0.25 * (1 + 0.9 * 0.5) / 2),
        ("(pickup b2)", -0.60),
        ("(pickup b3)\n(stack b3 b1)", -0.90 + 0.25 * (0.9 * 0.25) / 2),
    ],
)
def test_the_default_rewards(plan, total):
    result = PlanningReward()(tower(), plan, 4)
    assert result.total == pytest.approx(total) and sum(result.parts.values()) == result.total
    assert result.code in STATUS_OF_CODE


def test_an_unknown_reference_length_has_a_default():
    assert paid("(unstack b1 b2)\n(putdown b1)", ref_len=None) == paid("(unstack b1 b2)\n(putdown b1)", ref_len=4)


def test_length_costs_only_when_asked():
    detour = "(pickup b3)\n(putdown b3)\n" + GOOD
    assert paid(detour) == 1.0
    assert paid(detour, length_weight=0.4) == pytest.approx(1 - 0.4 * 0.5)
    assert paid(GOOD, length_weight=0.4) == 1.0
    assert paid("(pickup b3)\n(putdown b3)\n" * 9 + GOOD, length_weight=0.4) == pytest.approx(0.6)
    assert paid(detour, length_weight=0.4, ref_len=None) == 1.0


def test_a_valid_empty_plan_is_paid_in_full():
    solved = load_problem(FAMILIES["blocksworld"].text, TOWER.replace("(and (on b2 b1) (on b1 b3))", "(on b1 b2)"))
    result = PlanningReward()(solved, "<think>nothing to do</think>", 1)
    assert (result.total, result.code) == (1.0, "ok_empty")


def test_tiers_never_meet_and_progress_stays_inside():
    rng, reward = Random(0), PlanningReward()
    seen = set()
    for made in some_instances(4):
        ref_len = len(made.reference.actions)
        for _ in range(12):
            actions = walk(made, rng, rng.randrange(8))
            text = plan_text(actions)
            if rng.random() < 0.3:
                text += rng.choice(["(fly)\n", text[:12], "("])
            if rng.random() < 0.2:
                text = plan_text(made.reference.actions)
            result = reward(made.draft.problem, text, ref_len)
            assert result.verdict is not None
            low, high = TIERS[
                "malformed" if result.verdict.empty and not result.verdict.valid else result.verdict.status
            ]
            assert low - 1e-12 <= result.total <= high + 1e-12 or result.total == -0.95
            assert sum(result.parts.values()) == result.total
            seen.add(result.verdict.status)
    assert seen == set(TIERS)


def test_a_loop_inserted_anywhere_never_pays():
    """A loop that goes back to an earlier state and returns by another way would, if loops were cut one by one."""
    rng, reward, num_loops = Random(1), PlanningReward(), 0
    for made in [made for made in some_instances(6) if made.plain_length is None]:
        problem, ref_len = made.draft.problem, len(made.reference.actions)
        ops = ground_ops(problem)
        walked = list(steps_from(ops, problem.world.start, rng, rng.randrange(1, 7)))
        base = [action for action, _ in walked]
        for place, facts in enumerate([problem.world.start, *(facts for _, facts in walked)]):
            for loop in loops_from(ops, facts, rng):
                num_loops += 1
                padded = base[:place] + loop + base[place:]
                assert (
                    reward(problem, plan_text(padded), ref_len).total <= reward(problem, plan_text(base), ref_len).total
                )
    assert num_loops > 200


def loops_from(ops, start: frozenset[int], rng: Random):
    """Random walks that come back to where they began."""
    for _ in range(10):
        actions = []
        for action, facts in steps_from(ops, start, rng, 8):
            actions.append(action)
            if facts == start:
                yield actions
                break


def test_more_new_goals_never_pay_less():
    reward = PlanningReward()
    verdict = validate(tower(), "(unstack b1 b2)", progress=True)
    for status in ("goal", "precondition", "constraint"):
        totals = []
        for goals in range(4):
            for path in (2, 9, 40):
                changed = type(verdict)(**{**verdict.to_json(), "status": status, "goals_satisfied": goals,
                                           "goals_total": 4, "path_length": path, "failed": ()})  # fmt: skip
                totals.append(reward.of_verdict(changed, 6).total)
        assert totals == sorted(totals)


def test_prose_changes_nothing_and_the_last_plan_counts():
    other = "(unstack b1 b2)\n(stack b1 b3)"
    for plan in (GOOD, other, "(pickup b2)"):
        alone = paid(plan)
        assert paid(f"Let me think.\n\nHere it is:\n{plan}\nThat should work.") == alone
        assert paid(f"{other}\nNo, wait.\n{plan}") == alone
        assert paid(f"<think>{other}</think>\n```\n{plan}\n```<|im_end|>") == alone


def test_what_is_no_text_is_malformed():
    for bad in (None, 3, ["(a)"]):
        result = PlanningReward()(tower(), bad, 4)
        assert (result.total, result.code, result.verdict) == (-1.0, "not_text", None)


def test_many_is_one_by_one():
    reward = PlanningReward()
    rows = [(tower(), plan, 4) for plan in (GOOD, "", "(pickup b2)", None)]
    assert reward.many(rows) == [reward(*row) for row in rows]


# --- other profiles ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "seed", "seed_ref", "seed_wide"),
    [
        (GOOD, 1.0, 1.0, 1.0),
        ("", -1.0, -1.0, -1.0),
        ("nothing", -1.0, -1.0, -1.0),
        ("(pickup b3)\n(stack b3 b1)\n(pickup b2)", -0.9 + 0.3 * 2 / 3, -0.9 + 0.3 * 2 / 4, -0.9 + 0.3 * 2 / 4),
        ("(pickup b2)", -0.3, -0.6 + 0.3 / 4, -0.6 + 0.3 / 4),
        ("(pickup b3)\n(pickup b2)", -0.3, -0.6 + 0.3 / 2, -0.6 + 0.3 / 2),
        ("(unstack b1 b2)", -0.3, -0.4, -0.8),
        ("(unstack b1 b2)\n(stack b1 b3)", -0.15, -0.25, -0.5),
    ],
)
def test_the_seed_profiles(plan, seed, seed_ref, seed_wide):
    assert paid(plan, "seed") == pytest.approx(seed)
    assert paid(plan, "seed_ref") == pytest.approx(seed_ref)
    assert paid(plan, "seed_wide") == pytest.approx(seed_wide)


def test_the_original_counted_one_step_more():
    plan = "(pickup b3)\n(stack b3 b1)\n(unstack b3 b1)\n(putdown b3)"
    assert paid(plan, "seed") == pytest.approx(-0.9 + 0.3 * 2 / 4)
    assert paid(plan, "seed", safety_step_offset=1) == pytest.approx(-0.9 + 0.3 * 3 / 4)


def test_binary():
    assert paid(GOOD, "binary") == 1.0
    assert {paid(plan, "binary") for plan in ("", "x", "(pickup b2)", "(pickup b3)")} == {0.0}
    assert paid("", "binary", fail_value=-1.0) == -1.0
    assert PlanningReward("binary", fail_value=-1.0).range == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("profile", "constants", "match"),
    [
        ("best", {}, "profile 'best'"),
        ("default", {"bonus": 1}, "constant 'bonus'"),
        ("default", {"allow_overlap": True}, "constant 'allow_overlap'"),
        ("default", {"length_weight": 0.6}, "length_weight"),
        ("default", {"goal": -0.4}, "'precondition' reaches"),
        ("default", {"idle": -0.85}, "'idle' reaches"),
        ("default", {"goal_span": -0.1}, "negative span"),
        ("default", {"valid": 0.4, "length_weight": 0.5}, "'goal' reaches"),
    ],
)
def test_bad_constants_are_refused(profile, constants, match):
    with pytest.raises(ValueError, match=match):
        PlanningReward(profile, **constants)


def test_every_status_has_its_original_name():
    assert set(ORIGINAL_CLASS) == set(STATUS_OF_CODE.values())
    assert all(isinstance(constants, Constants) for constants in PROFILES.values())
    assert isinstance(PlanningReward()(tower(), GOOD), RewardResult)
