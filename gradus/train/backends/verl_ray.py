"""The Ray that verl runs on: one of this run alone, or the user's, which must answer before anything is begun."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from gradus.exits import Code, Exit
from gradus.train.backends.verl_place import STARTED, end, environment, tied

RAY_SECONDS = 300.0
"""How long each try of a Ray to start may take."""
RAY_TRIES = 2
TOO_SLOW = ("timed out during startup",)
"""What Ray says where its own limits were too short for the machine; what else it says is final."""
LOGICAL_CPUS = 64
"""What a Ray of ours counts at least: verl's processes claim 3 for each GPU and some 20 besides, and hardly use them; where
there are fewer verl would wait for ever."""
ANSWER_SECONDS = 20
"""How long a Ray of the user may take to answer."""
_ASKED = "from ray.scripts.scripts import main; main()"
_PATIENT = (
    "import inspect, time\n"
    "import ray._private.services as services\n"
    "from ray._raylet import DASHBOARD_AGENT_LISTEN_PORT_NAME, persist_port\n"
    "from ray.scripts.scripts import main\n"
    "start, once, latest = services.start_raylet, services.get_node, time.monotonic() + {seconds}\n"
    "def start_raylet(*arguments, **options):\n"
    "    given = inspect.signature(start).bind(*arguments, **options).arguments\n"
    "    persist_port(given['session_dir'], given['node_id'], DASHBOARD_AGENT_LISTEN_PORT_NAME, {listen})\n"
    "    return start(*arguments, **options)\n"
    "def get_node(*arguments, **options):\n"
    "    while True:\n"
    "        try: return once(*arguments, **options)\n"
    "        except RuntimeError:\n"
    "            if time.monotonic() > latest: raise\n"
    "        time.sleep(0.5)\n"
    "services.start_raylet, services.get_node = start_raylet, get_node\n"
    "main()\n"
)
"""``ray start`` for machines with other work: the port of the dashboard's agent, which we give, stands where the raylet waits
15 seconds for it; and the node may take longer than 30 seconds to come up."""


@contextlib.contextmanager
def own_ray(python: Path, *, log: Path, env: Mapping[str, str], num_gpus: int | None,
            poll: Callable[[], None]) -> Iterator[tuple[str, dict[str, str]]]:  # fmt: skip
    """A Ray of one node on this machine, until the end of the ``with``: (its address, variables that its clients need).

    Its agents get their ports from us: a raylet gives an agent that chooses for itself 15 seconds to come up, and ends
    where that does not suffice (ray-project/ray#65983). A head that gave its node too little time is started again.
    Exit(MACHINE) where it does not start, with its last lines.

    Args:
        num_gpus: logical accelerators; None: those that Ray finds.
        poll: asked while waiting; may raise.
    """
    folder = tempfile.mkdtemp(prefix="gradus-ray-")  # short: sockets have paths of at most 107 bytes
    own = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_memory_monitor_refresh_ms": "0",
        "RAY_agent_register_timeout_ms": "300000",
        "RAY_worker_register_timeout_seconds": "300",
        "RAY_prestart_worker_first_driver": "0",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "RAY_worker_niceness": "0",
    }
    try:
        for tries_left in reversed(range(RAY_TRIES)):
            process = tied(_start_of(python, folder, num_gpus), env=dict(env) | own, log=log, folder=Path(folder))
            try:
                said, is_up = _wait_for_ray(process, log, poll)
                if is_up:
                    yield _address_in(said), own
                    return
            finally:
                end(process)
            if not tries_left or not any(words in said for words in TOO_SLOW):
                raise Exit(
                    Code.MACHINE, f"Ray did not start on this machine: {_last_words(said)}",
                    hint=f"see {log}; a machine with other work may be too slow: run the same command again",
                )  # fmt: skip
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start_of(python: Path, folder: str, num_gpus: int | None) -> list[str]:
    """The command that starts a Ray and lasts as long as it."""
    port, grpc, listen, runtime, metrics, client = _free_ports(6)
    return [
        str(python), "-c", _PATIENT.format(seconds=RAY_SECONDS, listen=listen), "start", "--head", "--block", f"--port={port}",
        f"--dashboard-agent-grpc-port={grpc}", f"--dashboard-agent-listen-port={listen}",
        f"--runtime-env-agent-port={runtime}", f"--metrics-export-port={metrics}",
        f"--ray-client-server-port={client}", "--include-dashboard=false", "--no-monitor",
        "--disable-usage-stats", f"--num-cpus={max(LOGICAL_CPUS, os.cpu_count() or 1)}", f"--temp-dir={folder}",
        *([] if num_gpus is None else [f"--num-gpus={num_gpus}"]),
    ]  # fmt: skip


def _wait_for_ray(process: subprocess.Popen[bytes], log: Path, poll: Callable[[], None]) -> tuple[str, bool]:
    """(what it said, whether it runs)."""
    latest = time.monotonic() + RAY_SECONDS
    while True:
        poll()
        said = log.read_text(encoding="utf-8", errors="replace").rpartition(STARTED)[2]
        if "Ray runtime started" in said and _address_in(said):
            return said, True
        if process.poll() is not None:
            return said, False
        if time.monotonic() > latest:
            return f"{said}\nException: it was not up after {RAY_SECONDS:.0f} s", False
        time.sleep(0.2)


def check_answers(python: Path, address: str) -> None:
    """ValueError where no Ray of the release of ``python`` answers at an address."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit():
        raise ValueError(f"backend.ray_address={address!r} is no address; give host:port, as ray start prints it")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
        asked = [str(python), "-c", _ASKED, "health-check", f"--address={address}"]
        env = environment({"RAY_py_gcs_connect_timeout_s": str(ANSWER_SECONDS)})
        subprocess.run(asked, env=env, capture_output=True, text=True, timeout=10 * ANSWER_SECONDS, check=True)
    except (OSError, OverflowError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None)
        raise ValueError(
            f"backend.ray_address={address}: no Ray answers there ({_last_words(said) if said else error}); start one with: "
            "ray start --head, or set backend.ray_address=null for one of this run alone"
        ) from error


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("", 0))
        return [one.getsockname()[1] for one in sockets]


def _address_in(said: str) -> str:
    """The address that ``ray start`` tells other nodes; empty where it has not."""
    return said.partition("ray start --address='")[2].partition("'")[0]


def _last_words(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    named = [line for line in lines if "Error:" in line or "Exception:" in line]
    return (named or lines or ["it said nothing"])[-1][:300]
