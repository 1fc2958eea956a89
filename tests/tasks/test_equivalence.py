"""Mathematical equality: the labelled corpus, its laws, and texts that try to break it."""

from __future__ import annotations

import gc
import json
import random
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradus.tasks import answers
from gradus.tasks.algebra.latex import normal_form
from gradus.tasks.codes import Code
from gradus.tasks.equivalence import equal, is_opaque, is_readable


@pytest.fixture
def without_garbage_collection() -> Iterator[None]:
    """Its pauses grow with all that the tests before have loaded, and would be charged to the verifier."""
    gc.disable()
    yield
    gc.enable()


CORPUS = Path(__file__).parents[1] / "corpora" / "equivalence.jsonl"
CASES = [json.loads(line) for line in CORPUS.read_text(encoding="utf-8").splitlines()]
GOLDS = sorted({case["gold"] for case in CASES})
FRAGMENTS = [
    *(
        r"\frac \sqrt { } ( ) [ ] \{ \} 1 2 12 0.5 , ; x y ab \text{ cm and or ^ _ - + \pm = < \le \cup \infty | \sin "
        r"\log ! % \$ $ \left \right . ... \\ & \begin{pmatrix} \end{pmatrix} \begin{array}{c} \end{array} \mathrm{ "
        r"\circ \boxed{ ' : 7:05 \in \mathbb{R} \ne \approx not √ π é 中 １ ٣ * / \, \! {,} 000 e i E \pi \binom \overline{ "
        r"\ ~ \ldots \setminus \operatorname{ \hspace{ \dot \mathbf"
    ).split(" "),
    "the answer is", " ", "\ud800", "\x00", "\u202e", "\n",
]  # fmt: skip


def completion(case: dict) -> str:
    if "completion" in case:
        return case["completion"]
    return "".join(text * times for text, times in case["completion_parts"])


def decide(case: dict) -> bool:
    reading = answers.read(completion(case), style="boxed", strict=False)
    return reading.text is not None and equal(case["gold"], reading.text).equal


def random_text(rng: random.Random) -> str:
    return "".join(rng.choice(FRAGMENTS) for _ in range(rng.randint(1, rng.choice([3, 8, 30]))))


def test_the_corpus_is_large_and_every_case_names_its_ruling():
    assert len(CASES) >= 400
    assert len({case["id"] for case in CASES}) == len(CASES)
    assert all(case["rule"] and isinstance(case["contested"], bool) for case in CASES)


def test_the_corpus_has_no_false_positive_and_no_false_negative(capsys: pytest.CaptureFixture[str]):
    wrong = [case["id"] for case in CASES if decide(case) != case["equal"]]
    paid = [name for name, case in ((case["id"], case) for case in CASES) if name in wrong and not case["equal"]]
    with capsys.disabled():
        print(
            f" [equivalence: {len(CASES)} cases, {len(paid)} false positives, {len(wrong) - len(paid)} false negatives]"
        )
    assert wrong == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_a_corpus_case_is_decided_the_same_from_both_sides_and_quickly(case: dict):
    text = answers.read(completion(case), style="boxed", strict=False).text or ""
    assert equal(case["gold"], text).equal == equal(text, case["gold"]).equal
    started = time.thread_time()
    decide(case)
    assert time.thread_time() - started < 0.1


@pytest.mark.parametrize("gold", GOLDS)
def test_a_readable_gold_equals_itself_and_its_normal_form_is_stable(gold: str):
    assert is_readable(gold)
    assert equal(gold, gold).equal
    assert equal(gold, f" ${gold}$. ").equal
    assert normal_form(normal_form(gold)) == normal_form(gold)


def test_no_text_raises_and_every_normal_form_is_a_fixed_point():
    rng = random.Random(0)
    for _ in range(20_000):
        text, gold = random_text(rng), rng.choice(GOLDS)
        normal = normal_form(text)
        assert normal_form(normal) == normal, repr(text)
        verdict = equal(gold, text)
        assert verdict.equal == equal(text, gold).equal, (gold, text)
        assert verdict.why in set(Code)
        assert not verdict.equal or len(text) < 40, (gold, text)


def test_a_changed_gold_is_decided_without_an_error_and_the_same_from_both_sides():
    rng = random.Random(1)
    token = re.compile(r"\\[A-Za-z]+|\\.|.", re.DOTALL)
    parts = [part for gold in GOLDS for part in token.findall(gold)]
    for _ in range(8_000):
        gold = rng.choice(GOLDS)
        changed = token.findall(gold)
        for _ in range(rng.randint(1, 2)):
            at = rng.randrange(len(changed) + 1)
            changed[at : at + rng.randint(0, 1)] = [rng.choice(parts)] * rng.randint(0, 1)
        text = "".join(changed)
        assert equal(gold, text).equal == equal(text, gold).equal, (gold, text)
        assert normal_form(normal_form(text)) == normal_form(text), text


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.text(max_size=60))
def test_any_unicode_text_is_decided(text: str):
    for gold in (r"\frac{1}{2}", "x=5", "(1,2)", "B"):
        assert equal(gold, text).equal == equal(text, gold).equal
    assert normal_form(normal_form(text)) == normal_form(text)


