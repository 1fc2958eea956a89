"""The rules V1 to V7 of a probe's verdict: which holds first, why, and what to do. Pure functions of numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from gradus.config import ProbeLimit
from gradus.evaluation.stats import Estimate
from gradus.evaluation.wording import percent

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
LEAST_KEPT = 0.02
"""Below this share of mixed groups a filter would keep too few problems to train on."""


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
    temperature: float | None = None
    """Of sampling; None where it is not known."""
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


Found = tuple[Verdict, str, str, list[Advice]]
"""Verdict, name of the rule, the reason, what to do."""
_MaybeFound = Found | None


def first_rule(facts: Facts) -> Found:
    """V1 to V6 in this order; V7 where none of them holds."""
    for rule in (_broken, _truncated, _too_hard, _too_easy, _decided, _thin):
        found = rule(facts)
        if found is not None:
            return found
    return "GO", "V7", f"{percent(facts.mixed.value)} of groups of {facts.group_size} are mixed", []


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
    return "NO_GO", "V2", reason, [more_tokens(facts), _SHORTER]


_SHORTER = Advice(code="shorter_answers", text="or ask for shorter answers in the prompt")


def more_tokens(facts: Facts) -> Advice:
    """A limit to type: the 95th percentile of what finished × 1.2; twice the limit where that is no more than the limit
    itself, since the answers that were cut are longer than those that were not."""
    wanted = math.ceil(1.2 * (facts.p95_finished_tokens or 0))
    wanted = wanted if wanted > facts.max_tokens else 2 * facts.max_tokens
    return Advice(code="more_tokens", text="raise the token limit", override=f"sampling.max_tokens={wanted}")


def _too_hard(facts: Facts) -> _MaybeFound:
    accuracy, limit = value_of(facts.accuracy), facts.limit("min_accuracy")
    if accuracy >= limit:
        return None
    reason = f"accuracy {percent(accuracy)} is below {percent(limit)}"
    return "SFT_FIRST", "V3", reason, [_warm_start(facts), _easier(), *_larger_groups(facts)]


def _too_easy(facts: Facts) -> _MaybeFound:
    accuracy, limit = value_of(facts.accuracy), facts.limit("max_accuracy")
    if accuracy <= limit:
        return None
    reason = f"accuracy {percent(accuracy)} is above {percent(limit)}"
    return "HARDER_DATA", "V4", reason, [_harder(), *_filter(facts)]


def _decided(facts: Facts) -> _MaybeFound:
    high, limit = facts.mixed.high, facts.limit("min_mixed")
    if high is None or high >= limit:
        return None
    reason = (
        f"at most {percent(high)} of the groups are mixed: the mean of {percent(value_of(facts.accuracy))} hides that "
        f"the problems are decided ({percent(facts.all_right)} all right, {percent(facts.all_wrong)} all wrong)"
    )
    if facts.all_right >= facts.all_wrong:
        return "HARDER_DATA", "V5", reason, [_harder(), *_filter(facts)]
    return "SFT_FIRST", "V5", reason, [_warm_start(facts), _easier()]


def _thin(facts: Facts) -> _MaybeFound:
    mixed, limit = value_of(facts.mixed), facts.limit("comfortable_mixed")
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
    if value_of(facts.mixed) < LEAST_KEPT:
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


def value_of(estimate: Estimate) -> float:
    """The measured share."""
    assert estimate.value is not None, "a probe has problems"
    return estimate.value
