"""The vllm engine, on a CPU where vLLM for CPUs is installed: the trainer's log-probabilities before and after updates,
with all weights and with adapters; seeds; stops; what is exported loads. Without vLLM: what is said of it."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from gradus.config import LoraConfig, ModelConfig
from gradus.policy.load import NANO, Policy, load_policy
from gradus.policy.logprobs import completion_logprobs
from gradus.rollout.engine import Request, Sampling, need_vllm
from gradus.rollout.local import LocalEngine
from gradus.rollout.vllm import VllmEngine
from gradus.types import Problem

HAS_VLLM = importlib.util.find_spec("vllm") is not None
needs_vllm = pytest.mark.skipif(not HAS_VLLM, reason="vLLM is not installed")
PROBLEM = Problem(id="p/0", task="t", messages=(), truth={}, domain="", difficulty=0.0)
OPTIONS = {"max_tokens": 16, "max_prompt_tokens": 32, "memory_frac": 0.3, "batch_size": 16}
REQUESTS = [
    Request(problem=PROBLEM, prompt_tokens=tuple(range(5, 5 + length)), seeds=tuple(range(length, length + 4)))
    for length in (7, 19, 12)
]
"""Three groups of four."""


def folder_of(path: Path) -> Path:
    """A model whose head size vLLM has CPU kernels for."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=392, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, head_dim=32, max_position_embeddings=256, bos_token_id=None, eos_token_id=1,
            pad_token_id=0, tie_word_embeddings=True,
        )
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(path)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(NANO / "countdown" / name, path / name)
    return path


def gap(policy: Policy, engine: VllmEngine, *, step: int, temperature: float = 0.7) -> float:
    """Largest distance of the sampler's log-probabilities from the trainer's."""
    groups = engine.generate(REQUESTS, Sampling(temperature=temperature, max_tokens=16), policy_step=step)
    completions = [completion for group in groups for completion in group]
    with torch.no_grad():
        logprobs_BT, _ = completion_logprobs(
            policy.model,
            prompts=[request.prompt_tokens for request in REQUESTS],
            completions=[completion.tokens for completion in completions],
            prompt_of=[index for index, request in enumerate(REQUESTS) for _ in request.seeds],
            temperature=temperature,
        )
    return max(
        abs(float(logprobs_BT[row, column]) - value)
        for row, completion in enumerate(completions)
        for column, value in enumerate(completion.logprobs)
    )


def moved(policy: Policy) -> None:
    """An update of every weight that is trained."""
    with torch.no_grad():
        for _, parameter in policy.trainable():
            parameter.add_(torch.randn_like(parameter) * 0.03)


@needs_vllm
@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, LoraConfig(rank=4)], ids=["all weights", "lora"])
def test_log_probabilities_are_the_trainers_before_and_after_updates(tmp_path, lora):
    policy = load_policy(ModelConfig(path=str(folder_of(tmp_path / "model")), device="cpu", lora=lora))
    policy.model.eval()
    engine = VllmEngine.of(policy, **OPTIONS)
    assert VllmEngine.of(policy, **OPTIONS) is engine, "a process has one"
    assert gap(policy, engine, step=0) < 1e-4
    for step in range(1, 4):
        moved(policy)
        assert gap(policy, engine, step=step) < 1e-4
    stale = engine.generate(REQUESTS, Sampling(temperature=0.0, max_tokens=16), policy_step=3)
    local = LocalEngine(policy).generate(REQUESTS, Sampling(temperature=0.0, max_tokens=16), policy_step=3)
    assert [one.tokens for group in stale for one in group] == [one.tokens for group in local for one in group]


@needs_vllm
@pytest.mark.slow
def test_a_completion_depends_on_its_seed_alone(tmp_path):
    policy = load_policy(ModelConfig(path=str(folder_of(tmp_path / "model")), device="cpu"))
    policy.model.eval()
    engine, sampling = VllmEngine.of(policy, **OPTIONS), Sampling(temperature=1.0, max_tokens=16)
    first = engine.generate(REQUESTS, sampling, policy_step=0)
    again = engine.generate(REQUESTS[::-1], sampling, policy_step=0)[::-1]
    assert [[one.tokens for one in group] for group in first] == [[one.tokens for one in group] for group in again]
    assert len({one.tokens for group in first for one in group}) > 6
    for one in (one for group in first for one in group):
        assert (one.finish == "stop") == (one.tokens[-1] in policy.stop_tokens)
        assert len(one.logprobs) == len(one.tokens) <= 16
    calls = []

    def poll() -> None:
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.generate(REQUESTS, sampling, policy_step=0, poll=poll)
    assert [[one.tokens for one in group] for group in engine.generate(REQUESTS, sampling, policy_step=0)] == [
        [one.tokens for one in group] for group in first
    ], "nothing of an interrupted call is left"
    long = Request(problem=PROBLEM, prompt_tokens=tuple(range(5, 100)), seeds=(1,))
    with pytest.raises(ValueError, match=r"set sampling\.max_prompt_tokens=95"):
        engine.generate([long], sampling, policy_step=0)


@pytest.mark.skipif(HAS_VLLM, reason="vLLM is installed")
def test_without_the_package_it_says_what_to_install():
    with pytest.raises(ValueError, match=r"engine\.name=vllm needs the package vllm.*or use engine\.name=local"):
        need_vllm()
