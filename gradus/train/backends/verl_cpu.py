"""What verl lacks to run on a CPU: a platform, and a rollout server (`verl_server`) that it can start and hand weights to.

verl imports this module in each of its processes (``VERL_USE_EXTERNAL_MODULES``) and chooses it by ``VERL_PLATFORM=cpu``
and ``actor_rollout_ref.rollout.name=gradus``. For tests and laptops: it is neither vLLM nor NCCL.
"""
# pyright: reportMissingImports=false
# verl and Ray are in another environment than the one that types are checked in

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch

SERVER_NAME = "gradus_server_{rank}_0"


def _platform_class() -> type:
    from verl.plugin.platform.platform_base import PlatformBase

    class Platform(PlatformBase):
        """A CPU that counts as one accelerator for each logical GPU that Ray is told of."""

        device_name = "cpu"
        vendor_name = "cpu"
        device_module = SimpleNamespace(
            is_available=lambda: False, current_device=lambda: torch.device("cpu"), device_count=lambda: 1,
            set_device=lambda _: None, synchronize=lambda *_: None, empty_cache=lambda: None,
            memory_allocated=lambda *_: 0, memory_reserved=lambda *_: 0, max_memory_allocated=lambda *_: 0,
            max_memory_reserved=lambda *_: 0, mem_get_info=lambda *_: (0, 0), reset_peak_memory_stats=lambda *_: None,
            ipc_collect=lambda: None, get_device_name=lambda *_: "CPU", get_rng_state=torch.get_rng_state,
            set_rng_state=torch.set_rng_state,
        )  # fmt: skip

        def is_available(self) -> bool:
            return True

        def current_device(self) -> Any:
            return torch.device("cpu")

        def device_count(self) -> int:
            return 1

        def set_device(self, device_index: int) -> None: ...

        def synchronize(self, device_index: int | None = None) -> None: ...

        def manual_seed(self, seed: int) -> None:
            torch.manual_seed(seed)

        def manual_seed_all(self, seed: int) -> None:
            torch.manual_seed(seed)

        def set_allocator_settings(self, settings: str) -> None: ...

        def empty_cache(self) -> None: ...

        def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
            return None, None

        def communication_backend_name(self) -> str:
            return "gloo"

        def visible_devices_envvar(self) -> str:
            return "CUDA_VISIBLE_DEVICES"

        @contextlib.contextmanager
        def nvtx_range(self, msg: str) -> Iterator[None]:
            yield

        def profiler_start(self) -> None: ...

        def profiler_stop(self) -> None: ...

        def ray_resource_name(self) -> str:
            return "GPU"

        def ray_noset_envvars(self) -> list[str]:
            return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

        def is_ipc_supported(self) -> bool:
            return False

        def cudart(self) -> None:
            return None

    return Platform


def _adapter_class() -> type:
    """The trainer's side: hands its weights to the server."""
    from verl.workers.rollout.base import BaseRollout

    class ServerAdapter(BaseRollout):
        async def resume(self, tags: list[str]) -> None: ...

        async def release(self) -> None: ...

        async def update_weights(self, weights: Any, wire_format: str = "named_tensors", *,
                                 global_steps: int | None = None, peft_config: Any = None,
                                 base_sync_done: bool = True, **_: Any) -> None:  # fmt: skip
            import ray

            if peft_config is not None and not base_sync_done:
                return  # the frozen weights, which the server has read itself
            found = {name: tensor.detach().to("cpu", torch.float32).clone() for name, tensor in weights}
            if int(os.environ.get("RANK", "0")) == 0:
                server = ray.get_actor(SERVER_NAME.format(rank=0))
                await server.set_weights.remote(found, global_steps or 0)

    return ServerAdapter


def _replica_class() -> type:
    """The side that launches servers: one, which needs no accelerator."""
    from verl.workers.rollout.replica import RolloutReplica

    class Replica(RolloutReplica):
        async def launch_servers(self) -> None:
            import ray

            from gradus.train.backends.verl_server import Server  # only where it is needed: it brings the model's code

            server = (
                ray.remote(Server)
                .options(num_cpus=0, name=SERVER_NAME.format(rank=self.replica_rank), max_concurrency=1000)
                .remote(
                    self.model_config.lora_adapter_path or self.model_config.path,
                    os.environ.get("GRADUS_VERL_PLAN"),
                    os.environ.get("GRADUS_VERL_SAMPLES"),
                    seed=self.config.seed,
                    group_size=self.config.n,
                    batch_size=self.config.max_num_seqs,
                    max_tokens=self.config.response_length,
                    threads=int(os.environ.get("OMP_NUM_THREADS", "1")),
                )
            )
            self.servers = [server]
            self._server_handle, self._server_address = server, f"gradus:{self.replica_rank}"

    return Replica


def __getattr__(name: str) -> Any:
    """``ServerAdapter``, made when verl asks for it: its base class is verl's."""
    if name == "ServerAdapter":
        return _adapter_class()
    raise AttributeError(name)


def install() -> None:
    """Tells verl of platform and server, and mends two places that take an accelerator for granted."""
    import torch.distributed as distributed
    from torch.distributed.fsdp import CPUOffloadPolicy
    from verl.plugin.platform.platform_manager import PlatformRegistry

    PlatformRegistry.register(platform="cpu")(_platform_class())
    original = distributed.init_process_group

    def init_process_group(backend: str | None = None, *arguments: Any, **options: Any) -> Any:
        return original("cpu:gloo" if backend == "cpu:gloo,cpu:gloo" else backend, *arguments, **options)

    if not getattr(distributed.init_process_group, "is_mended", False):
        init_process_group.is_mended = True  # type: ignore[attr-defined]
        distributed.init_process_group = init_process_group
        made = CPUOffloadPolicy.__init__

        def without_pinning(self: Any, pin_memory: bool = False) -> None:
            made(self, pin_memory=False)

        CPUOffloadPolicy.__init__ = without_pinning  # type: ignore[method-assign]
    _register_rollout()


def _register_rollout() -> None:
    from verl.workers.rollout.base import _ROLLOUT_REGISTRY
    from verl.workers.rollout.replica import RolloutReplicaRegistry

    _ROLLOUT_REGISTRY["gradus", "async"] = f"{__name__}.ServerAdapter"
    RolloutReplicaRegistry.register("gradus", _replica_class)


if os.environ.get("VERL_PLATFORM") == "cpu":
    install()
