"""Countdown's problems: distribution, splits that never leak, sources, and bad input."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from gradus import load_task
from gradus.exits import Exit
from gradus.tasks.countdown.generate import split_of
from gradus.tasks.countdown.solver import is_reachable
from gradus.types import SPLITS, Problem


def key(problem: Problem) -> tuple[int, ...]:
    return (problem.truth["target"], *sorted(problem.truth["numbers"]))


def test_known_problems() -> None:
    """Golden: a change would silently give every run other problems."""
    drawn = [problem.truth for problem in load_task("countdown").problems("train", 3)]
    assert drawn == [
        {"numbers": [51, 30, 53, 77], "target": 94},
        {"numbers": [25, 46, 97], "target": 26},
        {"numbers": [59, 24, 12, 41], "target": 18},
    ]
    assert split_of((1, 2, 3), 10) == split_of((3, 1, 2), 10) == "train"
    splits = {number: split_of((5, 7, number), 50) for number in range(1, 200)}
    assert [number for number, split in splits.items() if split == "validation"] == [19, 42]
    assert [number for number, split in splits.items() if split == "test"] == [1, 24, 52, 57, 77, 124, 168]


def test_same_problems_in_another_process() -> None:
    program = (
        "from gradus import load_task; import json;"
        "print(json.dumps([dict(p.truth) for p in load_task('countdown', seed=3).problems('test', 5)]))"
    )
    here = [dict(problem.truth) for problem in load_task("countdown", seed=3).problems("test", 5)]
    for hash_seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, check=True, env={"PYTHONHASHSEED": hash_seed}
        )
        assert json.loads(run.stdout) == here


def test_distribution() -> None:
    problems = list(load_task("countdown").problems("train", 3000))
    targets = [problem.truth["target"] for problem in problems]
    numbers = [number for problem in problems for number in problem.truth["numbers"]]
    assert all(10 <= target <= 100 for target in targets)
    assert all(1 <= number <= 99 for number in numbers)
    assert {min(targets), max(targets), min(numbers), max(numbers)} == {10, 100, 1, 99}
    assert 53 < sum(targets) / len(targets) < 57, "uniform targets have the mean 55"
    assert 43 < sum(numbers) / len(numbers) < 48, "solvable draws have smaller numbers than 50"
    assert 0.46 < sum(problem.domain == "n3" for problem in problems) / len(problems) < 0.54
    assert len({key(problem) for problem in problems}) == len(problems)
    truths = [(tuple(p.truth["numbers"]), p.truth["target"]) for p in problems if p.domain == "n3"]
    additive = [is_reachable(*truth, "+-") for truth in truths]
    assert 0.66 < sum(additive) / len(additive) < 0.76, "about 72 % of three-number problems need no product"
    for domain, low, high in (("n3", 0.25, 0.30), ("n4", 0.49, 0.56)):
        difficulties = [problem.difficulty for problem in problems if problem.domain == domain]
        assert low < sum(difficulties) / len(difficulties) < high


def test_every_problem_is_solvable_and_in_its_split() -> None:
    for split in SPLITS:
        for problem in load_task("countdown", min_numbers=1, max_numbers=6).problems(split, 40):
            numbers, target = tuple(problem.truth["numbers"]), problem.truth["target"]
            assert is_reachable(numbers, target)
            assert split_of(numbers, target) == split
            assert problem.id.startswith(f"countdown/{split}/")


def test_limit_is_a_prefix() -> None:
    task = load_task("countdown")
    assert list(task.problems("train", 5)) == list(task.problems("train", 9))[:5]
    assert list(load_task("countdown", num_train=7).problems("train")) == list(task.problems("train", 7))
    assert list(task.problems("train", 0)) == []


def rows_file(path: Path, problems: list[tuple[list[int], int]], layout: str) -> Path:
    rows = {
        "hub": lambda numbers, target: {"target": target, "nums": numbers},
        "floats": lambda numbers, target: {"target": float(target), "numbers": [float(number) for number in numbers]},
        "texts": lambda numbers, target: {"target": str(target), "nums": [str(number) for number in numbers]},
        "verl": lambda numbers, target: {
            "reward_model": {"style": "rule", "ground_truth": {"target": target, "numbers": numbers}}
        },
        "verl text": lambda numbers, target: {
            "reward_model": {"ground_truth": json.dumps({"target": target, "numbers": numbers})}
        },
        "prepared": lambda numbers, target: {"id": "x", "truth": {"target": target, "numbers": numbers}},
    }[layout]
    path.write_text("".join(json.dumps(rows(numbers, target)) + "\n" for numbers, target in problems))
    return path


@pytest.mark.parametrize("layout", ["hub", "floats", "texts", "verl", "verl text", "prepared"])
def test_files_of_every_layout(tmp_path: Path, layout: str) -> None:
    drawn = [(list(p.truth["numbers"]), p.truth["target"]) for p in load_task("countdown").problems("train", 60)]
    drawn += [(list(p.truth["numbers"]), p.truth["target"]) for p in load_task("countdown").problems("test", 20)]
    task = load_task("countdown", source=str(rows_file(tmp_path / "rows.jsonl", drawn, layout)))
    read = {split: list(task.problems(split)) for split in ("train", "test")}
    assert [(p.truth["numbers"], p.truth["target"]) for p in read["train"]] == drawn[:60]
    assert [(p.truth["numbers"], p.truth["target"]) for p in read["test"]] == drawn[60:]
    assert [p.id for p in read["test"]] == [f"countdown/test/{row:05d}" for row in range(60, 80)]


def test_parquet_and_json(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    rows = [{"target": 11, "nums": [2, 5, 8]}, {"target": 24, "nums": [3, 3, 8, 8]}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    (tmp_path / "a.json").write_text(json.dumps(rows))
    for name in ("a.parquet", "a.json"):
        task = load_task("countdown", source=str(tmp_path / name))
        truths = [problem.truth for split in SPLITS for problem in task.problems(split)]
        assert {"numbers": [2, 5, 8], "target": 11} in truths
        assert len(truths) == 2


def test_splits_never_meet(tmp_path: Path) -> None:
    """No seed and no source can put one problem, with its numbers in any order, in two splits."""
    splits: dict[str, set[tuple[int, ...]]] = {split: set() for split in SPLITS}
    everything: list[tuple[list[int], int]] = []
    for seed in range(10):
        task = load_task("countdown", seed=seed, max_numbers=3, number_range=(1, 30))
        for split in SPLITS:
            problems = list(task.problems(split, 150 if split == "train" else 25))
            splits[split] |= {key(problem) for problem in problems}
            everything += [(problem.truth["numbers"][::-1], problem.truth["target"]) for problem in problems]
    for number, layout in enumerate(("hub", "verl")):
        path = rows_file(tmp_path / f"{number}.jsonl", everything[number::2], layout)
        for split in SPLITS:
            splits[split] |= {key(problem) for problem in load_task("countdown", source=str(path)).problems(split)}
    assert all(splits.values())
    for one, other in (("train", "test"), ("train", "validation"), ("validation", "test")):
        assert not splits[one] & splits[other]


def test_split_by_row_says_what_it_leaks(tmp_path: Path) -> None:
    rows = [([2, 5, 8], 11), ([3, 3, 8], 24), ([1, 2, 3], 6), ([8, 5, 2], 11), ([4, 9, 9], 40), ([7, 1, 1], 9)]
    path = rows_file(tmp_path / "rows.jsonl", rows, "hub")
    task = load_task("countdown", source=str(path), split_by="row", num_train=3, num_test=2, num_validation=1)
    assert [problem.truth["numbers"] for problem in task.problems("train")] == [numbers for numbers, _ in rows[:3]]
    with pytest.warns(UserWarning, match=r"1 of 2 test problems \(50.0%\) are in train"):
        problems = list(task.problems("test"))
    assert [problem.id for problem in problems] == ["countdown/test/00003", "countdown/test/00004"]
    with pytest.warns(UserWarning, match="0 of 1 validation"):
        assert [problem.truth["target"] for problem in task.problems("validation")] == [9]


def test_hub_is_refused_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADUS_OFFLINE", "1")
    task = load_task("countdown", source="hub:someone/countdown")
    with pytest.raises(ValueError, match="GRADUS_OFFLINE=1 forbids it; give a local file"):
        next(task.problems("train"))


def test_nothing_is_opened_before_the_first_problem() -> None:
    task = load_task("countdown", source="does/not/exist.jsonl")
    iterator = task.problems("train")
    assert task.score(task.problem(numbers=[2, 5, 8], target=11), "<answer>8 + 5 - 2</answer>").correct
    with pytest.raises(ValueError, match="does not exist"):
        next(iterator)


def test_rows_that_are_no_problems(tmp_path: Path) -> None:
    good = [{"target": 11, "nums": [2, 5, 8]}] * 98
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, [*good, {"target": 2.5, "nums": [1]}, {"target": 1}])) + "\n")
    split = split_of((2, 5, 8), 11)
    assert len(list(load_task("countdown", source=str(path)).problems(split))) == 98
    path.write_text("\n".join(map(json.dumps, [*good, *[{"target": 2.5, "nums": [1]}] * 20])) + "\n")
    with pytest.raises(Exit, match="not_a_problem"):
        list(load_task("countdown", source=str(path)).problems(split))
    path.write_text(json.dumps({"question": "a", "answer": "b"}) + "\n")
    with pytest.raises(ValueError, match="has the columns question, answer; Countdown needs target and nums"):
        list(load_task("countdown", source=str(path)).problems(split))


@pytest.mark.parametrize(
    ("numbers", "target"),
    [
        ([2, 5, 8], 11), ([2.0, 5.0, 8.0], 11.0), (["2", "5", "8"], "11"), ((2, 5, 8), 11), (iter([2, 5, 8]), " 11 "),
    ],
)  # fmt: skip
def test_raw_fields(numbers: object, target: object) -> None:
    problem = load_task("countdown").problem(numbers=numbers, target=target)
    assert problem.truth == {"numbers": [2, 5, 8], "target": 11}
    assert (problem.id, problem.domain) == ("countdown/given/2_5_8_to_11", "n3")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"numbers": [], "target": 1}, "numbers has none; give 1 to 8"),
        ({"numbers": [1] * 9, "target": 1}, "more than 8; give 1 to 8"),
        ({"numbers": [2.5], "target": 1}, "2.5 is not an integer; give integers"),
        ({"numbers": [True], "target": 1}, "True is not an integer"),
        ({"numbers": [None], "target": 1}, "None is not an integer"),
        ({"numbers": ["1e3"], "target": 1}, "'1e3' is not an integer"),
        ({"numbers": ["٣"], "target": 1}, "is not an integer"),
        ({"numbers": ["1_0"], "target": 1}, "is not an integer"),
        ({"numbers": [10**18], "target": 1}, "more than 18 digits"),
        ({"numbers": ["1" * 19], "target": 1}, "is not an integer; give integers of at most 18 digits"),
        ({"numbers": "258", "target": 1}, "'258' is not a list"),
        ({"numbers": 3, "target": 1}, "3 is not a list"),
        ({"numbers": [1], "target": float("nan")}, "target: nan is not an integer"),
        ({"numbers": [1], "target": float("inf")}, "target: inf is not an integer"),
        ({"numbers": [1], "target": 1.5}, "target: 1.5 is not an integer"),
        ({"numbers": [1]}, "has the fields numbers and target, not numbers"),
        ({"numbers": [1], "target": 1, "goal": 1}, "not goal, numbers, target"),
    ],
)
def test_raw_fields_refused(raw: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as error:
        load_task("countdown").problem(**raw)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"min_numbers": 5}, "min_numbers=5 is above max_numbers=4"),
        ({"number_range": (9, 1)}, r"number_range=\(9, 1\) is empty"),
        ({"target_range": (9, 1)}, r"target_range=\(9, 1\) is empty"),
        ({"operators": "+%"}, "operators='.%' must be some of"),
        ({"operators": ""}, "must be some of"),
        ({"operators": "++"}, "each once"),
        ({"max_numbers": 9}, "less than or equal to 8"),
        ({"reward": "best"}, "'default', 'binary', 'seed-docs' or 'seed-code'"),
        ({"language": "de"}, "'en' or 'zh'"),
        ({"split_by": "row"}, "split_by='row' needs rows"),
        ({"colour": 1}, "Extra inputs"),
    ],
)
def test_options_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_task("countdown", **fields)


def test_unknown_split() -> None:
    with pytest.raises(ValueError, match="split 'dev' does not exist; there are: train, validation, test"):
        next(load_task("countdown").problems("dev"))  # type: ignore[arg-type]


def test_infeasible_options_are_named() -> None:
    task = load_task("countdown", number_range=(1, 3), target_range=(5000, 5001))
    with pytest.raises(ValueError, match="widen number_range, or bring target_range closer"):
        next(task.problems("train"))


def test_runs_out_with_one_warning() -> None:
    task = load_task("countdown", min_numbers=2, max_numbers=2, number_range=(1, 3), target_range=(2, 4))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        problems = list(task.problems("train"))
    assert len(caught) == 1
    assert "8,192 train problems were asked for, and only" in str(caught[0].message)
    expected = {
        (target, *pair)
        for pair in [(1, 1), (1, 2), (1, 3), (2, 2), (2, 3), (3, 3)]
        for target in (2, 3, 4)
        if is_reachable(pair, target) and split_of(pair, target) == "train"
    }
    assert {key(problem) for problem in problems} == expected


def test_unreachable_targets_of_a_range_are_passed_over() -> None:
    task = load_task("countdown", min_numbers=2, max_numbers=2, number_range=(1, 4), target_range=(2, 40))
    problems = list(task.problems("train", 10))
    assert len(problems) == 10
    assert all(problem.truth["target"] <= 16 for problem in problems)


def test_negative_and_zero_ranges() -> None:
    task = load_task("countdown", number_range=(-5, 5), target_range=(-20, 20), intermediates="rational", max_numbers=3)
    for problem in task.problems("train", 30):
        assert task.score(problem, task.oracle(problem)).correct
