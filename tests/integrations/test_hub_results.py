"""`.eval_results`: written for the whole test split of a benchmark and for nothing else (I-14)."""

from __future__ import annotations

from typing import Any

import pytest

from gradus import yaml12
from gradus.evaluation.compare import Comparison, compare
from gradus.integrations.hub_results import hub_results
from tests.evaluation.evaluation_rows import made_rows

SETTINGS = {"temperature": 0, "max_tokens": 512, "seed": 0}


def whole(num_problems: int = 1319, **settings: Any) -> Comparison:
    """An evaluation of the test split in which 1,000 problems are right after training."""
    base, trained = made_rows([0] * num_problems), made_rows([1] * 1000 + [0] * (num_problems - 1000))
    both = {**SETTINGS, **settings}
    return compare(base, trained, base_settings=both, trained_settings=both)


def tree(source: str = "hub:openai/gsm8k#main", **options: Any) -> dict[str, Any]:
    return {"tasks": {"gsm8k": {"source": source, **options}}}


def test_the_number_of_a_whole_test_split_is_written_as_the_hub_reads_it() -> None:
    files, notes = hub_results(tree(), {"test": whole()})
    assert notes == [] and list(files) == ["gsm8k.yaml"]
    hub = pytest.importorskip("huggingface_hub")
    # the file is a list of one mapping; without its dash it is that mapping
    entry = yaml12.read(files["gsm8k.yaml"].replace("- ", "  ", 1).encode(), "gsm8k.yaml").value
    (read,) = hub.parse_eval_result_entries([entry])
    assert (read.dataset_id, read.task_id, read.value) == ("openai/gsm8k", "gsm8k", 75.82)
    assert read.notes == "pass@1, 0-shot, greedy, at most 512 tokens; 95 % CI 73.4 % to 78.0 %"
    assert hub.eval_result_entries_to_yaml([read]) == [entry]


def test_samples_and_examples_are_told() -> None:
    files, _ = hub_results(tree(few_shot=4), {"test": whole(temperature=0.7)})
    assert "pass@1, 4-shot, temperature 0.7, mean of 1 samples" in files["gsm8k.yaml"]


@pytest.mark.parametrize(
    ("config", "results", "reason"),
    [
        (tree(), {"test": whole(1200)}, "1200 test problems were evaluated, the benchmark has 1319"),
        (tree("synthetic"), {"test": whole()}, "source='synthetic' is not hub:openai/gsm8k"),
        (tree("hub:someone/gsm8k"), {"test": whole()}, "is not hub:openai/gsm8k"),
        ({"tasks": {**tree()["tasks"], "countdown": {}}}, {"test": whole()}, "the run has 2 tasks"),
        (tree(), {"validation": whole()}, ""),
        ({"tasks": {"countdown": {}}}, {"test": whole()}, ""),
    ],
)
def test_nothing_else_is_written(config: dict[str, Any], results: dict[str, Comparison], reason: str) -> None:
    files, notes = hub_results(config, results)
    assert files == {} and len(notes) == bool(reason) and all(reason in note for note in notes)
