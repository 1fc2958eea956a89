"""`gradus export`: a checkpoint of a run as a folder that transformers, peft and vLLM load without gradus.

The folder holds the weights (the adapter alone, or merged into its base), the tokenizer and chat template of training,
a model card with results and intervals, and under ``gradus/`` what is needed to repeat the run. It appears complete or
not at all. Nothing leaves the machine but by `push`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gradus import durable
from gradus.integrations.model_card import model_card
from gradus.jsonl import read_json
from gradus.rundir import RunDirectory

if TYPE_CHECKING:
    from gradus.evaluation.run import Located

Dtype = Literal["float32", "bfloat16", "float16"]
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
        _write_weights(source, temporary, merge=merge, dtype=dtype)
        records = temporary / "gradus"
        records.mkdir()
        for name in RECORDS:
            if (run.path / name).is_file():
                shutil.copyfile(run.path / name, records / name)
        shutil.copyfile(source.parent / "MANIFEST.json", records / "MANIFEST.json")
        card, notes = model_card(run, located.step, is_adapter=is_adapter and not merge, adapter_base=base)
        (temporary / "README.md").write_text(card, encoding="utf-8")
        if out.exists():
            out.rmdir()
        durable.rename(temporary, out, what="export")
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


def _write_weights(source: Path, target: Path, *, merge: bool, dtype: Dtype | None) -> None:
    """Weights, configuration, tokenizer; the same bytes where nothing about them changes."""
    if not merge and dtype is None:
        for path in sorted(source.iterdir()):
            if path.is_file() and path.name != "README.md":  # peft leaves an empty card
                shutil.copyfile(path, target / path.name)
        return
    import torch
    from transformers import AutoTokenizer

    kind = None if dtype is None else getattr(torch, dtype)
    model = _merged(source, kind) if merge else _loaded(source, kind)
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(source, trust_remote_code=False).save_pretrained(target)


def _loaded(source: Path, dtype: Any) -> Any:
    if (source / "adapter_config.json").is_file():
        raise ValueError("--dtype changes whole weights; add --merge, or export the adapter as it was trained")
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(source, dtype=dtype, use_safetensors=True, trust_remote_code=False)


def _merged(source: Path, dtype: Any) -> Any:
    """The adapter added to its base in float32, then rounded once."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from gradus.policy.load import resolve_address

    adapter = json.loads((source / "adapter_config.json").read_text())
    revision = adapter.get("revision")
    base, _ = resolve_address(str(adapter["base_model_name_or_path"]), revision)
    options = {"revision": revision, "use_safetensors": True, "trust_remote_code": False}
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, **options)
    own = model.config.dtype if dtype is None else dtype
    merged = PeftModel.from_pretrained(model, str(source)).merge_and_unload()
    return merged.to(own)
