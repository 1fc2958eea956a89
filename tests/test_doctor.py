"""`gradus doctor`: what it finds, what makes it say no, and that it leaves nothing behind."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gradus import doctor, durable
from gradus.cli import main as cli
from gradus.train.backends.verl_place import PACKAGES
from gradus.train.backends.verl_settings import VERSION

ROOT = Path(__file__).parent.parent


def test_a_fit_machine_is_said_to_be_one_and_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("GRADUS_RUNS_DIR", str(tmp_path / "not" / "there"))
    assert cli.run(["--json", "doctor"]) == 0
    found = json.loads(capfd.readouterr().out)
    states = {one["name"]: one["state"] for one in found["findings"]}
    assert found["ok"] and states["disk"] in ("ok", "warn") and states["python"] == "ok"
    assert not list(tmp_path.iterdir())


def test_a_disk_that_copies_folders_or_cannot_be_written_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(folder: Path) -> None:
        raise ValueError("renaming a folder copies it here")

    monkeypatch.setattr(durable, "check_renames", refuse)
    findings = doctor.examine(tmp_path)
    (disk,) = [one for one in findings if one.name == "disk"]
    assert disk.state == "fail" and "GRADUS_RUNS_DIR" in disk.text and not doctor.is_fit(findings)


def test_a_missing_extra_is_a_note_and_a_missing_core_package_is_not(monkeypatch: pytest.MonkeyPatch):
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in ("trl", "rich") else real(name))
    found = {(one.name, one.state) for one in doctor._versions()}
    assert ("gradus[trl]", "note") in found and ("gradus", "fail") in found


def test_other_versions_than_the_tested_ones_are_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "tested_versions", lambda: {"numpy": "0.1"})
    (numpy,) = [one for one in doctor._versions() if one.state == "warn"]
    assert re.search(r"numpy \S+ \(tested: 0\.1\)", numpy.text)


def test_the_tested_versions_are_those_of_the_constraints():
    pinned = dict(
        line.strip().lower().replace("_", "-").split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    )
    tested = doctor.tested_versions()
    assert set(tested) == {*doctor.CORE, *(name for names in doctor.EXTRAS.values() for name in names)}
    assert tested == {name: pinned[name] for name in tested}


def test_a_validator_that_is_no_program_is_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("GRADUS_VALIDATE", str(tmp_path))
    assert doctor._validator().state in ("ok", "warn")
    monkeypatch.setenv("GRADUS_VALIDATE", str(tmp_path / "none"))
    assert doctor._validator().state == "warn"


def test_verl_is_looked_for_where_it_lives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("GRADUS_VERL_PYTHON", str(tmp_path / "python"))
    found = doctor._verl()
    assert found.state == "note" and "is no program" in found.text
    answer = {
        "versions": {**dict.fromkeys(PACKAGES, "1.0"), "transformers": "5.10.4", "flash-attn": None, "verl": VERSION}
    }
    (tmp_path / "python").write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    (tmp_path / "python").chmod(0o755)
    found = doctor._verl()
    assert found.state == "ok" and str(tmp_path) in found.text
