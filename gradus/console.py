"""The one place that prints: results to stdout, everything else to stderr, steps as a live table or as plain lines.

Whatever comes here may be model text, so every character that a terminal would act on is shown instead of sent, and
nothing is read as markup. A closed pipe or a lost terminal switches a stream off; it never stops a run.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TextIO

from gradus.jsonl import to_line
from gradus.redaction import redact

DEBUG, INFO, WARNING = logging.DEBUG, logging.INFO, logging.WARNING
LEVELS = {"debug": DEBUG, "info": INFO, "warning": WARNING}

_ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but newline and tab, line separators, direction controls, surrogates (no stream encodes them)."""
_LIVE_ROWS = 12
_LIVE_COLUMNS = 72
_SECONDS_PER_REDRAW = 0.25

_FIELDS: Sequence[tuple[str, str, str]] = (
    ("reward", "reward", ".3f"),
    ("solve", "rollout/solve_rate", ".2f"),
    ("kl", "kl", ".3f"),
    ("entropy", "entropy", ".2f"),
    ("tokens", "completions/mean_length", ".0f"),
    ("mixed", "rollout/mixed_frac", ".2f"),
    ("step_s", "time/step_seconds", ".1f"),
)
"""What a step shows: name in the line, metric, format. A metric without data in the step is left out."""
_HEADS = {"solve": "Pass@1", "kl": "KL", "step_s": "s/step"}
"""Heads of the table where they are not the name in the line."""


@dataclass
class _State:
    level: int = INFO
    is_json: bool = False
    is_follower: bool = False
    is_hushed: bool = False
    live: Any = None
    rows: deque[dict[str, str]] = field(default_factory=lambda: deque(maxlen=_LIVE_ROWS))
    step_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=20))
    drawn_at: float = -1.0


_state = _State()


def set_up(level: int = INFO, is_json: bool = False) -> None:
    """Starts afresh: messages below ``level`` are not shown; ``is_json`` keeps stdout for one JSON object."""
    global _state
    close()
    _state = _State(level=level, is_json=is_json)


def follow() -> None:
    """From now on says only what this process alone can know: another one of the run speaks for all."""
    _state.level, _state.is_follower = max(_state.level, WARNING + 1), True


def hush() -> None:
    """The next failure is said by another process of the run."""
    _state.is_hushed = True


def escape(text: str) -> str:
    """``text`` with every character that a terminal would act on replaced by its ``\\x1b`` or ``\\u202e`` form.

    Example:
        escape("\\x1b[2Jgone")  # "\\\\x1b[2Jgone"
    """
    return _ACTS.sub(
        lambda match: f"\\x{ord(match[0]):02x}" if ord(match[0]) < 256 else f"\\u{ord(match[0]):04x}", text
    )


def debug(text: str) -> None:
    """A detail, shown with ``-v``."""
    _message(DEBUG, text)


def info(text: str) -> None:
    """Something that happened, one line."""
    _message(INFO, text)


def warn(text: str) -> None:
    """Something that needs a look; shown even with ``-q``."""
    _message(WARNING, text)


def result(text: str) -> None:
    """What the command was asked for. Nothing where stdout belongs to one JSON object."""
    if not (_state.is_json or _state.is_follower):
        _close_live()
        _write("stdout", text)


def answer(data: Mapping[str, Any], text: str) -> None:
    """The result of a command: ``data`` as the one JSON object with ``--json``, else ``text``."""
    if _state.is_json and not _state.is_follower:
        _write("stdout", to_line(data))
    else:
        result(text)


def failure(code: int, message: str, hint: str = "") -> None:
    """Why a command ends without a result, and what to do: the last line on stderr, and JSON with ``--json``."""
    _close_live()
    if _state.is_hushed:
        return
    message, hint = redact(message), redact(hint)
    if _state.is_json and not _state.is_follower:
        _write("stdout", to_line({"error": {"code": int(code), "message": message, "hint": hint}}))
    _write("stderr", f"gradus: {message}" + (f"\n{hint}" if hint else ""))


def step(row: Mapping[str, Any], num_steps: int) -> None:
    """Shows one optimizer step: ``row`` as in ``metrics.jsonl``. A table on a terminal, else one ``key=value`` line."""
    shown = _shown(row, num_steps)
    if _state.level > INFO:
        return
    if _state.live is None and not _state.rows and _is_live_possible():
        _start_live()
    if _state.live is None:
        _write("stderr" if _state.is_json else "stdout", " ".join(f"{key}={value}" for key, value in shown.items()))
        return
    _state.rows.append(shown)
    if time.monotonic() - _state.drawn_at >= _SECONDS_PER_REDRAW or row.get("step") == num_steps:
        _draw()


