"""The vllm engine, on a CPU where vLLM for CPUs is installed (`make extras-vllm`): the trainer's log-probabilities before
and after updates, with all weights and with adapters; seeds; stops; whole runs; what is exported loads. Without vLLM: what
is said of it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

from gradus.config import Config, LoraConfig, ModelConfig
from gradus.integrations.export import export
from gradus.policy.load import NANO, Policy, load_policy
from gradus.policy.logprobs import completion_logprobs
from gradus.rollout.engine import Request, Sampling, need_vllm
from gradus.rollout.local import LocalEngine
from gradus.rollout.vllm import VllmEngine
from gradus.rundir import read_jsonl
from gradus.tasks.base import TASKS
from gradus.train.address import locate
from gradus.types import Problem
from tests.train.runs import config_of, metrics, run, start_of
from tests.train.test_launchers import trained
from tests.train.two_processes import pay_for_digits

HAS_VLLM = importlib.util.find_spec("vllm") is not None
needs_vllm = pytest.mark.skipif(not HAS_VLLM, reason="vLLM is not installed")
PROBLEM = Problem(id="p/0", task="t", messages=(), truth={}, domain="", difficulty=0.0)
OPTIONS = {"max_tokens": 16, "max_prompt_tokens": 32, "memory_frac": 0.3, "batch_size": 16}
REQUESTS = [
    Request(problem=PROBLEM, prompt_tokens=tuple(range(5, 5 + length)), seeds=tuple(range(length, length + 4)))
    for length in (7, 19, 12)
]
"""Three groups of four."""


SIZES: dict[str, Any] = {
    "vocab_size": 392, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 32, "max_position_embeddings": 256, "bos_token_id": None, "eos_token_id": 1,
    "pad_token_id": 0,
}  # fmt: skip
"""vLLM has CPU kernels for heads of this size."""
CONFIGS = {
    "tied head": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "own head": LlamaConfig(**SIZES, tie_word_embeddings=False),
    "biases": Qwen2Config(**SIZES, tie_word_embeddings=True),
    "normed heads": Qwen3Config(**SIZES, tie_word_embeddings=True),
}


def folder_of(path: Path, kind: str = "tied head") -> Path:
    """A model with random weights."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[kind])
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
@pytest.mark.parametrize(
    ("kind", "lora"),
    [*((kind, None) for kind in CONFIGS), ("tied head", LoraConfig(rank=4))],
    ids=[*CONFIGS, "lora"],
)
def test_log_probabilities_are_the_trainers_before_and_after_updates(tmp_path, kind, lora):
    policy = load_policy(ModelConfig(path=str(folder_of(tmp_path / "model", kind)), device="cpu", lora=lora))
    policy.model.eval()
    engine = VllmEngine.of(policy, **OPTIONS)
    assert VllmEngine.of(policy, **OPTIONS) is engine, "a process has one"
    assert gap(policy, engine, step=0) < 1e-4
    for step in range(1, 4):
        moved(policy)
        assert gap(policy, engine, step=step) < 1e-4
    fresh = engine.generate(REQUESTS, Sampling(temperature=0.0, max_tokens=16), policy_step=3)
    local = LocalEngine(policy).generate(REQUESTS, Sampling(temperature=0.0, max_tokens=16), policy_step=3)
    assert [one.tokens for group in fresh for one in group] == [one.tokens for group in local for one in group]


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


@needs_vllm
@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, {"rank": 4}], ids=["all weights", "lora"])
def test_a_run_samples_with_it_and_what_it_exports_loads_in_vllm(tmp_path, lora):
    folder = folder_of(tmp_path / "model")
    changes: dict[str, Any] = {
        "engine": {"name": "vllm", "batch_size": 16},
        "sampling": {"max_prompt_tokens": 128},
        "model": {"path": str(folder), "lora": lora},
    }
    run(config_of(folder, **changes, num_steps=2), tmp_path)
    threads = torch.get_num_threads()
    assert run(config_of(folder, **changes, num_steps=4), tmp_path)["attempts"] == 2
    assert torch.get_num_threads() == threads == 1, "vLLM left torch's threads alone"
    rows = metrics(tmp_path)
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    assert all(row["sampling/sampling_logp_difference/max"] < 1e-4 for row in rows[1:] if row["grad_norm"] > 0)
    assert any(row["grad_norm"] > 0 for row in rows[1:])
    made = locate(f"{tmp_path / 'run'}@last")
    export(made, tmp_path / "out")
    policy = load_policy(ModelConfig(path=made.path, device="cpu"), is_trainable=False)
    here = LocalEngine(policy).generate(REQUESTS, Sampling(temperature=0.0, max_tokens=16), policy_step=4)
    assert alone(tmp_path / "out", folder if lora else None) == [list(group[0].tokens) for group in here]
    if lora:
        export(made, tmp_path / "merged", merge=True)
        assert alone(tmp_path / "merged", None) == [list(group[0].tokens) for group in here]


