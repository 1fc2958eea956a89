"""Checks of a loaded model: what gradus computes with it is what the model itself would. Wrong ones are not trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gradus.policy.logprobs import completion_logprobs, head_logprobs, logit_softcap, split_model
from gradus.policy.tree import ATTENTION, PackedTree

_LAYERS = {"full_attention", "sliding_attention"}
"""Kinds of layers that `policy.tree` and the sampler know."""


def use_tree_attention(model: Any) -> None:
    """Makes all attention layers take part in prompt sharing. ValueError for a model that has other layers (recurrent,
    convolutional, linear or chunked attention), and for one whose attention cannot be exchanged."""
    name = type(model).__name__
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    if getattr(model, "_is_stateful", False) or kinds - _LAYERS:
        of = ", ".join(sorted(kinds - _LAYERS)) or "a state that goes from token to token"
        raise ValueError(
            f"{name} has layers of {of}, so its completions cannot share a prompt; "
            "use a model of attention layers alone (Qwen, Llama, Mistral, Gemma, SmolLM, ...)"
        )
    try:
        model.set_attn_implementation(ATTENTION)
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"{name} does not use the attention interface of transformers, so prompts cannot be shared; "
            "use a model of attention layers alone (Qwen, Llama, Mistral, Gemma, SmolLM, ...)"
        ) from error


@torch.no_grad()
def check_agreement(model: nn.Module, device: torch.device) -> None:
    """ValueError for an architecture that does something to its logits that `head_logprobs` does not know, whose attention
    has a part that `policy.tree` does not, or whose completions see more than their own prompt and themselves."""
    was_training = model.training
    model.eval()
    try:
        _check_head(model, device)
        _check_attention(model, device)
        _check_sharing(model)
    except TypeError as error:
        raise ValueError(
            f"{type(model).__name__} cannot be called with shared prompts ({error}); "
            "use a model of attention layers alone (Qwen, Llama, Mistral, Gemma, SmolLM, ...)"
        ) from error
    finally:
        model.train(was_training)


def _tokens(model: nn.Module, count: int, first: int) -> list[int]:
    """Some tokens of the vocabulary."""
    return [(first + place) % split_model(model)[1].weight.shape[0] for place in range(count)]


def _tolerance(model: nn.Module, exact: float, coarse: float) -> float:
    head = split_model(model)[1].weight
    narrow = {parameter.dtype for parameter in model.parameters()} - {torch.float32, torch.float64}
    return exact if head.dtype in (torch.float32, torch.float64) and not narrow else coarse


def _check_head(model: nn.Module, device: torch.device) -> None:
    prompt = _tokens(model, 6, 3)
    tree = PackedTree(prompts=[prompt], completions=[], prompt_of=[], device=device)
    arguments = {"input_ids": tree.tokens_N[None], "position_ids": tree.positions_N[None], "use_cache": False}
    whole: Tensor = model(**arguments, tree=tree).logits[0, -2].float()
    body, head = split_model(model)
    hidden = body(**arguments, tree=tree)[0][0]
    target = tree.tokens_N[-1:]
    ours, _ = head_logprobs(hidden[-2:-1], head, target, temperature=1.0, softcap=logit_softcap(model))
    theirs = torch.log_softmax(whole, dim=0)[target[0]]
    if not abs(float(ours[0] - theirs)) <= _tolerance(model, 1e-3, 0.05):
        raise ValueError(
            f"{type(model).__name__} changes its logits in a way that gradus does not know (log-probability {float(ours[0]):.4f} "
            f"instead of {float(theirs):.4f}); training it would be wrong. Use another architecture"
        )


def _check_attention(model: nn.Module, device: torch.device) -> None:
    """The same text through the plainest attention of transformers."""
    prompt, answer = _tokens(model, 4, 3), _tokens(model, 3, 19)
    ours, _ = completion_logprobs(model, prompts=[prompt], completions=[answer], prompt_of=[0], temperature=1.0)
    inner: Any = model.get_base_model() if hasattr(model, "peft_config") else model  # type: ignore[operator]
    try:
        inner.set_attn_implementation("eager")
        logits = model(input_ids=torch.tensor([prompt + answer], device=device), use_cache=False).logits
    finally:
        inner.set_attn_implementation(ATTENTION)
    theirs = torch.log_softmax(logits[0, len(prompt) - 1 : -1].float(), dim=1)
    gap = float((theirs.gather(1, torch.tensor(answer, device=device)[:, None])[:, 0] - ours[0]).abs().max())
    if not gap <= _tolerance(model, 1e-3, 1.0):
        raise ValueError(
            f"{type(model).__name__} has an attention that gradus does not know (its own log-probabilities differ by {gap:.4f}); "
            f"training it would be wrong; "
            "use a model of attention layers alone (Qwen, Llama, Mistral, Gemma, SmolLM, ...)"
        )


def _check_sharing(model: nn.Module) -> None:
    """Completions beside each other get what each gets alone."""
    prompts = [_tokens(model, 5, 3), _tokens(model, 2, 11)]
    completions, prompt_of = [_tokens(model, 4, 17), _tokens(model, 3, 29), _tokens(model, 3, 5)], [0, 0, 1]
    together, _ = completion_logprobs(
        model, prompts=prompts, completions=completions, prompt_of=prompt_of, temperature=1.0
    )
    for row, (completion, prompt) in enumerate(zip(completions, prompt_of, strict=True)):
        alone, _ = completion_logprobs(
            model, prompts=[prompts[prompt]], completions=[completion], prompt_of=[0], temperature=1.0
        )
        gap = float((together[row, : len(completion)] - alone[0]).abs().max())
        if not gap <= _tolerance(model, 1e-3, 0.5):
            raise ValueError(
                f"{type(model).__name__} gives a completion another log-probability (by {gap:.4f}) when others stand beside it, "
                f"so prompts cannot be shared; "
                "use a model of attention layers alone (Qwen, Llama, Mistral, Gemma, SmolLM, ...)"
            )
