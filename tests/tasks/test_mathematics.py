"""Competition mathematics: golds, readings, format, presets, undecided comparisons, sources, generated exercises."""

from __future__ import annotations

import json
import os
import re
import time
from itertools import product
from pathlib import Path

import pytest
from pydantic import ValidationError

from gradus.exits import Exit
from gradus.tasks import cas
from gradus.tasks.base import load_task
from gradus.tasks.check import check_task
from gradus.tasks.codes import Code
from gradus.tasks.equivalence import equal
from gradus.tasks.mathematics import Mathematics, format_reward, generated, grade, read_gold
from gradus.tasks.mathematics.checks import self_test
from gradus.tasks.mathematics.score import loose_format_reward, score
from gradus.types import SPLITS

DATA = os.environ.get("GRADUS_TEST_DATA")
RIGHT = r"<think>Halve.</think><answer>\boxed{\frac{3}{2}}</answer>"


def task(**options: object) -> Mathematics:
    made = load_task("math", **{"source": "generate", "cas": "off", **options})
    assert isinstance(made, Mathematics)
    return made


def given(made: Mathematics, gold: str = r"\frac{3}{2}"):
    return made.problem(problem="Solve $2x = 3$.", solution=f"Halve: $\\boxed{{{gold}}}$.")


# ---------------------------------------------------------------- golds


@pytest.mark.parametrize(
    ("solution", "answer", "gold", "is_conflict"),
    [
        (r"So $\boxed{5}$.", "", "5", False),
        (r"So $\boxed{5}$.", "5", "5", False),
        (r"So $\boxed{5}$.", "5.0", "5", False),
        (r"So $\boxed{5}$.", "6", "5", True),
        (r"$\boxed{4}$ and $\boxed{6}$", "6", "4, 6", True),
        ("```python\nprint('\\boxed{7}')\n```\n```output\n7\n```\n$\\boxed{8}$", "", "8", False),
        ("no box here", "5", "5", False),
        ("", r"\frac{1}{2}", r"\frac{1}{2}", False),
        ("", r"$\boxed{5}$", "5", False),
        ("no box here", "", "", False),
        (r"\boxed{}", "", "", False),
        (r"\boxed{?}", "", "", False),
        (r"\boxed{5", "", "", False),
        ("", "proof", "", False),
        ("", "x" * 3_000, "", False),
        (r"\boxed{?}", "5", "5", False),
    ],
)
def test_golds_are_read_from_the_last_boxes_or_the_answer(solution: str, answer: str, gold: str, is_conflict: bool):
    assert read_gold(solution, answer) == (gold, is_conflict)


def test_a_gold_that_cannot_be_read_pays_nobody_and_is_counted():
    made = task()
    problem = made.problem(problem="Prove it.", solution="By induction.")
    for text in (RIGHT, "", "None", r"\boxed{}", "<think>a</think><answer></answer>"):
        result = made.score(problem, text)
        assert (result.reward, result.correct, result.why, result.status) == (0.0, False, "gold_unreadable", "no_score")
        assert result.parts["info/usable"] == 0
        assert not result.is_usable
    with pytest.raises(ValueError, match="no readable gold"):
        made.oracle(problem)


# ---------------------------------------------------------------- format


def test_format_of_every_combination_of_thought_answer_and_box():
    for has_thought, has_answer, has_box in product((True, False), repeat=3):
        inside = r"\boxed{42}" if has_box else "42"
        text = ("<think>a</think>" if has_thought else "a ") + (f"<answer>{inside}</answer>" if has_answer else inside)
        expected = (1.0 if has_box else 0.5) if has_thought and has_answer else 0.0
        assert format_reward(text) == loose_format_reward(text) == expected


@pytest.mark.parametrize(
    ("text", "strict", "loose"),
    [
        (r"a</think><answer>\boxed{4}</answer>", 1.0, 0.0),
        (r"<think></think><answer>\boxed{}</answer>", 0.0, 1.0),
        (r"<think>a</think><answer>\boxed{}</answer>", 0.5, 1.0),
        (r"<think>a</think><answer></answer>", 0.0, 0.5),
        (r"<think> </think><answer>\boxed{4}</answer>", 0.0, 1.0),
        (r"<answer>\boxed{4}</answer><think>a</think>", 0.0, 1.0),
        (r"<think>a</think><answer>4</answer><answer>\boxed{4}</answer>", 0.0, 0.5),
        (r"<think>a</think><think>b</think><answer>\boxed{4}</answer>", 0.0, 1.0),
        (r"<think>a</think>\boxed{4}", 0.0, 0.0),
        (r"<think>a</think><answer>\boxed{4</answer>", 0.5, 0.5),
        (r"<think>a<answer>\boxed{4}</answer></think>", 0.0, 1.0),
        (r"<think>a</think><answer>\boxed{\frac{1}{2}}</answer> Bye.<|im_end|>", 1.0, 1.0),
        (r"Hello <think>a</think><answer>\boxed{4}</answer>", 0.0, 1.0),
        ("", 0.0, 0.0),
    ],
)
def test_format_strict_and_as_the_old_code_paid_it(text: str, strict: float, loose: float):
    assert (format_reward(text), loose_format_reward(text)) == (strict, loose)


