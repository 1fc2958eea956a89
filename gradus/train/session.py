"""A training session: what `train` and `sft` share. Opens a run, holds its state, records, saves, stops.

A step is atomic: what a signal interrupts is forgotten and derived again from the seeds when the run goes on.
"""

from __future__ import annotations

import contextlib
import copy
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gradus import console
from gradus.config import Config, ModelConfig
from gradus.data.order import outlook, sampler_for
from gradus.data.problems import Problems
from gradus.exits import Code, Exit
from gradus.health.monitor import Monitor, setting_of
from gradus.health.rule import Alert
from gradus.jsonl import finite
from gradus.policy.adapters import save_model
from gradus.policy.load import Policy, load_policy, use_threads
from gradus.rundir import RunDirectory, read_jsonl
from gradus.tracking.followers import Followers
from gradus.train import checkpoint as checkpoints
from gradus.train.address import at_address
from gradus.train.checkpoint import Checkpoint, Saver
from gradus.train.environment import differences
from gradus.train.interrupt import Interrupted, Stop, catch_signals
from gradus.train.limits import within_limits
from gradus.train.memory import device_memory, is_out_of_memory, out_of_memory, resident_bytes
from gradus.train.optimizer import learning_rate_at
from gradus.train.parallel import Sampler, optimizer_for
from gradus.train.shards import take_shards, with_shards, write_shards
from gradus.train.start import Start
from gradus.train.state import TrainState
from gradus.types import Problem

MAX_SKIPS_IN_A_ROW = 3
"""Non-finite steps in a row that are skipped; the next one goes back to a checkpoint."""


class RollBack(Exception):
    """The policy diverged: go back to the newest checkpoint, with other seeds."""


