"""Turns of a chat as a model's own template writes them: prompts, and the tokens that end an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError
from transformers import GenerationConfig, PreTrainedTokenizerBase

from gradus.types import Message

THINKING = "enable_thinking"
"""What the templates of Qwen3, SmolLM3 and their kin call their switch."""


def prompt_tokens(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, enable_thinking: bool | None = None
) -> tuple[int, ...]:
    """Tokens of a prompt in the tokenizer's chat template, up to where the assistant's answer begins.

    Where the last message is the assistant's, the answer goes on after it, with the text as it stands: templates that
    move or cut thoughts (Qwen3) are not asked about it. Where a template has no system turn (Gemma), the system message
    stands in front of the user's first; `has_system_turn` tells. ValueError for messages that the template refuses.
    """
    begun = messages[-1].content if messages[-1].role == "assistant" else ""
    chat = [{"role": message.role, "content": message.content} for message in messages]
    chat = chat[:-1] if begun else chat
    if chat[0]["role"] == "system" and not has_system_turn(tokenizer):
        chat = _without_system(chat)
    text = _rendered(tokenizer, chat, enable_thinking=enable_thinking) + begun
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])  # type: ignore[arg-type]


def has_system_turn(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the template writes a system message, instead of refusing or forgetting it."""
    told = "Be brief"
    try:
        chat = [{"role": "system", "content": told}, {"role": "user", "content": "Hello"}]
        return told in str(tokenizer.apply_chat_template(chat, tokenize=False))
    except TemplateError:
        return False


def check_thinking(tokenizer: PreTrainedTokenizerBase, enable_thinking: bool | None, source: str) -> None:
    """ValueError where a switch is set that the template does not know."""
    if enable_thinking is not None and THINKING not in str(tokenizer.chat_template):
        value = str(enable_thinking).lower()
        raise ValueError(
            f"model.enable_thinking={value} has no effect: the chat template of {source} has no such switch; remove it"
        )


def stop_tokens(address: str, revision: str | None, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Tokens that end an answer: first the one that ends a turn in the chat template (which warm-up teaches), then the
    tokenizer's end of text, then those of the generation config. ValueError where there is none."""
    tokens = [end_of_turn(tokenizer), tokenizer.eos_token_id]
    try:
        named = GenerationConfig.from_pretrained(address, revision=revision or "main").eos_token_id
    except OSError:
        named = None
    tokens += named if isinstance(named, list) else [named]
    found = tuple(dict.fromkeys(int(token) for token in tokens if token is not None))  # type: ignore[arg-type]
    if not found:
        raise ValueError(
            f"the tokenizer of {address!r} names no end-of-turn token (eos_token); completions would never end"
        )
    return found


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The first special token that the template puts behind an assistant's text; None where it puts none."""
    answer = "a short answer"
    chat = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": answer}]
    try:
        text = str(tokenizer.apply_chat_template(chat, tokenize=False))
    except TemplateError:
        return None
    behind = text.rpartition(answer)[2]
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}  # type: ignore[attr-defined]
    tokens: Any = tokenizer(behind, add_special_tokens=False)["input_ids"]
    return next((int(token) for token in tokens if token in special), None)


def _rendered(tokenizer: PreTrainedTokenizerBase, chat: list[dict[str, str]], *, enable_thinking: bool | None) -> str:
    switch: dict[str, Any] = {} if enable_thinking is None else {THINKING: enable_thinking}
    try:
        return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **switch))
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in chat)
        raise ValueError(
            f"the chat template of {tokenizer.name_or_path!r} refuses messages of {roles}: {error}; use another model, "
            "or put a chat_template.jinja that takes them into its folder"
        ) from error


def _without_system(chat: list[dict[str, str]]) -> list[dict[str, str]]:
    """The system message in front of the first message after it."""
    system, first, *others = chat
    return [{"role": first["role"], "content": f"{system['content']}\n\n{first['content']}"}, *others]
