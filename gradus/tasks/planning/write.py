"""Generated problems as a data folder: one JSONL file per domain, PDDL and reference plans beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from gradus.tasks.planning.domains import FAMILIES
from gradus.tasks.planning.folder import Row, write_rows
from gradus.tasks.planning.generate import Instance, as_plan, plan_text, sources
from gradus.tasks.planning.measure import measure
from gradus.tasks.planning.presets import Preset
from gradus.tasks.planning.prompt import build_prompt
from gradus.tasks.planning.validate import validate
from gradus.types import SPLITS, Split


def write_folder(
    out: Path | str,
    *,
    per_domain: int,
    seed: int = 0,
    preset: Preset = "default",
    constraint_rate: float = 0.0,
    domains: Sequence[str] | None = None,
    splits: Sequence[Split] = SPLITS,
) -> dict[str, dict[str, int]]:
    """Writes ``<split>/<domain>.jsonl`` and ``pddl/<domain>/``; returns the number of problems by split and domain.
    The held-out splits get a tenth as many as train. ValueError where the folder is not empty.

    Example:
        write_folder("data/planning", per_domain=500)["train"]["ferry"]  # 500
    """
    root = Path(out)
    if root.exists() and any(root.iterdir()):
        raise ValueError(f"{root} is not empty; give another folder")
    names = tuple(domains or FAMILIES)
    written: dict[str, dict[str, int]] = {}
    for split in splits:
        supplies = sources(names, split, preset=preset, seed=seed, constraint_rate=constraint_rate)
        count = per_domain if split == "train" else max(1, per_domain // 10)
        (root / split).mkdir(parents=True)
        written[split] = {}
        for name, source in supplies.items():
            rows = [_written(root, split, number, made) for number, made in enumerate(source.take(count))]
            write_rows(root / split / f"{name}.jsonl", rows)
            written[split][name] = len(rows)
    return written


def _written(root: Path, split: str, number: int, made: Instance) -> Row:
    """The row of an instance whose files have been written. Its reference plan has passed the checker."""
    draft = made.draft
    family = draft.family
    assert validate(draft.problem, as_plan(made.reference.actions)).valid, draft.name
    folder = root / "pddl" / family.name
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "domain.pddl": family.text,
        f"{draft.name}.pddl": draft.text,
        f"{draft.name}.soln": plan_text(made.reference.actions),
    }
    for file, text in files.items():
        (folder / file).write_text(text, encoding="utf-8")
    prompt = build_prompt(draft.problem, "full", family.name)
    meta = {
        "scenario": family.name,
        "problem_id": f"{family.name}/{split}/{number:05d}",
        "domain_file": f"pddl/{family.name}/domain.pddl",
        "problem_file": f"pddl/{family.name}/{draft.name}.pddl",
        "ref_len": len(made.reference.actions),
        "ref_optimal": made.reference.is_optimal,
        "difficulty": measure(family.name, draft.name, draft.problem).score,
        "split": split,
    }
    if made.plain_length is not None:
        meta |= {"plain_len": made.plain_length, "constraint_binds": made.binds}
    messages = [{"role": message.role, "content": message.content} for message in prompt]
    return Row(domain=family.name, prompt=messages, meta=meta, place=f"{split}/{family.name}.jsonl:{number + 1}")


def write_pddl(root: Path | str, rows: Iterable[tuple[Row, dict[str, str]]]) -> dict[str, int]:
    """Writes rows with their PDDL texts as a data folder; returns rows by domain. File names that would lie outside the
    folder are cut to their last part. ValueError where the folder is not empty, or one name has two texts."""
    folder = Path(root)
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; give another folder")
    by_domain: dict[str, list[Row]] = {}
    written: dict[Path, str] = {}
    for row, texts in rows:
        meta = dict(row.meta)
        for key, default in (("problem_file", None), ("domain_file", "domain.pddl")):
            named = str(meta.get(key) or default)
            inside = _inside(named, row.domain, is_default=not meta.get(key))
            if written.setdefault(folder / inside, texts[named]) != texts[named]:
                raise ValueError(f"{row.place}: {named!r} has two different texts; give each its own name")
            if meta.get(key) and str(inside) != named:
                meta[key] = str(inside)
            if key == "domain_file" and not meta.get(key):
                meta[key] = str(inside)
        by_domain.setdefault(row.domain, []).append(
            Row(domain=row.domain, prompt=row.prompt, meta=meta, place=row.place, others=row.others)
        )
    for path, text in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for domain, found in by_domain.items():
        write_rows(folder / f"{domain}.jsonl", found)
    return {domain: len(found) for domain, found in sorted(by_domain.items())}


def _inside(named: str, domain: str, *, is_default: bool) -> Path:
    """Where a file goes: as it is named, if that stays inside the folder."""
    path = Path(named.replace("\\", "/"))
    if is_default:
        return Path("pddl") / domain / path.name
    return Path("pddl") / domain / path.name if path.is_absolute() or ".." in path.parts else path
