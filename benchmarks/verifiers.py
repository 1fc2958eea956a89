r"""Mathematical verifiers side by side: agreement with the labelled cases of ``tests/corpora``, and decisions per second.

Run from the repository's root: ``python benchmarks/verifiers.py [--seconds 2] [--out docs/verifiers.md] [--json FILE]``.
Needs math-verify (``pip install gradus[math]``). TRL's accuracy reward and verl's scorers are added where they are
installed, and named as missing where not; of verl the bare package is enough (``pip install --no-deps verl``), since its
scorers are loaded from their files, without its trainer. All rates are per second
of processor time in one process, measured in one run. Texts that repeat one unit (``\boxed{`` 20,000 times) are given to
gradus alone: the others may never return.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import logging
import platform
import random
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

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


TIMEOUT_SECONDS = 20
"""Of math-verify's own timers."""

# ---------------------------------------------------------------- the verifiers


def ours(client: cas.MathVerify | None) -> Judge:
    return lambda gold, completion: grade(gold, completion, style="boxed", cas=client)[1].equal


def math_verify() -> Judge:
    """math-verify as its README calls it, with its own timers, generous ones: they are of wall clock."""
    from math_verify import parse, verify

    def judge(gold: str, completion: str) -> bool:
        try:
            return bool(
                verify(
                    parse(f"${gold}$", parsing_timeout=TIMEOUT_SECONDS),
                    parse(completion, parsing_timeout=TIMEOUT_SECONDS),
                    timeout_seconds=TIMEOUT_SECONDS,
                )
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


def verl_scorer(name: str) -> ModuleType | None:
    """A file of verl's ``reward_score``, loaded without verl's trainer; None where verl is not installed."""
    found = importlib.util.find_spec("verl")
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / "utils" / "reward_score" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"verl_{name}", path)
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def verl_judge(name: str, score: Callable[[ModuleType, str, str], bool]) -> Judge | None:
    """A scorer of verl as (gold, completion) to bool; an error of its is a refusal."""
    module = verl_scorer(name)
    if module is None:
        return None

    def judge(gold: str, completion: str) -> bool:
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it prints what it cannot read
                return score(module, completion, gold)
        except Exception:
            return False

    return judge


def verl_judges() -> dict[str, Judge | None]:
    """verl's scorers of mathematics and GSM8K, by name."""
    return {
        "math_reward": verl_judge("math_reward", lambda verl, text, gold: verl.compute_score(text, gold) == 1.0),
        "math_dapo": verl_judge("math_dapo", lambda verl, text, gold: bool(verl.compute_score(text, gold)["acc"])),
        "gsm8k strict": verl_judge("gsm8k", lambda verl, text, gold: verl.compute_score(text, gold) == 1.0),
        "gsm8k flexible": verl_judge(
            "gsm8k", lambda verl, text, gold: verl.compute_score(text, gold, method="flexible") == 1.0
        ),
    }


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
    every, words, verl = corpus("equivalence"), corpus("gsm8k"), verl_judges()
    short = [case for case in every if "completion" in case]
    client = cas.shared(10.0)
    verifiers: list[tuple[str, Judge | None, list[dict]]] = [
        ("gradus", ours(None), every),
        ("gradus with math-verify behind it", ours(client), every),
        (f"math-verify {version('math-verify')}", math_verify(), short),
        (f"accuracy_reward of TRL {installed('trl')}", trl_accuracy() if installed("trl") else None, short),
        (f"math_reward of verl {installed('verl')}", verl["math_reward"], short),
        (f"math_dapo of verl {installed('verl')}", verl["math_dapo"], short),
    ]
    for name, judge, cases in verifiers:
        rows.append(agreement_row("mathematics", name, judge, cases, "equal"))
    client.close()
    for case in words:
        case["gold"] = str(numbers.gold(case["gold"]))
    short = [case for case in words if "completion" in case]
    for name, judge, cases, key in (
        ("gradus, strict", lambda gold, text: gsm8k.grade(gold, text)[0], words, "equal_strict"),
        ("verl's gsm8k, strict", verl["gsm8k strict"], short, "equal_strict"),
        ("gradus, lenient", lambda gold, text: gsm8k.grade(gold, text)[1], words, "equal"),
        ("verl's gsm8k, flexible", verl["gsm8k flexible"], short, "equal"),
        ("math-verify", math_verify(), short, "equal"),
    ):
        rows.append(agreement_row("GSM8K", name, judge and as_decimal(judge), cases, key))
    return rows


