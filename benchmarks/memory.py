"""Peak memory of a GRPO step with a vocabulary of real size, native and TRL, on a CPU.

    python benchmarks/memory.py --write

Each figure is the highest resident memory of a fresh process during two optimizer steps, less what it held when model,
optimizer and trainer were made: gradients, moments, activations, logits. The policy is small (random weights), so that
the part that grows with the vocabulary shows. What is asked:

- native, more completions in a step, same micro-batch: the peak stays;
- native, more tokens in a micro-batch: it grows by their activations;
- native, 151,936 tokens of vocabulary instead of 2,048, at few and at many tokens: what a token of the micro-batch adds
  stays, since logits never exist for all of them at once;
- TRL at the same micro-batch: at most 0.6 of its peak is the bar.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import grpo_step

GROUP_SIZE, LARGE, SMALL = 4, 151_936, 2_048
PROMPT_TOKENS = 64
BAR = 0.6
CASES: dict[str, dict[str, Any]] = {
    "base": {"worker": "native", "problems": 4, "microbatch": 8, "tokens": 64},
    "2 × the completions": {"worker": "native", "problems": 8, "microbatch": 8, "tokens": 64},
    "4 × the completions": {"worker": "native", "problems": 16, "microbatch": 8, "tokens": 64},
    "2 × the micro-batch": {"worker": "native", "problems": 4, "microbatch": 16, "tokens": 64},
    "small vocabulary": {"worker": "native", "problems": 4, "microbatch": 8, "tokens": 64, "vocabulary": SMALL},
    "small vocabulary, 2 × the micro-batch": {
        "worker": "native",
        "problems": 4,
        "microbatch": 16,
        "tokens": 64,
        "vocabulary": SMALL,
    },
    "TRL": {"worker": "trl", "problems": 4, "microbatch": 8, "tokens": 64},
    "TRL, 2 × the micro-batch": {"worker": "trl", "problems": 4, "microbatch": 16, "tokens": 64},
}
"""What is varied; ``microbatch`` in completions, ``tokens`` per completion (the policies never end by themselves)."""


def work(case: dict[str, Any], channel: Any) -> None:
    """Body of a worker process: two steps with the code of `grpo_step`, its facts as JSON lines."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    grpo_step.NUM_PROBLEMS, grpo_step.GROUP_SIZE = case["problems"], GROUP_SIZE
    grpo_step.SHAPES["short"] = (PROMPT_TOKENS, case["tokens"])
    groups = -(-case["microbatch"] // GROUP_SIZE)
    arguments = argparse.Namespace(
        shape="short",
        reward="spread",
        steps=1,
        dtype="float32",
        device="cpu",
        inner=None,
        key_heads=None,
        width=case.get("width", 64),
        layers=case.get("layers", 2),
        vocabulary=case.get("vocabulary", LARGE),
        trl_microbatch=case["microbatch"],
        native_microbatch_tokens=groups * PROMPT_TOKENS + case["microbatch"] * case["tokens"],
    )
    memory: list[Any] = []

    def step_done(fact: dict[str, Any]) -> None:
        if fact.get("ready"):
            memory.extend((grpo_step.resident_bytes(), grpo_step.PeakMemory()))
            fact["resident_bytes"] = memory[0]
        else:
            fact["added_bytes"] = memory[1].peak_bytes - memory[0]
        channel.write(json.dumps(fact) + "\n")
        channel.flush()

    with tempfile.TemporaryDirectory() as folder:
        {"native": grpo_step.serve_native, "trl": grpo_step.serve_trl}[case["worker"]](
            arguments, step_done, Path(folder)
        )


def measured(case: dict[str, Any], *, is_verbose: bool) -> dict[str, Any]:
    """Facts of one case from a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--case", json.dumps(case)],
        input="step\n" * 8,
        stdout=subprocess.PIPE,
        stderr=None if is_verbose else subprocess.DEVNULL,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"a worker died (exit {done.returncode}); run with --verbose to see why")
    ready, *steps = [json.loads(line) for line in done.stdout.splitlines()]
    return {
        **case,
        "parameters": ready["parameters"],
        "resident_bytes": ready["resident_bytes"],
        "added_bytes": max(step["added_bytes"] for step in steps),
    }


def verdicts(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What the figures say to each question."""
    added = {name: fact["added_bytes"] for name, fact in found.items()}
    tokens = 8 * 64
    large = (added["2 × the micro-batch"] - added["base"]) / tokens
    small = (added["small vocabulary, 2 × the micro-batch"] - added["small vocabulary"]) / tokens
    return {
        "4 × the completions / base": added["4 × the completions"] / added["base"],
        "bytes that a completion token of the micro-batch adds, large vocabulary": large,
        "bytes that a completion token of the micro-batch adds, small vocabulary": small,
        "bytes of one row of float32 logits": 4 * LARGE,
        "native / TRL": added["base"] / added["TRL"],
        "native / TRL, 2 × the micro-batch": added["2 × the micro-batch"] / added["TRL, 2 × the micro-batch"],
        "bar": BAR,
    }


def main() -> None:
    """Parses the command line; a worker is this file again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the figures under benchmarks/results/")
    parser.add_argument("--verbose", action="store_true", help="show what the workers print")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        channel = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        work(json.loads(arguments.case), channel)
        return
    found = {}
    for name, case in CASES.items():
        found[name] = measured(case, is_verbose=arguments.verbose)
        print(f"{name:40}{found[name]['added_bytes'] / 1e6:10.0f} MB added", flush=True)
    said = verdicts(found)
    for question, value in said.items():
        print(f"{question:80}{value:14,.2f}")
    if arguments.write:
        now = datetime.now(UTC)
        hardware = grpo_step.hardware("cpu")
        content = {"date": f"{now:%Y-%m-%d}", "hardware": hardware, "cases": found, "verdicts": said}
        path = grpo_step.RESULTS / f"memory-{now:%Y-%m-%d}.json"
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        print(f"written: {grpo_step.RESULTS.name}/{path.name}")


if __name__ == "__main__":
    main()
