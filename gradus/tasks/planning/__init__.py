"""PDDL planning: a reader, an exact plan checker, five domains with generators and reference plans, and the task."""

from gradus.tasks.planning.cache import load_problem
from gradus.tasks.planning.limits import PddlError
from gradus.tasks.planning.pddl import Domain, Problem
from gradus.tasks.planning.validate import Verdict, validate, validate_many, validate_texts

__all__ = ["Domain", "PddlError", "Problem", "Verdict", "load_problem", "validate", "validate_many", "validate_texts"]
