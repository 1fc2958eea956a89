"""GSM8K: both readings on the labelled corpus, the data set's own golds, reward presets, splits, synthetic problems."""

from __future__ import annotations

import json
import os
import re
import time
from fractions import Fraction
from itertools import islice
from pathlib import Path

import pytest
from pydantic import ValidationError

from gradus.exits import Exit
from gradus.tasks import splits
from gradus.tasks.base import load_task
from gradus.tasks.check import check_task
from gradus.tasks.codes import Code
from gradus.tasks.gsm8k import Gsm8k, grade, judge, numbers, synthetic
from gradus.tasks.gsm8k.templates import NAMES, OBJECTS, TEMPLATES
from gradus.types import SPLITS

SAMPLE = Path(__file__).parents[1] / "data" / "gsm8k"
CORPUS = Path(__file__).parents[1] / "corpora" / "gsm8k.jsonl"
CASES = [json.loads(line) for line in CORPUS.read_text(encoding="utf-8").splitlines()]
DATA = os.environ.get("GRADUS_TEST_DATA")


def task(**options: object) -> Gsm8k:
    made = load_task("gsm8k", **{"source": str(SAMPLE), **options})
    assert isinstance(made, Gsm8k)
    return made


def completion(case: dict) -> str:
    if "completion" in case:
        return case["completion"]
    return "".join(text * times for text, times in case["completion_parts"])


# ---------------------------------------------------------------- readings


def test_the_corpus_is_large_and_every_case_names_its_ruling():
    assert len(CASES) >= 150
    assert len({case["id"] for case in CASES}) == len(CASES)
    assert all(case["rule"] for case in CASES)


def test_both_readings_agree_with_the_corpus(capsys: pytest.CaptureFixture[str]):
    wrong_strict, wrong_lenient = [], []
    for case in CASES:
        strict, lenient = grade(case["gold"], completion(case))
        wrong_strict += [case["id"]] * (strict != case["equal_strict"])
        wrong_lenient += [case["id"]] * (lenient != case["equal"])
    with capsys.disabled():
        right = [1 - len(wrong) / len(CASES) for wrong in (wrong_strict, wrong_lenient)]
        print(f" [gsm8k: {len(CASES)} cases, strict {right[0]:.1%}, lenient {right[1]:.1%}]")
    assert (wrong_strict, wrong_lenient) == ([], [])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_laws_of_reading(case: dict):
    text = completion(case)
    started = time.thread_time()
    strict, lenient = grade(case["gold"], text)
    assert time.thread_time() - started < 0.1
    assert lenient or not strict, "what is right strictly is right leniently"
    if "think" not in text and not text.startswith("```"):
        assert grade(case["gold"], f"<think>#### 77 and {text[:200]}</think>{text}") == (strict, lenient)
    assert grade(case["gold"], f"{text}<|im_end|>") == (strict, lenient)


def test_a_cut_completion_counts_only_what_was_marked_before():
    marked, unmarked = "#### 25\nIn other words, the", "So the answer is 25"
    for text, expected in ((marked, (True, True, Code.SAME_VALUE)), (unmarked, (False, False, Code.TRUNCATED))):
        verdict = judge(text, Fraction(25), finish="length")
        assert (verdict.is_strict, verdict.is_lenient, verdict.code) == expected
    assert judge(unmarked, Fraction(25)).is_lenient
    score = task().score(task().problem(question="?", answer="25"), unmarked, finish="length")
    assert score.parts["info/truncated"] == 1
    assert score.why == "truncated"


def test_a_cut_marker_line_may_hide_digits():
    """``#### 25`` cut by the limit may have become 250: a number at the very end is still what was marked."""
    assert judge("#### 25", Fraction(25), finish="length").is_strict


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("#### 1,080", 1080),
        ("x\n#### -7", -7),
        ("145.0", 145),
        ("18", 18),
        ("$3", 3),
        ("2.5", Fraction(5, 2)),
        ("7.", 7),
    ],
)
def test_golds_are_exact(text: str, value: Fraction):
    assert numbers.gold(text) == value


@pytest.mark.parametrize("text", ["", "None", "####", "#### None", "x", "1/2", "1e5", "٣", "9" * 500])
def test_an_unreadable_gold_is_an_error_with_a_remedy(text: str):
    with pytest.raises(ValueError, match="#### 18"):
        numbers.gold(text)
    with pytest.raises(ValueError, match="#### 18"):
        task().problem(question="How many?", answer=text)


# ---------------------------------------------------------------- the data set


