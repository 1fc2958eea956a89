"""Batches and updates: no cut into micro-batches changes the gradient; what is not finite changes nothing."""

import itertools

import pytest
import torch

from gradus.algo.presets import PRESETS, resolve_algorithm
from gradus.config import AlgorithmConfig, OptimizerConfig
from gradus.policy.load import Policy
from gradus.train.batch import Batch, collate, microbatches
from gradus.train.optimizer import Optimizer, learning_rate_at
from gradus.train.update import Settings, accumulate, update
from gradus.types import Completion, Group, Problem, Score
from tests.models import random_tokens, tree_model

PROBLEM = Problem(id="p", task="t", messages=(), truth={}, domain="d", difficulty=0.0)


def policy_of(dtype=torch.float32, family="starcoder2") -> Policy:
    model = tree_model(family, dtype=dtype)
    return Policy(
        model=model,
        tokenizer=None,
        device=torch.device("cpu"),
        stop_tokens=(1,),
        source="",
        vocabulary_size=392,  # type: ignore[arg-type]
    )


def group_of(seed: int, lengths: list[int], rewards: list[float], statuses: list[str] | None = None) -> Group:
    (prompt,) = random_tokens([5 + seed], seed=seed)
    completions = [
        Completion(
            text="",
            tokens=tuple(tokens),
            logprobs=tuple(-2.0 - 0.1 * i for i in range(len(tokens))),
            finish="stop",
            policy_step=0,
        )
        for tokens in random_tokens(lengths, seed=100 + seed)
    ]
    scores = [
        Score(reward=reward, correct=reward == 1, parts={}, why="", status=status)  # type: ignore[arg-type]
        for reward, status in zip(rewards, statuses or ["scored"] * len(rewards), strict=True)
    ]
    return Group(problem=PROBLEM, prompt_tokens=tuple(prompt), completions=tuple(completions), scores=tuple(scores))


GROUPS = [
    group_of(0, [3, 9, 5, 1], [1, 0, 0, 0.1]),
    group_of(1, [7, 2, 4, 6], [0, 0, 0, 0]),
    group_of(2, [8, 8, 1, 12], [1, 1, 0, 1]),
]


def settings(name="grpo", microbatch_tokens=10_000, microbatch_size=None, **changes) -> Settings:
    return Settings(
        algorithm=resolve_algorithm(AlgorithmConfig(name=name, **changes)),
        temperature=0.9,
        learning_rate=1e-2,
        microbatch_tokens=microbatch_tokens,
        microbatch_size=microbatch_size,
        seed_parts=(0, 0, 1, 0),
    )


def gradient(policy: Policy, batch: Batch, chosen: Settings, reference=None) -> tuple[float, dict[str, torch.Tensor]]:
    policy.model.zero_grad()
    loss = accumulate(policy, batch, chosen, reference=reference)
    return loss, {name: parameter.grad.clone() for name, parameter in policy.trainable()}


