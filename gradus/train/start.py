"""What a training command does with the directory it is given: begin, go on, or say that nothing is left to do.

Nothing is changed in an existing run before all that can be refused has been refused: another config, other data,
another process, a place that cannot be written. Only then are torch and a checkpoint loaded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shlex
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gradus import durable
from gradus.config import Config
from gradus.exits import Code, Exit
from gradus.keys import Resume
from gradus.recipe import Resolved, diff, leaves, resolve, to_yaml
from gradus.redaction import find_secret, redact
from gradus.rollout.ranks import ALONE, Ranks
from gradus.rundir import RunDirectory, disk_errors, is_free, read_json
from gradus.train.place import inside, made_name, next_free

if TYPE_CHECKING:
    from gradus.train.checkpoint import Checkpoint
    from gradus.train.launch import Launch, Strategy

Kind = Literal["train", "sft"]
Change = tuple[str, object, object, Resume]
"""(leaf, value before, value now, ``mutable``, ``inexact`` or ``immutable``)."""
Fingerprint = str | Callable[[Config], str]
"""Fingerprint of the data, or how to get it once the config is known."""


@dataclass(slots=True)
class Start:
    """A run that is ready. It holds the lock until ``close`` or the end of its ``with``; a finished one holds nothing.

    Example:
        with open_run(resolved, kind="train", runs_dir=Path("runs"), data_fingerprint="9f2c") as start: train(start)
    """

    run: RunDirectory
    resolved: Resolved
    kind: Kind
    action: Literal["new", "resume", "finished"]
    attempt: int
    """1 for a new run; one more for each start after that."""
    checkpoint: Checkpoint | None = None
    """Where to go on; None: at step 0."""
    notes: list[str] = field(default_factory=list)
    """Lines for the user: what was skipped, accepted, not promised."""
    identity: dict[str, Any] = field(default_factory=dict)
    """What is known of a checkpoint's manifest; the trainer adds device and dtype."""
    is_forced: bool = False
    """Whether a disk that is too small is only warned of."""
    ranks: Ranks = ALONE
    """The processes of the run."""
    strategy: Strategy = "ddp"
    """How they share the work."""

    def close(self) -> None:
        """Gives the lock back."""
        self.run.release()

    def __enter__(self) -> Start:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def opened_together(launch: Launch, open_start: Callable[[], Start]) -> Start:
    """``open_start()`` in the first process of a run; in the others the same run, which they only look at."""
    own: list[Start] = []

    def facts() -> tuple[Any, ...]:
        own.append(open_start())
        start = own[0]
        step = None if start.checkpoint is None else start.checkpoint.step
        return start.run.path, start.resolved, start.kind, start.action, start.attempt, step, start.identity

    path, resolved, kind, action, attempt, step, identity = launch.ranks.from_first(facts)
    if own:
        start = own[0]
    else:
        from gradus.train.onlooker import Onlooker

        start = Start(Onlooker(path), resolved, kind, action, attempt, identity=identity)
        if step is not None:
            from gradus.train.checkpoint import load_step

            start.checkpoint = load_step(start.run, step)
    start.ranks, start.strategy = launch.ranks, launch.strategy
    start.notes += launch.notes
    return start


def open_run(
    resolved: Resolved,
    *,
    kind: Kind,
    runs_dir: Path,
    data_fingerprint: Fingerprint,
    new: bool = False,
    from_scratch: bool = False,
    accept_data_change: bool = False,
) -> Start:
    """Begins or goes on with the run that the config names.

    Args:
        new: take ``<name>-2``, ``-3``, ... if the name is taken.
        from_scratch: move what an unfinished run has to ``superseded/`` and begin again.
        accept_data_change: go on although the data are not those the run began with.

    Raises:
        ValueError: another config or data, a smaller ``num_steps``, a bad name, a folder that is no run.
        Exit: lock held or folder not writable (USAGE), no whole checkpoint (NOTHING_USABLE), disk (MACHINE).
    """
    _check_backend(resolved, kind)
    path = inside(Path(runs_dir), resolved.config.name or made_name(resolved.config))
    if new:
        path = next_free(path)
    options = _Options(kind, data_fingerprint, from_scratch, accept_data_change)
    if is_free(path):
        return _begin(RunDirectory.create(path), resolved, options)
    return _continue(RunDirectory.open(path), resolved, options)


def open_existing(
    path: Path,
    overrides: tuple[str, ...] = (),
    *,
    kind: Kind,
    data_fingerprint: Fingerprint,
    new: bool = False,
    from_scratch: bool = False,
    accept_data_change: bool = False,
) -> Start:
    """As ``open_run`` for a run given by its folder: its own config, with ``overrides``."""
    run = RunDirectory.open(path)
    resolved = stored(run, overrides)
    _check_backend(resolved, kind)
    options = _Options(kind, data_fingerprint, from_scratch, accept_data_change)
    if new:
        return _begin(RunDirectory.create(next_free(run.path)), resolved, options)
    return _continue(run, resolved, options)


