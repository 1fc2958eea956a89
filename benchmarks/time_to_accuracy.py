"""Time until a fixed held-out pass@1, by backend, from runs that evaluated as they went. Reads run directories.

Run from the repository's root, after the runs: ``python benchmarks/time_to_accuracy.py RUN... --target 0.4 [--write]``.
Clocks: all of the run, start of its processes and evaluations included; its steps alone; and, where the run was started
under `benchmarks/clock.py`, the processor time of all its processes, which other work on the machine hardly changes. A
run that never reached the target says so.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gradus.jsonl import read_jsonl
from gradus.policy.nano.build import processor
from gradus.rundir import RunDirectory
from gradus.train.start import stored

RESULTS = Path(__file__).parent / "results"
CLOCKS = ("cpu_seconds", "wall_seconds", "step_seconds")


def time_to(path: Path, target: float) -> dict[str, Any]:
    """Step, value and seconds on each clock until the first evaluation at ``target`` or above; None where there was none."""
    config = stored(RunDirectory.open(path)).config
    name = f"evaluation/{config.evaluation.split}/solve_rate"
    facts: dict[str, Any] = {"run": path.name, "backend": config.backend.name, "seed": config.seed}
    before, last, attempt, steps = 0.0, 0.0, 1, 0.0
    for number, row in enumerate(read_jsonl(path / "metrics.jsonl").rows, start=1):
        if row["attempt"] != attempt:
            before, attempt = before + last, row["attempt"]
        last, steps = row["wall_seconds"], steps + row.get("time/step_seconds", 0.0)
        if row.get(name, 0.0) >= target:
            cpu = cpu_seconds(path, number) if attempt == 1 else None
            return facts | {
                "step": row["step"], "value": row[name], "wall_seconds": before + last, "step_seconds": steps,
                "cpu_seconds": cpu,
            }  # fmt: skip
    return facts | dict.fromkeys(("step", "value", "wall_seconds", "step_seconds", "cpu_seconds"))


def cpu_seconds(path: Path, number: int) -> float | None:
    """Of all the run's processes until its metrics had ``number`` rows; None without a clock."""
    clock = path.with_name(path.name + ".clock.jsonl")
    if not clock.is_file():
        return None
    return next((row["cpu_seconds"] for row in read_jsonl(clock).rows if row["rows"] >= number), None)


def said(facts: dict[str, Any]) -> str:
    """One line of the table."""
    if facts["step"] is None:
        return "not reached"
    cpu = "" if facts["cpu_seconds"] is None else f"{facts['cpu_seconds']:6.0f} s of processors, "
    return (
        f"{cpu}{facts['wall_seconds']:6.0f} s on the wall, {facts['step_seconds']:6.0f} s of steps "
        f"(step {facts['step']}, {facts['value']:.1%})"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run directories")
    parser.add_argument("--target", type=float, required=True, help="held-out pass@1, in [0, 1]")
    parser.add_argument("--note", default="", help="what else the machine did")
    parser.add_argument("--write", action="store_true", help="write to benchmarks/results/")
    options = parser.parse_args()
    found = sorted(
        (time_to(path, options.target) for path in options.runs), key=lambda one: (one["backend"], one["seed"])
    )
    for one in found:
        print(f"{one['backend']:7s} seed {one['seed']}: {said(one)}")
    medians: dict[str, dict[str, float]] = {}
    for backend in sorted({one["backend"] for one in found}):
        mine = [one for one in found if one["backend"] == backend and one["step"] is not None]
        clocks = [name for name in CLOCKS if mine and all(one[name] is not None for one in mine)]
        medians[backend] = {name: statistics.median(one[name] for one in mine) for name in clocks}
        shown = ", ".join(f"{value:.0f} {name}" for name, value in medians[backend].items())
        print(f"{backend}: median of the {len(mine)} runs that reached {options.target:.0%}: {shown}")
    if options.write:
        facts = {
            "machine": processor(), "note": options.note, "target": options.target, "medians": medians, "runs": found,
        }  # fmt: skip
        path = RESULTS / f"time_to_accuracy-{datetime.date.today()}.json"
        path.write_text(json.dumps(facts, indent=1) + "\n")
        print(path)


if __name__ == "__main__":
    main()
