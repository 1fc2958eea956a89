"""LoRA adapters: made, loaded and written; and 4-bit base weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from gradus.config import LoraConfig, ModelConfig
from gradus.policy.logprobs import split_model
from gradus.policy.packages import need_bitsandbytes
from gradus.seeds import seed_of


def add_lora(model: Any, config: ModelConfig, *, seed: int) -> Any:
    """``model`` with new adapters, in float32 whatever the base is in, that change nothing yet; only they learn.
    ValueError where ``model.lora.targets`` names nothing that can be adapted."""
    from peft import LoraConfig as PeftLoraConfig
    from peft import get_peft_model

    lora = config.lora
    assert lora is not None
    _check_targets(model, lora)
    torch.manual_seed(seed_of("init", seed))
    # peft writes it down: the base as the recipe names it, not where it lies on this machine
    model.name_or_path = model.config.name_or_path = config.path
    return get_peft_model(
        model,
        PeftLoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,  # type: ignore[arg-type]  # peft multiplies by it
            lora_dropout=lora.dropout,
            target_modules=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
            task_type="CAUSAL_LM",
            base_model_name_or_path=config.path,
            revision=config.revision,
        ),
        autocast_adapter_dtype=True,
    )


def load_adapter(model: Any, folder: str, *, is_trainable: bool) -> Any:
    """``model`` with the adapter of ``folder``."""
    from peft import PeftModel

    return PeftModel.from_pretrained(model, folder, is_trainable=is_trainable)


def save_model(model: Any, folder: Path) -> None:
    """Writes the weights, of an adapted model the adapter alone. No adapter touches embeddings, so peft need not look
    for the base's config, on the Hub if it is no folder, to see whether its vocabulary has grown."""
    if hasattr(model, "peft_config"):
        model.save_pretrained(folder, save_embedding_layers=False)
    else:
        model.save_pretrained(folder)


def quantization(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Arguments of `from_pretrained` for NF4 weights (arXiv 2305.14314) that compute in ``dtype``; the output head and
    the norms stay as they are. ValueError where the package for it is missing or the device cannot."""
    need_bitsandbytes("model.load_in_4bit=true")
    if device.type == "mps":
        raise ValueError("model.load_in_4bit=true works on cuda and cpu, not on mps; set model.load_in_4bit=false")
    from transformers import BitsAndBytesConfig

    told = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    return {"quantization_config": told, "device_map": {"": str(device)}}


def _check_targets(model: Any, lora: LoraConfig) -> None:
    """Each target must be the end of a linear layer's name, so that a slip of the pen is no silent smaller adapter."""
    head = split_model(model)[1]
    linear = [
        name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and module is not head
    ]
    if isinstance(lora.targets, str):
        return
    missing = [
        target for target in lora.targets if not any(name == target or name.endswith("." + target) for name in linear)
    ]
    if missing or not lora.targets:
        kinds = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
        raise ValueError(
            f"model.lora.targets: {', '.join(missing) or 'an empty list'} names no linear layer of {type(model).__name__}; "
            f"there are: {kinds}; or use all-linear"
        )
