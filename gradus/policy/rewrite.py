"""A saved policy written again for others: as it is, in another dtype, or with its adapter added to the base."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gradus.policy.load import resolve_address

Dtype = Literal["float32", "bfloat16", "float16"]


def write_weights(source: Path, target: Path, *, merge: bool = False, dtype: Dtype | None = None) -> None:
    """Writes weights, configuration and tokenizer of the model folder ``source`` into the folder ``target``; the same
    bytes where nothing about them changes. ValueError for an adapter in another dtype."""
    if not merge and dtype is None:
        for path in sorted(source.iterdir()):
            if path.is_file() and path.name != "README.md":  # peft leaves an empty card
                shutil.copyfile(path, target / path.name)
        return
    kind = None if dtype is None else getattr(torch, dtype)
    model = _merged(source, kind) if merge else _loaded(source, kind)
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(source, trust_remote_code=False).save_pretrained(target)


def _loaded(source: Path, dtype: torch.dtype | None) -> Any:
    if (source / "adapter_config.json").is_file():
        raise ValueError("--dtype changes whole weights; add --merge, or export the adapter as it was trained")
    return AutoModelForCausalLM.from_pretrained(source, dtype=dtype, use_safetensors=True, trust_remote_code=False)


def _merged(source: Path, dtype: torch.dtype | None) -> Any:
    """The adapter added to its base in float32, then rounded once; None: to the base's own dtype."""
    from peft import PeftModel

    adapter = json.loads((source / "adapter_config.json").read_text())
    revision = adapter.get("revision")
    base, _ = resolve_address(str(adapter["base_model_name_or_path"]), revision)
    model = AutoModelForCausalLM.from_pretrained(
        base, revision=revision, dtype="auto", use_safetensors=True, trust_remote_code=False
    )
    own = model.dtype if dtype is None else dtype
    return PeftModel.from_pretrained(model.float(), str(source)).merge_and_unload().to(own)
