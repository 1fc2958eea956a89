"""Small models for tests, built from the families' own config classes with random weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
    Starcoder2Config,
)

from gradus.policy.agreement import use_tree_attention
from gradus.policy.load import NANO

SIZES: dict[str, Any] = {
    "vocab_size": 392,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "attention_dropout": 0.0,
}
CONFIGS = {
    "llama": lambda: LlamaConfig(**SIZES),
    "qwen2": lambda: Qwen2Config(**SIZES, tie_word_embeddings=True),
    "qwen3": lambda: Qwen3Config(**SIZES, head_dim=16),
    "mistral-window": lambda: MistralConfig(**SIZES, sliding_window=7),
    "gemma": lambda: GemmaConfig(**{**SIZES, "num_key_value_heads": 1}, head_dim=16),
    "gemma2": lambda: Gemma2Config(
        **SIZES,
        head_dim=16,
        query_pre_attn_scalar=16,
        sliding_window=7,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0,
    ),
    "gemma3": lambda: Gemma3TextConfig(
        **SIZES,
        head_dim=16,
        query_pre_attn_scalar=16,
        sliding_window=7,
        layer_types=["sliding_attention", "full_attention"],
    ),
    "smollm3": lambda: SmolLM3Config(**SIZES, no_rope_layers=[1, 0]),
    "starcoder2": lambda: Starcoder2Config(**SIZES),
}
"""StarCoder2 normalises in the model's own dtype: the family for exact float64 comparisons."""


def build_model(family: str, *, dtype: torch.dtype = torch.float32, seed: int = 0) -> Any:
    """A causal LM of ``family`` with random weights, not yet taking part in prompt sharing."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(CONFIGS[family](), dtype=dtype)
    with torch.no_grad():
        for parameter in model.parameters():  # far from uniform logits, so that mistakes show
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()


def tree_model(family: str, **options: Any) -> Any:
    """The same with prompt-sharing attention."""
    model = build_model(family, **options)
    use_tree_attention(model)
    return model


def save_model(folder: Path, family: str = "llama", *, seed: int = 0) -> Path:
    """A folder that `policy.load` loads: random weights and the embedded policy's tokenizer."""
    build_model(family, seed=seed).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(NANO / "countdown" / name, folder / name)
    return folder


def random_tokens(lengths: list[int], *, seed: int = 0) -> list[list[int]]:
    """Token lists of the given lengths."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(5, SIZES["vocab_size"], (length,), generator=generator).tolist() for length in lengths]
