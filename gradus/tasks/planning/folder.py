"""A folder of planning data: one JSONL file per domain, PDDL files beside it. Everything is read and checked at once.

Row: ``prompt`` (text or chat messages), ``meta`` with ``scenario``, ``problem_id``, ``domain_file``, ``problem_file`` and,
where known, ``ref_len``, ``ref_optimal``, ``difficulty``, ``split``. Fields that nobody here knows survive.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradus.jsonl import to_line
from gradus.tasks.planning.cache import load_problem
from gradus.tasks.planning.domains import FAMILIES
from gradus.tasks.planning.limits import PddlError
from gradus.tasks.planning.pddl import Problem
from gradus.tasks.planning.plan import parse_plan
from gradus.tasks.planning.search import solve
from gradus.tasks.planning.validate import validate

MAX_BAD_SHARE = 0.05
"""Rows of a file that may be unusable."""
SOLVER_STATES = 5_000
"""States that the search for a missing reference length may use (about a second)."""
PARENTS_SEARCHED = 3

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a data file.

    Example:
        Row(domain="ferry", prompt="..", meta={"problem_file": "ferry/ferry-l4-c2-s1.pddl"}, place="ferry.jsonl:1")
    """

    domain: str
    """``meta.scenario``, or the name of the file."""
    prompt: Any
    """Text, or a list of {role, content}."""
    meta: Mapping[str, Any]
    place: str
    """File and line, for messages."""
    others: Mapping[str, Any] = field(default_factory=dict)
    """All further fields of the line, as they were."""

    @property
    def file_name(self) -> str:
        """Base name of the problem file: what says the sizes."""
        return str(self.meta["problem_file"]).replace("\\", "/").rsplit("/", 1)[-1]

    def to_json(self) -> dict[str, Any]:
        """The line as it is written."""
        return {"prompt": self.prompt, "meta": dict(self.meta), **self.others}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of a folder in a fixed order, and what was noticed."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A row with its PDDL, parsed."""

    row: Row
    domain_text: str
    problem_text: str
    problem: Problem
    plan: str | None
    """Text of a valid plan, where one came with the data."""
    reference_length: int | None


