"""Where verl is: an environment with verl, and processes in it that end with us.

verl takes no transformers as new as gradus', so it has an environment of its own (`make extras-verl`); gradus itself may
run in either. Nothing of verl is imported here.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradus
from gradus.train.backends.verl_settings import VERSION

PYTHON = "GRADUS_VERL_PYTHON"
"""Environment variable: the Python that has verl, where it is neither ours nor in ``.venv-verl``."""
PACKAGES = ("verl", "ray", "tensordict", "hydra-core", "TransferQueue")
ALSO = ("transformers", "flash-attn")
TRANSFORMERS = ((5, 5, 3), (5, 11))
"""From and below which releases of transformers verl takes."""
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
