"""Packages: those below gradus/ with the folders of their data, and the recipes, a folder of their own installed as data."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[*find_namespace_packages(include=["gradus", "gradus.*"]), "gradus.recipes"],
    package_dir={"gradus.recipes": "recipes"},
)
