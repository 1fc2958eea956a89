"""Reward of a plan: disjoint tiers by what went wrong, and inside a tier progress towards the goal.

``default`` measures progress against the reference plan and the state at the start: only goals that were not true
before count, a little is paid for a path (with every loop cut out) on the way to the next one, and padding or wandering
pays nothing. The ``seed`` profiles repeat the rewards of the Safety-gen training script, for comparison with its runs.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gradus.tasks.planning.limits import Limits
from gradus.tasks.planning.pddl import Problem
from gradus.tasks.planning.plan import parse_plan
from gradus.tasks.planning.validate import Status, Verdict, validate

Profile = Literal["default", "seed", "seed_ref", "seed_wide", "binary"]

ORIGINAL_CLASS: Mapping[Status, str] = {
    "valid": "success_plans",
    "malformed": "plan_format_error",
    "goal": "goal_not_satisfied",
    "precondition": "precondition_violation",
    "constraint": "safety_constraints_violation",
}
"""Statuses under the names that the Safety-gen logs use."""
SHARE_OF_PATH = 0.9
"""Part of the next goal that a path as long as the reference plan is worth; below 1, so that a goal is worth more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """Numbers of a profile. A tier pays between its ``low`` and ``low + span``."""

    valid: float = 1.0
    goal: float = -0.30
    goal_span: float = 0.25
    precondition: float = -0.60
    precondition_span: float = 0.25
    constraint: float = -0.90
    constraint_span: float = 0.25
    idle: float = -0.95
    malformed: float = -1.0
    length_weight: float = 0.0
    """What a valid plan of twice the reference length loses; in [0, 0.5]."""
    by_reference: bool = True
    """``seed`` profiles: relate the failing step to the reference length, not to the length of the plan itself."""
    safety_step_offset: int = 0
    """``seed`` profiles: added to the state index of a violation; 1 repeats the original's counting."""
    fail_value: float = 0.0
    """``binary``: what everything but a valid plan gets."""
    allow_overlap: bool = False
    """Whether tiers may touch; only in the ``seed`` profiles, where a worse failure could pay more."""


