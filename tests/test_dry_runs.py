"""Dry runs of every recipe and backend (I-08), with network, accelerator and every write blocked; what the plan counts."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gradus.recipe import shipped
from tests.command_line import call, only_json

TRAINING = sorted(name for name in shipped() if not name.startswith("sft_"))
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
_FORBIDS = [False]


def _guard(event: str, arguments: tuple) -> None:
    """Stops this process when it changes a file or speaks to a network. Bytecode of a first import is let through."""
    if not _FORBIDS[0]:
        return
    if event in ("socket.connect", "socket.getaddrinfo", "socket.bind"):
        raise AssertionError(f"the network was used: {event} {arguments[1:]}")
    path = str(arguments[0]) if arguments else ""
    if "__pycache__" in path or path == os.devnull:
        return
    if event == "open" and not isinstance(arguments[0], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        raise AssertionError(f"{path} was opened for writing")
    if event in CHANGES:
        raise AssertionError(f"{event} of {path}")


sys.addaudithook(_guard)


@contextmanager
def blocked() -> Iterator[None]:
    """What a dry run must not touch cannot be touched."""
    _FORBIDS[0] = True
    try:
        yield
    finally:
        _FORBIDS[0] = False


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, empty before and after; no accelerator can be started."""
    import torch

    def accelerator(*_: object) -> None:
        raise AssertionError("an accelerator was used")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "_lazy_init", accelerator)
    yield tmp_path
    assert not list(tmp_path.iterdir()) and "GRADUS_OFFLINE" not in os.environ


@pytest.mark.parametrize("name", sorted(shipped()))
@pytest.mark.parametrize("verb", ["train", "sft", "evaluate", "probe"])
def test_a_dry_run_needs_no_network_and_writes_nothing(
    verb: str, name: str, empty: Path, capfd: pytest.CaptureFixture[str]
):
    arguments = [verb, name] if verb != "evaluate" else [verb, "nano/countdown", "--recipe", name]
    with blocked():
        code, out, err = call(capfd, *arguments, "--dry-run", "--json")
    assert code == 0, err
    facts = only_json(out)
    assert facts["command"] == verb and facts["work"] and facts["imports"]
    (rewards,) = facts["tasks"].values()
    assert "canned_answers" in rewards or rewards["rewards"]["oracle"] > rewards["rewards"]["empty"]


@pytest.mark.parametrize("name", TRAINING)
@pytest.mark.parametrize("backend", ["trl", "verl"])
def test_a_dry_run_under_another_backend_shows_its_settings_or_what_the_linter_refuses(
    backend: str, name: str, empty: Path, capfd: pytest.CaptureFixture[str]
):
    with blocked():
        code, out, err = call(capfd, "train", name, "--backend", backend, "--dry-run", "--json")
        linted, again, _ = call(capfd, "config", "validate", name, "--backend", backend, "--json")
    answer = only_json(out)
    assert code == linted
    if code == 0:
        assert answer["backend"]["arguments"] and answer["backend"]["name"] == backend, err
    else:
        assert code == 2 and only_json(again)["error"] == answer["error"]


def test_a_dry_run_under_verl_shows_its_settings(empty: Path, capfd: pytest.CaptureFixture[str]):
    with blocked():
        code, out, _ = call(capfd, "train", "countdown_nano", "--backend", "verl", "--dry-run", "--json")
    answer = only_json(out)["backend"]
    assert code == 0 and answer["arguments"]["data.train_batch_size"] == 32 and answer["differences"]


def test_the_guard_sees_what_it_forbids(empty: Path):
    for forbidden in (
        lambda: (empty / "x").write_text("x"),
        lambda: (empty / "x").mkdir(),
        lambda: socket.getaddrinfo("localhost", 80),
        lambda: socket.socket().connect(("127.0.0.1", 9)),
    ):
        with blocked(), pytest.raises(AssertionError):
            forbidden()


def test_the_plan_counts_what_will_be_done(capfd: pytest.CaptureFixture[str]):
    settings = ["num_steps=10", "optimizer.updates_per_batch=4", "evaluation.every_steps=4", "evaluation.temperature=0"]
    work = only_json(call(capfd, "train", "countdown_nano", *settings, "--dry-run", "--json")[1])["work"]
    assert work["batches_of_rollouts"] == 3 and work["completions_per_batch"] == 256 and work["completions"] == 768
    assert work["evaluations"] == 4, "steps 0, 4, 8 and 10"
    assert work["evaluation_completions"] == 4 * 500, "greedy: one per problem"
