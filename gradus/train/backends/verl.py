"""The verl backend: verl samples and learns in processes of its own; gradus plans, reads along, evaluates and keeps.

The problems of all steps are drawn before verl starts and written as its data, in their order. While verl trains, this
process follows its log and its recorded completions, scores them again, and writes the rows of a native run; the
weights that verl saves are loaded here, evaluated with the problems and seeds of a native run, and kept as checkpoints.
verl's own state stays in ``<run>/backend/verl``, from where it goes on.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gradus import durable
from gradus.algo.advantage import advantages
from gradus.algo.presets import Algorithm, resolve_algorithm
from gradus.data.problems import Problems, load_problems
from gradus.exits import Code, Exit
from gradus.jsonl import read_jsonl
from gradus.policy.adapters import save_model
from gradus.policy.load import resolve_address
from gradus.train.address import at_address
from gradus.train.backends.batches import steps_per_batch
from gradus.train.backends.verl_check import differences
from gradus.train.backends.verl_place import LAST_LINES, end, environment, need_verl, tied
from gradus.train.backends.verl_plan import Planned, write_plan
from gradus.train.backends.verl_ray import own_ray
from gradus.train.backends.verl_records import Read, groups_of, metrics_of
from gradus.train.backends.verl_settings import ADAPTER, ON_CPU, Place, overrides, save_every
from gradus.train.backends.verl_weights import load_weights, saved_batches, saved_files, saved_weights
from gradus.train.checkpoint import steps
from gradus.train.limits import check_space
from gradus.train.loop import evaluate_now, evaluate_owed, evaluator_of, stop_on_scoring_errors
from gradus.train.metrics import rollout_metrics
from gradus.train.records import rollout_rows
from gradus.train.session import Session, is_due, opened
from gradus.train.start import Start
from gradus.types import Group

POLL_SECONDS = 0.2
SETTLE_SECONDS = 10.0
"""Between verl's line on a step and its completions being there as far as they ever will be."""


