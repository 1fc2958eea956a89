"""How several processes share a policy: whole weights in each (``ddp``), or a part of them in each (``fsdp2``,
``zero2``, ``zero3``).

Whole weights need nothing but `Optimizer`, which sums the gradients. With parts, a forward and a backward pass fetch the
weights of one layer at a time and give them back, so all processes must go through the policy together. Sampling would
keep them in step for every token; it uses a plain copy of the policy instead, refilled after each update.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from gradus.config import OptimizerConfig
from gradus.policy.load import Policy
from gradus.policy.logprobs import split_model
from gradus.rollout.ranks import Ranks
from gradus.train.launch import Strategy
from gradus.train.optimizer import Optimizer, T


def optimizer_for(policy: Policy, config: OptimizerConfig, ranks: Ranks, strategy: Strategy) -> Optimizer:
    """The optimizer of ``strategy``, which may share out the policy's weights at once. ValueError where it cannot."""
    if strategy != "ddp":
        in_one_dtype(policy)
    if strategy == "fsdp2":
        return ShardedOptimizer(policy, config, ranks)
    if strategy in ("zero2", "zero3"):
        from gradus.train.zero import ZeroOptimizer

        return ZeroOptimizer(policy, config, ranks, stage=int(strategy[-1]))
    return Optimizer(policy, config, ranks)


def in_one_dtype(policy: Policy) -> None:
    """Adapters take the dtype of their base: weights that are shared out together have one. The optimizer's float32
    masters keep what their updates come to, as they do for all weights in bfloat16."""
    frozen = {parameter.dtype for parameter in policy.model.parameters() if not parameter.requires_grad}
    assert len(frozen) <= 1, f"frozen weights of {frozen}"
    for dtype in frozen:
        for _, parameter in policy.trainable():
            parameter.data = parameter.data.to(dtype)


class Root(nn.Module):
    """A module around a policy, under which all of its weights can be fetched at once: ours use the output head beside
    the body, not through the model's own forward.

    Example:
        root(lambda model: completion_logprobs(model, **trees, temperature=1.0))
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, compute: Callable[[nn.Module], Any]) -> Any:
        """What ``compute`` makes of the policy."""
        return compute(self.model)


class ShardedOptimizer(Optimizer):
    """FSDP2: each process holds a part of every parameter, of its gradient and of its moments.

    Example:
        optimizer = ShardedOptimizer(policy, config.optimizer, Ranks(rank=0, size=2))
    """

    is_sharded = True

    def __init__(self, policy: Policy, config: OptimizerConfig, ranks: Ranks) -> None:
        self._model = policy.model
        self._root: Any = shard(policy, ranks)
        super().__init__(policy, config, ranks)

    def through(self, model: nn.Module, compute: Callable[[nn.Module], T]) -> T:
        """See `Passes.through`."""
        return self._root(compute)

    def backward(self, loss: Tensor, *, is_last: bool) -> None:
        """Adds this process's gradient to the sum over all: FSDP2 takes means."""
        (loss * self._ranks.size).backward()

    def clip(self) -> float:
        """See `Optimizer.clip`; the gradients are sums already."""
        norm = nn.utils.clip_grad_norm_([parameter for _, parameter in self._named], self._max_grad_norm)
        return float(_full(norm))

    def drop_gradients(self) -> None:
        """Forgets what was accumulated, and gives back weights that a pass without gradients left here."""
        super().drop_gradients()
        self._root.reshard()

    def says(self) -> str:
        """How the weights are held, in one line."""
        parameters = list(self._model.parameters())
        held, total = sum(_local(each).numel() for each in parameters), sum(each.numel() for each in parameters)
        return f"{held:,} of {total:,} weights in this process"

    def full_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Name and whole tensor of each parameter, one at a time. All processes must go through it to its end."""
        self._root.reshard()
        for name, parameter in self._model.named_parameters():
            yield name, _full(parameter.detach())

    def tensors(self) -> dict[str, Tensor]:
        """This process's part of moments and master weights."""
        return {name: _local(value) for name, value in super().tensors().items()}

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Takes over this process's part, from its own file or from whole tensors."""
        from torch.distributed.tensor import DTensor

        wanted: dict[str, Tensor] = {}
        for (name, _), master in zip(self._named, self._masters, strict=True):
            here: Any = master
            for key in ("master", "step", "exp_avg", "exp_avg_sq"):
                value = tensors.get(f"optimizer.{key}.{name}")
                if value is not None and key != "step":
                    part = self._part(value, here.to_local())
                    value = DTensor.from_local(
                        part, here.device_mesh, here.placements, run_check=False, shape=here.shape, stride=here.stride()
                    )
                if value is not None:
                    wanted[f"optimizer.{key}.{name}"] = value
        super().load_tensors(wanted)

    def _part(self, value: Tensor, local: Tensor) -> Tensor:
        if value.shape != local.shape:
            parts = value.chunk(self._ranks.size)
            value = parts[self._ranks.rank] if self._ranks.rank < len(parts) else value[:0]
        assert value.shape == local.shape, f"a part of shape {tuple(value.shape)} for {tuple(local.shape)}"
        return value.to(local.device)


def shard(policy: Policy, ranks: Ranks) -> Root:
    """Shares the policy's parameters out, layer by layer, and returns its root. ValueError for a model without layers."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    body, _ = split_model(policy.model)
    layers = getattr(body, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise ValueError(
            f"{type(body).__name__} does not keep its layers in `layers`, so fsdp2 cannot share them out; use "
            "parallel.strategy=ddp or zero2"
        )
    num_elements = sum(parameter.numel() for parameter in policy.model.parameters())
    mesh = init_device_mesh(policy.device.type, (ranks.size,))
    precision = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    root = Root(policy.model)
    for layer in layers:
        fully_shard(layer, mesh=mesh, mp_policy=precision)
    fully_shard(root, mesh=mesh, mp_policy=precision)
    held = sum(_local(parameter).numel() for parameter in policy.model.parameters())
    assert held < num_elements, "nothing was shared out"
    return root


class Sampler:
    """The policy that samples: the trained one where its weights are whole, else a plain copy of it.

    Example:
        sampler = Sampler(policy, optimizer, load_copy=lambda: load_policy(config.model, is_trainable=False))
        engine = make_engine(config, sampler.at(step=3), tasks)
    """

    def __init__(self, policy: Policy, optimizer: Optimizer, *, load_copy: Callable[[], Policy]) -> None:
        self._optimizer = optimizer
        self._policy = load_copy() if optimizer.has_copy else policy
        self._step: int | None = None

    def at(self, step: int) -> Policy:
        """With the weights after ``step`` updates. Refilling needs all processes."""
        if self._optimizer.has_copy and step != self._step:
            refill(self._policy.model, self._optimizer.full_weights())
            self._step = step
        return self._policy


@torch.no_grad()
def refill(model: nn.Module, weights: Iterator[tuple[str, Tensor]]) -> None:
    """Copies ``weights`` into a plain model that has the same parameters."""
    mine = dict(model.named_parameters())
    for name, value in weights:
        mine.pop(name).copy_(value)
    assert not mine, f"no weights for {sorted(mine)}"


def _full(value: Tensor) -> Tensor:
    from torch.distributed.tensor import DTensor

    return value.full_tensor() if isinstance(value, DTensor) else value


def _local(value: Tensor) -> Tensor:
    from torch.distributed.tensor import DTensor

    return value.to_local() if isinstance(value, DTensor) else value
