"""Scorers that work, hang, crash, lie and waste memory, run in worker processes by test_worker.py."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path


def echo(request: dict) -> object:
    """Does what ``request["do"]`` says."""
    return _DEEDS[request.get("do", "echo")](request)


def _hang_in_python(request: dict) -> None:
    while True:
        pass


def _hang_in_c(request: dict) -> None:
    re.match(r"(a*)*b", "a" * 40)  # one call, which holds the interpreter lock


def _ignore_terminate(request: dict) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(3600)


def _segfault(request: dict) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _allocate(request: dict) -> dict:
    return {"size": len(bytearray(10 << 30))}


def _print_much(request: dict) -> dict:
    for _ in range(200):
        print("x" * 100_000)
        os.write(1, b"\x05\x00\x00\x00{}")
    return {"printed": True}


def _fork_child(request: dict) -> dict:
    pid = os.fork()
    if pid == 0:
        time.sleep(3600)
    return {"child": pid}


def _break_protocol(request: dict) -> dict:
    for fd in range(3, 20):  # whichever is the way out
        try:
            os.write(fd, b"\xff\xff\xff\x7fgarbage")
        except OSError:
            continue
    return {}


_DEEDS = {
    "echo": lambda request: {"value": request.get("value")},
    "python": _hang_in_python,
    "c": _hang_in_c,
    "sleep": lambda request: time.sleep(3600),
    "ignore": _ignore_terminate,
    "segfault": _segfault,
    "exit": lambda request: os._exit(7),
    "allocate": _allocate,
    "print": _print_much,
    "raise": lambda request: 1 / 0,
    "none": lambda request: None,
    "text": lambda request: "1.0",
    "nan": lambda request: {"reward": float("nan")},
    "long": lambda request: {"reply": "x" * (2 << 20)},
    "recurse": lambda request: _DEEDS["recurse"](request),
    "write": lambda request: {"written": Path(request["path"]).write_text("x" * 10_000_000)},
    "fork": _fork_child,
    "protocol": _break_protocol,
    "environment": lambda request: {
        "names": sorted(os.environ), "home": list(map(str, Path.home().iterdir())), "torch": "torch" in sys.modules,
    },
    "pid": lambda request: {"pid": os.getpid()},
}  # fmt: skip
