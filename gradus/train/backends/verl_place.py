"""Where verl and its Ray are: an environment with verl, a Ray of this run alone or the user's, and processes that end with us.

verl takes no transformers as new as gradus', so it has an environment of its own (`make extras-verl`); gradus itself may
run in either. Nothing of verl is imported here.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradus
from gradus.exits import Code, Exit
from gradus.train.backends.verl_settings import VERSION

PYTHON = "GRADUS_VERL_PYTHON"
"""Environment variable: the Python that has verl, where it is neither ours nor in ``.venv-verl``."""
PACKAGES = ("verl", "ray", "tensordict", "hydra-core", "TransferQueue")
ALSO = ("transformers", "flash-attn")
TRANSFORMERS = ((5, 5, 3), (5, 11))
"""From and below which releases of transformers verl takes."""
RAY_SECONDS = 300.0
"""How long each try of a Ray to start may take."""
RAY_TRIES = 2
TOO_SLOW = ("timed out during startup",)
"""What Ray says where its own limits were too short for the machine; what else it says is final."""
ANSWER_SECONDS = 10.0
"""How long a Ray of the user may take to answer."""
STOP_SECONDS = 20.0
"""Between asking processes to end and ending them."""
LAST_LINES = 40
STARTED = "--- started at "
"""Begins the output of each process in a log."""

_ASK = (
    "import importlib.metadata as m, json\n"
    "def version(name):\n"
    "    try: return m.version(name)\n"
    "    except m.PackageNotFoundError: return None\n"
    f"print(json.dumps({{'versions': {{name: version(name) for name in {PACKAGES + ALSO!r}}}}}))\n"
)
_TIED = (
    "import ctypes, os, signal, sys\n"
    "prctl = getattr(ctypes.CDLL(None), 'prctl', None)\n"
    "prctl and prctl(1, int(signal.SIGTERM))\n"  # PR_SET_PDEATHSIG, kept by exec: no Linux process outlives us
    "os.getppid() == int(sys.argv[1]) or sys.exit('its starter has ended')\n"
    "os.execv(sys.argv[2], sys.argv[2:])\n"
)


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


def interpreter() -> Path:
    """The Python that has verl: ``GRADUS_VERL_PYTHON``, our own, or that of a ``.venv-verl`` beside our environment or in
    the working folder. ValueError where there is none."""
    if given := os.environ.get(PYTHON):
        if not os.access(given, os.X_OK):
            raise ValueError(f"{PYTHON}={given} is no program; give the path of a Python that has verl {VERSION}")
        return Path(given)
    if importlib.util.find_spec("verl") is not None:
        return Path(sys.executable)
    places = dict.fromkeys(folder / ".venv-verl" / "bin" / "python" for folder in (Path(sys.prefix).parent, Path.cwd()))
    found = next((place for place in places if os.access(place, os.X_OK)), None)
    if found is None:
        raise ValueError(
            "backend verl needs verl, which takes no transformers as new as ours and so lives in an environment of its own; "
            f"there is none in {' or '.join(str(place.parents[1]) for place in places)}. Make it with: make extras-verl, or "
            f"name a Python that has verl {VERSION} in {PYTHON}"
        )
    return found


def need_verl() -> Path:
    """The Python that has verl. ValueError where verl or what it needs is missing, or is another release than the tested
    one."""
    python = interpreter()
    if faults := place_faults(python, {}):
        raise ValueError(f"backend verl {faults[0]}; make extras-verl")
    if (version := installed(python)) != VERSION:
        raise ValueError(
            f"backend verl works with verl {VERSION}, and {version} is installed in {python}; its settings differ "
            f"between releases. Install verl=={VERSION} there (make extras-verl), or use --backend native"
        )
    return python


def installed(python: Path) -> str | None:
    """The release of verl in ``python``; None: it has none. ValueError where it cannot be asked."""
    return _asked(python)["versions"]["verl"]


def place_faults(python: Path, settings: Mapping[str, Any]) -> list[str]:
    """What ``python`` lacks for a verl run with ``settings``, or has in a release that verl does not take (V-11)."""
    versions = _asked(python)["versions"]
    faults = []
    if lacking := [name for name in PACKAGES if versions[name] is None]:
        faults.append(f"needs the packages {', '.join(lacking)}, which {python} does not have")
    first, above = TRANSFORMERS
    release = tuple(int(part) for part in (versions["transformers"] or "0").split(".")[:3] if part.isdecimal())
    if not first <= release < above or release == (5, 6, 0):
        found = versions["transformers"] or "none"
        faults.append(f"takes transformers from 5.5.3 to below 5.11, and not 5.6.0; {python} has {found}")
    asks = [f"{key}={value}" for key, value in settings.items() if value == "flash_attention_2"]
    if asks and versions["flash-attn"] is None:
        faults.append(f"needs the package flash-attn for {asks[0]}, which {python} does not have")
    return faults


@functools.cache
def _asked(python: Path) -> dict:
    try:
        answer = subprocess.run(
            [str(python), "-c", _ASK], env=environment({}), capture_output=True, text=True, timeout=120, check=True
        )
        return json.loads(answer.stdout)
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        raise ValueError(
            f"{python} cannot be asked for its packages ({error}); make extras-verl makes it anew"
        ) from error


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """Variables of a process of verl's: ours, ``own``, and this gradus where it is a checkout (else the one installed
    there: our own site-packages would bring our transformers along)."""
    package = Path(gradus.__file__).parent.parent
    found = {
        name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONHOME", "RAY_ADDRESS")
    }
    if (package / "pyproject.toml").is_file():
        found["PYTHONPATH"] = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH", "")]))
    return found | dict(own)


def tied(command: Sequence[str], *, env: Mapping[str, str], log: Path, folder: Path) -> subprocess.Popen[bytes]:
    """Starts a program in a process group of its own, which on Linux ends when this process does; output goes to ``log``."""
    with log.open("ab") as output:
        output.write(f"{STARTED}{time.strftime('%H:%M:%S')}\n".encode())
        output.flush()
        return subprocess.Popen(
            [sys.executable, "-c", _TIED, str(os.getpid()), *command], cwd=folder, env=dict(env), stdout=output,
            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process group of `tied`: first asked, then, after `STOP_SECONDS`, without asking."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
            break
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # members that outlived their leader


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
        "--disable-usage-stats", "--num-cpus=16", f"--temp-dir={folder}",
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


def check_answers(address: str) -> None:
    """ValueError where nothing answers at the address of a Ray."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit():
        raise ValueError(f"backend.ray_address={address!r} is no address; give host:port, as ray start prints it")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"backend.ray_address={address}: no Ray answers there ({error}); start one with: ray start --head, or set "
            "backend.ray_address=null for one of this run alone"
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
