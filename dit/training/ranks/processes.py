"""The processes that train together: device, precision, and the few things that they tell each other.

With one process every exchange is the identity. Accelerate finds the device and starts the process group.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from dit.errors import ConfigError, DitError
from dit.layers.precision import bf16_pays, prepare_same_bits
from dit.training.config import TrainConfig
from dit.training.ranks.sharding import SHARD, create_mesh, send_out, shard

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch.distributed.device_mesh import DeviceMesh

T = TypeVar("T")
PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


@dataclass(frozen=True)
class Processes:
    """This process among those of the run."""

    accelerator: "Accelerator"
    """Device, autocast, gradient scaler and process group."""
    precision: str
    """fp32, bf16 or fp16: `auto` is resolved."""
    mesh: "DeviceMesh | None" = None
    """How the weights are dealt to the processes; None: each has all."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return self.accelerator.process_index

    @property
    def count(self) -> int:
        """Number of processes."""
        return self.accelerator.num_processes

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks to the user."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        device = self.accelerator.device
        assert device is not None
        return device

    def prepare(self, network: torch.nn.Module, *, is_static: bool = False) -> torch.nn.Module:
        """Return the network as it is trained: on this process's device, with autocast and gradient exchange.

        Its `without_autocast` is the network with neither; see `dit.diffusion.process.UnderAutocast`.

        Args:
            network: the network.
            is_static: whether each step makes one pass, always the same, and exchanges its gradients.
        """
        if self.mesh is not None:
            self.accelerator.prepare_model(network, evaluation_mode=True)  # autocast alone
            send_out(network)
            return self.shard(network)
        from accelerate import DistributedDataParallelKwargs

        # Gradients lie in the buckets that are exchanged, in place of beside them.
        options = DistributedDataParallelKwargs(gradient_as_bucket_view=True, static_graph=is_static)
        self.accelerator.ddp_handler = options  # pyright: ignore[reportAttributeAccessIssue] - it says None only
        bare = network.forward
        prepared = self.accelerator.prepare_model(network)
        prepared.without_autocast = bare  # pyright: ignore[reportArgumentType] - it is neither tensor nor module
        return prepared

    def shard(self, network: torch.nn.Module) -> torch.nn.Module:
        """Leave to this process its part of a network's weights, in place, where they are dealt to the processes."""
        if self.mesh is None:
            return network
        return shard(network, self.mesh, torch.bfloat16 if self.precision == "bf16" else None)

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context of the run's precision, for networks that were not prepared."""
        return self.accelerator.autocast()

    def without_sync(self, network: torch.nn.Module, last: bool) -> AbstractContextManager[None]:
        """Return the context of a micro-batch: gradients are exchanged in the last one only."""
        if self.mesh is not None:
            network.set_requires_gradient_sync(last)  # pyright: ignore[reportCallIssue] - of a sharded module
            return nullcontext()
        return nullcontext() if last else self.accelerator.no_sync(network)

    def sum(self, values: Tensor) -> Tensor:
        """Sum a tensor over the processes, in place."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def sum_over_parts(self, value: Tensor) -> Tensor:
        """Sum a number, in place, over the processes that hold different parts of the weights."""
        if self.mesh is not None:
            dist.all_reduce(value, group=self.mesh[SHARD].get_group())
        return value

    def gather(self, values: Tensor) -> Tensor:
        """Concatenate the (B, ...) tensors of all processes in the order of their ranks; B is the same in each."""
        if self.count == 1:
            return values
        gathered = [torch.empty_like(values) for _ in range(self.count)]
        dist.all_gather(gathered, values.contiguous())
        return torch.cat(gathered)

    def on_main(self, action: Callable[[], T]) -> T | None:
        """Run an action in the main process; a user's error there is raised in every process.

        Returns:
            The action's result in the main process, None in the others.
        """
        result, error = None, None
        if self.is_main:
            try:
                result = action()
            except DitError as caught:
                error = caught
        if self.count > 1:
            message = [(type(error), str(error)) if error else None]
            dist.broadcast_object_list(message)
            if message[0] and not self.is_main:
                kind, text = message[0]
                error = kind(text)
        if error:
            raise error
        return result

    def decide(self, action: Callable[[], T]) -> T:
        """Run an action in the main process, and return its result, or raise a user's error, in every process."""
        result = [self.on_main(action)]
        if self.count > 1:
            dist.broadcast_object_list(result)
        return result[0]  # pyright: ignore[reportReturnType] - the main process has it, and sent it

    def tell_all(self, fact: T) -> list[T]:
        """Return what every process says, by rank."""
        everyone: list[Any] = [fact] * self.count
        if self.count > 1:
            dist.all_gather_object(everyone, fact)
        return everyone

    def end(self) -> None:
        """Leave the group, once all processes are done; one that exits in it may be killed by torch's own threads."""
        self.accelerator.end_training()

    def check_agreement(self, facts: dict[str, Any]) -> None:
        """Refuse processes that were started with different configurations.

        Raises:
            ConfigError: naming the field, both values and the rank.
        """
        everyone = self.tell_all(facts)
        for rank, other in enumerate(everyone):
            for field in facts.keys() | other.keys():
                ours, theirs = everyone[0].get(field), other.get(field)
                if ours != theirs:
                    raise ConfigError(f"{field}: expected {ours!r} as in process 0, found {theirs!r} in process {rank}")


