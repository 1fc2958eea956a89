"""What a command would do, without doing it (`--dry-run`): counts, sizes, and the scorers tried on canned answers.

Touches no device and no network, and writes nothing. What cannot be known here says so.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gradus.config import Config
from gradus.exits import Exit
from gradus.tasks.base import load_task

if TYPE_CHECKING:
    from gradus.train.shapes import Shape

Kind = Literal["train", "sft", "evaluate", "probe"]

_NANO = Path(__file__).parent / "policy" / "nano"
_MAX_HEAD_BYTES = 100_000_000
_MOMENT_BYTES = 8
"""Both moments of AdamW in float32, per trained parameter."""


def plan(config: Config, kind: Kind) -> dict[str, Any]:
    """The plan as JSON values."""
    tasks = {name: _task(name, options) for name, options in config.tasks.items()}
    memory = _memory(config, tasks) if kind == "train" and config.backend.name == "native" else {}
    return {
        "command": kind,
        "work": _work(config, kind),
        "model": model_facts(config),
        **({"memory": memory, "device": _device(config)} if memory else {}),
        "tasks": tasks,
        "imports": _imports(config, kind),
        **(_backend(config) if kind == "train" and config.backend.name != "native" else {}),
    }


def _imports(config: Config, kind: Kind) -> list[str]:
    """Packages beyond gradus' own, the trainer's left out where it is another."""
    is_small = config.model.load_in_4bit or (kind in ("train", "sft") and config.optimizer.moments == "8bit")
    strategy = config.parallel.strategy if kind in ("train", "sft") else ""
    wanted = {
        "peft": config.model.lora is not None,
        "bitsandbytes": is_small,
        "deepspeed": strategy.startswith("zero"),
        "vllm": config.engine.name == "vllm" and kind != "sft",
    }
    return ["torch", "transformers", "safetensors", *(name for name, is_wanted in wanted.items() if is_wanted)]


def _backend(config: Config) -> dict[str, Any]:
    """What the other trainer is told, and what differs from a native run."""
    from gradus.train.backends.settings import differences, told

    name = config.backend.name
    return {"backend": {"name": name, "arguments": told(config, name), "differences": differences(config, name)}}


def as_text(facts: Mapping[str, Any]) -> str:
    """The plan for people."""
    lines = [f"plan of gradus {facts['command']} (nothing was started, written or downloaded)"]
    lines += [f"  {name.replace('_', ' ')}: {_shown(value)}" for name, value in facts["work"].items()]
    lines += [_line("model", name, value) for name, value in facts["model"].items() if value is not None]
    if memory := facts.get("memory"):
        parts = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in memory.items() if name != "peak" and size)
        lines.append(
            f"  memory on {facts['device']}: about {memory['peak'] / 1e9:.2f} GB at the peak ({parts}; of sampling and update "
            "the larger)"
        )
    for task, values in facts["tasks"].items():
        lines += [_line(f"task {task}", name, value) for name, value in values.items()]
    if backend := facts.get("backend"):
        lines += [f"  {backend['name']} {name}={_shown(value)}" for name, value in backend["arguments"].items()]
        lines += [f"  {backend['name']}: {line}" for line in backend["differences"]]
    return "\n".join([*lines, f"  would import: {', '.join(facts['imports'])}"])


def _line(what: str, name: str, value: Any) -> str:
    """A fact in words; bytes in GB."""
    words = name.split("_")
    is_size = "bytes" in words
    return f"  {what} {' '.join(word for word in words if word != 'bytes')}: " + (
        f"{value / 1e9:.3g} GB" if is_size else _shown(value)
    )


def _device(config: Config) -> str:
    """What memory is counted for: ``auto`` is a CPU here, since no device is touched."""
    if config.model.device == "auto":
        return "a CPU (model.device=cuda or mps counts theirs)"
    return "a CPU" if config.model.device == "cpu" else config.model.device


def _work(config: Config, kind: Kind) -> dict[str, Any]:
    evaluation, sampling = config.evaluation, config.sampling
    samples = 1 if evaluation.temperature == 0 else evaluation.samples_per_problem
    per_evaluation = evaluation.num_problems * samples
    if kind == "evaluate":
        return {"completions": per_evaluation, "tokens_at_most": per_evaluation * sampling.max_tokens}
    if kind == "probe":
        per_problem = config.probe.samples_per_problem or max(16, sampling.group_size)
        updates = config.optimizer.updates_per_batch * config.optimizer.passes_per_batch
        num_batches = -(-min(config.probe.rehearse_steps, config.num_steps) // updates)
        completions = config.probe.num_problems * per_problem
        completions += num_batches * config.curriculum.problems_per_step * sampling.group_size
        return {
            "problems_at_most": config.probe.num_problems,
            "completions_per_problem": per_problem,
            "rehearsed_steps": config.probe.rehearse_steps,
            "completions": completions,
            "tokens_at_most": completions * sampling.max_tokens,
        }
    num_evaluations = 2 + (config.num_steps - 1) // (evaluation.every_steps or config.num_steps)
    evaluated = {"evaluations": num_evaluations, "evaluation_completions": num_evaluations * per_evaluation}
    if kind == "sft":
        return {"optimizer_steps": config.num_steps, "answers_per_step": config.sft.batch_size, **evaluated}
    completions = config.curriculum.problems_per_step * sampling.group_size
    updates = config.optimizer.updates_per_batch * config.optimizer.passes_per_batch
    num_batches = -(-config.num_steps // updates)
    return {
        "optimizer_steps": config.num_steps,
        "batches_of_rollouts": num_batches,
        "completions_per_batch": completions,
        "completions": completions * num_batches,
        "tokens_at_most": completions * num_batches * sampling.max_tokens,
        **evaluated,
    }


def model_facts(config: Config) -> dict[str, Any]:
    """Sizes of the weights that lie here, or by a name that is known; nothing is loaded."""
    model = config.model
    facts: dict[str, Any] = {"path": model.path, "revision": model.revision}
    count, shape = _num_parameters(_folder(config)), _shape(config)
    if count is None:
        if shape is None:
            return facts | {"memory": "not known before its weights are here"}
        count = shape.num_parameters
        facts["weights"] = "not here yet; sizes are those of a model of this name"
    width = 2 if model.dtype == "bfloat16" else 4
    facts["num_parameters"] = count
    if not model.load_in_4bit:
        facts["weights_bytes"] = count * width
    if model.lora is not None:
        if shape is None:
            return facts | {"checkpoint": "adapters only; their size follows from the layers they are put on"}
        trained = shape.num_adapted(model.lora.rank, model.lora.targets)
        checkpoint = trained * (4 + _MOMENT_BYTES)
        return facts | {
            "trained_parameters": trained,
            "checkpoint_bytes": checkpoint,
            "disk_bytes": (config.checkpoint.keep_last + 1) * checkpoint,
        }
    state = count * (_MOMENT_BYTES + (4 if width < 4 else 0))  # narrow weights have float32 masters
    checkpoint = count * width + state
    return facts | {
        "training_bytes_without_activations": 2 * count * width + state,
        "checkpoint_bytes": checkpoint,
        "disk_bytes": (config.checkpoint.keep_last + 1) * checkpoint,
    }


def _folder(config: Config) -> Path:
    """Where the weights are: an embedded policy's folder, the Hub's cache, or the path as it stands."""
    path = config.model.path
    if path.startswith("nano/"):
        return _NANO / path.removeprefix("nano/")
    folder = Path(path).expanduser()
    is_address = path.count("/") == 1 and not path.startswith((".", "/", "~"))
    if not folder.exists() and is_address and importlib.util.find_spec("huggingface_hub") is not None:
        from huggingface_hub import try_to_load_from_cache

        try:
            found = try_to_load_from_cache(path, "config.json", revision=config.model.revision)
        except ValueError:  # no name that the Hub would give, such as runs/x@last
            return folder
        if isinstance(found, str):
            return Path(found).parent
    return folder


def _shape(config: Config) -> Shape | None:
    """Of the config that lies here, or of a model of this name."""
    from gradus.train.shapes import known_shape, shape_at

    return shape_at(_folder(config)) or known_shape(config.model.path)


def _memory(config: Config, tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Bytes by purpose and at the peak; empty where the model's config is not here or not of the usual form."""
    from gradus.train.footprint import footprint

    if (shape := _shape(config)) is None:
        return {}
    characters = max((facts.get("prompt_characters", 0) for facts in tasks.values()), default=0)
    return footprint(config, shape, prompt_characters=characters)


