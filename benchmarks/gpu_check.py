"""Is gradus right and fast on this GPU? Numbers against the CPU's, bfloat16 against float32, a step beside TRL's.

    make gpu-check

Ends with exit 0 where every check holds, 1 where one does not, and 2 where there is no CUDA device. Not part of the
tests: no run of it on a GPU has been kept yet, so its bounds are expectations. What it writes to benchmarks/results/
names the device and the date.

Checks, on the embedded policy (greedy and sampled, prompts of several lengths):

- ``float32``: log-probabilities and gradients on the GPU equal the CPU's;
- ``sampler``: the sampler's log-probabilities equal the trainer's, in float32 and bfloat16;
- ``graphs``: the sampler's step was recorded as a CUDA graph, and its completions are those of the batch without graphs;
- ``bfloat16``: log-probabilities are near the float32 ones, and their error has no direction;
- ``speed``: `grpo_step.py` at the shapes of a 0.5 B and a 1.5 B policy with random weights.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SHAPES = {
    "0.5b": ["--width", "896", "--layers", "24", "--inner", "4864", "--key-heads", "2", "--vocabulary", "151936"],
    "1.5b": ["--width", "1536", "--layers", "28", "--inner", "8960", "--key-heads", "4", "--vocabulary", "151936"],
}
"""As Qwen2.5's, with heads of 64 throughout."""
MAX_FLOAT32_GAP, MAX_GRADIENT_GAP, MAX_SAMPLER_GAP = 1e-3, 1e-3, 1e-4
MAX_BFLOAT16_GAP, MAX_BFLOAT16_MEAN = 0.25, 0.02
"""Nats per token."""


MAX_OTHERS = 0.1
"""Share of completions in which one token may have been drawn otherwise, and all after it: rounding differs."""


def facts_on(
    device: str, dtype: str, samples: list[Any] | None = None, *, is_static: bool | None = None
) -> dict[str, Any]:
    """Completions of the embedded policy (or ``samples``), the trainer's log-probabilities of them, and a gradient."""
    import torch

    from gradus import load_task
    from gradus.config import ModelConfig
    from gradus.policy.load import load_policy
    from gradus.policy.logprobs import completion_logprobs
    from gradus.rollout.engine import Request, Sampling
    from gradus.rollout.local import LocalEngine

    torch.backends.cuda.matmul.allow_tf32 = False
    policy = load_policy(ModelConfig(path="nano/countdown", dtype=dtype, device=device))  # type: ignore[arg-type]
    problems = list(load_task("countdown", max_numbers=4).problems("validation", 8))
    prompts = [policy.prompt_tokens(problem.messages) for problem in problems]
    requests = [
        Request(problem=problem, prompt_tokens=prompt, seeds=tuple(range(100 * row, 100 * row + 8)))
        for row, (problem, prompt) in enumerate(zip(problems, prompts, strict=True))
    ]
    groups = samples or LocalEngine(policy, batch_size=24, is_static=is_static).generate(
        requests, Sampling(temperature=0.8, max_tokens=64), policy_step=0
    )
    logprobs_BT, _ = completion_logprobs(
        policy.model,
        prompts=prompts,
        completions=[one.tokens for group in groups for one in group],
        prompt_of=[row for row, group in enumerate(groups) for _ in group],
        temperature=0.8,
    )
    logprobs_BT.sum().backward()
    return {
        "groups": groups,
        "logprobs": logprobs_BT.detach().float().cpu(),
        "gradient": {name: p.grad.float().cpu() for name, p in policy.trainable() if p.grad is not None},
    }


def gap_to_sampler(facts: dict[str, Any]) -> float:
    """Largest distance of the sampler's log-probabilities from the trainer's (nats)."""
    import torch

    rows = [one.logprobs for group in facts["groups"] for one in group]
    return max(
        float((torch.tensor(row) - facts["logprobs"][place, : len(row)]).abs().max()) for place, row in enumerate(rows)
    )