def _check_backend(resolved: Resolved, kind: Kind) -> None:
    """ValueError where the trainer that is asked for is missing, or cannot honour the config."""
    backend = resolved.config.backend.name
    if backend == "native":
        return
    if kind == "sft":
        raise ValueError(f"backend.name={backend}: gradus sft trains natively only; set backend.name=native")
    from gradus.train.backends.settings import check, need

    check(resolved)
    need(resolved.config)


def stored(run: RunDirectory, overrides: tuple[str, ...] = ()) -> Resolved:
    """The config a run was last started with, under ``overrides``; unchanged leaves keep their origins."""
    path = run.path / "resolved.yaml"
    if not path.is_file():
        raise ValueError(f"{run.path} has no resolved.yaml, so it never began; start it by its recipe")
    resolved = resolve([path], overrides)
    known = read_json(run.path / "origins.json") if (run.path / "origins.json").is_file() else {}
    origins = {leaf: at if at == "override" else known.get(leaf, at) for leaf, at in resolved.origins.items()}
    return dataclasses.replace(resolved, origins=origins)


# ---- begin ----


@dataclass(frozen=True, slots=True)
class _Options:
    kind: Kind
    data_fingerprint: Fingerprint
    from_scratch: bool
    accept_data_change: bool

    def fingerprint(self, config: Config) -> str:
        """The data's fingerprint."""
        return self.data_fingerprint if isinstance(self.data_fingerprint, str) else self.data_fingerprint(config)


@contextlib.contextmanager
def _locked(run: RunDirectory) -> Iterator[None]:
    """Holds the lock; gives it back only when the start fails."""
    run.acquire()
    try:
        yield
    except BaseException:
        run.release()
        raise


def _begin(run: RunDirectory, resolved: Resolved, options: _Options) -> Start:
    """Fills a new run directory; ``run.json`` comes last, without it the run has not begun."""
    _check_secrets(resolved.config)
    with _locked(run):
        fingerprint = options.fingerprint(resolved.config)
        start = Start(run, resolved, options.kind, "new", 1)
        with disk_errors(run.path):
            for number, (_, data) in enumerate(resolved.sources, start=1):
                name = "config.yaml" if number == 1 else f"config.{number}.yaml"
                durable.write_bytes(run.path / name, redact(data.decode()).encode(), what="config")
            _write_config(start, shlex.join(resolved.overrides))
            _set_out(start, fingerprint)
    return start


def _check_secrets(config: Config) -> None:
    """The resolved config is written as it is, so nothing secret may be in it."""
    for leaf, value in leaves(config).items():
        if (beginning := find_secret(str(value))) is not None:
            raise ValueError(
                f"{leaf} holds what looks like a secret ({beginning}...); the config is written to the run directory. "
                "Remove it, and give tokens by the environment (HF_TOKEN) or by a login"
            )


def _write_config(start: Start, overrides: str) -> None:
    """Writes ``resolved.yaml``, ``origins.json`` and the attempt's line of ``overrides.txt``."""
    path = start.run.path / "overrides.txt"
    known = path.read_text() if path.exists() and start.attempt > 1 else ""
    line = f"attempt {start.attempt}: {redact(overrides)}".rstrip()
    durable.write_text(path, known + line + "\n", what="overrides")
    durable.write_text(start.run.path / "resolved.yaml", to_yaml(start.resolved.config), what="resolved")
    durable.write_json(start.run.path / "origins.json", start.resolved.origins, what="origins")


def _set_out(start: Start, fingerprint: str, **more: Any) -> None:
    """Writes what this attempt runs on, then ``run.json``."""
    import torch  # takes seconds; whatever can be refused was refused without it

    from gradus.train.environment import differences, environment, identity

    config = start.resolved.config
    if config.torch_threads is not None:
        torch.set_num_threads(config.torch_threads)
    parent_step = start.checkpoint.step if start.checkpoint else None
    start.identity = identity(config, data_fingerprint=fingerprint, parent_step=parent_step)
    if start.checkpoint is not None:
        start.notes += differences(start.checkpoint.manifest, start.identity)
    durable.write_json(start.run.path / "environment.json", environment(), what="environment")
    start.run.write_status(
        kind=start.kind, status="running", attempt=start.attempt, step=parent_step or 0, num_steps=config.num_steps,
        pid=os.getpid(), host=socket.gethostname(), last_error=None, exit_code=None, data_fingerprint=fingerprint,
        **more,
    )  # fmt: skip
    for note in start.notes:
        start.run.log("info", note)


# ---- go on ----


def _continue(run: RunDirectory, resolved: Resolved, options: _Options) -> Start:
    """Goes on with a run that exists, or says why not."""
    status = run.status()
    if not status:  # killed before it began
        return _begin(run, resolved, options)
    if missing := {"kind", "status", "step", "attempt", "data_fingerprint"} - status.keys():
        raise ValueError(f"{run.path}/run.json lacks {', '.join(sorted(missing))}; restore it from a copy of the run")
    changes = _checked_changes(run, resolved, options.kind)
    is_done = status["status"] == "finished" and resolved.config.num_steps <= status["step"]
    if is_done and not options.from_scratch:
        return Start(run, resolved, options.kind, "finished", status["attempt"])
    with _locked(run):
        fingerprint = options.fingerprint(resolved.config)
        if options.from_scratch:
            return _from_scratch(run, resolved, options.kind, fingerprint)
        return _resume(run, resolved, options, fingerprint, changes)


