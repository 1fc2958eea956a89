"""Runs `gradus` commands as children of one process that has imported everything, so that a hundred of them can be
killed in a minute; with faults that the environment of a child arms.

``GRADUS_TEST_FAULT`` is one of
    ``point:checkpoint.rename:2:kill``   SIGKILL before the second such file operation (``errno=28``: OSError, each time)
    ``phase:generate:3:kill``            SIGKILL when the third such phase begins (``kill+0.01``: 10 ms later)
    ``phase:save:1:SIGTERM``             that signal to itself; ``memory``: out of memory; ``sleep``: half a minute
``GRADUS_TEST_PHASES`` names a file that always holds the phase the child is in.
``GRADUS_TEST_NAN`` is ``4,5,6:0``: the losses of these updates are not a number while the run went back 0 times; ``:``
alone means always. ``GRADUS_TEST_SCRAMBLE`` puts every global random generator into another state whenever a phase begins.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

PHASES = ("draw", "generate", "score", "update", "optimizer", "log", "evaluate", "save", "prune")


# ---- the test's side ----


class Launcher:
    """Starts and awaits commands.

    Example:
        launcher = Launcher(); pid = launcher.start(["train", "r.yaml"], {}, Path("out")); launcher.wait(pid)
    """

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.launcher"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True,
        )  # fmt: skip
        assert self._answer() == "ready"

    def start(self, arguments: list[str], environment: dict[str, str], out: Path) -> int:
        """Begins ``gradus <arguments>``; its output goes to the end of the file ``out``. Returns the pid."""
        return self._ask({"arguments": arguments, "environment": environment, "out": str(out)})

    def wait(self, pid: int) -> int:
        """Exit status of a command; negative: the signal that ended it."""
        return self._ask({"wait": pid})

    def run(self, arguments: list[str], environment: dict[str, str], out: Path) -> int:
        """Runs a command to its end."""
        return self.wait(self.start(arguments, environment, out))

    def close(self) -> None:
        """Ends the server."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(60)

    def _ask(self, question: dict[str, Any]) -> int:
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(question) + "\n")
        self._server.stdin.flush()
        return int(self._answer())

    def _answer(self) -> str:
        assert self._server.stdout is not None
        return self._server.stdout.readline().strip()


# ---- the server's side ----


def serve() -> None:
    """Answers questions from stdin until it is closed."""
    import torch

    torch.set_num_threads(1)  # a forked child inherits no threads
    import transformers.models.llama.modeling_llama
    import transformers.models.qwen2.tokenization_qwen2  # noqa: F401

    import gradus.cli.main
    import gradus.policy.load
    import gradus.rollout.local
    import gradus.train.loop  # noqa: F401
    from gradus.tasks.base import TASKS

    TASKS.add("toy", "tests.faults.toy_task:Toy")
    answers = os.dup(1)
    os.write(answers, b"ready\n")
    for line in sys.stdin:
        question = json.loads(line)
        if "wait" in question:
            answer = os.waitstatus_to_exitcode(os.waitpid(question["wait"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                os.close(answers)
                _be_child(**question)
        os.write(answers, f"{answer}\n".encode())


def _be_child(arguments: list[str], environment: dict[str, str], out: str) -> None:
    status = 99
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number in (1, 2):
            os.dup2(descriptor, number)
        os.environ.update(environment)
        sys.argv = ["gradus", *arguments]
        _arm()
        from gradus.cli import main as cli

        status = cli.run(arguments)
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


# ---- faults ----


def _arm() -> None:
    """Puts the faults of the environment, and the notes of phases, into this process."""
    from gradus import durable, verbs

    kind, name, number, action = os.environ.get("GRADUS_TEST_FAULT", ":::").split(":")
    seen: Counter[str] = Counter()

    def reached(a_kind: str, a_name: str) -> None:
        if (a_kind, a_name) != (kind, name):
            return
        seen[a_name] += 1
        if number == "each" or seen[a_name] == int(number):
            _do(action)

    durable.fault_point = lambda point: reached("point", point)
    verbs._report = lambda run: None  # type: ignore[assignment]  # drawing takes longer than the whole training
    _note_phases(lambda phase: reached("phase", phase))
    _spoil_losses()


def _do(action: str) -> None:
    if action.startswith("kill+"):
        threading.Timer(float(action[5:]), os.kill, (os.getpid(), signal.SIGKILL)).start()
    elif action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action.startswith("errno="):
        raise OSError(int(action[6:]), os.strerror(int(action[6:])))
    elif action == "memory":
        raise MemoryError
    elif action == "sleep":
        time.sleep(30)
    else:
        signal.raise_signal(getattr(signal, action))


def _spoil_losses() -> None:
    import gradus.train.update as module

    if "GRADUS_TEST_NAN" not in os.environ:
        return
    updates, _, replay = os.environ["GRADUS_TEST_NAN"].partition(":")
    accumulate = module.accumulate

    def spoiled(*args: Any, **options: Any) -> float:
        loss = accumulate(*args, **options)
        _, number_of_replays, step, _ = args[2].seed_parts
        is_hit = str(step) in updates.split(",") and replay in ("", str(number_of_replays))
        return float("nan") if is_hit else loss

    module.accumulate = spoiled


def _note_phases(reached: Callable[[str], None]) -> None:
    """Wraps what the phases consist of."""
    from gradus.data.curriculum import CurriculumSampler
    from gradus.rollout import rollout
    from gradus.train import checkpoint, loop
    from gradus.train.optimizer import Optimizer
    from gradus.train.session import Session

    noted = os.environ.get("GRADUS_TEST_PHASES")
    descriptor = os.open(noted, os.O_WRONLY | os.O_CREAT) if noted else -1
    places: dict[str, tuple[Any, str]] = {
        "draw": (CurriculumSampler, "draw"), "generate": (loop, "sample_groups"), "score": (rollout, "score"),
        "update": (loop, "update"), "optimizer": (Optimizer, "step"), "log": (Session, "record"),
        "evaluate": (loop, "evaluate_now"), "save": (Session, "save"), "prune": (checkpoint, "prune"),
    }  # fmt: skip
    assert tuple(places) == PHASES
    current = ["start"]

    def enter(phase: str) -> None:
        current.append(phase)
        if descriptor >= 0:
            os.pwrite(descriptor, phase.ljust(16).encode(), 0)

    for phase, (home, name) in places.items():
        setattr(home, name, _noted(getattr(home, name), phase, enter, current, reached))
    enter("start")


def _noted(
    function: Callable[..., Any],
    phase: str,
    enter: Callable[[str], None],
    current: list[str],
    reached: Callable[[str], None],
) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapped(*args: Any, **options: Any) -> Any:
        enter(phase)
        if "GRADUS_TEST_SCRAMBLE" in os.environ:
            _scramble()
        try:
            reached(phase)
            return function(*args, **options)
        finally:
            current.pop()
            enter(current.pop())

    return wrapped


def _scramble() -> None:
    import random

    import numpy as np
    import torch

    seed = int.from_bytes(os.urandom(4), "big")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


if __name__ == "__main__":
    serve()
