"""Recipes and overrides to one resolved config that knows where each of its values came from.

Precedence: schema default < recipe files, left to right < overrides, left to right. Mappings merge; lists, scalars and
null replace. All errors are reported at once, each with its file and line.
In a recipe, a model path or task option that begins with ``./`` or ``../`` is relative to the recipe's folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from gradus import keys, yaml12
from gradus.config import Config
from gradus.health.monitor import Monitor, setting_of
from gradus.keys import Resume, leaves
from gradus.tasks.base import load_task, task_class

__all__ = [
    "ABSENT",
    "Resolved",
    "diff",
    "from_config",
    "is_override",
    "leaves",
    "resolve",
    "shipped",
    "to_json",
    "to_yaml",
]

ABSENT = "(absent)"
"""What `diff` shows for a leaf that one of the two configs does not have."""
MAX_ERRORS = 50
"""Errors shown of one config; a file with more is another kind of file."""
_OVERRIDE = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)=(.*)", re.DOTALL)
_PACKAGE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Resolved:
    """A valid config, whole, and its history.

    Example:
        resolve(["countdown_nano"], ["seed=3"]).origins["seed"]  # "override"
    """

    config: Config
    """Every leaf has its value; task options include their defaults."""
    origins: dict[str, str]
    """Leaf to ``default``, ``recipes/x.yaml:12``, ``override`` or ``python``."""
    sources: tuple[tuple[str, bytes], ...]
    """(file name, bytes as given) of each recipe."""
    overrides: tuple[str, ...]


def resolve(recipes: Sequence[str | Path], overrides: Sequence[str] = ()) -> Resolved:
    """Reads, merges, validates. A recipe is a file or the name of a shipped one. ValueError has a line per error."""
    draft, sources, errors = _Draft(), [], []
    for recipe in recipes:
        try:
            shown, path = _find(recipe)
            data = path.read_bytes()
            document = yaml12.read(data, shown)
            draft.merge(document, shown, path.parent)
            sources.append((shown, data))
        except ValueError as error:
            errors.append(str(error))
    for override in overrides:
        try:
            draft.merge(_read_override(override), "override", Path.cwd())
        except ValueError as error:
            errors.append(str(error))
    if errors:
        raise ValueError("\n".join(errors))
    config = _validate(draft.tree, draft.where)
    origins = {leaf: draft.where.get(tuple(leaf.split(".")), "default") for leaf in leaves(config)}
    return Resolved(config, origins, tuple(sources), tuple(overrides))


def from_config(config: Config) -> Resolved:
    """Takes a config made in Python as it is; task options are checked and filled up with their defaults."""
    whole = _validate(to_json(config), {})
    given = dict(keys.flatten(config.model_dump(mode="json", exclude_unset=True)))
    origins = {leaf: "python" if leaf in given else "default" for leaf in leaves(whole)}
    return Resolved(whole, origins, (("config.yaml", to_yaml(whole).encode()),), ())


def diff(a: Config, b: Config) -> list[tuple[str, object, object, Resume]]:
    """The leaves that differ, as (leaf, value in a, value in b, what that does to a run that goes on)."""
    old, new = leaves(a), leaves(b)
    names = [*old, *(leaf for leaf in new if leaf not in old)]
    pairs = ((leaf, old.get(leaf, ABSENT), new.get(leaf, ABSENT)) for leaf in names)
    return [(leaf, before, after, keys.resume_class(leaf)) for leaf, before, after in pairs if before != after]


def to_json(config: BaseModel) -> dict[str, Any]:
    """The tree as JSON values."""
    return config.model_dump(mode="json")


def to_yaml(config: Config, origins: Mapping[str, str] | None = None) -> str:
    """The whole tree as a recipe that resolves to the same config; with ``origins`` each leaf says its source."""
    comment = None if origins is None else lambda path: origins.get(".".join(path), "default")
    return yaml12.write(to_json(config), comment)


def is_override(argument: str) -> bool:
    """Whether a command-line argument is KEY=VALUE: what stands before the first ``=`` is a dotted identifier."""
    return _OVERRIDE.fullmatch(argument) is not None


def shipped() -> dict[str, Path]:
    """Name to file of the recipes that come with gradus: inside the package, or beside it in a checkout."""
    is_checkout = (_PACKAGE.parent / "pyproject.toml").is_file()
    folder = (_PACKAGE.parent if is_checkout else _PACKAGE) / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def headline(path: Path) -> str:
    """The first comment line of a recipe: what it trains."""
    with path.open(encoding="utf-8") as lines:
        return next(lines, "").lstrip("# ").rstrip()


def _find(recipe: str | Path) -> tuple[str, Path]:
    """The name to show and the file of a recipe."""
    path, names = Path(recipe), shipped()
    if path.is_file():
        return str(recipe), path
    if str(recipe) in names:
        return f"recipes/{recipe}.yaml", names[str(recipe)]
    if path.is_dir():
        raise ValueError(f"{recipe} is a folder; give a YAML file or one of {', '.join(names)}")
    near = keys.nearest(path.stem, names)
    hint = f"did you mean {near}?" if near else f"give a YAML file or one of {', '.join(names)}"
    if "=" in str(recipe):
        hint = "an override is dotted.key=value; a file with = in its name is given as ./name"
    raise ValueError(f"recipe {str(recipe)!r} does not exist; {hint}")


def _read_override(override: str) -> yaml12.Document:
    match = _OVERRIDE.fullmatch(override)
    if match is None:
        raise ValueError(f"override {override!r} is not dotted.key=value; e.g. optimizer.learning_rate=2e-6")
    key, text = match.groups()
    if not text.strip():
        raise ValueError(f"override {override!r} has no value; write {key}=null if you mean null")
    value = yaml12.read_value(text, f"override {override!r}")
    path = tuple(key.split("."))
    for part in reversed(path):
        value = {part: value}
    return yaml12.Document(value)


class _Draft:
    """The tree while files and overrides are laid over each other, and where each key was last written."""

    def __init__(self) -> None:
        self.tree: dict[str, Any] = {}
        self.where: dict[yaml12.Path, str] = {}

    def merge(self, document: yaml12.Document, name: str, folder: Path) -> None:
        """Lays a document called ``name`` over the tree; its relative paths start at ``folder``."""
        if document.value is None:
            return
        if not isinstance(document.value, dict):
            raise ValueError(f"{name}: the top of a recipe is keys, not {document.value!r:.40}; write key: value")
        places = {path: f"{name}:{line}" for path, line in document.lines.items()}
        self._lay(self.tree, _anchored(document.value, folder), (), places, name)

    def _lay(
        self, base: dict[str, Any], new: dict[str, Any], path: yaml12.Path, places: dict[yaml12.Path, str], name: str
    ) -> None:
        for key, value in new.items():
            here = (*path, key)
            if not (isinstance(value, dict) and isinstance(base.get(key), dict)):
                if key in base:
                    self.where = {known: text for known, text in self.where.items() if known[: len(here)] != here}
                base[key] = {} if isinstance(value, dict) else value
            self.where[here] = places.get(here, name)
            if isinstance(value, dict):
                self._lay(base[key], value, here, places, name)


def _anchored(tree: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The tree with ``./`` and ``../`` paths of model, tasks, curriculum and sft made absolute from ``folder``."""
    anchored = {name: _anchor(tree[name], folder) for name in ("model", "tasks", "curriculum", "sft") if name in tree}
    return {**tree, **anchored}


