"""Countdown's scorer: the corpus, independent evaluation of all that is paid, reward presets, and hostile text."""

from __future__ import annotations

import ast
import json
import random
import re
import threading
from fractions import Fraction
from pathlib import Path

import pytest

from gradus import load_task
from gradus.tasks.answers import Code
from gradus.tasks.countdown import classify
from gradus.tasks.countdown.score import PRESETS, score
from gradus.types import Problem, Score

CORPUS = [json.loads(line) for line in Path("tests/corpora/countdown.jsonl").read_text().splitlines()]
N, T = [2, 5, 8], 11
RIGHT = "<answer>8 + 5 - 2</answer>"


def text_of(case: dict) -> str:
    return case["completion"] if "completion" in case else "".join(text * num for text, num in case["completion_parts"])


@pytest.mark.parametrize("case", CORPUS, ids=[case["id"] for case in CORPUS])
def test_corpus(case: dict) -> None:
    options = {name: case[name] for name in ("use", "operators", "finish") if name in case}
    verdict = classify(text_of(case), case["numbers"], case["target"], **options)
    classes = {case["expected_class"], *case["acceptable"]}
    assert verdict.klass in classes, case["rule"]
    if "correct" not in classes:
        assert verdict.klass != "correct", "a wrong full-credit decision"
    if "expected_code" in case:
        assert verdict.code == case["expected_code"], case["rule"]


def test_corpus_is_whole() -> None:
    assert len(CORPUS) >= 200
    assert len({case["id"] for case in CORPUS}) == len(CORPUS)
    counts = {klass: sum(case["expected_class"] == klass for case in CORPUS) for klass in (
        "correct", "wrong_value", "wrong_numbers", "format", "malicious")}  # fmt: skip
    assert min(counts.values()) >= 10
    assert sum(counts.values()) == len(CORPUS)
    assert sum(case["contested"] for case in CORPUS) <= 5


# ---------------------------------------------------------------- nothing is paid that is not right


def independent_value(expression: str) -> Fraction | None:
    """The exact value by Python's own parser: a different reader than the one under test."""

    def value(node: ast.expr) -> Fraction:
        match node:
            case ast.Constant(int(number)):
                return Fraction(number)
            case ast.UnaryOp(ast.USub(), operand):
                return -value(operand)
            case ast.UnaryOp(ast.UAdd(), operand):
                return value(operand)
            case ast.BinOp(left, ast.Add(), right):
                return value(left) + value(right)
            case ast.BinOp(left, ast.Sub(), right):
                return value(left) - value(right)
            case ast.BinOp(left, ast.Mult(), right):
                return value(left) * value(right)
            case ast.BinOp(left, ast.Div(), right):
                return value(left) / value(right)
        raise AssertionError(ast.dump(node))

    text = expression.replace("[", "(").replace("]", ")").replace("x", "*").replace("X", "*")
    try:
        return value(ast.parse(text.strip(), mode="eval").body)
    except ZeroDivisionError:
        return None


def mutated(text: str, rng: random.Random) -> str:
    characters = list(text)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(characters))
        action = rng.random()
        if action < 0.3:
            del characters[place]
        elif action < 0.6:
            characters.insert(place, rng.choice("0123456789+-*/()[] =xX.,\n"))
        elif action < 0.8:
            characters[place] = rng.choice("0123456789+-*/() ")
        else:
            other = rng.randrange(len(characters))
            characters[place], characters[other] = characters[other], characters[place]
        characters = characters or [" "]
    return "".join(characters)


def test_all_that_is_paid_is_right_and_all_that_is_right_is_paid() -> None:
    rng = random.Random(0)
    num_paid = num_values = 0
    for problem in load_task("countdown", trace="plain").problems("train", 150):
        numbers, target = problem.truth["numbers"], problem.truth["target"]
        expression = load_task("countdown").oracle(problem).partition("<answer>")[2].partition("</answer>")[0]
        for _ in range(60):
            verdict = classify(f"<answer>{mutated(expression, rng)}</answer>", numbers, target)
            if verdict.expression is None:
                continue
            num_values += 1
            value = independent_value(verdict.expression)
            literals = sorted(int(digits) for digits in re.findall("[0-9]+", verdict.expression))
            assert verdict.value == value
            assert (verdict.klass is Code.CORRECT) == (value == target and literals == sorted(numbers))
            num_paid += verdict.klass is Code.CORRECT
    assert num_paid > 200
    assert num_values > 3000


