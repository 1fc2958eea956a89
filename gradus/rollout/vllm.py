"""The `vllm` engine: vLLM in this process, with the weights that are being trained, sent to it after every update.

vLLM never reads the policy from a disk: it is built from the model's shape alone, and all weights come from the policy.
Under LoRA the base weights are sent once and the adapter after every update, unmerged: merged into bfloat16 it would be
another policy. Each completion has its own seed; its log-probabilities are those of the sampled distribution. How far
they are from the trainer's is measured in every update (``sampling/*`` of the metrics; health rule H-07).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gradus.policy.load import Policy
from gradus.rollout.engine import Request, Sampling, need_vllm
from gradus.types import Completion

LONGEST_PROMPT = 4096
"""Prompt tokens that room is kept for where ``sampling.max_prompt_tokens`` does not say."""
_ADAPTED = "base_model.model."


class VllmEngine:
    """Engine that samples with vLLM.

    Example:
        engine = VllmEngine.of(policy, max_tokens=512, max_prompt_tokens=None, memory_frac=0.3, batch_size=128)
        (group,) = engine.generate([request], Sampling(temperature=1.0, max_tokens=96), policy_step=0)
    """

    _last: VllmEngine | None = None

    @classmethod
    def of(cls, policy: Policy, **options: Any) -> VllmEngine:
        """The engine of ``policy``. A process has one: it is kept, and given up for another policy's."""
        if cls._last is None or cls._last._policy is not policy or cls._last._options != options:
            if cls._last is not None:
                cls._last.close()
            cls._last = cls(policy, **options)
        return cls._last

    def __init__(
        self,
        policy: Policy,
        *,
        max_tokens: int,
        max_prompt_tokens: int | None,
        memory_frac: float,
        batch_size: int,
    ) -> None:
        need_vllm()
        self._policy = policy
        self._options = {
            "max_tokens": max_tokens,
            "max_prompt_tokens": max_prompt_tokens,
            "memory_frac": memory_frac,
            "batch_size": batch_size,
        }
        self._is_gpu = policy.device.type == "cuda"
        self._is_lora = hasattr(policy.model, "peft_config")
        self._step: int | None = None
        self._adapter: Any = None
        self._folder = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        self._longest = _longest(policy, max_tokens, max_prompt_tokens)
        self._llm = self._start(memory_frac, batch_size)

    def _start(self, memory_frac: float, batch_size: int) -> Any:
        """vLLM with the shape of the policy and no weights yet."""
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # in this process, so that weights need no files
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        if not self._is_gpu:
            os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
            os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        from vllm import LLM

        base = _base(self._policy.model)
        shape = Path(self._folder.name) / "shape"
        base.config.architectures = [type(base).__name__]
        base.config.save_pretrained(shape)
        lora = {"enable_lora": True, "max_lora_rank": _lora_rank(self._policy.model)} if self._is_lora else {}
        return LLM(
            str(shape),
            skip_tokenizer_init=True,
            load_format="dummy",
            dtype=str(next(base.parameters()).dtype).removeprefix("torch."),
            max_model_len=self._longest,
            max_num_seqs=batch_size,
            gpu_memory_utilization=memory_frac,
            logprobs_mode="processed_logprobs",
            enable_prefix_caching=True,
            enable_sleep_mode=self._is_gpu,
            enforce_eager=not self._is_gpu,
            **lora,
        )

    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        *,
        policy_step: int,
        poll: Callable[[], None] = lambda: None,
    ) -> list[tuple[Completion, ...]]:
        """See `Engine.generate`. ValueError for a prompt that is longer than what room is kept for."""
        longest = max((len(request.prompt_tokens) for request in requests), default=0)
        if longest + sampling.max_tokens > self._longest:
            raise ValueError(
                f"a prompt of {longest} tokens and sampling.max_tokens={sampling.max_tokens} need more than the "
                f"{self._longest} places that vLLM was started with; set sampling.max_prompt_tokens={longest}"
            )
        if self._is_gpu and self._step is not None:
            self._llm.wake_up()
        if policy_step != self._step:
            self._send_weights(policy_step)
        done = self._run(requests, sampling, poll)
        if self._is_gpu:
            self._llm.sleep(level=1)  # its memory is the update's until the next call
        return [
            tuple(
                Completion(
                    text=self._policy.decode(tokens),
                    tokens=tokens,
                    logprobs=logprobs,
                    finish="stop" if is_stopped else "length",
                    policy_step=policy_step,
                )
                for tokens, logprobs, is_stopped in (done[f"{index}/{place}"] for place in range(len(request.seeds)))
            )
            for index, request in enumerate(requests)
        ]

    def _run(
        self, requests: Sequence[Request], sampling: Sampling, poll: Callable[[], None]
    ) -> dict[str, tuple[tuple[int, ...], tuple[float, ...], bool]]:
        """Tokens, log-probabilities and whether it ended by itself, of each completion."""
        from vllm import SamplingParams

        engine, names = self._llm.llm_engine, list[str]()
        for index, request in enumerate(requests):
            for place, seed in enumerate(request.seeds):
                names.append(f"{index}/{place}")
                engine.add_request(
                    names[-1],
                    {"prompt_token_ids": list(request.prompt_tokens)},
                    SamplingParams(
                        temperature=sampling.temperature,
                        max_tokens=sampling.max_tokens,
                        seed=seed,
                        logprobs=0,
                        stop_token_ids=list(self._policy.stop_tokens),
                        detokenize=False,
                    ),
                    lora_request=self._adapter,
                )
        done: dict[str, tuple[tuple[int, ...], tuple[float, ...], bool]] = {}
        try:
            while engine.has_unfinished_requests():
                poll()
                for output in engine.step():
                    if output.finished:
                        (one,) = output.outputs
                        tokens = tuple(one.token_ids)
                        logprobs = tuple(
                            float(at[token].logprob) for token, at in zip(tokens, one.logprobs, strict=True)
                        )
                        done[output.request_id] = tokens, logprobs, one.finish_reason == "stop"
        except BaseException:
            engine.abort_request([name for name in names if name not in done])
            raise
        return done

    @torch.no_grad()
    def _send_weights(self, step: int) -> None:
        """Makes vLLM's weights those of the policy, and forgets what it computed with others."""
        if self._step is None or not self._is_lora:
            self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": _weights(self._policy.model)})
        if self._is_lora:
            from vllm.lora.request import LoRARequest

            if self._adapter is not None:
                self._llm.llm_engine.remove_lora(self._adapter.lora_int_id)
            folder = Path(self._folder.name) / f"adapter-{step}"
            self._policy.model.save_pretrained(folder)  # type: ignore[operator]
            self._adapter = LoRARequest(f"step {step}", step + 1, str(folder))
        self._llm.reset_prefix_cache()
        self._step = step

    def close(self) -> None:
        """Gives vLLM's memory back."""
        del self._llm
        self._folder.cleanup()
        if self._is_gpu:
            torch.cuda.empty_cache()


def _base(model: Any) -> Any:
    """The model of transformers, without the adapter's wrapping."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


def _weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """The base weights under the names of their checkpoint; tied ones once."""
    for name, parameter in _base(model).named_parameters():
        if ".lora_" not in name:
            yield name.replace(".base_layer.", "."), parameter.detach()


def _lora_rank(model: Any) -> int:
    """The rank that vLLM keeps room for: one of those it knows, at least the adapter's."""
    rank = max(config.r for config in model.peft_config.values())
    known = [size for size in (8, 16, 32, 64, 128, 256, 320, 512) if size >= rank]
    if not known:
        raise ValueError(f"model.lora.rank={rank} is more than the 512 that vLLM can serve; use engine.name=local")
    return known[0]


def _longest(policy: Policy, max_tokens: int, max_prompt_tokens: int | None) -> int:
    """Places of a sequence: prompt and completion, within what the model has."""
    places = getattr(policy.model.config, "max_position_embeddings", None)
    wanted = (max_prompt_tokens or LONGEST_PROMPT) + max_tokens
    return wanted if places is None else min(wanted, places)
