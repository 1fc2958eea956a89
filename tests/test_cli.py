"""The command line as a user meets it: help (I-01), exit codes and messages (I-02), results and JSON (I-03)."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from gradus import durable
from gradus.cli import main as cli
from gradus.exits import Code, Exit
from gradus.rundir import RunDirectory
from gradus.tasks.planning.write import write_folder
from tests.command_line import call, make_run, only_json

ROOT = Path(__file__).parent.parent


def verbs(node: Any, path: tuple[str, ...] = ()) -> Iterator[list[str]]:
    """The words of every verb and of every group of verbs that the program has."""
    yield list(path)
    for name, below in getattr(node, "commands", {}).items():
        yield from verbs(below, (*path, name))


VERBS = list(verbs(typer.main.get_command(cli.app)))
GROUPS = [[], ["tasks"], ["config"], ["planning"]]
PRINT_MODULES = "print(*{name.partition('.')[0] for name in sys.modules})"
HEAVY = {"torch", "numpy", "matplotlib", "transformers", "ruamel", "rich", "jinja2"}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made run, in the current folder."""
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs" / "x")
    return Path("runs/x")


# ---- help ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_help_imports_nothing_heavy(verb: list[str]):
    code = f"import sys; from gradus.cli.main import run; run(sys.argv[1:]); {PRINT_MODULES}"
    done = subprocess.run(
        [sys.executable, "-c", code, *verb, "--help"], capture_output=True, text=True, timeout=30, cwd=ROOT
    )
    assert done.returncode == 0 and f"Usage: gradus {' '.join(verb)}".strip() in done.stdout
    assert not HEAVY & set(done.stdout.splitlines()[-1].split())


def test_the_module_and_no_arguments_give_help():
    done = subprocess.run([sys.executable, "-m", "gradus"], capture_output=True, text=True, timeout=30, cwd=ROOT)
    assert done.returncode == 0 and "Commands:" in done.stdout and not done.stderr


def test_importing_the_library_imports_nothing_heavy():
    code = f"import sys, gradus; {PRINT_MODULES}; gradus.load_task; gradus.train; gradus.compare"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert not HEAVY & set(done.stdout.split())


def test_the_library_forms_can_be_called_whatever_was_imported_before():
    import gradus
    import gradus.train.place  # sets gradus.train to the package

    assert callable(gradus.train) and callable(gradus.evaluate) and callable(gradus.compare)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        gradus.nothing  # noqa: B018


# ---- results ---------------------------------------------------------------------------------------------------------

