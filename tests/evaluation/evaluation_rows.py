"""Rows of small made-up evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def made_rows(num_correct: Sequence[int], num_samples: int = 1, **fields: Any) -> list[dict[str, Any]]:
    """One problem per entry of ``num_correct``, its first so many completions right; ``fields`` replace or add keys."""
    return [
        {
            "problem_id": f"made/{i:04}",
            "domain": "even" if i % 2 == 0 else "odd",
            "difficulty": i / max(1, len(num_correct)),
            "bucket": None,
            "cluster": None,
            "sample": j,
            "prompt": f"question {i}",
            "completion": f"answer {j}",
            "reward": float(j < count),
            "parts": {"value": float(j < count)},
            "correct": j < count,
            "status": "scored",
            "why": "correct" if j < count else "wrong_value",
            "num_tokens": 10 + j,
            "finish": "stop",
            "mean_nll": 0.25,
            **fields,
        }
        for i, count in enumerate(num_correct)
        for j in range(num_samples)
    ]