PIECES = (
    "<think>", "</think>", "<answer>", "</answer>", "\\boxed{", "}", "{", "8 + 5 - 2", "8", "5", "2", "+", "-", "*",
    "/", "(", ")", "=", "11", " ", "\n", "\x00", "\ud800", "\u202e", "\u200b", "٣", "²", "×", "<|im_end|>", "</s>",
    "####", "```", "$", "**", "__", "eval", "import", "\\frac{", "1" * 20, "e5", ".", ",", "x", "'", '"', "答案", "😀",
)  # fmt: skip


def check_random_texts(num: int) -> None:
    """Half of the texts are tagged, so that the grammar sees as many as the reading."""
    rng = random.Random(1)
    tasks = [load_task("countdown", reward=reward) for reward in PRESETS]
    problem = tasks[0].problem(numbers=N, target=T)
    classes = set()
    for index in range(num):
        if index % 4:
            text = "".join(rng.choices(PIECES, k=rng.randint(0, 14)))
        else:
            text = "".join(chr(rng.randrange(0x110000)) for _ in range(rng.randint(0, 40)))
        text = f"<answer>{text}</answer>" if rng.random() < 0.5 else text
        result = tasks[index % 4].score(problem, text, finish="length" if index % 5 == 0 else "stop")
        check_score(result)
        classes.add(result.why.partition("/")[0])
    assert classes >= {"format", "malicious", "wrong_numbers", "correct"}


def check_score(result: Score) -> None:
    terms = [value for name, value in result.parts.items() if not name.startswith("info/")]
    assert result.reward == sum(terms)
    assert 0 <= result.reward <= 1
    assert result.status in ("scored", "refused")
    klass, _, code = result.why.partition("/")
    assert klass in ("correct", "wrong_value", "wrong_numbers", "format", "malicious")
    assert not code or code in set(Code)
    assert result.correct == (klass == "correct") == (result.parts["info/strict"] == 1.0)
    assert result.parts["info/lenient"] >= result.parts["info/strict"]
    assert result.parts["info/format_fail"] == float(klass in ("format", "malicious"))


def test_random_texts() -> None:
    check_random_texts(4_000)


@pytest.mark.slow
def test_a_hundred_thousand_random_texts() -> None:
    check_random_texts(100_000)


# ---------------------------------------------------------------- laws


@pytest.fixture
def problem() -> Problem:
    return load_task("countdown").problem(numbers=N, target=T)


@pytest.mark.parametrize(
    "inside",
    ["", "8 + 5", "<answer>1</answer>", "<answer>8 + 5 - 2", "</answer>", "<think>", r"\boxed{3}", "eval", "####"],
)
@pytest.mark.parametrize("reward", ["default", "binary", "seed-docs"])
def test_nothing_inside_the_thought_changes_a_score(problem: Problem, inside: str, reward: str) -> None:
    task = load_task("countdown", reward=reward)
    for after in (RIGHT, "<answer>8 * 5 * 2</answer>", "<answer>8</answer>", "none", ""):
        plain = task.score(problem, f"<think>a</think>{after}")
        assert task.score(problem, f"<think>{inside}</think>{after}") == plain


@pytest.mark.parametrize("after", ["", " bye", "\n8 * 5", r"\boxed{4}", "</answer>", "</s>", "#### 5", "\x00"])
def test_text_after_the_tag_changes_nothing(problem: Problem, after: str) -> None:
    task = load_task("countdown")
    for tag in (RIGHT, "<answer>8 * 5 * 2</answer>", "<answer>a</answer>"):
        expected, actual = task.score(problem, tag), task.score(problem, tag + after)
        assert (actual.reward, actual.correct, actual.why) == (expected.reward, expected.correct, expected.why)


def test_same_score_in_every_thread(problem: Problem) -> None:
    task = load_task("countdown")
    texts = [text_of(case) for case in CORPUS if "completion" in case]
    expected = [task.score(problem, text) for text in texts]
    results: dict[int, list[Score]] = {}

    def work(number: int) -> None:
        order = random.Random(number).sample(range(len(texts)), len(texts))
        scored = {index: task.score(problem, texts[index]) for index in order}
        results[number] = [scored[index] for index in range(len(texts))]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(result == expected for result in results.values())


