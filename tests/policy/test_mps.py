"""MPS without a Mac: every operator that sampling and an update call has an MPS kernel in torch's own table, and no tensor
on the way is wider than MPS can hold. Read on a CPU, with the path that a device without the CPU kernel takes."""

from functools import cache
from pathlib import Path

import pytest
import torch
import torchgen
from torch.utils._python_dispatch import TorchDispatchMode

from gradus.config import OptimizerConfig
from gradus.policy.tree import PackedTree
from gradus.rollout.draws import LARGE_VOCABULARY, draw, uniforms
from gradus.train.batch import collate
from gradus.train.optimizer import Optimizer
from gradus.train.update import update
from tests.rollout.test_local import generate, policy_of, requests_of
from tests.train.test_update import GROUPS, settings

TABLE = Path(torchgen.__file__).parent / "packaged" / "ATen" / "native" / "native_functions.yaml"
EVERYWHERE = {"CompositeExplicitAutograd", "CompositeImplicitAutograd", "CompositeExplicitAutogradNonFunctional", "MPS"}
TOO_WIDE = {torch.float64, torch.complex64, torch.complex128}


@cache
def kernels() -> dict[str, bool]:
    """Operator with overload, as torch names it → whether MPS has it."""
    own: dict[str, bool] = {}
    delegates: dict[str, str] = {}
    for entry in TABLE.read_text(encoding="utf-8").split("\n- func: ")[1:]:
        name = entry.partition("(")[0]
        own[name] = True  # without a dispatch table it is made of others
        is_table = False
        for line in entry.splitlines():
            if line.startswith("  structured_delegate:"):
                delegates[name] = line.partition(":")[2].strip()
            if is_table and line.startswith("    "):
                own[name] |= bool({key.strip() for key in line.partition(":")[0].split(",")} & EVERYWHERE)
            is_table = line.startswith("  dispatch:") or (is_table and line.startswith("    "))
            if line.startswith("  dispatch:"):
                own[name] = False
    return own | {name: own[target] for name, target in delegates.items()}


class Watched(TorchDispatchMode):
    """Notes operators, and tensors that are too wide. What was fetched by ``cpu()`` may be, and what is made of it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.wide: set[str] = set()
        self.fetched: list[torch.Tensor] = []  # kept, so that no other tensor gets their identity

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if any(one is other for one in _tensors(args) for other in self.fetched):
            self.fetched += _tensors(out)
            return out
        name = func.name().removeprefix("aten::")
        self.names.add(name)
        if any(one.dtype in TOO_WIDE for one in _tensors(out)):
            self.wide.add(name)
        return out


def _tensors(values) -> list[torch.Tensor]:
    """Those among arguments or results."""
    flat = values if isinstance(values, tuple | list) else (values,)
    return [one for one in flat if isinstance(one, torch.Tensor)]


@pytest.fixture
def watched(monkeypatch):
    """Watches what would run on a device without the CPU's own kernels: prompt sharing by matrix products, AdamW by
    operators over all parameters; and knows what was fetched from there."""
    real, adamw, watch = PackedTree.__init__, torch.optim.AdamW, Watched()

    def fetched(tensor):
        watch.fetched.append(tensor.detach().clone())
        return watch.fetched[-1]

    monkeypatch.setattr(PackedTree, "__init__", lambda self, **told: real(self, **{**told, "kernel": "plain"}))
    monkeypatch.setattr(
        torch.optim, "AdamW", lambda groups, **told: adamw(groups, **{**told, "fused": False, "foreach": True})
    )
    monkeypatch.setattr(torch.Tensor, "cpu", fetched)
    return watch


def missing(watched: Watched) -> set[str]:
    """Operators without a kernel; the CPU's attention stands for torch's own choice of one."""
    fused = {name for name in watched.names if "for_cpu" in name and "attention" in name}
    return {name for name in watched.names - fused if name in kernels() and not kernels()[name]}


@pytest.mark.parametrize("family", ["qwen2", "gemma2", "mistral-window"])
def test_no_operator_is_missing_and_no_tensor_too_wide(family, watched):
    policy = policy_of(family)
    batch = collate(GROUPS, algorithm=settings().algorithm, max_tokens=16)
    chosen = settings("gspo", microbatch_size=5, kl_coef=0.1, entropy_coef=0.01)
    with watched:
        generate(policy, requests_of((7, 11), 3), max_tokens=9)
        row = update(policy, Optimizer(policy, OptimizerConfig()), batch, chosen, reference=policy_of(family).model)
    assert row["grad_norm"] > 0 and row["kl"] >= 0
    assert {"mm", "searchsorted.Tensor", "masked_scatter", "_foreach_addcmul_.Scalar"} <= watched.names
    assert missing(watched) == set() and watched.wide == set()


def test_draws_from_a_large_vocabulary(watched):
    with watched:
        draw(torch.randn(5, LARGE_VOCABULARY + 57), uniforms(range(5), 1)[:, 0], 0.7)
    assert "searchsorted.Tensor" in watched.names
    assert missing(watched) == set() and watched.wide == set()


def test_the_table_knows_what_mps_lacks():
    assert not kernels()["_scaled_dot_product_flash_attention_for_cpu"]
    assert kernels()["mm"] and kernels()["add.Tensor"]


def test_the_watch_sees_what_is_too_wide_where_it_was_not_fetched(watched):
    with watched:
        value = torch.ones(2)
        value.cpu().double().sum()
    assert watched.wide == set()
    with watched:
        value.double()
    assert watched.wide
