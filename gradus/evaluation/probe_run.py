"""Running a probe: samples training problems as training would, tries the scorer on known answers, and has everything
read, judged and written (`probe.py`, `probe_cost.py`, `probe_files.py`).

The problems are drawn as the training draws them, never from the head of the data, which may be sorted. Sampling goes in
pieces as large as a training step, so that the measured speed is that of training.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradus import console
from gradus.config import Config
from gradus.data.order import batches_ahead
from gradus.data.problems import Problems, fingerprint
from gradus.evaluation.evaluate import rows
from gradus.evaluation.probe import Plan, Probe, ScorerCheck, read
from gradus.evaluation.probe_cost import cost
from gradus.evaluation.probe_files import keep_problems, write_warm_start
from gradus.evaluation.run import make_engine, scorer_hash
from gradus.rollout.engine import Engine, Sampling
from gradus.rollout.rollout import PromptTokens, Timing, roll_out
from gradus.seeds import seed_of
from gradus.tasks.base import Task
from gradus.types import Group, Problem

if TYPE_CHECKING:
    from gradus.policy.load import Policy

_SECONDS_PER_LINE = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked of a probe.

    Example:
        Wanted(num_problems=200, num_samples=16, keep=(0.1, 0.9), out=Path("kept.jsonl"))
    """

    num_problems: int
    num_samples: int
    keep: tuple[float, float] | None = None
    """Lowest and highest solve rate of the problems that are kept."""
    out: Path | None = None
    """File for the kept problems; its manifest goes beside it."""
    recheck: int | None = None
    """Fresh samples of each kept problem."""
    sft_out: Path | None = None
    """File for right answers to problems that are rarely solved."""
    price_per_hour: float | None = None
    recipe: str = "RECIPE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampler:
    """An engine with what it needs, and the clock.

    Example:
        Sampler.of(config, policy, problems.tasks).sample(problems, 16, "probe")
    """

    engine: Engine
    prompt_tokens: PromptTokens
    tasks: Mapping[str, Task]
    config: Config
    poll: Callable[[], None]
    timing: Timing

    @classmethod
    def of(
        cls, config: Config, policy: Policy, tasks: Mapping[str, Task], poll: Callable[[], None] = lambda: None
    ) -> Sampler:
        """The engine of the config with this policy."""
        engine = make_engine(config, policy, tasks)
        prompt_tokens = policy.prompt_tokens
        return cls(engine=engine, prompt_tokens=prompt_tokens, tasks=tasks, config=config, poll=poll, timing=Timing())

    def sample(self, problems: Sequence[Problem], num_samples: int, stream: str) -> list[Group]:
        """``num_samples`` completions of each problem, in pieces of one training step; ``stream`` names the seeds."""
        config = self.config
        per_step = config.curriculum.problems_per_step * config.sampling.group_size
        size = max(1, per_step // num_samples)
        sampling = Sampling(temperature=config.sampling.temperature, max_tokens=config.sampling.max_tokens)
        groups: list[Group] = []
        said = time.monotonic()
        for first in range(0, len(problems), size):
            groups += roll_out(
                self.engine,
                self.tasks,
                problems[first : first + size],
                prompt_tokens=self.prompt_tokens,
                seeds=lambda problem: tuple(
                    seed_of(stream, config.seed, problem.id, index) for index in range(num_samples)
                ),
                sampling=sampling,
                policy_step=0,
                poll=self.poll,
                timing=self.timing,
            )
            if time.monotonic() - said > _SECONDS_PER_LINE:
                console.info(f"sampled {len(groups)} of {len(problems)} problems")
                said = time.monotonic()
        return groups


def chosen_problems(config: Config, problems: Sequence[Problem], count: int) -> list[Problem]:
    """``count`` of the training problems, each at most once; all of them where there are fewer: those that the training
    draws first, so that its first steps see the very problems of the forecast. Where the whole run draws fewer, the
    rest is drawn at random by its seed."""
    wanted, drawn = min(count, len(problems)), dict[str, Problem]()
    for _, batch in batches_ahead(config, problems):
        if len(drawn) >= wanted:
            break
        drawn |= {problem.id: problem for problem in batch}
    others = [problem for problem in problems if problem.id not in drawn]
    missing = max(0, wanted - len(drawn))
    return [*drawn.values(), *random.Random(seed_of("probe", config.seed)).sample(others, missing)][:wanted]


def run_probe(
    sampler: Sampler,
    problems: Problems,
    wanted: Wanted,
    *,
    settings: Mapping[str, Any],
    time_update: Callable[[Sequence[Group]], float] | None = None,
    buckets: Mapping[str, str] | None = None,
) -> Probe:
    """Samples, judges, and writes the files that were asked for.

    Args:
        settings: facts about the model and where it came from.
        time_update: seconds of one real forward and backward pass over the groups of one step; None leaves them out.
        buckets: problem id to difficulty bucket.

    Raises:
        ValueError: ``keep`` is no range, or a file exists already. Exit: no problem, or no problem of a domain, is kept.
    """
    config = sampler.config
    _check(wanted, config.sampling.group_size)
    chosen = chosen_problems(config, problems.train, wanted.num_problems)
    check = check_scorer(problems.tasks, chosen)
    groups = sampler.sample(chosen, wanted.num_samples, "probe")
    num_calls = len(groups) * wanted.num_samples
    check = replace(check, milliseconds_per_call=1e3 * sampler.timing.scoring_seconds / num_calls)
    plan = Plan(
        group_size=config.sampling.group_size,
        problems_per_step=config.curriculum.problems_per_step,
        max_tokens=config.sampling.max_tokens,
        temperature=config.sampling.temperature,
        limits=config.probe.limits,
        recipe=wanted.recipe,
    )
    own = {**settings, **_settings(config, chosen)}
    probe = read(rows(groups, buckets=buckets, tasks=problems.tasks), plan, check=check, settings=own)
    facts: dict[str, Any] = dict(probe.facts)
    facts["cost"] = cost(
        config,
        sampler.timing,
        groups,
        mixed=facts["mixed"]["value"],
        time_update=time_update,
        price_per_hour=wanted.price_per_hour,
    )
    if wanted.keep is not None and wanted.out is not None:
        facts["kept"] = keep_problems(
            groups,
            probe.rows,
            sampler.tasks,
            between=wanted.keep,
            out=wanted.out,
            group_size=config.sampling.group_size,
            again=_recheck(sampler, wanted.recheck),
        )
    if wanted.sft_out is not None:
        facts["sft"] = write_warm_start(groups, wanted.sft_out)
    return replace(probe, facts=facts)


def _recheck(sampler: Sampler, num_samples: int | None) -> Callable[[Sequence[Problem]], Sequence[Group]] | None:
    """Fresh samples of chosen problems; None where none are asked for."""
    return None if num_samples is None else lambda problems: sampler.sample(problems, num_samples, "probe/recheck")


def _check(wanted: Wanted, group_size: int) -> None:
    if (wanted.keep is None) != (wanted.out is None):
        raise ValueError("--keep LO HI and --out FILE belong together; give both, e.g. --keep 0.1 0.9 --out kept.jsonl")
    if wanted.keep is not None and not 0 <= wanted.keep[0] <= wanted.keep[1] <= 1:
        raise ValueError(
            f"--keep {wanted.keep[0]:g} {wanted.keep[1]:g} is no range of solve rates; e.g. --keep 0.1 0.9"
        )
    if wanted.recheck is not None and wanted.keep is None:
        raise ValueError(f"--recheck {wanted.recheck} samples the kept problems anew; give --keep LO HI --out FILE too")
    if wanted.recheck is not None and wanted.recheck < group_size:
        raise ValueError(f"--recheck {wanted.recheck} is below sampling.group_size={group_size}; use that or more")
    for file in (wanted.out, wanted.sft_out):
        if file is not None and file.exists():
            raise ValueError(f"{file} exists already; give another file, or remove it")


def _settings(config: Config, chosen: Sequence[Problem]) -> dict[str, Any]:
    return {
        "task": " + ".join(config.tasks),
        "temperature": config.sampling.temperature,
        "top_p": 1.0,
        "max_tokens": config.sampling.max_tokens,
        "group_size": config.sampling.group_size,
        "seed": config.seed,
        "engine": config.engine.name,
        "problems_sha256": fingerprint(chosen),
        "scorer_sha256": scorer_hash(config),
        "limits": dict(config.probe.limits),
    }


def template_hash(policy: Policy) -> str:
    """SHA-256 of the chat template."""
    return hashlib.sha256(str(policy.tokenizer.chat_template).encode()).hexdigest()


def check_scorer(tasks: Mapping[str, Task], problems: Sequence[Problem]) -> ScorerCheck:
    """Tries the worked answer and an empty one on every problem."""
    gold_wrong, empty_paid = [], []
    for problem in problems:
        task = tasks[problem.task]
        lowest, highest = task.reward_range
        try:
            gold = task.score(problem, task.oracle(problem))
            is_right = gold.correct and gold.reward >= highest
        except ValueError:  # a problem without solution
            is_right = False
        if not is_right:
            gold_wrong.append(problem.id)
        if task.score(problem, "").reward > lowest:
            empty_paid.append(problem.id)
    return ScorerCheck(gold_wrong=tuple(gold_wrong), empty_paid=tuple(empty_paid))
