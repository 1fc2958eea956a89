"""What verl logs and records → groups and metrics as of a native run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradus.algo.presets import resolve_algorithm
from gradus.config import Config
from gradus.train.backends.scoring import scored
from gradus.train.session import Session
from gradus.types import Completion, Group, Problem

THEIR_NAMES = {
    "actor/pg_loss": "loss",
    "actor/grad_norm": "grad_norm",
    "actor/kl_loss": "kl",
    "actor/pg_clipfrac": "clip_ratio/region_mean",
    "rollout_corr/k3_kl": "sampling/mismatch_kl",
    "timing_s/gen": "time/rollout_seconds",
    "timing_s/update_actor": "time/update_seconds",
}
"""What verl logs of a step, and what we call it. All that concerns rewards is computed from the completions."""
PADDING = "pad"
"""How the ids of verl's rows begin that stand for completions that failed."""
TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What is known of one of verl's steps.

    Example:
        Read(logged={"actor/pg_loss": 0.1}, rows=[{"uid": "5f_0_0", "gts": "{...}", "output": "...", "score": 1.0}], samples=[])
    """

    logged: Mapping[str, Any]
    """Its metrics."""
    rows: Sequence[Mapping[str, Any]]
    """Its completions as it records them: texts."""
    samples: Sequence[Mapping[str, Any]]
    """The same from gradus' own server, with tokens; empty where another one samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Groups of a batch.

    Example:
        Found(groups=[group, ...], mismatch_frac=0.0, num_dropped=0)
    """

    groups: list[Group]
    """In the order of the plan."""
    mismatch_frac: float
    """Share of completions that have another score in verl."""
    num_dropped: int
    """Planned groups that verl did not train on as they were planned: a completion failed in sampling or scoring."""


def groups_of(read: Read, planned: Sequence[Problem], session: Session) -> Found:
    """verl's completions as the groups of the plan, scored again.

    AssertionError where verl trained on other problems than planned.
    """
    size = session.config.sampling.group_size
    by_uid: dict[str, list[Mapping[str, Any]]] = {}
    for row in read.rows:
        if not str(row["uid"]).startswith(PADDING):
            by_uid.setdefault(str(row["uid"]).rsplit("_", 2)[0], []).append(row)
    waiting: dict[str, list[list[Mapping[str, Any]]]] = {}
    for rows in by_uid.values():
        waiting.setdefault(json.loads(rows[0]["gts"])["id"], []).append(rows)
    tokens = _tokens(read.samples)
    groups, num_other, num_dropped = [], 0, 0
    for problem in planned:
        several = waiting.get(problem.id)
        rows = several.pop(0) if several else []
        if len(rows) != size:
            num_dropped += 1
            continue
        said = [_completion(row, problem, tokens, session) for row in rows]
        order = sorted(range(size), key=lambda place: (said[place][1], place))
        rows, completions = [rows[place] for place in order], tuple(said[place][0] for place in order)
        scores = tuple(scored(session.problems.tasks[problem.task], problem, one) for one in completions)
        for row, score in zip(rows, scores, strict=True):
            num_other += score.is_usable and abs(score.reward - float(row["score"])) > TOLERANCE
        groups.append(
            Group(
                problem=problem,
                prompt_tokens=session.state.policy.prompt_tokens(problem.messages),
                completions=completions,
                scores=scores,
            )
        )
    left = [name for name, several in waiting.items() if several]
    assert not left, f"verl trained on problems that were not planned for this step: {left[:3]}"
    return Found(groups=groups, mismatch_frac=num_other / max(1, size * len(groups)), num_dropped=num_dropped)


def _tokens(samples: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """The server's completions by problem and text; equal texts wait in line."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for sample in samples:
        found.setdefault((sample["problem_id"], sample["text"]), []).append(sample)
    return found


def _completion(
    row: Mapping[str, Any], problem: Problem, tokens: dict[tuple[str, str], list[Mapping[str, Any]]], session: Session
) -> tuple[Completion, int]:
    """(completion, its place in the group of a native run). verl records texts. Tokens and place are the server's where it
    is ours; else tokens are those that the tokenizer makes of the text, what is as long as allowed counts as cut off, and
    the place is verl's."""
    policy, limit = session.state.policy, session.config.sampling.max_tokens
    text, step = str(row["output"]), session.state.step
    if waiting := tokens.get((problem.id, text)):
        sample = waiting.pop(0)
        known = Completion(
            text=text, tokens=tuple(sample["tokens"]), logprobs=tuple(sample["logprobs"]), finish=sample["finish"],
            policy_step=step,
        )  # fmt: skip
        return known, sample["sample"]
    found = tuple(policy.tokenizer(text, add_special_tokens=False)["input_ids"])  # type: ignore[arg-type]
    finish = "length" if len(found) >= limit else "stop"
    return Completion(text=text, tokens=found, logprobs=(), finish=finish, policy_step=step), 0


def metrics_of(read: Read, config: Config) -> dict[str, float]:
    """verl's numbers of an update under our names; all that has none keeps its own below ``backend/``."""
    logged = read.logged
    row = {ours: float(logged[theirs]) for theirs, ours in THEIR_NAMES.items() if theirs in logged}
    row["train/skipped"] = 0.0 if math.isfinite(row.get("grad_norm", math.nan)) else 1.0
    entropy = logged.get("actor/entropy")
    if entropy is not None:
        scale = 1.0
        if (
            resolve_algorithm(config.algorithm).aggregate == "fixed"
        ):  # a sum over tokens, divided by the longest allowed
            scale = config.sampling.max_tokens / max(1.0, float(logged.get("response_length/mean", 1.0)))
        row["entropy"] = float(entropy) * scale
    if not read.samples:
        for name in ("mean", "min", "max"):
            if (value := logged.get(f"response_length/{name}")) is not None:
                row[f"completions/{name}_length"] = float(value)
        is_cut = logged.get("response_length/max") == config.sampling.max_tokens
        row["completions/clipped_ratio"] = float(logged.get("response_length/clip_ratio", 0.0)) if is_cut else 0.0
    padded = [row for row in read.rows if str(row["uid"]).startswith(PADDING)]
    row["backend/padded_frac"] = len(padded) / max(1, len(read.rows))
    if (seconds := row.get("time/rollout_seconds")) and (count := logged.get("perf/total_num_tokens")):
        row["time/tokens_per_second"] = float(count) / seconds
    return row
