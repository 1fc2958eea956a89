"""The order of training problems: the sampler that a config asks for, and what is said of it before and during a run.

Without any setting of ``curriculum`` the order is plain shuffled epochs: a pure function of (seed, epoch, position).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Literal, TypeVar

from gradus.config import Config
from gradus.data.curriculum import CurriculumSampler
from gradus.data.schedule import Phase
from gradus.data.strata import ItemLike
from gradus.difficulty import BUCKETS
from gradus.types import Problem

T = TypeVar("T", bound="ItemLike | Problem")
WORDS_EVERY_STEPS = 10
"""Steps between two lines about the mix, where it does not change before."""


def sampler_for(
    config: Config, problems: Sequence[T], *, kind: Literal["train", "sft"] = "train"
) -> CurriculumSampler[T]:
    """The sampler of a run. ValueError names the setting that does not fit the problems.

    Example:
        sampler_for(config, load_problems(config).train).draw(0)  # the problems of the first step
    """
    curriculum, updates = config.curriculum, config.optimizer.updates_per_batch
    if kind == "sft":
        if curriculum.adaptive != "off" or curriculum.cooldown_steps:
            name = "adaptive" if curriculum.adaptive != "off" else "cooldown_steps"
            value = getattr(curriculum, name)
            raise ValueError(f"curriculum.{name}={value} needs rewards, which a warm-up has not; leave it out")
        curriculum, updates = curriculum.model_copy(update={"problems_per_step": config.sft.batch_size}), 1
    if curriculum.balance_domains is True:
        name = "sft.batch_size" if kind == "sft" else "curriculum.problems_per_step"
        _check_balance(name, curriculum.problems_per_step, updates, problems)
    return CurriculumSampler.from_config(
        problems, curriculum, num_steps=config.num_steps, seed=config.seed, updates_per_batch=updates
    )


def batches_ahead(config: Config, problems: Sequence[T]) -> Iterator[tuple[int, list[T]]]:
    """What a run will draw, from its beginning: (0-based optimizer step before which it samples, problems). An adaptive
    curriculum is taken as it begins, without results."""
    fixed = config.curriculum.model_copy(update={"adaptive": "off", "cooldown_steps": 0})
    sampler = sampler_for(config.model_copy(update={"curriculum": fixed}), problems)
    every = config.optimizer.updates_per_batch * config.optimizer.passes_per_batch
    for step in range(0, config.num_steps, every):
        yield step, sampler.draw(step)


def _check_balance(name: str, problems_per_step: int, updates: int, problems: Sequence[ItemLike | Problem]) -> None:
    """Refuses a batch that the domains do not divide, in the words of the config."""
    domains = sorted({problem.domain for problem in problems})
    unit = len(domains) * updates
    if not domains or problems_per_step % unit == 0:
        return
    below, above = problems_per_step // unit * unit, -(-problems_per_step // unit) * unit
    times = f" times optimizer.updates_per_batch={updates}" if updates > 1 else ""
    raise ValueError(
        f"{name}={problems_per_step} is not a multiple of the {len(domains)} domains ({', '.join(domains)}){times}; "
        f"use {f'{below} or {above}' if below else above}, choose fewer domains, for example tasks.planning.domains "
        f"(the flag --domains a,b,c), or let the rest carry over with curriculum.balance_domains=carry "
        f"(the flag --balance carry)"
    )


def outlook(sampler: CurriculumSampler[T]) -> list[str]:
    """What a run will draw, as lines for its start: problems by domain and bucket, empty buckets and what stands in for
    them, shares asked for and shares that can be delivered, passes over the data. Nothing for plain epochs."""
    if not sampler.is_scheduled and sampler.balance == "none":
        return []
    counts, edges = sampler.strata.counts, sampler.strata.edges
    lines = []
    for domain in sampler.domains:
        sizes = ", ".join(f"{bucket} {counts[domain][bucket]}" for bucket in BUCKETS)
        easy, medium = edges[domain]
        lines.append(
            f"curriculum {domain}: {sum(counts[domain].values())} problems ({sizes}), cut at {easy:.3g} and {medium:.3g}"
        )
    places = sampler.batch_size * sampler.accumulation
    passes = sampler.max_steps * places / len(sampler.items)
    lines.append(
        f"curriculum: {places} problems per step, {passes:.2g} passes over the data in {sampler.max_steps} steps"
    )
    if not sampler.is_scheduled:
        return lines
    for domain in sampler.domains:
        for bucket in BUCKETS:
            if not counts[domain][bucket]:
                lines.append(
                    f"curriculum {domain}: no {bucket} problems; {sampler.stand_in(domain, bucket)} ones instead"
                )
    is_common = len(set(sampler.schedules.values())) == 1
    if is_common:
        phases = next(iter(sampler.schedules.values()))
        lines += [f"curriculum: {_asked(phase)}" for phase in phases]
    for domain, phases in sampler.schedules.items():
        for phase in phases:
            delivered = _delivered(sampler, domain, phase)
            if delivered != phase.weights:
                given = "/".join(f"{float(share):.0%}" for share in delivered)
                lines.append(f"curriculum {domain}: {_asked(phase)}, deliverable {given}")
            elif not is_common:
                lines.append(f"curriculum {domain}: {_asked(phase)}")
    return lines


def _asked(phase: Phase) -> str:
    weights = "/".join(f"{float(weight):.0%}" for weight in phase.weights)
    return f"easy/medium/hard {weights} up to {phase.until:.0%} of the run"


def _delivered(sampler: CurriculumSampler[T], domain: str, phase: Phase) -> tuple[Fraction, ...]:
    """What a domain gives where other buckets stand in for its empty ones."""
    given = dict.fromkeys(BUCKETS, Fraction(0))
    for bucket, weight in zip(BUCKETS, phase.weights, strict=True):
        given[sampler.stand_in(domain, bucket)] += weight
    return tuple(given.values())


def held_out_buckets(sampler: CurriculumSampler[T], problems: Sequence[Problem]) -> dict[str, str]:
    """Problem id to the bucket that the training problems' edges put it in; nothing without a schedule."""
    if not sampler.is_scheduled:
        return {}
    found = ((problem.id, sampler.strata.bucket_of(problem)) for problem in problems)
    return {name: bucket for name, bucket in found if bucket is not None}


def words(sampler: CurriculumSampler[T], step: int) -> str | None:
    """A line about the mix of the 0-based ``step`` that was drawn last: where it changed, and every ten steps."""
    mix, before = sampler.requested(), sampler.requested(before=True)
    if not mix or (step % WORDS_EVERY_STEPS and mix == before):
        return None
    head = f"Step {step}/{sampler.max_steps}: curriculum weights = "
    values = list(mix.values())
    if all(value == values[0] for value in values):
        return head + repr({bucket: round(weight, 4) for bucket, weight in values[0].items()})
    return head + repr({lane: {b: round(w, 4) for b, w in weights.items()} for lane, weights in mix.items()})
