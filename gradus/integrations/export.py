"""`gradus export`: a checkpoint of a run as a folder that transformers, peft and vLLM load without gradus.

The folder holds the weights (the adapter alone, or merged into its base), the tokenizer and chat template of training,
a model card with results and intervals, a benchmark's number for the Hub where one was measured, and under ``gradus/``
what is needed to repeat the run. It appears complete or not at all. Nothing leaves the machine but by `push`.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradus import durable, yaml12
from gradus.integrations.hub_results import hub_results
from gradus.integrations.model_card import model_card, results_of
from gradus.jsonl import read_json
from gradus.rundir import RunDirectory

if TYPE_CHECKING:
    from gradus.evaluation.run import Located
    from gradus.policy.rewrite import Dtype

RECORDS = ("resolved.yaml", "environment.json", "report.json")
"""Files of a run that go with its weights."""


def export(located: Located, out: Path, *, merge: bool = False, dtype: Dtype | None = None) -> dict[str, Any]:
    """Writes the export of one checkpoint to ``out``.

    Args:
        located: of `train.address.locate`, for ``RUN@best``, ``RUN@last`` or ``RUN@<step>``.
        out: a folder that does not exist, or is empty.
        merge: write whole weights, the adapter added to its base.
        dtype: of the weights; None: as they were trained.

    Returns:
        ``out``, ``model``, ``step``, ``bytes``, ``files`` (name to bytes) and ``notes``, what the card leaves out.

    Raises:
        ValueError: not a checkpoint of a run, ``out`` is in use, an adapter without base, or nothing to merge.
    """
    from gradus.policy.rewrite import write_weights

    if located.run is None or located.step == 0:
        raise ValueError(f"{located.model} is no checkpoint of a run; name one: RUN@best, RUN@last or RUN@<step>")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists and is not empty; give another folder with --out, or empty it")
    run, source = RunDirectory.open(located.run), Path(located.path)
    adapter = source / "adapter_config.json"
    is_adapter = adapter.is_file()
    if merge and not is_adapter:
        raise ValueError(f"{located.model} has no adapter to merge; its weights are whole: leave out --merge")
    base = str(read_json(adapter).get("base_model_name_or_path")) if is_adapter else None
    if base is not None and base.startswith("nano/") and not merge:
        raise ValueError(f"the base {base} of this adapter is known to gradus only; export whole weights with --merge")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.parent / durable.unique_name(durable.TEMPORARY, out.name)
    try:
        temporary.mkdir()
        write_weights(source, temporary, merge=merge, dtype=dtype)
        records = temporary / "gradus"
        records.mkdir()
        for name in RECORDS:
            if (run.path / name).is_file():
                shutil.copyfile(run.path / name, records / name)
        shutil.copyfile(source.parent / "MANIFEST.json", records / "MANIFEST.json")
        card, notes = model_card(run, located.step, is_adapter=is_adapter and not merge, adapter_base=base)
        (temporary / "README.md").write_text(card, encoding="utf-8")
        notes += _write_hub_results(run, located.step, temporary)
        if out.exists():
            out.rmdir()
        durable.rename(temporary, out)
    except BaseException:
        durable.discard(temporary)
        raise
    files = {str(path.relative_to(out)): path.stat().st_size for path in sorted(out.rglob("*")) if path.is_file()}
    return {
        "out": str(out),
        "model": located.model,
        "step": located.step,
        "bytes": sum(files.values()),
        "files": files,
        "notes": notes,
    }


def _write_hub_results(run: RunDirectory, step: int, folder: Path) -> list[str]:
    """Writes `.eval_results/` where a benchmark's whole test split was evaluated; notes on why there is none."""
    tree = yaml12.read((run.path / "resolved.yaml").read_bytes(), "resolved.yaml").value
    files, notes = hub_results(tree, results_of(run, step, str(tree["evaluation"]["split"])))
    if files:
        (folder / ".eval_results").mkdir()
    for name, text in files.items():
        (folder / ".eval_results" / name).write_text(text, encoding="utf-8")
    return notes


def push(folder: Path, repository: str, *, is_private: bool = True) -> str:
    """Uploads an export to the Hub and returns its address. A repository that is new is private unless told otherwise.

    Raises:
        ValueError: ``repository`` is not ``ORG/NAME``.
    """
    from huggingface_hub import HfApi

    if repository.count("/") != 1 or not all(repository.split("/")):
        raise ValueError(f"--push {repository} is no repository; give ORG/NAME")
    hub = HfApi()
    address = hub.create_repo(repository, private=is_private, exist_ok=True)
    hub.upload_folder(repo_id=repository, folder_path=str(folder), commit_message="gradus export")
    return str(address)
