"""Real training, killed and stopped anywhere, continued by the same command: the same weights, bit by bit.

The runs are small (a model of 40 k parameters, 8 updates) and whole: command line, rollouts, scores, updates, evaluation,
records, saves, pruning. `launcher` says which faults there are.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from gradus.rundir import RunDirectory, read_jsonl
from gradus.train import checkpoint
from tests.faults.launcher import PHASES, Launcher
from tests.models import save_model

NUM_STEPS = 8
EVERY_STEPS = 3
RECIPE = f"""\
name: killed
num_steps: {NUM_STEPS}
torch_threads: 1
model: {{path: ./model, device: cpu, dtype: float32}}
tasks:
  toy: {{}}
curriculum: {{problems_per_step: 4, num_problems: 10}}
sampling: {{group_size: 4, max_tokens: 12}}
optimizer: {{learning_rate: 1e-3, updates_per_batch: 2}}
evaluation: {{num_problems: 4, samples_per_problem: 2, every_steps: 4}}
checkpoint: {{every_steps: {EVERY_STEPS}, keep_last: 2}}
records: {{rollouts_every_steps: 2}}
"""
NOT_REPEATED = ("attempt", "wall_seconds", "system/", "time/")
"""Facts about the machine and the clock: all else in a row must repeat."""


@dataclass
class Bench:
    """A folder in which the same command is run again and again."""

    launcher: Launcher
    folder: Path
    overrides: tuple[str, ...] = ()
    verb: str = "train"
    statuses: list[int] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return self.folder / "runs/killed"

    @property
    def run(self) -> RunDirectory:
        return RunDirectory.open(self.path)

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text()

    def start(self, fault: str = "", **environment: str) -> int:
        variables = {
            "GRADUS_RUNS_DIR": str(self.folder / "runs"),
            "GRADUS_TEST_PHASES": str(self.folder / "phase"),
            **({"GRADUS_TEST_FAULT": fault} if fault else {}),
            **environment,
        }
        recipe = str(self.folder.parent / "recipe.yaml")
        return self.launcher.start([self.verb, recipe, *self.overrides], variables, self.folder / "output")

    def wait(self, pid: int) -> int:
        self.statuses.append(self.launcher.wait(pid))
        return self.statuses[-1]

    def train(self, fault: str = "", **environment: str) -> int:
        return self.wait(self.start(fault, **environment))

    def phase(self) -> str:
        """The phase it is or ended in; a command killed before it could say is at its start."""
        noted = self.folder / "phase"
        return noted.read_text().strip() if noted.exists() else "start"

    def steps(self) -> list[int]:
        """Steps that the metrics have, in their order; a torn last line counts as not written."""
        return [row["step"] for row in read_jsonl(self.path / "metrics.jsonl").rows]

    def newest(self) -> int:
        """Step of the newest whole checkpoint, 0 without one."""
        if not self.path.exists() or not (self.path / ".gradus").exists():
            return 0
        found, _ = checkpoint.load_newest(self.run, verify="hash")
        return found.step if found else 0


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every weight and every tensor of the optimizer."""
    found = {}
    for path in (folder / "model/model.safetensors", folder / "trainer.safetensors"):
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 (no mapping)
                if path.parent.name == "model" or name.startswith("optimizer."):
                    found[name] = hashlib.sha256(file.get_tensor(name).tobytes()).hexdigest()
    return found


def facts(run: RunDirectory) -> list[dict[str, Any]]:
    """The rows of the metrics without what depends on the clock."""
    records = read_jsonl(run.metrics)
    assert records.num_torn == 0
    return [{key: row[key] for key in row if not key.startswith(NOT_REPEATED)} for row in records.rows]


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    launcher = Launcher()
    yield launcher
    launcher.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train_kills")
    save_model(folder / "model")
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


_COUNT = iter(range(1_000_000))


def new_bench(launcher: Launcher, place: Path, *overrides: str) -> Bench:
    folder = place / f"bench_{next(_COUNT)}"
    folder.mkdir()
    return Bench(launcher, folder, overrides)


@pytest.fixture
def bench(launcher: Launcher, place: Path) -> Bench:
    return new_bench(launcher, place)


@dataclass(frozen=True)
class Twin:
    """What an unbroken run gives."""

    digests: dict[str, str]
    facts: list[dict[str, Any]]
    seconds: float


