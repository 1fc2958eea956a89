"""Single problems of a comparison: how many were gained and lost, which ones, and completions to read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradus.evaluation.pairs import Pair
from gradus.evaluation.table import Row

NUM_LISTED = 20
NUM_READ = 10
MAX_TEXT = 4000
"""Characters of a prompt or completion that a comparison carries."""


def words(pair: Pair) -> tuple[str, str]:
    """What a problem that went up, and one that went down, is called."""
    return ("fixed", "broken") if pair.lattice == 1 else ("improved", "worsened")


def counts(pair: Pair) -> dict[str, int]:
    """Problems that went up, went down, are solved by every completion of both models, by none, and, with several
    completions, as often as before but not always."""
    before, after = pair.base.solve_rates_P, pair.trained.solve_rates_P
    up, down = words(pair)
    between = {} if pair.lattice == 1 else {"unchanged": int(np.sum((before == after) & (before > 0) & (before < 1)))}
    return {
        up: int(np.sum(after > before)),
        down: int(np.sum(after < before)),
        "both_right": int(np.sum((before == 1) & (after == 1))),
        "both_wrong": int(np.sum((before == 0) & (after == 0))),
        **between,
    }


def changes(pair: Pair) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns the problems with the largest gains and those with the largest losses, at most 20 each, ties by id."""
    entries = [
        {
            "problem_id": i,
            "domain": rows[0].get("domain"),
            "base": float(b),
            "trained": float(t),
            "difference": float(t - b),
        }
        for i, rows, b, t in zip(
            pair.base.problem_ids, pair.base.rows_PK, pair.base.solve_rates_P, pair.trained.solve_rates_P, strict=True
        )
    ]
    gained = sorted((e for e in entries if e["difference"] > 0), key=lambda e: (-e["difference"], e["problem_id"]))
    lost = sorted((e for e in entries if e["difference"] < 0), key=lambda e: (e["difference"], e["problem_id"]))
    return gained[:NUM_LISTED], lost[:NUM_LISTED]


def solve_rates(pair: Pair) -> dict[str, Any]:
    """How many problems have c right completions, before, after, and as pairs [c_base, c_trained, problems]."""
    before, after = (table.num_correct_P.astype(int) for table in pair.tables)
    joint = Counter(zip(before.tolist(), after.tolist(), strict=True))
    return {
        "base": np.bincount(before, minlength=pair.base.num_samples + 1).tolist(),
        "trained": np.bincount(after, minlength=pair.trained.num_samples + 1).tolist(),
        "joint": [[b, t, count] for (b, t), count in sorted(joint.items())],
    }


def samples(pair: Pair, gained: Sequence[dict[str, Any]], lost: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Completions to read: of problems gained, of problems lost, and of some of all problems, evenly spaced by id."""
    ids = pair.base.problem_ids
    place = {problem_id: index for index, problem_id in enumerate(ids)}
    chosen = [("gained", entry["problem_id"]) for entry in gained[:NUM_READ]]
    chosen += [("lost", entry["problem_id"]) for entry in lost[:NUM_READ]]
    chosen += [("any", problem_id) for problem_id in ids[:: max(1, len(ids) // NUM_READ)][:NUM_READ]]
    return [
        {"kind": kind, "problem_id": i, **_texts(pair.base.rows_PK[place[i]], pair.trained.rows_PK[place[i]], kind)}
        for kind, i in chosen
    ]


def _texts(base: Sequence[Row], trained: Sequence[Row], kind: str) -> dict[str, Any]:
    """A gained problem is shown by a wrong completion before and a right one after, a lost one the other way round."""
    before, after = {"gained": (False, True), "lost": (True, False)}.get(kind, (None, None))
    prompt = str(base[0].get("prompt", ""))[:MAX_TEXT]
    return {"prompt": prompt, "base": _pick(base, before), "trained": _pick(trained, after)}


def _pick(rows: Sequence[Row], is_correct: bool | None) -> dict[str, Any]:
    row = next((row for row in rows if is_correct in (None, bool(row["correct"]))), rows[0])
    facts = {key: row.get(key) for key in ("sample", "reward", "correct", "why")}
    return {"completion": str(row.get("completion", ""))[:MAX_TEXT], **facts}
