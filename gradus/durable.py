"""Every write, rename and delete in a run directory: whole or absent after a kill, still there after a power loss.

The order is always the same: temporary file, fsync, rename, fsync of the folder. Before each operation ``fault_point``
is called with ``<what>.<operation>``; it does nothing, and tests put a kill or an errno there. Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

MARKER = ".gradus"
"""File at the top of a run directory; nothing is deleted outside such a directory."""
TEMPORARY = ".tmp-"
TRASH = ".trash-"

_UNFINISHED = re.compile(r"\.(?:tmp|trash)-.*-\d+-[0-9a-f]{8}", re.DOTALL)

DISK_ERRNOS = frozenset({errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT, errno.EFBIG})
"""Errors of the machine, not of the program: full, broken, read-only, over quota, over the file size limit."""


def _nothing(point: str) -> None:
    pass


fault_point: Callable[[str], None] = _nothing
"""Called before each operation. Tests replace it; nothing else may."""


def _at(what: str, operation: str) -> None:
    fault_point(f"{what}.{operation}")


def unique_name(prefix: str, name: str) -> str:
    """``<prefix><name>-<pid>-<8 hex>``: a name nobody else uses, that says which process made it."""
    return f"{prefix}{name}-{os.getpid()}-{secrets.token_hex(4)}"


def sync(path: Path, *, what: str = "file") -> None:
    """Forces a file or a folder (its list of names) to the disk."""
    _at(what, "sync")
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if sys.platform == "darwin" and not path.is_dir():
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # fsync alone leaves the data in the drive's cache
        else:
            os.fsync(descriptor)
    except OSError as error:
        if not (path.is_dir() and error.errno == errno.EINVAL):  # some file systems have nothing to sync in a folder
            raise
    finally:
        os.close(descriptor)


def write_bytes(path: Path, data: bytes, *, what: str = "file") -> None:
    """Writes a whole file: readers see the former content or the new one. Leaves nothing behind when it fails."""
    temporary = path.with_name(unique_name(TEMPORARY, path.name))
    try:
        _at(what, "write")
        temporary.write_bytes(data)
        sync(temporary, what=what)
        replace(temporary, path, what=what)
    except BaseException:
        discard(temporary)
        raise


def write_text(path: Path, text: str, *, what: str = "file") -> None:
    """As ``write_bytes``, UTF-8."""
    write_bytes(path, text.encode(), what=what)


def write_json(path: Path, value: Any, *, what: str = "file") -> None:
    """As ``write_bytes``: ASCII, keys in the given order. ValueError for NaN and infinities."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n", what=what)


def append_line(path: Path, text: str, *, what: str = "record") -> None:
    """Adds one line with one write. A line that did not fit on the disk is taken back whole (OSError); one that a kill
    tore before is ended, so that it cannot swallow this one."""
    assert "\n" not in text, "one line"
    data = text.encode() + b"\n"
    _at(what, "append")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        length = os.fstat(descriptor).st_size
        if length and os.pread(descriptor, 1, length - 1) != b"\n":
            data = b"\n" + data
        if os.write(descriptor, data) != len(data):
            os.ftruncate(descriptor, length)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(descriptor)


def truncate(path: Path, length_bytes: int, *, what: str = "record") -> None:
    """Cuts a file to its first ``length_bytes`` bytes."""
    _at(what, "truncate")
    os.truncate(path, length_bytes)
    sync(path, what=what)


def make_directory(path: Path, *, what: str = "folder") -> None:
    """Makes a folder and its missing parents; there already is fine."""
    if path.is_dir():
        return
    make_directory(path.parent, what=what)
    _at(what, "make")
    path.mkdir(exist_ok=True)
    sync(path.parent, what=what)


def rename(old: Path, new: Path, *, what: str = "file") -> None:
    """Gives a file or a folder another name, at once and lastingly. ``new`` may not exist."""
    assert not os.path.lexists(new), f"{new} exists"
    _at(what, "rename")
    old.rename(new)
    sync(new.parent, what=what)
    if old.parent != new.parent:
        sync(old.parent, what=what)


def replace(old: Path, new: Path, *, what: str = "file") -> None:
    """As ``rename`` for files; an existing ``new`` is replaced."""
    _at(what, "replace")
    old.replace(new)
    sync(new.parent, what=what)


def remove_tree(path: Path, *, what: str = "tree") -> None:
    """Removes a folder or file below a run directory. It first gets a ``.trash-`` name, so that a kill half way cannot
    leave half of it under a valid one. ValueError outside a run directory."""
    _check_removable(path)
    if not os.path.lexists(path):
        return
    trash = path
    if not path.name.startswith((TRASH, TEMPORARY)):
        trash = path.with_name(unique_name(TRASH, path.name))
        rename(path, trash, what=what)
    _at(what, "remove")
    if trash.is_dir() and not trash.is_symlink():
        shutil.rmtree(trash)
    else:
        trash.unlink()


def discard(temporary: Path) -> None:
    """Removes an unfinished file or folder after an error. What cannot be removed is swept at the next start: the error
    that led here matters more."""
    assert temporary.name.startswith(TEMPORARY), "only what is unfinished"
    with contextlib.suppress(OSError):
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


def _check_removable(path: Path) -> None:
    """Only what lies, without any symbolic link in between, below a folder with our marker may be removed."""
    for folder in path.absolute().parents:
        if ".." in path.parts or folder.is_symlink():
            break
        if (folder / MARKER).is_file():
            return
    raise ValueError(f"{path} is not inside a run directory (no {MARKER} above it); nothing was removed")


def leftovers(folder: Path) -> list[Path]:
    """Temporary files and trash at any depth below ``folder``: what killed processes did not finish."""
    found = []
    for place, folders, files in os.walk(folder):  # goes through no symbolic link
        unfinished = [name for name in (*folders, *files) if _UNFINISHED.fullmatch(name)]
        found += [Path(place, name) for name in sorted(unfinished)]
        folders[:] = [name for name in folders if name not in unfinished]
    return found


def check_renames(folder: Path) -> None:
    """ValueError where renaming a folder is not one step (object stores mounted as folders copy file by file, so that a
    kill leaves half a checkpoint under its final name)."""
    old, new = folder / unique_name(TEMPORARY, "rename-a"), folder / unique_name(TEMPORARY, "rename-b")
    try:
        old.mkdir()
        (old / "inside").write_bytes(b"whole")
        before = (old.stat().st_ino, (old / "inside").stat().st_ino)
        old.rename(new)
        after = (new.stat().st_ino, (new / "inside").stat().st_ino)
        if before != after or old.exists():
            raise ValueError(
                f"{folder}: renaming a folder copies it here, so a checkpoint could be left half written; a local file "
                "system (ext4, xfs, apfs) is needed. Choose another place with GRADUS_RUNS_DIR"
            )
    finally:
        for path in (old, new):
            shutil.rmtree(path, ignore_errors=True)
