"""The command line as a user meets it: help, results, JSON, exit codes, messages, dry runs, a machine without torch."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gradus import durable
from gradus.cli import main as cli
from gradus.exits import Code, Exit
from gradus.recipe import resolve, shipped, to_yaml
from gradus.rundir import RunDirectory

ROOT = Path(__file__).parent.parent
VERBS = [
    [], ["tasks"], ["tasks", "list"], ["tasks", "check"], ["prepare"], ["probe"], ["sft"], ["train"], ["evaluate"], ["compare"],
    ["report"], ["rollouts"], ["doctor"], ["planning"], ["planning", "difficulty"],
    ["config"], ["config", "show"], ["config", "validate"], ["config", "diff"],
]  # fmt: skip
PRINT_MODULES = "print(*{name.partition('.')[0] for name in sys.modules})"
HEAVY = {"torch", "numpy", "matplotlib", "transformers", "ruamel", "rich", "jinja2"}
ROLLOUT = {
    "step": 10, "problem_id": "countdown/train/00001", "domain": "n3", "completion": "<answer>=1+1</answer>\x1b[2J",
    "reward": 0.1, "parts": {"answer": 0.1}, "correct": False, "status": "scored", "why": "wrong_value",
    "num_tokens": 5, "finish": "stop",
}  # fmt: skip


def call(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one command, run in this process."""
    code = cli.run([str(argument) for argument in arguments])
    return code, *capfd.readouterr()


