"""maj@k: by hand, against plain enumeration, and what the tasks let completions vote for."""

import random
from itertools import combinations

import pytest

from gradus.evaluation.compare import compare
from gradus.evaluation.evaluate import rows, summarize
from gradus.evaluation.majority import MAX_SUBSETS, majority
from gradus.tasks.base import load_task
from gradus.types import Completion, Group
from tests.evaluation.evaluation_rows import made_rows


def by_hand(answers, correct, k) -> float:
    """The definition, choice by choice."""
    found = []
    for chosen in combinations(range(len(answers)), k):
        votes: dict[str, int] = {}
        for i in chosen:
            if answers[i] is not None:
                votes[answers[i]] = votes.get(answers[i], 0) + 1
        tied = [answer for answer in votes if votes[answer] == max(votes.values())]
        right = {a: any(c for b, c in zip(answers, correct, strict=True) if b == a) for a in tied}
        found.append(sum(right.values()) / len(tied) if tied else 0.0)
    return sum(found) / len(found)


@pytest.mark.parametrize("seed", range(20))
def test_it_is_the_mean_over_all_choices(seed: int) -> None:
    draw = random.Random(seed)
    answers = [draw.choice(["1", "2", "3", None]) for _ in range(draw.randint(1, 7))]
    correct = [answer == "1" for answer in answers]
    for k in range(1, len(answers) + 1):
        assert majority(answers, correct, k) == pytest.approx(by_hand(answers, correct, k), abs=1e-12)


def test_majorities_by_hand() -> None:
    assert majority(["18", "18", "9"], [True, True, False], 3) == 1.0
    assert majority(["18", "9", "9"], [True, False, False], 3) == 0.0
    assert majority(["18", "9"], [True, False], 2) == 0.5, "a tie counts the share of the tied that is right"
    assert majority(["18", None, None], [True, False, False], 3) == 1.0, "no answer, no vote"
    assert majority([None, None], [False, False], 1) == 0.0
    assert majority(["18", "9", "9"], [True, False, False], 1) == pytest.approx(1 / 3), "maj@1 is the solve rate"


def test_too_many_choices_are_drawn_by_a_seed() -> None:
    answers = ["1"] * 9 + ["2"] * 7
    correct = [answer == "1" for answer in answers]
    assert MAX_SUBSETS < 12_870
    found = majority(answers, correct, 8)
    assert found == majority(answers[::-1], correct[::-1], 8), "by the votes, not by their order"
    assert found == pytest.approx(by_hand(answers, correct, 8), abs=0.03)


@pytest.mark.parametrize(
    ("task", "raw", "texts", "same"),
    [
        ("gsm8k", {"question": "?", "answer": "#### 2,500"}, ("#### 2500", "It is $2,500.00.\n#### 2,500"), True),
        ("gsm8k", {"question": "?", "answer": "#### 18"}, ("#### 1,000", "So #### 1000"), True),
        ("gsm8k", {"question": "?", "answer": "#### 18"}, ("#### 9", "#### 10"), False),
        ("math", {"problem": "?", "answer": "0.5"}, (r"\boxed{\frac{1}{2}}", r"\boxed{0.5}"), True),
        ("math", {"problem": "?", "answer": "3"}, (r"\boxed{\frac{1}{2}}", r"\boxed{\dfrac12}"), True),
        ("countdown", {"numbers": [2, 5, 8], "target": 11},
         ("<answer>8 + 5 - 2</answer>", "<think>Hm.</think><answer>8+5-2</answer>"), True),
        ("countdown", {"numbers": [2, 5, 8], "target": 11}, ("<answer>8 + 5 - 2</answer>", "<answer>5 + 8 - 2</answer>"), False),
    ],
)  # fmt: skip
def test_what_a_vote_is_for(task: str, raw: dict, texts: tuple[str, str], same: bool) -> None:
    made = load_task(task)
    problem = made.problem(**raw)
    votes = [made.answer(problem, text, correct=made.score(problem, text).correct) for text in texts]
    assert None not in votes and (votes[0] == votes[1]) is same
    assert made.answer(problem, "", correct=False) is None


def group(task, texts):
    problem = task.problem(question="?", answer="#### 18")
    completions = tuple(
        Completion(text=text, tokens=(1,), logprobs=(-0.1,), finish="stop", policy_step=0) for text in texts
    )
    scores = tuple(task.score(problem, text) for text in texts)
    return Group(problem=problem, prompt_tokens=(1,), completions=completions, scores=scores)


def test_evaluations_and_comparisons_tell_it() -> None:
    task = load_task("gsm8k")
    before = rows([group(task, ("#### 18", "#### 9", "#### 9"))], tasks={"gsm8k": task})
    after = rows([group(task, ("#### 18", "So #### 18.0", "?"))], tasks={"gsm8k": task})
    assert [row["answer"] for row in after] == ["18", "18", None]
    assert [one["value"] for one in summarize(before)["maj_at"].values()] == pytest.approx([1 / 3, 1 / 3, 0])
    found = compare(before, after)
    assert [line.name for line in found.maj_at_k] == ["Maj@1", "Maj@2", "Maj@3"]
    assert found.maj_at_k[2].difference.value == 1 and "## Maj@k" in found.to_markdown()
    assert [line["trained"]["value"] for line in found.to_json()["maj_at_k"]] == pytest.approx([2 / 3, 1, 1])


def test_rows_without_answers_say_so() -> None:
    made = made_rows([1, 2], 2)
    assert summarize(made)["maj_at"]["2"]["reason"] == "the task reads no answers to vote on"
    found = compare(made, made)
    assert not found.maj_at_k and "Maj@" not in found.to_markdown()