class Session:
    """One process's part of a run. Made by `opened`."""

    def __init__(self, start: Start, problems: Problems, stop: Stop) -> None:
        self.start = start
        self.config: Config = start.resolved.config
        self.run: RunDirectory = start.run
        self.problems = problems
        self.stop = stop
        self.ranks = start.ranks
        self.ranks.agree("the fingerprint of the problems", problems.fingerprint)
        self._saver = Saver(self.run, warn=self.warn, durable_step=start.checkpoint.step if start.checkpoint else None)
        self._started = time.monotonic()
        self.train_problems: Sequence[Problem] = problems.train
        self.steps_per_save = 1
        """The run can be saved after multiples of it; a trainer that cannot go on within a batch sets another value."""
        self.state = self._open_state(start.checkpoint)
        self._boundary = self._mark()
        self._watch_from_here()
        if self.ranks.size > 1:
            self.info(f"{self.ranks.size} processes, {start.strategy}: {self.state.optimizer.says()}")
        sinks = self.config.tracking.sinks if self.ranks.is_first else []
        self.followers = Followers(self.run, sinks, warn=self.warn)

    # -- state -----------------------------------------------------------------------------------------------------

    def _open_state(self, found: Checkpoint | None) -> TrainState:
        config = self.config
        use_threads(config.torch_threads)
        policy = load_policy(self._model_at(found), seed=config.seed)
        self.train_problems = within_limits(self.problems.train, self.config, policy, say=self.info)
        state = TrainState(
            policy=policy,
            optimizer=optimizer_for(policy, config.optimizer, self.ranks, self.start.strategy),
            curriculum=sampler_for(config, self.train_problems, kind=self.start.kind),
        )
        if found is not None:
            found = with_shards(found, self.ranks, self.start.strategy)
            is_changed = found.manifest.get("data_fingerprint") != self.start.identity.get("data_fingerprint")
            if not state.restore(found, is_data_changed=is_changed):
                self.warn(f"other problems than before: their order begins anew at step {state.step}")
        self._sampler = Sampler(
            policy,
            state.optimizer,
            load_copy=lambda: load_policy(self._model_at(found), seed=config.seed, is_trainable=False),
        )
        replay = self.run.status().get("replay")
        if replay and replay["from_step"] == state.step:
            state.replay = max(state.replay, replay["replay"])
        return state

    def _model_at(self, found: Checkpoint | None) -> ModelConfig:
        if found is None:
            return at_address(self.config.model)[0]
        return self.config.model.model_copy(
            update={"path": str(found.path / "model"), "revision": None, "init": "pretrained"}
        )

    @property
    def sampler(self) -> Policy:
        """The policy as it is now, whole: what samples and what is saved. With shared-out weights all must ask for it."""
        return self._sampler.at(self.state.step)

    def go_back(self) -> None:
        """Takes the newest checkpoint up again, with other seeds. Exit(DIVERGED) where that was done already."""
        found, _ = checkpoints.load_newest(self.run, verify=self.config.checkpoint.verify)
        if found is None or self.state.replay > found.state["replay"]:
            again = "again after going back" if found else "before the first checkpoint"
            raise Exit(
                Code.DIVERGED,
                f"loss or gradient was not finite {MAX_SKIPS_IN_A_ROW + 1} times in a row, {again}",
                hint="start a new run with a lower optimizer.learning_rate",
            )
        failed_step, replay = self.state.step, self.state.replay + 1

        def take_records_back() -> None:
            self.run.update_status(replay={"from_step": found.step, "replay": replay})
            self.run.rewind(found.step, found.manifest["record_lengths"], self.start.attempt)

        self.ranks.from_first(take_records_back)
        self.state = self._open_state(found)
        self._boundary = self._mark()
        self._watch_from_here()
        self.warn(f"step {failed_step} was not finite: back to step {found.step}, replay {replay}")

    def _mark(self) -> dict[str, Any]:
        """What an unfinished step may change before its update, as it is now."""
        state = self.state
        return {
            "curriculum": state.curriculum.state_dict(),
            "pending": list(state.pending),
            "counters": copy.deepcopy(state.counters),
            "records": dict(state.records),
        }

    def forget_step(self) -> None:
        """Takes the state back to the end of the last finished step; what was begun is derived again from the seeds."""
        self.state.optimizer.drop_gradients()
        self.state.curriculum.load_state_dict(self._boundary["curriculum"])
        self.state.pending, self.state.counters = self._boundary["pending"], self._boundary["counters"]
        self.state.records = self._boundary["records"]

    # -- steps -----------------------------------------------------------------------------------------------------

    def poll(self) -> None:
        """Raises Interrupted in all processes if a signal came to any. Call it where all come by."""
        self.ranks.each(self.stop.poll)

    def learning_rate(self) -> float:
        """That of the step being taken."""
        return learning_rate_at(self.state.step + 1, num_steps=self.config.num_steps, config=self.config.optimizer)

    def finish_step(
        self, row: dict[str, Any], *, seconds: float, evaluate: Callable[[], dict[str, Any]] | None = None
    ) -> None:
        """Counts the step, evaluates, records and saves where due. Where a signal cuts the evaluation off, the step is
        kept and its row waits in the checkpoint for the evaluation's numbers."""
        state, config = self.state, self.config
        state.step += 1
        state.counters["train_seconds"] += seconds
        row = {"step": state.step, **row, "time/step_seconds": seconds, "num_tokens": state.counters["num_tokens"]}
        if (rollouts := state.records.pop(str(state.step), None)) is not None:
            self.run.write_rollouts(state.step, rollouts)
        if evaluate is not None and is_due(state.step, config.evaluation.every_steps, config.num_steps):
            try:
                row |= evaluate()
            except Interrupted:
                state.counters["unrecorded"] = finite(row)
                self._boundary = self._mark()
                raise
        self.record(row)
        self._boundary = self._mark()
        if (
            is_due(state.step, config.checkpoint.every_steps, config.num_steps)
            or state.counters["best_step"] == state.step
        ):
            self.save()
        self.stop_if_sick()

    def record_late(self, row: Mapping[str, Any]) -> None:
        """Writes the row of a step that was finished before: the base model's, or one that waited for its evaluation."""
        self.state.counters["unrecorded"] = None
        self.record(row)
        self._boundary = self._mark()

    def record(self, row: Mapping[str, Any]) -> None:
        """Writes a row of metrics, with what all rows have, and shows it."""
        facts = {
            "attempt": self.start.attempt,
            "replay": self.state.replay,
            "wall_seconds": time.monotonic() - self._started,
        }
        memory = {"system/rss_bytes": resident_bytes(), **device_memory(self.state.policy.device.type)}
        row = {"step": self.state.step, **facts, **memory, **row}
        self.run.append_metrics(row)
        console.step(row, self.config.num_steps)
        self._watch(row)
        self.followers.check()

    # -- health ----------------------------------------------------------------------------------------------------

    def _watch_from_here(self) -> None:
        """Rules over the rows so far: what they raised then stands in the records already."""
        rules = [rule for task in self.problems.tasks.values() for rule in task.health_rules()]
        self._monitor = Monitor(setting_of(self.config), self.config.health.rules, rules)
        self._monitor.replay(read_jsonl(self.run.metrics).rows)
        self._critical: Alert | None = None

    def _watch(self, row: Mapping[str, Any]) -> None:
        """Says and records what the rules raise; a critical alert may stop the run once its step is saved."""
        for alert in self._monitor.feed(finite(row)):
            self.run.append_alert(alert.to_json())
            say = self.info if alert.severity == "INFO" or self.config.health.on_critical == "log" else self.warn
            say(alert.line())
            if alert.severity == "CRIT" and self.config.health.on_critical == "stop":
                self._critical = alert

    def stop_if_sick(self) -> None:
        """Exit(HEALTH) with a checkpoint where a critical alert asks for it."""
        is_open = self.state.step < self.config.num_steps and self.state.step % self.steps_per_save == 0
        if (alert := self._critical) is not None and is_open:
            self._critical = None
            self.save()
            raise Exit(
                Code.HEALTH,
                f"stopped after step {self.state.step} by health rule {alert.rule}: {alert.text}",
                hint=f"{alert.actions[0]}; or go on: gradus {self.start.kind} {self.run.path} health.on_critical=alert",
            )

    def count_skip(self, row: Mapping[str, Any]) -> None:
        """Applies ``optimizer.on_nonfinite`` to the outcome of an update."""
        counters, policy = self.state.counters, self.config.optimizer.on_nonfinite
        if not row["train/skipped"]:
            counters["skips_in_a_row"] = 0
            return
        counters["skips_in_a_row"] += 1
        counters["num_skipped"] += 1
        self.warn(f"step {self.state.step + 1}: loss or gradient not finite, the update is skipped")
        if policy == "stop":
            raise Exit(
                Code.DIVERGED,
                f"loss or gradient of step {self.state.step + 1} is not finite",
                hint="lower optimizer.learning_rate",
            )
        if policy == "rollback" or counters["skips_in_a_row"] > MAX_SKIPS_IN_A_ROW:
            raise RollBack

    def save(self) -> None:
        """A checkpoint of the last finished step; nothing before the first."""
        if self.state.step == 0:
            return
        with self.stop.shielded():
            sampler = self.sampler
            shards = None
            if self.state.optimizer.is_sharded:
                shards = write_shards(self.run, self.ranks, self.state.step, self.state.optimizer.tensors())
            self.ranks.from_first(lambda: self._save(sampler, shards))

    def _save(self, sampler: Policy, shards: Path | None) -> None:
        state, config = self.state, self.config.checkpoint

        def write_model(folder: Path) -> None:
            save_model(sampler.model, folder)
            sampler.tokenizer.save_pretrained(folder)
            if shards is not None:
                take_shards(shards, folder.parent)

        path = self._saver.save(
            state.step,
            write_model=write_model,
            tensors=state.tensors(),
            state=state.json(),
            identity={**self.start.identity, **self.facts()},
        )
        if path is not None:
            checkpoints.prune(
                self.run,
                keep_last=config.keep_last,
                keep_every_steps=config.keep_every_steps,
                best_step=state.counters["best_step"],
            )
            self.run.update_status(step=state.step, checkpoint_step=state.step, best_step=state.counters["best_step"])
            self.run.log("info", f"saved step {state.step}")

    def facts(self) -> dict[str, str]:
        """What the numbers are computed on."""
        policy = self.state.policy
        return {
            "device": str(policy.device),
            "dtype": str(policy.trainable()[0][1].dtype).removeprefix("torch."),
            **({"strategy": self.start.strategy} if self.ranks.size > 1 else {}),
        }

    def summary(self) -> dict[str, Any]:
        """What the last lines of a run say."""
        counters = self.state.counters
        return {
            "run": str(self.run.path),
            "step": self.state.step,
            "attempts": self.start.attempt,
            "train_seconds": counters["train_seconds"],
            "num_tokens": counters["num_tokens"],
            "num_skipped": counters["num_skipped"],
            "best_step": counters["best_step"],
            "num_failed_saves": self._saver.num_failed,
            "num_failed_writes": dict(self.run.num_failed_writes),
        }

    # -- words -----------------------------------------------------------------------------------------------------

    def info(self, text: str) -> None:
        """A line for the user and the log."""
        console.info(text)
        self.run.log("info", text)

    def warn(self, text: str) -> None:
        """The same, as a warning."""
        console.warn(text)
        self.run.log("warning", text)