_SEED = Constants(
    goal=-0.3, goal_span=0.3, precondition=-0.6, precondition_span=0.3, constraint=-0.9, constraint_span=0.3,
    by_reference=False, allow_overlap=True,
)  # fmt: skip
PROFILES: Mapping[Profile, Constants] = {
    "default": Constants(),
    "seed": _SEED,
    "seed_ref": dataclasses.replace(_SEED, goal=-0.4, by_reference=True),
    "seed_wide": dataclasses.replace(_SEED, goal=-0.8, goal_span=0.6, by_reference=True),
    "binary": Constants(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardResult:
    """A reward and where it comes from.

    Example:
        RewardResult(total=-0.55, parts={"tier": -0.6, "progress": 0.05, "length": 0.0}, code="not_applicable",
                     verdict=verdict)
    """

    total: float
    parts: Mapping[str, float]
    """``tier``, ``progress``, ``length``; they sum to ``total``."""
    code: str
    """Of the verdict; ``not_text`` where the completion was no text."""
    verdict: Verdict | None


class PlanningReward:
    """A profile with its constants, ready to score.

    Example:
        PlanningReward("default", length_weight=0.2)(problem, "(pickup b1)\\n(stack b1 b2)", 2).total  # 1.0
    """

    def __init__(self, profile: Profile = "default", **constants: Any) -> None:
        """ValueError for an unknown profile or constant, and for tiers that meet."""
        if profile not in PROFILES:
            raise ValueError(f"reward profile {profile!r} does not exist; use one of {', '.join(PROFILES)}")
        known = {field.name for field in dataclasses.fields(Constants)} - {"allow_overlap", "by_reference"}
        if unknown := sorted(set(constants) - known):
            raise ValueError(f"reward constant {unknown[0]!r} does not exist; there are {', '.join(sorted(known))}")
        self.profile: Profile = profile
        self.constants = dataclasses.replace(PROFILES[profile], **constants)
        self._limits = Limits.training()
        if not 0 <= self.constants.length_weight <= 0.5:
            raise ValueError(f"length_weight={self.constants.length_weight} must be in [0, 0.5]")
        if not self.constants.allow_overlap:
            _check_tiers(self.constants)

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest reward."""
        c = self.constants
        return (c.fail_value, 1.0) if self.profile == "binary" else (c.malformed, c.valid)

    def __call__(self, problem: Problem, completion: object, ref_len: int | None = None) -> RewardResult:
        """Scores a completion, read leniently with its reasoning put aside. Pure and total."""
        if not isinstance(completion, (str, bytes)):
            return self._result("malformed", self.constants.malformed, 0.0, 0.0, "not_text", None)
        plan = parse_plan(completion, "lenient", "strip", self._limits)
        verdict = validate(problem, plan, progress=self.profile == "default")
        return self.of_verdict(verdict, ref_len)

    def many(self, rows: Iterable[tuple[Problem, object, int | None]]) -> list[RewardResult]:
        """Scores (problem, completion, reference length) triples, such as those of a whole step."""
        return [self(problem, completion, ref_len) for problem, completion, ref_len in rows]

    def of_verdict(self, verdict: Verdict, ref_len: int | None = None) -> RewardResult:
        """Scores a verdict; the ``default`` profile needs one that was made with ``progress=True``."""
        c, status = self.constants, verdict.status
        if status == "valid":
            over = min(1.0, max(0.0, verdict.plan_length / ref_len - 1)) if ref_len else 0.0
            length = -c.length_weight * over if self.profile != "binary" else 0.0
            return self._result(status, c.valid, 0.0, length, verdict.code, verdict)
        if status == "malformed" or verdict.empty:
            return self._result(status, c.malformed, 0.0, 0.0, verdict.code, verdict)
        low, span = {
            "goal": (c.goal, c.goal_span),
            "precondition": (c.precondition, c.precondition_span),
            "constraint": (c.constraint, c.constraint_span),
        }[status]
        if self.profile.startswith("seed"):
            return self._result(status, low, span * self._seed_progress(verdict, ref_len), 0.0, verdict.code, verdict)
        if self.profile == "default":
            progress, is_idle = _progress(verdict, ref_len)
            if is_idle:
                return self._result(status, c.idle, 0.0, 0.0, verdict.code, verdict)
            return self._result(status, low, span * progress, 0.0, verdict.code, verdict)
        return self._result(status, low, 0.0, 0.0, verdict.code, verdict)

    def _seed_progress(self, verdict: Verdict, ref_len: int | None) -> float:
        if verdict.status == "goal":
            return verdict.goals_satisfied / verdict.goals_total
        length = ref_len if self.constants.by_reference and ref_len else verdict.plan_length
        step = (verdict.step or 0) + (self.constants.safety_step_offset if verdict.status == "constraint" else 0)
        return min(1.0, step / length)

    def _result(
        self, status: Status, tier: float, progress: float, length: float, code: str, verdict: Verdict | None
    ) -> RewardResult:
        if self.profile == "binary":
            tier, progress = (1.0 if status == "valid" else self.constants.fail_value), 0.0
        parts = {"tier": tier, "progress": progress, "length": length}
        return RewardResult(total=tier + progress + length, parts=parts, code=code, verdict=verdict)


def _progress(verdict: Verdict, ref_len: int | None) -> tuple[float, bool]:
    """Progress in [0, 1] of a plan that failed, and whether it did next to nothing.

    With K goals unmet at the start, j of them newly met in the last good state, u actions of path without loops and a
    reference of R actions: min(1, (j + 0.9 min(1, u / R)) / K). Idle: legal, j = 0 and u <= R / 4.
    """
    assert verdict.path_length is not None, "the default profile needs progress=True"
    num_unmet = verdict.goals_total - verdict.goals_initial
    reference = max(1, ref_len) if ref_len is not None else max(4, 2 * num_unmet)
    newly = max(0, verdict.goals_satisfied - verdict.goals_initial)
    is_idle = verdict.status == "goal" and newly == 0 and verdict.path_length <= reference / 4
    if num_unmet == 0:
        return 0.0, is_idle
    return min(1.0, (newly + SHARE_OF_PATH * min(1.0, verdict.path_length / reference)) / num_unmet), is_idle


def _check_tiers(c: Constants) -> None:
    """Tiers never meet: whatever happens inside one, a better class of failure pays more."""
    bounds = [
        ("malformed", c.malformed, c.malformed),
        ("idle", c.idle, c.idle),
        ("constraint", c.constraint, c.constraint + c.constraint_span),
        ("precondition", c.precondition, c.precondition + c.precondition_span),
        ("goal", c.goal, c.goal + c.goal_span),
        ("valid", c.valid - c.length_weight, c.valid),
    ]
    for (lower, _, top), (upper, bottom, _) in itertools.pairwise(bounds):
        if not top < bottom:
            raise ValueError(f"tier {lower!r} reaches {top:g}, tier {upper!r} begins at {bottom:g}; move them apart")
    for name, low, top in bounds:
        if top < low:
            raise ValueError(f"tier {name!r} has a negative span; make it 0 or more")
