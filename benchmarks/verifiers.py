r"""Mathematical verifiers side by side: agreement with the labelled cases of ``tests/corpora``, and decisions per second.

Run from the repository's root: ``python benchmarks/verifiers.py [--seconds 2] [--out docs/verifiers.md]``. Needs
math-verify (``pip install gradus[math]``); TRL's accuracy reward is added where TRL is installed. All rates are per second
of processor time in one process, measured in one run. Texts that repeat one unit (``\boxed{`` 20,000 times) are given to
gradus alone: the others may never return.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import random
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "tasks")]

from rewrites import generated_golds, pairs  # noqa: E402

from gradus.tasks import answers, cas, equivalence, gsm8k  # noqa: E402
from gradus.tasks.algebra import latex, numeric, structures  # noqa: E402
from gradus.tasks.gsm8k import numbers  # noqa: E402
from gradus.tasks.mathematics import grade, read_gold  # noqa: E402

Judge = Callable[[str, str], bool]
"""(gold, completion) to: is it right?"""
PROSE = "We write down what is given, name the unknown, and simplify step by step until only one value is left. " * 3


# ---------------------------------------------------------------- the verifiers


def ours(client: cas.MathVerify | None) -> Judge:
    return lambda gold, completion: grade(gold, completion, style="boxed", cas=client)[1].equal


def math_verify() -> Judge:
    """math-verify as its README calls it, with its own timers."""
    from math_verify import parse, verify

    def judge(gold: str, completion: str) -> bool:
        try:
            return bool(
                verify(parse(f"${gold}$", parsing_timeout=2), parse(completion, parsing_timeout=2), timeout_seconds=2)
            )
        except Exception:  # whatever it raises is a refusal
            return False

    return judge


def trl_accuracy() -> Judge:
    """TRL's accuracy reward; None, its answer where the gold cannot be read, pays nobody."""
    from trl.rewards import accuracy_reward

    def judge(gold: str, completion: str) -> bool:
        return accuracy_reward([[{"content": completion}]], [f"${gold}$"])[0] == 1.0

    return judge


def verl_strict(gold: str, completion: str) -> bool:
    """verl's strict GSM8K rule: the last ``#### number`` of the last 300 characters, compared as text."""
    found = re.findall(r"#### (-?[0-9.,]+)", completion[-300:])
    return bool(found) and found[-1].replace(",", "").replace("$", "") == gold


def verl_flexible(gold: str, completion: str) -> bool:
    """verl's flexible rule: the last number that is not just a dot."""
    found = [number for number in re.findall(r"-?[0-9.,]+", completion) if number not in ("", ".")]
    return bool(found) and found[-1] == gold


# ---------------------------------------------------------------- agreement


