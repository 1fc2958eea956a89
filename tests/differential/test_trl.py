"""Advantages, losses and gradients against the real GRPOTrainer of TRL: its formulas on random tensors, and one of its
steps on a real model.

Shape suffixes: ``B`` completions, ``T`` token positions.
"""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gradus.algo.loss import token_loss, token_weights
from gradus.algo.presets import resolve_algorithm
from gradus.config import AlgorithmConfig
from gradus.policy.load import Policy
from gradus.policy.logprobs import completion_logprobs
from gradus.train.batch import collate
from gradus.train.update import Settings, accumulate
from gradus.types import Completion, Group, Problem, Score
from tests.models import build_model, save_model, tree_model

trl = pytest.importorskip("trl", reason="trl is not installed")

B, T, MAX_TOKENS = 8, 11, 16
PRESETS = {
    "grpo": {"loss_type": "grpo", "epsilon_low": 0.2, "epsilon_high": 0.2, "importance_sampling_level": "token"},
    "dr_grpo": {"loss_type": "dr_grpo", "epsilon_low": 0.2, "epsilon_high": 0.2, "importance_sampling_level": "token"},
    "dapo": {"loss_type": "dapo", "epsilon_low": 0.2, "epsilon_high": 0.28, "importance_sampling_level": "token"},
    "gspo": {"loss_type": "grpo", "epsilon_low": 3e-4, "epsilon_high": 4e-4, "importance_sampling_level": "sequence"},
    "cispo": {"loss_type": "cispo", "epsilon_low": 0.2, "epsilon_high": 5.0, "importance_sampling_level": "token"},
    "rloo": {"loss_type": "dapo", "epsilon_low": 0.2, "epsilon_high": 0.2, "importance_sampling_level": "token"},
}
"""What TRL calls our presets."""


def trl_loss(options: dict[str, Any], data: dict[str, torch.Tensor], beta: float) -> torch.Tensor:
    """`GRPOTrainer._compute_loss` itself, given log-probabilities instead of a model."""
    trainer = SimpleNamespace(
        **options,
        beta=beta,
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1),
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=False,
        model=SimpleNamespace(training=True),
        current_gradient_accumulation_steps=1,
        max_completion_length=MAX_TOKENS,
        accelerator=SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x),
        _entropy_bonus_enabled=False,
        _metrics={"train": defaultdict(list)},
        _get_per_token_logps_and_entropies=lambda *_, **__: (data["policy"], torch.zeros_like(data["policy"]), None),
    )
    inputs = {
        "prompt_ids": torch.zeros(B, 1, dtype=torch.long),
        "prompt_mask": torch.ones(B, 1, dtype=torch.long),
        "completion_ids": torch.zeros(B, T, dtype=torch.long),
        "completion_mask": data["mask"].long(),
        "advantages": data["advantages"],
        "old_per_token_logps": data["sampler"],
        "ref_per_token_logps": data["reference"],
        "num_items_in_batch": data["mask"].sum(),
    }
    return trl.GRPOTrainer._compute_loss(trainer, None, inputs)


@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("name", sorted(PRESETS))
@pytest.mark.parametrize("seed", range(4))
def test_losses_and_gradients_on_random_batches(name, beta, seed):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, T + 1, (B,), generator=generator)
    policy = -3 * torch.rand(B, T, generator=generator, dtype=torch.float64)
    data = {
        "policy": policy.requires_grad_(),
        "sampler": policy.detach() + 0.4 * torch.randn(B, T, generator=generator, dtype=torch.float64),
        "reference": policy.detach() + 0.3 * torch.randn(B, T, generator=generator, dtype=torch.float64),
        "advantages": torch.randn(B, generator=generator, dtype=torch.float64),
        "mask": torch.arange(T)[None] < lengths[:, None],
    }
    theirs = trl_loss(PRESETS[name], data, beta)
    (their_gradient,) = torch.autograd.grad(theirs, data["policy"])
    algorithm = resolve_algorithm(AlgorithmConfig(name=name, kl_coef=beta))
    terms = token_loss(
        algorithm=algorithm,
        policy_logprobs_BT=data["policy"],
        sampler_logprobs_BT=data["sampler"],
        advantages_B=data["advantages"],
        mask_BT=data["mask"],
        reference_logprobs_BT=data["reference"] if beta else None,
    )
    weights = token_weights(data["mask"], aggregate=algorithm.aggregate, max_tokens=MAX_TOKENS, dtype=torch.float64)
    ours = (weights * terms.total_BT).sum()
    (our_gradient,) = torch.autograd.grad(ours, data["policy"])
    assert float(ours) == pytest.approx(float(theirs), rel=1e-6)
    torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-6, atol=1e-12)


