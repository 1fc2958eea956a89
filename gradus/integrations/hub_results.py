"""`.eval_results/*.yaml`: one number per file, which the Hub shows beside the model and in the benchmark's ranking.

Written only for the whole test split of a data set that is a benchmark there, since nobody reads behind the number
whether it was a part of it; everything else stands in the card's ``model-index``. Format:
https://huggingface.co/docs/hub/eval-results.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gradus.evaluation.compare import Comparison
from gradus.evaluation.wording import percent


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A data set that ranks models on the Hub.

    Example:
        BENCHMARKS["gsm8k"].num_problems  # 1319
    """

    dataset: str
    """Its id on the Hub."""
    task_id: str
    """The task in its ``eval.yaml``."""
    num_problems: int
    """Of its whole test split."""


BENCHMARKS: Mapping[str, Benchmark] = {
    "gsm8k": Benchmark(dataset="openai/gsm8k", task_id="gsm8k", num_problems=1319),
}
"""By task."""


def hub_results(tree: Mapping[str, Any], results: Mapping[str, Comparison]) -> tuple[dict[str, str], list[str]]:
    """(file name to its text, notes on why there is none).

    Args:
        tree: the run's resolved config.
        results: base against trained by set, as in the card.
    """
    files: dict[str, str] = {}
    notes: list[str] = []
    for name, options in tree["tasks"].items():
        benchmark = BENCHMARKS.get(name)
        if benchmark is None or "test" not in results:
            continue
        if len(tree["tasks"]) > 1:
            reason = f"the run has {len(tree['tasks'])} tasks"
        else:
            reason = _why_not(benchmark, str(options.get("source", "")), results["test"])
        if reason:
            notes.append(f"no .eval_results/{name}.yaml: {reason}")
        else:
            files[f"{name}.yaml"] = _text(benchmark, results["test"], int(options.get("few_shot", 0)))
    return files, notes


def _why_not(benchmark: Benchmark, source: str, result: Comparison) -> str:
    """Why the number would not be the benchmark's; empty where it is."""
    if result.num_problems != benchmark.num_problems:
        return f"{result.num_problems} test problems were evaluated, the benchmark has {benchmark.num_problems}"
    if result.mismatches:
        return "base and trained were not evaluated alike"
    address = source.removeprefix("hub:").partition("#")[0].partition("@")[0]
    if not source.startswith("hub:") or address != benchmark.dataset:
        return f"source={source!r} is not hub:{benchmark.dataset}"
    return ""


def _text(benchmark: Benchmark, result: Comparison, num_shots: int) -> str:
    """One entry. The value is a percentage, as others have it there."""
    from gradus import yaml12

    estimate, settings = result.primary.trained, dict(result.settings.get("trained") or {})
    assert estimate.value is not None, "a whole split was evaluated"
    temperature = settings.get("temperature")
    decoding = (
        "greedy" if temperature == 0 else f"temperature {temperature}, mean of {result.samples_per_problem} samples"
    )
    low, high = percent(estimate.low), percent(estimate.high)
    notes = (
        f"pass@1, {num_shots}-shot, {decoding}, at most {settings.get('max_tokens')} tokens; 95 % CI {low} to {high}"
    )
    lines = yaml12.write({
        "dataset": {"id": benchmark.dataset, "task_id": benchmark.task_id},
        "value": round(100 * estimate.value, 2),
        "notes": notes,
    }).splitlines()  # fmt: skip
    return "\n".join(("- " if number == 0 else "  ") + line for number, line in enumerate(lines)) + "\n"