def unbroken(launcher: Launcher, place: Path, *overrides: str, verb: str = "train", **environment: str) -> Twin:
    bench = new_bench(launcher, place, *overrides)
    bench.verb = verb
    begin = time.monotonic()
    assert bench.train(**environment) == 0, bench.output
    seconds = time.monotonic() - begin
    return Twin(digests(bench.path / f"checkpoints/step_{NUM_STEPS:06d}"), facts(bench.run), seconds)


@pytest.fixture(scope="module")
def twin(launcher: Launcher, place: Path) -> Twin:
    return unbroken(launcher, place)


def assert_same(bench: Bench, twin: Twin) -> None:
    """The run is finished and nothing but the clock tells it from its unbroken twin."""
    assert bench.run.status()["status"] == "finished", bench.output
    assert digests(bench.path / f"checkpoints/step_{NUM_STEPS:06d}") == twin.digests
    assert facts(bench.run) == twin.facts
    assert not list(bench.path.rglob(".t*-*"))
    assert checkpoint.steps(bench.run)[-1] == NUM_STEPS


# ---- the twins ----


def test_two_unbroken_runs_are_equal_and_learn(launcher: Launcher, place: Path, twin: Twin) -> None:
    again = unbroken(launcher, place)
    assert again.digests == twin.digests
    assert again.facts == twin.facts
    with safe_open(place / "model/model.safetensors", framework="numpy") as file:
        for name in file.keys():  # noqa: SIM118 (no mapping)
            assert hashlib.sha256(file.get_tensor(name).tobytes()).hexdigest() != twin.digests[name], name
    assert max(row.get("reward_std", 0) for row in twin.facts) > 0
    assert [row["step"] for row in twin.facts] == list(range(NUM_STEPS + 1))


def test_no_bit_depends_on_a_global_generator(launcher: Launcher, place: Path, twin: Twin) -> None:
    scrambled = unbroken(launcher, place, GRADUS_TEST_SCRAMBLE="1")
    assert scrambled.digests == twin.digests
    assert scrambled.facts == twin.facts


# ---- kill -9 ----


def kill_until_done(bench: Bench, chooser: random.Random, seconds: float, killed: Counter[str]) -> None:
    """Runs the command until it ends by itself; before, a third of the kills each by file operation, phase, clock.

    Of the phases, one that was killed least so far is next: the short ones would hardly ever be met by chance.
    """
    while True:
        before = bench.newest()
        kind = chooser.randrange(3)
        fault = ""
        if kind == 0:
            operation = chooser.choice(
                ["checkpoint.rename", "manifest.write", "tensors.write", "latest.replace", "prune.rename",
                 "prune.remove", "metrics.append", "rollouts.replace", "status.sync", "evaluation.replace",
                 "superseded.write", "leftover.remove", "state.sync", "model.sync"]
            )  # fmt: skip
            fault = f"point:{operation}:{chooser.randint(1, 3)}:kill"
        elif kind == 1:
            phase = min(PHASES, key=lambda phase: (killed[phase], chooser.random()))
            fault = f"phase:{phase}:{chooser.randint(1, 3)}:kill+{chooser.choice((0, 0.002, 0.01))}"
        pid = bench.start(fault)
        if kind == 2:
            time.sleep(chooser.random() * seconds)
            os.kill(pid, signal.SIGKILL)
        status = bench.wait(pid)
        if status == 0:
            return
        assert status == -signal.SIGKILL, f"ended with {status} after {fault or 'a kill by the clock'}\n{bench.output}"
        killed[bench.phase()] += 1
        if (bench.path / "metrics.jsonl").exists():
            newest, steps = bench.newest(), bench.steps()
            assert newest >= before
            assert max(steps, default=0) - newest <= EVERY_STEPS, f"steps {steps}, newest checkpoint {newest}"


def check_random_kills(launcher: Launcher, place: Path, twin: Twin, seed: int, num_kills: int) -> Counter[str]:
    chooser, killed = random.Random(seed), Counter[str]()
    while killed.total() < num_kills:
        bench = new_bench(launcher, place)
        try:
            kill_until_done(bench, chooser, twin.seconds, killed)
            assert_same(bench, twin)
        except AssertionError as error:
            error.add_note(f"seed {seed}; repeat with GRADUS_TEST_SEED={seed}")
            raise
        shutil.rmtree(bench.folder)
    return killed


