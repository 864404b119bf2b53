"""What all benchmarks share: what and where they measure, how long they may take, what the machine is."""

import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

import torch

from dit.device import processor_name
from dit.launcher import num_cores
from dit.layers.precision import MIN_WIDTH, bf16_pays, has_bf16


@dataclass(frozen=True)
class Settings:
    """How to measure."""

    device: torch.device
    """Where."""
    rounds: int = 7
    """Most rounds of a race."""
    budget: float = 120.0
    """Seconds after which nothing new is begun."""
    model: str | None = None
    """Name of the network, where it is not the benchmark's own."""
    batch: int | None = None
    """Batch size, where it is not the benchmark's own."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the networks that differ from those of their names."""

    def cases(self, default: tuple[tuple[str, int], ...]) -> Iterator[tuple[str, int, "Settings"]]:
        """Yield (model, batch size, settings with its share of what is left of the budget) of each case."""
        deadline = time.perf_counter() + self.budget
        chosen = default if self.model is None else ((self.model, default[0][1]),)
        for i, (model, batch) in enumerate(chosen):
            left = deadline - time.perf_counter()
            if left > 0:
                yield model, self.batch or batch, replace(self, budget=left / (len(chosen) - i))
            else:
                self.say(f"{model}: skipped, the budget of {self.budget:.0f} s is spent; --budget raises it")

    def in_bf16(self, contenders: dict[str, Callable[[], Any]]) -> dict[str, Callable[[], Any]]:
        """Return the contenders that compute in bfloat16, none where this device only emulates it."""
        if has_bf16(self.device):
            return contenders
        self.say(f"    {', '.join(contenders)}: skipped, {self.device} has no bfloat16 in hardware")
        return {}

    def say(self, text: str) -> None:
        """Tell what happens; the results go to standard output, this does not."""
        print(text, file=sys.stderr, flush=True)


def pin_threads() -> int:
    """Let torch use one thread per core that this process may use, and return how many."""
    count = num_cores()
    torch.set_num_threads(count)
    return count


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Return what the figures depend on: device, processor, threads, versions."""
    return {
        "device": device.type,
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "processor": processor_name(),
        "threads": pin_threads(),
        "bf16": bf16_pays(device, MIN_WIDTH),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": version("diffusers"),
    }