def agreement_row(what: str, name: str, judge: Judge | None, cases: Sequence[dict], key: str) -> str:
    if judge is None:
        return f"| {what} | {name.strip()} | not installed here | not installed here |"
    num, paid, refused = agreement(cases, judge, key)
    return f"| {num} of {what} | {name} | {paid} | {refused} |"


def installed(package: str) -> str:
    """Its version, or "" where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


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
    return [*rows, *cas_share(golds), *megabyte(), *pathological_batch(golds)]


def cas_share(golds: Sequence[str]) -> list[str]:
    """Share of decisions that the own grammar leaves to a CAS or to nobody."""
    codes = [equivalence.equal(gold, answers.last_box(text).text or "").why for gold, text in groups(golds)]
    return [f"| left undecided by the own grammar | {codes.count('unsupported') / len(codes):.1%} | |"]


def megabyte() -> list[str]:
    """The slowest text of a megabyte."""
    worst = 0.0
    for unit in (r"\boxed{", "{", "}", "$", "#", "-", "1,", "7", " ", "answer ", "<answer>", "<think>", "+"):
        started = time.process_time()
        grade("42", unit * (1_000_000 // len(unit)), style="boxed")
        worst = max(worst, time.process_time() - started)
    return [f"| slowest text of a megabyte | {worst * 1e3:.0f} ms | |"]


def pathological_batch(golds: Sequence[str], num_problems: int = 64, group_size: int = 16) -> list[str]:
    """A batch in which 1 % of the answers are made to hang a verifier, at a deadline of one second for each decision."""
    hostile = (
        "9^{9^{9}}",
        "{" * 20_000 + "1",
        "99999999!",
        r"\sqrt{" * 5_000 + "2",
        "(" * 20_000 + "1" + ")" * 20_000,
    )
    batch = [
        (gold, f"{PROSE}So \\boxed{{{gold if sample % 2 else gold + '1'}}}.")
        for gold in golds[:num_problems]
        for sample in range(group_size)
    ]
    for number in range(len(batch) // 100):
        batch[number * 100] = (batch[number * 100][0], f"So \\boxed{{{hostile[number % len(hostile)]}}}.")
    client = cas.MathVerify(timeout_seconds=1.0)
    grade("1", r"\boxed{\int_0^1 1 dx}", style="boxed", cas=client)  # its worker is started
    forget()
    started = time.monotonic()
    for gold, text in batch:
        grade(gold, text, style="boxed", cas=client)
    seconds = time.monotonic() - started
    client.close()
    return [f"| {len(batch)} answers, 1 % pathological, deadline 1 s, wall clock | {seconds:.2f} s | |"]


def main() -> None:
    """Prints both tables, and writes them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="processor time per workload and verifier")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    parser.add_argument("--json", type=Path, help="file to write the same rows to, with machine and date")
    parser.add_argument("--note", default="", help="what else is to be known about the machine")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    agreements, rates = agreement_table(), throughput_table(arguments.seconds)
    text = "\n".join(
        [
            HEAD,
            f"{machine()} {arguments.note}".strip(),
            "",
            "## Agreement",
            "",
            *agreements,
            "",
            "## Speed",
            "",
            *rates,
            "",
        ]
    )
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
    if arguments.json:
        facts = {
            "date": str(date.today()),
            "machine": machine(),
            "note": arguments.note,
            "agreement": cells(agreements),
            "speed": cells(rates),
        }
        arguments.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


HEAD = """# Verifiers side by side

Made by `benchmarks/verifiers.py`; not edited by hand. The cases are those of `tests/corpora/equivalence.jsonl` and
`tests/corpora/gsm8k.jsonl` without the contested ones: written for this project from the rulings of
[mathematics.md](mathematics.md), each with the ruling that it shows. They were written with the known faults of the other
verifiers in mind, so that a verifier with other rulings must lose here; read the cases before you read the counts. Scorers
that read boxes only (verl's `math_reward`) refuse answers in prose by design. A *false positive* is paid and wrong, a
*false negative* right and refused. Texts that repeat one unit thousands of times are given to gradus alone: others may
never return.
"""


def machine() -> str:
    """What this was measured on."""
    return f"Python {platform.python_version()}, {platform.machine()}, one process, rates per second of processor time."


def cells(rows: Sequence[str]) -> list[dict[str, str]]:
    """A Markdown table as a list of its rows."""
    names, _, *body = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return [dict(zip(names, row, strict=True)) for row in body]


if __name__ == "__main__":
    main()