@pytest.mark.parametrize("name", sorted(PRESETS))
@pytest.mark.parametrize(("dtype", "relative"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_any_cut_gives_the_same_gradient(name, dtype, relative):
    policy = policy_of(dtype)
    batch = collate(GROUPS, algorithm=PRESETS[name], max_tokens=16)
    loss, whole = gradient(policy, batch, settings(name))
    for tokens, size in ((20, None), (40, None), (10_000, 1), (10_000, 3)):
        cut_loss, cut = gradient(policy, batch, settings(name, tokens, size))
        assert cut_loss == pytest.approx(loss, rel=max(relative, 1e-6), abs=1e-6)  # weights are kept in float32
        for parameter, value in whole.items():
            assert (cut[parameter] - value).abs().max() <= 10 * relative * whole[parameter].abs().max() + relative, (
                parameter
            )


def test_micro_batches_hold_each_completion_once_within_the_budget():
    batch = collate(GROUPS, algorithm=PRESETS["dr_grpo"], max_tokens=16)
    for tokens, size in ((1, None), (25, None), (40, 2), (1000, None)):
        cuts = microbatches(batch, max_tokens=tokens, max_size=size)
        assert sorted(index for cut in cuts for index in cut) == list(range(12))
        for cut in cuts:
            used = sum(int(batch.lengths_B[i]) for i in cut)
            used += sum(int(batch.prompt_lengths_P[p]) for p in {int(batch.prompt_of_B[i]) for i in cut})
            assert used <= tokens or len(cut) == 1
            assert size is None or len(cut) <= size


def test_unusable_scores_stay_out_of_baseline_and_loss():
    failed = group_of(3, [4, 4, 4], [1, 0, 5], ["scored", "scored", "crash"])
    alone = group_of(4, [4, 4], [1, 0], ["scored", "timeout"])
    batch = collate([failed, alone], algorithm=PRESETS["grpo"], max_tokens=16)
    assert batch.advantages_B[:2].tolist() == pytest.approx([0.7070, -0.7070], abs=1e-3)
    assert batch.weights_BT.sum(dim=1).tolist() == pytest.approx([0.5, 0.5, 0, 0, 0])
    assert microbatches(batch, max_tokens=100) == [[0, 1]]


def test_leaving_out_what_has_no_advantage_changes_no_gradient(monkeypatch):
    import gradus.train.update as module

    policy = policy_of(torch.float64)
    batch = collate(GROUPS, algorithm=PRESETS["grpo"], max_tokens=16)
    loss, left_out = gradient(policy, batch, settings())
    original = module.microbatches
    monkeypatch.setattr(module, "microbatches", lambda *a, **o: original(*a, **{**o, "needs_advantage": False}))
    whole_loss, whole = gradient(policy, batch, settings())
    assert loss == pytest.approx(whole_loss, abs=1e-12)
    for name, value in whole.items():
        torch.testing.assert_close(left_out[name], value, rtol=1e-12, atol=1e-14)


def test_a_batch_survives_a_checkpoint():
    batch = collate(GROUPS, algorithm=PRESETS["grpo"], max_tokens=16)
    again = Batch.from_tensors(batch.tensors("pending.0"), "pending.0")
    for name, tensor in batch.tensors("x").items():
        assert torch.equal(tensor, again.tensors("x")[name])


def test_kl_to_a_frozen_copy_is_zero_at_the_start_and_pulls_back_later():
    policy, reference = policy_of(), policy_of()
    batch = collate(GROUPS[1:2], algorithm=PRESETS["grpo"], max_tokens=16)  # no reward spread: only the KL term acts
    chosen = settings(kl_coef=0.5)
    loss, at_start = gradient(policy, batch, chosen, reference.model)
    assert loss == pytest.approx(0, abs=1e-6)
    assert max(float(value.abs().max()) for value in at_start.values()) < 1e-5
    with torch.no_grad():
        for _, parameter in policy.trainable():
            parameter.add_(0.02 * torch.randn_like(parameter))
    loss, moved = gradient(policy, batch, chosen, reference.model)
    assert loss > 1e-4
    assert max(float(value.abs().max()) for value in moved.values()) > 1e-3


def test_an_update_raises_the_probability_of_what_was_rewarded():
    policy = policy_of()
    optimizer = Optimizer(policy, OptimizerConfig(learning_rate=1e-2))
    batch = collate(GROUPS, algorithm=PRESETS["reinforce"], max_tokens=16)
    metrics = [update(policy, optimizer, batch, settings("reinforce")) for _ in range(10)]
    assert metrics[-1]["loss"] < metrics[0]["loss"]  # minus the rewarded log-probability
    assert metrics[0]["grad_norm"] > 0
    assert metrics[0]["entropy"] > 0


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_what_is_not_finite_changes_no_bit(broken):
    policy = policy_of()
    optimizer = Optimizer(policy, OptimizerConfig(learning_rate=1e-2))
    batch = collate(GROUPS, algorithm=PRESETS["reinforce"], max_tokens=16)
    update(policy, optimizer, batch, settings("reinforce"))
    before = {name: parameter.clone() for name, parameter in policy.trainable()}
    moments = {name: tensor.clone() for name, tensor in optimizer.tensors().items()}
    batch.advantages_B[1] = broken
    metrics = update(policy, optimizer, batch, settings("reinforce"))
    assert metrics["train/skipped"] == 1
    assert all(torch.equal(parameter, before[name]) for name, parameter in policy.trainable())
    assert all(torch.equal(tensor, moments[name]) for name, tensor in optimizer.tensors().items())
    assert all(parameter.grad is None for _, parameter in policy.trainable())


def test_optimizer_state_goes_through_a_checkpoint():
    twin, policy = policy_of(), policy_of()
    first, second = (Optimizer(p, OptimizerConfig(learning_rate=1e-2)) for p in (twin, policy))
    batch = collate(GROUPS, algorithm=PRESETS["grpo"], max_tokens=16)
    for _ in range(3):
        update(twin, first, batch, settings())
    for _ in range(2):
        update(policy, second, batch, settings())
    third = Optimizer(policy, OptimizerConfig(learning_rate=1e-2))
    third.load_tensors({name: tensor.clone() for name, tensor in second.tensors().items()})
    update(policy, third, batch, settings())
    for (name, mine), (_, theirs) in zip(policy.trainable(), twin.trainable(), strict=True):
        assert torch.equal(mine, theirs), name


def test_bfloat16_weights_learn_through_float32_masters():
    policy = policy_of(torch.bfloat16)
    optimizer = Optimizer(policy, OptimizerConfig(learning_rate=1e-5))
    batch = collate(GROUPS, algorithm=PRESETS["grpo"], max_tokens=16)
    before = {name: tensor.clone() for name, tensor in optimizer.tensors().items()}
    for _ in range(3):
        update(policy, optimizer, batch, Settings(**{**_fields(settings()), "learning_rate": 1e-5}))
    after = {name: tensor for name, tensor in optimizer.tensors().items() if name.startswith("optimizer.master.")}
    assert after
    assert any(not torch.equal(tensor, before[name]) for name, tensor in after.items())
    for name, parameter in policy.trainable():
        assert torch.equal(parameter, after[f"optimizer.master.{name}"].bfloat16())


def _fields(value):
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def test_learning_rate_schedules():
    def rates(**options):
        config = OptimizerConfig(learning_rate=1.0, **options)
        return [learning_rate_at(step, num_steps=10, config=config) for step in range(1, 11)]

    assert rates() == [1.0] * 10
    assert rates(warmup_steps=4)[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates(schedule="linear")[0] == 1.0
    assert rates(schedule="linear")[-1] == pytest.approx(0.1)
    cosine = rates(schedule="cosine", warmup_steps=2)
    assert cosine[2] == 1.0
    assert all(later < earlier for earlier, later in itertools.pairwise(cosine[2:]))
    assert cosine[-1] < 0.05
