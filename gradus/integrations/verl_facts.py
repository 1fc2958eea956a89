"""What is known of somebody's verl run beside its settings: its data, its saved state, its environment. Reads files only."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gradus.data import parquet
from gradus.train.backends.verl_settings import A
from gradus.train.backends.verl_told import Facts, Told

PLAN = "plan.parquet"
"""The name under which gradus writes rows whose order is the curriculum."""
LOG = "VERL_FILE_LOGGER_PATH"


def facts_of(settings: Mapping[str, Any], variables: Mapping[str, str], place_faults: tuple[str, ...] = ()) -> Facts:
    """Looks at the files that the settings name, as far as they are on this machine.

    Args:
        variables: of the script, beside those of this process.

    Example:
        facts_of({"data.train_files": "verl/plan.parquet"}, {}).num_rows
    """
    told = Told(settings)
    files = [path for path in _paths(told["data.train_files"]) if path.is_file()]
    rows, faults = _rows(files)
    key = str(told["data.prompt_key"] or "prompt")
    faults += _row_faults(rows, key) if files else []
    log = variables.get(LOG) or os.environ.get(LOG)
    step, size = _saved(told["trainer.default_local_dir"])
    return Facts(
        sources=frozenset(str(row.get("data_source")) for row in rows) if files else None,
        num_rows=len(rows) if files else None,
        longest_prompt=_longest(rows, key, told[f"{A}.model.path"]),
        data_faults=tuple(faults),
        is_planned=any(path.name == PLAN for path in _paths(told["data.train_files"])),
        saved_step=step,
        saved_world_size=size,
        log_exists=bool(log and "$" not in log and Path(log).is_file()),
        place_faults=place_faults,
    )


def _paths(value: Any) -> list[Path]:
    names = value if isinstance(value, list) else [value]
    found = [os.path.expandvars(str(name)) for name in names if name]
    return [Path(name).expanduser() for name in found if "$" not in name]


def _rows(files: list[Path]) -> tuple[list[dict[str, Any]], list[str]]:
    rows: list[dict[str, Any]] = []
    faults = []
    for path in files:
        try:
            rows += parquet.decode(path)
        except ValueError as error:
            faults.append(f"data.train_files: {error}")
    return rows, faults


def _row_faults(rows: list[dict[str, Any]], key: str) -> list[str]:
    if not rows:
        return ["data.train_files hold no rows: verl would train on nothing"]
    lacking = sum(1 for row in rows if not row.get(key))
    as_text = sum(1 for row in rows if isinstance(row.get(key), str))
    unjudged = sum(1 for row in rows if not _truth(row))
    said = [
        (lacking, f"have no {key}; verl leaves them out, with a printed line only"),
        (as_text, f"have a {key} that is text; verl wants messages [{{role, content}}] and ends at the first one"),
        (unjudged, "have no reward_model.ground_truth, by which they are scored"),
    ]
    return [f"data.train_files: {count} of {len(rows)} rows {what}" for count, what in said if count]


def _truth(row: Mapping[str, Any]) -> Any:
    model = row.get("reward_model")
    return isinstance(model, Mapping) and model.get("ground_truth") is not None


def _longest(rows: list[dict[str, Any]], key: str, model: Any) -> int | None:
    """Tokens, where the model's tokenizer is on this machine and transformers is installed."""
    prompts = [row[key] for row in rows if isinstance(row.get(key), list)]
    if not prompts or not model or not (Path(str(model)).expanduser() / "tokenizer_config.json").is_file():
        return None
    try:
        from gradus.policy.load import load_tokenizer
    except ImportError:
        return None
    tokenizer: Any = load_tokenizer(str(Path(str(model)).expanduser()))
    return max(len(tokens) for tokens in _tokens(tokenizer, prompts))


def _tokens(tokenizer: Any, prompts: list[Any]) -> Iterator[list[int]]:
    for prompt in prompts:
        yield tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=True, return_dict=False)


def _saved(folder: Any) -> tuple[int | None, int | None]:
    """(step that a folder's pointer names, processes that its state is of)."""
    if not folder or "$" in str(folder):
        return None, None
    root = Path(str(folder)).expanduser()
    try:
        step = int((root / "latest_checkpointed_iteration.txt").read_text())
    except (OSError, ValueError):
        return None, None
    try:
        size = json.loads((root / f"global_step_{step}" / "actor" / "fsdp_config.json").read_text())["world_size"]
    except (OSError, ValueError, KeyError, TypeError):
        return step, None
    return step, int(size)
