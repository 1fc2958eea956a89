"""Running a probe: samples training problems as training would, tries the scorer on known answers, and writes what can
be used afterwards: the problems worth training on, a warm-start set, an estimate of the cost.

The problems are drawn as the training draws them, never from the head of the data, which may be sorted. Sampling goes in
pieces as large as a training step, so that the measured speed is that of training.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradus import console, durable
from gradus.algo.presets import resolve_algorithm
from gradus.config import Config
from gradus.data.order import sampler_for
from gradus.data.prepare import Prepared
from gradus.data.prepare import rows as problem_rows
from gradus.data.problems import Problems, fingerprint
from gradus.evaluation.evaluate import rows
from gradus.evaluation.probe import Plan, Probe, ScorerCheck, read, signal
from gradus.evaluation.run import make_engine, scorer_hash
from gradus.evaluation.table import Row, Table
from gradus.exits import Code, Exit
from gradus.jsonl import to_lines
from gradus.rollout.engine import Engine, Sampling
from gradus.rollout.rollout import PromptTokens, Timing, roll_out
from gradus.seeds import seed_of
from gradus.tasks.base import Task
from gradus.types import Group, Problem

if TYPE_CHECKING:
    from gradus.policy.load import Policy

_SECONDS_PER_LINE = 15.0
_BELOW = 0.5
"""Problems solved less often give their right answers to a warm-start set."""


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
    """``count`` of the training problems, each at most once; all of them where there are fewer. With stages, those that
    the training draws first, as its first steps decide what comes after; else at random by the run's seed."""
    wanted = min(count, len(problems))
    if config.curriculum.stages is None:
        return random.Random(seed_of("probe", config.seed)).sample(list(problems), wanted)
    sampler, found, step = sampler_for(config, problems), dict[str, Problem](), 0
    while len(found) < wanted and step < config.num_steps:
        found |= {problem.id: problem for problem in sampler.draw(step)}
        step += 1
    return list(found.values())[:wanted]


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
    _check(wanted)
    chosen = chosen_problems(config, problems.train, wanted.num_problems)
    check = check_scorer(problems.tasks, chosen)
    groups = sampler.sample(chosen, wanted.num_samples, "probe")
    num_calls = len(groups) * wanted.num_samples
    check = replace(check, milliseconds_per_call=1e3 * sampler.timing.scoring_seconds / num_calls)
    plan = Plan(
        group_size=config.sampling.group_size,
        problems_per_step=config.curriculum.problems_per_step,
        max_tokens=config.sampling.max_tokens,
        limits=config.probe.limits,
        recipe=wanted.recipe,
    )
    own = {**settings, **_settings(config, chosen)}
    probe = read(rows(groups, buckets=buckets, tasks=problems.tasks), plan, check=check, settings=own)
    facts: dict[str, Any] = dict(probe.facts)
    facts["cost"] = cost(
        sampler,
        groups,
        mixed=facts["mixed"]["value"],
        time_update=time_update,
        price_per_hour=wanted.price_per_hour,
    )
    if wanted.keep is not None:
        facts["kept"] = _keep(sampler, groups, probe.rows, wanted)
    if wanted.sft_out is not None:
        facts["sft"] = _write_warm_start(groups, wanted.sft_out)
    return replace(probe, facts=facts)


def _check(wanted: Wanted) -> None:
    if (wanted.keep is None) != (wanted.out is None):
        raise ValueError("--keep LO HI and --out FILE belong together; give both, e.g. --keep 0.1 0.9 --out kept.jsonl")
    if wanted.keep is not None and not 0 <= wanted.keep[0] <= wanted.keep[1] <= 1:
        raise ValueError(
            f"--keep {wanted.keep[0]:g} {wanted.keep[1]:g} is no range of solve rates; e.g. --keep 0.1 0.9"
        )
    if wanted.recheck is not None and wanted.keep is None:
        raise ValueError(f"--recheck {wanted.recheck} samples the kept problems anew; give --keep LO HI --out FILE too")
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


# ---- cost ------------------------------------------------------------------------------------------------------------


def cost(
    sampler: Sampler,
    groups: Sequence[Group],
    *,
    mixed: float,
    time_update: Callable[[Sequence[Group]], float] | None,
    price_per_hour: float | None,
) -> dict[str, Any]:
    """Seconds of a training step by what was measured here, and of the whole run. Where flat groups are dropped and
    drawn again, sampling is counted 1 / ``mixed`` times, at most as often as ``sampling.max_redraws`` allows."""
    config, timing = sampler.config, sampler.timing
    keeps_flat = resolve_algorithm(config.algorithm).keep_flat_groups
    completions = [completion for group in groups for completion in group.completions]
    num_tokens = sum(len(completion.tokens) for completion in completions)
    per_step = config.curriculum.problems_per_step * config.sampling.group_size
    updates = config.optimizer.updates_per_batch * config.optimizer.passes_per_batch
    speed = num_tokens / max(timing.rollout_seconds, 1e-9)
    again = 1.0 if keeps_flat else min(1 / max(mixed, 1e-9), 1.0 + config.sampling.max_redraws)
    generation = again * per_step * num_tokens / len(completions) / speed / updates
    scoring = again * per_step * timing.scoring_seconds / len(completions) / updates
    update = None if time_update is None else time_update(_one_step(groups, config))
    seconds = config.num_steps * (generation + scoring + (update or 0.0))
    money = None if price_per_hour is None else price_per_hour * seconds / 3600
    return {
        "num_steps": config.num_steps,
        "tokens_per_second": speed,
        "generation_seconds": generation,
        "scoring_seconds": scoring,
        "drawn_again_factor": again,
        "update_seconds": update,
        "is_update_included": update is not None,
        "hours": seconds / 3600,
        "money": money,
    }


