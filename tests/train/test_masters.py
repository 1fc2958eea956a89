"""bfloat16 weights with float32 masters: what is too small for a bfloat16 step is not lost."""

import torch

from gradus.algo.presets import PRESETS
from gradus.config import LoraConfig, ModelConfig, OptimizerConfig
from gradus.policy.load import load_policy
from gradus.train.batch import collate
from gradus.train.optimizer import Optimizer
from gradus.train.update import Settings, update
from tests.models import save_model
from tests.train.test_update import GROUPS, _fields, policy_of, settings

TINY = Settings(**{**_fields(settings()), "learning_rate": 1e-6})


def test_tiny_steps_add_up_in_the_masters():
    policy = policy_of(torch.bfloat16, "qwen2")
    optimizer = Optimizer(policy, OptimizerConfig())
    name, parameter = next((name, p) for name, p in policy.trainable() if name.endswith("q_proj.weight"))
    before, master = parameter.detach().clone(), optimizer.tensors()[f"optimizer.master.{name}"].clone()
    batch = collate(GROUPS, algorithm=PRESETS["grpo"], max_tokens=16)
    for _ in range(3):
        update(policy, optimizer, batch, TINY)
    moved = (optimizer.tensors()[f"optimizer.master.{name}"] - master).abs()
    assert master.dtype == torch.float32 and torch.equal(master.bfloat16(), before)
    assert 2e-6 < float(moved.median()) < 4e-6, "three steps of 1e-6"
    is_lost = (before + 1e-6 * 3).to(torch.bfloat16) == before
    assert is_lost.float().mean() > 0.9, "the test needs steps that bfloat16 cannot take"
    assert torch.equal(parameter, optimizer.tensors()[f"optimizer.master.{name}"].bfloat16())


def test_adapters_are_float32_on_a_bfloat16_base(tmp_path):
    config = ModelConfig(path=str(save_model(tmp_path)), device="cpu", dtype="bfloat16", lora=LoraConfig(rank=2))
    policy = load_policy(config)
    assert {p.dtype for _, p in policy.trainable()} == {torch.float32}
    base = [p for p in policy.model.parameters() if not p.requires_grad]
    assert {p.dtype for p in base} == {torch.bfloat16}
    assert not [name for name in Optimizer(policy, OptimizerConfig()).tensors() if "master" in name]
