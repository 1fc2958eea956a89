"""The self-test that every task passes: what `gradus tasks check` shows, and what the contract tests assert.

A task is trusted with a training run only if its oracle is paid best, everything else less, nothing least, and no text
can break, slow or confuse its scorer.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice

from gradus.tasks.base import Task
from gradus.types import Problem, Score

MAX_HOSTILE_SECONDS = 0.1
"""Most time that a hostile text of a megabyte may take."""
MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class CheckRow:
    """One thing that was checked.

    Example:
        CheckRow("oracle is correct", expected="200 of 200", actual="200 of 200", ok=True)
    """

    name: str
    expected: str
    actual: str
    ok: bool


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All rows, and how long a call of the scorer takes.

    Example:
        check_task(load_task("countdown")).ok  # True
    """

    task: str
    rows: tuple[CheckRow, ...]
    num_problems: int
    mean_ms: float
    """Mean time to score an oracle's answer (milliseconds)."""
    max_hostile_ms: float
    """Longest time that a hostile text took (milliseconds)."""

    @property
    def ok(self) -> bool:
        """Whether every row is as expected."""
        return all(row.ok for row in self.rows)


def hostile_texts() -> Iterator[tuple[str, str]]:
    """(label, text) pairs of up to a megabyte that no scorer may pay for, choke on or execute."""
    units = (
        "<think>", "</think>", "<answer>", "</answer>", "<answer>7919</answer>", "\\boxed{", "\\boxed{7919}",
        "{", "}", "(", "[", "#", "#### ", "-", "+", ",", "$", "`", "\\", "7", "7919 ", "7919+", "7919,", "answer ",
        " ", "\n", "\x00", "\ud800", "٣", '{"a":',
    )  # fmt: skip
    for unit in units:
        yield f"1 MB of {unit!r}", unit * (MEGABYTE // len(unit))
        yield f"<answer> + 1 MB of {unit!r}", f"<answer>{unit * (MEGABYTE // len(unit))}</answer>"
    for text in (
        "__import__('os').system('touch canary')",
        "9**9**9**9",
        "99999999!",
        "\\frac{" * 5000 + "1" + "}{2}" * 5000,
        "(" * 20_000 + "1" + ")" * 20_000,
        "+".join(["1"] * 200_000),
        "\\input{/etc/passwd}",
        "NaN",
        "1e999",
        "\u202e\u200b\x00\ud800",
    ):
        yield text[:40], f"<think>.</think><answer>{text}</answer>"
        yield f"box, ####, {text[:40]}", f"\\boxed{{{text}}}\n#### {text}"


def check_task(task: Task, num: int = 200) -> CheckReport:
    """Runs the whole self-test on the first ``num`` training problems, and a few of the other splits.

    A problem source that cannot be opened raises its own ValueError: there is nothing to check.
    """
    problems = list(islice(task.problems(task.splits[0], num), num))
    if not problems:
        return CheckReport(task.name, (CheckRow("problems", "at least one", "none", False),), 0, 0.0, 0.0)
    held_out = [problem for split in task.splits[1:] for problem in islice(task.problems(split, 20), 20)]
    oracles = {problem.id: _oracle(task, problem) for problem in problems + held_out}
    started = time.perf_counter()
    scores = [task.score(problem, oracles[problem.id]) for problem in problems]
    mean_ms = (time.perf_counter() - started) / len(problems) * 1e3
    rows = [
        *_check_problems(task, problems, held_out),
        *_check_oracle(task, problems + held_out, oracles),
        *_check_worse(task, problems, oracles),
        *_check_contract(task, problems, oracles, scores),
        *(CheckRow(name, expected, actual, expected == actual) for name, expected, actual in task.check_cases()),
    ]
    hostile, max_hostile_ms = _check_hostile(task, problems[0])
    return CheckReport(task.name, (*rows, *hostile), len(problems), mean_ms, max_hostile_ms)


def _oracle(task: Task, problem: Problem) -> str:
    try:
        return task.oracle(problem)
    except ValueError:
        return ""


def _all(name: str, hits: Sequence[bool]) -> CheckRow:
    """A row that expects every hit."""
    return CheckRow(name, f"{len(hits)} of {len(hits)}", f"{sum(hits)} of {len(hits)}", all(hits))


def _check_problems(task: Task, problems: list[Problem], held_out: list[Problem]) -> Iterator[CheckRow]:
    again = list(islice(task.problems(task.splits[0], len(problems)), len(problems)))
    yield _all("problems come in the same order twice", [a == b for a, b in zip(problems, again, strict=True)])
    ids = [problem.id for problem in problems + held_out]
    yield CheckRow("ids are unique", str(len(ids)), str(len(set(ids))), len(ids) == len(set(ids)))
    yield _all("problems are JSON", [_is_json(problem) for problem in problems])
    yield _all("difficulty is in [0, 1]", [0 <= problem.difficulty <= 1 for problem in problems])
    trained = {_question(problem) for problem in problems}
    num_leaked = sum(_question(problem) in trained for problem in held_out)
    yield CheckRow("held-out problems seen in training", "0", str(num_leaked), num_leaked == 0)


def _is_json(problem: Problem) -> bool:
    facts = {key: value for key, value in asdict(problem).items() if key in ("truth", "meta")}
    try:
        return json.loads(json.dumps(facts, allow_nan=False)) == facts
    except (TypeError, ValueError):
        return False


def _question(problem: Problem) -> tuple[str, ...]:
    return tuple(message.content for message in problem.messages)


def _check_oracle(task: Task, problems: list[Problem], oracles: dict[str, str]) -> Iterator[CheckRow]:
    highest = task.reward_range[1]
    scores = [task.score(problem, oracles[problem.id]) for problem in problems]
    yield _all("oracle has an answer", [bool(oracles[problem.id]) for problem in problems])
    yield _all("oracle is correct", [score.correct for score in scores])
    yield _all(f"oracle gets the highest reward ({highest:g})", [score.reward == highest for score in scores])


def _check_worse(task: Task, problems: list[Problem], oracles: dict[str, str]) -> Iterator[CheckRow]:
    lowest, highest = task.reward_range
    for label, text in (("an empty text", ""), ("blanks", " \n\t ")):
        scores = [task.score(problem, text) for problem in problems]
        is_lowest = [score.reward == lowest and not score.correct for score in scores]
        yield _all(f"{label} gets the lowest reward ({lowest:g})", is_lowest)
    if len(problems) > 1:
        pairs = zip(problems, problems[1:] + problems[:1], strict=True)
        lucky = [task.score(a, oracles[b.id]).correct for a, b in pairs if a.truth != b.truth]
        actual = sum(lucky) / max(1, len(lucky))
        name = "another problem's answer is correct"
        yield CheckRow(name, f"at most {task.max_lucky_frac:.0%}", f"{actual:.1%}", actual <= task.max_lucky_frac)
    worst: dict[str, float] = {}
    for problem in problems:
        for label, text in task.near_misses(problem) if oracles[problem.id] else ():
            score = task.score(problem, text)
            worst[label] = max(worst.get(label, -math.inf), math.inf if score.correct else score.reward)
    for label, reward in sorted(worst.items()):
        actual = "correct" if reward == math.inf else f"at most {reward:g}"
        yield CheckRow(f"near miss: {label}", f"wrong, below {highest:g}", actual, reward < highest)


def _check_contract(
    task: Task, problems: list[Problem], oracles: dict[str, str], scores: list[Score]
) -> Iterator[CheckRow]:
    again = [task.score(problem, oracles[problem.id]) for problem in reversed(problems)][::-1]
    yield _all("the same text gets the same score in any order", [a == b for a, b in zip(scores, again, strict=True)])
    yield _all("reward terms sum to the reward", [_sums_up(score) for score in scores])
    yield _all("info/strict and info/lenient are 0 or 1", [_has_facts(score) for score in scores])
    for wrong in (None, b"text", 3):
        yield _raises(f"a completion of type {type(wrong).__name__}", TypeError, task, problems[0], wrong)


def _sums_up(score: Score) -> bool:
    terms = [value for name, value in score.parts.items() if not name.startswith("info/")]
    return math.isfinite(score.reward) and math.isclose(sum(terms), score.reward, abs_tol=1e-12)


def _has_facts(score: Score) -> bool:
    facts = [score.parts[name] for name in ("info/strict", "info/lenient") if name in score.parts]
    return all(fact in (0.0, 1.0) for fact in facts)


def _raises(name: str, error: type[Exception], task: Task, problem: Problem, text: object) -> CheckRow:
    score: Callable[..., Score] = task.score
    try:
        actual = f"scored {score(problem, text).reward:g}"
    except Exception as raised:  # whatever it is, it is shown
        actual = type(raised).__name__
    return CheckRow(name, error.__name__, actual, actual == error.__name__)


def _check_hostile(task: Task, problem: Problem) -> tuple[list[CheckRow], float]:
    """Scores every hostile text and reads what it answers: none may raise, be correct, leave the reward range or take long."""
    rows, slowest, num = [], 0.0, 0
    for label, text in hostile_texts():
        num += 1
        try:
            score, seconds = _timed(task, problem, text)
            task.answer(problem, text, correct=False)
        except Exception as raised:  # whatever it is, it is shown
            rows.append(CheckRow(f"hostile: {label}", "a score", f"raised {type(raised).__name__}", False))
            continue
        slowest = max(slowest, seconds)
        if score.correct or not _is_in_range(task, score):
            rows.append(CheckRow(f"hostile: {label}", "wrong", f"reward {score.reward:g}, {score.why}", False))
        elif seconds > MAX_HOSTILE_SECONDS and task.scorer_class in ("inline", "math"):
            rows.append(CheckRow(f"hostile: {label}", f"below {MAX_HOSTILE_SECONDS:g} s", f"{seconds:.2f} s", False))
    summary = CheckRow("hostile texts are harmless", f"{num} of {num}", f"{num - len(rows)} of {num}", not rows)
    return [summary, *rows], slowest * 1e3


def _timed(task: Task, problem: Problem, text: str) -> tuple[Score, float]:
    """The score, and its processor time, the shortest of three where it is long: a busy machine is not its fault."""
    score, seconds = None, math.inf
    for _ in range(3):
        started = time.thread_time()
        score = task.score(problem, text)
        seconds = min(seconds, time.thread_time() - started)
        if seconds <= MAX_HOSTILE_SECONDS:
            break
    assert score is not None
    return score, seconds


def _is_in_range(task: Task, score: Score) -> bool:
    lowest, highest = task.reward_range
    return lowest <= score.reward <= highest and _sums_up(score)
