"""What all benchmarks share: how long they may take, what they print, what the machine is."""

import os
import platform
import sys
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Settings:
    """How to measure."""

    rounds: int = 7
    """Rounds of a race; long ones take fewer."""
    quick: bool = False
    """The smallest cases alone, to see that everything runs."""

    def say(self, text: str) -> None:
        """Tell what happens; the results go to standard output, this does not."""
        print(text, file=sys.stderr, flush=True)


def pin_threads() -> int:
    """Let torch use one thread per core that this process may use, and return how many."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(count)
    return count


def machine() -> dict[str, Any]:
    """Return what the figures depend on: processor, threads, versions."""
    import diffusers

    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "bf16_matrix_unit": torch.cpu._is_amx_tile_supported(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
