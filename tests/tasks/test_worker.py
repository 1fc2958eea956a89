"""Worker processes: what hangs is killed on time, what crashes costs one call, and order never depends on luck."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gradus.tasks.pool import MATH_LIMITS, CannotStart, Limits, WorkerPool

HERE = str(Path(__file__).parent)
FUNCTION = "worker_functions:echo"


def pool(**options: object) -> WorkerPool:
    return WorkerPool(FUNCTION, **{"num_workers": 1, "timeout_seconds": 20.0, "path": [HERE], **options})


@pytest.fixture(scope="module")
def shared():
    """One worker whose deadline no healthy call misses."""
    with pool(timeout_seconds=20.0, limits=MATH_LIMITS) as workers:
        yield workers


def is_alive(pid: int) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{pid}/status").read_text().partition("State:")[2].partition("\n")[0]
    except OSError:
        return False


def test_results_come_in_the_order_of_the_requests_whatever_the_number_of_workers():
    requests = [{"value": [index, "é\x00\ud800", None]} for index in range(60)]
    for num_workers in (1, 3):
        with pool(num_workers=num_workers, timeout_seconds=20.0) as workers:
            outcomes = workers.map(requests)
        assert [outcome.reply for outcome in outcomes] == requests
        assert {outcome.status for outcome in outcomes} == {"ok"}


@pytest.mark.parametrize("do", ["python", "c", "sleep", "ignore"])
def test_what_hangs_is_killed_on_time_and_replaced(do: str):
    with pool(timeout_seconds=20.0) as workers:
        assert workers.call({"value": 1}).status == "ok"
        workers.timeout_seconds = 0.5
        started = time.monotonic()
        assert workers.call({"do": do}).status == "timeout"
        assert time.monotonic() - started < 3.0, "half a second, and room for a busy machine"
        workers.timeout_seconds = 20.0
        assert workers.call({"value": 2}).reply == {"value": 2}


@pytest.mark.parametrize(
    ("do", "status"),
    [("segfault", "crash"), ("exit", "crash"), ("protocol", "crash"), ("raise", "error"), ("none", "error"),
     ("text", "error"), ("nan", "error"), ("long", "error"), ("recurse", "error"), ("allocate", "error")],
)  # fmt: skip
def test_what_fails_costs_one_call(shared: WorkerPool, do: str, status: str):
    before, middle, after = shared.map([{"value": 1}, {"do": do}, {"value": 2}])
    assert (before.reply, after.reply) == ({"value": 1}, {"value": 2})
    assert middle.status == status
    assert middle.reply is None
    assert middle.why


def test_what_a_scorer_prints_never_enters_the_protocol(shared: WorkerPool):
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert shared.call({"do": "print"}).reply == {"printed": True}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - kilobytes < 50_000


def test_a_worker_sees_no_secrets_no_torch_and_an_empty_home(shared: WorkerPool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    with pool(timeout_seconds=20.0) as workers:
        reply = workers.call({"do": "environment"}).reply
    assert reply is not None
    allowed = {
        "PATH",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "TMPDIR",
        "PYTHONPATH",
        "HOME",
        "PYTHONHASHSEED",
        "OMP_NUM_THREADS",
    }
    assert set(reply["names"]) <= allowed
    assert (reply["home"], reply["torch"]) == ([], False)


def test_a_mathematical_worker_writes_no_file(shared: WorkerPool, tmp_path: Path):
    path = tmp_path / "canary"
    assert shared.call({"do": "write", "path": str(path)}).status in ("error", "crash")
    assert not path.exists() or path.stat().st_size == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="the limit on processes does not bind root")
def test_a_mathematical_worker_starts_no_process(shared: WorkerPool):
    assert shared.call({"do": "fork"}).status == "error"


def test_children_of_a_worker_die_with_it():
    with pool(timeout_seconds=20.0, limits=Limits()) as workers:
        reply = workers.call({"do": "fork"}).reply
        assert reply is not None
        assert is_alive(reply["child"])
    time.sleep(0.1)
    assert not is_alive(reply["child"])


def test_a_request_that_is_no_strict_json_or_too_long_is_not_sent(shared: WorkerPool):
    outcomes = shared.map([{"value": float("nan")}, {"value": "x" * (2 << 20)}, {"value": object()}, {"value": 1}])
    assert [outcome.status for outcome in outcomes] == ["crash", "crash", "crash", "ok"]


def test_a_worker_is_replaced_after_its_calls(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gradus.tasks.pool.MAX_CALLS", 3)
    with pool(timeout_seconds=20.0) as workers:
        pids = [outcome.reply["pid"] for outcome in workers.map([{"do": "pid"}] * 7) if outcome.reply]
    assert len(pids) == 7
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 1]


def test_a_pool_that_cannot_start_says_why():
    with (
        WorkerPool("no_such_module:score", num_workers=1) as workers,
        pytest.raises(CannotStart, match="no_such_module"),
    ):
        workers.call({})


def test_the_budget_of_a_batch_ends_it():
    with pool(timeout_seconds=20.0) as workers:
        workers.call({})
        workers.batch_budget_seconds = 0.5
        started = time.monotonic()
        outcomes = workers.map([{"do": "sleep"}, {"value": 2}])
        assert time.monotonic() - started < 5.0
        assert [outcome.status for outcome in outcomes] == ["timeout", "timeout"]
        assert "batch" in outcomes[1].why


def test_many_timeouts_shorten_the_deadline_for_the_rest_of_the_batch():
    with pool(timeout_seconds=20.0) as workers:
        workers.call({})
        workers._recent.extend([True] * 50)
        workers.timeout_seconds = 4.0
        started = time.monotonic()
        assert workers.call({"do": "sleep"}).status == "timeout"
        assert time.monotonic() - started < 3.5


def test_threads_may_share_a_pool(shared: WorkerPool):
    found: dict[int, list] = {}

    def work(number: int) -> None:
        found[number] = [outcome.reply for outcome in shared.map([{"value": number}] * 10)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: [{"value": number}] * 10 for number in range(4)}


@pytest.mark.parametrize("do", ["sleep", "c"])
def test_no_worker_outlives_a_killed_trainer(do: str):
    program = (
        "import sys, threading; sys.path.insert(0, '.'); from gradus.tasks.pool import WorkerPool;"
        f"pool = WorkerPool('{FUNCTION}', num_workers=1, timeout_seconds=1.5, path=[{HERE!r}]);"
        "print(pool.call({'do': 'pid'}).reply['pid'], flush=True);"
        f"pool.timeout_seconds = 30; pool.call({{'do': '{do}'}})"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as trainer:
        assert trainer.stdout
        worker = int(trainer.stdout.readline())
        time.sleep(0.3)
        trainer.send_signal(signal.SIGKILL)
    ends = time.monotonic() + 5
    while is_alive(worker) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not is_alive(worker)


def test_the_parent_uses_no_signal_handler_no_thread_and_no_pickle():
    source = Path("gradus/tasks/pool.py").read_text(encoding="utf-8")
    assert not re.search(r"signal\.(?:signal|alarm|setitimer)|import pickle|Thread\(", source)


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match="raise the budget"):
        WorkerPool(FUNCTION, timeout_seconds=100.0)
