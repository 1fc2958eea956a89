"""The layers: a module imports only from its own layer or one to the right. Read from source; nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "gradus"
LAYERS = (
    ("cli", "__main__"),
    ("doctor", "probing", "verbs", "plan", "policy.nano.build"),
    ("report", "integrations"),
    ("train",),
    ("evaluation",),
    ("rollout",),
    ("policy",),
    ("algo",),
    ("data",),
    ("tracking",),
    ("recipe",),
    ("tasks",),
    ("data.sources", "data.intake"),
    (
        "rundir",
        "durable",
        "lock",
        "jsonl",
        "redaction",
        "config",
        "keys",
        "yaml12",
        "console",
        "seeds",
        "difficulty",
        "health",
    ),
    ("registry", "types", "exits", ""),
)
"""From left to right. ``recipe`` checks task options, so it stands above the tasks; rows are read below them. The
program that makes the embedded policies uses all that trains."""
DOORS = ("__init__", "train.__init__")
"""They offer names from every layer and import them when asked."""
TORCH_HOMES = ("policy", "rollout", "train", "algo.loss", "algo.diagnostics")
TORCH = {"torch", "transformers", "peft", "safetensors", "accelerate"}
LATE = {"trl", "verl", "deepspeed", "datasets", "matplotlib", "pyarrow", "wandb", "tensorboard", "trackio", "rich"}
"""Slow or optional: imported inside the function that needs them."""
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
MODULES = sorted(ROOT.rglob("*.py"))


def name_of(path: Path) -> str:
    """Dotted name below ``gradus``."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def rank(module: str) -> int:
    """Index of the layer that the longest prefix of ``module`` belongs to."""
    parts = module.removesuffix(".__init__").split(".")
    for length in range(len(parts), 0, -1):
        for index, names in enumerate(LAYERS):
            if ".".join(parts[:length]) in names:
                return index
    raise AssertionError(f"gradus/{module} has no layer; give it one in LAYERS")


def imports(path: Path) -> Iterator[tuple[str, ast.stmt]]:
    """Every module that is imported anywhere in a file, with its statement."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative imports hide the layer"
            yield from (
                (f"{node.module}.{alias.name}" if is_ours(node.module) else str(node.module), node)
                for alias in node.names
            )


def is_ours(module: str | None) -> bool:
    return module is not None and module.partition(".")[0] == "gradus"


def module_part(name: str) -> str:
    """``gradus.tasks.base.load_task`` to ``tasks.base``: what of an imported name is a module."""
    parts = name.split(".")[1:]
    while parts and not ((ROOT / Path(*parts)).is_dir() or (ROOT / Path(*parts)).with_suffix(".py").is_file()):
        parts.pop()
    return ".".join(parts)


@pytest.mark.parametrize("path", [path for path in MODULES if name_of(path) not in DOORS], ids=name_of)
def test_a_module_imports_only_to_the_right(path: Path):
    own = rank(name_of(path))
    for name, node in imports(path):
        if is_ours(name):
            imported = module_part(name)
            assert rank(imported) >= own, f"{name_of(path)}:{node.lineno} imports {imported}, which is to its left"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_torch_is_imported_only_where_it_may_be(path: Path):
    module = name_of(path)
    if any(module == home or module.startswith(home + ".") for home in TORCH_HOMES):
        return
    found = [
        f"{module}:{node.lineno} imports {name}" for name, node in imports(path) if name.partition(".")[0] in TORCH
    ]
    assert not found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_slow_and_optional_packages_are_imported_late(path: Path):
    at_import = ast.parse(path.read_text(encoding="utf-8")).body
    names = {alias.name for node in at_import if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in at_import if isinstance(node, ast.ImportFrom)}
    assert not {name.partition(".")[0] for name in names} & LATE


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_says_what_it_is_for(path: Path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not tree.body or ast.get_docstring(tree), f"{name_of(path)} has no docstring"
    assert not FORBIDDEN_NAMES & set(name_of(path).split(".")), "a function without a home shows a hole in the design"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_the_console_prints(path: Path):
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    lines = [node.lineno for node in calls if isinstance(node.func, ast.Name) and node.func.id == "print"]
    assert not lines, f"{name_of(path)} prints on lines {lines}; use gradus.console"


def test_the_layers_are_read_from_the_source():
    assert rank("data.sources") > rank("tasks.base") > rank("data.prepare") > rank("train.loop")
    assert module_part("gradus.tasks.base.load_task") == "tasks.base" and module_part("gradus.__version__") == ""
