"""Advantages, losses and gradients against verl's own functions on random tensors, set as gradus tells verl to be set.

Runs in the environment of ``make extras-verl``. Shape suffixes: ``B`` completions, ``T`` token positions.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from gradus.algo.advantage import advantages
from gradus.algo.loss import token_loss, token_weights
from gradus.algo.presets import resolve_algorithm
from gradus.config import Config
from gradus.train.backends.verl_settings import A, overrides

verl = pytest.importorskip("verl", reason="verl is not installed")
from hydra import compose, initialize_config_dir  # noqa: E402
from verl.trainer.ppo import core_algos  # noqa: E402
from verl.utils.config import omega_conf_to_dataclass  # noqa: E402

B, T, MAX_TOKENS = 8, 11, 16
PRESETS: list[dict[str, Any]] = [
    {"name": "grpo"},
    {"name": "dr_grpo"},
    {"name": "dapo", "keep_flat_groups": True},
    {"name": "gspo"},
    {"name": "cispo", "keep_flat_groups": True},
    {"name": "rloo"},
]
named = pytest.mark.parametrize("algorithm", PRESETS, ids=lambda one: one["name"])


def told(algorithm: dict[str, Any]) -> Any:
    """verl's whole config under our overrides; composing takes seconds."""
    return composed(json.dumps(algorithm))


@cache
def composed(text: str) -> Any:
    algorithm = json.loads(text)
    config = Config(tasks={"countdown": {}}, algorithm=algorithm, sampling={"max_tokens": MAX_TOKENS})
    with initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
        return compose("ppo_trainer", overrides=overrides(config))


def their_loss(algorithm: dict[str, Any], data: dict[str, torch.Tensor]) -> torch.Tensor:
    """What verl's worker adds up (`verl.workers.utils.losses.ppo_loss`)."""
    actor: Any = omega_conf_to_dataclass(told(algorithm).actor_rollout_ref.actor)
    actor.global_batch_info.update(
        dp_size=1, batch_num_tokens=None, global_batch_size=None, loss_scale_factor=actor.loss_scale_factor
    )
    mode = actor.loss_agg_mode
    loss, _ = core_algos.get_policy_loss_fn(actor.policy_loss.loss_mode)(
        old_log_prob=data["sampler"],
        log_prob=data["policy"],
        advantages=data["advantages"][:, None].expand(B, T),
        response_mask=data["mask"],
        loss_agg_mode=mode,
        config=actor,
    )
    if actor.use_kl_loss:
        divergence = core_algos.kl_penalty(data["policy"], data["reference"], actor.kl_loss_type)
        loss = loss + actor.kl_loss_coef * core_algos.agg_loss(
            divergence, data["mask"], mode, **actor.global_batch_info
        )
    return loss


@named
@pytest.mark.parametrize("kl_coef", [0.0, 0.04])
@pytest.mark.parametrize("seed", range(2))
def test_losses_and_gradients_on_random_batches(algorithm, kl_coef, seed):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, T + 1, (B,), generator=generator)
    policy = -3 * torch.rand(B, T, generator=generator, dtype=torch.float64)
    data = {
        "policy": policy.requires_grad_(),
        "sampler": policy.detach() + 0.8 * torch.randn(B, T, generator=generator, dtype=torch.float64),
        "reference": policy.detach() + 0.3 * torch.randn(B, T, generator=generator, dtype=torch.float64),
        "advantages": torch.randn(B, generator=generator, dtype=torch.float64),
        "mask": torch.arange(T)[None] < lengths[:, None],
    }
    settings = {**algorithm, "kl_coef": kl_coef}
    theirs = their_loss(settings, data)
    (their_gradient,) = torch.autograd.grad(theirs, data["policy"])
    ours_algorithm = resolve_algorithm(Config(tasks={"countdown": {}}, algorithm=settings).algorithm)
    terms = token_loss(
        algorithm=ours_algorithm,
        policy_logprobs_BT=data["policy"],
        sampler_logprobs_BT=data["sampler"],
        advantages_B=data["advantages"],
        mask_BT=data["mask"],
        reference_logprobs_BT=data["reference"] if kl_coef else None,
    )
    weights = token_weights(
        data["mask"], aggregate=ours_algorithm.aggregate, max_tokens=MAX_TOKENS, dtype=torch.float64
    )
    ours = (weights * terms.total_BT).sum()
    (our_gradient,) = torch.autograd.grad(ours, data["policy"])
    assert float(ours) == pytest.approx(float(theirs), rel=1e-6, abs=1e-9)
    torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-6, atol=1e-9)


@named
def test_advantages_of_random_rewards(algorithm):
    """With verl's smaller constant under the deviation."""
    generator = torch.Generator().manual_seed(4)
    rewards = torch.rand(4, 5, generator=generator, dtype=torch.float64)
    rewards[0] = 0.5  # a group without spread
    settings = told(algorithm).algorithm
    mask = torch.ones(20, 3, dtype=torch.float64)
    per_token = torch.zeros(20, 3, dtype=torch.float64)
    per_token[:, -1] = rewards.flatten()
    index = [group for group in range(4) for _ in range(5)]
    options = {"norm_adv_by_std_in_grpo": settings.norm_adv_by_std_in_grpo} if settings.adv_estimator == "grpo" else {}
    theirs, _ = core_algos.get_adv_estimator_fn(settings.adv_estimator)(per_token, mask, index=index, **options)
    kind = resolve_algorithm(Config(tasks={"countdown": {}}, algorithm=algorithm).algorithm).advantage
    ours = [value for group in rewards.tolist() for value in advantages(group, kind=kind, epsilon=1e-6)]
    torch.testing.assert_close(torch.tensor(ours, dtype=torch.float64), theirs[:, 0], rtol=1e-6, atol=1e-6)


def test_verls_second_clip_would_make_a_difference():
    """Why ``clip_ratio_c`` is set out of reach: with verl's 3 a large ratio of a bad completion is cut off."""
    settings = told({"name": "grpo"})
    assert settings.actor_rollout_ref.actor.clip_ratio_c == 1e9
    actor: Any = omega_conf_to_dataclass(settings.actor_rollout_ref.actor)
    actor.global_batch_info.update(dp_size=1, batch_num_tokens=None, global_batch_size=None, loss_scale_factor=None)
    losses = []
    for clip in (actor.clip_ratio_c, 3.0):
        object.__setattr__(actor, "clip_ratio_c", clip)
        loss, _ = core_algos.get_policy_loss_fn("vanilla")(
            old_log_prob=torch.full((1, 1), -3.0), log_prob=torch.full((1, 1), -1.0), advantages=-torch.ones(1, 1),
            response_mask=torch.ones(1, 1), loss_agg_mode="token-mean", config=actor,
        )  # fmt: skip
        losses.append(float(loss))
    assert losses == pytest.approx([float(torch.exp(torch.tensor(2.0))), 3.0])


def test_the_reward_function_is_told_the_options_of_the_tasks():
    kwargs = told({"name": "grpo"}).reward.custom_reward_function.reward_kwargs
    assert "countdown" in json.loads(kwargs.tasks) and A == "actor_rollout_ref"