def others(facts: dict[str, Any], plain: dict[str, Any]) -> float:
    """Share of completions that differ."""
    pairs = list(
        zip(*(tuple(one.tokens for group in each["groups"] for one in group) for each in (facts, plain)), strict=True)
    )
    return sum(mine != other for mine, other in pairs) / len(pairs)


def parity(device: str) -> dict[str, dict[str, Any]]:
    """Each check with its value and bound."""
    from gradus.rollout import static

    cpu = facts_on("cpu", "float32")
    wide = facts_on(device, "float32", cpu["groups"])
    own, narrow = facts_on(device, "float32"), facts_on(device, "bfloat16", cpu["groups"])
    plain = facts_on(device, "float32", is_static=False)
    scale = max(float(gradient.abs().max()) for gradient in cpu["gradient"].values())
    gradient_gap = max(float((wide["gradient"][name] - cpu["gradient"][name]).abs().max()) for name in cpu["gradient"])
    error = (narrow["logprobs"] - cpu["logprobs"])[cpu["logprobs"] != 0]
    found: dict[str, tuple[float, float]] = {
        "float32: log-probabilities, GPU against CPU": (
            float((wide["logprobs"] - cpu["logprobs"]).abs().max()),
            MAX_FLOAT32_GAP,
        ),
        "float32: gradient, GPU against CPU, of its largest entry": (gradient_gap / scale, MAX_GRADIENT_GAP),
        "float32: sampler against trainer": (gap_to_sampler(own), MAX_SAMPLER_GAP),
        "graphs: kinds of models that could not be recorded": (float(len(static.NOT_RECORDED)), 0.0),
        "graphs: completions that differ from those without": (others(own, plain), MAX_OTHERS),
        "bfloat16: sampler against trainer": (gap_to_sampler(facts_on(device, "bfloat16")), MAX_BFLOAT16_GAP),
        "bfloat16 against float32: largest": (float(error.abs().max()), MAX_BFLOAT16_GAP),
        "bfloat16 against float32: mean": (abs(float(error.mean())), MAX_BFLOAT16_MEAN),
    }
    return {name: {"value": value, "bound": bound, "ok": value <= bound} for name, (value, bound) in found.items()}


def speed(steps: int) -> bool:
    """`grpo_step.py` at each shape, in bfloat16; it writes its own results. False where one fails."""
    common = ["--device", "cuda", "--dtype", "bfloat16", "--rewards", "spread", "--steps", str(steps), "--write"]
    common += ["--native-microbatch-tokens", "16384"]
    commands = [[sys.executable, str(HERE / "grpo_step.py"), *common, *shape] for shape in SHAPES.values()]
    return all(subprocess.run(command, cwd=HERE.parent).returncode == 0 for command in commands)


def main(arguments: list[str] | None = None, say: Callable[[str], None] = print) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3, help="measured steps of each trainer")
    parser.add_argument("--no-speed", action="store_true", help="numbers only")
    given = parser.parse_args(arguments)
    import torch

    if not torch.cuda.is_available():
        say(f"no CUDA device here (torch {torch.__version__}); run make gpu-check on a machine with one")
        return 2
    found = parity("cuda")
    for name, fact in found.items():
        say(f"{'ok' if fact['ok'] else 'WRONG':6}{name}: {fact['value']:.2e} (at most {fact['bound']:g})")
    now = datetime.now(UTC)
    device = {"name": torch.cuda.get_device_name(), "torch": torch.__version__, "cuda": torch.version.cuda}
    path = HERE / "results" / f"gpu_check-{now:%Y-%m-%d}.json"
    path.write_text(json.dumps({"date": f"{now:%Y-%m-%d}", "device": device, "checks": found}, indent=2) + "\n")
    is_timed = given.no_speed or speed(given.steps)
    return 0 if all(fact["ok"] for fact in found.values()) and is_timed else 1


if __name__ == "__main__":
    sys.exit(main())
