"""Problems of economic decisions from the files that `gradus prepare economy` writes, checked before any is used."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gradus.data.sources import Source
from gradus.tasks.economy.archive import Archive
from gradus.tasks.economy.contexts import split_of
from gradus.tasks.economy.errors import DataError, LeakageError
from gradus.tasks.economy.facts import FIELDS
from gradus.tasks.economy.memory import FEATURES, Memory
from gradus.tasks.economy.options import EconomyTaskConfig
from gradus.tasks.economy.reward import SOURCE
from gradus.tasks.economy.seed_reward import SOURCE as SEED_SOURCE
from gradus.tasks.economy.values import Values
from gradus.types import SPLITS, Message, Problem, Split

_SHAPING = ("prompt", "lang", "few_shot", "without_examples", "envelope")
"""Options that are written into the rows."""
_VALUES = ("value_table", "j_random", "j_oracle", "oracle_work", "oracle_consumption")
_ENDINGS = ("jsonl", "parquet")


def flat_columns(problem: Problem, reward: str) -> dict[str, Any]:
    """What is known of a context, one column each, and the fields of the original reward as ``extra_info``; a field that
    this context lacks is null there. With ``reward="seed"`` the data source is the one that the original pays for."""
    truth, meta = problem.truth, problem.meta
    facts = truth["extra_info"]
    return {
        "data_source": SEED_SOURCE if reward == "seed" else SOURCE,
        "ability": "economic_decision",
        **{name: truth[name] for name in ("snapshot_id", "economy_seed", "month", "household")},
        **{name: meta[name] for name in ("lang", "context_id", "regime_seed", "few_shot_ids")},
        "regime": problem.domain,
        "worked": truth["state"]["worked"],
        "wealth_tercile": truth["state"]["wealth_tercile"],
        **{f"feature_{name}": meta["features"][name] for name in FEATURES},
        **{name: truth[name] for name in _VALUES},
        "prompt_tokens": meta.get("prompt_tokens"),
        "extra_info": {name: facts.get(name) for name in FIELDS},
    }


def read_problems(source: str, split: Split) -> Iterator[Problem]:
    """Yields the rows of a split. DataError for a row that cannot be scored, LeakageError for an economy of another
    split."""
    for row in Source(source).rows(split, need=("id", "messages", "truth", "domain", "difficulty", "meta")):
        yield _problem(row.fields, split)


def options_that_differ(source: str, options: Mapping[str, Any]) -> list[str]:
    """Names of the options, of those written into the rows, with which the folder was not prepared. ValueError for a
    folder without manifest."""
    manifest = Path(source) / "manifest.json"
    if not manifest.is_file():
        raise ValueError(
            f"source={source!r} has no manifest.json; write it with: gradus prepare economy --out {source}"
        )
    made = EconomyTaskConfig().model_dump() | json.loads(manifest.read_text(encoding="utf-8")).get("options", {})
    return [name for name in _SHAPING if made[name] != options[name]]


def read_memory(source: str) -> Memory | None:
    """The memory of good decisions of a prepared folder; None where it has none. LeakageError for a row of an economy
    that is no training economy."""
    paths = [path for ending in _ENDINGS if (path := Path(source) / f"memory.{ending}").is_file()]
    if not paths:
        return None
    return Memory.of([dict(row.fields) for row in Source(str(paths[0])).rows("train")])


def snapshots_file(split: str) -> str:
    """Name of the file of a split's snapshots."""
    return f"snapshots-{split}.npz"


def read_snapshots(source: str, split: str) -> Archive | None:
    """The snapshots of a prepared folder; None where it has none. SnapshotError for a file that is something else."""
    path = Path(source) / snapshots_file(split)
    return Archive.load(path) if path.is_file() else None


def _problem(fields: Mapping[str, Any], split: Split) -> Problem:
    name = str(fields["id"])
    truth, meta = (json.loads(v) if isinstance(v := fields[key], str) else dict(v) for key in ("truth", "meta"))
    if truth.get("data_source") != SOURCE:
        raise DataError(f"{name}: data_source={truth.get('data_source')!r}; rows of {SOURCE!r} are needed")
    Values.from_row(truth, name)
    seed = truth.get("economy_seed")
    if seed is None or split_of(int(seed)) != split:
        home = None if seed is None else split_of(int(seed))
        raise LeakageError(
            f"{name}: economy {seed} belongs to {home or 'no split'}, and stands in {split}; there are {SPLITS}"
        )
    messages = tuple(Message(role=one["role"], content=one["content"]) for one in fields["messages"])
    return Problem(
        id=name,
        task="economy",
        messages=messages,
        truth=truth,
        domain=str(fields["domain"]),
        difficulty=float(fields["difficulty"]),
        meta=meta,
    )
