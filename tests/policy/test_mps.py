"""MPS without a Mac: every operator that sampling and the gradient call has an MPS kernel in torch's own table, and no
tensor on the way is wider than MPS can hold. Read on a CPU, with the path that a device without the CPU kernel takes."""

from functools import cache
from pathlib import Path

import pytest
import torch
import torchgen
from torch.utils._python_dispatch import TorchDispatchMode

from gradus.policy.logprobs import completion_logprobs
from gradus.policy.tree import PackedTree
from tests.models import random_tokens, tree_model
from tests.rollout.test_local import generate, policy_of, requests_of

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
    """Notes operators, and tensors that are too wide."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.wide: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.name().removeprefix("aten::")
        self.names.add(name)
        flat = out if isinstance(out, tuple | list) else (out,)
        if any(isinstance(one, torch.Tensor) and one.dtype in TOO_WIDE for one in flat):
            self.wide.add(name)
        return out


@pytest.fixture
def off_the_cpu(monkeypatch):
    """Prompt sharing as on devices without the CPU's fused kernel."""
    real = PackedTree.__init__

    def plain(self, **options):
        real(self, **{**options, "use_fused": False})

    monkeypatch.setattr(PackedTree, "__init__", plain)


@pytest.mark.parametrize("family", ["qwen2", "gemma2", "mistral-window"])
def test_no_operator_is_missing_and_no_tensor_too_wide(family, off_the_cpu):
    policy = policy_of(family)
    with Watched() as watched:
        generate(policy, requests_of((7, 11), 3), max_tokens=9)
        logprobs_BT, entropy_BT = completion_logprobs(
            tree_model(family),
            prompts=random_tokens([7, 11]),
            completions=random_tokens([5, 1, 8]),
            prompt_of=[0, 0, 1],
            temperature=0.7,
        )
        (logprobs_BT.sum() + entropy_BT.sum()).backward()
    assert {"mm", "searchsorted.Tensor", "masked_scatter"} <= watched.names, "the watch sees what is called"
    fused = {name for name in watched.names if "for_cpu" in name and "attention" in name}
    lacking = {name for name in watched.names - fused if name in kernels() and not kernels()[name]}
    assert lacking == set()
    assert watched.wide == set()


def test_the_table_knows_what_mps_lacks():
    assert not kernels()["_scaled_dot_product_flash_attention_for_cpu"]
    assert kernels()["mm"] and kernels()["add.Tensor"]
    with Watched() as watched:
        torch.ones(2).double()
    assert watched.wide
