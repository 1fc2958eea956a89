"""The five built-in planning domains."""

from gradus.tasks.planning.domains import blocksworld, delivery, ferry, grippers, spanner
from gradus.tasks.planning.domains.family import Family, Layout, Reference, Sizes, write_problem

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (blocksworld.FAMILY, ferry.FAMILY, grippers.FAMILY, spanner.FAMILY, delivery.FAMILY)
}

__all__ = ["FAMILIES", "Family", "Layout", "Reference", "Sizes", "write_problem"]
