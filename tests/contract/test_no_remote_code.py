"""Code that comes with a model is never run: every loader of transformers is told so. Read from the syntax tree.

Left unset, transformers asks the user on the terminal instead of refusing.
"""

from __future__ import annotations

import ast
from pathlib import Path

FILES = sorted(Path("gradus").rglob("*.py"))


def loaders(source: str) -> list[ast.Call]:
    """Calls of ``Auto*.from_pretrained`` and ``Auto*.from_config``."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [
        call
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in ("from_pretrained", "from_config")
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id.startswith("Auto")
    ]


def test_every_loader_refuses_remote_code() -> None:
    found = [(path, call) for path in FILES for call in loaders(path.read_text(encoding="utf-8"))]
    assert len(found) >= 4
    for path, call in found:
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert given.get("trust_remote_code") == "False", f"{path}:{call.lineno}"