def _one_step(groups: Sequence[Group], config: Config) -> list[Group]:
    """As many groups as one optimizer step learns from, each cut to the group size of training."""
    size = config.sampling.group_size
    count = max(1, config.curriculum.problems_per_step // config.optimizer.updates_per_batch)
    repeated = [groups[index % len(groups)] for index in range(count)]
    return [replace(group, completions=group.completions[:size], scores=group.scores[:size]) for group in repeated]


# ---- files -----------------------------------------------------------------------------------------------------------


def _keep(sampler: Sampler, groups: Sequence[Group], all_rows: Sequence[Row], wanted: Wanted) -> dict[str, Any]:
    """Writes the problems whose solve rate lies inside the range. Their estimate by the same samples is biased: they
    were chosen by them; ``recheck`` draws fresh ones."""
    assert wanted.keep is not None
    assert wanted.out is not None
    low, high = wanted.keep
    kept = [group for group in groups if low <= group.solve_rate <= high]
    counts = Counter(group.problem.domain for group in kept)
    before = Counter(group.problem.domain for group in groups)
    empty = sorted(domain for domain in before if not counts[domain])
    if empty:
        raise Exit(
            Code.NOTHING_USABLE,
            f"no problem of {', '.join(empty)} has a solve rate in [{low:g}, {high:g}] "
            f"({', '.join(f'{domain}: {before[domain]} sampled' for domain in empty)}); nothing was written",
            hint="widen --keep, sample more problems (--num), or leave the domain out of the recipe",
        )
    ids = {group.problem.id for group in kept}
    group_size = sampler.config.sampling.group_size
    selected = signal(Table.of([row for row in all_rows if row["problem_id"] in ids]), group_size)
    facts: dict[str, Any] = {
        "file": str(wanted.out),
        "range": [low, high],
        "num_problems": len(kept),
        "by_domain": dict(sorted(counts.items())),
        "left_out": len(groups) - len(kept),
        "selected": selected,
    }
    if wanted.recheck is not None:
        if wanted.recheck < group_size:
            raise ValueError(f"--recheck {wanted.recheck} is below sampling.group_size={group_size}; use that or more")
        again = sampler.sample([group.problem for group in kept], wanted.recheck, "probe/recheck")
        facts["recheck"] = {"samples_per_problem": wanted.recheck, **signal(Table.of(rows(again)), group_size)}
    _write_kept(kept, wanted.out, sampler.tasks, facts)
    return facts


def _write_kept(kept: Sequence[Group], out: Path, tasks: Mapping[str, Task], facts: Mapping[str, Any]) -> None:
    """Rows as `gradus prepare` writes them, with what the probe saw; and a manifest beside them."""
    problems = [group.problem for group in kept]
    solutions = [tasks[problem.task].oracle(problem) for problem in problems]
    written = problem_rows(Prepared(problems=problems, solutions=solutions), "train", "gradus")
    for row, group in zip(written, kept, strict=True):
        row["probe"] = {"k": len(group.scores), "correct": sum(score.correct for score in group.scores)}
    durable.make_directory(out.parent)
    durable.write_text(out, to_lines(written))
    manifest = {"schema": "gradus.kept/1", "fingerprint": fingerprint(problems), **facts}
    durable.write_json(out.with_suffix(".manifest.json"), manifest)


def _write_warm_start(groups: Sequence[Group], out: Path) -> dict[str, Any]:
    """Right completions of problems that are solved in less than half of the samples, each text once."""
    written: list[dict[str, Any]] = []
    for group in groups:
        if group.solve_rate < _BELOW:
            texts = {c.text: None for c, score in zip(group.completions, group.scores, strict=True) if score.correct}
            messages = [{"role": message.role, "content": message.content} for message in group.problem.messages]
            written += [
                {"problem_id": group.problem.id, "task": group.problem.task, "messages": messages, "completion": text}
                for text in texts
            ]
    if not written:
        raise Exit(
            Code.NOTHING_USABLE,
            f"no right completion of a problem with a solve rate below {_BELOW:g}; {out} was not written",
            hint="warm up on the task's own worked answers: gradus sft RECIPE",
        )
    durable.make_directory(out.parent)
    durable.write_text(out, to_lines(written))
    return {"file": str(out), "rows": len(written), "problems": len({row["problem_id"] for row in written})}