def only_json(text: str) -> Any:
    """The one JSON object of stdout; fails if there is anything else."""
    assert text.endswith("}\n") and text.count("\n") == 1
    return json.loads(text)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run directory with evaluations of the base model and of step 2, which is worse, and recorded completions."""
    monkeypatch.chdir(tmp_path)
    made = RunDirectory.create(tmp_path / "runs" / "x")
    durable.write_text(made.path / "resolved.yaml", to_yaml(resolve([], ["tasks.countdown={}", "num_steps=2"]).config))
    made.update_status(
        status="finished",
        step=2,
        attempt=1,
        checkpoint_step=2,
        best_step=0,
        num_steps=2,
        kind="train",
        data_fingerprint="0",
    )
    for step, right in ((0, 30), (2, 5)):
        made.write_evaluation("validation", step, [_row(index, index < right) for index in range(40)], {"settings": {}})
    made.write_rollouts(10, [ROLLOUT, {**ROLLOUT, "correct": True, "reward": 1.0, "completion": "right"}])
    return Path("runs/x")


def _row(index: int, is_correct: bool) -> dict[str, Any]:
    return {
        "problem_id": f"p{index}", "domain": "n3", "difficulty": 0.5, "bucket": None, "cluster": None, "sample": 0,
        "prompt": "q", "completion": "a", "reward": float(is_correct), "parts": {"answer": float(is_correct)},
        "correct": is_correct, "status": "scored", "why": "", "num_tokens": 3, "finish": "stop", "mean_nll": 0.5,
    }  # fmt: skip


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
]


@pytest.mark.parametrize("arguments", WORKING, ids=" ".join)
def test_a_result_is_on_stdout_and_with_json_is_one_object(
    run: Path, capfd: pytest.CaptureFixture[str], arguments: list[str]
):
    code, out, _ = call(capfd, *arguments)
    assert code == 0 and out.strip()
    again = [*arguments, "--yes"] if arguments[0] == "prepare" else arguments
    code, out, _ = call(capfd, *again, "--json")
    assert code == 0 and "error" not in only_json(out)


@pytest.mark.parametrize(("code", "arguments"), FAILING, ids=[" ".join(arguments) for _, arguments in FAILING])
def test_a_failure_is_one_line_and_with_json_one_object(
    run: Path, capfd: pytest.CaptureFixture[str], code: int, arguments: list[str]
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


# ---- dry runs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(shipped()))
@pytest.mark.parametrize("verb", ["train", "sft", "evaluate"])
def test_a_dry_run_needs_no_network_and_writes_nothing(
    verb: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    def blocked(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket, "socket", blocked)
    monkeypatch.setattr(socket, "getaddrinfo", blocked)
    monkeypatch.setattr(durable, "fault_point", blocked)
    arguments = [verb, name] if verb != "evaluate" else [verb, "nano/countdown", "--recipe", name]
    code, out, _ = call(capfd, *arguments, "--dry-run", "--json")
    facts = only_json(out)
    assert code == 0 and facts["command"] == verb and facts["work"] and facts["imports"]
    (rewards,) = facts["tasks"].values()
    assert "canned_answers" in rewards or rewards["rewards"]["oracle"] > rewards["rewards"]["empty"]
    assert not list(tmp_path.iterdir()) and "GRADUS_OFFLINE" not in os.environ


def test_the_plan_counts_what_will_be_done(capfd: pytest.CaptureFixture[str]):
    settings = ["num_steps=10", "optimizer.updates_per_batch=4", "evaluation.every_steps=4", "evaluation.temperature=0"]
    work = only_json(call(capfd, "train", "countdown_nano", *settings, "--dry-run", "--json")[1])["work"]
    assert work["batches_of_rollouts"] == 3 and work["completions_per_batch"] == 128 and work["completions"] == 384
    assert work["evaluations"] == 4, "steps 0, 4, 8 and 10"
    assert work["evaluation_completions"] == 4 * 500, "greedy: one per problem"


# ---- reading a run ---------------------------------------------------------------------------------------------------


def test_rollouts_are_filtered_shown_and_safe(run: Path, capfd: pytest.CaptureFixture[str]):
    _, out, err = call(capfd, "rollouts", "runs/x", "--wrong")
    assert "\\x1b[2J" in out and "\x1b" not in out and "1 of 1 completions" in err
    for form in ("csv", "jsonl", "parquet"):
        code, _, _ = call(capfd, "rollouts", "runs/x", "--format", form, "--out", f"x.{form}")
        assert code == 0 and Path(f"x.{form}").stat().st_size > 0
    assert len(only_json(call(capfd, "rollouts", "runs/x", "--reward", "0.5:", "--json")[1])["rollouts"]) == 1
    assert call(capfd, "rollouts", "runs/x", "--out", "x.csv")[0] == 2, "a file is never overwritten"


def test_compare_writes_what_it_found_beside_the_run(run: Path, capfd: pytest.CaptureFixture[str]):
    code, out, _ = call(capfd, "compare", "runs/x@base", "runs/x@last", "--json")
    assert code == 3 and only_json(out)["verdict"] == "Worse"
    assert json.loads((run / "comparison.json").read_text())["verdict"] == "Worse" and (run / "comparison.md").exists()


def test_files_of_rows_can_be_compared(run: Path, capfd: pytest.CaptureFixture[str]):
    files = [run / "evaluations" / "validation" / f"step_00000{step}.jsonl" for step in (0, 2)]
    assert call(capfd, "compare", *map(str, files), "--out", "there")[0] == 3
    assert Path("there/comparison.json").exists()


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


# ---- a real run ------------------------------------------------------------------------------------------------------

TINY = [
    "model.init=random", "num_steps=2", "curriculum.problems_per_step=2", "curriculum.num_problems=8", "sampling.group_size=2",
    "sampling.max_tokens=8", "evaluation.num_problems=3", "evaluation.samples_per_problem=2", "torch_threads=1",
]  # fmt: skip


@pytest.mark.slow
def test_from_warm_up_to_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    assert call(capfd, "sft", "sft_countdown_nano", "name=warm", *TINY, "sft.batch_size=2")[0] == 0
    start = [
        "countdown_nano",
        "name=first",
        *TINY,
        "model.init=pretrained",
        "model.path=./runs/warm/checkpoints/step_000002/model",
    ]
    code, out, err = call(capfd, "train", *start)
    assert code == 0 and "step=2/2" in out and "finished: 2 steps" in out and "report: " in out and "new run" in err
    assert (tmp_path / "runs/first/report.html").is_file()
    assert call(capfd, "train", *start)[1].startswith("finished: 2 steps"), "nothing is left to do"
    code, out, _ = call(capfd, "train", "runs/first", "num_steps=3", "--json")
    assert code == 0 and only_json(out)["action"] == "resume"
    code, out, _ = call(capfd, "evaluate", "runs/first@last", "--set", "test", "--limit", "2")
    assert code == 0 and "pass_at_1" in out
    assert call(capfd, "compare", "runs/first@base", "runs/first@3")[0] in (0, 3)
    assert call(capfd, "compare", "runs/first@base", "runs/first@last", "--set", "train")[0] == 4
    assert call(capfd, "compare", "runs/first@base", "runs/first@last", "--set", "train", "--evaluate")[0] in (0, 3)


@pytest.mark.slow
def test_the_library_trains_as_the_command_does(tmp_path: Path):
    import gradus
    from gradus.train.start import stored

    config = resolve(["countdown_nano"], [*TINY, "name=library"]).config
    summary = gradus.train(config, runs_dir=tmp_path)
    assert summary["step"] == 2 and summary["action"] == "new"
    rows = gradus.evaluate(f"{tmp_path}/library@last", stored(RunDirectory.open(tmp_path / "library")), limit=2)
    assert rows["n_problems"] == 2
    assert gradus.compare(f"{tmp_path}/library@2", f"{tmp_path}/library@2").verdict == "Not shown"


# ---- a machine without torch -----------------------------------------------------------------------------------------

BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
from gradus.cli.main import run
codes = []
for line in {lines!r}:
    codes.append(run(line))
    sys.stdout.flush()
print(codes)
"""
EXTRAS = {"torch", "transformers", "peft", "safetensors", "datasets", "pyarrow", "accelerate", "trl", "scipy", "mpmath"}


def test_the_core_alone_runs_what_needs_no_model(run: Path):
    lines = [
        (0, ["tasks", "list"]),
        (0, ["tasks", "check", "countdown", "--num", "3"]),
        (0, ["prepare", "countdown", "--limit", "3", "--out", "data"]),
        (0, ["compare", "runs/x@base", "runs/x@base"]),
        (0, ["report", "runs/x"]),
        (0, ["rollouts", "runs/x", "--format", "csv"]),
        (0, ["config", "show", "countdown_nano"]),
        (0, ["config", "validate", "countdown_nano"]),
        (0, ["config", "diff", "countdown_nano", "runs/x"]),
        (0, ["train", "countdown_nano", "--dry-run"]),
        (2, ["train", "countdown_nano", "name=new"]),
        (2, ["sft", "sft_countdown_nano", "name=new"]),
        (2, ["evaluate", "runs/x@base"]),
        (2, ["prepare", "countdown", "--limit", "3", "--out", "data2", "--format", "parquet"]),
    ]
    code = BLOCK.format(names=EXTRAS, lines=[arguments for _, arguments in lines])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str([code for code, _ in lines]), done.stderr
    assert done.stderr.count("needs the package torch; install gradus[train]") == 3
    assert "needs the package pyarrow; install gradus[train]" in done.stderr
    assert not Path("runs/new").exists() and not Path("data2").exists(), "what cannot work leaves nothing behind"
