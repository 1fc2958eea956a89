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


def device_memory(kind: str) -> dict[str, int]:
    """``system/device_bytes``: the most that tensors took of a GPU since the last call, or take of MPS now; nothing on a CPU."""
    import torch

    if kind == "cuda":
        most = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        return {"system/device_bytes": most}
    if kind == "mps":
        return {"system/device_bytes": torch.mps.driver_allocated_memory()}
    return {}


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that host or device memory did not suffice. torch has a class for that on CUDA only."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


_WORDS = ("DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory", "out of memory")
"""How the allocators of CPU, MPS and CUDA say it."""


def out_of_memory(config: Config, *, is_update: bool) -> str:
    """What was too large, in the update or in sampling, and the most useful changes."""
    optimizer, engine, model = config.optimizer, config.engine, config.model
    if is_update:
        what = f"the update (micro-batches of {optimizer.microbatch_tokens} tokens)"
        steps = [f"optimizer.microbatch_tokens={max(1, optimizer.microbatch_tokens // 2)}"]
        steps += [] if optimizer.auto_microbatch else ["optimizer.auto_microbatch=true"]
        steps += [] if model.gradient_checkpointing else ["model.gradient_checkpointing=true"]
    else:
        what = f"sampling ({engine.batch_size} completions at a time)"
        steps = [f"engine.batch_size={max(1, engine.batch_size // 2)}"]
    lora = "model.lora={}" if model.lora is None else "model.load_in_4bit=true"
    steps += [] if model.lora is not None and model.load_in_4bit else [f"{lora} in a new run"]
    return f"out of memory in {what}. Try " + ", or ".join(steps)