def random_seed() -> int:
    return int(os.environ.get("GRADUS_TEST_SEED") or random.SystemRandom().randrange(10**6))


def test_killed_at_some_instants_it_ends_with_the_same_bits(launcher: Launcher, place: Path, twin: Twin) -> None:
    check_random_kills(launcher, place, twin, seed=random_seed(), num_kills=8)


@pytest.mark.slow
def test_killed_at_many_instants_it_ends_with_the_same_bits(launcher: Launcher, place: Path, twin: Twin) -> None:
    killed = check_random_kills(launcher, place, twin, seed=random_seed(), num_kills=100)
    assert killed["save"] + killed["prune"] >= 0.2 * killed.total(), killed
    assert set(killed) >= set(PHASES), f"some phase was never killed: {killed}"


# ---- signals ----


@pytest.mark.parametrize("phase", PHASES)
def test_a_signal_in_any_phase_saves_and_asks_to_be_started_again(bench: Bench, twin: Twin, phase: str) -> None:
    begin = time.monotonic()
    number = {"score": 30, "save": 2, "prune": 2}.get(phase, 3)  # after the first step and before the last save
    assert bench.train(f"phase:{phase}:{number}:SIGTERM") == 75, bench.output
    assert time.monotonic() - begin < 30
    assert bench.newest() >= max(bench.steps()) > 0  # nothing that was finished is lost
    assert bench.run.status()["status"] == "interrupted"
    assert f"gradus train {bench.path}" in bench.output
    assert bench.train() == 0, bench.output
    assert_same(bench, twin)


@pytest.mark.parametrize(
    ("updates", "passes"),
    [(2, 2), *(pytest.param(*pair, marks=pytest.mark.slow) for pair in ((1, 1), (2, 1), (1, 2), (4, 1), (4, 2)))],
)
def test_every_step_of_a_batch_of_rollouts_is_a_place_to_stop(
    launcher: Launcher, place: Path, updates: int, passes: int
) -> None:
    """Stopped in each single update: a run of one-step attempts, through every offset inside the batch."""
    overrides = (f"optimizer.updates_per_batch={updates}", f"optimizer.passes_per_batch={passes}")
    twin = unbroken(launcher, place, *overrides)
    bench = new_bench(launcher, place, *overrides)
    while (status := bench.train("phase:optimizer:1:SIGINT")) == 75:
        assert len(bench.statuses) <= NUM_STEPS + 1, "no progress"
    assert status == 0, bench.output
    assert len(bench.statuses) >= NUM_STEPS
    assert_same(bench, twin)


@pytest.mark.parametrize("point", ["run.make", "resolved.write", "environment.write", "status.sync"])
def test_a_signal_before_the_first_step_leaves_at_once(bench: Bench, twin: Twin, point: str) -> None:
    assert bench.train(f"point:{point}:1:SIGTERM") == 75, bench.output
    assert bench.newest() == 0
    assert bench.train() == 0, bench.output
    assert_same(bench, twin)


def test_a_base_evaluation_that_was_cut_off_is_made_again(bench: Bench, twin: Twin) -> None:
    assert bench.train("phase:score:3:SIGTERM") == 75, bench.output
    assert bench.train("phase:log:1:kill") == -signal.SIGKILL  # evaluated, but not yet recorded
    assert bench.train() == 0, bench.output
    assert_same(bench, twin)


def test_two_interrupts_end_it_at_once(bench: Bench, twin: Twin) -> None:
    pid = bench.start("phase:score:5:sleep")
    wait_for_phase(bench, "score")
    time.sleep(0.3)
    begin = time.monotonic()
    os.kill(pid, signal.SIGINT)
    time.sleep(0.3)
    os.kill(pid, signal.SIGINT)
    assert bench.wait(pid) == 130
    assert time.monotonic() - begin < 2
    assert bench.train() == 0, bench.output
    assert_same(bench, twin)


def wait_for_phase(bench: Bench, phase: str) -> None:
    deadline = time.monotonic() + 60
    while not (bench.folder / "phase").exists() or bench.phase() != phase:
        assert time.monotonic() < deadline, bench.output
        time.sleep(0.005)


