"""Two plans in each domain as a person writes them, one right and one wrong, with the whole message that comes back."""

from __future__ import annotations

import pytest

from gradus.tasks.planning import validate_texts
from gradus.tasks.planning.domains import FAMILIES

PROBLEMS = {
    "blocksworld": """(define (problem hand) (:domain blocksworld) (:objects red green blue)
        (:init (arm-empty) (on-table green) (on red green) (clear red) (on-table blue) (clear blue))
        (:goal (and (on green red) (on red blue))))""",
    "ferry": """(define (problem hand) (:domain ferry) (:objects east west north beetle jeep)
        (:init (location east) (location west) (location north) (car beetle) (car jeep) (empty-ferry)
          (not-eq east west) (not-eq west east) (not-eq east north) (not-eq north east) (not-eq west north)
          (not-eq north west) (at beetle west) (at jeep north) (at-ferry east))
        (:goal (and (at beetle east) (at jeep west))))""",
    "grippers": """(define (problem hand) (:domain gripper-strips)
        (:objects rob - robot left right - gripper kitchen hall - room tennis golf - ball)
        (:init (at-robby rob hall) (free rob left) (free rob right) (at tennis kitchen) (at golf kitchen))
        (:goal (and (at tennis hall) (at golf hall))))""",
    "spanner": """(define (problem hand) (:domain spanner)
        (:objects ann - man big small - spanner n1 n2 - nut shed path gate - location)
        (:init (at ann shed) (at big path) (at small path) (useable big) (useable small) (at n1 gate) (at n2 gate)
          (loose n1) (loose n2) (link shed path) (link path gate))
        (:goal (and (tightened n1) (tightened n2))))""",
    "delivery": """(define (problem hand) (:domain delivery)
        (:objects van - truck letter crate - package home mill shop - cell)
        (:init (at van home) (empty van) (at letter mill) (at crate home) (adjacent home mill) (adjacent mill home)
          (adjacent mill shop) (adjacent shop mill))
        (:goal (and (at letter shop) (at crate shop))))""",
}
"""A tower to turn over; two cars, three shores; two balls, two hands; two nuts behind a one-way path; three cells."""


@pytest.mark.parametrize(
    ("domain", "plan", "status", "step", "message"),
    [
        ("blocksworld", "(unstack red green) (stack red blue) (pickup green) (stack green red)", "valid", None,
         "valid: the goal holds after 4 actions"),
        ("blocksworld", "(unstack red green) (pickup blue)", "precondition", 2,
         "action 2 (pickup blue) cannot be executed: (arm-empty) does not hold"),
        ("ferry", "(sail east west) (board beetle west) (sail west east) (debark beetle east) (sail east north) "
         "(board jeep north) (sail north west) (debark jeep west)", "valid", None,
         "valid: the goal holds after 8 actions"),
        ("ferry", "(sail east west) (board beetle west) (sail west east)", "goal", None,
         "goal not reached after 3 actions: (at beetle east), (at jeep west) do not hold"),
        ("grippers", "(move rob hall kitchen) (pick rob tennis kitchen left) (pick rob golf kitchen right) "
         "(move rob kitchen hall) (drop rob tennis hall left) (drop rob golf hall right)", "valid", None,
         "valid: the goal holds after 6 actions"),
        ("grippers", "(move rob hall kitchen) (pick rob tennis kitchen left) (pick rob golf kitchen left)",
         "precondition", 3, "action 3 (pick rob golf kitchen left) cannot be executed: (free rob left) does not hold"),
        ("spanner", "(walk shed path ann) (pickup_spanner path big ann) (pickup_spanner path small ann) "
         "(walk path gate ann) (tighten_nut gate big ann n1) (tighten_nut gate small ann n2)", "valid", None,
         "valid: the goal holds after 6 actions"),
        ("spanner", "(walk shed path ann) (pickup_spanner path big ann) (walk path gate ann) "
         "(tighten_nut gate big ann n1) (tighten_nut gate big ann n2)", "precondition", 5,
         "action 5 (tighten_nut gate big ann n2) cannot be executed: (useable big) does not hold"),
        ("delivery", "(pick-package van crate home) (move van home mill) (move van mill shop) "
         "(drop-package van crate shop) (move van shop mill) (pick-package van letter mill) (move van mill shop) "
         "(drop-package van letter shop)", "valid", None, "valid: the goal holds after 8 actions"),
        ("delivery", "(pick-package van crate home) (move van home shop) (drop-packet van crate shop)", "malformed", 3,
         "action 3 (drop-packet van crate shop): there is no action 'drop-packet'; did you mean 'drop-package'?"),
    ],
)  # fmt: skip
def test_a_person_gets_the_verdict_that_they_expect(domain, plan, status, step, message):
    verdict = validate_texts(FAMILIES[domain].text, PROBLEMS[domain], plan.replace(") (", ")\n("))
    assert (verdict.status, verdict.step, verdict.message) == (status, step, message)
