"""One optimizer step: log-probabilities → token losses → gradients over micro-batches → clipped AdamW.

Shape suffixes: ``B`` completions, ``T`` completion positions.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gradus.algo.diagnostics import Diagnostics
from gradus.algo.loss import token_loss
from gradus.algo.presets import Algorithm
from gradus.policy.load import Policy
from gradus.policy.logprobs import completion_logprobs
from gradus.rollout.ranks import ALONE, Ranks
from gradus.seeds import seed_of
from gradus.train.batch import Batch, microbatches
from gradus.train.memory import is_out_of_memory
from gradus.train.optimizer import WHOLE, Optimizer, Passes


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
    ranks: Ranks = ALONE,
) -> dict[str, float]:
    """Takes the step and returns its metrics. ``train/skipped`` is 1, and nothing has changed, where loss or gradient
    were not finite. With ``kl_coef`` > 0 the reference is ``reference``, or the policy without its adapter.

    An exception of ``poll`` leaves the policy as it was; accumulated gradients must then be dropped by the caller.
    ``shrink`` is asked when the gradients did not fit into memory: it raises, or gives settings to begin again with.
    """
    while True:
        try:
            loss, diagnostics = _accumulate_together(policy, optimizer, batch, settings, reference, poll, ranks)
            break
        except (MemoryError, RuntimeError) as error:
            if shrink is None or optimizer.is_sharded:  # which has lost the others by now
                raise
            smaller = shrink(settings, error)
        optimizer.drop_gradients()
        settings = smaller
    metrics = {"loss": loss, "learning_rate": settings.learning_rate, **diagnostics.finish()}
    norm = optimizer.clip() if metrics.get("entropy") is not None else 0.0
    ranks.agree("the gradient's norm", norm)
    metrics["grad_norm"] = norm
    is_finite = math.isfinite(loss) and math.isfinite(norm)
    metrics["train/skipped"] = 0.0 if is_finite else 1.0
    if is_finite:
        optimizer.step(learning_rate=settings.learning_rate)
    else:
        optimizer.drop_gradients()
    return metrics


def _accumulate_together(
    policy: Policy,
    optimizer: Optimizer,
    batch: Batch,
    settings: Settings,
    reference: nn.Module | None,
    poll: Callable[[], None],
    ranks: Ranks,
) -> tuple[float, Diagnostics]:
    """The loss and the diagnostics of all processes, each of which has the gradient of its part afterwards."""

    def accumulated() -> tuple[float, Diagnostics]:
        own = Diagnostics(settings.algorithm)
        try:
            loss = accumulate(
                policy, batch, settings, reference=reference, poll=poll, diagnostics=own, passes=optimizer, ranks=ranks
            )
        except RuntimeError as error:
            if ranks.size > 1 and is_out_of_memory(error):
                raise MemoryError(str(error)) from error  # all must take it for the same
            raise
        return loss, own if ranks.size == 1 else own.on_cpu()

    parts = ranks.gather(accumulated()) if optimizer.is_sharded else ranks.each(accumulated)
    return sum(loss for loss, _ in parts), Diagnostics.joined([own for _, own in parts])


def accumulate(
    policy: Policy,
    batch: Batch,
    settings: Settings,
    *,
    reference: nn.Module | None = None,
    poll: Callable[[], None] = lambda: None,
    diagnostics: Diagnostics | None = None,
    passes: Passes = WHOLE,
    ranks: Ranks = ALONE,
) -> float:
    """Adds the gradient of this process's part of the batch to the parameters, micro-batch by micro-batch; returns its
    part of the loss. The weights of the batch are those of the whole step, so that parts add up."""
    loss = 0.0
    cuts = cuts_of(batch, settings, ranks)
    if passes.is_sharded:  # all go through the weights together: as many micro-batches, and a signal for all
        cuts += [[]] * (max(ranks.gather(len(cuts))) - len(cuts))
        poll = partial(ranks.each, poll)  # type: ignore[assignment]
    of_rank = (ranks.rank,) if ranks.size > 1 else ()
    for number, chosen in enumerate(cuts):
        poll()
        torch.manual_seed(seed_of("update", *settings.seed_parts, number, *of_rank))
        part, terms = _loss_of(policy, batch, chosen, settings, passes, reference)
        passes.backward(part, is_last=number == len(cuts) - 1)
        loss += float(part.detach())
        if diagnostics is not None and chosen:
            diagnostics.add(**terms)
    return loss


def cuts_of(batch: Batch, settings: Settings, ranks: Ranks = ALONE) -> list[list[int]]:
    """The completions of each forward pass of this process; those that have no gradient are left out."""
    return microbatches(
        batch,
        max_tokens=settings.microbatch_tokens,
        max_size=settings.microbatch_size,
        needs_advantage=settings.algorithm.kl_coef == 0 and settings.algorithm.entropy_coef == 0,
        ranks=ranks,
    )


def _loss_of(
    policy: Policy,
    batch: Batch,
    chosen: list[int],
    settings: Settings,
    passes: Passes,
    reference: nn.Module | None,
) -> tuple[Tensor, dict[str, Any]]:
    """Loss of one micro-batch, and what its diagnostics are made of. Without completions it is 0, with a gradient."""
    algorithm, device, is_counted = settings.algorithm, policy.device, bool(chosen)
    chosen = chosen or [0]
    trees = _trees(batch, chosen)
    logprobs_BT, entropy_BT = passes.logprobs(policy.model, **trees, temperature=settings.temperature)
    longest = logprobs_BT.shape[1]
    mask_BT = batch.mask_BT[chosen, :longest].to(device)
    advantages_B = batch.advantages_B[chosen].to(device)
    reference_BT: Tensor | None = None
    if algorithm.kl_coef > 0:
        with torch.no_grad(), reference_model(policy, reference) as model:
            compute = completion_logprobs if model is reference else passes.logprobs
            reference_BT, _ = compute(model, **trees, temperature=settings.temperature)
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
    if not is_counted:
        weights_BT = torch.zeros_like(weights_BT)
    facts = {"terms": terms, "advantages_B": advantages_B, "mask_BT": mask_BT, "entropy_BT": entropy_BT}
    return (weights_BT * terms.total_BT).sum(), facts


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
