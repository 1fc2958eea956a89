"""Writes gradus/train/backends/verl_keys.txt: which settings each release of verl knows, by their names alone.

    python docs/make_verl_keys.py 0.8=FOLDER 0.9=FOLDER

FOLDER holds the package `verl` of that release (a wheel, unpacked). Needs hydra-core; releases that are not named keep
what the file says of them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir  # pyright: ignore[reportMissingImports]

FILE = Path(__file__).resolve().parent.parent / "gradus/train/backends/verl_keys.txt"
HEAD = """\
# The names of verl's settings (github.com/verl-project/verl, trainer/config/ppo_trainer.yaml, composed), with the releases
# that know them. Written by `python docs/make_verl_keys.py`; read by gradus/train/backends/verl_keys.py.
"""


def names(tree: Any, before: str = "") -> Iterator[str]:
    """Every key and group of keys below ``tree``."""
    for key in tree:
        yield f"{before}{key}"
        child = tree._get_node(key)
        if hasattr(child, "keys"):
            yield from names(child, f"{before}{key}.")


def read() -> dict[str, set[str]]:
    """Key to releases, as the file has them."""
    lines = FILE.read_text(encoding="utf-8").splitlines() if FILE.is_file() else []
    return {line.split()[0]: set(line.split()[1:]) for line in lines if line and not line.startswith("#")}


def with_release(known: Mapping[str, set[str]], release: str, folder: Path) -> dict[str, set[str]]:
    """What the file knows, and a release as its folder has it."""
    found = {key: releases - {release} for key, releases in known.items()}
    with initialize_config_dir(str(folder.resolve() / "verl/trainer/config"), version_base=None):
        for key in names(compose("ppo_trainer")):
            found.setdefault(key, set()).add(release)
    return {key: releases for key, releases in found.items() if releases}


def main() -> None:
    known = read()
    for argument in sys.argv[1:]:
        release, _, folder = argument.partition("=")
        known = with_release(known, release, Path(folder))
    lines = [" ".join([key, *sorted(known[key])]) for key in sorted(known)]
    FILE.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