def corpus(name: str) -> list[dict]:
    lines = (ROOT / "tests" / "corpora" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def text_of(case: dict) -> str:
    return case.get("completion") or "".join(text * times for text, times in case.get("completion_parts", ()))


def agreement(cases: Iterable[dict], judge: Judge, key: str = "equal") -> tuple[int, int, int]:
    """(cases, false positives, false negatives), contested cases left out."""
    num = paid = refused = 0
    for case in cases:
        if case["contested"]:
            continue
        num += 1
        is_right = judge(case["gold"], text_of(case))
        paid += is_right and not case[key]
        refused += case[key] and not is_right
    return num, paid, refused


def agreement_table() -> list[str]:
    rows = ["| cases | verifier | false positives | false negatives |", "|---|---|---|---|"]
    every = corpus("equivalence")
    short = [case for case in every if "completion" in case]
    client = cas.shared(10.0)
    verifiers: list[tuple[str, Judge, list[dict]]] = [
        ("gradus", ours(None), every),
        ("gradus with math-verify behind it", ours(client), every),
        (f"math-verify {version('math-verify')}", math_verify(), short),
    ]
    try:
        verifiers.append((f"accuracy_reward of TRL {version('trl')}", trl_accuracy(), short))
    except PackageNotFoundError:
        print("TRL is not installed: left out", file=sys.stderr)
    for name, judge, cases in verifiers:
        num, paid, refused = agreement(cases, judge)
        rows.append(f"| {num} of mathematics | {name} | {paid} | {refused} |")
    client.close()
    for case in (words := corpus("gsm8k")):
        case["gold"] = str(numbers.gold(case["gold"]))
    short = [case for case in words if "completion" in case]
    for name, judge, cases, key in (
        ("gradus, strict", lambda gold, text: gsm8k.grade(gold, text)[0], words, "equal_strict"),
        ("verl's strict rule", verl_strict, short, "equal_strict"),
        ("gradus, lenient", lambda gold, text: gsm8k.grade(gold, text)[1], words, "equal"),
        ("verl's flexible rule", verl_flexible, short, "equal"),
        ("math-verify", math_verify(), short, "equal"),
    ):
        num, paid, refused = agreement(cases, as_decimal(judge), key)
        rows.append(f"| {num} of GSM8K | {name} | {paid} | {refused} |")
    return rows


def as_decimal(judge: Judge) -> Judge:
    """Golds such as 5/2 are decimals in GSM8K."""
    return lambda gold, text: judge(gold if "/" not in gold else str(float(numbers_fraction(gold))), text)


def numbers_fraction(gold: str) -> float:
    top, _, bottom = gold.partition("/")
    return int(top) / int(bottom)


# ---------------------------------------------------------------- throughput


def forget() -> None:
    """Empties every cache of ours, so that a round measures decisions and not memory."""
    for function in (
        latex.normal_form,
        structures.parse,
        numeric._evaluate,
        numeric.facts,
        equivalence._decide,
        numbers.lenient,
    ):
        function.cache_clear()


def rate(work: Callable[[str, str], object], items: Sequence[tuple[str, str]], seconds: float) -> float:
    """Calls per second of processor time. Every round begins with empty caches."""
    done, spent = 0, 0.0
    while spent < seconds:
        forget()
        started = time.process_time()
        for gold, text in items:
            work(gold, text)
            if time.process_time() - started > 4 * seconds:
                break
            done += 1
        spent += time.process_time() - started
    return done / spent


def groups(golds: Sequence[str]) -> list[tuple[str, str]]:
    """Eight completions per gold, as one step scores them: half right in several spellings, some wrong, repeats."""
    by_gold: dict[str, list[str]] = {}
    for gold, text, _, name in pairs(iter(golds), seed=5):
        if name in ("dollars", "dfrac", "labelled", "unit", "plus_one", "sign", "times_ten"):
            by_gold.setdefault(gold, [gold]).append(text)
    rng = random.Random(0)
    return [
        (gold, f"{PROSE}The answer is $\\boxed{{{rng.choice(texts)}}}$.")
        for gold, texts in by_gold.items()
        for _ in range(8)
    ]


def throughput_table(seconds: float) -> list[str]:
    rows = ["| workload | gradus | math-verify |", "|---|---|---|"]
    golds = list(generated_golds(400, seed=9))
    hard = [gold for gold in golds if not re.fullmatch(r"-?[0-9.]+", gold)]
    wrong = [
        (gold, text)
        for gold, text, is_equal, name in pairs(iter(hard), seed=6)
        if name in ("plus_one", "other_digit", "sign")
    ]
    sample = [
        json.loads(line)["answer"] for line in (ROOT / "tests/data/gsm8k/train.jsonl").read_text("utf-8").splitlines()
    ]
    words = [(answer, re.sub(r"<<.*?>>", "", answer)) for answer in sample]
    solutions = [(gold, f"{PROSE}Hence $\\boxed{{{gold}}}$.") for gold in golds]
    verify = math_verify()

    def box(gold: str, answer: str) -> bool:
        return verify(gold, f"$\\boxed{{{answer}}}$")

    def own_solution(gold: str, solution: str) -> bool:
        return equivalence.equal(gold, read_gold(solution, "")[0]).equal

    for name, items, mine, theirs in (
        ("GSM8K, both readings", words, gsm8k.grade, lambda gold, text: verify(gold.rpartition("####")[2], text)),
        ("mathematics, read and compare, 8 per problem", groups(golds), ours(None), verify),
        ("mathematics, wrong answers that are no integers", wrong, lambda g, a: equivalence.equal(g, a), box),
        ("gold against its own solution", solutions, own_solution, verify),
    ):
        mine(*items[0])
        theirs(*items[0])
        ours_rate, their_rate = rate(mine, items, seconds), rate(theirs, items[:: max(1, len(items) // 150)], seconds)
        rows.append(f"| {name} ({len(items)}) | {ours_rate:,.0f}/s | {their_rate:,.0f}/s |")
    return [*rows, *cas_share(golds), *megabyte(seconds)]


def cas_share(golds: Sequence[str]) -> list[str]:
    """Share of decisions that the own grammar leaves to a CAS or to nobody."""
    codes = [equivalence.equal(gold, answers.last_box(text).text or "").why for gold, text in groups(golds)]
    return [f"| left undecided by the own grammar | {codes.count('unsupported') / len(codes):.1%} | |"]


def megabyte(seconds: float) -> list[str]:
    """The slowest text of a megabyte."""
    worst = 0.0
    for unit in (r"\boxed{", "{", "}", "$", "#", "-", "1,", "7", " ", "answer ", "<answer>", "<think>", "+"):
        started = time.process_time()
        grade("42", unit * (1_000_000 // len(unit)), style="boxed")
        worst = max(worst, time.process_time() - started)
    return [f"| slowest text of a megabyte | {worst * 1e3:.0f} ms | |"]


def main() -> None:
    """Prints both tables, and writes them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="processor time per workload and verifier")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    lines = [
        "# Verifiers side by side",
        "",
        f"Python {platform.python_version()}, {platform.machine()}, one process; made by `benchmarks/verifiers.py`.",
        "",
        *agreement_table(),
        "",
        *throughput_table(arguments.seconds),
        "",
    ]
    text = "\n".join(lines)
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
