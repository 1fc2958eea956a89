"""Writes docs/config.md from the config tree itself: every key with its meaning, unit, default, and fate on resume.

    python docs/make_config.py

tests/test_docs.py fails while the page differs from what this prints.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gradus.config import Config
from gradus.keys import Resume, resume_class, schema_leaves, section_of
from gradus.tasks.base import TASKS

PAGE = Path(__file__).resolve().parent / "config.md"
HEAD = """\
# Configuration

*Written by `python docs/make_config.py` from `gradus/config.py` and the tasks' own options; do not edit it by hand.*

A recipe is a YAML 1.2 file that names the keys which differ from their defaults; on the command line `key=value` overrides it,
for example `gradus train countdown_nano optimizer.learning_rate=2e-5`. Precedence: default, then recipes from left to right, then
overrides. A key that does not exist is an error. `gradus config show RECIPE --origin` prints the whole tree with the place that
each value came from, and `gradus config show --schema` the JSON schema for editors.

What a change does to a run that is continued:

- **free**: it may change.
- **inexact**: it may change, and from there on the bits of an unbroken run are no longer promised.
- **fixed**: it is part of what the run is. The change is refused; `--new` begins another run.
"""
RESUME: Mapping[Resume, str] = {"mutable": "free", "inexact": "inexact", "immutable": "fixed"}
UNITS = ("tokens", "steps", "seconds", "problems", "threads")
"""A name that holds one of these words is counted in it."""
OTHER_UNITS = {
    "sampling.group_size": "completions",
    "sampling.max_redraws": "draws",
    "engine.batch_size": "completions",
    "optimizer.microbatch_size": "completions",
    "optimizer.updates_per_batch": "steps",
    "optimizer.passes_per_batch": "passes",
    "sft.batch_size": "answers",
    "evaluation.samples_per_problem": "completions",
    "checkpoint.keep_last": "checkpoints",
}
Row = tuple[str, str, str, str, str, str]


def render() -> str:
    """The whole page."""
    assert OTHER_UNITS.keys() <= schema_leaves().keys(), "a unit belongs to a key that does not exist any more"
    parts = [HEAD, "## Top level\n", *_section(Config, "")]
    for name in TASKS:
        options = TASKS[name].Config
        parts += [
            f"## Task options: `tasks.{name}`\n",
            f"{_prose(options.__doc__)}\n",
            _table(_rows(options, f"tasks.{name}.")),
        ]
    return "\n".join(parts)


def _section(model: type[BaseModel], prefix: str) -> Iterator[str]:
    """A section's own leaves as a table, then the sections below it."""
    yield _table(_rows(model, prefix))
    for name, field in model.model_fields.items():
        section = section_of(field.annotation)
        if section is not None:
            optional = " The whole section may be `null`, and is by default." if field.get_default() is None else ""
            yield f"## `{prefix}{name}`\n\n{_prose(section.__doc__)}{optional}\n"
            yield from _section(section, f"{prefix}{name}.")


def _rows(model: type[BaseModel], prefix: str) -> Iterator[Row]:
    schema = model.model_json_schema()
    for name, field in model.model_fields.items():
        if section_of(field.annotation) is None:
            values = _values(schema["properties"][name])
            meaning = _prose(field.description)
            assert meaning, f"{prefix}{name} has no documentation"
            yield (
                f"`{prefix}{name}`",
                _default(field),
                values,
                _unit(prefix + name, values),
                RESUME[resume_class(prefix + name)],
                meaning,
            )


def _table(rows: Iterator[Row]) -> str:
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    head = "| key | default | values | unit | on resume | meaning |\n|---|---|---|---|---|---|\n"
    return head + "".join(f"| {line} |\n" for line in lines)


def _default(field: FieldInfo) -> str:
    return "*required*" if field.is_required() else f"`{json.dumps(field.get_default(call_default_factory=True))}`"


def _unit(leaf: str, values: str) -> str:
    """From the name, which carries it by convention; empty for what has none."""
    if leaf in OTHER_UNITS:
        return OTHER_UNITS[leaf]
    if values == "share in [0, 1]":
        return "share"
    return next((unit for unit in UNITS if unit in leaf.rpartition(".")[2].split("_")), "")


def _values(schema: Mapping[str, Any]) -> str:
    """What a key takes, in words."""
    if "anyOf" in schema:
        return " or ".join(_values(option) for option in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type", "any")
    if kind in ("number", "integer"):
        return _range(schema)
    if kind == "array":
        items = schema.get("items") or schema.get("prefixItems", [{}])[0]
        length = (
            f"{schema['maxItems']} of: "
            if schema.get("maxItems") == schema.get("minItems") and "maxItems" in schema
            else ""
        )
        return f"list of {length}{_values(items)}"
    if kind == "string" and "pattern" in schema:
        return f"text like `{schema['pattern']}`"
    return {"string": "text", "boolean": "`true`, `false`", "object": "mapping", "null": "`null`"}.get(kind, kind)


def _range(schema: Mapping[str, Any]) -> str:
    """``integer ≥ 1``, ``number in (0, 1]``."""
    noun = schema["type"]
    low, high = (
        schema.get("minimum", schema.get("exclusiveMinimum")),
        schema.get("maximum", schema.get("exclusiveMaximum")),
    )
    opens, closes = "[("["exclusiveMinimum" in schema], "])"["exclusiveMaximum" in schema]
    if (noun, low, high, opens, closes) == ("number", 0, 1, "[", "]"):
        return "share in [0, 1]"
    if low is not None and high is not None:
        return f"{noun} in {opens}{low:g}, {high:g}{closes}"
    if low is not None:
        return f"{noun} {'>' if opens == '(' else '≥'} {low:g}"
    return noun


def _prose(text: str | None) -> str:
    """A docstring as one line of Markdown, without its example."""
    return " ".join((text or "").partition("Example:")[0].replace("``", "`").split())


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
