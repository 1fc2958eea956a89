"""Every config key: which there are, what each must be, whether it may change on resume, what a wrong one meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gradus.config import Config

Resume = Literal["mutable", "inexact", "immutable"]
"""What a change of a key does to a run that goes on: nothing, lose the promise of equal bits, or not allowed."""

SYNONYMS: Mapping[str, str] = {
    "adam_beta2": "optimizer.beta2",
    "adv_estimator": "algorithm.name",
    "advantage_estimator": "algorithm.name",
    "base_model": "model.path",
    "batch_size": "curriculum.problems_per_step",
    "beta": "algorithm.kl_coef",
    "bf16": "model.dtype",
    "clip_grad": "optimizer.max_grad_norm",
    "clip_ratio": "algorithm.clip_low",
    "clip_ratio_high": "algorithm.clip_high",
    "clip_ratio_low": "algorithm.clip_low",
    "cliprange": "algorithm.clip_low",
    "default_local_dir": "name",
    "entropy_coeff": "algorithm.entropy_coef",
    "epsilon": "algorithm.clip_low",
    "epsilon_high": "algorithm.clip_high",
    "eval_steps": "evaluation.every_steps",
    "experiment_name": "name",
    "fp16": "model.dtype",
    "gradient_accumulation_steps": "optimizer.microbatch_size",
    "grad_clip": "optimizer.max_grad_norm",
    "importance_sampling_level": "algorithm.ratio_level",
    "kl_coeff": "algorithm.kl_coef",
    "kl_loss_coef": "algorithm.kl_coef",
    "log_val_generations": "records.rollouts_every_steps",
    "logger": "tracking.sinks",
    "learning_rate": "optimizer.learning_rate",
    "logging_steps": "records.rollouts_every_steps",
    "lora_alpha": "model.lora.alpha",
    "lora_dropout": "model.lora.dropout",
    "lora_r": "model.lora.rank",
    "lora_rank": "model.lora.rank",
    "loss_agg_mode": "algorithm.aggregate",
    "loss_type": "algorithm.aggregate",
    "lr": "optimizer.learning_rate",
    "lr_scheduler_type": "optimizer.schedule",
    "lr_warmup_steps": "optimizer.warmup_steps",
    "lr_warmup_steps_ratio": "optimizer.warmup_steps",
    "max_actor_ckpt_to_keep": "checkpoint.keep_last",
    "max_completion_length": "sampling.max_tokens",
    "max_new_tokens": "sampling.max_tokens",
    "max_prompt_length": "sampling.max_prompt_tokens",
    "max_response_length": "sampling.max_tokens",
    "max_steps": "num_steps",
    "micro_batch_size": "optimizer.microbatch_size",
    "mini_batch_size": "optimizer.updates_per_batch",
    "model_name": "model.path",
    "model_name_or_path": "model.path",
    "n": "sampling.group_size",
    "n_gpus_per_node": "parallel.devices_per_node",
    "n_samples_per_prompt": "sampling.group_size",
    "nnodes": "parallel.num_nodes",
    "no_4bit": "model.load_in_4bit",
    "no_wandb": "tracking.sinks",
    "num_generations": "sampling.group_size",
    "num_iterations": "optimizer.passes_per_batch",
    "num_train_epochs": "num_steps",
    "output_dir": "name",
    "per_device_train_batch_size": "optimizer.microbatch_size",
    "ppo_epochs": "optimizer.passes_per_batch",
    "ppo_micro_batch_size": "optimizer.microbatch_size",
    "ppo_micro_batch_size_per_gpu": "optimizer.microbatch_size",
    "ppo_mini_batch_size": "optimizer.updates_per_batch",
    "prompt_length": "sampling.max_prompt_tokens",
    "r": "model.lora.rank",
    "response_length": "sampling.max_tokens",
    "run_name": "name",
    "save_freq": "checkpoint.every_steps",
    "save_steps": "checkpoint.every_steps",
    "save_total_limit": "checkpoint.keep_last",
    "scale_rewards": "algorithm.advantage",
    "steps_per_generation": "optimizer.updates_per_batch",
    "target_modules": "model.lora.targets",
    "test_freq": "evaluation.every_steps",
    "torch_dtype": "model.dtype",
    "total_epochs": "num_steps",
    "total_training_steps": "num_steps",
    "train_batch_size": "curriculum.problems_per_step",
    "train_max_samples": "curriculum.num_problems",
    "use_kl_in_reward": "algorithm.kl_coef",
    "use_kl_loss": "algorithm.kl_coef",
    "wandb_project": "tracking.project",
    "warmup_ratio": "optimizer.warmup_steps",
}
"""What TRL, verl, Hugging Face Trainer and their kin call a thing (last part of their key), and our key for it."""

_OF_VERL = "it is a setting of verl alone, with its whole name in backend.extra for --backend verl. Remove it"
NOT_KEYS: Mapping[str, str] = {
    "attn_implementation": _OF_VERL,
    "dataloader_num_workers": "problems are drawn in this process, in the order of the curriculum. Remove it",
    "enforce_eager": _OF_VERL,
    "gpu_memory_utilization": _OF_VERL,
    "log_prob_micro_batch_size_per_gpu": _OF_VERL,
    "max_model_len": "it is sampling.max_prompt_tokens and sampling.max_tokens together. Remove it",
    "num_cpus": "a Ray takes what its machine has; backend.ray_address names one of yours. Remove it",
    "resume_mode": "the same command goes on with a run, --from-scratch begins again. Remove it",
    "runs_root": "runs are made in ./runs, or where the variable GRADUS_RUNS_DIR says. Remove it",
    "save_contents": "a checkpoint always has the model and all that it takes to go on. Remove it",
    "tensor_model_parallel_size": _OF_VERL,
    "train_files": "problems come from the task: tasks.NAME.source, or gradus prepare. Remove it",
    "use_dynamic_bsz": "passes are always cut by optimizer.microbatch_tokens, on verl by optimizer.microbatch_size. Remove it",
    "use_remove_padding": "linear layers never see padding. Remove it",
    "val_batch_size": "evaluations have engine.batch_size too. Remove it",
    "val_before_train": "the base model is always evaluated, as step 0. Remove it",
    "val_files": "problems come from the task; evaluation.split says which are held out. Remove it",
    "top_p": "the recorded log-probabilities would not be those of the truncated distribution. Remove it",
    "top_k": "the recorded log-probabilities would not be those of the truncated distribution. Remove it",
    "beta1": "the decay of the first moment is 0.9 always. Remove it",
    "adam_beta1": "the decay of the first moment is 0.9 always. Remove it",
}
"""Keys that are missing on purpose, and why."""


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The model behind a field that is a section, optional ones too; None for a leaf."""
    choices = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return next((choice for choice in choices if isinstance(choice, type) and issubclass(choice, BaseModel)), None)