PDDL = ["pddl/pddl/ferry/domain.pddl", "pddl/a.pddl"]
"""Made by the fixture `planning`."""
WORKING: list[list[str]] = [
    ["tasks", "list"],
    ["tasks", "check", "countdown", "max_numbers=3", "--num", "5"],
    ["prepare", "countdown", "max_numbers=3", "--limit", "5", "--out", "out"],
    ["train", "countdown_nano", "--dry-run"],
    ["probe", "countdown_nano", "--dry-run"],
    ["sft", "sft_countdown_nano", "seed=3", "--dry-run"],
    ["evaluate", "nano/countdown", "--recipe", "countdown_nano", "--dry-run"],
    ["evaluate", "runs/x@base", "--dry-run"],
    ["compare", "runs/x@base", "runs/x@base"],
    ["compare", "runs/x@base", "runs/x@base", "runs/x@best"],
    ["report", "runs/x"],
    ["report", "runs/x", "--replay-health"],
    ["doctor"],
    ["rollouts", "runs/x"],
    ["config", "show"],
    ["config", "show", "countdown_nano", "--origin"],
    ["config", "show", "runs/x", "seed=7"],
    ["config", "show", "--schema"],
    ["config", "validate", "countdown_nano", "seed=7"],
    ["config", "diff", "countdown_nano", "runs/x"],
    ["config", "diff", "countdown_nano", "countdown_nano"],
    ["planning", "difficulty", "--data-root", "pddl"],
    ["planning", "validate", *PDDL, "pddl/a.soln"],
    ["planning", "solve", *PDDL],
    ["planning", "split", "mixed.jsonl", "out"],
    ["planning", "generate", "--out", "out", "--per-domain", "1", "--preset", "nano", "--domains", "ferry"],
    ["planning", "convert", "pddl/train", "out.parquet", "--pddl-root", "pddl"],
]
FAILING: list[tuple[int, list[str]]] = [
    (2, ["tasks", "nope"]),
    (2, ["tasks", "check", "countdwon"]),
    (2, ["prepare", "countdown", "max_numbrs=3"]),
    (2, ["prepare"]),
    (2, ["train", "countdown_nano", "rollout.n=8"]),
    (2, ["probe", "countdown_nano", "--samples", "4"]),
    (2, ["probe", "countdown_nano", "probe.limits.min_acuracy=0.1"]),
    (2, ["train", "runs/x", "seed=8"]),
    (2, ["train", "runs"]),
    (2, ["sft", "runs/x"]),
    (2, ["evaluate", "nano/countdown"]),
    (2, ["evaluate", "runs/none@last"]),
    (4, ["compare", "runs/x@base", "runs/x@1"]),
    (3, ["compare", "runs/x@base", "runs/x@last"]),
    (3, ["compare", "runs/x@base", "runs/x@base", "--require-better"]),
    (2, ["compare", "runs/x@base", "nothing.jsonl"]),
    (2, ["report", "runs"]),
    (2, ["rollouts", "runs/x", "--step", "a"]),
    (2, ["rollouts", "runs/x", "--format", "parquet"]),
    (2, ["config", "show", "nope"]),
    (2, ["config", "validate", "nope", "seed=no"]),
    (2, ["config", "diff", "countdown_nano"]),
    (2, ["nope"]),
    (2, ["train", "--nope"]),
    (2, ["tasks", "list", "--nope"]),
    (2, ["track", "runs/x", "--sink", "nope"]),
    (2, ["track", "runs", "--sink", "tensorboard"]),
    (2, ["export", "runs", "--out", "new"]),
    (2, ["export", "runs/x", "--step", "best", "--out", "new"]),
    (2, ["doctor", "nope"]),
    (2, ["planning", "difficulty", "--data-root", "runs"]),
    (3, ["planning", "validate", *PDDL, "empty.soln"]),
    (2, ["planning", "validate", *PDDL, "none.soln"]),
    (3, ["planning", "solve", *PDDL, "--max-states", "1"]),
    (2, ["planning", "solve", "none", "none"]),
    (2, ["planning", "split", "none", "out"]),
    (2, ["planning", "generate", "--out", "pddl"]),
    (2, ["planning", "convert", "pddl", "out"]),
    (2, ["planning", "crosscheck", "--binary", "none"]),
]
ELSEWHERE = {
    "export": "tests/integrations/test_export.py: needs a trained run",
    "track": "tests/tracking/test_tracking.py: needs a tracker",
    "planning crosscheck": "tests/test_planning_commands.py: needs VAL",
}
"""Verbs whose success is shown by other tests."""
MADE = {"out": "out2", "out.parquet": "out2.parquet"}
"""What a second run of the same command needs under another name."""


@pytest.fixture
def planning(run: Path, made_planning: Path) -> None:
    """What the verbs of planning read, in the current folder."""
    shutil.copytree(made_planning, "pddl")
    problem = next(Path("pddl/pddl/ferry").glob("ferry*.pddl"))
    shutil.copyfile(problem, "pddl/a.pddl")
    shutil.copyfile(problem.with_suffix(".soln"), "pddl/a.soln")
    Path("empty.soln").touch()
    row = {"prompt": "p", "meta": {"scenario": "ferry", "problem_file": "ferry-l2-c2-s1.pddl"}}
    Path("mixed.jsonl").write_text(json.dumps(row) + "\n")


