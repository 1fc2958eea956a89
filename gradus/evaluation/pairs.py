"""Two evaluations of the same problems: what they must share, and one line of a comparison table.

Shape suffix: ``P`` problems, in the same order for both models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gradus.evaluation.paired import DETECT, paired_interval, sign_flip
from gradus.evaluation.stats import Clusters, Estimate, Floats, share_interval, standard_error
from gradus.evaluation.table import Table

MUST_MATCH = (
    *("problems_sha256", "template_sha256", "scorer_sha256"),
    *("temperature", "top_p", "max_tokens", "seed", "split", "samples_per_problem"),
)
"""Settings in which two comparable evaluations agree."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One quantity of both models with its paired difference.

    Example:
        Line(key="pass_at_1", name="Pass@1", unit="share", base=b, trained=t, difference=d, p=1.1e-4)
    """

    key: str
    name: str
    unit: str
    """``share`` is shown as a percentage, its difference in percentage points."""
    base: Estimate
    trained: Estimate
    difference: Estimate
    p: float | None = None
    """Two-sided p-value of "no difference"; None where nothing was tested."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Facts that only some tables have."""

    @property
    def label(self) -> str:
        """The name, with its unit where the numbers do not show it: ``Token entropy (nats/token)``."""
        return f"{self.name} ({self.unit})" if "/" in self.unit else self.name

    def to_json(self) -> dict[str, Any]:
        """Strict JSON."""
        estimates = {k: getattr(self, k).to_json() for k in ("base", "trained", "difference")}
        return {"key": self.key, "name": self.name, "unit": self.unit, "p": self.p, **estimates, **self.extra}


@dataclass(frozen=True)
class Pair:
    """Two tables of the same problems in the same order."""

    base: Table
    trained: Table

    @property
    def tables(self) -> tuple[Table, Table]:
        """Base, trained."""
        return self.base, self.trained

    @property
    def clusters(self) -> Clusters:
        """Cluster label per problem, or None."""
        return self.base.clusters

    @property
    def lattice(self) -> int:
        """Differences of solve rates are multiples of one over this."""
        return math.lcm(self.base.num_samples, self.trained.num_samples)

    def share_line(self, key: str, name: str, base_P: Floats, trained_P: Floats) -> Line:
        """Line of a quantity that is a share of the completions of each problem."""
        base, trained = (
            share_interval(values, table.num_samples, self.clusters)
            for values, table in zip((base_P, trained_P), self.tables, strict=True)
        )
        return self.line(key, name, "share", base, trained, trained_P - base_P, lattice=self.lattice)

    def line(
        self,
        key: str,
        name: str,
        unit: str,
        base: Estimate,
        trained: Estimate,
        d_P: Floats,
        *,
        lattice: int | None = None,
    ) -> Line:
        """Line of a quantity from its estimates and its difference per problem. A ``share`` moves between -1 and 1."""
        return Line(
            key=key,
            name=name,
            unit=unit,
            base=base,
            trained=trained,
            difference=paired_interval(d_P, self.clusters, bounds=(-1.0, 1.0) if unit == "share" else None),
            p=sign_flip(d_P, self.clusters, lattice=lattice) if len(d_P) > 1 else None,
        )


def power(base_P: Floats, trained_P: Floats, difference: Estimate) -> dict[str, Any]:
    """The smallest difference that these problems can show, and what pairing them was worth."""
    used = difference.se if difference.se_clustered is None else difference.se_clustered
    base, trained, paired = (standard_error(values) for values in (base_P, trained_P, trained_P - base_P))
    facts: dict[str, Any] = {
        "detectable_difference": DETECT * used if used else None,
        "correlation": None,
        "unpaired_se": None,
    }
    if base is not None and trained is not None and paired is not None:
        facts["unpaired_se"] = math.hypot(base, trained)
        if base > 0 and trained > 0:
            facts["correlation"] = (base**2 + trained**2 - paired**2) / (2 * base * trained)
    return facts


def mismatches(pair: Pair, base_settings: Mapping[str, Any], trained_settings: Mapping[str, Any]) -> list[str]:
    """Everything but the model in which the two evaluations differ, in words."""
    found, (base, trained) = [], pair.tables
    base_ids, trained_ids = set(base.problem_ids), set(trained.problem_ids)
    for name, missing in (("trained", base_ids - trained_ids), ("base", trained_ids - base_ids)):
        if missing:
            found.append(f"problems: {len(missing)} missing in {name} (first {min(missing)!r})")
    if base.num_samples != trained.num_samples:
        found.append(f"samples_per_problem: base {base.num_samples}, trained {trained.num_samples}")
    before, after = (
        {str(rows[0]["problem_id"]): rows[0].get("prompt") for rows in table.rows_PK} for table in pair.tables
    )
    differing = sorted(i for i in base_ids & trained_ids if before[i] != after[i])
    if differing:
        found.append(f"prompts: {len(differing)} differ (first {differing[0]!r})")
    for key in MUST_MATCH:
        if key in base_settings and key in trained_settings and base_settings[key] != trained_settings[key]:
            found.append(f"{key}: base {base_settings[key]!r}, trained {trained_settings[key]!r}")
    return found
