"""What runs in the computer algebra worker: math-verify, without its timers, which need signals and the main thread.

Imported only there. It is warmed up while it is imported, so that loading counts against no answer's deadline.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from math_verify import parse, verify


def answer(request: Mapping[str, Any]) -> dict[str, bool]:
    """Decides ``{"op": "equal", "gold": ..., "answer": ...}`` in both orders; the only clock is the parent's."""
    gold, answer = _parsed(request["gold"]), _parsed(request["answer"])
    return {"equal": bool(gold and answer and _verified(gold, answer) and _verified(answer, gold))}


def _parsed(text: str) -> list[Any]:
    return parse(rf"\boxed{{{text}}}", parsing_timeout=None, raise_on_error=False)  # type: ignore[arg-type]


def _verified(gold: list[Any], answer: list[Any]) -> bool:
    return verify(gold, answer, strict=True, timeout_seconds=None)


answer({"gold": r"\int_0^1 x dx", "answer": r"\frac{1}{2}"})