@contextlib.contextmanager
def opened(start: Start, problems: Problems, kind: type[Session] = Session) -> Iterator[Session]:
    """Opens a session of ``kind``; saves at the end or at a signal, and writes how it ended into ``run.json``."""
    with catch_signals() as stop:
        session: Session | None = None
        try:
            with stop.at_once():
                session = kind(start, problems, stop)
            start.run.warn = console.warn
            for note in start.notes:
                console.info(note)
            if start.checkpoint is not None:
                for note in differences(start.checkpoint.manifest, session.facts()):
                    session.info(note)
            for line in outlook(session.state.curriculum):
                session.info(line)
            session.run.update_status(
                status="running", step=session.state.step, host=platform.node(), has_health_rules=True
            )
            yield session
            session.save()
            session.run.update_status(
                status="finished", step=session.state.step, exit_code=int(Code.DONE), last_error=None
            )
        except Interrupted as error:
            if session is not None:
                session.forget_step()
                session.save()
                if (seconds := stop.seconds()) > session.config.checkpoint.grace_seconds:
                    grace = session.config.checkpoint.grace_seconds
                    session.warn(f"stopping took {seconds:.0f} s, more than checkpoint.grace_seconds={grace:g}")
            step = session.state.step if session is not None else 0
            start.run.update_status(status="interrupted", exit_code=int(Code.INTERRUPTED), last_error=error.message)
            raise Exit(
                Code.INTERRUPTED, f"{error.message} after step {step}", hint=f"gradus {start.kind} {start.run.path}"
            ) from error
        except Exit as error:
            start.run.update_status(status="failed", exit_code=int(error.code), last_error=error.message)
            raise
        except Exception as error:
            if is_out_of_memory(error):
                is_update = session is not None and bool(session.state.pending)
                message = out_of_memory(start.resolved.config, is_update=is_update)
                start.run.update_status(status="failed", exit_code=int(Code.MACHINE), last_error=message)
                raise Exit(Code.MACHINE, message, hint=f"then: gradus {start.kind} {start.run.path}") from error
            start.run.update_status(
                status="failed", exit_code=int(Code.INTERNAL), last_error=f"{type(error).__name__}: {error}"
            )
            raise
        finally:
            if session is not None:
                session.followers.finish()


def is_due(step: int, every_steps: int | None, num_steps: int) -> bool:
    """Whether something with this interval happens after ``step``; always at the end."""
    return step == num_steps or (every_steps is not None and step % every_steps == 0)
