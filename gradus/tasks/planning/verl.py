"""Planning rows in verl's layout, both ways.

A row holds both PDDL texts, so it can be judged anywhere without the files it came from:
`gradus.integrations.verl.compute_score` does it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gradus.tasks.planning.folder import Loaded, Row, read_row

SOURCE = "gradus/planning/"
_FACTS = ("split", "problem_id", "domain_file", "problem_file", "difficulty", "bucket")


def to_verl(loaded: Iterable[Loaded], split: str = "train") -> list[dict[str, Any]]:
    """Rows with verl's columns. Prompts that were text become one user message; ``extra_info.row`` keeps the row as it
    was, so that the way back loses nothing.

    Example:
        to_verl(load_rows(read_rows(folder).rows, folder))[0]["data_source"]  # "gradus/planning/blocksworld"
    """
    return [_verl_row(entry, index, split) for index, entry in enumerate(loaded)]


def _verl_row(entry: Loaded, index: int, split: str) -> dict[str, Any]:
    row = entry.row
    prompt = [{"role": "user", "content": row.prompt}] if isinstance(row.prompt, str) else row.prompt
    truth = {"domain": entry.domain_text, "problem": entry.problem_text, "ref_len": entry.reference_length}
    facts = {name: str(row.meta.get(name, "")) for name in _FACTS}
    return {
        "data_source": f"{SOURCE}{row.domain}",
        "prompt": [{"role": message["role"], "content": message["content"]} for message in prompt],
        "ability": "planning",
        "reward_model": {"style": "rule", "ground_truth": json.dumps(truth)},
        "extra_info": facts
        | {
            "split": str(row.meta.get("split", split)),
            "index": index,
            "scenario": row.domain,
            "row": json.dumps(row.to_json()),
        },
    }


def from_verl(rows: Sequence[Mapping[str, Any]]) -> list[tuple[Row, dict[str, str]]]:
    """Rows of our layout with their PDDL texts by file name. ValueError names a row that is not one of ours."""
    found = []
    for number, raw in enumerate(rows, start=1):
        source, info = raw.get("data_source"), raw.get("extra_info")
        if not isinstance(source, str) or not source.startswith(SOURCE) or not isinstance(info, Mapping):
            raise ValueError(f"row {number} has data_source={source!r}; expected {SOURCE}<domain> and extra_info")
        try:
            truth = json.loads(raw["reward_model"]["ground_truth"])
            row = read_row(json.loads(info["row"]) if info.get("row") else _rebuilt(raw, info), source, f"row {number}")
            texts = {str(row.meta["problem_file"]): truth["problem"]}
            texts[str(row.meta.get("domain_file") or "domain.pddl")] = truth["domain"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"row {number}: {error!r}; it is not a row that gradus wrote") from None
        found.append((row, texts))
    return found


def _rebuilt(raw: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, Any]:
    """A row of ours from verl's columns alone."""
    meta = {name: info[name] for name in (*_FACTS, "scenario") if info.get(name) not in (None, "")}
    return {"prompt": [dict(message) for message in raw["prompt"]], "meta": meta}
