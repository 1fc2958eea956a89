"""Every message that the source raises (I-16): it shows a value or names what is wrong, and says what is needed or to do.

A message that cannot be seen to do so, because a caller completes it or because it speaks to who writes gradus, stands in
`REVIEWED` with its reason. A new message either passes or is looked at by a person.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
HOLE = "\N{WHITE SQUARE}"
"""Stands for a value that is put in when the message is made."""
NEED = re.compile(
    r"\b(must|needs?|needed|give|use|take|choose|write|put|set|add|remove|name|install|leave|empty|repair|undo|start|train|see|"
    r"lower|raise|make|run|for example|one of|there (are|is|were|was)|only|at least|between|known|instead|allowed|"
    r"did you mean)\b|e\.g\.",
    re.IGNORECASE,
)
CLAUSE = re.compile(rf"[;:.] [^{HOLE} ]+ ")
"""Something more is said after what is wrong."""
SUBJECT = re.compile(rf"{HOLE}|--\w|\w+[._]\w|\w=|'[^']+'")


def flat(node: ast.expr) -> str:
    """The text of an expression, with a hole for each part that is not written there."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(map(flat, values))
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return flat(left) + flat(right)
        case ast.IfExp(body=body, orelse=other):
            return f"{flat(body)} {flat(other)}"
    return HOLE


def messages() -> Iterator[tuple[str, str, bool]]:
    """File, message, and whether a hint goes with it, of every ``raise ValueError`` and ``raise Exit``."""
    for path in sorted((ROOT / "gradus").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)):
                continue
            name, arguments = ast.unparse(node.exc.func), node.exc.args
            if name in ("ValueError", "Exit") and arguments:
                has_hint = any(keyword.arg == "hint" for keyword in node.exc.keywords)
                yield path.relative_to(ROOT / "gradus").as_posix(), flat(arguments[name == "Exit"]), has_hint


def lacks(message: str, has_hint: bool) -> bool:
    """Whether it says neither what to do nor what is needed; or does so in a breath, without showing what is wrong."""
    if has_hint or CLAUSE.search(message):
        return False
    return not (SUBJECT.search(message) and NEED.search(message))


COMPLETED = "its other part, made by a function, says it"
CALLER = "the caller adds file and row, and counts it or stops"
PROGRAM = "for who calls the library: the two numbers or the order are all there is to say"
REVIEWED: dict[tuple[str, str], str] = {
    ("data/curriculum.py", "metrics(□) of a step that was not the last one drawn"): PROGRAM,
    ("data/curriculum.py", "result of □ in □, which this sampler has not"): PROGRAM,
    ("data/curriculum.py", "update(□) before step(□) was drawn"): PROGRAM,
    ("data/sources.py", "duplicate key"): CALLER,
    ("data/sources.py", "□"): COMPLETED,
    ("health/monitor.py", "health.rules.□.□ is no limit; □ has: □"): "lists the limits there are",
    ("recipe.py", "recipe □ does not exist; □"): COMPLETED,
    ("recipe.py", "□"): COMPLETED,
    ("tasks/countdown/rows.py", "columns"): CALLER,
    ("tasks/countdown/rows.py", "numbers=□ is not a list; □"): COMPLETED,
    ("tasks/countdown/rows.py", "□: □ has more than 18 digits; □"): COMPLETED,
    ("tasks/countdown/rows.py", "□: □ is not an integer; □"): COMPLETED,
    ("tasks/countdown/task.py", "numbers=□ cannot reach target=□ with □; □"): COMPLETED,
    ("tasks/economy/parameters.py", "□=□ is not finite"): PROGRAM,
    ("tasks/economy/simulator.py", "people_seeds has □ entries for □ economies"): PROGRAM,
    ("tasks/economy/simulator.py", "this economy was started without people (from_snapshots(..., people=False))"): PROGRAM,
    ("tasks/economy/simulator.py", "□=□ of household □ in economy □ is outside [0, 1]"): "names the range",
    ("tasks/planning/folder.py", "has no meta.domain_file, and no domain.pddl lies beside the problem"): CALLER,
    ("tasks/planning/folder.py", "has no meta.problem_file"): CALLER,
    ("tasks/planning/folder.py", "is no JSON object"): CALLER,
    ("tasks/planning/folder.py", "□: □"): COMPLETED,
    ("tasks/planning/options.py", "demonstrations=worked is for generated problems without constraints and renaming"):
        "names what it is for",
    ("tasks/planning/world.py", "□ cannot be executed: □"): PROGRAM,
    ("tasks/planning/world.py", "□ cannot be executed: □ does not hold"): PROGRAM,
    ("train/backends/trl_settings.py", "□"): COMPLETED,
    ("train/backends/verl_compose.py", "□"): COMPLETED,
    ("train/backends/verl_check.py", "□"): COMPLETED,
    ("train/launch.py", "□"): COMPLETED,
    ("verbs.py", "tasks.□: □"): COMPLETED,
    ("yaml12.py", "□"): COMPLETED,
    ("yaml12.py", "□:□: □"): COMPLETED,
}  # fmt: skip


def test_every_message_says_what_is_wrong_and_what_is_needed() -> None:
    found = {(path, message) for path, message, has_hint in messages() if lacks(message, has_hint)}
    assert found - set(REVIEWED) == set(), "say what is needed and what to do, or add it here with the reason"
    assert set(REVIEWED) - found == set(), "no longer in the source; take it out"


def test_the_reading_finds_messages() -> None:
    assert len(list(messages())) > 300
    assert lacks("it is wrong", False) and lacks(f"{HOLE} is wrong", False) and not lacks(f"{HOLE} is wrong", True)
    assert not lacks(f"num_steps={HOLE} is out of range; it must be at least 1", False)
