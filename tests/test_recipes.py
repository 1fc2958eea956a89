"""The shipped recipes: each validates, says what it is, and holds nothing that is only true on one machine.

Covers I-19.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from gradus import yaml12
from gradus.config import Config
from gradus.keys import flatten, leaves
from gradus.recipe import headline, resolve, shipped
from tests.source_tree import copy_source

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


def test_all_recipes_are_found_by_name():
    assert shipped() == {path.stem: path for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_validates_and_is_named_after_task_and_model(path: Path):
    assert re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)+", path.stem)
    config = resolve([path.stem]).config
    assert any(task in path.stem for task in config.tasks)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_begins_by_saying_what_it_is(path: Path):
    header = "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))
    assert path.read_text().startswith(header), "one comment, at the top"
    for word in ("Hardware:", "Time:", "Pass@1", "Reference project:"):
        assert word in header
    assert re.search(r"(Pass@1|Time:)[^\n]*(not measured|\d)", header)
    assert 20 < len(headline(path)) < 160


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_writes_only_what_differs_from_the_default(path: Path):
    written = dict(flatten(yaml12.read(path.read_bytes(), path.name).value))
    config = resolve([path]).config
    default = leaves(Config(tasks={name: {} for name in config.tasks}))
    same = {leaf for leaf, value in written.items() if leaf in default and default[leaf] == value}
    assert same <= {"model.path", "curriculum.problems_per_step", "sampling.group_size", "algorithm.name", "num_steps",
                    "evaluation.samples_per_problem"}, "what a reader looks for first may be repeated"  # fmt: skip


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_holds_no_absolute_path(path: Path):
    values = [str(value) for value in leaves(resolve([path]).config).values()]
    assert not [value for value in values if value.startswith(("/", "~", "file:")) or re.match(r"[A-Za-z]:\\", value)]


@pytest.mark.slow
def test_the_wheel_brings_the_recipes(tmp_path: Path):
    copy_source(tmp_path / "src")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path / "wheel"),
        ".",
    ]
    subprocess.run(command, cwd=tmp_path / "src", check=True, capture_output=True)
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {f"gradus/recipes/{path.name}" for path in RECIPES} <= set(names)
    assert not [name for name in names if not name.startswith(("gradus/", "gradus-"))]
