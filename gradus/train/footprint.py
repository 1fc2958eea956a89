"""How much memory a training run will take, from its config and the model's ``config.json`` alone; torch is not imported.

Counted are the tensors that exist at the two peaks, the largest moment of sampling and the start of a backward pass:
what stays (weights, gradients, moments, masters) and what comes and goes (caches and logits there, saved activations
and a chunk of logits here). How well that meets what runs really took: docs/log.md, `tests/train/test_footprint.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradus.algo.presets import resolve_algorithm
from gradus.config import Config

PROCESS_BYTES = 520_000_000
"""A process with torch, transformers and a task, on a CPU, before it loads a model (measured: torch 2.13, x86-64)."""
CHUNK_ELEMENTS, TILE_ELEMENTS, TILE_VOCABULARY = 1 << 24, 1 << 21, 4096
"""As in `policy.logprobs`, which cannot be imported without torch; a test holds them equal."""
_FIRST_COLUMNS = 64
"""Own positions that the sampler's cache begins with; it grows by doubling."""
_CHARACTERS_PER_TOKEN = 3
"""Of prompts, where only their text is known."""


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


def footprint(config: Config, shape: Shape, *, prompt_characters: int) -> dict[str, int]:
    """Bytes by what they are for, and ``peak``, their sum with the larger of ``sampling`` and ``update`` only.

    ``process`` is left out where the policy is not on a CPU: the sum is then the device's. A completion is taken to be as
    long as it may be; a prompt as long as ``sampling.max_prompt_tokens``, or as its text lets expect.
    """
    model, lora = config.model, config.model.lora
    width = 2 if model.dtype == "bfloat16" or (model.dtype == "auto" and model.device == "cuda") else 4
    is_on_cpu = model.device in ("cpu", "auto")
    trained = shape.num_parameters if lora is None else shape.num_adapted(lora.rank, lora.targets)
    trained_width = width if lora is None else 4
    weights = shape.num_parameters * width
    if model.load_in_4bit:  # half a byte and a scale each; embeddings, head and norms stay
        weights = shape.num_linear * 9 // 16 + (shape.num_parameters - shape.num_linear) * width
    if lora is not None:
        weights += trained * 4
    elif resolve_algorithm(config.algorithm).kl_coef > 0:
        weights += shape.num_parameters * width  # the reference
    moments = 8 if config.optimizer.moments == "float32" else 2
    masters = 8 if trained_width == 2 else 0  # weights, and gradients while a step is made
    prompt = config.sampling.max_prompt_tokens or max(1, prompt_characters // _CHARACTERS_PER_TOKEN)
    parts = {
        "process": PROCESS_BYTES if is_on_cpu else 0,
        "weights": weights,
        "gradients": trained * trained_width,
        "optimizer": trained * (moments + masters),
        "sampling": _sampling(config, shape, prompt, width),
        "update": _update(config, shape, prompt, width, is_head_trained=lora is None),
    }
    stays = sum(value for name, value in parts.items() if name not in ("sampling", "update"))
    # no gradients exist while completions are sampled
    peak = stays + max(parts["sampling"] - parts["gradients"], parts["update"])
    return {**parts, "peak": peak}


def _sampling(config: Config, shape: Shape, prompt: int, width: int) -> int:
    """Caches twice (rows that leave are copied out of the old one), and logits with what a draw makes of them."""
    sampling, per_step = config.sampling, config.curriculum.problems_per_step * config.sampling.group_size
    rows = min(config.engine.batch_size, max(per_step, config.evaluation.num_problems))
    columns = min(_FIRST_COLUMNS, sampling.max_tokens)
    while columns < sampling.max_tokens:
        columns = min(2 * columns, sampling.max_tokens)
    per_position = 2 * shape.layers * shape.key_heads * shape.head_width * width
    groups = -(-rows // sampling.group_size)
    caches = 2 * rows * columns * per_position + 2 * groups * prompt * per_position
    return caches + 4 * rows * shape.vocabulary * 4


def _update(config: Config, shape: Shape, prompt: int, width: int, *, is_head_trained: bool) -> int:
    """Saved activations of a micro-batch, logits of a chunk, and the head's gradient where it is made anew."""
    optimizer, sampling = config.optimizer, config.sampling
    per_group = prompt + sampling.group_size * sampling.max_tokens
    groups = config.curriculum.problems_per_step // optimizer.updates_per_batch
    tokens = min(optimizer.microbatch_tokens, groups * per_group)
    if optimizer.microbatch_size is not None:
        tokens = min(tokens, optimizer.microbatch_size * sampling.max_tokens + prompt)
    own = tokens * (per_group - prompt) // per_group
    queries = shape.heads * shape.head_width
    layer = 6 * shape.hidden + 7 * queries + 4 * shape.inner
    saved = shape.layers * shape.hidden + layer if config.model.gradient_checkpointing else shape.layers * layer
    is_tiled = config.model.device in ("cpu", "auto") and shape.vocabulary > 2 * TILE_VOCABULARY
    chunk = min(TILE_ELEMENTS if is_tiled else CHUNK_ELEMENTS, own * shape.vocabulary)
    logits = chunk * (4 * 2 + (0 if width == 4 else width))
    head = shape.vocabulary * shape.hidden * width if is_head_trained else 0
    return tokens * saved * width + logits + head
