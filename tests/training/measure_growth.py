"""Print the peak that `measure_step` tells of a step, and by how much this process grew in two of them: KIND."""

import resource
import sys

import torch

from dit.config import check_recipe
from dit.models import create_model
from dit.training.activations import recompute_blocks
from dit.training.memory import measure_step
from dit.training.weights.ema import Ema
from dit.training.weights.optim import create_optimizer

MODEL = {"name": "dit_s_2", "num_classes": 1000, "input_size": [32, 32], "in_channels": 4, "learn_sigma": False}
BATCH = 8

if __name__ == "__main__":
    torch.set_num_threads(1)
    train = {"batch_size": BATCH, "mixed_precision": "fp32", "activation_checkpointing": sys.argv[1]}
    recipe = check_recipe({"model": MODEL, "process": {"name": "flow"}, "train": train})
    told, _ = measure_step(recipe, device=torch.device("cpu"), num_processes=1)
    torch.nn.Linear(64, 64)(torch.zeros(64, 64)).sum().backward()  # what the libraries load at first
    with open("/proc/self/statm") as file:
        before = int(file.read().split()[1]) * resource.getpagesize()
    network = create_model("dit_s_2", learn_sigma=False).train()
    average, optimizer = Ema(network, recipe.ema), create_optimizer(network, recipe.optim)
    recompute_blocks(network, sys.argv[1])
    for step in (1, 2):
        x = torch.randn(BATCH, 4, 32, 32)
        loss = network(x, torch.rand(BATCH), torch.zeros(BATCH, dtype=torch.int64)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update(step)
        del loss
    print(told.peak, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
