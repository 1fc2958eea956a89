"""Prepared data: every row judged by its own scorer, none twice, none in two splits, everything left out counted."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradus.data.prepare import clean, prepare
from gradus.data.problems import contamination
from gradus.exits import Code, Exit
from gradus.tasks.base import load_task
from gradus.tasks.countdown import Countdown
from gradus.types import Message, Problem, Score, Split


class Rigged(Countdown):
    """Countdown whose splits hold the problems that a test gives it."""

    given: dict[str, list[Problem]]

    def problems(self, split: Split, limit: int | None = None) -> Iterator[Problem]:
        """Yields what the test gave."""
        yield from self.given[split][:limit]


TASK = load_task("countdown", max_numbers=3)
GOOD = list(TASK.problems("train", 60))


def rigged(**given: list[Problem]) -> Rigged:
    task = Rigged(TASK.config)
    task.given = given
    return task


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_row_is_solved_by_its_own_solution(tmp_path: Path):
    manifest = prepare("countdown", {"max_numbers": 3}, tmp_path / "out", limit=20)
    for split in ("train", "validation", "test"):
        rows = read(tmp_path / "out" / f"{split}.jsonl")
        assert len(rows) == manifest["splits"][split]["rows"] == 20
        for row in rows:
            problem = TASK.problem(**row["truth"])
            assert TASK.score(problem, row["solution"]).correct and row["messages"][0]["role"] == "user"


def test_the_manifest_says_all_and_the_same_twice(tmp_path: Path):
    first = prepare("countdown", {"max_numbers": 3}, tmp_path / "a", limit=5)
    second = prepare("countdown", {"max_numbers": 3}, tmp_path / "b", limit=5)
    assert first == second == json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert (tmp_path / "a" / "train.jsonl").read_bytes() == (tmp_path / "b" / "train.jsonl").read_bytes()
    other = prepare("countdown", {"max_numbers": 3, "seed": 1}, tmp_path / "c", limit=5)
    assert other["fingerprint"] != first["fingerprint"] and first["options"]["min_numbers"] == 3


def test_what_is_asked_twice_is_kept_once():
    twin = dataclasses.replace(GOOD[0], id="countdown/train/twin")
    data = clean(rigged(train=[*GOOD, twin]), ["train"])["train"]
    assert [problem.id for problem in data.problems] == [problem.id for problem in GOOD] and data.dropped == {
        "duplicate": 1
    }


def test_case_and_blanks_make_no_new_question():
    message = GOOD[0].messages[0]
    shouted = dataclasses.replace(message, content=message.content.upper().replace(" ", "  ") + "\n")
    twin = dataclasses.replace(GOOD[0], id="x", messages=(shouted,))
    assert clean(rigged(train=[*GOOD, twin]), ["train"])["train"].dropped == {"duplicate": 1}


def test_two_golds_for_one_question_leave_none():
    other = dataclasses.replace(GOOD[1], id="x", messages=GOOD[0].messages)
    data = clean(rigged(train=[*GOOD, other]), ["train"])["train"]
    assert data.dropped == {"conflicting_truth": 2} and GOOD[0] not in data.problems


def test_what_the_test_asks_is_removed_from_training_and_counted():
    data = clean(rigged(train=GOOD, validation=GOOD[:2], test=GOOD[1:4]), ["train", "validation", "test"])
    assert data["test"].problems == GOOD[1:4] and data["validation"].problems == GOOD[:1]
    assert data["train"].problems == GOOD[4:]
    assert data["validation"].dropped == {"also_in_test": 1}
    assert data["train"].dropped == {"also_in_test": 3, "also_in_validation": 1}


def test_a_problem_without_solution_is_left_out():
    hopeless = TASK.problem(numbers=[1, 1, 1], target=99)
    data = clean(rigged(train=[*GOOD, hopeless]), ["train"])["train"]
    assert data.dropped == {"no_solution": 1} and len(data.problems) == len(data.solutions) == 60


class Fussy(Rigged):
    """Judges the first problem in a way that no data set should keep."""

    verdict: Score

    def score(self, problem: Problem, text: str, *, finish="stop") -> Score:
        """The rigged verdict for the first problem."""
        return self.verdict if problem == GOOD[0] else super().score(problem, text, finish=finish)


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        (Score(reward=0.5, correct=True, parts={}, why="correct"), "solution_below_maximum"),
        (Score(reward=1.0, correct=False, parts={}, why="wrong"), "solution_below_maximum"),
        (Score(reward=0.0, correct=False, parts={"info/usable": 0.0}, why="gold_unreadable: x"), "gold_unreadable"),
        (Score(reward=0.0, correct=False, parts={}, why="slow", status="timeout"), "scoring_timeout"),
    ],
)
def test_a_solution_must_get_the_highest_reward(verdict: Score, reason: str):
    task = Fussy(TASK.config)
    task.given, task.verdict = {"train": GOOD}, verdict
    assert clean(task, ["train"])["train"].dropped == {reason: 1}


def test_too_many_bad_problems_are_no_data():
    hopeless = [TASK.problem(numbers=[1, 1, 1], target=target) for target in range(50, 56)]
    with pytest.raises(Exit) as caught:
        clean(rigged(train=[*GOOD, *hopeless]), ["train"])
    assert (
        caught.value.code == Code.NOTHING_USABLE
        and "6 of 66" in caught.value.message
        and "6 no_solution" in caught.value.message
    )


def test_an_empty_split_is_no_data():
    with pytest.raises(Exit, match="no usable problem in split 'train'"):
        clean(rigged(train=GOOD[:2], test=GOOD[:2]), ["train", "test"])


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty; give another folder with --out, or overwrite it with --yes"):
        prepare("countdown", {}, tmp_path, limit=2)
    prepare("countdown", {}, tmp_path, limit=2, is_overwriting=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_rows_for_verl(tmp_path: Path):
    parquet = pytest.importorskip("pyarrow.parquet")
    prepare("countdown", {}, tmp_path / "out", splits=["test"], limit=20, format="parquet", layout="verl")
    rows = parquet.read_table(tmp_path / "out" / "test.parquet").to_pylist()
    assert not (tmp_path / "out" / "train.parquet").exists()
    assert {row["data_source"] for row in rows} == {"gradus/countdown/n3", "gradus/countdown/n4"}
    for index, row in enumerate(rows):
        truth = json.loads(row["reward_model"]["ground_truth"])
        problem = TASK.problem(numbers=truth["numbers"], target=truth["target"])
        assert truth["id"] == row["extra_info"]["problem_id"] and row["reward_model"]["style"] == "rule"
        assert row["prompt"] == [{"role": "user", "content": problem.messages[0].content}]
        assert (row["extra_info"]["split"], row["extra_info"]["index"], row["ability"]) == ("test", index, "countdown")
        assert isinstance(json.loads(row["extra_info"]["meta"]), dict)


def test_mappings_in_parquet_keep_their_own_keys(tmp_path: Path):
    parquet = pytest.importorskip("pyarrow.parquet")
    prepare("countdown", {}, tmp_path / "out", splits=["test"], limit=5, format="parquet")
    row = parquet.read_table(tmp_path / "out" / "test.parquet").to_pylist()[0]
    assert set(json.loads(row["truth"])) == {"numbers", "target"}


def word_problems(*extra: dict, num: int = 400) -> str:
    rows = [{"question": f"What is {i} plus {i}?", "answer": f"{i} + {i} = {2 * i}\n#### {2 * i}"} for i in range(num)]
    return "".join(json.dumps(row) + "\n" for row in [*rows, *extra])


def adds_up(manifest: dict) -> bool:
    return all(
        part["source_rows"] == part["rows"] + part["other_splits"] + sum(part["dropped"].values())
        for part in manifest["splits"].values()
    )


def test_every_row_of_the_source_is_accounted_for_with_its_place(tmp_path: Path):
    (tmp_path / "in").mkdir()
    asked_in_test = {"question": "What is 7 PLUS  7?", "answer": "#### 14"}
    bad = [
        {"question": "no gold", "answer": "I do not know"},
        {"question": "a sum"},
        {"question": "", "answer": "#### 1"},
        {"question": "twice", "answer": "#### 2,500"},
        {"question": "Twice", "answer": "#### 2500"},
        {"question": "two golds", "answer": "#### 1"},
        {"question": "two golds", "answer": "#### 2"},
    ]
    (tmp_path / "in" / "train.jsonl").write_text(word_problems(*bad) + "{broken\n")
    (tmp_path / "in" / "test.jsonl").write_text(json.dumps(asked_in_test) + "\n")
    manifest = prepare("gsm8k", {"source": str(tmp_path / "in")}, tmp_path / "out")
    assert adds_up(manifest)
    train, validation = manifest["splits"]["train"], manifest["splits"]["validation"]
    assert train["source_rows"] == validation["source_rows"] == 408
    assert train["rows"] == validation["other_splits"] - sum(
        train["dropped"][reason] for reason in ("gold_unreadable", "duplicate", "conflicting_truth")
    )
    assert train["dropped"] == {
        "also_in_test": 1, "broken_line": 1, "conflicting_truth": 2, "duplicate": 1, "gold_unreadable": 1,
        "missing_column": 1, "no_question": 1,
    }  # fmt: skip
    assert train["first_dropped"] == {
        "also_in_test": ["train.jsonl:8"], "broken_line": ["train.jsonl:408"], "gold_unreadable": ["train.jsonl:401"],
        "conflicting_truth": ["train.jsonl:406", "train.jsonl:407"], "duplicate": ["train.jsonl:405"],
        "missing_column": ["train.jsonl:402"], "no_question": ["train.jsonl:403"],
    }  # fmt: skip


def test_golds_without_an_answer_are_no_data_beyond_a_share(tmp_path: Path):
    bad = [{"question": f"bad {i}", "answer": "None"} for i in range(30)]
    (tmp_path / "a.jsonl").write_text(word_problems(*bad))
    with pytest.raises(Exit, match=r"gold_unreadable, first at a\.jsonl:40[1-9]") as caught:
        prepare("gsm8k", {"source": str(tmp_path / "a.jsonl")}, tmp_path / "out")
    assert caught.value.code == Code.NOTHING_USABLE and not (tmp_path / "out").exists()


def test_a_part_of_a_source_is_accounted_for_too(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text(word_problems())
    options = {"source": str(tmp_path / "a.jsonl"), "few_shot": 2}
    assert adds_up(prepare("gsm8k", options, tmp_path / "limited", limit=20))
    whole = prepare("gsm8k", options, tmp_path / "whole")
    assert adds_up(whole) and whole["splits"]["train"]["dropped"] == {"few_shot_example": 2}


def test_countdown_rows_are_accounted_for(tmp_path: Path):
    rows = [json.dumps({"nums": list(p.truth["numbers"]), "target": p.truth["target"]}) for p in GOOD]
    (tmp_path / "a.jsonl").write_text("\n".join([*rows, '{"nums": [2.5], "target": 1}']) + "\n")
    options = {"source": str(tmp_path / "a.jsonl")}
    manifest = prepare("countdown", options, tmp_path / "out", splits=["train"])
    assert adds_up(manifest) and manifest["splits"]["train"]["dropped"] == {"not_a_problem": 1}


def test_golds_that_mean_the_same_are_no_conflict(tmp_path: Path):
    rows = [{"problem": f"Find {i}/2.", "answer": f"{i}/2"} for i in range(80)]
    twins = [{"problem": "Find 1/2.", "answer": "h = 0.5."}, {"problem": "Find 3/2.", "answer": "1.6"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, *twins]))
    options = {"source": str(tmp_path / "a.jsonl"), "cas": "off"}
    manifest = prepare("math", options, tmp_path / "out", splits=["train"])
    assert manifest["splits"]["train"]["dropped"] == {"conflicting_truth": 2, "duplicate": 1}


def test_held_out_problems_that_training_asks_are_found_whatever_case_and_blanks():
    task = load_task("countdown", max_numbers=3)
    train, held_out = list(task.problems("train", 20)), list(task.problems("validation", 20))
    assert contamination(held_out, train) == {"num_overlap": 0, "problem_ids": []}
    shouted = [Message(role="user", content=f" {train[3].messages[0].content.upper()}  ")]
    copied = dataclasses.replace(held_out[5], messages=tuple(shouted))
    assert contamination([*held_out, copied], train) == {"num_overlap": 1, "problem_ids": [held_out[5].id]}