@needs_vllm
@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, {"rank": 4}], ids=["all weights", "lora"])
def test_it_samples_for_trl_what_it_samples_natively(tmp_path, lora, monkeypatch):
    """The same completions while the policies are the same: the first batch, and with it the first update."""
    pytest.importorskip("trl")
    from gradus.train.backends.trl import train

    monkeypatch.setattr(TASKS["countdown"], "score", pay_for_digits)
    folder = folder_of(tmp_path / "model")
    changes: dict[str, Any] = {
        "engine": {"name": "vllm", "batch_size": 16},
        "sampling": {"max_prompt_tokens": 128},
        "model": {"path": str(folder), "lora": lora},
    }
    run(config_of(folder, **changes, num_steps=2), tmp_path / "native")
    for num_steps in (2, 3):  # and goes on
        with start_of(
            config_of(folder, **changes, num_steps=num_steps, backend={"name": "trl"}), tmp_path / "trl"
        ) as start:
            train(start)
    ours, theirs = metrics(tmp_path / "native"), metrics(tmp_path / "trl")
    assert [row["step"] for row in theirs] == [0, 1, 2, 3] and all(row["grad_norm"] > 0 for row in theirs[1:])
    rows = [read_jsonl(tmp_path / name / "run/rollouts/step_000001.jsonl").rows for name in ("native", "trl")]
    assert [row["completion"] for row in rows[0]] == [row["completion"] for row in rows[1]]
    assert theirs[0]["evaluation/validation/solve_rate"] == ours[0]["evaluation/validation/solve_rate"]
    assert theirs[1]["grad_norm"] == pytest.approx(ours[1]["grad_norm"], rel=1e-3)


@needs_vllm
@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "lora"), [("ddp", ""), ("fsdp2", ""), ("ddp", "{rank: 4}")])
def test_of_several_processes_each_has_an_engine(tmp_path, strategy, lora):
    folder = folder_of(tmp_path / "model")
    settings = ["engine.name=vllm", "engine.batch_size=16", "sampling.max_prompt_tokens=128"]
    settings += [f"parallel.strategy={strategy}", *([f"model.lora={lora}"] if lora else [])]
    assert f"2 processes, {strategy}:" in trained(tmp_path, folder, *settings, num_steps=2)
    assert "resumes" in trained(tmp_path, folder, *settings, num_steps=3)
    rows = metrics(tmp_path)
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    assert all(row["sampling/sampling_logp_difference/max"] < 1e-4 and row["grad_norm"] > 0 for row in rows[1:])


ALONE = """
import json, sys
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest
export, base, prompts, stops = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), json.loads(sys.argv[4])
llm = LLM(base or export, enforce_eager=True, max_model_len=128, dtype="float32", enable_lora=bool(base))
found = llm.generate(
    [{"prompt_token_ids": prompt} for prompt in prompts],
    SamplingParams(temperature=0.0, max_tokens=16, stop_token_ids=stops, ignore_eos=True),
    lora_request=LoRARequest("export", 1, export) if base else None,
)
assert not any(name.split(".")[0] == "gradus" for name in sys.modules)
print(json.dumps([list(one.outputs[0].token_ids) for one in found]))
"""


def alone(folder: Path, base: Path | None) -> list[list[int]]:
    """What a process without gradus, with vLLM alone, makes of an export: the most likely answers."""
    prompts = json.dumps([request.prompt_tokens for request in REQUESTS])
    told = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1"}
    stops = json.dumps(load_policy(ModelConfig(path=str(base or folder), device="cpu")).stop_tokens)
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(folder), str(base or ""), prompts, stops],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **told, "PYTHONPATH": "", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": {"load_in_4bit": True, "lora": {}}}, "takes no weights that model.load_in_4bit=true has rounded"),
        ({"backend": {"name": "verl"}}, "backend.name=verl has its own way to vLLM"),
    ],
)
def test_what_it_cannot_do_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        Config(tasks={"countdown": {}}, engine={"name": "vllm"}, **changes)


@pytest.mark.skipif(HAS_VLLM, reason="vLLM is installed")
def test_without_the_package_it_says_what_to_install():
    with pytest.raises(ValueError, match=r"engine\.name=vllm needs the package vllm.*or use engine\.name=local"):
        need_vllm()