def close() -> None:
    """Ends the live table."""
    _close_live()


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as text, columns padded to their widest cell; the first row is the head.

    Example:
        table([("task", "splits"), ("countdown", "train, test")])
    """
    cells = [[escape(cell).replace("\n", " ") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def duration(seconds: float) -> str:
    """A time for people.

    Example:
        duration(10_920)  # "3h02m"
    """
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f}s"
    return f"{minutes}m" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


def _message(level: int, text: str) -> None:
    if level < _state.level:
        return
    line = redact(f"warning: {text}" if level == WARNING else text)
    if _state.live is not None and _is_terminal(sys.stderr):
        _above_live(line)
    else:
        _write("stderr", line)


def _write(name: str, text: str) -> None:
    """Writes a line to ``sys.stdout`` or ``sys.stderr``, whatever these are by now."""
    stream: TextIO | None = getattr(sys, name)
    if stream is None:
        return
    try:
        encoding = getattr(stream, "encoding", None) or "utf-8"
        line = escape(text).encode(encoding, "backslashreplace").decode(encoding)
        stream.write(line + "\n")
        stream.flush()
    except (OSError, ValueError):  # closed pipe, lost terminal, closed file
        _switch_off(stream)


def _switch_off(stream: TextIO) -> None:
    """Sends what is still to come, and what Python flushes at exit, to nowhere."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _shown(row: Mapping[str, Any], num_steps: int) -> dict[str, str]:
    """The cells of one step, in order; the loss stands in where there is no reward (warm-up)."""
    shown = {"step": f"{row['step']}/{num_steps}"}
    fields = _FIELDS if "reward" in row else (("loss", "loss", ".4f"), *_FIELDS)
    for name, metric, form in fields:
        if metric in row:
            value = row[metric]
            shown[name] = format(value, form) if isinstance(value, int | float) else str(value)
    held_out = next((row[key] for key in row if key.startswith("evaluation/") and key.endswith("/solve_rate")), None)
    if held_out is not None:
        shown["held_out"] = f"{held_out:.3f}"
    if isinstance(row.get("time/step_seconds"), int | float):
        _state.step_seconds.append(float(row["time/step_seconds"]))
        mean = sum(_state.step_seconds) / len(_state.step_seconds)
        shown["left"] = duration(mean * (num_steps - row["step"]))
    return shown


def _is_live_possible() -> bool:
    if _state.is_json or not _is_terminal(sys.stdout) or os.environ.get("TERM") in ("dumb", "unknown"):
        return False
    with suppress(OSError, ValueError):
        return os.get_terminal_size(sys.stdout.fileno()).columns >= _LIVE_COLUMNS
    return False


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()


def _start_live() -> None:
    from rich.console import Console
    from rich.live import Live

    # No refresh thread: it could neither be stopped by a lost terminal nor be kept from writing while a run exits.
    _state.live = Live(
        console=Console(markup=False, highlight=False), auto_refresh=False, redirect_stdout=False, redirect_stderr=False
    )
    _on_terminal(_state.live.start)


def _draw() -> None:
    from rich.table import Table

    names = list(dict.fromkeys(name for row in _state.rows for name in row))
    grid = Table(box=None, pad_edge=False)
    for name in names:
        grid.add_column(_HEADS.get(name, name), justify="right", no_wrap=True)
    for row in _state.rows:
        grid.add_row(*(_as_text(row.get(name, "")) for name in names))
    _on_terminal(lambda: _state.live.update(grid, refresh=True))
    _state.drawn_at = time.monotonic()


def _as_text(text: str) -> Any:
    from rich.text import Text

    return Text(escape(text))


def _above_live(line: str) -> None:
    _on_terminal(lambda: _state.live.console.print(_as_text(line), soft_wrap=True))


def _close_live() -> None:
    if _state.live is not None:
        _draw()
    if _state.live is not None:  # unless the terminal went away just now
        _on_terminal(_state.live.stop)
        _state.live = None
        _state.rows.clear()


def _on_terminal(act: Callable[[], object]) -> None:
    try:
        act()
    except (OSError, ValueError):
        _state.live = None
        _switch_off(sys.stdout)
