"""No line of the package lets Python run or evaluate a text: read from the syntax tree of every file."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

FORBIDDEN = {"eval", "exec", "compile", "sympify", "parse_expr", "parse_latex", "literal_eval", "__import__"}
"""Names that turn a text into something that runs, called bare or as an attribute; ``re.compile`` is another thing."""
ALLOWED = {("re", "compile"), ("torch", "compile")}
FILES = sorted(Path("gradus").rglob("*.py"))


def forbidden_calls(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            found += [f"{node.lineno}: import {alias.name}" for alias in node.names if alias.name in FORBIDDEN]
        if isinstance(node, ast.Name) and node.id in FORBIDDEN:
            found.append(f"{node.lineno}: {node.id}")
        if isinstance(node, ast.Attribute) and node.attr in FORBIDDEN:
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            is_method = node.attr == "eval" and owner != "builtins"  # model.eval()
            if not is_method and (owner, node.attr) not in ALLOWED:
                found.append(f"{node.lineno}: {owner}.{node.attr}")
    return found


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_text_is_evaluated(path: Path) -> None:
    assert forbidden_calls(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')", "exec('a')", "compile('a', 'b', 'eval')", "import builtins; builtins.eval('1')", "f = eval",
        "from ast import literal_eval", "import ast; ast.literal_eval('1')", "import sympy; sympy.sympify('1')",
        "from sympy.parsing.sympy_parser import parse_expr as p", "sympy.parse_expr('1')", "__import__('os')",
    ],
)  # fmt: skip
def test_the_lint_finds(source: str) -> None:
    assert forbidden_calls(source)


@pytest.mark.parametrize("source", ["import re; re.compile('a')", "model.eval()", "torch.compile(f)", "evaluate()"])
def test_the_lint_leaves_alone(source: str) -> None:
    assert forbidden_calls(source) == []


def test_there_are_files() -> None:
    assert len(FILES) > 10
