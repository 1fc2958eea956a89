"""The model card of an export: what the model is, what it was trained on, and base against trained with intervals."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradus import yaml12
from gradus.evaluation.compare import Comparison, compare
from gradus.evaluation.wording import difference, value
from gradus.jsonl import read_json
from gradus.rundir import RunDirectory

NO_RESULTS = "The run holds no evaluation of this step beside one of its base, so there are no results to show."


def model_card(run: RunDirectory, step: int, *, is_adapter: bool, adapter_base: str | None) -> tuple[str, list[str]]:
    """(text of README.md, notes for the user on what it leaves out)."""
    tree = yaml12.read((run.path / "resolved.yaml").read_bytes(), "resolved.yaml").value
    base, revision = adapter_base or str(tree["model"]["path"]), tree["model"].get("revision")
    results = results_of(run, step, str(tree["evaluation"]["split"]))
    notes = [] if results else ["no results: evaluate the base and this step, then export again"]
    licence = _licence(base)
    if licence is None:
        notes.append(f"no licence: {base} states none here; add `license:` to README.md before you publish")
    front = _front(run.path.name, base, tuple(tree["tasks"]), results, licence, is_adapter=is_adapter)
    body = _body(run, step, tree, base if revision is None else f"{base}@{revision}", results, is_adapter=is_adapter)
    return f"---\n{yaml12.write(front)}---\n{body}", notes


def results_of(run: RunDirectory, step: int, split: str) -> dict[str, Comparison]:
    """Base against this step, for each set that holds both; the run's own split first."""
    folder = run.path / "evaluations"
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    found = {}
    for name in sorted(names, key=lambda name: (name != split, name)):
        if {0, step} <= set(run.evaluation_steps(name)):
            (base_rows, base), (rows, summary) = run.read_evaluation(name, 0), run.read_evaluation(name, step)
            found[name] = compare(
                base_rows,
                rows,
                base_settings=base.get("settings"),
                trained_settings=summary.get("settings"),
                allow_mismatch=True,
            )
    return found


def _front(
    name: str,
    base: str,
    tasks: tuple[str, ...],
    results: Mapping[str, Comparison],
    licence: str | None,
    *,
    is_adapter: bool,
) -> dict[str, Any]:
    front: dict[str, Any] = {
        "library_name": "peft" if is_adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["grpo", "gradus", *tasks],
    }
    if base.count("/") == 1 and not base.startswith(("nano/", "/", ".")):  # the Hub resolves nothing else
        front |= {"base_model": base, "base_model_relation": "adapter" if is_adapter else "finetune"}
    if licence is not None:
        front["license"] = licence
    entries = [
        {
            "task": {"type": "text-generation"},
            "dataset": {"name": f"{' + '.join(tasks)}, {split}", "type": tasks[0], "split": split},
            "metrics": [
                {
                    "type": "pass@1",
                    "name": f"Pass@1 (N = {result.num_problems}, K = {result.samples_per_problem})",
                    "value": round(result.primary.trained.value, 4),
                }
            ],
        }
        for split, result in results.items()
        if result.primary.trained.value is not None
    ]
    if entries:
        front["model-index"] = [{"name": name, "results": entries}]
    return front


def _body(
    run: RunDirectory,
    step: int,
    tree: Mapping[str, Any],
    base: str,
    results: Mapping[str, Comparison],
    *,
    is_adapter: bool,
) -> str:
    tasks = ", ".join(f"`{name}`" for name in tree["tasks"])
    what = "A LoRA adapter for" if is_adapter else "The model"
    algorithm, sampling = tree["algorithm"]["name"], tree["sampling"]
    parts = [
        f"# {_plain(run.path.name)}",
        f"{what} `{_plain(base)}`, post-trained for {step} optimizer steps with {algorithm} on {tasks}, "
        f"{sampling['group_size']} completions a problem, by [gradus](gradus/resolved.yaml).",
        "## Results\n\n" + (_table(results) if results else NO_RESULTS),
        "## Task and reward\n\n"
        + "\n".join(
            f"- `{name}`: `{_plain(json.dumps(options, ensure_ascii=False))}`"
            for name, options in tree["tasks"].items()
        )
        + "\n\nA program decides the reward from the text of an answer alone. A rewarded answer is right by that program, "
        "not by a person; nothing else about the text was looked at.",
        "## Data and settings\n\n" + _settings(run, tree),
        "## Limits\n\n"
        f"- One run, seed {tree['seed']}: another seed gives other weights and another difference.\n"
        "- Trained and measured on the tasks above; what it lost elsewhere was not measured.\n"
        "- The intervals cover the choice of problems and samples, not the choice of seed.",
        "## To repeat it\n\n```\ngradus train gradus/resolved.yaml\n```",
        "## Versions\n\n" + _versions(run),
    ]
    return "\n\n".join(parts) + "\n"


def _table(results: Mapping[str, Comparison]) -> str:
    rows = ["| set | metric | base | trained | difference | N | K |", "|---|---|---|---|---|---|---|"]
    for split, result in results.items():
        for line in result.summary:
            if line.base.value is None or line.trained.value is None:
                continue
            cells = (
                split,
                line.name,
                value(line.base, line.unit),
                value(line.trained, line.unit),
                difference(line),
                str(result.num_problems),
                str(result.samples_per_problem),
            )
            rows.append("| " + " | ".join(cells) + " |")
    verdicts = "\n".join(f"{split}: {result.sentence}" for split, result in results.items())
    mismatched = [f"{split}: {'; '.join(result.mismatches)}" for split, result in results.items() if result.mismatches]
    warning = "\n\nNot the same experiment on both sides: " + " ".join(mismatched) if mismatched else ""
    return "\n".join(rows) + f"\n\nBrackets: 95 % intervals. {_plain(verdicts)}{_plain(warning)}"


def _settings(run: RunDirectory, tree: Mapping[str, Any]) -> str:
    manifest = read_json(run.path / "run.json") if (run.path / "run.json").is_file() else {}
    optimizer, curriculum = tree["optimizer"], tree["curriculum"]
    rows = {
        "problems per step": curriculum["problems_per_step"],
        "learning rate": optimizer["learning_rate"],
        "temperature": tree["sampling"]["temperature"],
        "longest completion (tokens)": tree["sampling"]["max_tokens"],
        "fingerprint of the training problems": manifest.get("data_fingerprint"),
    }
    return "\n".join(f"- {name}: {_plain(str(shown))}" for name, shown in rows.items() if shown is not None)


def _versions(run: RunDirectory) -> str:
    path = run.path / "environment.json"
    found = read_json(path) if path.is_file() else {}
    packages = {"gradus": found.get("gradus"), "python": found.get("python"), **found.get("packages", {})}
    chosen = ("gradus", "python", "torch", "transformers", "peft", "trl", "verl", "vllm")
    return ", ".join(f"{name} {packages[name]}" for name in chosen if packages.get(name))


def _licence(base: str) -> str | None:
    """`license:` of the card beside a local base; a base on the Hub is not asked."""
    card = Path(base) / "README.md"
    if not card.is_file():
        return None
    found = re.match(r"---\n(?:.*\n)*?license:[ \t]*([\w.-]{1,64})[ \t]*\n", card.read_text(errors="replace")[:20_000])
    return found[1] if found else None


def _plain(text: str) -> str:
    """Without what Markdown or HTML could act on."""
    return text.replace("`", "'").replace("<", "&lt;").replace("|", "\\|")
