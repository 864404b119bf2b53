"""8-bit linear layers for inference, by torchao: on CPUs and on GPUs.

`int8_weight` holds weights in 8 bits, a quarter of float32, and computes in the type of the input. `int8` quantises the
input too, by row and in every call; it can be faster only where the processor has 8-bit products (VNNI, AMX, GPUs), and
on a CPU without them it was ten times as slow.
"""

import logging
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import nn

from dit.errors import ConfigError

Quantization = Literal["int8_weight", "int8"]
MAX_ERROR = 0.02
"""Of a product over the largest possible: half a step of 1/127 from either factor, and bfloat16's rounding."""


def check_torchao() -> None:
    """Raise a ConfigError where torchao is not installed."""
    if find_spec("torchao") is None:
        raise ConfigError("quantize: expected torchao, found none; pip install 'dit-zoo[quantize]'")


def quantize_linears(blocks: Iterable[nn.Module], kind: Quantization) -> None:
    """Quantise every linear layer of some modules in place, for inference.

    Args:
        blocks: a network's repeated modules, which hold nearly all its weights, where they compute.
        kind: what is held and computed in 8 bits.

    Raises:
        ConfigError: torchao is not installed, or computes wrongly here; or there is no linear layer.
    """
    check_torchao()
    parts = nn.ModuleList(blocks)
    linears = [module for module in parts.modules() if isinstance(module, nn.Linear)]
    if not linears:
        raise ConfigError(f"quantize: expected blocks with linear layers for {kind}, found none in this network")
    weight = linears[0].weight
    if not _is_right(kind, weight.device, weight.dtype):
        raise ConfigError(
            f"quantize: expected a processor on which {kind} is right, found wrong products on {weight.device} "
            "(on a CPU without VNNI sums of 16 bits overflow); leave it out" + _alternative(kind)
        )
    _quantize(parts, kind)


def _alternative(kind: Quantization) -> str:
    return " or take int8_weight" if kind == "int8" else ""


@cache
def _is_right(kind: Quantization, device: torch.device, dtype: torch.dtype) -> bool:
    """Tell whether the products of all pairs of some rows are what they are in floating point.

    Rows of equal numbers make the largest sums that 8-bit integers can, which overflow where a kernel holds them short.
    """
    inner = 128
    signs = torch.tensor([1.0, -1.0]).repeat(inner // 2)
    rows = torch.stack([signs.abs(), -signs.abs(), signs, torch.linspace(-1, 1, inner)]).repeat(16, 1)  # (64, 128)
    layer = nn.Linear(inner, len(rows), bias=False, device="meta")  # draws no random numbers
    layer.weight = nn.Parameter(rows.to(device, dtype), requires_grad=False)
    holder = nn.Sequential(layer)
    try:
        _quantize(holder, kind)
        with torch.no_grad():
            found = holder(rows.to(device, dtype))
    except (RuntimeError, NotImplementedError, AssertionError):  # no kernel here
        return False
    return bool((found.cpu().float() - rows @ rows.T).abs().max() <= MAX_ERROR * inner)


def _quantize(module: nn.Module, kind: Quantization) -> None:
    log = logging.getLogger("torch.utils._pytree")
    level = log.level
    log.setLevel(logging.ERROR)  # torchao registers an enumeration in a way that a new torch calls outdated
    try:
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig, quantize_
    finally:
        log.setLevel(level)
    config: Any = Int8WeightOnlyConfig() if kind == "int8_weight" else Int8DynamicActivationInt8WeightConfig()
    quantize_(module, config)
