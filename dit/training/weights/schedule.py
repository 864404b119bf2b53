"""The learning rate as a pure function of the step, so that there is nothing of it to save.

    share(n) = n / W            for n < W, the warm-up
               1                constant
               f + (1 - f) g    the others, with s the share of the way from their beginning to the last step N,
                                g = 1 - s (linear), (1 + cos(pi s)) / 2 (cosine), 1 - sqrt(s) (wsd), f = final_lr_ratio

for the step from n - 1 to n; a group's learning rate is its peak times that. `wsd` begins to fall D steps before N, the
others when they are warm. Source of its shape: Haegele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed
Training Durations", NeurIPS 2024, section 4.
"""

import math
from typing import TYPE_CHECKING

from dit.training.config import OptimConfig

if TYPE_CHECKING:
    from torch.optim import Optimizer

PEAK = "initial_lr"
"""Key of a group's peak learning rate, the one that torch's own schedules use."""


def share_of_peak(config: OptimConfig, step: int, *, max_steps: int) -> float:
    """Return the learning rate of the step from `step` to `step + 1` as a share of its peak, in [0, 1].

    The first of W warm-up steps uses 1 / W rather than 0, the last step of the run the schedule's last value.
    """
    number, warmup = step + 1, config.warmup_steps
    if number < warmup:
        return number / warmup
    begin = warmup if config.schedule != "wsd" else max(warmup, max_steps - config.decay_steps)
    if config.schedule == "constant" or max_steps - begin < 2:
        return 1.0
    way = min(1.0, max(0.0, (number - begin) / (max_steps - begin)))
    courses = {"linear": 1 - way, "cosine": (1 + math.cos(math.pi * way)) / 2, "wsd": 1 - math.sqrt(way)}
    return config.final_lr_ratio + (1 - config.final_lr_ratio) * courses[config.schedule]


def set_learning_rates(optimizer: "Optimizer", share: float) -> None:
    """Set the learning rate of every group to this share of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = share * group[PEAK]


def learning_rates(config: OptimConfig, share: float) -> dict[str, float]:
    """Return the columns of metrics.jsonl: `lr`, and `muon_lr` where there is one."""
    rates = {"lr": share * config.lr}
    return rates | {"muon_lr": share * config.muon_lr} if config.name.lower() == "muon" else rates
