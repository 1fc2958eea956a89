"""The command `gradus`: its verbs, its flags, its exit codes.

Only typer and the standard library are imported before a verb runs, so that `gradus --help` is quick. Results go to
stdout, everything else to stderr; with ``--json`` stdout is exactly one JSON object, for errors too.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

from gradus.cli import config, export, planning, reading, runs, tasks
from gradus.cli.errors import judge
from gradus.cli.probe import probe
from gradus.exits import Code

FLAGS = ("--json", "-v", "--verbose", "-q", "--quiet")
"""May stand anywhere on the line."""

app = typer.Typer(
    help="Post-train language models with GRPO on tasks whose answers a program can check.",
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (
    tasks.prepare,
    probe,
    runs.sft,
    runs.train,
    runs.evaluate,
    runs.compare,
    reading.report,
    reading.rollouts,
    reading.track,
    export.export,
    reading.doctor,
):
    app.command()(verb)
app.add_typer(tasks.app, name="tasks")
app.add_typer(config.app, name="config")
app.add_typer(planning.app, name="planning")


@app.callback()
def _flags(
    json: Annotated[bool, typer.Option("--json", help="Print exactly one JSON object.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show details and tracebacks.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings only.")] = False,
) -> None:
    """For the help text; `run` has read them before."""


def main() -> None:
    """Entry point of the command `gradus`."""
    warnings.showwarning = _show_warning
    sys.exit(run(sys.argv[1:]))


def _show_warning(message: Warning | str, category: type[Warning], *_: object) -> None:
    """A warning as a line for people, without the place in the source; what a library will do in future is a detail."""
    from gradus import console

    if issubclass(category, (FutureWarning, DeprecationWarning, PendingDeprecationWarning)):
        console.debug(f"{category.__name__}: {message}")
    else:
        console.warn(str(message))


def run(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code; nothing but an `os._exit` leaves it another way."""
    from gradus import console

    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    flags = [argument for argument in arguments[:end] if argument in FLAGS]
    others = [argument for argument in arguments[:end] if argument not in FLAGS] + list(arguments[end:])
    console.set_up(is_json="--json" in flags)
    try:
        console.set_up(_level(flags), is_json="--json" in flags)
        code = app([*flags, *(others or ["--help"])], standalone_mode=False, prog_name="gradus") or 0
        if code == Code.FORCED:  # typer's word for Ctrl-C
            raise KeyboardInterrupt
        return code
    except BaseException as error:  # the one place where every error becomes a line and a code
        code, message, hint = judge(error)
        console.debug("".join(traceback.format_exception(error)).rstrip())
        console.failure(code, message, hint)
        return int(code)
    finally:
        console.close()


def _level(flags: Sequence[str]) -> int:
    """The level of the flags, else of ``GRADUS_LOG_LEVEL``, else INFO."""
    from gradus.console import DEBUG, LEVELS, WARNING

    if "-v" in flags or "--verbose" in flags:
        return DEBUG
    if "-q" in flags or "--quiet" in flags:
        return WARNING
    named = os.environ.get("GRADUS_LOG_LEVEL") or "info"
    if named.lower() not in LEVELS:
        raise ValueError(f"GRADUS_LOG_LEVEL={named!r} is not a level; use {', '.join(LEVELS)}")
    return LEVELS[named.lower()]
