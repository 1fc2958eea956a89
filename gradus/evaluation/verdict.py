"""The verdict of a probe: what was measured → train, train with changes, warm up first, harder data, repair.

Rules V1 to V7 in order, the first that holds decides (`verdict_rules.py`); cautions are added to any verdict
(`cautions.py`). Pure functions of numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gradus.evaluation.cautions import cautions
from gradus.evaluation.verdict_rules import LIMITS, Advice, Facts, Verdict, first_rule
from gradus.exits import Code

__all__ = ["LIMITS", "MEANING", "Advice", "Facts", "Judgement", "Verdict", "judge"]

MEANING: Mapping[Verdict, str] = {
    "GO": "train: enough groups hold right and wrong answers, and only those teach",
    "GO_WITH_CHANGES": "training would work, but most groups teach nothing; change what is advised first",
    "SFT_FIRST": "the model almost never succeeds, so there is nothing to reinforce; warm it up first",
    "HARDER_DATA": "the model solves these problems already; there is nothing left to learn from them",
    "NO_GO": "do not train yet: what is measured is not the model",
}
"""For someone who sees a verdict for the first time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict with its reasons, what to do, and what else to look at.

    Example:
        judge(facts).exit_code  # Code.DONE
    """

    verdict: Verdict
    rule: str
    reasons: tuple[str, ...]
    advice: tuple[Advice, ...]
    cautions: tuple[Advice, ...]

    @property
    def exit_code(self) -> Code:
        """3 where training as configured would be a waste."""
        return Code.DONE if self.verdict in ("GO", "GO_WITH_CHANGES") else Code.ANSWER_IS_NO

    def to_json(self) -> dict[str, Any]:
        """Verdict, reasons, advice (advice proper first, then cautions)."""
        return {
            "verdict": self.verdict,
            "rule": self.rule,
            "meaning": MEANING[self.verdict],
            "reasons": list(self.reasons),
            "advice": [_advice_json(one) for one in self.advice],
            "cautions": [_advice_json(one) for one in self.cautions],
        }


def _advice_json(advice: Advice) -> dict[str, str]:
    return {"code": advice.code, "text": advice.text, "override": advice.override}


def judge(facts: Facts) -> Judgement:
    """The verdict of the first rule that holds, and the cautions."""
    verdict, name, reason, advice = first_rule(facts)
    others = cautions(facts, verdict, name)
    return Judgement(verdict=verdict, rule=name, reasons=(reason,), advice=tuple(advice), cautions=others)