def start_processes(config: TrainConfig, hidden_size: int = 0) -> Processes:
    """Find the device, start the process group if there are several processes, and resolve the precision.

    Args:
        config: what the recipe says.
        hidden_size: width of the network, which decides whether bfloat16 pays on a CPU.

    Raises:
        ConfigError: fewer processes were started than the launcher says, or fp16 is asked for without a GPU.
    """
    from accelerate import Accelerator, PartialState
    from accelerate.state import AcceleratorState
    from accelerate.utils import parse_flag_from_env

    use_cpu = bool(parse_flag_from_env("ACCELERATE_USE_CPU"))
    state = PartialState(cpu=use_cpu, timeout=timedelta(seconds=config.timeout))
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != state.num_processes:
        raise ConfigError(
            f"WORLD_SIZE: the launcher started {launched} processes, found a group of {state.num_processes}; "
            "on a machine without a GPU set ACCELERATE_USE_CPU=true"
        )
    if parse_flag_from_env("ACCELERATE_USE_FSDP"):
        raise ConfigError(
            "accelerate launch: distributed_type: expected MULTI_GPU, found FSDP; weights are dealt by train.shard"
        )
    if config.deterministic:
        prepare_same_bits()
    precision = resolve_precision(config.mixed_precision, state.device or torch.device("cpu"), hidden_size)
    # Accelerate keeps the precision of a program's first Accelerator and refuses another one. It is told to forget it
    # where it must, for that also empties an Accelerator that the program may have of its own.
    if AcceleratorState._shared_state.get("_mixed_precision", PRECISIONS[precision]) != PRECISIONS[precision]:
        AcceleratorState._reset_state()
    accelerator = Accelerator(
        mixed_precision=PRECISIONS[precision], cpu=use_cpu, gradient_accumulation_steps=config.gradient_accumulation
    )
    mesh = None
    if config.shard != "none" and state.num_processes > 1:
        mesh = create_mesh(config.shard, accelerator.device, timedelta(seconds=config.timeout), config.shard_size)
    return Processes(accelerator, precision, mesh)


def resolve_precision(name: str, device: torch.device, hidden_size: int = 0) -> str:
    """Return fp32, bf16 or fp16 for a recipe's `train.mixed_precision` on this device, for a network of this width.

    Raises:
        ConfigError: fp16 without a GPU.
    """
    if name == "fp16" and device.type == "cpu":
        # Accelerate would take it and train in float32.
        raise ConfigError("train.mixed_precision: fp16 needs a GPU, found none; use bf16, fp32 or auto")
    if name == "auto":
        return "bf16" if bf16_pays(device, hidden_size, in_training=True) else "fp32"
    return name
