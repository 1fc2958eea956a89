"""4-bit base weights under adapters, and 8-bit moments: both by bitsandbytes, here on the CPU."""

import importlib.util

import pytest
import torch

from gradus import verbs
from gradus.algo.presets import PRESETS
from gradus.config import LoraConfig, ModelConfig, OptimizerConfig
from gradus.policy.load import load_policy
from gradus.policy.logprobs import completion_logprobs
from gradus.train.batch import collate
from gradus.train.optimizer import Optimizer
from gradus.train.update import update
from tests.models import save_model
from tests.rollout.test_local import generate, requests_of
from tests.train import runs
from tests.train.test_update import GROUPS, policy_of, settings

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed (make extras-4bit)"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("policy"), "qwen2")


def config_of(folder):
    return ModelConfig(path=str(folder), device="cpu", load_in_4bit=True, lora=LoraConfig(rank=4))


def absent(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else found(name))


def test_without_the_package(folder, monkeypatch, tmp_path):
    absent(monkeypatch)
    for told in ({"model": {"load_in_4bit": True, "lora": {"rank": 2}}}, {"optimizer": {"moments": "8bit"}}):
        with pytest.raises(ValueError, match="needs the package bitsandbytes"):
            verbs.run("train", runs.config_of(folder, **told), runs_dir=tmp_path)
    assert not list(tmp_path.iterdir()), "said before a run is made"
    with pytest.raises(
        ValueError, match=r"model.load_in_4bit=true needs the package bitsandbytes; install gradus\[4bit\]"
    ):
        load_policy(config_of(folder))
    with pytest.raises(
        ValueError, match=r"optimizer.moments=8bit needs the package bitsandbytes; install gradus\[4bit\]"
    ):
        Optimizer(policy_of(), OptimizerConfig(moments="8bit"))


def test_what_4_bits_cannot_be_combined_with():
    with pytest.raises(ValueError, match=r"trains adapters only; add model.lora=\{\}"):
        ModelConfig(load_in_4bit=True)
    with pytest.raises(ValueError, match="needs weights to round; set init=pretrained"):
        ModelConfig(load_in_4bit=True, lora=LoraConfig(), init="random")


@needs_package
def test_only_linear_layers_below_the_head_are_rounded_and_only_adapters_learn(folder):
    policy, whole = load_policy(config_of(folder)), load_policy(ModelConfig(path=str(folder), device="cpu"))
    rounded = {name for name, module in policy.model.named_modules() if type(module).__name__ == "Linear4bit"}
    assert len([name for name in rounded if name.endswith("base_layer")]) == 2 * 7 and not any(
        "lm_head" in name for name in rounded
    )
    assert all("lora_" in name and parameter.dtype == torch.float32 for name, parameter in policy.trainable())
    tokens = [
        parameter for name, parameter in policy.model.named_parameters() if name.endswith("q_proj.base_layer.weight")
    ]
    assert tokens[0].dtype == torch.uint8 and tokens[0].numel() * 2 == 48 * 48
    assert policy.vocabulary_size == whole.vocabulary_size


@needs_package
def test_adapters_on_4_bits_learn_and_sampler_and_trainer_agree(folder):
    policy = load_policy(config_of(folder))
    optimizer, batch = Optimizer(policy, OptimizerConfig()), collate(GROUPS, algorithm=PRESETS["grpo"], max_tokens=16)
    first = update(policy, optimizer, batch, settings())
    assert first["grad_norm"] > 0 and first["train/skipped"] == 0
    assert update(policy, optimizer, batch, settings())["loss"] < first["loss"]
    groups = generate(policy, requests_of(), temperature=0.7)
    learned, _ = completion_logprobs(
        policy.model,
        prompts=[request.prompt_tokens for request in requests_of()],
        completions=[one.tokens for group in groups for one in group],
        prompt_of=[row for row, group in enumerate(groups) for _ in group],
        temperature=0.7,
    )
    for row, one in enumerate(one for group in groups for one in group):
        assert (learned[row, : len(one.tokens)].detach() - torch.tensor(one.logprobs)).abs().max() <= 1e-5


@needs_package
def test_a_run_in_4_bits_resumes_and_its_adapter_loads_on_the_exact_base(folder, tmp_path):
    model = {"load_in_4bit": True, "lora": {"rank": 2}}
    assert runs.run(runs.config_of(folder, num_steps=2, model=model), tmp_path)["step"] == 2
    again = runs.run(runs.config_of(folder, num_steps=3, model=model), tmp_path)
    assert again["step"] == 3 and again["attempts"] == 2
    saved = tmp_path / "run" / "checkpoints" / "step_000003" / "model"
    assert {p.dtype for p in load_policy(ModelConfig(path=str(saved), device="cpu")).model.parameters()} == {
        torch.float32
    }


@needs_package
def test_8_bit_moments_follow_float32_ones_and_come_back_from_a_checkpoint():
    def steps(optimizer, policy, count):
        batch = collate(GROUPS, algorithm=PRESETS["grpo"], max_tokens=16)
        for _ in range(count):
            assert update(policy, optimizer, batch, settings())["train/skipped"] == 0

    def made(moments):
        policy = policy_of()
        return Optimizer(policy, OptimizerConfig(moments=moments)), policy

    (exact, exact_policy), (small, small_policy) = made("float32"), made("8bit")
    before = {name: p.detach().clone() for name, p in exact_policy.trainable()}
    steps(exact, exact_policy, 2)
    steps(small, small_policy, 2)
    for (name, one), (_, other) in zip(exact_policy.trainable(), small_policy.trainable(), strict=True):
        moved = (one - before[name]).norm()
        assert (one - other).norm() <= 0.2 * moved, name
    sizes = {name: value.numel() * value.element_size() for name, value in small.tensors().items()}
    large = [name for name in sizes if name.startswith("optimizer.state1") and "embed" in name]
    assert large and all(sizes[name] == dict(small_policy.trainable())[name.split(".", 2)[2]].numel() for name in large)
    tensors = {name: value.clone() for name, value in small.tensors().items()}
    again, again_policy = made("8bit")
    for (_, target), (_, source) in zip(again_policy.trainable(), small_policy.trainable(), strict=True):
        target.data.copy_(source.data)
    again.load_tensors(tensors)
    steps(small, small_policy, 1)
    steps(again, again_policy, 1)
    for (name, one), (_, other) in zip(small_policy.trainable(), again_policy.trainable(), strict=True):
        assert torch.equal(one, other), name
    with pytest.raises(ValueError, match=r"go on with the optimizer.moments that the run began with"):
        exact.load_tensors(tensors)
