"""The commands that the pages show are run as they stand there, made small by what is added behind them (I-20)."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from gradus.train.backends.verl_place import need_verl
from tests.command_line import call
from tests.test_docs import _FENCE, PROGRAMS

ROOT = Path(__file__).parent.parent
PAGES = (
    "README.md",
    "AGENTS.md",
    "docs/probe.md",
    "docs/economy.md",
    "docs/health.md",
    "docs/planning.md",
    "docs/tracking.md",
    "docs/trl.md",
    "docs/verl.md",
)
ELSEWHERE = {
    "docs/adding-a-task.md": "its task is made up; a real one is checked by tests/test_cli.py",
    "docs/tutorial.md": "tests/test_tutorial.py follows it, with its files",
    "README.zh-CN.md": "shows the commands of README.md",
}
RUN = "runs/NAME"
STEPS = [
    "num_steps=2", "curriculum.problems_per_step=2", "curriculum.num_problems=8", "sampling.group_size=2",
    "sampling.max_tokens=8", "evaluation.num_problems=2", "evaluation.samples_per_problem=2", "torch_threads=1",
]  # fmt: skip
SMALL = {
    "sft": STEPS,
    "train": STEPS,
    "probe": [
        "--num",
        "6",
        "--samples",
        "8",
        "engine.name=scripted",
        "engine.error_rate=0.5",
        "sampling.group_size=2",
        "--rehearse",
        "0",
    ],
    "evaluate": ["--limit", "2"],
    "tasks": ["--num", "5"],
    "prepare": ["--limit", "5"],
}
"""A later option or override wins over an earlier one."""
OF_PAGE = {
    "docs/economy.md": {"train": ["tasks.economy.closed_loop_months=0", "tasks.economy.skip_contexts=0"]},
    "docs/planning.md": {
        "planning generate": ["--per-domain", "5", "--preset", "nano"],
        "prepare": ["num_train=10", "num_validation=5", "num_test=5"],
        "train planning_nano": ["curriculum.problems_per_step=5", "curriculum.num_problems=20"],
        "train planning_qwen25_7b_curriculum": [
            "curriculum.problems_per_step=5", "curriculum.num_problems=null", "tasks.planning.prompt=brief",
            "model.load_in_4bit=false", "model.dtype=float32",
        ],
    },
}  # fmt: skip
"""What makes a page's commands small beside `SMALL`, by the words they begin with: no whole economies are played, a problem
of each of five domains is in a step, no weights are rounded to 4 bits."""
STANDS_FOR = {"=FOLDER": "=made", "=MODEL": "=nano/planning"}
"""What a reader fills in, and what stands there here."""
FILES = {
    "run_train.sh": "python -m verl.trainer.main_ppo algorithm.adv_estimator=grpo actor_rollout_ref.rollout.n=8 "
    "actor_rollout_ref.rollout.name=vllm actor_rollout_ref.actor.use_dynamic_bsz=True\n",
}
"""What the reader of a page has."""
ANSWERS = {"probe": (0, 3), "compare": (0, 3)}
"""Exit codes of verbs whose answer may be no."""


def shown(page: str) -> list[str]:
    """The lines of a page's code blocks that call our program, without its name and without comments."""
    blocks = "\n".join(_FENCE.findall((ROOT / page).read_text(encoding="utf-8"))).splitlines()
    return [line.removeprefix(name) for line in blocks for name in PROGRAMS if line.startswith(name)]


def small(line: str, number: int, *, has_run: bool, page: str = "") -> list[str]:
    """The words of a command, with what makes it small; the first run of a page gets the name that later lines use."""
    for name, value in STANDS_FOR.items():
        line = line.replace(name, value)
    words = shlex.split(line, comments=True)
    if words[1].startswith(RUN) and words[0] == "train":
        return [*(word for word in words if not word.startswith("num_steps=")), "num_steps=3"]
    words += SMALL.get(words[0], [])
    for beginning, more in OF_PAGE.get(page, {}).items():
        words += more if line.startswith(beginning) else []
    if "problems_file" in line:  # made from more problems than these
        words.remove("curriculum.num_problems=8")
    if words[0] in ("train", "sft") and "--dry-run" not in words:
        words.append(f"name=other-{number}" if has_run else f"name={Path(RUN).name}")
    if "--time-update" in words:
        words = [word for word in words if not word.startswith("engine.")] + ["sampling.max_tokens=8"]
    return words