@cache
def schema_leaves() -> dict[str, FieldInfo]:
    """Dotted name of every leaf of the config tree, in order; ``tasks`` is one, its options belong to the tasks."""
    return dict(_walk_schema(Config, ""))


def _walk_schema(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        section = section_of(field.annotation)
        if section is None:
            yield prefix + name, field
        else:
            yield from _walk_schema(section, f"{prefix}{name}.")


def leaves(config: BaseModel) -> dict[str, object]:
    """Dotted name to value, for every leaf of a config; task options are leaves, a section that is null is one leaf.

    Example:
        leaves(config)["optimizer.learning_rate"]  # 1e-06
    """
    return dict(flatten(config.model_dump(mode="json")))


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted name, value) of what is no non-empty mapping."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def resume_class(leaf: str) -> Resume:
    """Whether a leaf may differ when a run goes on; a task's options and sections that come or go may not."""
    known = schema_leaves()
    whole = ".".join(leaf.split(".")[:2])  # a leaf that is a mapping has entries
    field = known.get(leaf) or known.get(whole)
    extra = field.json_schema_extra if field is not None else None
    return extra["resume"] if isinstance(extra, dict) else "immutable"  # type: ignore[return-value]


def unknown_key(key: str, known: Iterable[str]) -> str:
    """The complaint about a key that does not exist, with the one that was probably meant, searched over all levels."""
    last = key.rpartition(".")[2]
    if last in NOT_KEYS:
        return f"{key} is not a key; {NOT_KEYS[last]}"
    meant = SYNONYMS.get(last) or _like(key, known)
    return f"{key} is not a key; " + (f"did you mean {meant}?" if meant else "`gradus config show --schema` lists them")


def _like(key: str, known: Iterable[str]) -> str | None:
    """The key whose last part is nearest, on whatever level; where several are, the one whose level is nearest too."""
    level, _, last = key.rpartition(".")
    if len(key) > _LONGEST:
        return None
    ranked = []
    for candidate in known:
        its_level, _, its_last = candidate.rpartition(".")
        distance = edit_distance(last, its_last)
        if distance <= _tolerance(last):
            ranked.append((distance, edit_distance(level, its_level), len(ranked), candidate))
    return min(ranked)[-1] if ranked else None


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice with the smallest edit distance, None if even that is no slip of the hand."""
    if len(word) > _LONGEST:
        return None
    distance, choice = min(((edit_distance(word, choice), choice) for choice in choices), default=(0, None))
    return choice if distance <= _tolerance(word) else None


_LONGEST = 100
"""Longer words are no slip of the hand, and comparing them would take its time."""


def _tolerance(word: str) -> int:
    return max(1, min(4, len(word) // 3))


def edit_distance(a: str, b: str) -> int:
    """Insertions, deletions, replacements and swaps of neighbours from ``a`` to ``b`` (optimal string alignment).

    Example:
        edit_distance("tempreature", "temperature")  # 1
    """
    before, last = [], list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        row = [i]
        for j, other in enumerate(b, 1):
            row.append(min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (letter != other)))
            if i > 1 and j > 1 and letter == b[j - 2] and a[i - 2] == other:
                row[j] = min(row[j], before[j - 2] + 1)
        before, last = last, row
    return last[-1]


def locate(model: type[BaseModel], location: Iterable[str | int]) -> tuple[tuple[str, ...], Mapping[str, Any]]:
    """The key that a pydantic error location means (they go on into unions and list items), and its JSON schema."""
    whole = model.model_json_schema()
    path, schema = [], whole
    for part in location:
        section = _section(schema, whole)
        if section is None or not isinstance(part, str):
            break
        path.append(part)
        inside = section.get("properties", {}).get(part, section.get("additionalProperties"))
        schema = inside if isinstance(inside, dict) else {}
    return tuple(path), schema


def _section(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The schema of the section behind a key; None for a leaf."""
    for option in _options(schema):
        if "$ref" in option:
            option = whole["$defs"][option["$ref"].rpartition("/")[2]]
        if "properties" in option or "additionalProperties" in option:
            return option
    return None