def _checked_changes(run: RunDirectory, resolved: Resolved, kind: Kind) -> list[Change]:
    """The config's accepted changes; ValueError names all that cannot be accepted."""
    found = run.status()["kind"]
    if found != kind:
        raise ValueError(f"{run.path} is a run of gradus {found}, not of gradus {kind}; take another name")
    changes = diff(stored(run).config, resolved.config)
    refused = [
        f"{leaf} was {old} in {run.path} and is {new} now" for leaf, old, new, on in changes if on == "immutable"
    ]
    if refused:
        subject = "it" if len(refused) == 1 else "they"
        raise ValueError("\n".join(refused) + f"; {subject} cannot change in a run. Undo it, or add --new")
    return changes


def _from_scratch(run: RunDirectory, resolved: Resolved, kind: Kind, fingerprint: str) -> Start:
    attempt = run.status()["attempt"]
    start = Start(run, resolved, kind, "new", attempt + 1)
    start.notes.append(f"starts from scratch; what there was is in superseded/attempt_{attempt}")
    with disk_errors(run.path):
        forgotten = dict.fromkeys(("checkpoint_step", "best_step", "replay"))
        run.write_status(status="running", attempt=start.attempt, **forgotten)
        run.supersede("checkpoints", attempt)  # one rename, after which no later start can go on from them
        run.rewind(-1, {}, attempt)
        run.supersede("environment.json", attempt)
        run.sweep()
        _write_config(start, shlex.join(resolved.overrides))
        _set_out(start, fingerprint)
    return start


def _resume(run: RunDirectory, resolved: Resolved, options: _Options, fingerprint: str, changes: list[Change]) -> Start:
    status = run.status()
    data_notes = _checked_data(run, status["data_fingerprint"], fingerprint, options.accept_data_change)
    found, notes = _newest(run, resolved.config)
    attempt = status["attempt"]
    start = Start(run, resolved, options.kind, "resume", attempt + 1, found, [*notes, *data_notes])
    start.notes += [
        f"{'exact bits not promised: ' if resume == 'inexact' else ''}{leaf} {old} → {new}"
        for leaf, old, new, resume in changes
        if leaf != "torch_threads"  # named below if the number of threads in use is another one
    ]
    with disk_errors(run.path):
        run.write_status(status="running", attempt=start.attempt)
        _go_back(run, found, attempt)
        run.supersede("environment.json", attempt)
        _write_config(start, shlex.join(f"{leaf}={json.dumps(new)}" for leaf, _, new, _ in changes))
        _set_out(start, fingerprint, num_data_changes=status.get("num_data_changes", 0) + len(data_notes))
    return start


def _checked_data(run: RunDirectory, before: str, now: str, is_accepted: bool) -> list[str]:
    if before == now:
        return []
    if not is_accepted:
        raise ValueError(
            f"the data of {run.path} had fingerprint {before} and have {now} now; a run needs one set of data. "
            "Restore the data, or go on with --accept-data-change"
        )
    return [f"data changed: fingerprint {before} → {now}, accepted"]


def _newest(run: RunDirectory, config: Config) -> tuple[Checkpoint | None, list[str]]:
    """Where to go on, and what to say about it."""
    from gradus.train.checkpoint import load_newest  # imports torch

    found, notes = load_newest(run, verify=config.checkpoint.verify)
    saved = run.status().get("checkpoint_step")
    if found is None:
        if saved is not None:
            raise Exit(
                Code.NOTHING_USABLE,
                f"{run.path} had a checkpoint of step {saved} and has none now",
                hint="restore it from a copy, or start again with --from-scratch",
            )
        return None, [f"{run.path.name} has no checkpoint yet; it starts at step 0"]
    if config.num_steps < found.step:
        raise ValueError(
            f"num_steps={config.num_steps} is less than the {found.step} steps that {run.path} has taken; "
            f"give num_steps={found.step} or more"
        )
    if saved is not None and saved > found.step and not notes:
        notes.append(f"the checkpoint of step {saved} is gone")
    kept = sorted(path.name for path in run.checkpoints.glob(".bad-*"))
    notes += [f"kept the defective {name}; remove it when it is not needed" for name in kept]
    return found, [*notes, f"{run.path.name} resumes from {found.path.name}"]


def _go_back(run: RunDirectory, found: Checkpoint | None, attempt: int) -> None:
    """Takes records back to the checkpoint and removes what a killed process left."""
    if found is not None:
        run.rewind(found.step, found.manifest["record_lengths"], attempt)
    else:
        run.rewind(-1, {}, attempt)  # the base model's evaluation too: what followed from it was kept nowhere
    for name in run.sweep():
        run.log("info", f"removed {name}, left unfinished by a process that was killed")
    if found is not None:
        from gradus.train.checkpoint import point_latest

        point_latest(run, found.step)