def every_gold(folder: Path) -> list[str]:
    lines = [
        line for split in ("train", "test") for line in (folder / f"{split}.jsonl").read_text("utf-8").splitlines()
    ]
    return [json.loads(line)["answer"] for line in lines]


def test_every_gold_of_the_sample_is_right_by_its_own_rationale():
    assert [grade(answer, answer) for answer in every_gold(SAMPLE)] == [(True, True)] * 200


@pytest.mark.skipif(DATA is None, reason="GRADUS_TEST_DATA is not set: no GSM8K")
def test_all_8792_golds_are_right_by_their_own_rationale():
    assert DATA is not None
    answers = every_gold(Path(DATA) / "gsm8k")
    assert len(answers) == 8_792
    assert all(grade(answer, answer) == (True, True) for answer in answers)


@pytest.mark.skipif(DATA is None, reason="GRADUS_TEST_DATA is not set: no GSM8K")
def test_splits_of_the_whole_data_set():
    assert DATA is not None
    whole = load_task("gsm8k", source=str(Path(DATA) / "gsm8k"))
    counts = {split: sum(1 for _ in whole.problems(split)) for split in SPLITS}
    assert counts["test"] == 1_319
    assert counts["train"] + counts["validation"] == 7_473
    assert 0.04 < counts["validation"] / 7_473 < 0.06