def test_a_lost_terminal_changes_nothing(bench: Bench, twin: Twin) -> None:
    assert bench.train("phase:generate:2:SIGHUP") == 0, bench.output
    assert_same(bench, twin)


# ---- the disk and the memory ----


@pytest.mark.parametrize("point", ["metrics.append", "rollouts.write"])
def test_records_that_cannot_be_written_cost_no_bit(bench: Bench, twin: Twin, point: str) -> None:
    assert bench.train(f"point:{point}:each:errno=28") == 0, bench.output
    assert digests(bench.path / f"checkpoints/step_{NUM_STEPS:06d}") == twin.digests
    assert bench.output.count(f"{point.partition('.')[0]} could not be written (No space left on device)") == 1


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_takes_no_checkpoint_ends_the_run_at_the_third(bench: Bench, twin: Twin, code: int) -> None:
    assert bench.train(f"point:manifest.write:each:errno={code}") == 6, bench.output
    assert bench.output.count("the next save tries again") == 2
    assert bench.steps() == list(range(NUM_STEPS + 1))
    assert bench.run.status()["status"] == "failed"
    assert bench.train() == 0, bench.output
    assert_same(bench, twin)


def test_one_refused_save_is_made_up_for(bench: Bench, twin: Twin) -> None:
    assert bench.train("point:manifest.write:2:errno=5") == 0, bench.output
    assert "step 6 could not be saved (Input/output error); the checkpoint of step 3 is intact" in bench.output
    assert_same(bench, twin)


@pytest.mark.parametrize(("phase", "number"), [("generate", 3), ("update", 5)])
def test_out_of_memory_leaves_the_checkpoints(bench: Bench, twin: Twin, phase: str, number: int) -> None:
    assert bench.train(f"phase:{phase}:{number}:memory") == 6, bench.output
    assert "out of memory" in bench.output
    assert bench.newest() >= EVERY_STEPS
    assert bench.train() == 0, bench.output
    assert_same(bench, twin)


# ---- numbers that are not finite ----


def test_an_update_that_is_not_finite_is_skipped(bench: Bench) -> None:
    assert bench.train(GRADUS_TEST_NAN="4:") == 0, bench.output
    rows = facts(bench.run)
    assert [row["step"] for row in rows if row.get("train/skipped")] == [4]
    assert rows[4]["loss"] == "NaN"
    assert bench.newest() == NUM_STEPS


def test_four_in_a_row_go_back_and_take_other_seeds(launcher: Launcher, place: Path, bench: Bench) -> None:
    """Also when the replay is killed: it is the same replay after that."""
    fault = {"GRADUS_TEST_NAN": "4,5,6,7:0"}
    twin = unbroken(launcher, place, **fault)
    assert {row["replay"] for row in twin.facts} == {0, 1}
    for phase, number in (("optimizer", 4), ("generate", 1), ("save", 1), ("update", 2)):
        assert bench.train(f"phase:{phase}:{number}:kill", **fault) == -signal.SIGKILL
    assert bench.train(**fault) == 0, bench.output
    assert_same(bench, twin)


def test_a_run_that_never_becomes_finite_again_ends(bench: Bench) -> None:
    assert bench.train(GRADUS_TEST_NAN="4,5,6,7,8:") == 5, bench.output
    assert bench.run.status()["status"] == "failed"
    found, reasons = checkpoint.load_newest(bench.run, verify="hash")
    assert found is not None
    assert reasons == []


# ---- the warm-up ----


def test_the_warm_up_keeps_the_same_promise(launcher: Launcher, place: Path, bench: Bench) -> None:
    bench.overrides, bench.verb = ("sft.batch_size=4",), "sft"
    twin = unbroken(launcher, place, *bench.overrides, verb="sft")
    for fault in ("phase:optimizer:2:kill", "phase:optimizer:3:SIGTERM", "point:checkpoint.rename:1:kill"):
        assert bench.train(fault) in (75, -signal.SIGKILL), bench.output
    assert bench.train() == 0, bench.output
    assert_same(bench, twin)


# ---- the command itself ----