# ---------------------------------------------------------------- rewards


@pytest.mark.parametrize(
    ("options", "text", "reward", "is_correct"),
    [
        ({}, RIGHT, 1.0, True),
        ({}, r"So \boxed{1.5}", 0.5, True),
        ({}, "<think>Halve.</think><answer>3/2</answer>", 0.5, True),
        ({}, r"<think>Halve.</think><answer>\boxed{2}</answer>", 0.0, False),
        ({"style": "boxed"}, r"So \boxed{1.5}", 1.0, True),
        ({"style": "boxed"}, "So the answer is 1.5", 0.5, True),
        ({"reward": "binary"}, "So the answer is 1.5", 1.0, True),
        ({"reward": "binary"}, r"\boxed{2}", 0.0, False),
        ({"reward": "seed-docs"}, RIGHT, 1.0, True),
        ({"reward": "seed-docs"}, r"<think>a</think><answer>\boxed{7}</answer>", 1.0, False),
        ({"reward": "seed-docs"}, "<think>a</think><answer>3/2</answer>", 0.5, True),
        ({"reward": "seed-code"}, RIGHT, 2.0, True),
        ({"reward": "seed-code"}, r"\boxed{1.5}", 1.0, True),
        ({"reward": "seed-code"}, r"<think>a</think><answer>\boxed{7}</answer>", 1.0, False),
        ({"reward": "format-accuracy"}, RIGHT, 1.0, True),
        ({"reward": "format-accuracy"}, r"\boxed{1.5}", 0.9, True),
        ({"reward": "format-accuracy", "format_weight": 0.4}, "<think>a</think><answer>7</answer>", 0.2, False),
    ],
)
def test_presets(options: dict, text: str, reward: float, is_correct: bool):
    made = task(**options)
    result = made.score(given(made), text)
    assert result.reward == pytest.approx(reward)
    assert result.correct is is_correct
    assert sum(value for name, value in result.parts.items() if "/" not in name) == pytest.approx(result.reward)
    assert {"info/strict", "info/lenient", "info/format_fail", "info/usable", "info/num_boxes"} <= set(result.parts)
    assert made.reward_range[0] <= result.reward <= made.reward_range[1]


def test_a_prefix_of_the_gold_is_not_the_gold():
    made = task(style="boxed")
    for gold, text in ((r"\frac{2}{7}", r"\boxed{\frac{2}{9}}"), (r"\sqrt{7}-2", r"\boxed{\sqrt{7}}")):
        assert not made.score(given(made, gold), text).correct


def test_limits_are_refusals_and_a_cut_answer_is_truncated():
    made = task(style="boxed")
    for text, why in ((r"\boxed{9^{9^9}}", "too_large"), (r"\boxed{" + "(" * 60 + "1" + ")" * 60 + "}", "too_deep")):
        result = made.score(given(made), text)
        assert (result.reward, result.status, result.why) == (0.0, "refused", why)
    cut = made.score(given(made), "So the answer is 1.5", finish="length")
    assert (cut.correct, cut.why, cut.parts["info/truncated"]) == (False, "truncated", 1.0)
    assert made.score(given(made), r"So \boxed{1.5} and", finish="length").correct
    reading, verdict = grade("5", r"\boxed{5}", style="boxed", strict=True)
    assert (reading.method, reading.code, verdict.equal) == ("boxed", Code.OK, True)


# ---------------------------------------------------------------- what the grammar does not read


class Cas:
    """Answers with one code, and remembers what it was asked."""

    def __init__(self, why: str) -> None:
        self.why = why
        self.asked: list[tuple[str, str]] = []

    def equal(self, gold: str, answer: str) -> str:
        self.asked.append((gold, answer))
        return self.why