def _anchor(value: Any, folder: Path) -> Any:
    if isinstance(value, dict):
        return {key: _anchor(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [_anchor(item, folder) for item in value]
    return str((folder / value).resolve()) if isinstance(value, str) and value.startswith(("./", "../")) else value


def _validate(tree: Mapping[str, Any], where: Mapping[yaml12.Path, str]) -> Config:
    """The config with task options filled up; ValueError with one line per error, each with its place."""
    errors: list[str] = []
    config = _typed(Config, tree, (), where, errors)
    options = {name: _task_options(name, given, where, errors) for name, given in _tasks_of(tree).items()}
    if config is not None and config.health.rules and not errors:
        try:
            rules = [rule for name, given in options.items() for rule in load_task(name, **given).health_rules()]
            Monitor(setting_of(config), config.health.rules, rules)
        except ValueError as error:
            errors.append(_placed(("health", "rules"), where, str(error)))
    if errors or config is None:
        raise ValueError("\n".join(dict.fromkeys(errors)))
    return config.model_copy(update={"tasks": options})


def _tasks_of(tree: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    tasks = tree.get("tasks")
    return {name: given for name, given in tasks.items() if isinstance(given, dict)} if isinstance(tasks, dict) else {}


def _task_options(
    name: str, given: dict[str, Any], where: Mapping[yaml12.Path, str], errors: list[str]
) -> dict[str, Any]:
    """All options of one task, checked by its own Config and by making the task."""
    path = ("tasks", name)
    file = given.get("path")
    own = {} if file is None else {"path": file}
    try:
        if file is not None and not isinstance(file, str):
            raise ValueError(f"tasks.{name}.path={file!r} is no text; give the Python file that registers {name}")
        chosen = task_class(name, file)
    except ValueError as error:
        errors.append(_placed((*path, "path") if own else path, where, str(error)))
        return {}
    options = _typed(chosen.Config, {key: value for key, value in given.items() if key not in own}, path, where, errors)
    if options is None:
        return {}
    try:
        chosen(options)
    except ValueError as error:
        errors.append(_placed(path, where, f"tasks.{name}: {error}"))
    return {**own, **to_json(options)}


def _typed(
    model: type[Any], tree: Mapping[str, Any], path: yaml12.Path, where: Mapping[yaml12.Path, str], errors: list[str]
) -> Any:
    """``tree`` as an instance of ``model``, or None with what is wrong added to ``errors``.

    Strict, in JSON's types: a list may become a tuple and an integer a float, but no text becomes a number or a bool.
    """
    try:
        return model.model_validate_json(json.dumps(tree), strict=True)
    except ValidationError as error:
        seen: set[yaml12.Path] = set()
        found = chain.from_iterable(
            _complaints(model, one, path, where, seen) for one in error.errors(include_url=False)
        )
        errors.extend(islice(found, MAX_ERRORS))
        if next(found, None) is not None:
            errors.append(f"and more; repair these {MAX_ERRORS} first")
    return None


def _complaints(
    model: type[BaseModel], error: Any, path: yaml12.Path, where: Mapping[yaml12.Path, str], seen: set[yaml12.Path]
) -> Iterator[str]:
    inside, schema = keys.locate(model, error["loc"])
    here = (*path, *inside)
    if here in seen:
        return  # the other branches of a union
    seen.add(here)
    if error["loc"] and error["loc"][-1] == "[key]":  # an entry of a leaf that is a mapping with known names
        entries = [".".join((*here[:-1], name)) for name in re.findall(r"'([^']+)'", error["ctx"]["expected"])]
        yield _placed(here, where, keys.unknown_key(".".join(here), entries))
        return
    if error["type"] != "extra_forbidden":
        yield _placed(here, where, keys.wrong_value(".".join(here), error, schema))
        return
    known = list(keys.schema_leaves()) if not path else [".".join((*path, name)) for name in model.model_fields]
    wrong = keys.flatten({here[-1]: error["input"]}, "".join(part + "." for part in here[:-1]))
    for key, _ in wrong:
        yield _placed(tuple(key.split(".")), where, keys.unknown_key(key, known))


def _placed(path: yaml12.Path, where: Mapping[yaml12.Path, str], message: str) -> str:
    """The message behind the place of its key, or of the nearest key above that was written."""
    for end in range(len(path), 0, -1):
        if path[:end] in where:
            return f"{where[path[:end]]}: {message}"
    written = re.match(r"[\w.]+", message)  # a rule about several keys names the one to change first
    key = tuple(written[0].split(".")) if written else ()
    return f"{where[key]}: {message}" if key in where else message
