"""The program of a worker process: answers requests on stdin until stdin ends.

``python -m gradus.tasks.worker MODULE:FUNCTION MEMORY FILE_SIZE PROCESSES ALARM``. A frame is a 4-byte little-endian length
and so many bytes of JSON, both ways; the first one out says that the worker is ready. The function takes the request (a
dict) and returns the reply (a dict). ``pool.py`` starts such processes and ends them.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

MAX_FRAME_BYTES = 1 << 20


def encode(message: Mapping[str, Any]) -> bytes | None:
    """A frame, or None if the message is too long or no strict JSON."""
    try:
        body = json.dumps(message, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        return None
    return None if len(body) > MAX_FRAME_BYTES else len(body).to_bytes(4, "little") + body


def serve(function: str, memory_bytes: int, file_bytes: int, num_processes: int, alarm_seconds: float) -> None:
    """Answers frames on stdin until it ends. What the function prints goes to stderr, never into the protocol."""
    inp, out = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    _limit(memory_bytes, file_bytes, num_processes)
    module, _, name = function.partition(":")
    handler = getattr(importlib.import_module(module), name)
    with os.fdopen(inp, "rb") as requests, os.fdopen(out, "wb") as replies:
        _write(replies, {"ready": True})
        while (header := requests.read(4)) and len(header) == 4:
            request = json.loads(requests.read(int.from_bytes(header, "little")))
            # Should the parent die meanwhile, nobody is left to kill a hanging call but the system's own clock.
            signal.setitimer(signal.ITIMER_REAL, alarm_seconds)
            reply = _answer(handler, request)
            signal.setitimer(signal.ITIMER_REAL, 0)
            _write(replies, reply)


def _answer(handler: Callable[[Any], object], request: Any) -> dict[str, Any]:
    try:
        reply = handler(request)
    except Exception as error:  # whatever a scorer raises is its outcome
        return {"error": f"{type(error).__name__}: {error}"[:500]}
    if not isinstance(reply, dict):
        return {"error": f"the scorer returned {type(reply).__name__}, not a dict"}
    return {"reply": reply}


def _write(stream: BinaryIO, message: dict[str, Any]) -> None:
    frame = encode(message) or encode({"error": "the reply is too long or no strict JSON"})
    assert frame is not None
    stream.write(frame)
    stream.flush()


def _limit(memory_bytes: int, file_bytes: int, num_processes: int) -> None:
    """Sets what the system knows; -1: leave it."""
    try:
        import resource
    except ImportError:
        return
    wanted = {
        "RLIMIT_CORE": 0,
        "RLIMIT_AS": memory_bytes,
        "RLIMIT_FSIZE": file_bytes,
        "RLIMIT_NPROC": num_processes,
    }
    for name, value in wanted.items():
        kind = getattr(resource, name, None)
        if kind is not None and value >= 0:
            with contextlib.suppress(ValueError, OSError):  # not supported here, or already lower
                resource.setrlimit(kind, (value, value))


if __name__ == "__main__":
    function, memory, files, processes, alarm = sys.argv[1:]
    serve(function, int(memory), int(files), int(processes), float(alarm))
