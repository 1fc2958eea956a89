"""The `vllm` engine: vLLM in this process, with the weights that are being trained, sent to it after every update.

vLLM never reads the policy from a disk: it is built from the model's shape alone, and all weights come from the policy.
Under LoRA the base weights are sent once and the adapter after every update, unmerged: merged into bfloat16 it would be
another policy. Each completion has its own seed; its log-probabilities are those of the sampled distribution. That they
are the trainer's is checked when the first weights have been sent, and measured in every update (``sampling/*`` of the
metrics; health rule H-07). Of several processes each has an engine of its own, on its own device.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from gradus.policy.adapters import save_model
from gradus.policy.load import Policy
from gradus.policy.logprobs import completion_logprobs
from gradus.rollout.engine import Request, Sampling, need_vllm
from gradus.types import Completion, Problem

LONGEST_PROMPT = 4096
"""Prompt tokens that room is kept for where ``sampling.max_prompt_tokens`` does not say."""
TOLERANCE = {torch.float32: 1e-3}
"""Largest distance of a log-probability from the trainer's at the start (nats), by dtype."""
COARSE = 0.5
"""The same for narrower types: both sides round, in another order."""
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Adapters' ranks that vLLM keeps room for."""
_Sampled = tuple[tuple[int, ...], tuple[float, ...], bool]
"""Tokens of a completion, their log-probabilities, whether it ended by itself."""


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
            last, cls._last = cls._last, None
            if last is not None:
                last.close()
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
        """ValueError where vLLM is missing, or cannot serve this policy."""
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
        self._is_asleep = False
        self._adapter: Any = None
        self._folder = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        self._longest = _longest(policy, max_tokens, max_prompt_tokens)
        with _own_threads():
            self._llm = self._start(memory_frac, batch_size)

    def _start(self, memory_frac: float, batch_size: int) -> Any:
        """vLLM with the shape of the policy and no weights yet."""
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # in this process, so that weights need no files
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        if not self._is_gpu:
            os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
            os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        vllm: Any = importlib.import_module("vllm")
        base = _base(self._policy.model)
        shape = Path(self._folder.name) / "shape"
        base.config.architectures = [type(base).__name__]
        base.config.save_pretrained(shape)
        lora = {"enable_lora": True, "max_lora_rank": _lora_rank(self._policy.model)} if self._is_lora else {}
        several: dict[str, Any] = {}
        if dist.is_initialized() and dist.get_world_size() > 1:  # it joins the group that is there, and samples alone
            several["distributed_executor_backend"] = "external_launcher"
            os.environ.setdefault("LOCAL_RANK", os.environ["RANK"])
        return vllm.LLM(
            str(shape),
            skip_tokenizer_init=True,
            generation_config="vllm",  # no defaults of the model's own
            load_format="dummy",
            dtype=str(next(base.parameters()).dtype).removeprefix("torch."),
            max_model_len=self._longest,
            max_num_seqs=batch_size,
            gpu_memory_utilization=memory_frac,
            logprobs_mode="processed_logprobs",  # after the temperature
            enable_prefix_caching=True,  # so that a group's prompt is computed once
            enable_sleep_mode=self._is_gpu,
            enforce_eager=not self._is_gpu,
            **lora,
            **several,
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
        with self._awake(policy_step):
            done = self._run(requests, sampling, poll)
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

    @contextlib.contextmanager
    def _awake(self, step: int) -> Iterator[None]:
        """vLLM with the weights after ``step`` updates; on a GPU its memory is the update's afterwards."""
        is_first, is_stale = self._step is None, step != self._step
        if self._is_asleep:
            self._llm.wake_up(tags=["weights"])
        if is_stale:
            self._send_weights(step)
        if self._is_asleep:
            self._llm.wake_up(tags=["kv_cache"])
            self._is_asleep = False
        if is_stale:
            self._llm.reset_prefix_cache()  # keys and values of the former weights
        if is_first:
            self._check()
        try:
            yield
        finally:
            if self._is_gpu:
                self._llm.sleep(level=1)
                self._is_asleep = True

    def _run(self, requests: Sequence[Request], sampling: Sampling, poll: Callable[[], None]) -> dict[str, _Sampled]:
        """All completions, by index of the request and of the seed."""
        vllm: Any = importlib.import_module("vllm")
        engine, names = self._llm.llm_engine, list[str]()
        for index, request in enumerate(requests):
            for place, seed in enumerate(request.seeds):
                names.append(f"{index}/{place}")
                engine.add_request(
                    names[-1],
                    {"prompt_token_ids": list(request.prompt_tokens)},
                    vllm.SamplingParams(
                        temperature=sampling.temperature,
                        max_tokens=sampling.max_tokens,
                        seed=seed,
                        logprobs=0,  # of the sampled token alone
                        stop_token_ids=list(self._policy.stop_tokens),
                        ignore_eos=True,  # the line above says what ends a completion
                        detokenize=False,
                    ),
                    lora_request=self._adapter,
                )
        done: dict[str, _Sampled] = {}
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
        """Makes vLLM's weights those of the policy; under LoRA only the adapter changes."""
        if self._step is None or not self._is_lora:
            self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": _weights(self._policy.model)})
            self._llm.apply_model(_pack_head)
        if self._is_lora:
            requests: Any = importlib.import_module("vllm.lora.request")
            if self._adapter is not None:
                self._llm.llm_engine.remove_lora(self._adapter.lora_int_id)
            with tempfile.TemporaryDirectory(dir=self._folder.name) as folder:
                save_model(self._policy.model, Path(folder))
                self._adapter = requests.LoRARequest(f"step {step}", step + 1, folder)
                self._llm.llm_engine.add_lora(self._adapter)  # reads the folder
        self._step = step

    def _check(self) -> None:
        """ValueError where vLLM's model is not ours: weights that it did not take, another reading of the config."""
        vocabulary = self._policy.vocabulary_size
        prompt = tuple(place * 7919 % vocabulary for place in range(1, 7))
        request = Request(problem=_NO_PROBLEM, prompt_tokens=prompt, seeds=(0,))
        tokens, theirs, _ = self._run([request], Sampling(temperature=1.0, max_tokens=4), lambda: None)["0/0"]
        was_training = self._policy.model.training
        self._policy.model.eval()
        with torch.no_grad():
            ours, _ = completion_logprobs(
                self._policy.model, prompts=[prompt], completions=[tokens], prompt_of=[0], temperature=1.0
            )
        self._policy.model.train(was_training)
        gap = float((ours[0].cpu() - torch.tensor(theirs)).abs().max())
        dtype = next(_base(self._policy.model).parameters()).dtype
        if not gap <= (limit := TOLERANCE.get(dtype, COARSE)):
            raise ValueError(
                f"vLLM's log-probabilities are {gap:.4f} from the trainer's (allowed in {dtype}: {limit:g}): it would sample "
                f"from another policy than {self._policy.source}; use engine.name=local"
            )

    def close(self) -> None:
        """Gives vLLM's memory back."""
        self._llm.llm_engine.engine_core.shutdown()
        del self._llm
        self._folder.cleanup()
        if self._is_gpu:
            torch.cuda.empty_cache()


_NO_PROBLEM = Problem(id="check", task="", messages=(), truth={}, domain="", difficulty=0.0)


@contextlib.contextmanager
def _own_threads() -> Iterator[None]:
    """On a CPU vLLM changes torch's number of threads and takes `torch.set_num_threads` away; both are put back."""
    change, count = torch.set_num_threads, torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads = change
        torch.set_num_threads(count)


def _pack_head(model: Any) -> None:
    """On a CPU vLLM multiplies by packed copies of its weights. Where the output head is tied to the embedding, new
    weights reach the embedding's copy alone; the head's is made again here. Elsewhere this changes nothing."""
    head: Any = getattr(model, "lm_head", None)
    head = getattr(head, "base_layer", head)  # of one that adapters stand around
    if hasattr(head, "quant_method"):
        head.quant_method.process_weights_after_loading(head)


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
    known = [size for size in _RANKS if size >= rank]
    if not known:
        raise ValueError(
            f"model.lora.rank={rank} is more than the {_RANKS[-1]} that vLLM can serve; use engine.name=local"
        )
    return known[0]


def _longest(policy: Policy, max_tokens: int, max_prompt_tokens: int | None) -> int:
    """Places of a sequence: prompt and completion, within what the model has."""
    places = getattr(policy.model.config, "max_position_embeddings", None)
    wanted = (max_prompt_tokens or LONGEST_PROMPT) + max_tokens
    return wanted if places is None else min(wanted, places)
