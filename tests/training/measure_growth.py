"""Print the peak that `measure_step` tells of a step, and by how much this process grew in two of them: KIND [SHARD].

With SHARD it is one of several processes, as a launcher numbers them.
"""

import os
import resource
import sys

import torch

from dit.config import check_recipe
from dit.launcher import num_processes
from dit.models import create_model
from dit.training.activations import recompute_blocks
from dit.training.memory import measure_step
from dit.training.ranks.processes import start_processes
from dit.training.weights.ema import Ema
from dit.training.weights.optim import create_optimizer

MODEL = {"name": "dit_s_2", "num_classes": 1000, "input_size": [32, 32], "in_channels": 4, "learn_sigma": False}
BATCH = 8


def loss_of(network, batch):
    t, y = torch.rand(batch), torch.zeros(batch, dtype=torch.int64)
    return network(torch.randn(batch, 4, 32, 32), t, y).square().mean()


if __name__ == "__main__":
    torch.set_num_threads(1)
    kind, *shard = sys.argv[1:]
    train = {"batch_size": BATCH * num_processes(), "mixed_precision": "fp32", "activation_checkpointing": kind}
    train |= {"shard": shard[0] if shard else "none"}
    recipe = check_recipe({"model": MODEL, "process": {"name": "flow"}, "train": train})
    told, _ = measure_step(recipe, device=torch.device("cpu"), num_processes=num_processes())
    processes = start_processes(recipe.train)
    small = create_model("dit_s_2", learn_sigma=False, depth=1, hidden_size=48, num_heads=2).train()
    loss_of(processes.prepare(small), 1).backward()  # what the libraries load at first
    with open("/proc/self/statm") as file:
        before = int(file.read().split()[1]) * resource.getpagesize()
    network = create_model("dit_s_2", learn_sigma=False).train()
    average = Ema(network, recipe.ema)
    recompute_blocks(network, kind)
    prepared = processes.prepare(network)
    if shard:
        average.shard(processes.shard)
        average.restart(network)
    optimizer = create_optimizer(network, recipe.optim)
    for step in (1, 2):
        loss_of(prepared, BATCH).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update(step)
    print(told.peak, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, flush=True)
    os._exit(0)
