"""YAML 1.2 as recipes use it: plain trees with the line of every key, read safely, written so that they read back.

A YAML 1.1 reader takes `1e-6` for text, `no` for false and `012` for ten; this one does not (ruamel.yaml, pure Python).
What can hide a value from its reader or blow it up is refused: anchors, aliases, merge keys, tags, directives, several
documents, duplicate keys, deep nesting, files above 1 MB, infinities and dates.
"""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MAX_BYTES = 1 << 20
MAX_DEPTH = 20

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A tree read from one text, with the line (from 1) on which each key stands.

    Example:
        read(b"optimizer:\\n  learning_rate: 1e-6\\n", "a.yaml").lines[("optimizer", "learning_rate")]  # 2
    """

    value: Any
    lines: Mapping[Path, int] = field(default_factory=dict)


def read(data: bytes, name: str) -> Document:
    """Reads one YAML document; ``name`` is what errors call it. ValueError with ``name:line`` where it is refused."""
    if len(data) > MAX_BYTES:
        raise ValueError(
            f"{name}: {len(data)} bytes are more than a recipe needs; the limit is {MAX_BYTES}. Is it the right file?"
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    try:
        _refuse_what_hides(text, name)
        node = YAML(typ="safe", pure=True).compose(text)
    except YAMLError as error:
        raise ValueError(_syntax_message(error, name)) from None
    lines: dict[Path, int] = {}
    return Document(None if node is None else _Builder(name, lines).build(node, ()), lines)


def read_value(text: str, name: str) -> Any:
    """Reads the value of an override by the rules of a file. ValueError names ``name``."""
    return read(text.encode("utf-8", "surrogatepass"), name).value


def _syntax_message(error: YAMLError, name: str) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = name if mark is None else f"{name}:{mark.line + 1}"
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{where}: not YAML: {' '.join(problem.split())}; check indentation, colons and quotes"


def _refuse_what_hides(text: str, name: str) -> None:
    """Walks the parse events, which expand nothing, before any tree is built."""
    depth = documents = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        kind = type(event).__name__
        documents += kind == "DocumentStartEvent"
        depth += kind.endswith(("MappingStartEvent", "SequenceStartEvent")) - kind.endswith(
            ("MappingEndEvent", "SequenceEndEvent")
        )
        is_merge = kind == "ScalarEvent" and event.value == "<<" and event.style is None
        refusals = (
            (kind == "AliasEvent", "an alias (*) hides its value; write the value out"),
            (
                getattr(event, "anchor", None) is not None,
                "an anchor (&) is not needed; write each value where it is used",
            ),
            (
                getattr(event, "tag", None) is not None,
                "a tag (!) is not needed; the schema knows every type. Remove it",
            ),
            (
                bool(getattr(event, "version", None) or getattr(event, "tags", None)),
                "a % directive changes how values are read; remove it",
            ),
            (is_merge, "a merge key (<<) hides its values; write them out, or give two recipes"),
            (documents > 1, "a second document begins (---); a recipe is one"),
            (depth > MAX_DEPTH, f"nested more than {MAX_DEPTH} deep; no key is that deep"),
        )
        for is_refused, reason in refusals:
            if is_refused:
                raise ValueError(f"{name}:{event.start_mark.line + 1}: {reason}")


_SURROGATE = re.compile("[\ud800-\udfff]")


class _Builder:
    """Nodes to plain values, noting the line of each key."""

    def __init__(self, name: str, lines: dict[Path, int]) -> None:
        self.name = name
        self.lines = lines
        self.construct: Callable[[Node], Any] = YAML(typ="safe", pure=True).constructor.construct_object

    def build(self, node: Node, path: Path) -> Any:
        if isinstance(node, MappingNode):
            return self.mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.build(item, path) for item in node.value]
        assert isinstance(node, ScalarNode), "YAML has no fourth kind of node"
        return self.scalar(node, path)

    def mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self.scalar(key_node, path) if isinstance(key_node, ScalarNode) else None
            if not isinstance(key, str):
                shown = key_node.value if isinstance(key_node, ScalarNode) else "[...]"
                raise ValueError(f"{self.at(key_node)}: key {shown} is not text; put it in quotes or remove it")
            if key in tree:
                raise ValueError(f"{self.at(key_node)}: key {key!r} is given twice; keep one")
            self.lines[(*path, key)] = key_node.start_mark.line + 1
            tree[key] = self.build(value_node, (*path, key))
        return tree

    def scalar(self, node: ScalarNode, path: Path) -> Any:
        try:
            value = self.construct(node)
        except (YAMLError, ValueError):  # a bare =, a date that does not exist, an integer of 5,000 digits
            raise ValueError(
                f"{self.at(node)}: {node.value[:40]!r} is not a value; put it in quotes if it is text"
            ) from None
        if isinstance(value, str) and _SURROGATE.search(value):
            raise ValueError(f"{self.at(node)}: {value[:40]!r} holds half a character; write the whole one")
        where = f"{self.at(node)}: {'.'.join(path)}={node.value}" if path else f"{self.at(node)}: {node.value}"
        if isinstance(value, datetime.date):
            raise ValueError(f"{where} is read as a date; put it in quotes")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{where} is not a finite number; no key takes one. Write a number")
        return value

    def at(self, node: Node) -> str:
        return f"{self.name}:{node.start_mark.line + 1}"


_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./@+-]*")
_NOT_PLAIN = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
"""Not text here, or not text in a YAML 1.1 reader."""
_UNPRINTABLE = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff\ufffe\uffff]")


def write(tree: Mapping[str, Any], comment: Callable[[Path], str] | None = None) -> str:
    """Writes a tree of mappings, lists and scalars, one key per line, in the given order.

    ``comment(path)`` is put behind a leaf (nothing where it is empty). ``read(write(tree))`` equals the tree.
    """
    return "".join(line + "\n" for line in _lines(tree, (), comment)) or "{}\n"


def _lines(tree: Mapping[str, Any], path: Path, comment: Callable[[Path], str] | None) -> Iterator[str]:
    for key, value in tree.items():
        here, head = (*path, key), "  " * len(path) + _scalar(key) + ":"
        if isinstance(value, Mapping) and value:
            yield head
            yield from _lines(value, here, comment)
        else:
            note = comment(here) if comment else ""
            yield f"{head} {_flow(value)}" + (f"  # {note}" if note else "")


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_scalar(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    """JSON's scalars are YAML 1.2 scalars; words stay without quotes."""
    if not isinstance(value, str):
        return json.dumps(value, allow_nan=False)
    if _PLAIN.fullmatch(value) and value.lower() not in _NOT_PLAIN:
        return value
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value, ensure_ascii=False))
