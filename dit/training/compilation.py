"""Whether compiling the network's block pays within a run: a table of rates, applied before the first step.

One block is compiled and reused by all of them, which takes up to two minutes on a CPU and one on a GPU. It saves about
a quarter of a step, so that it pays in runs of more than ten minutes.
"""

import torch

from dit.layers.compiler import has_compiler
from dit.training.config import TrainConfig

MIN_SECONDS = 600.0
"""Estimated duration of a run from which on compiling pays."""
FLOPS_PER_SECOND = {("cpu", "fp32"): 1.5e11, ("cpu", "bf16"): 4e11, ("cuda", "fp32"): 2e13, ("cuda", "bf16"): 1.5e14}
"""Operations per second that a training step reaches, by device and precision."""


def compiles(config: TrainConfig, macs: int, device: torch.device, precision: str, num_processes: int) -> bool:
    """Tell whether a run compiles its blocks.

    Args:
        config: length and batch of the run, and what the recipe says.
        macs: multiply-accumulates of the network's forward pass of one sample.
        device: where it trains.
        precision: fp32, bf16 or fp16.
        num_processes: that share a batch.
    """
    if config.compile != "auto":
        return config.compile == "on"
    rate = FLOPS_PER_SECOND.get((device.type, "fp32" if precision == "fp32" else "bf16"))
    if rate is None or not has_compiler(device):
        return False
    # A multiply-accumulate is two operations, and the backward pass takes twice the forward pass.
    operations = 6.0 * macs * config.batch_size * config.max_steps / num_processes
    return operations / rate > MIN_SECONDS


def keep_blocks_whole() -> None:
    """Let each compiled block be one graph also where several processes exchange its gradients.

    The compiler would cut a block wherever a bucket of gradients is full, so that it is sent a little sooner.
    """
    import torch._dynamo

    torch._dynamo.config.optimize_ddp = False
