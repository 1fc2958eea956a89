"""Every error as an exit code, what is wrong, and what to do next."""

from __future__ import annotations

import errno

import typer

from gradus.exits import Code, Exit

EXTRAS = {
    "torch": "train", "transformers": "train", "peft": "train", "safetensors": "train", "datasets": "train",
    "pyarrow": "train", "trl": "trl", "accelerate": "trl", "deepspeed": "parallel",
}  # fmt: skip
"""Package to the extra that installs it."""
_MACHINE = {errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.ENOMEM}
_LESS_MEMORY = "lower sampling.group_size, engine.batch_size or optimizer.microbatch_tokens"


def judge(error: BaseException) -> tuple[int, str, str]:
    """Exit code, message and hint (empty where the message says what to do)."""
    if isinstance(error, Exit):
        return error.code, error.message, error.hint
    if isinstance(error, typer.TyperException):  # an argument or a verb that does not exist
        return Code.USAGE, " ".join(error.format_message().split()), "see: gradus --help"
    if isinstance(error, ValueError):
        return Code.USAGE, str(error), ""
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return Code.INTERRUPTED, "interrupted", "run the same command again"
    if isinstance(error, MemoryError):
        return Code.MACHINE, "out of memory", _LESS_MEMORY
    if isinstance(error, OSError) and error.errno in _MACHINE:
        return Code.MACHINE, _about_file(error), "repair it, then run the same command again"
    if isinstance(error, OSError) and error.filename is not None:
        return Code.USAGE, _about_file(error), "give a path that can be read and written"
    if isinstance(error, ModuleNotFoundError) and (extra := EXTRAS.get((error.name or "").partition(".")[0])):
        return Code.USAGE, f"this needs the package {error.name}; install gradus[{extra}]", ""
    return (
        Code.INTERNAL,
        f"internal error: {type(error).__name__}: {error}",
        "a defect of gradus; -v shows its traceback",
    )


def _about_file(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename is not None else str(error.strerror)
