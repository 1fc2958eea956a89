"""THE loop: draw problems, sample and score completions, learn from them, record, evaluate, save. Read this first.

One step can be followed through: this file → `rollout/rollout.py` (problems → groups) → `train/batch.py` (groups →
Batch) → `train/update.py` (one optimizer step) → `policy/logprobs.py` (log-probabilities) → `algo/loss.py` (the loss).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from torch import nn

from gradus import console
from gradus.algo.presets import Algorithm, resolve_algorithm
from gradus.data.order import held_out_buckets, words
from gradus.data.problems import Problems, held_out_problems, load_problems
from gradus.evaluation.run import Evaluator, make_engine
from gradus.exits import Code, Exit
from gradus.policy.load import load_policy
from gradus.rollout.engine import Sampling
from gradus.rollout.rollout import Timing, roll_out, sample_seeds
from gradus.train.address import at_address
from gradus.train.batch import Batch, collate
from gradus.train.fitting import Fitting
from gradus.train.limits import check_space
from gradus.train.metrics import rollout_metrics
from gradus.train.records import rollout_rows
from gradus.train.session import RollBack, Session, opened
from gradus.train.start import Start
from gradus.train.update import Settings, update
from gradus.types import Group, Problem


def train(start: Start, problems: Problems | None = None) -> dict[str, Any]:
    """Trains ``start`` to its last step and returns a summary. Exit carries every other end."""
    config = start.resolved.config
    with opened(start, problems or load_problems(config)) as session:
        check_space(session)
        algorithm = resolve_algorithm(config.algorithm)
        reference = reference_of(session, algorithm)
        evaluator = evaluator_of(session)
        evaluate_owed(session, evaluator)
        while session.state.step < config.num_steps:
            try:
                take_step(session, evaluator, algorithm, reference)
            except RollBack:
                session.go_back()
                evaluate_owed(session, evaluator)
        return {**session.summary(), "comparison": evaluator.against_base()}


def take_step(session: Session, evaluator: Evaluator, algorithm: Algorithm, reference: nn.Module | None) -> None:
    """One optimizer step, with new rollouts where the last ones are used up."""
    session.poll()
    started = time.monotonic()
    state, config = session.state, session.config
    row: dict[str, Any] = {"epoch": state.curriculum.epoch}
    if not state.pending:
        timing = Timing()
        groups, facts = sample_groups(session, algorithm, timing)
        row |= facts | rollout_metrics(groups, session.problems.tasks) | state.curriculum.metrics(state.step)
        row["time/rollout_seconds"], row["time/scoring_seconds"] = timing.rollout_seconds, timing.scoring_seconds
        num_tokens = sum(len(completion.tokens) for group in groups for completion in group.completions)
        row["time/tokens_per_second"] = num_tokens / max(timing.rollout_seconds, 1e-9)
        state.counters["num_tokens"] += num_tokens + sum(
            len(group.prompt_tokens) * len(group.completions) for group in groups
        )
        stop_on_scoring_errors(session, row["scoring/error_frac"])
        state.pending = plan_updates(groups, session, algorithm)
    update_started = time.monotonic()
    settings = Settings(
        algorithm=algorithm,
        temperature=config.sampling.temperature,
        learning_rate=session.learning_rate(),
        microbatch_tokens=config.optimizer.microbatch_tokens,
        microbatch_size=config.optimizer.microbatch_size,
        seed_parts=(config.seed, state.replay, state.step + 1, len(state.pending)),
    )
    fitting = Fitting(session, state.pending[0])
    row |= update(
        state.policy,
        state.optimizer,
        state.pending[0],
        fitting.begin(settings),
        reference=reference,
        poll=session.stop.poll,
        shrink=fitting.shrink,
        ranks=session.ranks,
    )
    row["time/update_seconds"] = time.monotonic() - update_started
    session.count_skip(row)
    del state.pending[0]
    session.finish_step(row, seconds=time.monotonic() - started, evaluate=lambda: evaluate_now(session, evaluator))


def evaluator_of(session: Session) -> Evaluator:
    """What evaluates this run: its held-out problems, looked for among the training ones."""
    config, tasks = session.config, session.problems.tasks
    held_out = held_out_problems(config, tasks)
    buckets = held_out_buckets(session.state.curriculum, held_out)
    return Evaluator(
        session.run, config, held_out, tasks, train=session.problems.train, buckets=buckets, ranks=session.ranks
    )


def evaluate_now(session: Session, evaluator: Evaluator) -> dict[str, float]:
    """Metrics of the current policy on the held-out problems; remembers the best step."""
    state = session.state
    engine = make_engine(session.config, session.sampler, session.problems.tasks)
    row = evaluator.evaluate(engine, state.policy, step=state.step, poll=session.stop.poll)
    if (value := evaluator.better(row, state.counters["best_value"])) is not None:
        state.counters["best_step"], state.counters["best_value"] = state.step, value
    return row


def evaluate_owed(session: Session, evaluator: Evaluator) -> None:
    """The base model before the first step; and the evaluation that a signal cut off, for the row that waits for it."""
    state = session.state
    row = {"step": 0} if state.step == 0 else state.counters["unrecorded"]
    if row is not None:
        session.record_late({**row, **evaluate_now(session, evaluator)})


def sample_groups(session: Session, algorithm: Algorithm, timing: Timing) -> tuple[list[Group], dict[str, float]]:
    """The groups of the next batch, which the curriculum learns of. Where flat groups are dropped, other problems of the
    same domain and bucket take their places, at most ``sampling.max_redraws`` times; what is missing then is counted."""
    state, config = session.state, session.config
    repeats: Counter[str] = Counter()
    problems = state.curriculum.draw(state.step)
    if (line := words(state.curriculum, state.step)) is not None:
        session.info(line)
    groups = sample(session, problems, repeats, timing)
    seen = list(groups)
    for _ in range(0 if algorithm.keep_flat_groups else config.sampling.max_redraws):
        flat = [place for place, group in enumerate(groups) if not group.has_signal]
        if not flat:
            break
        others = state.curriculum.redraw(state.step, [groups[place].problem for place in flat])
        for place, group in zip(flat, sample(session, others, repeats, timing), strict=True):
            groups[place] = group
            seen.append(group)
    state.curriculum.observe(state.step, seen)
    if algorithm.keep_flat_groups:
        return groups, {}
    kept = [group for group in groups if group.has_signal]
    facts = {
        "rollout/dropped_groups": float(len(seen) - len(kept)),
        "rollout/missing_groups": float(len(groups) - len(kept)),
    }
    return kept or groups, facts


def sample(session: Session, problems: Sequence[Problem], repeats: Counter[str], timing: Timing) -> list[Group]:
    """One group per problem. ``repeats`` counts the problems of the step: one that comes again gets other seeds."""
    state, config = session.state, session.config

    def seeds(problem: Problem) -> tuple[int, ...]:
        repeats[problem.id] += 1
        name = problem.id if repeats[problem.id] == 1 else f"{problem.id} again {repeats[problem.id]}"
        return sample_seeds(config.seed, state.replay, state.step + 1, name, config.sampling.group_size)

    return roll_out(
        make_engine(config, session.sampler, session.problems.tasks),
        session.problems.tasks,
        problems,
        prompt_tokens=state.policy.prompt_tokens,
        seeds=seeds,
        sampling=Sampling(temperature=config.sampling.temperature, max_tokens=config.sampling.max_tokens),
        policy_step=state.step,
        poll=session.stop.poll,
        timing=timing,
        ranks=session.ranks,
    )


def plan_updates(groups: Sequence[Group], session: Session, algorithm: Algorithm) -> list[Batch]:
    """The optimizer steps that one batch of rollouts gives: cut by problems, gone through ``passes_per_batch`` times.
    Keeps some completions for the records of the steps that will learn from them."""
    config, step = session.config, session.state.step
    count = min(config.optimizer.updates_per_batch, len(groups))
    cuts = [
        list(groups[number * len(groups) // count : (number + 1) * len(groups) // count]) for number in range(count)
    ]
    batches = [collate(cut, algorithm=algorithm, max_tokens=config.sampling.max_tokens) for cut in cuts]
    passes = config.optimizer.passes_per_batch
    for number, (cut, batch) in enumerate(zip(cuts * passes, batches * passes, strict=True), start=step + 1):
        if number == 1 or number % config.records.rollouts_every_steps == 0:
            session.state.records[str(number)] = rollout_rows(
                cut, batch.advantages_B.tolist(), step=number, seed=config.seed
            )
    return batches * passes


def reference_of(session: Session, algorithm: Algorithm) -> nn.Module | None:
    """A frozen copy of the base model where the KL term needs one and no adapter can be switched off."""
    if algorithm.kl_coef == 0 or session.config.model.lora is not None:
        return None
    base, _ = at_address(session.config.model)
    return load_policy(base, seed=session.config.seed, is_trainable=False).model


def stop_on_scoring_errors(session: Session, error_frac: float) -> None:
    """A scorer that fails too often ends the run before it teaches nonsense."""
    recent = [*session.state.counters["recent_error_frac"][-4:], error_frac]
    session.state.counters["recent_error_frac"] = recent
    limit = session.config.scoring.stop_error_frac
    if error_frac == 1.0 or sum(recent) / len(recent) > limit:
        console.warn(f"scoring failed for {error_frac:.0%} of the completions of step {session.state.step + 1}")
        raise Exit(
            Code.SCORING,
            f"scoring failed for {sum(recent) / len(recent):.0%} of the completions of the last {len(recent)} steps; "
            f"at most {limit:.0%} are allowed",
            hint="repair the scorer (gradus tasks check) and run the same command again",
        )
