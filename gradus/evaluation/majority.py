"""maj@k: how often the answer that most of k completions give is right.

Completions vote with what they answer, not with their words: the task reads the answer out of the text. A completion
without an answer casts no vote. Of answers with equally many votes one is drawn, so a tie counts the share of the tied
answers that are right.

Shape suffixes: ``P`` problems, ``K`` completions of one problem, ``S`` choices of k of them, ``A`` answers.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from functools import lru_cache
from itertools import combinations, islice

import numpy as np

from gradus.evaluation.stats import Floats
from gradus.evaluation.table import Table

MAX_SUBSETS = 10_000
"""Up to so many choices of k among K completions all are counted; beyond, ``NUM_DRAWN`` seeded ones are."""
NUM_DRAWN = 2_000
NO_ANSWERS = "the task reads no answers to vote on"

_Votes = tuple[tuple[int, int], ...]
"""Votes of each answer and how many of these completions are right, in descending order; what casts none is left out."""


def has_answers(table: Table) -> bool:
    """Whether any completion has an answer that could be voted for."""
    return any(row.get("answer") is not None for rows in table.rows_PK for row in rows)


def majority_at_k(table: Table, k: int) -> Floats:
    """maj@k of each problem; ValueError where ``k`` is not in 1 to K."""
    if not 1 <= k <= table.num_samples:
        raise ValueError(f"maj@{k} needs at least {k} completions per problem, there are {table.num_samples}")
    return np.array([
        majority([row.get("answer") for row in rows], [bool(row["correct"]) for row in rows], k)
        for rows in table.rows_PK
    ])  # fmt: skip


def majority(answers_K: Sequence[Hashable | None], correct_K: Sequence[bool], k: int) -> float:
    """Mean over choices of ``k`` completions: is the answer with most votes right?

    Args:
        answers_K: what each completion answers; None casts no vote.
        correct_K: whether each is right.
        k: voters, in 1 to K.

    Example:
        majority(["18", "18", "9"], [True, True, False], 3)  # 1.0
    """
    votes: dict[Hashable, tuple[int, int]] = {}
    for answer, is_right in zip(answers_K, correct_K, strict=True):
        if answer is not None:
            count, right = votes.get(answer, (0, 0))
            votes[answer] = (count + 1, right + is_right)
    return _majority(tuple(sorted(votes.values(), reverse=True)), len(answers_K), k)


@lru_cache(maxsize=65_536)
def _majority(votes: _Votes, num_samples: int, k: int) -> float:
    """By the votes alone: problems with the same ones share the work."""
    if not votes:
        return 0.0
    counts = [count for count, _ in votes]
    rightness = np.array([right / count for count, right in votes])
    owner_K = np.full(num_samples, len(votes))  # the last place is for those that cast no vote
    owner_K[: sum(counts)] = np.repeat(np.arange(len(votes)), counts)
    total, cast = 0.0, 0
    for chosen_Sk in _choices(num_samples, k):
        ballots = owner_K[np.array(chosen_Sk)]
        votes_SA = np.stack([(ballots == answer).sum(axis=1) for answer in range(len(votes))], axis=1)
        is_first = (votes_SA == votes_SA.max(axis=1, keepdims=True)) & (votes_SA > 0)
        num_first = is_first.sum(axis=1)
        total += float(((is_first * rightness).sum(axis=1) / np.maximum(num_first, 1)).sum())
        cast += len(chosen_Sk)
    return total / cast


def _choices(num_samples: int, k: int) -> Iterator[Sequence[Sequence[int]]]:
    """Index lists of k of K, in pieces: all of them, or seeded ones where they are too many."""
    if math.comb(num_samples, k) <= MAX_SUBSETS:
        every = combinations(range(num_samples), k)
        while piece := list(islice(every, 2_000)):
            yield piece
    else:
        draws = np.random.default_rng(0).random((NUM_DRAWN, num_samples))
        yield np.argsort(draws, axis=1, kind="stable")[:, :k].tolist()
