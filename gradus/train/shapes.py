"""Sizes of a decoder: from the ``config.json`` of its folder, or by the name of a model that many use; torch is not imported."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes of a decoder.

    Example:
        Shape.of(json.loads(Path("config.json").read_text())).num_parameters
    """

    layers: int
    hidden: int
    inner: int
    heads: int
    key_heads: int
    head_width: int
    vocabulary: int
    is_tied: bool

    @classmethod
    def of(cls, tree: Mapping[str, Any]) -> Shape | None:
        """Reads a ``config.json``; None where it is not that of a decoder of the usual names."""
        tree = tree.get("text_config", tree)
        try:
            hidden, heads = int(tree["hidden_size"]), int(tree["num_attention_heads"])
            return cls(
                layers=int(tree["num_hidden_layers"]),
                hidden=hidden,
                inner=int(tree["intermediate_size"]),
                heads=heads,
                key_heads=int(tree.get("num_key_value_heads") or heads),
                head_width=int(tree.get("head_dim") or hidden // heads),
                vocabulary=int(tree["vocab_size"]),
                is_tied=bool(tree.get("tie_word_embeddings", False)),
            )
        except (KeyError, TypeError, ValueError):
            return None

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of each linear layer of a block."""
        queries, keys = self.heads * self.head_width, self.key_heads * self.head_width
        return {
            "q_proj": (self.hidden, queries),
            "k_proj": (self.hidden, keys),
            "v_proj": (self.hidden, keys),
            "o_proj": (queries, self.hidden),
            "gate_proj": (self.hidden, self.inner),
            "up_proj": (self.hidden, self.inner),
            "down_proj": (self.inner, self.hidden),
        }

    @property
    def num_linear(self) -> int:
        """Parameters of the linear layers of all blocks."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.linear.values())

    @property
    def num_parameters(self) -> int:
        """All parameters, biases left out."""
        ends = self.vocabulary * self.hidden * (1 if self.is_tied else 2)
        return self.num_linear + ends + (2 * self.layers + 1) * self.hidden

    def num_adapted(self, rank: int, targets: str | tuple[str, ...]) -> int:
        """Parameters of LoRA adapters."""
        chosen = [size for name, size in self.linear.items() if isinstance(targets, str) or name in targets]
        return self.layers * rank * sum(inputs + outputs for inputs, outputs in chosen)


def shape_at(folder: Path) -> Shape | None:
    """Of the model in a local folder; None where there is none, or an adapter only."""
    try:
        return Shape.of(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


_KNOWN: dict[str, tuple[int, int, int, int, int, int, int, bool]] = {
    "qwen2.5-0.5b": (24, 896, 4864, 14, 2, 64, 151_936, True),
    "qwen2.5-1.5b": (28, 1536, 8960, 12, 2, 128, 151_936, True),
    "qwen2.5-3b": (36, 2048, 11_008, 16, 2, 128, 151_936, True),
    "qwen2.5-7b": (28, 3584, 18_944, 28, 4, 128, 152_064, False),
    "qwen2.5-14b": (48, 5120, 13_824, 40, 8, 128, 152_064, False),
    "qwen3-0.6b": (28, 1024, 3072, 16, 8, 128, 151_936, True),
    "qwen3-1.7b": (28, 2048, 6144, 16, 8, 128, 151_936, True),
    "qwen3-4b": (36, 2560, 9728, 32, 8, 128, 151_936, True),
    "qwen3-8b": (36, 4096, 12_288, 32, 8, 128, 151_936, False),
    "qwen3-14b": (40, 5120, 17_408, 40, 8, 128, 151_936, False),
    "llama-3.2-1b": (16, 2048, 8192, 32, 8, 64, 128_256, True),
    "llama-3.2-3b": (28, 3072, 8192, 24, 8, 128, 128_256, True),
    "llama-3.1-8b": (32, 4096, 14_336, 32, 8, 128, 128_256, False),
    "mistral-7b": (32, 4096, 14_336, 32, 8, 128, 32_768, False),
    "smollm2-135m": (30, 576, 1536, 9, 3, 64, 49_152, True),
    "smollm2-360m": (32, 960, 2560, 15, 5, 64, 49_152, True),
    "smollm2-1.7b": (24, 2048, 8192, 32, 32, 64, 49_152, True),
}
"""Layers, width, inner width, heads, key heads, head width, vocabulary, whether the head is tied; as published with them."""
_VARIANT = re.compile(r"[-_](instruct|base|it|bnb-4bit|v\d+(\.\d+)*)$")


def known_shape(path: str) -> Shape | None:
    """By the last part of a model's address, for what is not here yet; None where the name says nothing."""
    name = path.rstrip("/").rpartition("/")[2].lower()
    while (shorter := _VARIANT.sub("", name)) != name:
        name = shorter
    if name not in _KNOWN:
        return None
    layers, hidden, inner, heads, key_heads, head_width, vocabulary, is_tied = _KNOWN[name]
    return Shape(
        layers=layers,
        hidden=hidden,
        inner=inner,
        heads=heads,
        key_heads=key_heads,
        head_width=head_width,
        vocabulary=vocabulary,
        is_tied=is_tied,
    )
