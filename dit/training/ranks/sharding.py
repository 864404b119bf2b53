"""Parameters of which each process holds a part, and all that goes with them: gradients, optimizer state, averages.

    fsdp2   rows r of n parts of every parameter in process r of n
    hsdp    the same among the processes of a group; the groups hold equal parts

A block's parameters are gathered before it computes, forwards and backwards, and dropped after it; its gradients are
summed where they are kept. What lies outside the blocks is a unit of its own, in float32; blocks may be gathered in
bfloat16, in which autocast computes them anyway. A part is rows of the first dimension.

Sources: Rajbhandari et al., "ZeRO: Memory optimizations toward training trillion parameter models", SC 2020; Zhao et
al., "PyTorch FSDP: Experiences on scaling fully sharded data parallel", VLDB 2023.
"""

import os
import warnings
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dit.errors import ConfigError
from dit.models.network import Network

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

M = TypeVar("M", bound=nn.Module)

SHARD, REPLICATE = "shard", "replicate"
"""Dimensions of the mesh: parts of the weights differ along the first and are equal along the second."""
FORWARD_METHODS = ("forward_intermediates", "forward_masked", "forward_routed")
"""Ways through a network besides `forward`."""


def group_size(count: int, asked: int | None) -> int:
    """Return the number of processes of a group of hsdp.

    Args:
        count: processes of the run.
        asked: `train.shard_size`; None: those of one machine, as the launcher says.

    Raises:
        ConfigError: there are no two groups of that size.
    """
    size = asked or int(os.environ.get("LOCAL_WORLD_SIZE", "0"))
    if not 2 <= size < count or count % size:
        raise ConfigError(
            f"train.shard_size: hsdp: expected the size, from 2 on, of two or more groups of {count} processes, found "
            f"{size or 'none'}; set it, or train.shard to fsdp2"
        )
    return size


def parts_of(kind: str, count: int, asked: int | None) -> int:
    """Return the number of parts of the weights.

    Args:
        kind: `train.shard`.
        count: processes of the run.
        asked: `train.shard_size`.

    Raises:
        ConfigError: there are no two groups of that size.
    """
    if kind == "none" or count == 1:
        return 1
    return count if kind == "fsdp2" else group_size(count, asked)


def create_mesh(kind: str, device: torch.device, timeout: timedelta, asked: int | None = None) -> "DeviceMesh":
    """Arrange the processes for `train.shard`, fsdp2 or hsdp.

    Args:
        kind: which of them.
        device: of this process.
        timeout: of exchanges within a group.
        asked: `train.shard_size`.

    Raises:
        ConfigError: there are no two groups of that size.
    """
    from torch.distributed.device_mesh import DeviceMesh

    assert dist.group.WORLD is not None
    if kind == "fsdp2":
        return DeviceMesh.from_group(dist.group.WORLD, device.type, mesh_dim_names=(SHARD,))
    count = dist.get_world_size()
    mesh = torch.arange(count).view(-1, parts_of(kind, count, asked))  # a row is a group
    rows, columns = (_own_group(ranks.tolist(), timeout) for ranks in (mesh, mesh.T))
    return DeviceMesh.from_group([columns, rows], device.type, mesh=mesh, mesh_dim_names=(REPLICATE, SHARD))


def _own_group(ranks: list[list[int]], timeout: timedelta) -> dist.ProcessGroup:
    """Make all these groups, and return the one that this process is in."""
    own, _ = dist.new_subgroups_by_enumeration(ranks, timeout=timeout)
    assert isinstance(own, dist.ProcessGroup)
    return own


def shard(module: M, mesh: "DeviceMesh", dtype: torch.dtype | None = None) -> M:
    """Leave to this process its part of every parameter, in place: per block, per network, and of what is around it.

    Args:
        module: a network, or a module that holds one; the same in every process.
        mesh: from `create_mesh`.
        dtype: that the blocks are gathered and computed in; None: their own.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    # A network's output is a view, which is an error where it is written to, and here it is not.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view")
    of_blocks = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    around = MixedPrecisionPolicy(cast_forward_inputs=False)
    for network in [part for part in module.modules() if isinstance(part, Network)]:
        for block in network.block_list():
            fully_shard(block, mesh=mesh, mp_policy=of_blocks, reshard_after_forward=True)
        fully_shard(network, mesh=mesh, mp_policy=around, reshard_after_forward=True)
        for name in FORWARD_METHODS:
            if hasattr(network, name):
                register_fsdp_forward_method(network, name)
    if not isinstance(module, Network):
        fully_shard(module, mesh=mesh, mp_policy=around, reshard_after_forward=True)
    return module


def is_sharded(tensor: Tensor) -> bool:
    """Tell whether this process holds a part of a tensor."""
    return hasattr(tensor, "full_tensor")


def own_part(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this process holds, in the same memory; of one that is not sharded all."""
    return tensor.to_local() if is_sharded(tensor) else tensor  # pyright: ignore[reportAttributeAccessIssue]


def whole_of(tensor: Tensor) -> Tensor:
    """Return all of a tensor; where it is sharded every process has to ask for it."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # pyright: ignore[reportAttributeAccessIssue]


def put(tensor: Tensor, values: Tensor) -> None:
    """Copy all values of a tensor, or this process's part of them, into it."""
    with torch.no_grad():
        own_part(tensor).copy_(_part_of(values, tensor))


def shard_like(tensor: Tensor, values: Tensor) -> Tensor:
    """Return values that every process has as a tensor that is sharded as another one of their shape."""
    if not is_sharded(tensor):
        return values
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(tensor, DTensor)
    return distribute_tensor(values.to(tensor.device), tensor.device_mesh, tensor.placements, src_data_rank=None)


def _part_of(values: Tensor, tensor: Tensor) -> Tensor:
    """Return the rows of values that a process holds of a tensor: n parts of equal size, the last ones shorter."""
    if not is_sharded(tensor):
        return values
    mesh = tensor.device_mesh  # pyright: ignore[reportAttributeAccessIssue]
    size = -(-len(values) // mesh[SHARD].size())
    first = min(mesh.get_local_rank(SHARD) * size, len(values))
    return values[first : first + size]


def send_out(module: nn.Module) -> None:
    """Give every process the parameters and buffers of process 0."""
    for tensor in (*module.parameters(), *module.buffers()):
        dist.broadcast(tensor.detach(), 0)
