"""Runs a command and notes the processor time of it and of all that it starts, beside the wall clock.

On a machine with other work the wall clock says little; processor seconds (user and system, of every process that the
command started, a Ray's too) say more. Linux only. ``python benchmarks/clock.py RUN COMMAND...`` writes ``RUN.clock.jsonl``
beside the run directory RUN that the command makes: a row for each row of its ``metrics.jsonl``, for
`benchmarks/time_to_accuracy.py`. With ``--until 0.36`` before RUN the run is told to end once its held-out pass@1 is
there. A process that lives for less than a second may be missed.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

POLL_SECONDS = 0.5
HELD_OUT = "evaluation/validation/solve_rate"
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


def rows_of(run: Path) -> list[dict[str, Any]]:
    """The whole rows of the run's metrics."""
    path = run / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def main() -> int:
    """Command line; ends with the command's exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--until", type=float, default=2.0, help="held-out pass@1 at which the run is told to end")
    parser.add_argument("run", type=Path, help="run directory")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    clock, begun, num_rows = Clock(), time.monotonic(), 0
    process = subprocess.Popen(options.command)
    with options.run.with_name(options.run.name + ".clock.jsonl").open("w", encoding="utf-8") as file:
        while True:
            has_ended = process.poll() is not None
            cpu, rows = clock.seconds(), rows_of(options.run)
            if len(rows) > num_rows or has_ended:
                row = {"rows": len(rows), "seconds": time.monotonic() - begun, "cpu_seconds": cpu}
                file.write(json.dumps(row) + "\n")
                file.flush()
                if any(row.get(HELD_OUT, 0.0) >= options.until for row in rows[num_rows:]):
                    process.send_signal(signal.SIGTERM)
                num_rows = len(rows)
            if has_ended:
                return process.returncode
            time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