@pytest.mark.slow
def test_the_command_as_people_start_it(place: Path) -> None:
    """Processes of their own, not the launcher's children: killed, interrupted, and with their output closed."""
    recipe = place / "recipe_countdown.yaml"
    recipe.write_text(RECIPE.replace("toy: {}", "countdown: {max_numbers: 3}") + "algorithm: {entropy_coef: 0.1}\n")
    root = Path(__file__).parent.parent.parent

    def start(runs: str, **options: Any) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "GRADUS_RUNS_DIR": str(place / runs),
            "PYTHONPATH": str(root),
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-m", "gradus", "train", str(recipe)]
        return subprocess.Popen(command, env=environment, cwd=place, stderr=subprocess.DEVNULL, **options)

    def interrupted(number: int, steps: int) -> int:
        process = start("broken", stdout=subprocess.DEVNULL)
        metrics = place / "broken/killed/metrics.jsonl"
        while len(read_jsonl(metrics).rows) <= steps and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(number)
        return process.wait(60)

    assert start("whole", stdout=subprocess.DEVNULL).wait(120) == 0
    assert interrupted(signal.SIGKILL, 4) == -signal.SIGKILL
    assert interrupted(signal.SIGTERM, 5) == 75
    reading, writing = os.pipe()
    os.close(reading)
    assert start("broken", stdout=writing, start_new_session=True).wait(120) == 0
    os.close(writing)
    final = f"killed/checkpoints/step_{NUM_STEPS:06d}"
    assert digests(place / "broken" / final) == digests(place / "whole" / final)
    assert facts(RunDirectory.open(place / "broken/killed")) == facts(RunDirectory.open(place / "whole/killed"))


# ---- the directory ----


def test_a_second_process_is_refused_and_the_first_goes_on(bench: Bench, twin: Twin) -> None:
    pid = bench.start("phase:score:5:sleep")
    wait_for_phase(bench, "score")
    second = bench.start()
    assert bench.wait(second) == 2
    assert f"in use by process {pid} on " in bench.output
    os.kill(pid, signal.SIGKILL)
    assert bench.wait(pid) == -signal.SIGKILL
    assert bench.train() == 0, bench.output
    assert_same(bench, twin)


def test_a_finished_run_is_finished(bench: Bench, twin: Twin) -> None:
    assert bench.train() == 0, bench.output
    before = {path: path.read_bytes() for path in bench.path.rglob("*") if path.is_file()}
    assert bench.train() == 0
    assert {path: path.read_bytes() for path in bench.path.rglob("*") if path.is_file()} == before


def test_a_shorter_run_continued_is_the_longer_run(bench: Bench, twin: Twin) -> None:
    bench.overrides = ("num_steps=4",)
    assert bench.train() == 0, bench.output
    bench.overrides = ()
    assert bench.train() == 0, bench.output
    assert digests(bench.path / f"checkpoints/step_{NUM_STEPS:06d}") == twin.digests


def test_a_damaged_newest_checkpoint_is_passed_over(bench: Bench, twin: Twin) -> None:
    assert bench.train("phase:optimizer:7:kill") == -signal.SIGKILL
    newest = bench.newest()
    weights = bench.path / f"checkpoints/step_{newest:06d}/model/model.safetensors"
    size = weights.stat().st_size
    os.truncate(weights, size - 1)
    for records in (bench.run.metrics, bench.run.alerts, bench.run.events):  # as a kill inside a write leaves them
        with records.open("ab") as file:
            file.write(b'{"step": 7, "rew')
    assert bench.train() == 0, bench.output
    assert f"skipped step_{newest:06d}: model/model.safetensors is {size - 1} of {size} bytes" in bench.output
    kept = list((bench.path / "checkpoints").glob(f".bad-step_{newest:06d}-*"))
    assert len(kept) == 1
    assert_same(bench, twin)


def test_a_moved_run_goes_on(bench: Bench, twin: Twin) -> None:
    assert bench.train("phase:optimizer:5:kill") == -signal.SIGKILL
    shutil.move(bench.path, bench.folder / "moved")
    out = bench.folder / "output"
    assert bench.launcher.run(["train", str(bench.folder / "moved")], {}, out) == 0, bench.output
    final = bench.folder / f"moved/checkpoints/step_{NUM_STEPS:06d}"
    assert digests(final) == twin.digests
    for path in (bench.folder / "moved").rglob("*.json"):
        assert str(bench.path) not in path.read_text(), path
    assert json.loads((final / "MANIFEST.json").read_text())["step"] == NUM_STEPS
