"""Whether torch.compile has what it needs here."""

import logging
import os
import shutil
from typing import Literal

import torch

from dit.errors import ConfigError

Compilation = Literal["off", "blocks", "graphs"]
"""How a network that samples is compiled: not; by blocks; by blocks, with its calls replayed as CUDA graphs."""


def check_compilation(kind: Compilation, device: torch.device) -> None:
    """Refuse a compilation that can't be had on a device.

    Raises:
        ConfigError: naming what is missing.
    """
    if kind == "graphs" and device.type != "cuda":
        raise ConfigError(f"compiled: graphs: expected a CUDA GPU, found {device.type}; blocks compiles there too")
    if kind != "off" and not has_compiler(device):
        needs = "Triton" if device.type == "cuda" else "a C++ compiler, g++ or $CXX"
        raise ConfigError(f"compiled: expected {needs}, found none; install it, or set off")


def has_compiler(device: torch.device) -> bool:
    """Tell whether what torch.compile needs for this device is installed."""
    if device.type == "cuda":
        import importlib.util

        return importlib.util.find_spec("triton") is not None
    return shutil.which(os.environ.get("CXX", "g++")) is not None


def expect_no_gpu() -> None:
    """Let the compiler not warn, in every run on a CPU, of a CUDA toolkit without a GPU."""
    log = logging.getLogger("torch.utils.cpp_extension")
    log.addFilter(_is_not_about_a_missing_gpu)  # adding it again changes nothing


def _is_not_about_a_missing_gpu(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("No CUDA runtime is found")
