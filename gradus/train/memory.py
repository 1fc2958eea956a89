"""Memory: what the process holds, and what to say when it was not enough."""

from __future__ import annotations

from pathlib import Path

from gradus.config import Config


def resident_bytes() -> int:
    """Memory of this process that is in RAM; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        return 0


def out_of_memory(config: Config) -> str:
    """What was too large, and what to make smaller."""
    optimizer, engine = config.optimizer, config.engine
    return (
        f"out of memory (micro-batches of {optimizer.microbatch_tokens} tokens, "
        f"{engine.batch_size} completions sampled at a time). "
        f"Try optimizer.microbatch_tokens={max(1, optimizer.microbatch_tokens // 2)}, or "
        f"engine.batch_size={max(1, engine.batch_size // 2)}, or model.lora in a new run"
    )
