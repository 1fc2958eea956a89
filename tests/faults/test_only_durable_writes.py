"""No module but `durable` changes files in a run directory, and every fault point that it names is reached by a test."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import gradus
from gradus.recipe import resolve
from gradus.rundir import RunDirectory
from gradus.train import checkpoint
from gradus.train.start import open_run
from tests.faults.tiny_state import killed_at, points_of, save

ROOT = Path(gradus.__file__).parent
ELSEWHERE = {
    "durable.py": "the one that may",
    "policy/nano/build.py": "writes the embedded policies into the package",
    "tasks/pool.py": "removes the temporary home of a scoring process",
    "tasks/planning/folder.py": "writes data folders, never into a run",
    "tasks/planning/write.py": "writes data folders, never into a run",
    "tasks/planning/val.py": "writes the files that VAL reads into a temporary folder",
    "integrations/export.py": "writes a folder of its own, which gets its name by a durable rename",
    "policy/rewrite.py": "writes into that folder",
    "train/backends/verl_place.py": "takes the output of verl's processes",
    "train/backends/verl_ray.py": "removes Ray's temporary folder",
}
"""Modules that this rule is not for, and why."""
FORBIDDEN_METHODS = {"write_text", "write_bytes", "unlink", "rename", "rmdir", "touch", "symlink_to", "hardlink_to"}
FORBIDDEN_CALLS = {
    ("os", "rename"), ("os", "replace"), ("os", "remove"), ("os", "unlink"), ("os", "rmdir"), ("os", "removedirs"),
    ("os", "truncate"), ("os", "makedirs"), ("os", "mkdir"), ("shutil", "rmtree"), ("shutil", "move"),
    ("shutil", "copy"), ("shutil", "copyfile"), ("shutil", "copytree"),
}  # fmt: skip


def modules() -> list[str]:
    return sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


def writes_of(source: str) -> Iterator[str]:
    """Calls that change files in another way than through `durable`."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        function, where = node.func, f"line {node.lineno}: {ast.unparse(node.func)}"
        owner = (
            function.value.id if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) else ""
        )
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if owner == "durable":
            continue
        mode = _mode(node, 0 if isinstance(function, ast.Attribute) and owner != "io" else 1)
        is_opened_to_write = name == "open" and owner != "os" and bool(set(mode) & set("wax+"))
        is_method = isinstance(function, ast.Attribute) and name in FORBIDDEN_METHODS
        if is_opened_to_write or is_method or (owner, name) in FORBIDDEN_CALLS:
            yield where


def _mode(call: ast.Call, position: int) -> str:
    """The mode of an ``open`` call, where it is written out."""
    values = [keyword.value for keyword in call.keywords if keyword.arg == "mode"] + call.args[position : position + 1]
    return next(
        (value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)), ""
    )


@pytest.mark.parametrize("module", [module for module in modules() if module not in ELSEWHERE])
def test_files_are_changed_through_durable_only(module: str) -> None:
    assert list(writes_of((ROOT / module).read_text(encoding="utf-8"))) == []


def test_the_exceptions_exist() -> None:
    assert set(ELSEWHERE) <= set(modules())


@pytest.mark.parametrize(
    "line",
    ["open('x', 'w')", "open('x', mode='ab')", "path.open('w')", "(a / b).open('r+')", "io.open('x', 'x')",
     "os.rename(a, b)", "os.replace(a, b)", "shutil.rmtree(a)", "path.write_text('x')", "path.unlink()",
     "path.rename(other)", "(a / b).write_bytes(b'')"],
)  # fmt: skip
def test_the_rule_sees(line: str) -> None:
    assert list(writes_of(line))


@pytest.mark.parametrize(
    "line", ["open('x')", "path.open('rb')", "path.open()", "durable.rename(a, b)", "text.replace(a, b)"]
)
def test_the_rule_does_not_see(line: str) -> None:
    assert not list(writes_of(line))


# ---- fault points ----


def named_subjects() -> set[str]:
    """What the source says is written, renamed or removed: every literal ``what=``."""
    found = set()
    for module in modules():
        for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                found |= {
                    keyword.value.value
                    for keyword in node.keywords
                    if keyword.arg == "what" and isinstance(keyword.value, ast.Constant)
                }
    return found


def test_every_named_fault_point_can_be_reached(tmp_path: Path) -> None:
    """A life of a run that passes all of them; `test_save_kills` and `test_start_kills` kill at each."""
    (tmp_path / "recipe.yaml").write_text("name: first\ntasks:\n  countdown: {max_numbers: 3}\n")
    resolved = resolve([tmp_path / "recipe.yaml"])

    def begin() -> RunDirectory:
        return open_run(resolved, kind="train", runs_dir=tmp_path / "runs", data_fingerprint="d0").run

    def life() -> None:
        run = begin()
        for step in range(1, 5):
            run.append_metrics({"step": step})
            run.append_alert({"step": step})
            run.write_rollouts(step, [])
            run.write_evaluation("validation", step, [], {})
            save(run, step)
        checkpoint.prune(run, keep_last=2, keep_every_steps=None, best_step=None)
        run.write_comparison({}, "")
        (run.checkpoints / "step_000004/trainer.json").write_bytes(b"")
        run.release()
        killed_at(3, lambda: save(run, 5))
        run = begin()
        save(run, 4)
        run.release()

    seen = {point.partition(".")[0] for point in points_of(life)}
    missing = named_subjects() - seen - {"lock", "report", "tracking"}  # each has tests of its own
    assert not missing, f"no test passes the fault points of {sorted(missing)}"