@pytest.mark.parametrize("style", ["hash", "boxed", "tags"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_oracle_is_strictly_right_for_every_problem_style_and_language(style: str, language: str):
    for source in (str(SAMPLE), "synthetic"):
        made = task(style=style, language=language, source=source)
        for problem in [p for split in SPLITS for p in made.problems(split, 60)]:
            score = made.score(problem, made.oracle(problem))
            assert (score.reward, score.correct, score.parts["info/strict"]) == (1.0, True, 1.0)


@pytest.mark.parametrize(
    "options", [{}, {"source": "synthetic", "language": "zh", "style": "boxed"}, {"reward": "r3"}], ids=str
)
def test_the_self_test_passes(options: dict):
    report = check_task(task(**options), num=40)
    slow = [row for row in report.rows if row.expected.startswith("below")]  # CPU time is judged above
    assert [
        row for row in report.rows if not row.ok and row not in slow and row.name != "hostile texts are harmless"
    ] == []


@pytest.mark.parametrize(
    "options",
    [
        {"style": "boxed"},
        {"style": "tags", "few_shot": 2},
        {"reward": "binary"},
        {"reward": "seed-docs"},
        {"reward": "seed-code"},
        {"reward": "r3", "r3_reading": "box-digits", "style": "boxed"},
        {"reward": "r3", "r3_reading": "first-hash"},
    ],
    ids=str,
)
def test_near_misses_are_wrong_and_paid_less_than_the_oracle(options: dict):
    made = task(**options)
    for problem in made.problems("train", 30):
        best = made.score(problem, made.oracle(problem))
        assert best.correct
        assert best.reward == made.reward_range[1]
        for label, text in made.near_misses(problem):
            score = made.score(problem, text)
            assert not score.correct, label
            assert made.reward_range[0] <= score.reward < best.reward, label


# ---------------------------------------------------------------- rewards


@pytest.mark.parametrize(
    ("options", "text", "reward"),
    [
        ({}, "#### 25", 1.0),
        ({}, "The answer is 25", 0.5),
        ({}, "#### 26", 0.0),
        ({"reward": "binary"}, "The answer is 25", 1.0),
        ({"reward": "binary"}, "#### 24", 0.0),
        ({"reward": "seed-docs"}, "#### 25", 1.1),
        ({"reward": "seed-docs"}, "#### 24", 0.1),
        ({"reward": "seed-docs"}, "#### many", 0.05),
        ({"reward": "seed-docs"}, "25", 0.0),
        ({"reward": "seed-docs"}, "#### 25\n" + "So long. " * 80, 1.1),
        ({"reward": "seed-code"}, "#### 25", 1.1),
        ({"reward": "seed-code"}, "####25", 0.05),
        ({"reward": "seed-code"}, "#### $25", 0.05),
        ({"reward": "seed-code"}, "#### 25.", 0.1),
        ({"reward": "seed-code"}, "#### 24", 0.1),
        ({"reward": "seed-code"}, "#### 25\n" + "So long. " * 80, 0.05),
        ({"reward": "seed-code"}, "25", 0.0),
        ({"reward": "r3"}, "#### 25", 1.0),
        ({"reward": "r3"}, "so 25", 1.0),
        ({"reward": "r3"}, "#### 24", -0.1),
        ({"reward": "r3"}, "", -0.1),
        ({"reward": "r3"}, "#### 24 #### 25", 1.0),
        ({"reward": "r3", "r3_reading": "first-hash"}, "#### 24 #### 25", -0.1),
        ({"reward": "r3", "r3_reading": "box-digits", "style": "boxed"}, r"\boxed{25}", 1.0),
        ({"reward": "r3", "r3_reading": "box-digits", "style": "boxed"}, "25", -0.1),
    ],
)
def test_presets(options: dict, text: str, reward: float):
    made = task(**options)
    score = made.score(made.problem(question="How many?", answer="#### 25"), text)
    assert score.reward == pytest.approx(reward)
    assert sum(value for name, value in score.parts.items() if "/" not in name) == pytest.approx(reward)


def test_a_gold_with_a_comma_is_paid_unless_the_old_bug_is_asked_for():
    for options, reward in (({}, 1.1), ({"seed_code_gold_comma": True}, 0.1)):
        made = task(reward="seed-code", **options)
        assert made.score(made.problem(question="?", answer="#### 2,500"), "#### 2500").reward == pytest.approx(reward)
        assert made.score(made.problem(question="?", answer="#### 2,500"), "#### 2500").correct
    made = task(reward="r3")
    assert made.score(made.problem(question="?", answer="#### -4"), "#### 4").reward == pytest.approx(-0.1)
    assert made.score(made.problem(question="?", answer="#### 3,450"), "#### 3,999").reward == pytest.approx(-0.1)


def test_a_text_over_the_limit_is_refused_with_the_lowest_reward():
    for reward, lowest in (("default", 0.0), ("r3", -0.1)):
        made = task(reward=reward)
        score = made.score(made.problem(question="?", answer="25"), "#### 25 " + "x" * (5 << 20))
        assert (score.reward, score.status, score.why) == (lowest, "refused", "too_long")


# ---------------------------------------------------------------- options, problems, sources


def test_wrong_options_are_named():
    for options, message in (
        ({"reward": "best"}, "default"),
        ({"style": "xml"}, "hash"),
        ({"few_shot": 9}, "8"),
        ({"reward": "seed-docs", "style": "boxed"}, "use style='hash'"),
        ({"reward": "r3", "r3_reading": "box-digits"}, "style='boxed'"),
        ({"columns": {"problem": "q"}}, "only question and answer"),
    ):
        with pytest.raises(ValidationError, match=message):
            task(**options)
    with pytest.raises(ValueError, match="there are: train, validation, test"):
        task().problems("dev")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="question"):
        task().problem(question="?")


def test_nothing_is_opened_for_one_problem_and_its_score():
    made = load_task("gsm8k", source="hub:nobody/nothing")
    problem = made.problem(question="What is 9 + 9?", answer="18")
    assert made.score(problem, made.oracle(problem)).reward == 1.0
    assert problem.truth == {"gold": "18"}


def test_few_shot_examples_are_the_first_training_problems_and_are_not_trained_on():
    plain, shown = task(), task(few_shot=3)
    first = list(plain.problems("train", 5))
    problems = list(shown.problems("train", 2))
    assert [problem.id for problem in problems] == [problem.id for problem in first[3:]]
    users = [message.content for message in problems[0].messages if message.role == "user"]
    assert users == [problem.messages[-1].content for problem in [*first[:3], first[3]]]
    assert len(next(shown.problems("test")).messages) == 1 + 2 * 3 + 1
    synthetic_ids = [p.id for p in task(source="synthetic", few_shot=2).problems("train", 2)]
    assert synthetic_ids == ["gsm8k-synthetic/train/00002", "gsm8k-synthetic/train/00003"]


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_validation_is_part_of_train_and_nothing_asked_by_the_test_is_trained_on(tmp_path: Path):
    rows = [{"question": f"What is {i} + 1?", "answer": f"#### {i + 1}"} for i in range(400)]
    write(tmp_path / "train.jsonl", rows)
    write(tmp_path / "test.jsonl", [{"question": " what IS 7 + 1?", "answer": "#### 8"}])
    made = task(source=str(tmp_path))
    asked = {split: {splits.normalized(p.meta["question"]) for p in made.problems(split)} for split in SPLITS}
    assert len(asked["train"]) + len(asked["validation"]) == 399
    assert 8 <= len(asked["validation"]) <= 40
    assert not asked["train"] & asked["validation"]
    assert not (asked["train"] | asked["validation"]) & asked["test"]


def test_one_file_is_split_by_hash_in_any_order(tmp_path: Path):
    rows = [{"q": f"What is {i} + 1?", "a": i + 1.0} for i in range(300)]
    found = []
    for name, ordered in (("a.jsonl", rows), ("b.jsonl", rows[::-1])):
        made = task(source=str(write(tmp_path / name, ordered)), columns={"question": "q", "answer": "a"})
        found.append({split: {p.meta["question"] for p in made.problems(split)} for split in SPLITS})
    assert found[0] == found[1]
    assert sum(map(len, found[0].values())) == 300
    assert min(map(len, found[0].values())) > 4


def test_rows_without_a_number_are_dropped_and_too_many_of_them_stop(tmp_path: Path):
    rows = [{"question": f"What is {i}?", "answer": f"#### {i}"} for i in range(100)]
    path = write(tmp_path / "train.jsonl", [*rows, {"question": "And this?", "answer": "None"}])
    write(tmp_path / "test.jsonl", [{"question": "t", "answer": "1"}])
    assert sum(1 for split in ("train", "validation") for _ in task(source=str(tmp_path)).problems(split)) == 100
    write(path, [*rows[:10], *[{"question": f"bad {i}", "answer": "?"} for i in range(10)]])
    with pytest.raises(Exit, match="gold_unreadable"):
        list(task(source=str(tmp_path)).problems("train"))
    write(path, [{"text": "x", "label": "1"}])
    with pytest.raises(ValueError, match=r"no column 'question'.*columns:"):
        list(task(source=str(tmp_path)).problems("train"))


# ---------------------------------------------------------------- synthetic problems


def test_templates_cover_one_to_four_steps_in_two_languages():
    assert len(TEMPLATES) >= 14
    assert {len(template.steps) for template in TEMPLATES} == {1, 2, 3, 4}
    assert (len(set(NAMES)), len(set(OBJECTS))) == (40, 30)
    for template in TEMPLATES:
        assert set(template.question) == set(template.lines) == {"en", "zh"}
        assert all(len(lines) == len(template.steps) for lines in template.lines.values())


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_line_of_a_synthetic_rationale_is_true(language: str):
    names = set()
    for exercise in synthetic.draw("train", 400, language=language):
        names.add(exercise.template)
        lines = exercise.answer.splitlines()
        assert len(lines) == exercise.num_steps + 1
        for line in lines[:-1]:
            left, operator, right, _, result = next(
                words
                for words in zip(*(line.rstrip(".。").split()[i:] for i in range(5)), strict=False)
                if words[3] == "="
            )
            value = {"+": int(left) + int(right), "-": int(left) - int(right), "*": int(left) * int(right)}
            assert int(result) == value.get(operator, Fraction(int(left), int(right)))
            assert 0 <= int(result) <= synthetic.MAX_VALUE
        assert lines[-1].startswith("#### ")
    assert names == {template.name for template in TEMPLATES}


def test_splits_of_synthetic_problems_share_no_numbers_whatever_the_seed():
    keys: dict[str, set] = {split: set() for split in SPLITS}
    for seed in range(3):
        for split in SPLITS:
            for exercise in synthetic.draw(split, 60, seed=seed):
                digits = tuple(
                    int(run) for run in "".join(c if c.isdigit() else " " for c in exercise.question).split()
                )
                keys[split].add((exercise.template, digits))
    assert not keys["train"] & keys["test"]
    assert not keys["train"] & keys["validation"]
    assert not keys["validation"] & keys["test"]


def test_synthetic_problems_depend_on_the_seed_alone_and_are_distinct():
    first = list(synthetic.draw("train", 300))
    assert first == list(islice(synthetic.draw("train", 500), 300))
    assert first != list(synthetic.draw("train", 300, seed=1))
    assert len({exercise.question for exercise in first}) == 300


def test_synthetic_problems_say_what_they_are():
    problem = next(task(source="synthetic").problems("test"))
    assert problem.id.startswith("gsm8k-synthetic/test/")
    assert problem.domain == "synthetic"
    assert problem.meta["source"] == "synthetic"
    assert 0 < problem.difficulty <= 1


def test_synthetic_problems_keep_to_the_steps_and_numbers_asked_for():
    task = load_task("gsm8k", source="synthetic", max_steps=2, max_number=60)
    problems = list(task.problems("train", 300))
    assert len(problems) == 300 and {problem.difficulty for problem in problems} == {0.25, 0.5}
    written = [int(number) for problem in problems for number in re.findall(r"[0-9]+", problem.meta["answer"])]
    assert 40 < max(written) <= 60