@pytest.mark.parametrize(
    ("why", "reward", "status", "is_usable"),
    [
        ("cas_equal", 1.0, "scored", True),
        ("cas_unequal", 0.0, "scored", True),
        ("cas_timeout", 0.0, "timeout", False),
        ("cas_crash", 0.0, "crash", False),
        ("unsupported", 0.0, "scored", True),
    ],
)
def test_an_undecided_comparison_is_neither_paid_nor_charged(why: str, reward: float, status: str, is_usable: bool):
    for gold, answer in ((r"\int_0^1 x\,dx", r"\frac{1}{2}"), (r"\frac{1}{2}", r"\int_0^1 x\,dx")):
        result = score(f"<think>a</think><answer>\\boxed{{{answer}}}</answer>", gold, cas=Cas(why))
        assert (result.reward, result.status, result.is_usable) == (reward, status, is_usable)
        assert result.why == why
        assert result.parts["info/usable"] == float(is_usable)


@pytest.mark.parametrize(
    "answer",
    [
        "5", "x+1", "no solution", r"\foo 5", r"9^{9^{9}}", r"\sum_{k=1}^{10^{30}} k", r"\sum_{k=1}^{999999999999999999999} k",
        r"\int x^{x^{2}} dx", r"\int x^{2000} dx", r"\int \input{/etc/passwd}", r"\int " + "x" * 600, r"\int \text{Hello}",
        r"\sum 1, 2, \ldots", "(" * 60 + r"\int x" + ")" * 60, r"\int \csname end\endcsname",
    ],
)  # fmt: skip
def test_what_is_cheap_or_dangerous_is_never_sent(answer: str):
    fake = Cas("cas_equal")
    assert not equal(r"\frac{1}{2}", answer, cas=fake).equal
    assert not fake.asked


def test_math_verify_decides_integrals_in_a_worker_and_remembers():
    pytest.importorskip("math_verify")
    client = cas.MathVerify(timeout_seconds=20.0)
    try:
        cases = (
            (r"\int_0^1 x\,dx", r"\frac{1}{2}", True),
            (r"\sum_{k=1}^{3} k", "7", False),
            (r"\max(3,5)", "5", True),
        )
        for gold, answer, expected in cases:
            assert equal(gold, answer, cas=client).equal is equal(answer, gold, cas=client).equal is expected
        num_asked = client.num_asked
        for gold, answer, _ in cases:
            equal(gold, answer, cas=client)
        assert num_asked == client.num_asked == 3
        client.pool.timeout_seconds = 0.3
        verdict = equal(r"\sum_{k=1}^{\infty}\frac{1}{k^{3}+k+1}", "0.7", cas=client)
        assert verdict.decided or verdict.why == "cas_timeout"
    finally:
        client.close()


def test_without_math_verify_it_says_so_once_and_goes_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cas, "is_installed", lambda: False)
    client = cas.MathVerify()
    with pytest.warns(UserWarning, match=r"gradus\[math\]"):
        assert equal(r"\int_0^1 x\,dx", r"\frac{1}{2}", cas=client).why == "unsupported"
    assert equal(r"\int_0^1 x\,dx", r"\frac{1}{3}", cas=client).why == "unsupported"
    assert client.num_unsupported == 2


def test_a_worker_that_does_not_start_switches_the_cas_off(monkeypatch: pytest.MonkeyPatch):
    client = cas.MathVerify()
    client.pool.function = "no_such_module:answer"
    with pytest.warns(UserWarning, match="no_such_module"):
        assert client.equal("a", "b") == "unsupported"


def test_a_batch_with_pathological_answers_is_scored_in_two_seconds():
    made = load_task("math", source="generate", cas_timeout_seconds=1.0)
    problems = list(made.problems("train", 64))
    nasty = (r"\boxed{9^{9^{9}}}", r"\boxed{" + "{" * 9_000, r"\boxed{" + r"\frac{" * 900 + "1" + "}{2}" * 900 + "}")
    started = time.thread_time()
    for index, problem in enumerate(problems):
        for sample in range(16):
            text = nasty[index % 3] if (index * 16 + sample) % 100 == 0 else made.oracle(problem)
            made.score(problem, text)
    assert time.thread_time() - started < 2.0


# ---------------------------------------------------------------- the task


def test_the_self_test_of_readings_format_and_comparisons_is_as_expected():
    rows = list(self_test())
    assert [row for row in rows if row[1] != row[2]] == []
    assert sum(name.startswith("reading") for name, *_ in rows) >= 10
    assert sum(name.startswith("format") for name, *_ in rows) == 8
    assert sum(expected in ("equal", "different") for _, expected, _ in rows) >= 12


@pytest.mark.parametrize("options", [{}, {"style": "boxed", "language": "zh"}], ids=str)
def test_the_task_passes_its_check(options: dict):
    assert [row for row in check_task(task(**options), num=40).rows if not row.ok] == []


