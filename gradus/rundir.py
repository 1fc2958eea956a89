"""Where a run's files are, and its append-only records. No torch, no numpy.

Every path is made from the run's own folder, so a run can be moved. Names contain the step with six digits. Records
are ASCII-escaped JSON; numbers that are not finite are the strings ``"NaN"``, ``"Infinity"``, ``"-Infinity"``. A record
that cannot be written (disk full) never stops training: it is counted in ``num_failed_writes`` and said once.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gradus import durable
from gradus.exits import Code, Exit
from gradus.jsonl import Records, finite, read_json, read_jsonl, to_line, to_lines
from gradus.lock import Lock
from gradus.redaction import redact

__all__ = ["Records", "RunDirectory", "disk_errors", "is_free", "read_json", "read_jsonl", "step_name", "to_line"]

SCHEMA = "gradus.run/1"
_STEP_FILE = re.compile(r"step_(\d{6,})\.(?:jsonl|json)")
_NOT_PRINTABLE = re.compile(r"[^\x20-\x7e]")
_SET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def step_name(step: int) -> str:
    """``step_000120``."""
    return f"step_{step:06d}"


class RunDirectory:
    """One run on disk.

    Example:
        run = RunDirectory.create(Path("runs/first")); run.append_metrics({"step": 1, "reward": 0.4})
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path).absolute()  # stays valid when the process changes its folder
        self.metrics = self.path / "metrics.jsonl"
        self.alerts = self.path / "alerts.jsonl"
        self.events = self.path / "events.log"
        self.rollouts = self.path / "rollouts"
        self.checkpoints = self.path / "checkpoints"
        self.evaluations = self.path / "evaluations"
        self.superseded = self.path / "superseded"
        self.num_failed_writes: Counter[str] = Counter()
        """Records lost because the disk refused them, by kind."""
        self.warn: Callable[[str], None] = _to_stderr
        """Where the first lost record of a kind is reported; training replaces it by the console's warning."""
        self._lock = Lock(self.path / ".lock")

    @classmethod
    def create(cls, path: Path) -> RunDirectory:
        """Makes a new run directory. ValueError if something is there already; Exit(USAGE) if it cannot be written."""
        path = Path(path).absolute()
        if not is_free(path):
            raise ValueError(f"{path} exists already; a new run needs a new name. Choose another name, or remove it")
        with disk_errors(path):
            durable.make_directory(path, what="run")
            durable.check_renames(path)
            durable.write_json(path / durable.MARKER, {"schema": SCHEMA}, what="marker")
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Opens an existing run for reading or writing. ValueError if ``path`` is none."""
        path = Path(path).absolute()
        marker = path / durable.MARKER
        if not marker.is_file():
            what = "is not a run directory (no .gradus in it)" if path.exists() else "does not exist"
            raise ValueError(f"{path} {what}; give the folder of a run, for example runs/first")
        found = read_json(marker).get("schema")
        if found != SCHEMA:
            raise ValueError(f"{path} has schema {found!r}; this version of gradus reads {SCHEMA!r}")
        return cls(path)

    # ---- records ----

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Adds one row to ``metrics.jsonl``."""
        self.tolerate("metrics", lambda: durable.append_line(self.metrics, to_line(row), what="metrics"))

    def append_alert(self, row: Mapping[str, Any]) -> None:
        """Adds one row to ``alerts.jsonl``."""
        self.tolerate("alerts", lambda: durable.append_line(self.alerts, to_line(row), what="alerts"))

    def log(self, level: str, text: str) -> None:
        """Adds a line to ``events.log``, with the time for people, without secrets. Further lines are indented."""
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for number, line in enumerate(redact(text).splitlines() or [""]):
            line = _NOT_PRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), line)
            prefix = f"{now} {level.upper()} " if number == 0 else "    "
            self.tolerate("events", lambda text=prefix + line: durable.append_line(self.events, text, what="events"))

    def write_rollouts(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes the recorded completions that update ``step`` used."""

        def write() -> None:
            durable.make_directory(self.rollouts, what="rollouts")
            durable.write_text(self.rollouts / f"{step_name(step)}.jsonl", to_lines(rows), what="rollouts")

        self.tolerate("rollouts", write)

    def write_evaluation(
        self, set_name: str, step: int, rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]
    ) -> None:
        """Writes an evaluation of the policy after ``step`` updates. Unlike the records it raises OSError: it is a
        result. The summary comes last; an evaluation without it did not happen."""
        self.check_lock()
        folder = self._evaluation_folder(set_name)
        durable.make_directory(folder, what="evaluation")
        durable.write_text(folder / f"{step_name(step)}.jsonl", to_lines(rows), what="evaluation")
        durable.write_json(folder / f"{step_name(step)}.json", finite(summary), what="evaluation")

    def write_comparison(self, comparison: Mapping[str, Any], markdown: str) -> None:
        """Writes ``comparison.json`` and ``comparison.md``."""
        durable.write_json(self.path / "comparison.json", dict(comparison), what="comparison")
        durable.write_text(self.path / "comparison.md", markdown, what="comparison")

    def write_comparison_tables(self, tables: Sequence[Mapping[str, Any]], of: Sequence[str | None] = ()) -> None:
        """Writes ``comparison_tables.json``: what the task has to say of base and trained, whose names are ``of``; nothing
        where it is silent."""
        if tables:
            content = {"of": list(of), "tables": list(tables)}
            durable.write_json(self.path / "comparison_tables.json", content, what="comparison")

    def read_evaluation(self, set_name: str, step: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Rows and summary of one evaluation; ValueError names the steps there are."""
        folder = self._evaluation_folder(set_name)
        if step not in (there := self.evaluation_steps(set_name)):
            raise ValueError(
                f"{self.path.name} has no evaluation {set_name!r} of step {step}; there are: {there or 'none'}"
            )
        records = read_jsonl(folder / f"{step_name(step)}.jsonl")
        if records.num_torn:
            raise ValueError(f"{folder / step_name(step)}.jsonl has {records.num_torn} broken lines; evaluate again")
        return records.rows, read_json(folder / f"{step_name(step)}.json")

    def evaluation_steps(self, set_name: str) -> list[int]:
        """Steps with a whole evaluation, ascending."""
        found = _step_files(self._evaluation_folder(set_name))
        return sorted({step for step, path in found if path.suffix == ".json" and path.with_suffix(".jsonl").exists()})

    def _evaluation_folder(self, set_name: str) -> Path:
        if not _SET_NAME.fullmatch(set_name) or ".." in set_name:
            raise ValueError(f"{set_name!r} is no name for an evaluation set; use letters, digits, '.', '_' and '-'")
        return self.evaluations / set_name

    def tolerate(self, kind: str, write: Callable[[], None]) -> None:
        """Calls ``write``; an OSError is counted, and said the first time of its kind. Exit(USAGE) if the lock is lost."""
        self.check_lock()
        try:
            write()
        except OSError as error:
            self.num_failed_writes[kind] += 1
            if self.num_failed_writes[kind] == 1:
                self.warn(f"{kind} could not be written ({error.strerror}); training goes on, lost records are counted")

    # ---- status ----

    def update_status(self, **fields: Any) -> None:
        """Sets fields of ``run.json`` and keeps the others. A disk that refuses is counted, as for records."""
        self.tolerate("status", lambda: self.write_status(**fields))

    def write_status(self, **fields: Any) -> None:
        """As ``update_status``, but raises OSError: for the start of a run."""
        durable.write_json(self.path / "run.json", finite({**self.status(), **fields}), what="status")

    def status(self) -> dict[str, Any]:
        """``run.json``; empty before the first ``update_status``."""
        path = self.path / "run.json"
        return read_json(path) if path.exists() else {}

    # ---- going back ----

    def record_lengths(self) -> dict[str, int]:
        """Makes the appended records lasting and returns their lengths (bytes), for a checkpoint to keep."""
        lengths = {}
        for path in (self.metrics, self.alerts):
            lengths[path.name] = path.stat().st_size if path.exists() else 0
            if path.exists():
                durable.sync(path, what=path.stem)
        return lengths

    def rewind(self, step: int, lengths: Mapping[str, int], attempt: int) -> None:
        """Takes the records back to those of ``step``: what came later moves to ``superseded/attempt_<attempt>``.

        Args:
            step: the checkpoint's step; -1 moves everything.
            lengths: what ``record_lengths`` gave when the checkpoint was made; a missing file counts as 0.
            attempt: number of the attempt that wrote what is superseded.
        """
        target = self.superseded / f"attempt_{attempt}"
        for path in (self.metrics, self.alerts):
            _cut(path, lengths.get(path.name, 0), target)
        folders = [self.rollouts]
        if self.evaluations.is_dir():
            folders += sorted(path for path in self.evaluations.iterdir() if path.is_dir())
        for folder in folders:
            for found, path in _step_files(folder):
                if found > step:
                    self._supersede(path, target)

    def supersede(self, name: str, attempt: int) -> None:
        """Moves one file or folder of the run (a path relative to it) to ``superseded/attempt_<attempt>``."""
        if os.path.lexists(self.path / name):
            self._supersede(self.path / name, self.superseded / f"attempt_{attempt}")

    def _supersede(self, path: Path, target: Path) -> None:
        new = target / path.relative_to(self.path)
        durable.make_directory(new.parent, what="superseded")
        if os.path.lexists(new):  # a former start was killed while moving
            new = new.with_name(durable.unique_name("", new.name))
        durable.rename(path, new, what="superseded")

    def sweep(self) -> list[str]:
        """Removes what killed processes left unfinished; returns the names. Only for the holder of the lock."""
        swept = durable.leftovers(self.path)
        for path in swept:
            durable.remove_tree(path, what="leftover")
        return [path.name for path in swept]

    # ---- lock ----

    def acquire(self) -> None:
        """Takes the lock, if this object does not hold it. Exit(USAGE) names another holder."""
        if self._lock.is_held:
            return
        with disk_errors(self.path):
            if not os.access(self.path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self.path))
            self._lock.acquire()

    def release(self) -> None:
        """Gives the lock back."""
        self._lock.release()

    def check_lock(self) -> None:
        """Exit(USAGE) if the lock was held and another process has taken it."""
        self._lock.check()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the lock inside the ``with``; free afterwards, even if it was held before."""
        self.acquire()
        try:
            yield
        finally:
            self.release()


def _step_files(folder: Path) -> list[tuple[int, Path]]:
    """(step, path) of the files of a folder that belong to one step."""
    if not folder.is_dir():
        return []
    found = [(match, path) for path in sorted(folder.iterdir()) if (match := _STEP_FILE.fullmatch(path.name))]
    return [(int(match[1]), path) for match, path in found]


def _cut(path: Path, length_bytes: int, target: Path) -> None:
    """Moves what follows the first ``length_bytes`` bytes to ``target``, and a line that is torn there."""
    if not path.exists():
        return
    data = path.read_bytes()
    keep = min(length_bytes, len(data))
    keep = data.rfind(b"\n", 0, keep) + 1
    if keep == len(data):
        return
    durable.make_directory(target, what="superseded")
    new = target / path.name
    if new.exists():
        new = new.with_name(durable.unique_name("", new.name))
    durable.write_bytes(new, data[keep:], what="superseded")
    durable.truncate(path, keep, what=path.stem)


def is_free(path: Path) -> bool:
    """Whether nothing is there but what a start left that was killed before it wrote the marker."""
    if not os.path.lexists(path):
        return True
    return path.is_dir() and all(entry.name.startswith(durable.TEMPORARY) for entry in path.iterdir())


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns an OSError into an Exit that names ``path``: a broken or full disk is the machine's fault (MACHINE), a
    place that may not be written is the user's choice (USAGE)."""
    try:
        yield
    except OSError as error:
        is_full = error.errno in durable.DISK_ERRNOS - {errno.EROFS}
        message = (
            f"{path} cannot be written: {error.strerror or error}; a run needs a folder with space that it may write"
        )
        hint = f"free space for {path}" if is_full else "choose another place with GRADUS_RUNS_DIR"
        raise Exit(Code.MACHINE if is_full else Code.USAGE, message, hint=hint) from error


def _to_stderr(text: str) -> None:
    sys.stderr.write(text + "\n")
