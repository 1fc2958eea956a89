"""Time until a fixed held-out pass@1, by backend, from runs that evaluated as they went. Reads run directories.

Run from the repository's root, after the runs: ``python benchmarks/time_to_accuracy.py RUN... --target 0.4 [--write]``.
Two clocks: all of the run, start of its processes and evaluations included; and its steps alone. A run that never
reached the target says so.
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


def time_to(path: Path, target: float) -> dict[str, Any]:
    """Step, seconds of all attempts and seconds of steps until the first evaluation at ``target`` or above; None where there
    was none."""
    config = stored(RunDirectory.open(path)).config
    name = f"evaluation/{config.evaluation.split}/solve_rate"
    facts: dict[str, Any] = {"run": path.name, "backend": config.backend.name, "seed": config.seed}
    before, last, attempt, steps = 0.0, 0.0, 1, 0.0
    for row in read_jsonl(path / "metrics.jsonl").rows:
        if row["attempt"] != attempt:
            before, attempt = before + last, row["attempt"]
        last, steps = row["wall_seconds"], steps + row.get("time/step_seconds", 0.0)
        if row.get(name, 0.0) >= target:
            return facts | {
                "step": row["step"],
                "wall_seconds": before + last,
                "step_seconds": steps,
                "value": row[name],
            }
    return facts | {"step": None, "wall_seconds": None, "step_seconds": None, "value": None}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run directories")
    parser.add_argument("--target", type=float, required=True, help="held-out pass@1, in [0, 1]")
    parser.add_argument("--write", action="store_true", help="write to benchmarks/results/")
    options = parser.parse_args()
    found = sorted(
        (time_to(path, options.target) for path in options.runs), key=lambda one: (one["backend"], one["seed"])
    )
    for one in found:
        said = (
            f"{one['wall_seconds']:6.0f} s in all, {one['step_seconds']:6.0f} s of steps (step {one['step']}, {one['value']:.1%})"
            if one["step"] is not None
            else "not reached"
        )
        print(f"{one['backend']:7s} seed {one['seed']}: {said}")
    for backend in sorted({one["backend"] for one in found}):
        mine = [one["wall_seconds"] for one in found if one["backend"] == backend and one["step"] is not None]
        if mine:
            print(
                f"{backend}: median {statistics.median(mine):.0f} s of {len(mine)} runs that reached {options.target:.0%}"
            )
    if options.write:
        facts = {"machine": processor(),
                 "target": options.target, "runs": found}  # fmt: skip
        path = RESULTS / f"time_to_accuracy-{datetime.date.today()}.json"
        path.write_text(json.dumps(facts, indent=1) + "\n")
        print(path)


if __name__ == "__main__":
    main()