@pytest.mark.parametrize("reward", ["default", "binary", "seed-docs", "seed-code", "format-accuracy"])
def test_near_misses_are_wrong_and_paid_less(reward: str):
    made = task(reward=reward)
    for problem in made.problems("train", 40):
        best = made.score(problem, made.oracle(problem))
        assert (best.reward, best.correct) == (made.reward_range[1], True)
        for label, text in made.near_misses(problem):
            result = made.score(problem, text)
            assert not result.correct, label
            assert result.reward < best.reward, label


def test_wrong_options_are_named():
    for options, message in (
        ({"reward": "best"}, "default"),
        ({"style": "hash"}, "tags"),
        ({"format_weight": 0.6}, "0.5"),
        ({"reward": "seed-docs", "style": "boxed"}, "use style='tags'"),
        ({"columns": {"question": "q"}}, "read are: problem"),
    ):
        with pytest.raises(ValidationError, match=message):
            task(**options)
    with pytest.raises(ValueError, match="there are: train, validation, test"):
        task().problems("dev")  # type: ignore[arg-type]
    for raw in ({}, {"problem": "x"}, {"problem": "", "answer": "5"}, {"problem": "x", "answer": "5", "hint": "y"}):
        with pytest.raises(ValueError, match="problem"):
            task().problem(**raw)


# ---------------------------------------------------------------- sources


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rows_of_math_have_a_level_a_type_and_a_split(tmp_path: Path):
    rows = [
        {
            "problem": f"What is {n} + 1?",
            "solution": f"$\\boxed{{{n + 1}}}$",
            "level": f"Level {n % 5 + 1}",
            "type": "Algebra",
        }
        for n in range(100)
    ]
    write(tmp_path / "train.jsonl", rows)
    write(tmp_path / "test.jsonl", rows[:3])
    made = task(source=str(tmp_path))
    problems = {split: list(made.problems(split)) for split in SPLITS}
    assert len(problems["test"]) == 3
    assert len(problems["train"]) + len(problems["validation"]) == 97, "what the test asks is left out of training"
    assert {problem.domain for problem in problems["train"]} == {"Algebra"}
    assert {problem.difficulty for problem in problems["train"]} == {0, 0.25, 0.5, 0.75, 1}
    assert all(made.score(p, made.oracle(p)).reward == 1.0 for p in problems["train"])


def test_any_local_file_with_a_question_and_an_answer(tmp_path: Path):
    rows = [{"q": f"What is {n}/7?", "a": rf"\frac{{{n}}}{{7}}"} for n in range(1, 60)]
    made = task(
        source=str(write(tmp_path / "mine.jsonl", rows)), columns={"problem": "q", "answer": "a"}, style="boxed"
    )
    problems = [problem for split in SPLITS for problem in made.problems(split)]
    assert len(problems) == 59
    assert made.score(problems[0], made.oracle(problems[0])).reward == 1.0
    assert "gold_conflict" not in problems[0].meta
    with pytest.raises(ValueError, match="neither a column 'solution' nor 'answer'"):
        list(task(source=str(tmp_path / "mine.jsonl"), columns={"problem": "q"}).problems("train"))


def test_rows_without_a_readable_gold_are_left_out_and_too_many_stop(tmp_path: Path):
    good = [{"problem": f"What is {n} + 1?", "solution": f"$\\boxed{{{n + 1}}}$"} for n in range(100)]
    path = write(tmp_path / "train.jsonl", [*good, {"problem": "Prove it.", "solution": "Clear."}])
    assert sum(1 for split in ("train", "validation") for _ in task(source=str(tmp_path)).problems(split)) == 100
    write(path, [*good[:9], *[{"problem": f"Prove {n}.", "solution": "Clear."} for n in range(9)]])
    with pytest.raises(Exit, match="gold_unreadable"):
        list(task(source=str(tmp_path)).problems("train"))


def test_prepared_rows_are_read_again(tmp_path: Path):
    from gradus.data.prepare import prepare

    options = {"source": "generate", "num_train": 60, "num_validation": 8, "num_test": 8, "cas": "off"}
    manifest = prepare("math", options, tmp_path / "out")
    again = task(source=str(tmp_path / "out"))
    for split in SPLITS:
        problems = list(again.problems(split))
        assert len(problems) == manifest["splits"][split]["rows"]
        assert all(again.score(problem, again.oracle(problem)).reward == 1.0 for problem in problems)


