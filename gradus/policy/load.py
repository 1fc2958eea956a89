"""Policy: weights, tokenizer and chat template of any Hugging Face causal LM, on the best device at hand.

A model address is an embedded policy (``nano/countdown``), a folder in Hugging Face layout, a checkpoint of a run
(``RUN@base``, ``RUN@120``, ``RUN@last``, ``RUN@best``: resolved by `train.address`) or a Hub id (``org/name``).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers.utils.logging as transformers_logging
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)

from gradus import console
from gradus.config import ModelConfig
from gradus.policy.adapters import add_lora, load_adapter, quantization
from gradus.policy.agreement import check_agreement, use_tree_attention
from gradus.policy.logprobs import split_model
from gradus.policy.turns import check_thinking, has_system_turn, prompt_tokens, stop_tokens
from gradus.seeds import seed_of
from gradus.types import Message

NANO = Path(__file__).parent / "nano"
transformers_logging.disable_progress_bar()
if (
    not torch.cuda.is_available()
):  # transformers imports DeepSpeed where it is installed, which else tells of its search
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


@dataclass(slots=True, kw_only=True)
class Policy:
    """A language model that samples and learns.

    Example:
        policy = load_policy(ModelConfig(path="nano/countdown"))
        policy.decode(policy.prompt_tokens(problem.messages))
    """

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    stop_tokens: tuple[int, ...]
    """Tokens that end a turn."""
    source: str
    """Address as given, with the revision where it has one."""
    vocabulary_size: int
    enable_thinking: bool | None = None
    """Switch of the chat template; None: the template's own choice."""

    def prompt_tokens(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """The chat template applied, up to where the assistant's answer begins, or goes on if the last message is its."""
        return prompt_tokens(self.tokenizer, messages, enable_thinking=self.enable_thinking)

    def answer_tokens(self, text: str) -> tuple[int, ...]:
        """Tokens of an assistant's answer with the end of its turn: what supervised warm-up learns."""
        return (*self.tokenizer(text, add_special_tokens=False)["input_ids"], self.stop_tokens[0])  # type: ignore[misc]

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens, special tokens left out, blanks untouched."""
        return self.tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)  # type: ignore[return-value]

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        """Named parameters that learn, in a fixed order."""
        return [(name, parameter) for name, parameter in self.model.named_parameters() if parameter.requires_grad]


def use_threads(count: int | None) -> None:
    """CPU threads of torch, as ``torch_threads`` says; None leaves torch's own choice."""
    if count is not None:
        torch.set_num_threads(count)


def load_policy(config: ModelConfig, *, seed: int = 0, is_trainable: bool = True) -> Policy:
    """Loads weights and tokenizer. ValueError for an address that has no model, a model without chat template, a model
    whose completions cannot share prompts, a setting that does not fit the model or needs a package that is missing."""
    address, source = resolve_address(config.path, config.revision)
    device = pick_device(config.device)
    dtype = pick_dtype(config.dtype, device)
    if device.type == "cuda" and config.dtype == "auto" and dtype == torch.float32 and is_trainable:
        console.info("this GPU does not compute in bfloat16, so model.dtype=auto is float32 here")
    tokenizer = _load_tokenizer(address, config.revision)
    check_thinking(tokenizer, config.enable_thinking, source)
    if not has_system_turn(tokenizer):
        console.info(
            f"the chat template of {source} has no system turn: a system message goes in front of the user's first"
        )
    model = _load_model(config, address, device, dtype, seed=seed, is_trainable=is_trainable)
    if config.gradient_checkpointing and is_trainable:
        switch_on = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        switch_on({"use_reentrant": False})
    model.train(is_trainable)
    check_agreement(model, device)
    return Policy(
        model=model,
        tokenizer=tokenizer,
        device=device,
        stop_tokens=stop_tokens(*_generation_config_at(address, config.revision), tokenizer),
        source=source,
        vocabulary_size=split_model(model)[1].weight.shape[0],
        enable_thinking=config.enable_thinking,
    )


def _load_model(
    config: ModelConfig, address: str, device: torch.device, dtype: torch.dtype, *, seed: int, is_trainable: bool
) -> Any:
    """The weights on the device, with prompt-sharing attention and, where asked for, adapters."""
    if _is_adapter(address):
        base, revision = base_of_adapter(address)
        model = load_adapter(
            _load_weights(config, base, revision, device, dtype, seed), address, is_trainable=is_trainable
        )
    else:
        model = _load_weights(config, address, config.revision, device, dtype, seed)
        for parameter in model.parameters():
            parameter.requires_grad_(is_trainable and config.lora is None and parameter.is_floating_point())
        if config.lora is not None:
            model = add_lora(model, config, seed=seed)
    return model if config.load_in_4bit else torch.nn.Module.to(model, device)


def _load_weights(
    config: ModelConfig, address: str, revision: str | None, device: torch.device, dtype: torch.dtype, seed: int
) -> Any:
    if config.init == "random":
        torch.manual_seed(seed_of("init", seed))
        shape = AutoConfig.from_pretrained(address, revision=revision, trust_remote_code=False)
        model: Any = AutoModelForCausalLM.from_config(shape, dtype=dtype, trust_remote_code=False)
    else:
        told = quantization(device, dtype) if config.load_in_4bit else {}
        model = AutoModelForCausalLM.from_pretrained(
            address, revision=revision, dtype=dtype, use_safetensors=True, trust_remote_code=False, **told
        )
    use_tree_attention(model)
    return model


def _is_adapter(address: str) -> bool:
    return (Path(address) / "adapter_config.json").is_file()


def _generation_config_at(address: str, revision: str | None) -> tuple[str, str | None]:
    """Where the generation config lies: beside the base of an adapter."""
    return base_of_adapter(address) if _is_adapter(address) else (address, revision)


def base_of_adapter(folder: str) -> tuple[str, str | None]:
    """(what transformers loads, revision) of the model that an adapter in ``folder`` was trained on."""
    from peft import PeftConfig

    adapter = PeftConfig.from_pretrained(folder)
    return resolve_address(str(adapter.base_model_name_or_path), adapter.revision)[0], adapter.revision


def resolve_address(path: str, revision: str | None = None) -> tuple[str, str]:
    """(folder or Hub id that transformers loads, the address for records). ValueError where nothing is there."""
    if path.startswith("nano/"):
        folder = NANO / path.removeprefix("nano/")
        if not folder.is_dir():
            there = ", ".join(
                sorted(f"nano/{entry.name}" for entry in NANO.iterdir() if (entry / "config.json").is_file())
            )
            raise ValueError(f"model.path={path!r} is not an embedded policy; there are: {there}")
        return str(folder), path
    folder = Path(path).expanduser()
    if folder.is_dir():
        if not ((folder / "config.json").is_file() or (folder / "adapter_config.json").is_file()):
            raise ValueError(f"model.path={path!r} holds no config.json; give a folder in Hugging Face layout")
        pickled = sorted(entry.name for entry in folder.glob("*.bin")) + sorted(
            entry.name for entry in folder.glob("*.pt*")
        )
        if pickled and not any(folder.glob("*.safetensors")):
            raise ValueError(f"model.path={path!r} holds weights as pickle ({pickled[0]}); convert them to safetensors")
        return str(folder), path
    if path.count("/") != 1 or path.startswith((".", "/", "~")) or folder.exists():
        raise ValueError(
            f"model.path={path!r} is no folder; give a folder, a Hub id such as Qwen/Qwen2.5-0.5B, or nano/countdown"
        )
    if os.environ.get("GRADUS_OFFLINE") == "1":
        raise ValueError(
            f"model.path={path!r} is no folder here and GRADUS_OFFLINE=1 forbids the Hub; give a local folder"
        )
    return path, path if revision is None else f"{path}@{revision}"


def pick_device(name: str) -> torch.device:
    """``auto``: cuda, then mps, then cpu. ValueError where the named device is not there."""
    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if has[kind])
    if not has[name]:
        raise ValueError(f"model.device={name} is not available here; use model.device=auto")
    return torch.device(name)


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """``auto``: bfloat16 on CUDA where the GPU computes in it, float32 elsewhere."""
    if name == "auto":
        has_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_bfloat16 else torch.float32
    return getattr(torch, name)


def load_tokenizer(path: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a model address. ValueError as `load_policy`."""
    return _load_tokenizer(resolve_address(path, revision)[0], revision)


def _load_tokenizer(address: str, revision: str | None) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(address, revision=revision, trust_remote_code=False)
    except OSError as error:
        raise ValueError(
            f"model.path={address!r} cannot be loaded: {_first_line(error)}; check the name and the network"
        ) from error
    if not tokenizer.chat_template:
        raise ValueError(
            f"the tokenizer of {address!r} has no chat template; use the model's instruct version, or put a chat_template.jinja "
            f"into its folder"
        )
    return tokenizer


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