@pytest.mark.parametrize(
    "unit",
    [r"\boxed{", "{", "}", "(", ")", "#", "-", "+", ",", "$", "7", " ", "1,", "1+", "x^", r"\frac{", r"\sqrt", "!", "|",
     "\\", r"\text{", "^{", "_", "%", "a", r"\pm", "=", "<", ":", r"\cup", "and ", "\u200b", "٣", "."],
)  # fmt: skip
def test_repeated_units_of_any_length_are_wrong_and_quick(unit: str):
    for length in (50, 600, 1_900, 1_000_000):
        text = unit * (length // len(unit))
        started = time.thread_time()
        verdict = equal("42", text)
        assert time.thread_time() - started < 0.1
        assert not verdict.equal


@pytest.mark.parametrize(
    "text",
    ["9^{9^{9}}", "9^{9^{9^{9}}}", "99999999!", "((9!)!)!", "9!!!!!!!", r"\binom{10^{12}}{10^{11}}", "2^{10^{7}}",
     "x^{x^{x^{x^{x^{x}}}}}", r"\sin(10^{100})", r"e^{10^{100}}", r"e^{e^{e^{e^{e}}}}", r"\sqrt[1000]{2}^{1000000}",
     r"(1+10^{-39})^{10000000}", r"\sum_{k=1}^{10^{12}} k", "10^{9999999}", r"\frac{1}{10^{80000}}", "1" * 1_999,
     "0." + "1" * 1_990, "x!" * 100, r"\ln" * 200 + " 2", r"\sin" * 300 + "x", "-" * 1_500 + "1", "(x" * 39 + ")" * 39,
     r"\sqrt{" * 35 + "2" + "}" * 35, "+".join([r"\sqrt{2}"] * 190), ",".join([rf"\sqrt{{{n}}}" for n in range(2, 66)]),
     r"\gamma!" * 20, "212_{99}", r"\lfloor" * 50, "x^{10000000}", "1.5^{10000000}", r"2^{\frac{10000001}{3}}",
     r"\infty-\infty", r"\frac{\infty}{\infty}", r"\pm" * 40 + "1", "0^{0}", "0^{-1}", r"\tan 90^\circ", r"\ln 0",
     "__import__('os').system('touch canary')", r"\input{/etc/passwd}", "NaN", "1e999", "1e999999999"],
)  # fmt: skip
@pytest.mark.usefixtures("without_garbage_collection")
def test_texts_that_cost_other_verifiers_hours_are_decided_at_once(text: str):
    for gold in ("42", r"\sqrt{2}", "x+1", ",".join([rf"\sqrt{{{n}}}" for n in range(3, 67)])):
        started = time.thread_time()
        verdict = equal(gold, text)
        assert time.thread_time() - started < 0.1, verdict
        assert not verdict.equal


def test_limits_have_codes():
    assert equal("1", "9^{9^{9}}").why == "too_large"
    assert equal("1", "(" * 50 + "2" + ")" * 50).why == "too_deep"
    assert equal("1", "1" * 3_000).why == "too_long"
    assert equal("1", "1+" * 900 + "1").why == "too_long"
    assert equal("1", r"\foo").why == "unsupported"
    assert equal(r"4\text{ g}", r"4\text{ kg}").why == "unit_conflict"


@pytest.mark.parametrize("gold", ["", " ", "?", "answer", "proof", "...", "$ $"])
def test_a_gold_that_is_no_answer_is_equal_to_nothing(gold: str):
    assert not is_readable(gold)
    for text in ("", "?", "42", gold):
        assert not equal(gold, text).equal


def test_opaque_golds_are_readable_but_match_only_as_text():
    gold = r"\text{June } 20"
    assert is_opaque(gold)
    assert is_readable(gold)
    assert equal(gold, "June 20").equal
    assert not is_opaque(r"\frac{1}{2}")


def test_threads_decide_alike():
    pairs = [(a, b) for a in GOLDS[::9] for b in GOLDS[::11]]
    expected = [equal(a, b) for a, b in pairs]
    results: list[list] = []
    normal_form.cache_clear()

    def work() -> None:
        results.append([equal(a, b) for a, b in reversed(pairs)][::-1])

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 3


def test_the_example_of_the_docstring():
    assert equal(r"\frac{3}{4}", "0.75").equal
    assert (equal(r"\frac{3}{4}", "0.75").method, equal(r"\frac{3}{4}", "0.75").why) == ("rational", "same_value")
    assert equal("1", "1").method == "text"
