"""Plans judged per second in each domain, a whole step of completions, parsing, and hostile texts; beside
unified-planning and VAL where they are installed.

    python benchmarks/planning.py [--seconds 1.0] [--json FILE]

One process, one thread, processor time. unified-planning (its `SequentialPlanValidator`, problem parsed once) and VAL
(one process per plan) judge the same plans in the same run; what is not installed is said and left out.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from gradus.tasks.planning import validate
from gradus.tasks.planning.domains import FAMILIES
from gradus.tasks.planning.generate import Instance, plan_text, sources
from gradus.tasks.planning.pddl import Domain, Problem
from gradus.tasks.planning.reward import PlanningReward
from gradus.tasks.planning.val import find_binary, run, spoiled


def main() -> None:
    """Prints the tables; ``--json`` also writes the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="processor time per figure")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    arguments = parser.parse_args()
    others = {"unified-planning": unified_planning(), "VAL": val_judge()}
    for name, judge in others.items():
        if judge is None:
            print(f"{name} is not installed and is left out")
    figures: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "domains": {}}
    print(f"{'domain':<12} {'plan':>5} {'validations/s':>14} {'with constraint':>16} {'cold parse ms':>14}")
    for name in FAMILIES:
        figures["domains"][name] = row = measure_domain(name, arguments.seconds, others)
        print(
            f"{name:<12} {row['plan_length']:>5.1f} {row['validations_per_s']:>14,.0f} "
            f"{row['constrained_per_s']:>16,.0f} {row['parse_ms']:>14.2f}"
            + "".join(f"   {other} {row[other]:,.0f}/s" for other in others if other in row)
        )
    figures["step_64x16_s"] = step_seconds()
    print(f"64 problems x 16 completions, read, checked and scored: {figures['step_64x16_s']:.3f} s")
    figures |= {f"hostile_{label}_s": seconds for label, seconds in hostile()}
    for label, seconds in figures.items():
        if label.startswith("hostile_"):
            print(f"10 MB of {label[8:-2]}: {seconds:.2f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def made(name: str, *, preset: Any = "default", rate: float = 0.0, count: int = 20) -> list[Instance]:
    """Instances of a domain."""
    return list(sources([name], None, preset=preset, seed=11, constraint_rate=rate)[name].take(count))


def per_second(calls: Sequence[Callable[[], object]], seconds: float) -> float:
    """Calls per second of processor time."""
    for call in calls:
        call()
    done, started = 0, time.process_time()
    while (spent := time.process_time() - started) < seconds:
        for call in calls:
            call()
        done += len(calls)
    return done / spent


def measure_domain(name: str, seconds: float, others: dict[str, Any]) -> dict[str, float]:
    """All figures of one domain."""
    plain = [one for one in made(name, preset="user") if 4 <= len(one.reference.actions) <= 16]
    bound = [one for one in made(name, preset="user", rate=1.0) if one.plain_length is not None]
    texts = [(one.draft.problem, plan_text(one.reference.actions)) for one in plain]
    bound_texts = [(one.draft.problem, plan_text(one.reference.actions)) for one in bound]
    row = {
        "plan_length": sum(len(one.reference.actions) for one in plain) / len(plain),
        "validations_per_s": per_second([lambda p=p, t=t: validate(p, t) for p, t in texts], seconds),
        "constrained_per_s": per_second([lambda p=p, t=t: validate(p, t) for p, t in bound_texts], seconds),
        "parse_ms": 1e3
        / per_second(
            [lambda o=o: Problem.parse(o.draft.text, Domain.parse(o.draft.family.text)) for o in plain], seconds
        ),
    }
    for other, make in others.items():
        if make is not None:
            try:
                row[other] = wall_per_second([make(one) for one in plain[:8]], seconds)
            except Exception as error:  # a tool that cannot read a domain is told, and the others are measured
                print(f"{other} fails on {name}: {str(error)[:100]}")
    return row


def wall_per_second(calls: Sequence[Callable[[], object]], seconds: float) -> float:
    """Calls per second of wall time, since other judges are processes of their own."""
    done, started = 0, time.perf_counter()
    while (spent := time.perf_counter() - started) < seconds:
        calls[done % len(calls)]()
        done += 1
    return done / spent


def step_seconds() -> float:
    """Processor time to score one step: 64 problems, 16 right and spoiled completions each; the best of three."""
    from random import Random

    random, rows = Random(0), []
    for name in FAMILIES:
        for one in made(name, count=13):
            texts = ["Here is the plan:\n" + plan_text(spoiled(one.reference.actions, random)) for _ in range(16)]
            rows += [(one.draft.problem, text, len(one.reference.actions)) for text in texts]
    rows, reward = rows[: 64 * 16], PlanningReward()
    return min(processor_seconds(lambda: reward.many(rows)) for _ in range(3))


def hostile() -> Iterable[tuple[str, float]]:
    """Processor time for ten megabytes of one text each."""
    problem = made("ferry", count=1)[0].draft.problem
    sail = "(sail l0 l1)\n(sail l1 l0)\n"
    units = {"legal actions": sail, "blanks": " ", "semicolons": ";", "open parentheses": "(", "empty pairs": "()",
             "<think>": "<think>", "words": "word ", "special tokens": "<|im_end|>"}  # fmt: skip
    for label, unit in units.items():
        text = unit * (10_000_000 // len(unit))
        yield label, processor_seconds(lambda text=text: validate(problem, text, strict=False))


def processor_seconds(call: Callable[[], object]) -> float:
    """Of one call."""
    started = time.process_time()
    call()
    return time.process_time() - started


def unified_planning() -> Callable[[Instance], Callable[[], object]] | None:
    """Makes a judge of an instance's reference plan; the problem is parsed once. None where it is not installed."""
    try:
        from unified_planning.io import PDDLReader
        from unified_planning.shortcuts import PlanValidator, get_environment
    except ImportError:
        return None
    get_environment().credits_stream = None

    def make(one: Instance) -> Callable[[], object]:
        reader = PDDLReader()
        with tempfile.TemporaryDirectory() as folder:
            domain, problem = Path(folder) / "d.pddl", Path(folder) / "p.pddl"
            domain.write_text(one.draft.family.text)
            problem.write_text(one.draft.text)
            parsed = reader.parse_problem(str(domain), str(problem))
        plan = reader.parse_plan_string(parsed, plan_text(one.reference.actions))
        validator = PlanValidator(name="sequential_plan_validator")
        return lambda: validator.validate(parsed, plan)

    return make


def val_judge() -> Callable[[Instance], Callable[[], object]] | None:
    """Makes a judge that starts VAL for each plan. None where it is not installed."""
    binary = find_binary()
    if binary is None:
        return None
    return lambda one: lambda: run(one.draft.family.text, one.draft.text, one.reference.actions, binary=binary)


if __name__ == "__main__":
    main()