REWARDS = [1.0, 0.0, 0.1, 0.0, 0.0, 0.0, 1.0, 1.0]


class CapturingTrainer(trl.GRPOTrainer):
    """Keeps what it sampled and the gradient it made of it."""

    captured: dict[str, Any]

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        output = super()._generate_and_score_completions(inputs)
        self.captured = {key: value.clone() for key, value in output.items() if torch.is_tensor(value)}
        return output

    def training_step(self, *arguments: Any, **options: Any) -> Any:
        loss = super().training_step(*arguments, **options)
        self.captured["loss"] = float(loss)
        self.captured["gradient"] = {
            name: p.grad.clone() for name, p in self.model.named_parameters() if p.grad is not None
        }
        return loss


@pytest.fixture(scope="module")
def captured(tmp_path_factory):
    """One real TRL step on a tiny model: two prompts of different lengths, four completions each."""
    from datasets import Dataset
    from transformers import AutoTokenizer

    folder = save_model(tmp_path_factory.mktemp("model"))
    trainer = CapturingTrainer(
        model=build_model("llama"),
        reward_funcs=[lambda completions, **_: REWARDS],
        args=trl.GRPOConfig(
            output_dir=str(folder / "out"),
            per_device_train_batch_size=8,
            num_generations=4,
            max_completion_length=MAX_TOKENS,
            max_steps=1,
            learning_rate=1e-4,
            loss_type="grpo",
            beta=0.0,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            shuffle_dataset=False,
        ),
        train_dataset=Dataset.from_list(
            [{"prompt": [{"role": "user", "content": text}]} for text in ("Use 1, 2.", "Use 31, 4, 15.")]
        ),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )
    trainer.train()
    return trainer.captured


def groups_of(captured) -> list[Group]:
    problem = Problem(id="p", task="t", messages=(), truth={}, domain="d", difficulty=0.0)
    groups = []
    for first in (0, 4):
        rows = range(first, first + 4)
        prompt = captured["prompt_ids"][first][captured["prompt_mask"][first].bool()]
        completions = [
            captured["completion_ids"][row][captured["completion_mask"][row].bool()].tolist() for row in rows
        ]
        groups.append(
            Group(
                problem=problem,
                prompt_tokens=tuple(prompt.tolist()),
                completions=tuple(
                    Completion(
                        text="", tokens=tuple(tokens), logprobs=(0.0,) * len(tokens), finish="stop", policy_step=0
                    )
                    for tokens in completions
                ),
                scores=tuple(Score(reward=REWARDS[row], correct=False, parts={}, why="") for row in rows),
            )
        )
    return groups


def test_advantages_of_a_real_step(captured):
    batch = collate(
        groups_of(captured), algorithm=resolve_algorithm(AlgorithmConfig(name="grpo")), max_tokens=MAX_TOKENS
    )
    torch.testing.assert_close(batch.advantages_B, captured["advantages"], rtol=1e-6, atol=1e-6)


def test_gradient_of_a_real_step(captured):
    """The same sampled tokens through our packed, prompt-sharing forward pass give TRL's gradient."""
    model = tree_model("llama")
    policy = Policy(
        model=model,
        tokenizer=None,  # type: ignore[arg-type]
        device=torch.device("cpu"),
        stop_tokens=(1,),
        source="",
        vocabulary_size=392,
    )
    algorithm = resolve_algorithm(AlgorithmConfig(name="grpo"))
    batch = collate(groups_of(captured), algorithm=algorithm, max_tokens=MAX_TOKENS)
    settings = Settings(
        algorithm=algorithm,
        temperature=1.0,
        learning_rate=0.0,
        microbatch_tokens=10_000,
        microbatch_size=None,
        seed_parts=(0, 0, 1, 0),
    )

    with torch.no_grad():
        logprobs_BT, _ = completion_logprobs(
            model,
            prompts=[batch.prompt(0), batch.prompt(1)],
            completions=[batch.completion(row) for row in range(8)],
            prompt_of=batch.prompt_of_B.tolist(),
            temperature=1.0,
        )
    batch.sampler_logprobs_BT.copy_(logprobs_BT)
    loss = accumulate(policy, batch, settings)
    assert loss == pytest.approx(captured["loss"], abs=1e-6)
    scale = max(float(gradient.abs().max()) for gradient in captured["gradient"].values())
    for name, parameter in model.named_parameters():
        assert (parameter.grad - captured["gradient"][name]).abs().max() <= 2e-5 * scale, name