def wrong_value(key: str, error: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """One line for one of pydantic's errors: value, need, remedy. ``schema`` is the JSON schema of the key."""
    kind, value = error["type"], error["input"]
    if kind == "missing":
        return f"{key} is missing; give " + (_EXAMPLES.get(key) or _noun(schema))
    if kind in ("value_error", "assertion_error"):
        return _with_key(key, str(error["ctx"]["error"]))
    shown, choices = f"{key}={_shown(value)}", _choices(schema)
    if choices:
        near = nearest(str(value), choices)
        remedy = f"did you mean {near}?" if near else "take one of these"
        return f"{shown} is not one of {', '.join(choices)}; {remedy}"
    wrong = "is out of range" if isinstance(value, int | float) else "does not fit"
    if kind.endswith(("_type", "_parsing", "_from_float", "literal_error")):
        wrong = f"is not {_noun(schema)}"
    return f"{shown} {wrong}; {_remedy(value, schema)}"


_EXAMPLES = {"tasks": "at least one, e.g. tasks: {countdown: {}}"}
"""What to give for keys that have no default."""


def _choices(schema: Mapping[str, Any]) -> list[str]:
    """The words to choose from, where a key takes nothing but words (and null)."""
    options = [option for option in _options(schema) if option.get("type") != "null"]
    words = [option.get("enum", [option["const"]] if "const" in option else []) for option in options]
    return [str(word) for option in words for word in option] if all(words) else []


def _with_key(key: str, message: str) -> str:
    return message if not key or key.rpartition(".")[2] in message else f"{key}: {message}"


def _shown(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _options(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return schema.get("anyOf", [schema])


_NOUNS = {"number": "a number", "integer": "an integer", "boolean": "true or false", "string": "text",
          "array": "a list", "object": "a section", "null": "null"}  # fmt: skip


def _noun(schema: Mapping[str, Any]) -> str:
    """What kind of value a key takes, in words."""
    return " or ".join(dict.fromkeys(map(_noun_of_option, _options(schema))))


def _noun_of_option(option: Mapping[str, Any]) -> str:
    if "$ref" in option:
        return "a section"
    if "enum" in option or "const" in option:
        return " | ".join(map(str, option.get("enum", [option.get("const")])))
    return _NOUNS.get(option.get("type", ""), "such a value")


def _remedy(value: Any, schema: Mapping[str, Any]) -> str:
    option = _options(schema)[0]
    if isinstance(value, str) and option.get("type") in ("number", "integer") and re.fullmatch(r"[-+.\de_]+", value):
        return "remove the quotes"
    if isinstance(value, float) and value.is_integer() and option.get("type") == "integer":
        return f"write {int(value)}"
    if option.get("type") == "boolean":
        return "use true or false"
    if (option.get("type") == "object" or "$ref" in option) and value != {}:
        return "indent its keys below it, or write {} for its defaults"
    example = schema.get("default", option.get("default"))
    example = "" if example is None else f", e.g. {_shown(example)}"
    limits = _limits(option)
    return (f"it must be {limits}" if limits else f"give {_noun(schema)}") + example


def _limits(option: Mapping[str, Any]) -> str:
    """The range of a JSON schema in words: ``in (0, 1]``, ``≥ 1``."""
    low, high = (option.get(side, option.get(f"exclusive{side.capitalize()}")) for side in ("minimum", "maximum"))
    opening, closing = "[" if "minimum" in option else "(", "]" if "maximum" in option else ")"
    if low is not None and high is not None:
        return f"in {opening}{low:g}, {high:g}{closing}"
    if low is not None:
        return f"{'≥' if opening == '[' else '>'} {low:g}"
    if high is not None:
        return f"{'≤' if closing == ']' else '<'} {high:g}"
    if "pattern" in option:
        return f"text that matches {option['pattern']}"
    fewest, most = option.get("minItems"), option.get("maxItems")
    if most is not None:
        return f"a list of {most}" if fewest == most else f"a list of at most {most}"
    return "not empty" if fewest is not None or "minProperties" in option else ""
