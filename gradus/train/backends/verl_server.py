"""The server that samples for verl on a CPU: gradus' own sampler, with the seeds of a native run.

It draws each completion with the seed that a native run gives to that problem in that step, which it finds in the plan by
the prompt's tokens. So which requests arrive together does not matter, the first batch is the one of a native run, and
a prompt that is not the plan's is an error. A verl run of the user's own has no plan; there a seed comes from the prompt.
"""
# pyright: reportMissingImports=false
# verl is in another environment than the one that types are checked in

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gradus import durable
from gradus.config import ModelConfig
from gradus.jsonl import read_jsonl, to_lines
from gradus.policy.load import load_policy
from gradus.rollout.engine import Request, Sampling
from gradus.rollout.local import LocalEngine
from gradus.rollout.rollout import sample_seeds
from gradus.seeds import seed_of
from gradus.train.backends.verl_weights import load_adapter, load_weights
from gradus.types import Completion, Problem

GATHER_SECONDS = 0.05
"""How long requests are gathered before they are sampled together."""
_NOBODY = Problem(id="", task="", messages=(), truth={}, domain="", difficulty=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Which completion is asked for.

    Example:
        Turn(problem_id="countdown/train/000017", batch=1, sample=0, seed=8741)
    """

    problem_id: str
    batch: int
    sample: int
    """Its place in the group of a native run."""
    seed: int


class Seeds:
    """Which seed each completion gets.

    Example:
        seeds = Seeds(rows_of_plan, seed=0, group_size=8); seeds.next(batch=1, prompt=(1, 5, 9))
    """

    def __init__(self, plan: Sequence[dict[str, Any]], *, seed: int, group_size: int) -> None:
        self._seed, self._group_size = seed, group_size
        self._planned: dict[tuple[int, tuple[int, ...]], list[tuple[str, str, int]]] = {}
        self._given: Counter[tuple[int, tuple[int, ...]]] = Counter()
        repeats: Counter[tuple[int, str]] = Counter()
        for row in plan:
            repeats[row["batch"], row["problem_id"]] += 1
            count = repeats[row["batch"], row["problem_id"]]
            name = row["problem_id"] if count == 1 else f"{row['problem_id']} again {count}"
            key = (row["batch"], tuple(row["prompt_tokens"]))
            self._planned.setdefault(key, []).append((row["problem_id"], name, row["step"]))

    def next(self, *, batch: int, prompt: tuple[int, ...]) -> Turn:
        """The next completion of ``prompt`` in verl's step ``batch``. ValueError if it is not in the plan."""
        planned = self._planned.get((batch, prompt))
        given = self._given[batch, prompt]
        if planned is None or given >= len(planned) * self._group_size:
            raise ValueError(
                f"verl asks for a completion of a prompt with {len(prompt)} tokens in its step {batch} that the plan does "
                "not have; its chat template or its order of problems differ from gradus'"
            )
        self._given[batch, prompt] += 1
        place, index = divmod(given, self._group_size)
        problem_id, name, step = planned[place]
        seed = sample_seeds(self._seed, 0, step, name, index + 1)[index]
        return Turn(problem_id=problem_id, batch=batch, sample=index, seed=seed)


class UnplannedSeeds:
    """Seeds without a plan: of the step, the prompt and how often it was asked for, whatever arrives when.

    Example:
        UnplannedSeeds(seed=0).next(batch=1, prompt=(1, 5, 9))
    """

    def __init__(self, *, seed: int) -> None:
        self._seed = seed
        self._given: Counter[tuple[int, tuple[int, ...]]] = Counter()

    def next(self, *, batch: int, prompt: tuple[int, ...]) -> Turn:
        """The next completion of ``prompt`` in verl's step ``batch``."""
        given = self._given[batch, prompt]
        self._given[batch, prompt] += 1
        seed = seed_of("verl", self._seed, batch, *prompt, "sample", given)
        return Turn(problem_id="", batch=batch, sample=given, seed=seed)


class Server:
    """One rollout server, a Ray actor: gathers requests, samples them with `LocalEngine`. Without ``plan`` it answers any
    prompt; without ``samples`` it records nothing.

    Example:
        server = ray.remote(Server).options(num_cpus=0).remote("policy", "plan.jsonl", "samples.jsonl", seed=0, ...)
    """

    def __init__(self, path: str, plan: str | None, samples: str | None, *, seed: int, group_size: int, batch_size: int,
                 max_tokens: int, threads: int) -> None:  # fmt: skip
        torch.set_num_threads(threads)
        self._policy = load_policy(ModelConfig(path=path, device="cpu", dtype="float32"), is_trainable=False)
        self._engine = LocalEngine(self._policy, batch_size=batch_size)
        self._seeds = (
            UnplannedSeeds(seed=seed)
            if plan is None
            else Seeds(read_jsonl(Path(plan)).rows, seed=seed, group_size=group_size)
        )
        self._max_tokens = max_tokens
        self._samples = None if samples is None else Path(samples)
        self._batch = 0
        self._waiting: list[tuple[Turn, Request, Sampling, asyncio.Future[Completion]]] = []
        self._flushing: asyncio.Task[None] | None = None

    async def generate(self, prompt_ids: list[int], sampling_params: dict[str, Any], request_id: str,
                       **_: Any) -> Any:  # fmt: skip
        """One completion, as verl's servers give it."""
        from verl.workers.rollout.replica import TokenOutput

        prompt = tuple(int(token) for token in prompt_ids)
        turn = self._seeds.next(batch=self._batch + 1, prompt=prompt)
        limit = sampling_params.get("max_tokens") or sampling_params.get("max_new_tokens") or self._max_tokens
        sampling = Sampling(temperature=float(sampling_params["temperature"]), max_tokens=int(limit))
        request = Request(problem=_NOBODY, prompt_tokens=prompt, seeds=(turn.seed,))
        future: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, request, sampling, future))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        completion = await future
        return TokenOutput(
            token_ids=list(completion.tokens),
            log_probs=list(completion.logprobs),
            stop_reason="completed",
            extra_fields={"global_steps": completion.policy_step},
        )

    async def _flush(self) -> None:
        while self._waiting:
            await asyncio.sleep(GATHER_SECONDS)
            waiting, self._waiting = self._waiting, []
            for sampling in dict.fromkeys(sampling for _, _, sampling, _ in waiting):
                mine = [(turn, request, future) for turn, request, one, future in waiting if one == sampling]
                try:
                    answers = await asyncio.to_thread(self._sample, [request for _, request, _ in mine], sampling)
                    self._record([turn for turn, _, _ in mine], answers)
                except Exception as error:
                    for _, _, future in mine:
                        future.set_exception(error)
                    continue
                for (_, _, future), completion in zip(mine, answers, strict=True):
                    future.set_result(completion)
        self._flushing = None

    def _record(self, turns: Sequence[Turn], completions: Sequence[Completion]) -> None:
        """verl records texts only; gradus' recorder wants tokens too."""
        if self._samples is None:
            return
        rows = [
            {"batch": turn.batch, "problem_id": turn.problem_id, "sample": turn.sample, "text": one.text, "finish": one.finish,
             "tokens": list(one.tokens), "logprobs": list(one.logprobs)}
            for turn, one in zip(turns, completions, strict=True)
        ]  # fmt: skip
        for row in rows:
            durable.append_line(self._samples, to_lines([row]).rstrip("\n"))

    def _sample(self, requests: list[Request], sampling: Sampling) -> list[Completion]:
        """Requests of one prompt become one group, so that the prompt is computed once."""
        by_prompt: dict[tuple[int, ...], list[int]] = {}
        for index, request in enumerate(requests):
            by_prompt.setdefault(request.prompt_tokens, []).append(index)
        groups = [
            Request(problem=_NOBODY, prompt_tokens=prompt, seeds=tuple(requests[index].seeds[0] for index in indices))
            for prompt, indices in by_prompt.items()
        ]
        answers = self._engine.generate(groups, sampling, policy_step=self._batch)
        found: dict[int, Completion] = {}
        for indices, completions in zip(by_prompt.values(), answers, strict=True):
            found |= dict(zip(indices, completions, strict=True))
        return [found[index] for index in range(len(requests))]

    async def set_weights(self, weights: dict[str, torch.Tensor], batch: int) -> None:
        """Takes the policy after verl's step ``batch`` over: all of it, or its adapter. ValueError where a weight is
        missing or unknown."""
        if hasattr(self._policy.model, "peft_config"):
            load_adapter(self._policy.model, weights)
        else:
            load_weights(self._policy.model, weights)
        self._batch = batch

    async def nothing(self, *_: Any, **__: Any) -> None:
        """What a server with caches to drop and memory to give back would do here."""

    wake_up = sleep = resume_generation = clear_kv_cache = release_kv_cache = resume_kv_cache = nothing
    start_profile = stop_profile = abort_all_requests = nothing
