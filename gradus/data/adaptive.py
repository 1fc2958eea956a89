"""What a curriculum learns from results: success rates, and how they change the mix. Off by default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from gradus.data.schedule import Phase, fraction_at, phase_at
from gradus.difficulty import BUCKETS, Bucket

Mode = Literal["variance", "gate"]
HALF_LIFE_GROUPS = 20
START_RATE = 0.5
GATE_RATE = 0.5
"""Success rate of a bucket that opens the next phase."""
FLOOR = 0.1
"""Part of its scheduled weight that a bucket keeps when all or none of it is solved."""
_PARTS = 10**6


@dataclass(slots=True)
class Progress:
    """Success rates by (domain, bucket), and the phases that each domain has been let into.

    ``variance``: a bucket's weight is multiplied by 0.1 + 4 s(1 - s), so that what is always or never solved shrinks.
    ``gate``: a domain enters the second phase when its easy problems are solved half the time, the third when its
    medium ones are, or when it has been held back for half the length of the phase.
    """

    mode: Mode | None = None
    hold_limit: float = 1.5
    """Longest stay in a phase, as a multiple of its scheduled length."""
    rates: dict[str, float] = field(default_factory=dict)
    gates: dict[str, int] = field(default_factory=dict)
    """Domain to gates passed."""

    def rate(self, domain: str, bucket: Bucket) -> float:
        """Average success rate."""
        return self.rates.get(f"{domain}/{bucket}", START_RATE)

    def observe(self, domain: str, bucket: Bucket, success: float) -> None:
        """Takes one group into the average."""
        kept = 0.5 ** (1 / HALF_LIFE_GROUPS)
        self.rates[f"{domain}/{bucket}"] = kept * self.rate(domain, bucket) + (1 - kept) * success

    def weights(
        self, domain: str, step: int, max_steps: int, schedule: Sequence[Phase]
    ) -> tuple[Fraction, Fraction, Fraction]:
        """Bucket weights of a domain for a step; they sum to 1 exactly."""
        fraction = fraction_at(step, max_steps)
        phase = phase_at(fraction, schedule)
        if self.mode == "gate":
            phase = self._let_in(domain, fraction, phase, schedule)
        planned = schedule[phase].weights
        return self._by_variance(domain, planned) if self.mode == "variance" else planned

    def _by_variance(
        self, domain: str, planned: tuple[Fraction, Fraction, Fraction]
    ) -> tuple[Fraction, Fraction, Fraction]:
        rates = [self.rate(domain, bucket) for bucket in BUCKETS]
        raw = [float(w) * (FLOOR + 4 * rate * (1 - rate)) for w, rate in zip(planned, rates, strict=True)]
        easy, medium = (round(_PARTS * weight / sum(raw)) for weight in raw[:2])
        medium = min(medium, _PARTS - easy)
        return Fraction(easy, _PARTS), Fraction(medium, _PARTS), Fraction(_PARTS - easy - medium, _PARTS)

    def _let_in(self, domain: str, fraction: float, phase: int, schedule: Sequence[Phase]) -> int:
        passed = self.gates.get(domain, 0)
        while passed < phase:
            began = schedule[passed - 1].until if passed else 0.0
            last = began + self.hold_limit * (schedule[passed].until - began)
            is_open = passed >= 2 or self.rate(domain, BUCKETS[passed]) >= GATE_RATE or fraction >= last
            if not is_open:
                break
            passed += 1
        self.gates[domain] = passed
        return min(passed, phase)

    def state(self) -> dict[str, Any]:
        """JSON-able numbers."""
        return {"rates": dict(self.rates), "gates": dict(self.gates)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on where ``state`` was taken."""
        self.rates = {name: float(rate) for name, rate in state["rates"].items()}
        self.gates = {name: int(count) for name, count in state["gates"].items()}
