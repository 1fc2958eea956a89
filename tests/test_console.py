"""The console: nothing a model writes reaches the terminal as a command, and no lost stream stops a run.

Covers I-09.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest

from gradus import console

ROW = {
    "step": 120,
    "reward": 0.4123,
    "rollout/solve_rate": 0.38,
    "kl": 0.0123,
    "entropy": 0.274,
    "completions/mean_length": 412.4,
    "rollout/mixed_frac": 0.79,
    "time/step_seconds": 12.31,
}
LINE = "step=120/1000 reward=0.412 solve=0.38 kl=0.012 entropy=0.27 tokens=412 mixed=0.79 step_s=12.3 left=3h01m"
HOSTILE = [
    "\x1b]0;title\x07",
    "\x1b[2J",
    "\r",
    "\u202e",
    "\u2066",
    "\x00",
    "\x9b2J",
    "\ud800",
    "\u2028",
    "\x7f",
    "\x08",
]
STEPS = """
import sys
from gradus import console
console.set_up()
row = {row!r}
for step in range(1, 61):
    console.step({{**row, "step": step}}, 60)
    if step == 30: console.warn("alert [/INST] \\x1b[2J")
print("alive", file=sys.stderr) if len(sys.argv) > 1 else console.result("done")
"""


@pytest.fixture(autouse=True)
def fresh_console():
    console.set_up()
    yield
    console.set_up()


def run_steps(**options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", STEPS.format(row=ROW)], capture_output=True, text=True, timeout=60, **options
    )


def on_terminal(columns: int, **environment: str) -> str:
    """What a terminal of that width would be sent."""
    controller, terminal = pty.openpty()
    try:
        import fcntl
        import struct
        import termios

        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        process = subprocess.Popen(
            [sys.executable, "-c", STEPS.format(row=ROW)],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env={**os.environ, "TERM": "xterm", **environment},
        )
        os.close(terminal)
        sent = b""
        while True:
            try:
                part = os.read(controller, 65536)
            except OSError:  # the other side is closed
                break
            if not part:
                break
            sent += part
        assert process.wait(timeout=60) == 0
        return sent.decode()
    finally:
        os.close(controller)


@pytest.mark.parametrize("text", HOSTILE, ids=[repr(text) for text in HOSTILE])
def test_what_a_terminal_acts_on_is_shown_instead(text: str):
    shown = console.escape(f"a{text}b[/INST][red]")
    assert shown.startswith("a\\") and shown.endswith("b[/INST][red]") and all(letter.isprintable() for letter in shown)


def test_newlines_tabs_and_other_languages_stay():
    assert console.escape("a\n\tb é 数 🙂 عربي") == "a\n\tb é 数 🙂 عربي"


def test_results_go_to_stdout_and_messages_to_stderr(capfd: pytest.CaptureFixture[str]):
    console.result("result \x1b[2J")
    console.info("info")
    console.warn("careful")
    console.debug("detail")
    out, err = capfd.readouterr()
    assert out == "result \\x1b[2J\n" and err == "info\nwarning: careful\n"


def test_levels(capfd: pytest.CaptureFixture[str]):
    console.set_up(console.WARNING)
    console.info("info")
    console.step(ROW, 1000)
    console.result("result")
    console.set_up(console.DEBUG)
    console.debug("detail")
    assert capfd.readouterr() == ("result\n", "detail\n")


def test_json_is_the_only_thing_on_stdout(capfd: pytest.CaptureFixture[str]):
    console.set_up(is_json=True)
    console.info("info")
    console.step(ROW, 1000)
    console.result("for people")
    console.answer({"a": "\x1b\u202e\ud800é"}, "for people")
    out, err = capfd.readouterr()
    assert json.loads(out) == {"a": "\x1b\u202e\ud800é"} and out.isascii() and LINE in err


def test_a_failure_is_one_line_with_its_remedy_last(capfd: pytest.CaptureFixture[str]):
    console.failure(6, "no space left while saving step 120", "free 2.1 GB and run: gradus train runs/x")
    assert (
        capfd.readouterr().err
        == "gradus: no space left while saving step 120\nfree 2.1 GB and run: gradus train runs/x\n"
    )
    console.set_up(is_json=True)
    console.failure(2, "wrong", "do this")
    assert json.loads(capfd.readouterr().out) == {"error": {"code": 2, "message": "wrong", "hint": "do this"}}


def test_a_step_is_one_plain_line(capfd: pytest.CaptureFixture[str]):
    console.step(ROW, 1000)
    console.step({"step": 121, "loss": 2.34567, "time/step_seconds": 1.0, "entropy": "NaN"}, 1000)
    first, second = capfd.readouterr().out.splitlines()
    assert first == LINE, "metrics in a fixed order"
    console.step({"step": 0, "evaluation/validation/solve_rate": 0.31, "time/evaluation_seconds": 3.0}, 1000)
    assert capfd.readouterr().out == "step=0/1000 held_out=0.310\n"
    assert second == "step=121/1000 loss=2.3457 entropy=NaN step_s=1.0 left=1h37m", "what has no data is left out"


def test_a_pipe_gets_lines():
    done = run_steps()
    assert done.returncode == 0 and "\x1b" not in done.stdout
    assert len(done.stdout.splitlines()) == 61 and done.stderr == "warning: alert [/INST] \\x1b[2J\n"


def test_a_terminal_gets_a_table_that_is_drawn_again_and_alerts_above_it():
    sent = on_terminal(100)
    assert "\x1b[2K" in sent and "Pass@1" in sent and "60/60" in sent
    assert "\x1b[2Kwarning: alert [/INST] \\x1b[2J" in sent, "the table makes room"
    assert "\x1b[2J" not in sent
    assert sent.count("Pass@1") < 15, "at most four times a second, not once per step"


@pytest.mark.parametrize(("columns", "environment"), [(20, {}), (100, {"TERM": "dumb"})])
def test_a_narrow_or_dumb_terminal_gets_lines(columns: int, environment: dict[str, str]):
    sent = on_terminal(columns, **environment)
    assert "\x1b" not in sent and sent.count("step=") == 60 and "done" in sent


def test_no_color_means_no_color():
    assert "\x1b[3" not in on_terminal(100, NO_COLOR="1")


def test_a_closed_pipe_stops_nothing():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", STEPS.format(row=ROW), "x"]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, env=buffered)
    os.close(writer)
    assert done.returncode == 0 and done.stderr == "warning: alert [/INST] \\x1b[2J\nalive\n"


def test_no_streams_at_all_stop_nothing():
    code = "import sys; sys.stdout.close(); sys.stderr = None\n" + STEPS.format(row=ROW)
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_a_stream_that_cannot_encode_gets_escapes():
    code = "from gradus import console; console.set_up(); console.result('数 \\ud800')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )
    assert done.returncode == 0 and done.stdout == b"\\u6570 \\ud800\n"


def test_a_table_is_aligned_and_escaped():
    assert console.table([("task", "x"), ("a\x1b\nb", "1")]) == "task     x\na\\x1b b  1"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (59, "59s"), (61, "1m"), (3599, "1h00m"), (10_920, "3h02m")])
def test_durations(seconds: float, text: str):
    assert console.duration(seconds) == text