class VerlSession(Session):
    """A session whose policy learns elsewhere: it can be saved only where verl has saved."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.folder = self.run.path.resolve() / "backend" / "verl"
        self.steps_per_save = steps_per_batch(self.config)
        self.held_step = self.state.step
        """The step whose weights the policy of this process has."""
        found = self.start.checkpoint
        if found is not None:
            self._check_foreign(found.manifest.get("foreign") or {})

    def save(self) -> None:
        """As `Session.save`; nothing where this process does not have the weights."""
        if self.held_step == self.state.step:
            super().save()

    def facts(self) -> dict[str, Any]:
        """As `Session.facts`, with the size of each file that verl needs to go on from here."""
        batch = self.state.step // self.steps_per_save
        return {**super().facts(), "foreign": saved_files(self.folder, batch)}

    def take_weights(self, step: int) -> None:
        """Loads what verl saved after ``step`` updates. Exit(NOTHING_USABLE) where it is not there."""
        load_weights(self.state.policy.model, saved_weights(self.folder, step // self.steps_per_save))
        self.held_step = step

    def _check_foreign(self, expected: Mapping[str, Any]) -> None:
        """Exit(NOTHING_USABLE) where verl's own files of the checkpoint are not as they were."""
        there = saved_files(self.folder, self.state.step // self.steps_per_save)
        if wrong := sorted(name for name, size in expected.items() if there.get(name) != size):
            raise Exit(
                Code.NOTHING_USABLE,
                f"verl cannot go on from step {self.state.step}: {wrong[0]} is missing in {self.folder}, or has another size",
                hint="restore it from a copy, or start again with --from-scratch (the old files are kept)",
            )


def train(start: Start, problems: Problems | None = None) -> dict[str, Any]:
    """Trains ``start`` to its last step with verl and returns a summary. As `train.loop.train` otherwise."""
    config = start.resolved.config
    with opened(start, problems or load_problems(config), VerlSession) as session:
        assert isinstance(session, VerlSession)
        check_space(session)
        evaluator = evaluator_of(session)
        for line in differences(config):
            session.info(f"verl: {line}")
        planned = write_plan(session, session.folder)
        evaluate_owed(session, evaluator)
        if session.state.step < config.num_steps:
            with Child(session, planned) as child:
                while session.state.step < config.num_steps:
                    follow_batch(session, child, planned, lambda: evaluate_now(session, evaluator))
        return {**session.summary(), "comparison": evaluator.against_base()}


class Child:
    """verl's process, its log and its records.

    Example:
        with Child(session, planned) as child: read = child.batch(1)
    """

    def __init__(self, session: VerlSession, planned: Planned) -> None:
        self._session, self._folder = session, session.folder
        attempt = session.start.attempt
        self._log = self._folder / f"attempt_{attempt}.log"
        self._metrics = self._folder / f"attempt_{attempt}.metrics.jsonl"
        self._dumps = self._folder / f"rollouts_{attempt}"
        self._samples = self._folder / f"samples_{attempt}.jsonl"
        self._num_rows = session.config.curriculum.problems_per_step * session.config.sampling.group_size
        self._planned = planned
        self._python = need_verl()
        self._is_cpu = session.state.policy.device.type == "cpu"

    def __enter__(self) -> Child:
        self._stack = contextlib.ExitStack()
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Ends verl and all that it started, in case it runs."""
        self._stack.close()

    def _start(self) -> None:
        session, config = self._session, self._session.config
        self._forget_later()
        own = self._variables()
        address, keys = config.backend.ray_address, {}
        if address is None:
            session.info("verl: starts a Ray of its own on this machine")
            address, keys = self._stack.enter_context(
                own_ray(
                    self._python, log=self._folder / f"attempt_{session.start.attempt}.ray.log",
                    env=environment(own), num_gpus=1 if self._is_cpu else None, poll=session.stop.poll,
                )
            )  # fmt: skip
        if config.model.lora is not None:  # as a native run makes it, so that both begin alike
            save_model(session.state.policy.model, self._folder / ADAPTER)
            session.state.policy.tokenizer.save_pretrained(self._folder / ADAPTER)
        model, _ = resolve_address(at_address(config.model)[0].path)
        place = Place(
            folder=self._folder, model=model, longest_prompt=self._planned.longest_prompt, is_cpu=self._is_cpu,
            address=address, environment=own, attempt=session.start.attempt,
            resume_batch=session.state.step // steps_per_batch(config),
        )  # fmt: skip
        arguments = overrides(config, place)
        durable.write_json(self._folder / f"attempt_{session.start.attempt}.json", {"overrides": arguments})
        self._process = tied(
            [str(self._python), "-m", "verl.trainer.main_ppo", *arguments], env=environment({**own, **keys}),
            log=self._log, folder=self._folder,
        )  # fmt: skip
        self._stack.callback(end, self._process)
        session.info(f"verl: its output is in {self._log}")

    def _forget_later(self) -> None:
        """Removes what an earlier attempt saved after the step to go on from: it would be taken for this one's."""
        batch = self._session.state.step // steps_per_batch(self._session.config)
        for number, path in saved_batches(self._folder).items():
            if number > batch:
                durable.remove_tree(path, what="prune")

    def _variables(self) -> dict[str, str]:
        """What verl's processes need to know, on whatever machine they run."""
        config = self._session.config
        own = {
            "VERL_FILE_LOGGER_PATH": str(self._metrics),
            "TOKENIZERS_PARALLELISM": "false",
            "GRADUS_VERL_PLAN": str(self._folder / "plan.jsonl"),
            "GRADUS_VERL_SAMPLES": str(self._samples),
        }
        if config.torch_threads is not None:
            own["OMP_NUM_THREADS"] = str(config.torch_threads)
        if self._is_cpu:
            own |= ON_CPU
        return own

    def batch(self, number: int) -> Read:
        """What verl logged and recorded of one of its steps; waits for it. Exit where verl ends before."""
        seen: float | None = None
        while True:
            self._session.stop.poll()
            has_ended = self._process.poll() is not None
            logged = self._logged(number)
            if logged is not None:
                seen = seen or time.monotonic()
                rows, is_whole = self._completions(number)
                if is_whole or has_ended or time.monotonic() - seen > SETTLE_SECONDS:
                    return Read(logged=logged, rows=rows, samples=self._sampled(number))
            elif has_ended:
                raise self._failure(number)
            time.sleep(POLL_SECONDS)

    def _logged(self, number: int) -> dict[str, Any] | None:
        """The step's line, once it is whole."""
        if not self._metrics.is_file():
            return None
        return next((row["data"] for row in read_jsonl(self._metrics).rows if row["step"] == number), None)

    def _completions(self, number: int) -> tuple[list[dict[str, Any]], bool]:
        """The step's completions, and whether all are written."""
        path = self._dumps / f"{number}.jsonl"
        if not path.is_file():
            return [], False
        found = read_jsonl(path)
        return found.rows, not found.num_torn and len(found.rows) >= self._num_rows

    def _sampled(self, number: int) -> list[dict[str, Any]]:
        """What gradus' own server says of its completions; nothing where vLLM samples."""
        if not self._samples.is_file():
            return []
        return [row for row in read_jsonl(self._samples).rows if row["batch"] == number]

    def _failure(self, number: int) -> Exit:
        """verl's end before its time, with its last words in ``events.log``."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        self._session.run.log("error", "\n".join(["verl's last lines:", *lines[-LAST_LINES:]]))
        named = [line for line in lines if "Error" in line or "Exception" in line]
        why = f": {named[-1].strip()[:300]}" if named else ""
        return Exit(
            Code.INTERNAL,
            f"verl ended with code {self._process.returncode} before its step {number}{why}",
            hint=f"its output is in {self._log}; then: gradus train {self._session.run.path}",
        )


# ---- reading along ----


def follow_batch(session: VerlSession, child: Child, planned: Planned, evaluate: Callable[[], dict[str, Any]]) -> None:
    """Waits for verl's next step, and does for it what the loop does for its own."""
    state, config = session.state, session.config
    period = session.steps_per_save
    number = state.step // period + 1
    read = child.batch(number)
    problems = planned.batches[number]
    assert [problem.id for problem in state.curriculum.draw(state.step)] == [problem.id for problem in problems]
    found = groups_of(read, problems, session)
    row = row_of(session, found.groups, read) | {
        "backend/score_mismatch": found.mismatch_frac,
        "backend/dropped_groups": float(found.num_dropped),
    }
    if found.num_dropped:
        session.warn(
            f"verl dropped {found.num_dropped} of {len(problems)} groups of its step {number}: sampling or scoring failed "
            f"there; its output says why: {child._log}"
        )
    if found.mismatch_frac:
        share = f"{found.mismatch_frac:.0%}"
        session.warn(f"verl's step {number}: {share} of the texts have other scores there than gradus gives them")
    state.counters["num_tokens"] += int(read.logged.get("perf/total_num_tokens", 0))
    stop_on_scoring_errors(session, max(row["scoring/error_frac"], found.mismatch_frac))
    served = range(state.step + 1, state.step + 1 + period)
    if state.step == 0 or any(step % config.records.rollouts_every_steps == 0 for step in served):
        values = advantages_of(found.groups, resolve_algorithm(config.algorithm))
        state.records[str(served[0])] = rollout_rows(found.groups, values, step=served[0], seed=config.seed)
    if is_due(served[-1], save_every(config), config.num_steps):
        session.take_weights(served[-1])
    seconds = float(read.logged.get("timing_s/step", 0.0))
    for step in served:
        session.count_skip(row if step == served[0] else {"train/skipped": 0.0})
        row |= {"learning_rate": session.learning_rate()}
        session.finish_step(row, seconds=seconds if step == served[0] else 0.0, evaluate=evaluate)
        row = {"epoch": state.curriculum.epoch}
    prune(session)


def row_of(session: VerlSession, groups: Sequence[Group], read: Read) -> dict[str, Any]:
    """The metrics of a batch: those of its completions as in a native run, those of the update from verl."""
    state = session.state
    if not groups:
        raise Exit(
            Code.SCORING, f"verl dropped every group of the batch after step {state.step}",
            hint=f"sampling or scoring failed for all of them; its output in {session.folder} says why",
        )  # fmt: skip
    state.curriculum.observe(state.step, groups)
    row: dict[str, Any] = {"epoch": state.curriculum.epoch}
    row |= rollout_metrics(groups, session.problems.tasks) | state.curriculum.metrics(state.step)
    return row | metrics_of(read, session.config)


def advantages_of(groups: Sequence[Group], algorithm: Algorithm) -> list[float]:
    """The advantage of each completion, as a native run computes it."""
    return [value for group in groups for value in advantages(list(group.rewards_G), kind=algorithm.advantage)]


def prune(session: VerlSession) -> None:
    """Removes verl's saved states of steps that have no checkpoint: from them nothing would go on."""
    period = session.steps_per_save
    kept = {step // period for step in steps(session.run)}
    for number, path in saved_batches(session.folder).items():
        if number * period <= session.state.step and number not in kept:
            session.run.tolerate("pruning", lambda path=path: durable.remove_tree(path, what="prune"))