def _num_parameters(folder: Path) -> int | None:
    """Read from the heads of the safetensors files; None where there are none."""
    files = sorted(folder.glob("*.safetensors"))
    return sum(map(_parameters_of, files)) if files else None


def _parameters_of(file: Path) -> int:
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        head = json.loads(stream.read(min(length, _MAX_HEAD_BYTES)))
    return sum(math.prod(tensor["shape"]) for name, tensor in head.items() if name != "__metadata__")


def _task(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The scorer tried on the first training problem: the oracle's answer and two that must not be paid in full."""
    task = load_task(name, **options)
    facts = {"scorer": f"{type(task).__module__}.{type(task).__qualname__}", "needs": list(task.needs)}
    try:
        problem = _without_network(task.example)
        answers = {"oracle": task.oracle(problem), "empty": "", "no_answer": "I do not know."}
    except (ValueError, Exit, OSError) as error:
        is_told = os.environ.get("GRADUS_OFFLINE") == "1" or "GRADUS_OFFLINE" not in str(error)
        return facts | {"canned_answers": f"not tried: {error if is_told else 'problems are on the Hub'}"}
    rewards = {label: task.score(problem, text).reward for label, text in answers.items()}
    return facts | {"rewards": rewards, "prompt_characters": sum(len(message.content) for message in problem.messages)}


def _without_network(act: Any) -> Any:
    """Calls ``act`` under GRADUS_OFFLINE=1, so that a source on the Hub is refused instead of fetched."""
    before = os.environ.get("GRADUS_OFFLINE")
    os.environ["GRADUS_OFFLINE"] = "1"
    try:
        return act()
    finally:
        if before is None:
            del os.environ["GRADUS_OFFLINE"]
        else:
            os.environ["GRADUS_OFFLINE"] = before


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "nothing"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else "none" if value is None else str(value)
