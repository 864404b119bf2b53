"""Where bfloat16 pays, from measurements, so that no user has to know; TF32; and the same bits each time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from dit.device import processor_name

MIN_WIDTH = 256
"""Narrowest network whose products outweigh the casts by AMX; 192 wide was slower, 384 wide 1.6 times as fast."""
MIN_WIDTH_OF_VECTORS = 96
"""The same by AMD's vectors, for a step of training, which took 1.04 of its time in float32 on a Zen 4 at width 48,
0.73 at 96 and 0.63 at 192. Samples of narrow networks, soon made, stay what they are in float32."""


def bf16_pays(device: torch.device | str, hidden_size: int, *, in_training: bool = False) -> bool:
    """Tell whether a network of this width is faster in bfloat16 on this device than in float32.

    Args:
        device: where it computes.
        hidden_size: width D.
        in_training: whether it is trained.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind == "cpu":
        if has_bf16_matrix_unit():
            return hidden_size >= MIN_WIDTH
        least = MIN_WIDTH_OF_VECTORS if in_training else MIN_WIDTH
        return hidden_size >= least and has_fast_bf16_vectors()
    return False


def has_bf16_matrix_unit() -> bool:
    """Tell whether matrices of bfloat16 are multiplied in hardware (AMX) on this CPU and in this process.

    The processor's flags say nothing of ONEDNN_MAX_CPU_ISA, and oneDNN is not asked for AMX through torch. It is asked
    for float16 arithmetic: every processor with AMX has that too, and each limit below it switches off both.
    """
    if not (torch.backends.mkldnn.is_available() and torch.cpu._is_amx_tile_supported()):
        return False
    return torch.ops.mkldnn._is_mkldnn_fp16_supported()


def has_fast_bf16_vectors() -> bool:
    """Tell whether vectors of bfloat16 are multiplied twice as fast as those of float32 (AVX512_BF16 of AMD).

    A training step took 0.50 of its time in float32 on a Zen 5; on an Intel processor held to AVX512_BF16 1.4.
    """
    return "AMD" in processor_name() and has_bf16(torch.device("cpu"))


def has_bf16(device: torch.device) -> bool:
    """Tell whether a device has instructions for products of bfloat16; emulated, they are several times slower."""
    if device.type != "cpu":
        return bf16_pays(device, MIN_WIDTH)
    return torch.cpu._is_avx512_bf16_supported() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def dtype_of(module: nn.Module) -> torch.dtype:
    """Return the type of a module's weights."""
    return next(module.parameters()).dtype


@contextmanager
def tf32_products(device: torch.device) -> Iterator[None]:
    """Multiply float32 matrices in TF32 on a GPU while the block runs; then the program's own setting is back."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def prepare_same_bits() -> None:
    """Ask for exact products of matrices, which a program has to do before its first one on a GPU."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextmanager
def same_bits(asked: bool) -> Iterator[None]:
    """Take kernels on a GPU that give the same bits each time while the block runs, if asked; else what is fastest.

    cuDNN's attention has none. An operation without one is an error of torch that names it.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cuda.cudnn_sdp_enabled()
    if asked:
        prepare_same_bits()
        torch.use_deterministic_algorithms(True)
        torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cuda.enable_cudnn_sdp(before[1])
