"""Runs a command and notes the processor time of it and of all that it starts, beside the wall clock.

On a machine with other work the wall clock says little; processor seconds (user and system, of every process that the
command started, a Ray's too) say more. Linux only. ``python benchmarks/clock.py RUN COMMAND...`` writes ``RUN.clock.jsonl``
beside the run directory RUN that the command makes: a row for each row of its ``metrics.jsonl``, for
`benchmarks/time_to_accuracy.py`. A process that lives for less than a second may be missed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import subprocess
import sys
import time
from pathlib import Path

POLL_SECONDS = 0.5
_CHILD_SUBREAPER = 36
"""Of prctl: processes whose parent has ended become ours, so that none is lost from sight."""


class Clock:
    """Processor seconds of all descendants of this process so far, of those that have ended too.

    Example:
        clock = Clock(); subprocess.run(["true"]); clock.seconds()
    """

    def __init__(self) -> None:
        ctypes.CDLL(None).prctl(_CHILD_SUBREAPER, 1)
        self._seen: dict[tuple[int, int], float] = {}

    def seconds(self) -> float:
        """As of now."""
        parents, times = {}, {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = path.read_text().rpartition(")")[2].split()  # from the third field on
                pid = int(path.parent.name)
                parents[pid] = int(fields[1])
                times[pid, int(fields[19])] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        for (pid, started), seconds in times.items():
            above = pid
            while above not in (0, 1, os.getpid()):
                above = parents.get(above, 0)
            if above == os.getpid() != pid:
                self._seen[pid, started] = seconds
        return sum(self._seen.values())


def main() -> int:
    """Command line; ends with the command's exit code."""
    run, command = Path(sys.argv[1]), sys.argv[2:]
    clock, begun, num_rows = Clock(), time.monotonic(), 0
    process = subprocess.Popen(command)
    with run.with_name(run.name + ".clock.jsonl").open("w", encoding="utf-8") as file:
        while True:
            has_ended = process.poll() is not None
            cpu = clock.seconds()
            metrics = run / "metrics.jsonl"
            found = metrics.read_bytes().count(b"\n") if metrics.is_file() else 0
            if found > num_rows or has_ended:
                row = {"rows": found, "seconds": time.monotonic() - begun, "cpu_seconds": cpu}
                file.write(json.dumps(row) + "\n")
                file.flush()
                num_rows = found
            if has_ended:
                return process.returncode
            time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
