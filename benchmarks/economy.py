"""Speed of the economy: the simulation, live rewards, value tables, look-ups, the parser. Processor seconds of one thread.

Run from the repository's root: ``python benchmarks/economy.py [--write]``. With ``--write`` the figures go to
``benchmarks/results/``, with machine and date.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from gradus.tasks.base import load_task
from gradus.tasks.economy import counterfactual
from gradus.tasks.economy.contexts import contexts
from gradus.tasks.economy.decision import canonical, parse_decision
from gradus.tasks.economy.policies import BufferStock
from gradus.tasks.economy.simulator import Economy, EconomyConfig, ShockSeries, expected_wages

NUM_ECONOMIES, NUM_HOUSEHOLDS, MONTHS = 200, 100, 24


def best_of(times: int, work: Callable[[], object]) -> float:
    """Shortest processor time (seconds) of several runs."""
    found = []
    for _ in range(times):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found)


def simulation(months: int = MONTHS) -> None:
    """200 economies for some months, draws included, in blocks of a year."""
    config, policy = EconomyConfig(), BufferStock()
    economy = Economy(config, np.repeat(expected_wages(NUM_HOUSEHOLDS)[None], NUM_ECONOMIES, axis=0))
    for start in range(0, months, 12):
        for month in ShockSeries.draw(0, range(NUM_ECONOMIES), 12, NUM_HOUSEHOLDS, skip=start):
            economy.step(*policy.decide(economy.state), month)


def measure() -> dict[str, float]:
    """All figures by name, unit in the name."""
    seconds = best_of(5, simulation)
    found = {"household_months_per_second": NUM_ECONOMIES * NUM_HOUSEHOLDS * MONTHS / seconds}
    simulation(240)
    unit = 1 << (20 if sys.platform == "darwin" else 10)  # getrusage counts bytes there, KiB elsewhere
    found["peak_memory_of_240_months_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    chosen = list(contexts("train", 10))
    values = [counterfactual.value_table(c.snapshot, c.household, "train") for c in chosen]
    answers = [(0.1 * k, 0.1 * k + 0.013) for k in range(8)]
    live = [
        best_of(3, lambda c=c, v=v: counterfactual.live_rewards(c.snapshot, c.household, answers, v, split="train"))
        for c, v in zip(chosen, values, strict=True)
    ]
    found["live_reward_of_8_answers_ms_mean"] = float(np.mean(live)) * 1e3
    found["live_reward_of_8_answers_ms_max"] = max(live) * 1e3
    tables = [best_of(2, lambda c=c: counterfactual.simulated_table(c.snapshot, c.household, "train")) for c in chosen]
    found["value_table_ms_mean"] = float(np.mean(tables)) * 1e3
    task = load_task("economy")
    problem = next(task.problems("train", 1))
    texts = [canonical(*answer) for answer in answers]
    found["look_up_of_8_answers_ms"] = best_of(20, lambda: [task.score(problem, text) for text in texts]) * 1e3
    found["parser_100000_characters_ms"] = 1e3 * max(
        best_of(3, lambda unit=unit: parse_decision(unit * (100_000 // len(unit))))
        for unit in ('{"work": 0.5, ', "{", '"', "9")
    )
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the figures to benchmarks/results/")
    arguments = parser.parse_args()
    found = measure()
    for name, value in found.items():
        print(f"{name:36} {value:14,.3f}")
    if arguments.write:
        info = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
        named = (line.split(":")[1].strip() for line in info if line.startswith("model name"))
        date = datetime.date.today().isoformat()
        machine = {"processor": next(named, platform.processor()), "python": platform.python_version()}
        content = {"date": date, **machine, "numpy": np.__version__, "threads": 1, "clock": "processor seconds"}
        path = Path(__file__).parent / "results" / f"economy-{date}.json"
        path.write_text(json.dumps({**content, "figures": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
