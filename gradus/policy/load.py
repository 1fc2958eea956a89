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
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from gradus.config import ModelConfig
from gradus.policy.logprobs import head_logprobs, logit_softcap, split_model
from gradus.policy.tree import ATTENTION, PackedTree
from gradus.seeds import seed_of
from gradus.types import Message

NANO = Path(__file__).parent / "nano"
transformers_logging.disable_progress_bar()
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

    def prompt_tokens(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """The chat template applied, up to where the assistant's answer begins, or goes on if the last message is its."""
        return prompt_tokens(self.tokenizer, messages)

    def answer_tokens(self, text: str) -> tuple[int, ...]:
        """Tokens of an assistant's answer with the end of its turn: what supervised warm-up learns."""
        return (*self.tokenizer(text, add_special_tokens=False)["input_ids"], self.stop_tokens[0])  # type: ignore[misc]

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens, special tokens left out, blanks untouched."""
        return self.tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)  # type: ignore[return-value]

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        """Named parameters that learn, in a fixed order."""
        return [(name, parameter) for name, parameter in self.model.named_parameters() if parameter.requires_grad]


def prompt_tokens(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> tuple[int, ...]:
    """Tokens of a prompt in the tokenizer's chat template; see `Policy.prompt_tokens`."""
    is_begun = messages[-1].role == "assistant"
    text = tokenizer.apply_chat_template(
        [{"role": message.role, "content": message.content} for message in messages],
        tokenize=False,
        add_generation_prompt=not is_begun,
        continue_final_message=is_begun,
    )
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])  # type: ignore[arg-type]


def use_threads(count: int | None) -> None:
    """CPU threads of torch, as ``torch_threads`` says; None leaves torch's own choice."""
    if count is not None:
        torch.set_num_threads(count)


def load_policy(config: ModelConfig, *, seed: int = 0, is_trainable: bool = True) -> Policy:
    """Loads weights and tokenizer. ValueError for an address that has no model, a model without chat template, a model
    whose attention cannot take part in prompt sharing; ImportError texts name the missing extra."""
    address, source = resolve_address(config.path, config.revision)
    device = pick_device(config.device)
    dtype = pick_dtype(config.dtype, device)
    tokenizer = _load_tokenizer(address, config.revision)
    is_adapter = (Path(address) / "adapter_config.json").is_file()
    if is_adapter:
        model = _load_adapter(address, dtype, is_trainable)
    elif config.init == "random":
        torch.manual_seed(seed_of("init", seed))
        model = AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(address, revision=config.revision, trust_remote_code=False),
            dtype=dtype,
            trust_remote_code=False,
        )
    else:
        model = AutoModelForCausalLM.from_pretrained(
            address, revision=config.revision, dtype=dtype, use_safetensors=True, trust_remote_code=False
        )
    if not is_adapter:
        model.requires_grad_(is_trainable)
    use_tree_attention(model)
    if config.lora is not None and not is_adapter:
        model = _with_lora(model, config, seed)
    torch.nn.Module.to(model, device)
    model.train(is_trainable)
    policy = Policy(
        model=model,
        tokenizer=tokenizer,
        device=device,
        stop_tokens=_stop_tokens(address, config.revision, tokenizer),
        source=source,
        vocabulary_size=split_model(model)[1].weight.shape[0],
    )
    _check_agreement(policy)
    return policy


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
    """``auto``: bfloat16 on CUDA, float32 elsewhere."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return getattr(torch, name)


def use_tree_attention(model: PreTrainedModel | Any) -> None:
    """Makes all attention layers take part in prompt sharing."""
    try:
        model.set_attn_implementation(ATTENTION)
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"{type(model).__name__} does not use the attention interface of transformers, so prompts cannot be shared; "
            f"use a model whose attention can be exchanged (Qwen, Llama, Mistral, Gemma, SmolLM, ...)"
        ) from error


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


def _load_adapter(folder: str, dtype: torch.dtype, is_trainable: bool) -> Any:
    from peft import PeftConfig, PeftModel

    adapter = PeftConfig.from_pretrained(folder)
    base, _ = resolve_address(str(adapter.base_model_name_or_path), adapter.revision)
    model = AutoModelForCausalLM.from_pretrained(
        base, revision=adapter.revision, dtype=dtype, use_safetensors=True, trust_remote_code=False
    )
    use_tree_attention(model)
    return PeftModel.from_pretrained(model, folder, is_trainable=is_trainable)


def _with_lora(model: Any, config: ModelConfig, seed: int) -> Any:
    from peft import LoraConfig, get_peft_model

    assert config.lora is not None
    targets = config.lora.targets if isinstance(config.lora.targets, str) else list(config.lora.targets)
    torch.manual_seed(seed_of("init", seed))
    model.config.name_or_path = config.path
    return get_peft_model(
        model,
        LoraConfig(
            r=config.lora.rank,
            lora_alpha=config.lora.alpha,  # type: ignore[arg-type]  # peft multiplies by it
            lora_dropout=config.lora.dropout,
            target_modules=targets,
            task_type="CAUSAL_LM",
            base_model_name_or_path=config.path,
            revision=config.revision,
        ),
        autocast_adapter_dtype=True,
    )


def _stop_tokens(address: str, revision: str | None, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The tokenizer's end-of-turn token first, then those of the generation config."""
    tokens: list[int] = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]  # type: ignore[arg-type]
    try:
        named = GenerationConfig.from_pretrained(address, revision=revision or "main").eos_token_id
    except OSError:
        named = None
    for token in named if isinstance(named, list) else [named]:
        if token is not None and token not in tokens:
            tokens.append(int(token))
    if not tokens:
        raise ValueError(
            f"the tokenizer of {address!r} names no end-of-turn token (eos_token); completions would never end"
        )
    return tuple(tokens)


@torch.no_grad()
def _check_agreement(policy: Policy) -> None:
    """An architecture that does something to its logits that `head_logprobs` does not know must not be trained."""
    model, device = policy.model, policy.device
    tokens = torch.arange(3, 3 + 6, device=device) % policy.vocabulary_size
    was_training = model.training
    model.eval()
    tree = PackedTree(prompts=[tokens.tolist()], completions=[], prompt_of=[], device=device)
    arguments = {"input_ids": tree.tokens_N[None], "position_ids": tree.positions_N[None], "use_cache": False}
    whole = model(**arguments, tree=tree).logits[0, -2].float()
    body, head = split_model(model)
    hidden = body(**arguments, tree=tree)[0][0]
    ours, _ = head_logprobs(hidden[-2:-1], head, tokens[-1:], temperature=1.0, softcap=logit_softcap(model))
    model.train(was_training)
    theirs = torch.log_softmax(whole, dim=0)[tokens[-1]]
    tolerance = 1e-3 if whole.dtype == torch.float32 and head.weight.dtype == torch.float32 else 0.05
    if abs(float(ours[0] - theirs)) > tolerance:
        raise ValueError(
            f"{type(model).__name__} changes its logits in a way that gradus does not know (log-probability {float(ours[0]):.4f} "
            f"instead of {float(theirs):.4f}); training it would be wrong. Use another architecture"
        )


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
