"""Learning curves of runs side by side, by backend: what was learned per step, with intervals. Reads run directories.

Run from the repository's root, after the runs: ``python benchmarks/learning_curves.py RUN... [--write]``. With ``--write``
figures and picture go to ``benchmarks/results/``, with machine and date. Runs that differ in more than backend, seed
and what is evaluated or saved are refused.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gradus.evaluation.stats import share_interval
from gradus.jsonl import read_jsonl
from gradus.policy.nano.build import processor
from gradus.yaml12 import read

RESULTS = Path(__file__).parent / "results"
COLORS = {"native": "#1f5fa8", "trl": "#c1571a", "verl": "#3b7d3b"}
SMOOTH_STEPS = 9
FREE = ("name", "seed", "backend", "torch_threads", "evaluation", "checkpoint", "records")
"""What may differ between runs that are drawn together; how many problems an evaluation has shows in its interval."""


def tree_of(path: Path) -> dict[str, Any]:
    """The config of a run as it stands there, also where another version of gradus wrote it."""
    return dict(read((path / "resolved.yaml").read_bytes(), path.name).value)


def of_run(path: Path) -> dict[str, Any]:
    """Backend, seed, rewards by step, and by step of an evaluation what share of its completions of each problem is right."""
    config = tree_of(path)
    rows = read_jsonl(path / "metrics.jsonl").rows
    split = config["evaluation"]["split"]
    name = f"evaluation/{split}/solve_rate"
    plain = {key: value for key, value in config.items() if key not in FREE}
    return {
        "backend": config["backend"]["name"],
        "seed": config["seed"],
        "settings": json.dumps(plain, sort_keys=True),
        "rewards": [[row["step"], row["reward"]] for row in rows if "reward" in row],
        "held_out": {
            row["step"]: solved(path / "evaluations" / split / f"step_{row['step']:06d}.jsonl")
            for row in rows
            if name in row
        },
        "num_samples": config["evaluation"]["samples_per_problem"],
        "train_seconds": sum(row.get("time/step_seconds", 0.0) for row in rows),
    }


def solved(path: Path) -> dict[str, float]:
    """Share of right completions by problem."""
    found: dict[str, list[bool]] = {}
    for row in read_jsonl(path).rows:
        found.setdefault(row["problem_id"], []).append(row["correct"])
    return {problem: sum(values) / len(values) for problem, values in found.items()}


def gathered(runs: list[dict[str, Any]], *, is_mixed: bool = False) -> dict[str, dict[str, Any]]:
    """By backend: mean rewards and mean pass@1 of its runs, as far as all of them went. The runs have their problems in
    common, so an interval is over problems, each with all its completions by all runs: it tells these runs apart from
    others on other problems, not from runs with other seeds. ValueError where runs are not of one experiment."""
    if len({run["settings"] for run in runs}) > 1 and not is_mixed:
        raise ValueError(
            "these runs differ in more than backend and seed; draw runs of one recipe with the same settings"
        )
    found = {}
    for backend in sorted({run["backend"] for run in runs}):
        mine = [run for run in runs if run["backend"] == backend]
        held_out = []
        for step in sorted(set.intersection(*(set(run["held_out"]) for run in mine))):
            evaluations = [run["held_out"][step] for run in mine]
            problems = set.intersection(*map(set, evaluations))
            rates = [sum(one[problem] for one in evaluations) / len(mine) for problem in sorted(problems)]
            estimate = share_interval(rates, sum(run["num_samples"] for run in mine))
            held_out.append([step, estimate.value, estimate.low, estimate.high])
        by_step: dict[int, list[float]] = {}
        for run in mine:
            for step, reward in run["rewards"]:
                by_step.setdefault(step, []).append(reward)
        everywhere = {step: values for step, values in sorted(by_step.items()) if len(values) == len(mine)}
        rewards = [[step, sum(values) / len(values)] for step, values in everywhere.items()]
        found[backend] = {
            "seeds": sorted(run["seed"] for run in mine), "rewards": rewards, "held_out": held_out,
            "train_seconds": [run["train_seconds"] for run in mine],
        }  # fmt: skip
    return found


def picture(curves: dict[str, dict[str, Any]], path: Path) -> None:
    """Rewards of training on the left, held-out pass@1 on the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    longest = max(row[0] for curve in curves.values() for row in curve["rewards"])
    half = SMOOTH_STEPS // 2 if longest >= 3 * SMOOTH_STEPS else 0
    for number, (backend, curve) in enumerate(curves.items()):
        label = f"{backend} ({len(curve['seeds'])} run{'s' * (len(curve['seeds']) > 1)})"
        color = COLORS[backend]
        steps, values = [row[0] for row in curve["rewards"]], [row[1] for row in curve["rewards"]]
        near = [[one for at, one in curve["rewards"] if abs(at - step) <= half] for step in steps]
        means = [sum(some) / len(some) for some in near]
        left.plot(steps, values, ".", color=color, alpha=0.25, markersize=3)
        left.plot(steps, means, color=color, label=label)
        places = [row[0] + 0.4 * (number - 1) for row in curve["held_out"]]
        middle = [row[1] for row in curve["held_out"]]
        spread = [[row[1] - row[2] for row in curve["held_out"]], [row[3] - row[1] for row in curve["held_out"]]]
        right.errorbar(places, middle, yerr=spread, color=color, marker="o", markersize=4, capsize=2, label=label)
    left.set_title(
        "Reward of the step's completions" + f" (mean of {SMOOTH_STEPS} steps)" * bool(half), loc="left", fontsize=10
    )
    right.set_title("Held-out pass@1, 95 % intervals", loc="left", fontsize=10)
    for place in (left, right):
        place.set_xlabel("step")
        place.spines[["top", "right"]].set_visible(False)
        place.legend(frameon=False, fontsize=8)
    figure.savefig(path, metadata={"Software": None})


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run directories")
    parser.add_argument("--name", default="backends", help="of the files")
    parser.add_argument("--write", action="store_true", help="write to benchmarks/results/")
    parser.add_argument("--mixed", action="store_true", help="draw them although their settings differ")
    options = parser.parse_args()
    found = [of_run(path) for path in options.runs]
    curves = gathered(found, is_mixed=options.mixed)
    for backend, curve in curves.items():
        print(f"{backend}, seeds {curve['seeds']}, {min(curve['train_seconds']):.0f} s of steps at least:")
        for step, value, low, high in curve["held_out"]:
            print(f"  step {step:4d}  pass@1 {value:6.1%}  [{low:6.1%}, {high:6.1%}]")
    if options.write:
        stem = f"{options.name}-{datetime.date.today()}"
        facts = {"machine": processor(),
                 "settings": json.loads(found[0]["settings"]), "curves": curves}  # fmt: skip
        (RESULTS / f"{stem}.json").write_text(json.dumps(facts, indent=1) + "\n")
        picture(curves, RESULTS / f"{stem}.png")
        print(RESULTS / f"{stem}.png")


if __name__ == "__main__":
    main()
