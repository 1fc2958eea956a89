"""How many completions per processor second each scorer judges, and how long the worst text of a megabyte takes.

Run from the repository's root: ``python benchmarks/scorers.py [--seconds 2]``. Prints one line per workload.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gradus import Problem, load_task
from gradus.tasks.base import Task
from gradus.tasks.check import hostile_texts

Workload = list[tuple[Problem, str]]


def countdown_workload(task: Task) -> Workload:
    """Right and wrong answers of about 110 characters, as a policy in training writes them."""
    workload: Workload = []
    for index, problem in enumerate(task.problems("train", 400)):
        text = load_task("countdown", trace="plain").oracle(problem)
        expression = text.partition("<answer>")[2].partition("</answer>")[0]
        wrong = " + ".join(map(str, problem.truth["numbers"]))
        answer = (expression, wrong, f"{expression} = {problem.truth['target']}", expression.replace("*", "×"))[
            index % 4
        ]
        workload.append((problem, text.replace(f"<answer>{expression}", f"<answer>{answer}")))
    return workload


def format_failures(task: Task) -> Workload:
    """The same without tags: the weaker places are searched too."""
    return [
        (problem, text.replace("<answer>", "").replace("</answer>", "")) for problem, text in countdown_workload(task)
    ]


def scores_per_second(task: Task, workload: Workload, seconds: float) -> float:
    """Per second of processor time, median over rounds of a fifth of ``seconds`` each."""
    rates = []
    for _ in range(5):
        started = time.process_time()
        num = 0
        while time.process_time() - started < seconds / 5:
            for problem, text in workload:
                task.score(problem, text)
            num += len(workload)
        rates.append(num / (time.process_time() - started))
    return statistics.median(rates)


def worst_megabyte_ms(task: Task) -> tuple[float, str]:
    """The slowest hostile text and its time, the better of two."""
    problem = next(iter(task.problems("train", 1)))
    times = []
    for label, text in hostile_texts():
        rounds = []
        for _ in range(2):
            started = time.perf_counter()
            task.score(problem, text)
            rounds.append(time.perf_counter() - started)
        times.append((min(rounds) * 1e3, label))
    return max(times)


WORKLOADS: dict[str, tuple[str, dict[str, str], Callable[[Task], Workload]]] = {
    "countdown": ("countdown", {}, countdown_workload),
    "countdown, no tags": ("countdown", {}, format_failures),
    "countdown, seed-docs": ("countdown", {"reward": "seed-docs"}, countdown_workload),
    "countdown, seed-code": ("countdown", {"reward": "seed-code"}, countdown_workload),
}
"""Name to task, its options, and what makes the completions."""


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="time per workload")
    seconds = parser.parse_args().seconds
    for label, (name, options, make) in WORKLOADS.items():
        task = load_task(name, **options)
        workload = make(task)
        length = statistics.mean(len(text) for _, text in workload)
        print(f"{label:24} {scores_per_second(task, workload, seconds):10,.0f} scores/s   {length:5.0f} characters")
    for name in sorted({name for name, _, _ in WORKLOADS.values()}):
        milliseconds, label = worst_megabyte_ms(load_task(name))
        print(f"{name:24} {milliseconds:10.1f} ms for the worst megabyte ({label})")
    for most in (3, 4):
        task = load_task("countdown", min_numbers=most, max_numbers=most)
        started = time.perf_counter()
        problems = list(task.problems("train", 2000))
        drawn = time.perf_counter()
        for problem in problems:
            task.oracle(problem)
        solved = time.perf_counter()
        print(
            f"countdown, {most} numbers     {2000 / (drawn - started):10,.0f} problems/s drawn, "
            f"{2000 / (solved - drawn):,.0f} oracle answers/s"
        )


if __name__ == "__main__":
    main()