def put_users_files(folder: Path) -> None:
    """The files that a reader of docs/planning.md has: a problem with a plan, and rows of several domains in one file."""
    made = folder / "made"
    plan = min((made / "pddl/spanner").glob("*.soln"))
    for name, path in {"problem.pddl": plan.with_suffix(".pddl"), "plan.txt": plan}.items():
        (folder / name).write_bytes(path.read_bytes())
    (folder / "domain.pddl").write_bytes((plan.parent / "domain.pddl").read_bytes())
    rows = [path.read_text(encoding="utf-8") for path in sorted((made / "train").glob("*.jsonl"))]
    (folder / "mixed.jsonl").write_text("".join(rows), encoding="utf-8")


def missing_package(words: list[str]) -> str | None:
    """A tracker or a trainer that the command names and that is not installed."""
    text = " ".join(words)
    if words[0] == "train" and "--backend verl" in text:
        try:
            need_verl()
        except ValueError:
            return "make extras-verl"
    named = [
        name for name in ("tensorboard", "wandb", "trackio") if f"--sink {name}" in text or f"sinks=[{name}" in text
    ]
    return next((name for name in named if importlib.util.find_spec(name) is None), None)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_work(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text)
    has_run = Path(RUN).exists()
    for number, line in enumerate(shown(page)):
        if RUN in line and not has_run:
            assert call(capfd, *small("train countdown_nano", number, has_run=False))[0] == 0
            has_run = True
        words = small(line, number, has_run=has_run, page=page)
        code, _, err = call(capfd, *words)
        if (package := missing_package(words)) is not None:
            assert code == 2 and (f"install {package}" in err or package in err), (words, err)
        else:
            assert code in ANSWERS.get(words[0], (0,)), (words, err)
        if words[:2] == ["planning", "generate"]:
            put_users_files(tmp_path)
        has_run = has_run or Path(RUN).exists()


LAUNCHERS = {
    "torchrun ": [sys.executable, "-m", "torch.distributed.run"],
    "accelerate launch ": [sys.executable, "-m", "accelerate.commands.launch"],
}
"""What starts several processes, as it is called where it is not on the path."""


def launched(page: str) -> list[list[str]]:
    """The commands of a page's code blocks that start several processes."""
    blocks = "\n".join(_FENCE.findall((ROOT / page).read_text(encoding="utf-8"))).splitlines()
    return [
        program + shlex.split(line.removeprefix(name), comments=True)
        for line in blocks
        for name, program in LAUNCHERS.items()
        if line.startswith(name)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("page", ["docs/several-devices.md", "docs/trl.md"])
def test_the_launchers_of_a_page_work(page: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    environment = {
        **os.environ,
        "ACCELERATE_USE_CPU": "true",
        "DS_ACCELERATOR": "cpu",
        "GRADUS_RUNS_DIR": str(tmp_path),
    }
    commands = launched(page)
    assert commands
    for number, words in enumerate(commands):
        if "zero" in " ".join(words) and importlib.util.find_spec("deepspeed") is None:
            continue
        told = [*words, *STEPS, "curriculum.problems_per_step=4", f"name=run-{number}"]  # whole groups for each
        done = subprocess.run(told, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        assert (tmp_path / f"run-{number}/report.html").is_file()


def test_every_page_with_commands_is_run_or_says_where() -> None:
    pages = [path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))]
    assert {page for page in pages if shown(page)} == {*PAGES, *ELSEWHERE}


def test_the_chinese_page_says_what_the_english_one_says() -> None:
    """The same commands, links, sections and measured figures: one that changes alone is found."""
    found = []
    for page in ("README.zh-CN.md", "README.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        rows = [line for line in text.splitlines() if line.startswith("|")]
        found.append(
            {
                "commands": [shlex.split(line, comments=True) for line in shown(page)],
                "links": sorted(set(re.findall(r"\]\(([^)]+)\)", text)) - {"README.md", "README.zh-CN.md"}),
                "sections": text.count("\n## "),
                "figures": [Counter(re.findall(r"\d[\d.,]*\d|\d", row.split("|")[2])) for row in rows],
                "of commands": [set(re.findall(r"`([^`]+)`", row.split("|")[3])) for row in rows],
            }
        )
    for name, value in found[0].items():
        assert value == found[1][name], name
