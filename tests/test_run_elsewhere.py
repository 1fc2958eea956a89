"""A run directory that was copied, zipped and unpacked elsewhere (I-15): reading it gives the same, going on the same bits."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gradus import verbs
from gradus.report import html
from gradus.report import rollouts as recorded
from gradus.report.directory import RunFacts
from gradus.report.page import Page
from tests.command_line import call, only_json
from tests.train import runs


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders that each hold `run`: where it was trained, and where its zip file was unpacked."""
    home, away = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("away")
    runs.run(runs.config_of(runs.tiny(home)), home)
    packed = shutil.make_archive(str(away / "packed"), "zip", home, "run")
    shutil.unpack_archive(packed, away)
    return home, away


def test_reading_a_moved_run_gives_the_same(places: tuple[Path, Path]) -> None:
    home, away = (place / "run" for place in places)
    pages = [html.render(Page.of(RunFacts.of(path), max_rollouts=100)) for path in (home, away)]
    assert pages[0] == pages[1]
    assert (found := recorded.read(away).rows) == recorded.read(home).rows
    assert found
    said = [verbs.compare(f"{path}@base", f"{path}@4").sentence for path in (home, away)]
    assert said[0] == said[1]


def test_a_moved_run_goes_on_with_the_same_bits(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    home, away = places
    for place in places:
        monkeypatch.chdir(place)
        code, out, err = call(capfd, "train", "run", "num_steps=5", "--json")
        assert code == 0 and only_json(out)["action"] == "resume", err
    assert runs.bits(home, 5) == runs.bits(away, 5)
    assert not [path for path in away.rglob("*.json*") if str(home / "run") in path.read_text()], "no way leads back"
