"""Networks in parts beside whole ones, in processes of their own: writes what process 0 found as JSON to `FOUND`.

A process that was forked hands over its environment, FOUND and what to do, WHAT: families or groups.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributed as dist

from dit.models import create_model
from dit.models.families import arguments_of, variants
from dit.training.config import EmaConfig, OptimConfig, TrainConfig
from dit.training.ranks.processes import Processes, start_processes
from dit.training.ranks.sharding import is_sharded, own_part, put, shard_like, whole_of
from dit.training.step import Stepper
from dit.training.weights.ema import Ema
from dit.training.weights.optim import create_optimizer


def small(name: str, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    size = 4 * getattr(arguments_of(name), "patch_size", 1)
    network = create_model(name, num_classes=5, input_size=size).train()
    for parameter in network.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.05)
    return network


def loss_of(call: Callable, network: torch.nn.Module, rank: int) -> torch.Tensor:
    arguments = network.arguments
    draw = torch.Generator().manual_seed(rank)
    x = torch.randn(2, arguments.in_channels, *arguments.input_size, generator=draw)
    t, y = torch.rand(2, generator=draw), torch.arange(2)
    return call(x, t, y, **dict.fromkeys(network.condition_names, 0.5 * t)).square().mean()


def families(processes: Processes) -> dict:
    """How far losses and gradients in parts are from those of the whole network, for each family."""
    found = {}
    for name in [name for name, family in variants().items() if name == next(iter(family.variants))]:
        plain, dealt = small(name), small(name)
        prepared = processes.prepare(dealt)
        assert all(is_sharded(parameter) for parameter in dealt.parameters())
        expected = sum(loss_of(plain, plain, rank) for rank in range(processes.count)) / processes.count
        expected.backward()
        loss = loss_of(prepared, dealt, processes.rank)
        loss.backward()
        mean = processes.sum(loss.detach().clone()) / processes.count
        gradients = {key: parameter.grad for key, parameter in plain.named_parameters()}
        apart = [
            ((whole_of(parameter.grad) - gradients[key]).abs().max() / gradients[key].abs().max()).item()
            for key, parameter in dealt.named_parameters()
            if parameter.grad is not None and gradients[key].abs().max() > 1e-6
        ]
        found[name] = [abs(mean.item() / expected.item() - 1), max(apart), len(apart)]
    return found


def held_bytes(processes: Processes, kind: str) -> dict[str, int]:
    """Bytes that this process holds after a step of a small network."""
    network = small("dit_ti_2")
    average = Ema(network, EmaConfig(further_decays=(0.5,)))
    prepared = processes.prepare(network) if kind != "none" else torch.nn.parallel.DistributedDataParallel(network)
    if kind != "none":
        average.shard(processes.shard)
    average.restart(network)
    optimizer = create_optimizer(network, OptimConfig())
    loss_of(prepared, network, processes.rank).backward()
    held = {"gradients": [parameter.grad for parameter in network.parameters() if parameter.grad is not None]}
    optimizer.step()
    average.update(1)
    held["parameters"] = list(network.parameters())
    held["optimizer"] = [value for state in optimizer.state.values() for value in state.values()]
    held["averages"] = [p for one in average.averages.values() for p in one.network.parameters()]
    return {name: storage_bytes(tensors) for name, tensors in held.items()}


def storage_bytes(tensors: list[torch.Tensor]) -> int:
    """Bytes of memory behind tensors, that of several counted once."""
    storages = {part.untyped_storage().data_ptr(): part.untyped_storage() for part in map(own_part, tensors)}
    return sum(storage.nbytes() for storage in storages.values())


def groups(processes: Processes) -> dict:
    """What hsdp deals to two groups of two."""
    assert processes.mesh is not None
    network, plain = small("dit_ti_2", seed=processes.rank), small("dit_ti_2")
    average = Ema(network, EmaConfig())
    prepared = processes.prepare(network)  # with the weights of process 0
    average.shard(processes.shard)
    average.restart(network)
    sum(loss_of(plain, plain, rank) for rank in range(processes.count)).div(processes.count).backward()
    for last in (False, True):  # half a gradient each; it is exchanged with the second
        assert all(parameter.grad is None for parameter in network.parameters())
        with processes.without_sync(prepared, last=last):
            (loss_of(prepared, network, processes.rank) / 2).backward()
    apart = [
        (whole_of(parameter.grad) - plain.get_parameter(key).grad).abs().max().item()
        for key, parameter in network.named_parameters()
        if parameter.grad is not None
    ]
    squares = torch.stack([own_part(p.grad).square().sum() for p in network.parameters() if p.grad is not None]).sum()
    expected = torch.stack([p.grad.square().sum() for p in plain.parameters() if p.grad is not None]).sum()
    unused = next(iter(network.parameters()))
    unused.requires_grad_(True).grad = None
    parts = SimpleNamespace(parameters=[unused], scaler=None, processes=processes, max_grad_norm=None)
    no_norm = Stepper._gradient_norm(parts).item()
    values = torch.arange(7 * 3.0).view(7, 3)  # no multiple of the parts
    parameter = next(p for p in network.parameters() if p.ndim == 2)
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    uneven = distribute_tensor(torch.zeros(7, 3), processes.mesh, [Replicate(), Shard(0)])
    like = shard_like(uneven, values)
    put(uneven, values)
    gathered = average.whole_network().state_dict()
    return {
        "apart": max(apart),
        "norm": (processes.sum_over_parts(squares) / expected).sqrt().item(),
        "part": own_part(parameter).shape[0] / parameter.shape[0],
        "uneven": torch.equal(whole_of(uneven), values) and torch.equal(whole_of(like), values),
        "average": all(torch.equal(gathered[key], value) for key, value in plain.state_dict().items()),
        "no gradient": [no_norm, whole_of(unused.grad).abs().max().item()],
        "rows": processes.tell_all([row[0] for row in own_part(like).tolist()]),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.environ |= globals()["ENVIRONMENT"]
    os.dup2(os.open(globals()["STDERR"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    if globals()["WHAT"] == "families":
        ours = start_processes(TrainConfig(shard="fsdp2", mixed_precision="fp32"))
        answer = {"families": families(ours), "held": {kind: held_bytes(ours, kind) for kind in ("none", "fsdp2")}}
    else:
        answer = groups(start_processes(TrainConfig(shard="hsdp", mixed_precision="fp32")))
    if dist.get_rank() == 0:
        Path(globals()["FOUND"]).write_text(json.dumps(answer))
    dist.destroy_process_group()