@pytest.mark.skipif(DATA is None, reason="GRADUS_TEST_DATA is not set: no tool-integrated solutions")
@pytest.mark.parametrize(
    "options", [{}, {"style": "boxed"}, {"tir": "keep"}, {"style": "boxed", "tir": "keep"}], ids=str
)
def test_tool_integrated_solutions_are_their_own_oracle(options: dict):
    assert DATA is not None
    made = task(source=str(Path(DATA) / "tora_tir" / "tir_examples30.jsonl"), **options)
    problems = [problem for split in SPLITS for problem in made.problems(split)]
    assert len(problems) == 30
    for problem in problems:
        text = made.oracle(problem)
        assert made.score(problem, text).reward == 1.0
        assert ("```" in text) == (options.get("tir") == "keep" and "```" in problem.meta["solution"])


@pytest.mark.skipif(DATA is None, reason="GRADUS_TEST_DATA is not set: no college mathematics")
def test_boxed_golds_of_college_mathematics_are_accepted_by_their_own_scorer(capsys: pytest.CaptureFixture[str]):
    assert DATA is not None
    path = Path(DATA) / "college_math_ccby" / "college_math_ccby.jsonl"
    made = task(source=str(path))
    problems = [problem for split in SPLITS for problem in made.problems(split)]
    accepted = [made.score(problem, made.oracle(problem)).reward == 1.0 for problem in problems]
    with capsys.disabled():
        print(f" [{sum(accepted)} of {len(problems)} readable golds of 1,260 rows are accepted]")
    assert sum(accepted) >= 0.999 * len(problems)


# ---------------------------------------------------------------- generated exercises


def test_every_line_of_a_generated_solution_is_true_and_every_kind_is_drawn():
    kinds = set()
    for exercise in generated.draw("train", 600):
        kinds.add(exercise.kind)
        assert 1 <= len(exercise.lines) <= 5
        for line in exercise.lines:
            members = line.rpartition("<")[2].split("=")
            members = [member for member in members if "x" not in member]
            if len(members) > 1 and not line.endswith("= 0"):
                assert all(equal(members[0], member).equal for member in members[1:]), line
        assert read_gold(exercise.solution, "")[0] == exercise.answer
    assert len(kinds) == len(generated.KINDS)


def test_generated_answers_solve_their_problems():
    for exercise in generated.draw("train", 400, seed=3):
        numbers = exercise.numbers
        if exercise.kind == "linear":
            assert numbers[0] * int(exercise.answer) + numbers[1] == numbers[2]
        elif exercise.kind == "quadratic":
            for root in map(int, exercise.answer.split(",")):
                assert (root - numbers[0]) * (root - numbers[1]) == 0
        elif exercise.kind == "series":
            first, step, count = numbers
            assert int(exercise.answer) == sum(first + step * k for k in range(count))
        elif exercise.kind == "root":
            assert equal(rf"\sqrt{{{numbers[0] ** 2 * numbers[1]}}}", exercise.answer).equal
        elif exercise.kind == "sum of fractions":
            a, b, c, d = numbers
            assert equal(rf"\frac{{{a}}}{{{b}}} + \frac{{{c}}}{{{d}}}", exercise.answer).equal


def test_splits_of_generated_exercises_share_nothing_whatever_the_seed():
    keys: dict[str, set] = {split: set() for split in SPLITS}
    for seed in range(3):
        for split in SPLITS:
            keys[split] |= {(exercise.kind, exercise.numbers) for exercise in generated.draw(split, 60, seed=seed)}
    assert not keys["train"] & keys["test"]
    assert not (keys["train"] | keys["test"]) & keys["validation"]


def test_generated_exercises_say_what_they_are():
    problem = next(task().problems("test"))
    assert problem.id.startswith("math-generated/test/")
    assert problem.meta["source"] == "generate"
    assert problem.domain in ("algebra", "number", "geometry")
    assert [p.id for p in task().problems("train", 5)] == [f"math-generated/train/{n:05d}" for n in range(5)]


def test_generated_exercises_keep_to_the_kinds_and_numbers_asked_for():
    task = load_task("math", source="generate", kinds=["slope", "divisor"], max_number=60)
    problems = list(task.problems("train", 300))
    assert {problem.meta["kind"] for problem in problems} == {"slope", "divisor"}
    texts = [f"{problem.meta['problem']} {problem.meta['solution']}" for problem in problems]
    assert 40 < max(int(number) for text in texts for number in re.findall(r"[0-9]+", text)) <= 60


@pytest.mark.parametrize(
    ("kinds", "complaint"), [([], "kinds is empty"), (["slop"], "kinds names 'slop'; there are: ")]
)
def test_a_kind_that_does_not_exist_is_named(kinds: list[str], complaint: str):
    with pytest.raises(ValueError, match=complaint):
        load_task("math", source="generate", kinds=kinds)
