"""One optimizer step: log-probabilities → token losses → gradients over micro-batches → clipped AdamW.

Shape suffixes: ``B`` completions, ``T`` completion positions.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gradus.algo.diagnostics import Diagnostics
from gradus.algo.loss import token_loss
from gradus.algo.presets import Algorithm
from gradus.policy.load import Policy
from gradus.policy.logprobs import completion_logprobs
from gradus.seeds import seed_of
from gradus.train.batch import Batch, microbatches
from gradus.train.optimizer import Optimizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an update needs beside the batch.

    Example:
        Settings(algorithm=PRESETS["grpo"], temperature=1.0, learning_rate=1e-6, microbatch_tokens=8192,
                 microbatch_size=None, seed_parts=(0, 0, 17, 0))
    """

    algorithm: Algorithm
    temperature: float
    learning_rate: float
    microbatch_tokens: int
    microbatch_size: int | None
    seed_parts: tuple[int, ...]
    """(seed, replay, step, pass): torch is seeded from these and the micro-batch, so dropout has no history."""


def update(
    policy: Policy,
    optimizer: Optimizer,
    batch: Batch,
    settings: Settings,
    *,
    reference: nn.Module | None = None,
    poll: Callable[[], None] = lambda: None,
    shrink: Callable[[Settings, Exception], Settings] | None = None,
) -> dict[str, float]:
    """Takes the step and returns its metrics. ``train/skipped`` is 1, and nothing has changed, where loss or gradient
    were not finite. With ``kl_coef`` > 0 the reference is ``reference``, or the policy without its adapter.

    An exception of ``poll`` leaves the policy as it was; accumulated gradients must then be dropped by the caller.
    ``shrink`` is asked when the gradients did not fit into memory: it raises, or gives settings to begin again with.
    """
    while True:
        diagnostics = Diagnostics(settings.algorithm)
        try:
            loss = accumulate(policy, batch, settings, reference=reference, poll=poll, diagnostics=diagnostics)
            break
        except (MemoryError, RuntimeError) as error:
            if shrink is None:
                raise
            smaller = shrink(settings, error)
        optimizer.drop_gradients()
        settings = smaller
    metrics = {"loss": loss, "learning_rate": settings.learning_rate, **diagnostics.finish()}
    norm = optimizer.clip() if metrics.get("entropy") is not None else 0.0
    metrics["grad_norm"] = norm
    is_finite = math.isfinite(loss) and math.isfinite(norm)
    metrics["train/skipped"] = 0.0 if is_finite else 1.0
    if is_finite:
        optimizer.step(learning_rate=settings.learning_rate)
    else:
        optimizer.drop_gradients()
    return metrics


def accumulate(
    policy: Policy,
    batch: Batch,
    settings: Settings,
    *,
    reference: nn.Module | None = None,
    poll: Callable[[], None] = lambda: None,
    diagnostics: Diagnostics | None = None,
) -> float:
    """Adds the gradient of the whole batch to the parameters, micro-batch by micro-batch; returns the loss."""
    loss = 0.0
    for number, chosen in enumerate(cuts_of(batch, settings)):
        poll()
        torch.manual_seed(seed_of("update", *settings.seed_parts, number))
        loss += _accumulate_one(policy, batch, chosen, settings, reference, diagnostics)
    return loss


def cuts_of(batch: Batch, settings: Settings) -> list[list[int]]:
    """The completions of each forward pass; those that have no gradient are left out."""
    return microbatches(
        batch,
        max_tokens=settings.microbatch_tokens,
        max_size=settings.microbatch_size,
        needs_advantage=settings.algorithm.kl_coef == 0 and settings.algorithm.entropy_coef == 0,
    )


def _accumulate_one(
    policy: Policy,
    batch: Batch,
    chosen: list[int],
    settings: Settings,
    reference: nn.Module | None,
    diagnostics: Diagnostics | None,
) -> float:
    algorithm, device = settings.algorithm, policy.device
    trees = _trees(batch, chosen)
    logprobs_BT, entropy_BT = completion_logprobs(policy.model, **trees, temperature=settings.temperature)
    longest = logprobs_BT.shape[1]
    mask_BT = batch.mask_BT[chosen, :longest].to(device)
    advantages_B = batch.advantages_B[chosen].to(device)
    reference_BT: Tensor | None = None
    if algorithm.kl_coef > 0:
        with torch.no_grad(), reference_model(policy, reference) as model:
            reference_BT, _ = completion_logprobs(model, **trees, temperature=settings.temperature)
    terms = token_loss(
        algorithm=algorithm,
        policy_logprobs_BT=logprobs_BT,
        sampler_logprobs_BT=batch.sampler_logprobs_BT[chosen, :longest].to(device, logprobs_BT.dtype),
        advantages_B=advantages_B,
        mask_BT=mask_BT,
        reference_logprobs_BT=reference_BT,
        entropy_BT=entropy_BT,
    )
    weights_BT = batch.weights_BT[chosen, :longest].to(device, logprobs_BT.dtype)
    loss = (weights_BT * terms.total_BT).sum()
    loss.backward()
    if diagnostics is not None:
        diagnostics.add(terms, advantages_B=advantages_B, mask_BT=mask_BT, entropy_BT=entropy_BT)
    return float(loss.detach())


@contextlib.contextmanager
def reference_model(policy: Policy, reference: nn.Module | None) -> Iterator[nn.Module]:
    """The frozen copy, or the policy itself with its adapter switched off."""
    if reference is not None:
        yield reference
    else:
        model: Any = policy.model
        was_training = model.training
        model.eval()
        with model.disable_adapter():
            yield model
        model.train(was_training)


def _trees(batch: Batch, chosen: list[int]) -> dict[str, Any]:
    """Arguments of `completion_logprobs` for some completions, each prompt once."""
    prompts = sorted({int(batch.prompt_of_B[index]) for index in chosen})
    place = {prompt: row for row, prompt in enumerate(prompts)}
    return {
        "prompts": [batch.prompt(prompt) for prompt in prompts],
        "completions": [batch.completion(index) for index in chosen],
        "prompt_of": [place[int(batch.prompt_of_B[index])] for index in chosen],
    }
