"""The verdict of a probe: what was measured → train, train with changes, warm up first, harder data, repair.

Rules V1 to V7 in order, the first that holds decides; cautions are added to any verdict. Pure functions of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from gradus.config import ProbeLimit
from gradus.evaluation.stats import Estimate
from gradus.evaluation.wording import percent
from gradus.exits import Code

Verdict = Literal["GO", "GO_WITH_CHANGES", "SFT_FIRST", "HARDER_DATA", "NO_GO"]
LIMITS: Mapping[ProbeLimit, float] = {
    "min_accuracy": 0.05,
    "max_accuracy": 0.95,
    "min_mixed": 0.10,
    "comfortable_mixed": 0.50,
    "first_mixed": 0.20,
    "max_truncated": 0.50,
    "max_error_frac": 0.05,
    "caution_accuracy_low": 0.10,
    "caution_accuracy_high": 0.80,
    "caution_truncated": 0.20,
    "caution_duplicates": 0.30,
}
"""Shares. ``probe.limits`` replaces them by name; docs/probe.md says what each decides."""
SMALL_GROUP, FEW_PROBLEMS = 8, 100
LEAST_KEPT = 0.02
"""Below this share of mixed groups a filter would keep too few problems to train on."""
_BY_ACCURACY: tuple[ProbeLimit, ...] = ("min_accuracy", "max_accuracy")
MEANING: Mapping[Verdict, str] = {
    "GO": "train: enough groups hold right and wrong answers, and only those teach",
    "GO_WITH_CHANGES": "training would work, but most groups teach nothing; change what is advised first",
    "SFT_FIRST": "the model almost never succeeds, so there is nothing to reinforce; warm it up first",
    "HARDER_DATA": "the model solves these problems already; there is nothing left to learn from them",
    "NO_GO": "do not train yet: what is measured is not the model",
}
"""For someone who sees a verdict for the first time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One thing to do. ``override`` is what to type: KEY=VALUE, or a command; empty where only a person can do it.

    Example:
        Advice(code="larger_groups", text="sample 16 completions per problem", override="sampling.group_size=16")
    """

    code: str
    text: str
    override: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a verdict is made from. Shares are those of groups of ``group_size``.

    Example:
        judge(Facts(accuracy=..., mixed=..., all_right=0.0, all_wrong=0.3, ...)).verdict  # "GO"
    """

    accuracy: Estimate
    mixed: Estimate
    all_right: float
    all_wrong: float
    group_size: int
    num_problems: int
    mixed_by_size: Mapping[int, float | None]
    """Mixed share at other group sizes; None where it was not measured."""
    truncated: float
    duplicates: float
    error_frac: float
    max_tokens: int
    p95_finished_tokens: float | None
    """Of completions that ended by themselves; None where none did."""
    faulty: Sequence[str] = ()
    """What is wrong with the scorer: each entry names its rows."""
    format_parts: Sequence[str] = ()
    """Reward parts that vary inside groups although correctness explains almost nothing of it."""
    recipe: str = "RECIPE"
    """As the user names it, for the commands in the advice."""
    limits: Mapping[ProbeLimit, float] = field(default_factory=dict)
    """Those that differ from ``LIMITS``."""

    def limit(self, name: ProbeLimit) -> float:
        """A limit by name."""
        return self.limits.get(name, LIMITS[name])


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict with its reasons, what to do, and what else to look at.

    Example:
        judge(facts).exit_code  # Code.DONE
    """

    verdict: Verdict
    rule: str
    reasons: tuple[str, ...]
    advice: tuple[Advice, ...]
    cautions: tuple[Advice, ...]

    @property
    def exit_code(self) -> Code:
        """3 where training as configured would be a waste."""
        return Code.DONE if self.verdict in ("GO", "GO_WITH_CHANGES") else Code.ANSWER_IS_NO

    def to_json(self) -> dict[str, Any]:
        """Verdict, reasons, advice (advice proper first, then cautions)."""
        return {
            "verdict": self.verdict,
            "rule": self.rule,
            "meaning": MEANING[self.verdict],
            "reasons": list(self.reasons),
            "advice": [_advice_json(one) for one in self.advice],
            "cautions": [_advice_json(one) for one in self.cautions],
        }


def _advice_json(advice: Advice) -> dict[str, str]:
    return {"code": advice.code, "text": advice.text, "override": advice.override}


def judge(facts: Facts) -> Judgement:
    """The first rule that holds."""
    verdict, name, reason, advice = _first_rule(facts)
    cautions = _cautions(facts, verdict, name)
    return Judgement(verdict=verdict, rule=name, reasons=(reason,), advice=tuple(advice), cautions=cautions)


def _first_rule(facts: Facts) -> _Found:
    for rule in (_broken, _truncated, _too_hard, _too_easy, _decided, _thin):
        found = rule(facts)
        if found is not None:
            return found
    return "GO", "V7", f"{percent(facts.mixed.value)} of groups of {facts.group_size} are mixed", []


_Found = tuple[Verdict, str, str, list[Advice]]
_MaybeFound = _Found | None


def _broken(facts: Facts) -> _MaybeFound:
    faults = list(facts.faulty)
    if facts.error_frac > facts.limit("max_error_frac"):
        faults.append(f"scoring failed for {percent(facts.error_frac)} of the completions")
    if not faults:
        return None
    advice = Advice(code="repair_scorer", text="repair the scorer", override="gradus tasks check")
    return "NO_GO", "V1", "; ".join(faults), [advice]


def _truncated(facts: Facts) -> _MaybeFound:
    if facts.truncated <= facts.limit("max_truncated"):
        return None
    reason = f"{percent(facts.truncated)} of the completions were cut at sampling.max_tokens={facts.max_tokens}"
    return "NO_GO", "V2", reason, [_more_tokens(facts), _SHORTER]


_SHORTER = Advice(code="shorter_answers", text="or ask for shorter answers in the prompt")


def _more_tokens(facts: Facts) -> Advice:
    """The 95th percentile of what finished × 1.2; twice the limit where that is no more than the limit itself, since
    the answers that were cut are longer than those that were not."""
    wanted = math.ceil(1.2 * (facts.p95_finished_tokens or 0))
    wanted = wanted if wanted > facts.max_tokens else 2 * facts.max_tokens
    return Advice(code="more_tokens", text="raise the token limit", override=f"sampling.max_tokens={wanted}")


def _too_hard(facts: Facts) -> _MaybeFound:
    accuracy, limit = _value(facts.accuracy), facts.limit("min_accuracy")
    if accuracy >= limit:
        return None
    reason = f"accuracy {percent(accuracy)} is below {percent(limit)}"
    return "SFT_FIRST", "V3", reason, [_warm_start(facts), _easier(), *_larger_groups(facts)]


def _too_easy(facts: Facts) -> _MaybeFound:
    accuracy, limit = _value(facts.accuracy), facts.limit("max_accuracy")
    if accuracy <= limit:
        return None
    reason = f"accuracy {percent(accuracy)} is above {percent(limit)}"
    return "HARDER_DATA", "V4", reason, [_harder(), *_filter(facts)]


def _decided(facts: Facts) -> _MaybeFound:
    high, limit = facts.mixed.high, facts.limit("min_mixed")
    if high is None or high >= limit:
        return None
    reason = (
        f"at most {percent(high)} of the groups are mixed: the mean of {percent(_value(facts.accuracy))} hides that "
        f"the problems are decided ({percent(facts.all_right)} all right, {percent(facts.all_wrong)} all wrong)"
    )
    if facts.all_right >= facts.all_wrong:
        return "HARDER_DATA", "V5", reason, [_harder(), *_filter(facts)]
    return "SFT_FIRST", "V5", reason, [_warm_start(facts), _easier()]


def _thin(facts: Facts) -> _MaybeFound:
    mixed, limit = _value(facts.mixed), facts.limit("comfortable_mixed")
    if mixed >= limit:
        return None
    reason = f"only {percent(mixed)} of groups of {facts.group_size} are mixed; {percent(limit)} is comfortable"
    advice = [*_filter(facts), *_larger_groups(facts)]
    if mixed > 0:
        text = f"drop groups without signal and draw again: {1 / mixed:.1f} times the sampling"
        advice.append(Advice(code="dynamic_sampling", text=text, override="algorithm.keep_flat_groups=false"))
    if mixed < facts.limit("first_mixed"):
        advice.insert(0, _harder() if facts.all_right >= facts.all_wrong else _warm_start(facts))
    return "GO_WITH_CHANGES", "V6", reason, advice


def _warm_start(facts: Facts) -> Advice:
    text = "first a supervised warm-up on worked answers, which makes a run to train from"
    return Advice(code="sft_first", text=text, override=f"gradus sft {facts.recipe}")


def _easier() -> Advice:
    return Advice(code="easier_data", text="or begin with easier problems (options of the task)")


def _harder() -> Advice:
    return Advice(code="harder_data", text="take a harder split or harder options of the task first")


def _filter(facts: Facts) -> list[Advice]:
    """Nothing where hardly a problem would be left."""
    if _value(facts.mixed) < LEAST_KEPT:
        return []
    command = f"gradus probe {facts.recipe} --keep 0.1 0.9 --out kept.jsonl"
    text = "train on the problems that are solved in 10 to 90 % of the samples"
    override = f"{command} && gradus train {facts.recipe} curriculum.problems_file=./kept.jsonl"
    return [Advice(code="filter", text=text, override=override)]


def _larger_groups(facts: Facts) -> list[Advice]:
    """The smallest larger size that was measured and is comfortable, else the largest; with the share of each. Nothing
    where no size would find a mixed group."""
    larger = {n: share for n, share in facts.mixed_by_size.items() if n > facts.group_size and share}
    if not larger:
        return []
    enough = [n for n, share in larger.items() if share >= facts.limit("comfortable_mixed")]
    size = min(enough) if enough else max(larger)
    shares = ", ".join(f"{n}: {percent(share)}" for n, share in sorted(larger.items()))
    text = f"larger groups; mixed at group size {shares}"
    return [Advice(code="larger_groups", text=text, override=f"sampling.group_size={size}")]


# ---- cautions --------------------------------------------------------------------------------------------------------


def _cautions(facts: Facts, verdict: Verdict, rule: str) -> tuple[Advice, ...]:
    found: list[Advice | None] = [
        _unusual_accuracy(facts),
        _somewhat_truncated(facts),
        _format_first(facts),
        _small_groups(facts),
        _duplicates(facts),
        _uncertain(facts, verdict, rule),
        _few_problems(facts),
    ]
    return tuple(one for one in found if one is not None)


def _unusual_accuracy(facts: Facts) -> Advice | None:
    accuracy = _value(facts.accuracy)
    low, high = facts.limit("caution_accuracy_low"), facts.limit("caution_accuracy_high")
    if accuracy < low:
        return Advice(code="low_accuracy", text=f"low accuracy: {percent(accuracy)}, below {percent(low)}")
    if accuracy > high:
        return Advice(code="high_accuracy", text=f"high accuracy: {percent(accuracy)}, above {percent(high)}")
    return None


def _somewhat_truncated(facts: Facts) -> Advice | None:
    if not facts.limit("caution_truncated") < facts.truncated <= facts.limit("max_truncated"):
        return None
    more = _more_tokens(facts)
    return Advice(code="truncated", text=f"{percent(facts.truncated)} of the answers were cut", override=more.override)


def _format_first(facts: Facts) -> Advice | None:
    if not facts.format_parts:
        return None
    names = ", ".join(facts.format_parts)
    text = f"inside groups the reward varies by {names} and not by correctness: the run will learn the format first"
    return Advice(code="format_only", text=text)


def _small_groups(facts: Facts) -> Advice | None:
    at_eight = facts.mixed_by_size.get(SMALL_GROUP)
    if facts.group_size >= SMALL_GROUP or at_eight is None:
        return None
    text = (
        f"small groups: of {facts.group_size} {percent(facts.mixed.value)} are mixed, of {SMALL_GROUP} it would be "
        f"{percent(at_eight)}"
    )
    return Advice(code="small_groups", text=text, override=f"sampling.group_size={SMALL_GROUP}")


def _duplicates(facts: Facts) -> Advice | None:
    if facts.duplicates <= facts.limit("caution_duplicates"):
        return None
    text = f"{percent(facts.duplicates)} of the completions repeat another of their group: too low a temperature?"
    return Advice(code="duplicates", text=text, override="sampling.temperature=1.0")


def _uncertain(facts: Facts, verdict: Verdict, rule: str) -> Advice | None:
    """A limit inside an interval beyond which the verdict would be another, and how many problems would settle it."""
    if rule in ("V1", "V2"):
        return None
    by_mixed: tuple[ProbeLimit, ...] = () if rule in ("V3", "V4") else ("min_mixed", "comfortable_mixed")
    needed: list[float | None] = []
    if _would_turn(facts, verdict, "accuracy"):
        needed += [_problems_needed(facts.accuracy, facts.limit(name), facts.num_problems) for name in _BY_ACCURACY]
    if _would_turn(facts, verdict, "mixed"):
        needed += [_problems_needed(facts.mixed, facts.limit(name), facts.num_problems) for name in by_mixed]
    counts = [count for count in needed if count is not None]
    if not counts:
        return None
    most = max(counts)
    text = "uncertain: the measured share lies on a limit; no number of problems would decide"
    if math.isfinite(most):
        text = f"uncertain: {most:.0f} problems would decide"
        return Advice(code="uncertain", text=text, override=f"--num {most:.0f}")
    return Advice(code="uncertain", text=text)


def _would_turn(facts: Facts, verdict: Verdict, which: str) -> bool:
    """Whether the verdict would be another if the truth were at an end of the interval of ``accuracy`` or ``mixed``."""
    measured: Estimate = getattr(facts, which)
    ends = [replace(measured, value=end, low=end, high=end) for end in (measured.low, measured.high) if end is not None]
    return any(_first_rule(replace(facts, **{which: end}))[0] != verdict for end in ends)


def _problems_needed(estimate: Estimate, limit: float, num_problems: int) -> float | None:
    """Problems after which the interval would no longer hold ``limit``, rounded up to 50; None if it does not now."""
    if estimate.low is None or estimate.high is None or not estimate.low < limit < estimate.high:
        return None
    distance = abs(_value(estimate) - limit)
    if distance < 1e-3:
        return math.inf
    return 50 * math.ceil(num_problems * ((estimate.high - estimate.low) / 2 / distance) ** 2 / 50)


def _few_problems(facts: Facts) -> Advice | None:
    if facts.num_problems >= FEW_PROBLEMS:
        return None
    text = f"only {facts.num_problems} problems: intervals of shares near 0 or 1 are too narrow below {FEW_PROBLEMS}"
    return Advice(code="few_problems", text=text, override=f"--num {2 * FEW_PROBLEMS}")


def _value(estimate: Estimate) -> float:
    assert estimate.value is not None, "a probe has problems"
    return estimate.value