@pytest.fixture(scope="module")
def made_planning(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planning") / "made"
    write_folder(folder, per_domain=2, preset="nano", domains=["ferry"], splits=("train",))
    return folder


def test_every_verb_is_seen_to_work_and_to_fail():
    """I-03, by name: a verb that is new has to be put into the lists."""
    every = {" ".join(verb) for verb in VERBS if verb not in GROUPS}
    for lines in (WORKING, [line for _, line in FAILING]):
        shown = {name for name in every for line in lines if line[: len(name.split())] == name.split()}
        assert every - shown <= set(ELSEWHERE if lines is WORKING else ())


@pytest.mark.parametrize("arguments", WORKING, ids=" ".join)
def test_a_result_is_on_stdout_and_with_json_is_one_object(
    run: Path, planning: None, capfd: pytest.CaptureFixture[str], arguments: list[str]
):
    code, out, _ = call(capfd, *arguments)
    assert code == 0 and out.strip()
    again = [*arguments, "--yes"] if arguments[0] == "prepare" else [MADE.get(one, one) for one in arguments]
    code, out, _ = call(capfd, *again, "--json")
    assert code == 0 and "error" not in only_json(out)


@pytest.mark.parametrize(("code", "arguments"), FAILING, ids=[" ".join(arguments) for _, arguments in FAILING])
def test_a_failure_is_one_line_and_with_json_one_object(
    run: Path, planning: None, capfd: pytest.CaptureFixture[str], code: int, arguments: list[str]
):
    found, out, err = call(capfd, *arguments)
    assert found == code and "Traceback" not in err
    if code == Code.ANSWER_IS_NO:
        assert out.strip()
        return
    assert not out and err.startswith("gradus: ")
    found, out, err = call(capfd, "--json", *arguments)
    error = only_json(out)["error"]
    assert found == error["code"] == code and set(error) == {"code", "message", "hint"} and error["message"] in err


def test_flags_stand_anywhere(run: Path, capfd: pytest.CaptureFixture[str]):
    for arguments in (["--json", "tasks", "list"], ["tasks", "--json", "list"], ["tasks", "list", "--json", "-q"]):
        assert "tasks" in only_json(call(capfd, *arguments)[1])
    code, _, err = call(capfd, "-v", "config", "show", "nope")
    assert code == 2 and "Traceback" in err and err.splitlines()[-1].startswith("gradus: recipe 'nope' does not exist")


def test_the_level_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    monkeypatch.setenv("GRADUS_LOG_LEVEL", "debug")
    assert "Traceback" in call(capfd, "config", "show", "nope")[2]
    monkeypatch.setenv("GRADUS_LOG_LEVEL", "loud")
    code, _, err = call(capfd, "tasks", "list")
    assert code == 2 and "GRADUS_LOG_LEVEL='loud' is not a level; use debug, info, warning" in err


# ---- exit codes and messages -----------------------------------------------------------------------------------------

ERRORS: list[tuple[BaseException, int, str]] = [
    (ValueError("x=1 is wrong; it must be 2"), 2, "x=1 is wrong; it must be 2"),
    (Exit(Code.NOTHING_USABLE, "nothing there", hint="make some"), 4, "make some"),
    (Exit(Code.DIVERGED, "diverged", hint="lower the rate"), 5, "lower the rate"),
    (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/x"), 6, "then run the same command again"),
    (OSError(errno.EIO, os.strerror(errno.EIO), "runs/x"), 6, "then run the same command again"),
    (MemoryError(), 6, "optimizer.microbatch_tokens"),
    (Exit(Code.SCORING, "scoring failed", hint="repair the scorer"), 7, "repair the scorer"),
    (Exit(Code.HEALTH, "collapse", hint="look at the report"), 8, "look at the report"),
    (KeyboardInterrupt(), 75, "run the same command again"),
    (Exit(Code.INTERRUPTED, "interrupted", hint="gradus train runs/x"), 75, "gradus train runs/x"),
    (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "nope"), 2, "give a path that can be read and written"),
    (
        ModuleNotFoundError("No module named 'torch'", name="torch"),
        2,
        "this needs the package torch; install gradus[train]",
    ),
    (ModuleNotFoundError("No module named 'gradus.x'", name="gradus.x"), 1, "-v shows its traceback"),
    (RuntimeError("broken"), 1, "a defect of gradus; -v shows its traceback"),
]


@pytest.mark.parametrize(("error", "code", "last"), ERRORS, ids=[f"{error!r:.40}" for error, _, _ in ERRORS])
def test_every_error_has_its_code_and_the_last_line_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], error: BaseException, code: int, last: str
):
    import gradus.recipe

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(gradus.recipe, "resolve", fail)
    found, out, err = call(capfd, "config", "validate", "x")
    assert found == code and not out and "Traceback" not in err and err.splitlines()[-1].endswith(last)


def test_a_full_disk_is_exit_6(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    def full(point: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), point)

    monkeypatch.setattr(durable, "fault_point", full)
    code, _, err = call(capfd, "prepare", "countdown", "--limit", "2", "--out", tmp_path / "x")
    assert code == 6 and "No space left" in err


MESSAGES = [
    (["train", "x.yaml"], "gradus: x.yaml:3: rollout.n is not a key; did you mean sampling.group_size?"),
    (["train", "countdown_nano", "optimizer.learning_rate=fast"],
     "gradus: override: optimizer.learning_rate='fast' is not a number; it must be in (0, 1], e.g. 1e-06"),
    (["train", "runs/x", "sampling.group_size=16"], "it cannot change in a run. Undo it, or add --new"),
    (["compare", "runs/x@base", "runs/x@1"], "run: gradus evaluate runs/x@1 --set validation"),
    (["evaluate", "countdown_nano", "b"], "evaluate takes one model, not 2; e.g. gradus evaluate runs/first@last"),
    (["train", "runs"], "is not a run directory (no .gradus in it); give the folder of a run, for example runs/first"),
    (["config", "show", "countdown-nano"], "recipe 'countdown-nano' does not exist; did you mean countdown_nano?"),
    (["prepare", "countdown", "--limit", "5", "--out", "full"],
     "full is not empty; give another folder with --out, or overwrite it with --yes"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), MESSAGES, ids=[" ".join(arguments) for arguments, _ in MESSAGES])
