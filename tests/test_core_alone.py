"""A machine without torch (I-18): what needs no model works, the rest names the extra and leaves nothing behind.

Once by hiding the packages, and once, slowly, by installing the core alone from the package registry.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import make_run
from tests.source_tree import copy_source

ROOT = Path(__file__).parent.parent

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


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made run, in the current folder."""
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs" / "x")
    return Path("runs/x")


def test_the_core_alone_runs_what_needs_no_model(run: Path):
    """I-18."""
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
        (2, ["export", "runs/x", "--step", "last", "--out", "exported"]),
        (2, ["probe", "countdown_nano", "--num", "2"]),
        (2, ["prepare", "countdown", "--limit", "3", "--out", "data2", "--format", "parquet"]),
    ]
    code = BLOCK.format(names=EXTRAS, lines=[arguments for _, arguments in lines])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str([code for code, _ in lines]), done.stderr
    assert done.stderr.count("needs the package torch; install gradus[train]") == 5
    assert "needs the package pyarrow; install gradus[train]" in done.stderr
    left = [name for name in ("runs/new", "data2", "exported") if Path(name).exists()]
    assert left == [], "what cannot work leaves nothing behind"


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The folder of programs of a new environment that holds the core and what it needs, nothing else."""
    if os.environ.get("GRADUS_OFFLINE"):
        pytest.skip("GRADUS_OFFLINE is set, and this installs from the package registry")
    source, programs = copy_source(tmp_path / "src"), tmp_path / "venv" / "bin"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    found = subprocess.run([programs / "pip", "index", "versions", "numpy"], capture_output=True, text=True)
    if found.returncode:
        pytest.skip(f"no package registry answers: {found.stderr.strip()[-200:]}")
    subprocess.run(
        [programs / "pip", "install", "--quiet", source, "-c", ROOT / "constraints.txt"], check=True, timeout=500
    )
    return programs


@pytest.mark.slow
def test_the_core_can_be_installed_and_used_without_extras(installed: Path, run: Path):
    """I-18, with a real installation."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def call(*arguments: str, expected: int = 0) -> tuple[str, str]:
        done = subprocess.run(
            [installed / "gradus", *arguments], capture_output=True, text=True, timeout=120, env=environment
        )
        assert done.returncode == expected, (arguments, done.stdout, done.stderr)
        return done.stdout, done.stderr

    listed = subprocess.run([installed / "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True)
    packages = {line.partition("==")[0].lower() for line in listed.stdout.splitlines()}
    assert {"gradus", "numpy", "pydantic"} <= packages and not EXTRAS - {"mpmath"} & packages
    assert "Usage: gradus" in call("--help")[0] and "countdown" in call("tasks", "list")[0]
    call("tasks", "check", "countdown", "--num", "20")
    call("tasks", "check", "planning", "--num", "5")
    call("prepare", "gsm8k", "source=synthetic", "--limit", "3", "--out", "data")
    call("compare", "runs/x@base", "runs/x@last", expected=3)
    call("report", "runs/x")
    assert (run / "report.html").stat().st_size > 10_000 and (run / "training_metrics.png").is_file()
    assert "problem" in call("rollouts", "runs/x", "--format", "csv")[0]
    call("config", "show", "countdown_nano", "--origin")
    call("train", "countdown_nano", "--dry-run")
    for verb in (["train", "countdown_nano", "name=new"], ["probe", "countdown_nano"]):
        assert "needs the package torch; install gradus[train]" in call(*verb, expected=2)[1]
    assert not Path("runs/new").exists()
