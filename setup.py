"""Packages: those below gradus/, and the recipes, which live in a folder of their own and are installed as data."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["gradus", "gradus.*"]), "gradus.recipes"],
    package_dir={"gradus.recipes": "recipes"},
)
