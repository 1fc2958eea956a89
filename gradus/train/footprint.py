"""How much memory a training run will take, from its config and the model's ``config.json`` alone; torch is not imported.

Counted are the tensors that exist at the two peaks, the largest moment of sampling and the start of a backward pass:
what stays (weights, gradients, moments, masters) and what comes and goes (caches and logits there, saved activations
and a chunk of logits here). How well that meets what runs really took: docs/log.md, `tests/train/test_footprint.py`.
"""

from __future__ import annotations

from gradus.algo.presets import resolve_algorithm
from gradus.config import Config
from gradus.train.shapes import Shape

PROCESS_BYTES = 520_000_000
"""A process with torch, transformers and a task, on a CPU, before it loads a model (measured: torch 2.13, x86-64)."""
CHUNK_ELEMENTS, TILE_ELEMENTS, TILE_VOCABULARY = 1 << 24, 1 << 21, 4096
"""As in `policy.logprobs`, which cannot be imported without torch; a test holds them equal."""
KEPT_SCORES, PART_SCORES = 1 << 20, 1 << 24
"""As in `policy.attention`, likewise."""
_SCORE_BYTES = {4: 14, 2: 12}
"""Of one score of a part while its gradient is computed, by the width of the weights (measured: docs/log.md)."""
_FIRST_COLUMNS = 64
"""Own positions that the sampler's cache begins with; it grows by doubling."""
_CHARACTERS_PER_TOKEN = 3
"""Of prompts, where only their text is known."""


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
    logits = chunk * (4 * 2 + (0 if width == 4 else width)) + _scores(config, shape, prompt, own, width)
    head = shape.vocabulary * shape.hidden * width if is_head_trained else 0
    return tokens * saved * width + logits + head


def _scores(config: Config, shape: Shape, prompt: int, own: int, width: int) -> int:
    """What attention takes: on CUDA a part of the keys and values, copied to each completion, with their gradients; on MPS
    the scores, of all layers where they are few, else of one part. On a CPU the fused kernel needs neither."""
    if config.model.device in ("cpu", "auto"):
        return 0
    if config.model.device == "cuda":
        group = config.sampling.group_size * shape.heads * (prompt + config.sampling.max_tokens) * shape.head_width
        elements = own * shape.heads * (prompt + config.sampling.max_tokens) * shape.head_width
        return 6 * width * min(elements // config.sampling.max_tokens, max(group, PART_SCORES))
    scores = own * shape.heads * (prompt + config.sampling.max_tokens)
    if scores <= KEPT_SCORES:
        return scores * (4 + width) * (1 if config.model.gradient_checkpointing else shape.layers)
    return min(scores, PART_SCORES) * _SCORE_BYTES[width]