def read_rows(root: Path | str, domains: Sequence[str] | None = None, *, allow_bad_rows: bool = False) -> Rows:
    """Reads the rows of a folder, sorted by (domain, base name, row number).

    Without ``domains`` these are the built-in ones that have a file. Raises ValueError where nothing is there, a named
    domain has no file, or more than 5 % of a file's rows are unusable (unless ``allow_bad_rows``).
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"data folder {str(root)!r} does not exist; give a folder with one JSONL file per domain")
    present = {path.stem: path for path in sorted(root.glob("*.jsonl"))}
    notes: list[str] = []
    if domains is None:
        chosen = [name for name in FAMILIES if name in present]
        notes += [f"no file {name}.jsonl" for name in FAMILIES if name not in present]
        notes += [
            f"{name}.jsonl is no data file of a known domain and is left out"
            for name in present
            if name not in FAMILIES
        ]
    else:
        chosen = sorted(set(domains))
        if missing := [name for name in chosen if name not in present]:
            raise ValueError(
                f"domain {missing[0]!r} has no file {missing[0]}.jsonl in {str(root)!r}; "
                f"there are {', '.join(present) or 'none'}"
            )
    if not chosen:
        raise ValueError(f"{str(root)!r} has no data file; expected one of {', '.join(f'{n}.jsonl' for n in FAMILIES)}")
    rows: list[tuple[str, str, int, Row]] = []
    for name in chosen:
        found, bad = _read_file(present[name])
        notes += bad
        if len(bad) > MAX_BAD_SHARE * (len(found) + len(bad)) and not allow_bad_rows:
            raise ValueError(
                f"{present[name]}: {len(bad)} of {len(found) + len(bad)} rows are unusable, first: {bad[0]}; "
                f"repair the file or allow it (--allow_bad_rows)"
            )
        rows += [(row.domain, row.file_name, number, row) for number, row in found]
    if not rows:
        raise ValueError(f"{str(root)!r} has no usable row; give a folder with one .jsonl file per domain")
    return Rows(rows=tuple(entry[3] for entry in sorted(rows, key=lambda entry: entry[:3])), notes=tuple(notes))


def _read_file(path: Path) -> tuple[list[tuple[int, Row]], list[str]]:
    """Numbered rows, and a line of text for each unusable one."""
    found: list[tuple[int, Row]] = []
    bad: list[str] = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            found.append((number, read_row(json.loads(line), path.stem, f"{path.name}:{number}")))
        except (ValueError, RecursionError) as error:
            bad.append(f"{path.name}:{number}: {str(error)[:200]}")
    return found, bad


def read_row(raw: Any, stem: str, place: str) -> Row:
    """Checks one row. ValueError says what it lacks."""
    if not isinstance(raw, dict):
        raise ValueError("is no JSON object")
    prompt, meta = raw.get("prompt"), raw.get("meta")
    is_chat = (
        isinstance(prompt, list)
        and prompt
        and all(
            isinstance(m, dict)
            and m.get("role") in ("system", "user", "assistant")
            and isinstance(m.get("content"), str)
            for m in prompt
        )
    )
    if not (isinstance(prompt, str) and prompt) and not is_chat:
        raise ValueError("has no prompt: text or a list of {role, content}")
    if not isinstance(meta, dict) or not isinstance(meta.get("problem_file"), str) or not meta["problem_file"]:
        raise ValueError("has no meta.problem_file")
    domain = meta.get("scenario", stem)
    if not isinstance(domain, str) or not domain:
        raise ValueError(f"has the scenario {domain!r}, which is no name")
    others = {key: value for key, value in raw.items() if key not in ("prompt", "meta")}
    return Row(domain=domain, prompt=prompt, meta=meta, place=place, others=others)


def load_rows(
    rows: Iterable[Row], root: Path | str, *, pddl_root: Path | str | None = None, skip_missing: bool = False
) -> list[Loaded]:
    """Reads and parses every PDDL file that the rows name. One ValueError lists all that is missing or wrong, unless
    ``skip_missing``, which leaves these rows out with a warning each."""
    places = search_places(root, pddl_root)
    texts: dict[Path, str] = {}
    loaded: list[Loaded] = []
    faults: list[str] = []
    for row in rows:
        try:
            loaded.append(_load(row, places, texts))
        except (ValueError, OSError) as error:
            faults.append(f"{row.place}: {error}")
    if faults and not skip_missing:
        more = f"\n  and {len(faults) - 50} more" if len(faults) > 50 else ""
        raise ValueError(
            f"{len(faults)} of {len(faults) + len(loaded)} problems cannot be used (leave them out with --skip_missing):"
            + "".join(f"\n  {fault}" for fault in faults[:50]) + more
        )  # fmt: skip
    for fault in faults:
        _log.warning("left out: %s", fault)
    if not loaded:
        raise ValueError("no problem is left; check the paths of the PDDL files (--pddl_root)")
    return loaded


def search_places(root: Path | str, pddl_root: Path | str | None = None) -> list[Path]:
    """Where the PDDL files of a data folder are looked for, in this order."""
    places = [Path(root), *list(Path(root).resolve().parents)[:PARENTS_SEARCHED]]
    return [Path(pddl_root), *places] if pddl_root is not None else places


def _load(row: Row, places: Sequence[Path], texts: dict[Path, str]) -> Loaded:
    domain_text, problem_text, problem, problem_path = read_pddl(row, places, texts)
    plan = _stored_plan(problem, problem_path.with_suffix(".soln"))
    return Loaded(
        row=row,
        domain_text=domain_text,
        problem_text=problem_text,
        problem=problem,
        plan=plan,
        reference_length=reference_length(row, problem, plan),
    )


def read_pddl(row: Row, places: Sequence[Path], texts: dict[Path, str]) -> tuple[str, str, Problem, Path]:
    """Domain text, problem text, the parsed problem and its path. ValueError names what is missing or wrong; ``texts``
    keeps what was read."""
    problem_path = _find(str(row.meta["problem_file"]), places)
    named = row.meta.get("domain_file")
    if named is not None:
        domain_text = _text(_find(str(named), places), texts)
    elif (beside := problem_path.parent / "domain.pddl").is_file():
        domain_text = _text(beside, texts)
    else:
        raise ValueError("has no meta.domain_file, and no domain.pddl lies beside the problem")
    problem_text = _text(problem_path, texts)
    try:
        problem = load_problem(domain_text, problem_text)
    except PddlError as error:
        raise ValueError(f"{problem_path if error.where == 'problem' else named}: {error}") from None
    return domain_text, problem_text, problem, problem_path


def _find(name: str, places: Sequence[Path]) -> Path:
    path = Path(name.replace("\\", "/"))
    candidates = [path] if path.is_absolute() else [place / path for place in places]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ValueError(f"file {name!r} is not there; looked in {', '.join(str(place) for place in places)}")


def _text(path: Path, texts: dict[Path, str]) -> str:
    if path not in texts:
        texts[path] = path.read_bytes().decode("utf-8", "replace")
    return texts[path]


def _stored_plan(problem: Problem, path: Path) -> str | None:
    """The plan that lies beside the problem, if it is one and valid."""
    if not path.is_file():
        return None
    text = path.read_bytes().decode("utf-8", "replace")
    if validate(problem, text, strict=False).valid:
        return text
    _log.warning("%s holds no valid plan; it is not used", path)
    return None


def reference_length(row: Row, problem: Problem, plan: str | None) -> int | None:
    """Actions that a good plan has: as the row says, as the stored plan has, as our planner finds; None if unknown."""
    stated = row.meta.get("ref_len")
    if isinstance(stated, int) and not isinstance(stated, bool) and stated >= 0:
        return stated
    if plan is not None:
        return len(parse_plan(plan, "lenient").actions)
    actions = reference_plan(problem, row.domain)
    return None if actions is None else len(actions)


def reference_plan(problem: Problem, domain: str) -> list[tuple[str, ...]] | None:
    """A valid plan by the rules of a built-in domain, else by search within `SOLVER_STATES` states, else None."""
    family = FAMILIES.get(domain)
    if family is not None and not problem.constraints:
        reference = family.refer(problem)
        if reference is not None:
            actions = list(reference.actions)
            if validate(problem, "\n".join(f"({' '.join(action)})" for action in actions)).valid:
                return actions
    return solve(problem, SOLVER_STATES)


def write_rows(path: Path | str, rows: Iterable[Row]) -> None:
    """Writes a data file; what was read comes back unchanged."""
    Path(path).write_text("".join(to_line(row.to_json()) + "\n" for row in rows), encoding="utf-8")


def split_mixed(path: Path | str, out: Path | str) -> dict[str, int]:
    """Splits a JSONL file of several domains by ``meta.scenario`` into a folder; returns rows per domain.

    Raises ValueError for a row without scenario, and where a file would be overwritten.
    """
    source, target = Path(path), Path(out)
    lines: dict[str, list[bytes]] = {}
    for number, line in enumerate(source.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        lines.setdefault(_scenario(line, f"{source.name}:{number}"), []).append(line.rstrip(b"\r"))
    if not lines:
        raise ValueError(f"{source} has no rows; give a JSONL file with one problem per line")
    target.mkdir(parents=True, exist_ok=True)
    for name in lines:
        if (target / f"{name}.jsonl").exists():
            raise ValueError(f"{target / f'{name}.jsonl'} exists already; give an empty folder")
    for name, content in lines.items():
        (target / f"{name}.jsonl").write_bytes(b"\n".join(content) + b"\n")
    return dict(sorted(Counter({name: len(content) for name, content in lines.items()}).items()))


def _scenario(line: bytes, place: str) -> str:
    try:
        row = json.loads(line)
        name = row["meta"]["scenario"]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise ValueError(f"{place}: no JSON object with meta.scenario; repair or remove the line") from None
    is_name = isinstance(name, str) and name and all(c.isalnum() or c in "-_" for c in name)
    if not is_name:
        raise ValueError(f"{place}: scenario {name!r} cannot name a file; use letters, digits, - and _")
    return name