def test_model_text_is_never_executed(problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    task = load_task("countdown", reward="seed-code")
    for payload in (
        "__import__('pathlib').Path('canary').touch()",
        "open('canary', 'w')",
        "exec(\"open('canary','w')\")",
    ):
        for text in (
            payload,
            f"<answer>{payload}</answer>",
            rf"\boxed{{{payload}}}",
            f"<answer>8 + 5 - 2 if {payload}</answer>",
        ):
            assert not task.score(problem, text).correct
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- rewards

THOUGHT = "<think>hm</think>"
TABLE = [
    # text, default, binary, seed-docs, seed-code
    (THOUGHT + RIGHT, 1.0, 1.0, 1.0, 1.0),
    (RIGHT, 1.0, 1.0, 0.0, 0.9),
    ("hm</think>" + RIGHT, 1.0, 1.0, 1.0, 1.0),
    (THOUGHT + "<answer>8 + 5 + 2</answer>", 0.1, 0.0, 0.6, 0.5),
    (THOUGHT + "<answer>8 / (5 - 5) + 2</answer>", 0.0, 0.0, 0.2, 0.2),
    (THOUGHT + "<answer>8 + 5</answer>", 0.0, 0.0, 0.2, 0.2),
    (THOUGHT + "<answer>8 5 2</answer>", 0.0, 0.0, 0.2, 0.5),
    (THOUGHT + "<answer></answer>", 0.0, 0.0, 0.0, 0.2),
    (THOUGHT + "<answer>8 + 5 - 2", 0.0, 0.0, 0.0, 0.1),
    (THOUGHT, 0.0, 0.0, 0.0, 0.1),
    ("", 0.0, 0.0, 0.0, 0.0),
    ("<think>" + RIGHT, 0.0, 0.0, 0.0, 0.9),
    (f"<think>{RIGHT}</think>", 0.0, 0.0, 0.0, 1.0),
    (f"<think>{RIGHT}</think><answer>8 + 5 + 2</answer>", 0.1, 0.0, 0.6, 1.0),
    (THOUGHT + "<answer>8 + 5 - 2 = 11</answer>", 1.0, 1.0, 1.0, 0.2),
]  # fmt: skip


@pytest.mark.parametrize(("text", "default", "binary", "seed_docs", "seed_code"), TABLE)
def test_reward_presets(text: str, default: float, binary: float, seed_docs: float, seed_code: float) -> None:
    expected = {"default": default, "binary": binary, "seed-docs": seed_docs, "seed-code": seed_code}
    results = {preset: score(text, N, T, preset=preset) for preset in PRESETS}
    assert {preset: result.reward for preset, result in results.items()} == pytest.approx(expected)
    assert len({result.correct for result in results.values()}) == 1, "the preset never decides what is correct"
    for result in results.values():
        check_score(result)


@pytest.mark.parametrize(
    ("numbers", "target", "answer"),
    [([3, 5, 2], 7, "3.5 * 2"), ([6, 1, 500000], 6, "6 + 1/500000"), ([2, 5, 4], 10, "2.5*4")],
)
def test_holes_of_the_published_code_are_repeated_and_counted(numbers: list[int], target: int, answer: str) -> None:
    result = score(f"<think></think><answer>{answer}</answer>", numbers, target, preset="seed-code")
    assert result.reward == pytest.approx(1.0)
    assert not result.correct
    assert result.parts["info/hole"] == 1.0


@pytest.mark.parametrize(
    ("numbers", "target", "answer"),
    [([2, 1], 20, "2e1"), ([1, 6, 4], 20, "1_6 + 4"), ([7, 3], 777, "'7' * 3"), ([0, 10], 16, "0x10")],
)
def test_texts_and_other_literals_stay_refused(numbers: list[int], target: int, answer: str) -> None:
    assert score(f"<think></think><answer>{answer}</answer>", numbers, target, preset="seed-code").reward < 1


def test_facts() -> None:
    parts = score(f"<think>{RIGHT}</think>{RIGHT}{RIGHT}<|im_end|>\nmore", N, T).parts
    assert parts == {
        "answer": 1.0, "info/strict": 1.0, "info/lenient": 1.0, "info/format_fail": 0.0, "info/closed_think": 1.0,
        "info/num_answers": 2.0, "info/run_on": 1.0,
    }  # fmt: skip
    parts = score(r"I get \boxed{8 + 5 - 2}", N, T).parts
    assert (parts["info/strict"], parts["info/lenient"], parts["info/format_fail"]) == (0.0, 1.0, 1.0)
    assert score("<answer>8 + 5 - 2", N, T).parts["info/lenient"] == 1.0


def test_refusals_get_the_lowest_reward_in_every_preset() -> None:
    text = f"<think></think><answer>{'1+' * 200}1</answer>"
    for preset in PRESETS:
        result = score(text, [1] * 8, 201, preset=preset)
        assert (result.reward, result.status, result.why) == (0.0, "refused", "format/too_long")
        assert result.is_usable
        check_score(result)


def test_other_types_are_refused(problem: Problem) -> None:
    with pytest.raises(TypeError, match="a completion is a str, not NoneType"):
        load_task("countdown").score(problem, None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'stop' or 'length'"):
        load_task("countdown").score(problem, RIGHT, finish="eos")  # type: ignore[arg-type]
