"""A launch script or a YAML file of somebody's verl run → the settings in it. Read as text: nothing of it is run.

Of a shell script, the words KEY=VALUE of the one command that starts verl's trainer are taken, after plain variables,
``${NAME:-default}`` and arrays have been put in. What only a shell could know (``$(command)``, ``$1``, an unset
variable) stays as it is written, and is told.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradus import keys, yaml12

MAX_BYTES = 1 << 16
_MAX_VALUE = 1 << 12
"""Characters of a variable that is put in."""
LAUNCHERS = ("verl.trainer.main_ppo", "main_ppo.py")
_ASSIGNED = re.compile(
    r"(?P<indent>[ \t]*)(?:(?:export|local|readonly)[ \t]+)?(?P<name>[A-Za-z_]\w*)=(?P<value>.*)", re.DOTALL
)
_SETTING = re.compile(r"(?P<sign>\+{0,2})(?P<key>[A-Za-z_]\w*(?:\.[\w@/-]+)+)=(?P<value>.*)", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,18}(?P<point>\.[0-9]{0,18})?|\.[0-9]{1,18})(?P<power>[eE][+-]?[0-9]{1,3})?")
_VARIABLE = re.compile(r"\$(?:(?P<plain>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)(?::?-(?P<default>[^{}]*))?\})")
_ARRAY = re.compile(r"\$\{(?P<name>[A-Za-z_]\w*)\[@\]\}")
_MAX_DEPTH = 8
"""Variables in variables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What a file tells verl.

    Example:
        read_script(Path("run_train.sh")).settings["actor_rollout_ref.rollout.n"]  # 2
    """

    settings: Mapping[str, Any]
    """verl's key, with ``+`` before it where the script adds one, to value; one that only a shell could know is its text."""
    variables: Mapping[str, str]
    """Of the script."""
    remarks: tuple[str, ...]
    """What could not be known from the file alone."""


def read_script(path: Path) -> Script:
    """Reads a shell script, or a YAML file by its ending. ValueError where it is neither, or starts no or several runs."""
    data = path.read_bytes()
    if path.suffix in (".yaml", ".yml"):
        return _of_yaml(data, path.name)
    if len(data) > MAX_BYTES:
        raise ValueError(f"{path}: {len(data)} bytes are more than a script has; the limit is {MAX_BYTES}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start} is not UTF-8; is it a script?") from None
    return _of_shell(text, path.name)


def _of_yaml(data: bytes, name: str) -> Script:
    tree = yaml12.read(data, name).value
    if not isinstance(tree, Mapping) or not {"actor_rollout_ref", "data", "trainer"} & set(tree):
        raise ValueError(f"{name} has neither actor_rollout_ref nor data nor trainer; give the YAML file of a verl run")
    return Script(settings=dict(keys.flatten(tree)), variables={}, remarks=())


def _of_shell(text: str, name: str) -> Script:
    shell = _Shell()
    for line in _lines(text):
        shell.read(line)
    if len(shell.launches) != 1:
        found = f"{len(shell.launches)} times" if shell.launches else "nowhere"
        raise ValueError(
            f"{name} starts verl {found}; give a script with one python -m verl.trainer.main_ppo KEY=VALUE..."
        )
    settings: dict[str, Any] = {}
    remarks, conditional = [], set[str]()
    for word in shell.launches[0]:
        for match in map(_SETTING.fullmatch, shell.spread(word)):
            if match is None:
                continue
            value = shell.expanded(match["value"])
            settings[match["sign"][:1] + match["key"]] = value_of(value)
            if "$" in value.replace("${now:", ""):
                remarks.append(f"not known without a shell: {match['key']}={value}")
            conditional |= shell.branches & {one["plain"] or one["name"] for one in _VARIABLE.finditer(match["value"])}
    if not settings:
        raise ValueError(f"{name} gives verl no setting that can be read; write KEY=VALUE behind its command")
    for one in sorted(conditional):
        remarks.append(f"{one} is also set under a condition; {shell.expanded('$' + one)} was taken")
    return Script(settings=settings, variables=shell.variables, remarks=tuple(remarks))


class _Shell:
    """What a script's lines set, as far as text shows it.

    Example:
        shell = _Shell(); shell.read("N=4"); shell.expanded("a.b=$N")  # "a.b=4"
    """

    def __init__(self) -> None:
        self.variables = {"HOME": "~"}
        self.arrays: dict[str, list[str]] = {}
        self.branches: set[str] = set()
        """Variables that an indented line sets again: under a condition."""
        self.launches: list[list[str]] = []

    def read(self, line: str) -> None:
        """Takes one whole command in."""
        assigned = _ASSIGNED.fullmatch(line)
        if assigned and assigned["value"].startswith("("):
            self.arrays[assigned["name"]] = _words(assigned["value"][1:].rstrip().removesuffix(")"))
        elif any(launcher in line for launcher in LAUNCHERS):
            words = _words(line)
            if any(launcher in word for word in words for launcher in LAUNCHERS):
                self.launches.append(words)
        elif assigned and assigned["indent"] and assigned["name"] in self.variables:
            self.branches.add(assigned["name"])
        elif assigned:
            self.variables[assigned["name"]] = " ".join(_words(assigned["value"])[:1])

    def spread(self, word: str) -> list[str]:
        """A word, or the words of an array that it stands for."""
        match = _ARRAY.fullmatch(word)
        return self.arrays.get(match["name"], []) if match else [word]

    def expanded(self, text: str) -> str:
        """Variables of the script put in, and their defaults; others stay."""
        for _ in range(_MAX_DEPTH):
            after = _VARIABLE.sub(self._value, text)
            if after == text or len(after) > MAX_BYTES:
                return text
            text = after
        return text

    def _value(self, match: re.Match[str]) -> str:
        found = self.variables.get(match["plain"] or match["name"])
        if found is None or match[0] in found:  # a variable whose default is given where it is set
            found = match["default"]
        return match[0] if found is None or len(found) > _MAX_VALUE else found


def _lines(text: str) -> list[str]:
    """Whole commands: continued lines in one, and an array until its bracket closes. Comment lines are left out."""
    found: list[str] = []
    is_open = False
    for line in text.replace("\\\r\n", " ").replace("\\\n", " ").splitlines():
        if line.lstrip().startswith("#"):
            continue
        if is_open:
            found[-1] += "\n" + line
        else:
            found.append(line)
        is_open = (is_open or re.fullmatch(r"\s*\w+=\(.*", line) is not None) and not line.rstrip().endswith(")")
    return found


def _words(text: str) -> list[str]:
    """As a shell cuts them, up to a pipe or a redirection; nothing where quotes do not close."""
    try:
        lexer = shlex.shlex(text, posix=True, punctuation_chars="|;<>&")
        lexer.whitespace_split = True
        words = list(lexer)
    except ValueError:
        return []
    end = next((place for place, word in enumerate(words) if set(word) <= set("|;<>&")), len(words))
    return words[:end]


def value_of(text: str) -> Any:
    """A value in Hydra's language, as far as scripts use it: null, truth, numbers, lists, quoted and plain text."""
    text = text.strip()
    plain = {"null": None, "none": None, "true": True, "false": False, "": ""}
    if text.lower() in plain:
        return plain[text.lower()]
    if text.startswith("[") and text.endswith("]"):
        return [value_of(part) for part in text[1:-1].split(",") if part.strip()]
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    if number := _NUMBER.fullmatch(text):
        return float(text) if number["point"] or number["power"] or "." in text else int(text)
    return text