def test_messages_say_what_is_wrong_what_is_needed_and_what_to_do(
    run: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], message: str
):
    Path("x.yaml").write_text("tasks: {countdown: {}}\nrollout:\n  n: 8\n")
    Path("full").mkdir()
    Path("full/file").write_text("mine")
    code, _, err = call(capfd, *arguments)
    assert code in (2, 4) and err.splitlines()[-1].endswith(message)
    assert Path("full/file").read_text() == "mine"


SECRET = "hf_abcdefghijklmnopqrstuvwx"


@pytest.mark.parametrize(
    "arguments",
    [
        ["config", "show", "countdown_nano", f"model.revision={SECRET}"],
        ["train", "countdown_nano", f"model.revision={SECRET}", "--dry-run"],
        ["config", "diff", "countdown_nano", "secret.yaml"],
        ["config", "validate", "countdown_nano", f"seed={SECRET}"],
        ["config", "show", SECRET],
        ["-v", "config", "show", SECRET],
    ],
    ids=lambda arguments: " ".join(arguments[:3]),
)
def test_nothing_shows_a_secret(run: Path, capfd: pytest.CaptureFixture[str], arguments: list[str]):
    Path("secret.yaml").write_text(f"tasks: {{countdown: {{}}}}\nmodel: {{revision: {SECRET}}}\n")
    for flags in ([], ["--json"]):
        _, out, err = call(capfd, *flags, *arguments)
        assert SECRET not in out + err and "[hidden]" in out + err


# ---- reading a run ---------------------------------------------------------------------------------------------------


def test_rollouts_are_filtered_shown_and_safe(run: Path, capfd: pytest.CaptureFixture[str]):
    _, out, err = call(capfd, "rollouts", "runs/x", "--wrong")
    assert "\\x1b[2J" in out and "\x1b" not in out and "1 of 1 completions" in err
    for form in ("csv", "jsonl", "parquet"):
        code, _, _ = call(capfd, "rollouts", "runs/x", "--format", form, "--out", f"x.{form}")
        assert code == 0 and Path(f"x.{form}").stat().st_size > 0
    assert len(only_json(call(capfd, "rollouts", "runs/x", "--reward", "0.5:", "--json")[1])["rollouts"]) == 1
    assert call(capfd, "rollouts", "runs/x", "--out", "x.csv")[0] == 2, "a file is never overwritten"


def test_config_diff_says_what_a_run_allows(run: Path, capfd: pytest.CaptureFixture[str]):
    Path("a.yaml").write_text("tasks: {countdown: {}}\nnum_steps: 7\nseed: 1\n")
    changes = only_json(call(capfd, "config", "diff", "runs/x", "a.yaml", "--json")[1])["changes"]
    assert {change["key"]: change["resume"] for change in changes} == {"num_steps": "mutable", "seed": "immutable"}
    assert "may change" in call(capfd, "config", "diff", "runs/x", "a.yaml")[1]


def test_a_finished_run_is_shown_again(run: Path, capfd: pytest.CaptureFixture[str]):
    (run / "comparison.json").write_text('{"sentence": "Not shown: nothing."}')
    RunDirectory.open(run).append_metrics({"step": 1, "reward": 0.5, "time/step_seconds": 61.0})
    code, out, _ = call(capfd, "train", "runs/x")
    assert code == 0
    assert out.splitlines()[:3] == ["finished: 2 steps in 1m", "mean reward 0.5", "Not shown: nothing."]


# ---- the user's own task ---------------------------------------------------------------------------------------------


def test_a_task_of_the_users_own_is_checked(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    from gradus.tasks.base import TASKS

    monkeypatch.setattr(TASKS, "_entries", dict(TASKS._entries))
    path = tmp_path / "mine.py"
    path.write_text(
        "from gradus.tasks.base import TASKS\nfrom gradus.tasks.countdown import Countdown\n"
        "TASKS.add('mine', Countdown)\n"
    )
    assert call(capfd, "tasks", "check", "--path", path, "--num", "3", "max_numbers=3")[0] == 0
    path.write_text("")
    code, _, err = call(capfd, "tasks", "check", "--path", path)
    assert code == 2 and "registers no task; add TASKS.add" in err
