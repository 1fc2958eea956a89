"""The batch of fixed shapes draws what the other draws; and its step, once taken down operator by operator, gives the same
when only the operators are called again, which is what a CUDA graph does. (No GPU is needed; `make gpu-check` has one.)"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gradus.rollout import static
from gradus.rollout.engine import Sampling
from gradus.rollout.local import LocalEngine
from tests.models import CONFIGS
from tests.rollout.test_local import generate, policy_of, requests_of

WAITS = {"_local_scalar_dense", "nonzero", "lift_fresh", "item", "unique_dim", "_unique2"}
"""Operators whose result the processor waits for, or that bring something from it."""


def drawn(policy, requests, *, batch_size=64, temperature=1.0, max_tokens=24):
    engine = LocalEngine(policy, batch_size=batch_size, is_static=True)
    return engine.generate(requests, Sampling(temperature=temperature, max_tokens=max_tokens), policy_step=3)


def same(mine, other):
    """Tokens, ends and texts exactly; log-probabilities to 1e-5."""
    for one, two in zip((c for group in mine for c in group), (c for group in other for c in group), strict=True):
        assert (one.tokens, one.finish, one.text, one.policy_step) == (two.tokens, two.finish, two.text, 3)
        assert (torch.tensor(one.logprobs) - torch.tensor(two.logprobs)).abs().max() <= 1e-5


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_it_draws_what_the_batch_of_changing_shapes_draws(family):
    policy, requests = policy_of(family), requests_of()
    for batch_size in (5, 12, 25):
        same(drawn(policy, requests, batch_size=batch_size), generate(policy, requests))
    same(drawn(policy, requests, temperature=0.0), generate(policy, requests, temperature=0.0))


def test_groups_larger_than_the_batch_and_memory_that_grows():
    policy = policy_of(stop=(1,))
    for batch_size, max_tokens in ((3, 10), (7, 65), (64, 130), (64, 1)):
        requests = requests_of((7, 2, 30), group_size=7)
        same(
            drawn(policy, requests, batch_size=batch_size, max_tokens=max_tokens),
            generate(policy, requests, max_tokens=max_tokens),
        )
    assert drawn(policy, []) == []


class Tape(TorchDispatchMode):
    """Takes down what is called, as a CUDA graph does."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    def play(self) -> None:
        """Calls the same operators on the same memory, into the same memory."""
        for func, args, kwargs, out in self.calls:
            again = func(*args, **kwargs)
            owned = {one.untyped_storage().data_ptr() for one in args if isinstance(one, torch.Tensor)}
            for kept, new in zip(_flat(out), _flat(again), strict=True):
                if kept.untyped_storage().data_ptr() not in owned:  # no view, nothing done in place
                    kept.copy_(new)


def _flat(out):
    return [one for one in (out if isinstance(out, tuple | list) else (out,)) if isinstance(one, torch.Tensor)]


@pytest.fixture
def tapes(monkeypatch):
    """Steps are recorded on tapes; the tapes."""
    made: list[Tape] = []

    def record(step):
        tape = Tape()
        made.append(tape)

        def replay():
            if tape.calls:
                tape.play()
            else:
                with tape:
                    step()

        return replay

    monkeypatch.setattr(static, "HAS_GRAPHS", True)
    monkeypatch.setattr(static, "begin", lambda step: step())
    monkeypatch.setattr(static, "record", record)
    return made


@pytest.mark.parametrize("family", ["qwen2", "gemma2", "mistral-window"])
def test_a_step_can_be_replayed(family, tapes):
    policy, requests = policy_of(family, stop=(1, 2, 3)), requests_of()
    same(drawn(policy, requests, batch_size=12, max_tokens=80), generate(policy, requests, max_tokens=80))
    assert 2 <= len(tapes) <= 3, "recorded again only where memory has grown"
    names = {func.name().removeprefix("aten::").partition(".")[0] for tape in tapes for func, *_ in tape.calls}
    assert "mm" in names and not names & WAITS


def test_a_step_that_cannot_be_recorded_is_taken_without(monkeypatch, tapes, capfd):
    def refuse(step):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(static, "record", refuse)
    monkeypatch.setattr(static, "NOT_RECORDED", set())
    policy, requests = policy_of(), requests_of()
    for _ in range(2):
        same(drawn(policy, requests, batch_size=12), generate(policy, requests))
    said = capfd.readouterr().err
    assert said.count("LlamaForCausalLM is sampled from without CUDA graphs, which is slower: operation not") == 1
    assert not tapes
