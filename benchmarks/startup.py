"""How long a user waits for `gradus --help` and `import gradus`: median wall-clock milliseconds of fresh processes.

python benchmarks/startup.py --repeats 11
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python (empty)": ["-c", "pass"],
    "import gradus": ["-c", "import gradus"],
    "gradus --help": ["-m", "gradus", "--help"],
    "gradus train --help": ["-m", "gradus", "train", "--help"],
}


def milliseconds(arguments: list[str]) -> float:
    """Of one process, from start to exit."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return 1e3 * (time.perf_counter() - start)


def main() -> None:
    """Runs the commands in turn, ``--repeats`` times, after one turn that only warms the disk cache."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=11)
    repeats = parser.parse_args().repeats
    seen: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(repeats + 1):
        for name, arguments in COMMANDS.items():
            value = milliseconds(arguments)
            if turn:
                seen[name].append(value)
    for name, values in seen.items():
        print(f"{name:20} {statistics.median(values):6.0f} ms  (fastest {min(values):.0f})")


if __name__ == "__main__":
    main()
