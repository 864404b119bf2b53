"""Fast paths under a limit of oneDNN's instruction set, which the processor's flags don't show, and TF32."""

import os
import subprocess
import sys

import pytest
import torch

from dit.layers import precision
from dit.layers.precision import bf16_pays, same_bits, tf32_products
from dit.training.ranks.processes import resolve_precision

_PROGRAM = """
import torch
from dit.layers.linear import has_fused_kernel, linear_gelu
from dit.layers.precision import bf16_pays, has_bf16_matrix_unit

torch.cpu._is_amx_tile_supported = lambda: True  # as on the largest processors
assert not has_fused_kernel() and not has_bf16_matrix_unit() and not bf16_pays("cpu", 4096)
layer = torch.nn.Linear(8, 16, dtype=torch.bfloat16)
with torch.no_grad():
    assert linear_gelu(torch.ones(2, 8, dtype=torch.bfloat16), layer).isfinite().all()
"""


def test_a_limit_of_onednn_switches_the_fast_paths_off():
    limited = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}  # read once, by the first product of a process
    done = subprocess.run([sys.executable, "-c", _PROGRAM], env=limited, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("processor", "has_instructions", "pays"),
    [("AMD EPYC 9655", True, True), ("AMD EPYC 7763", False, False), ("Intel(R) Xeon(R) 6354", True, False)],
)
def test_without_a_matrix_unit_it_pays_on_the_processors_whose_vectors_are_fast(
    monkeypatch, processor, has_instructions, pays
):
    monkeypatch.setattr(precision, "processor_name", lambda: processor)
    monkeypatch.setattr(precision, "has_bf16", lambda device: has_instructions)
    monkeypatch.setattr(precision, "has_bf16_matrix_unit", lambda: False)
    assert bf16_pays("cpu", 384) is pays
    assert not bf16_pays("cpu", 192)
    assert bf16_pays("cpu", 192, in_training=True) is pays
    assert resolve_precision("auto", torch.device("cpu"), 192) == ("bf16" if pays else "fp32")
    assert not bf16_pays("cpu", 64, in_training=True)


def test_by_a_matrix_unit_it_pays_for_wide_networks_alone(monkeypatch):
    monkeypatch.setattr(precision, "has_bf16_matrix_unit", lambda: True)
    monkeypatch.setattr(precision, "has_fast_bf16_vectors", lambda: True)
    assert bf16_pays("cpu", 384, in_training=True)
    assert not bf16_pays("cpu", 192, in_training=True)


def test_tf32_leaves_the_precision_of_products_as_it_was():
    assert torch.get_float32_matmul_precision() == "highest"
    for device, inside in (("cpu", "highest"), ("cuda", "high")):
        with tf32_products(torch.device(device)):
            assert torch.get_float32_matmul_precision() == inside
        assert torch.get_float32_matmul_precision() == "highest"


def test_exact_kernels_are_taken_for_a_while_and_where_they_are_asked_for():
    def settings():
        return torch.are_deterministic_algorithms_enabled(), torch.backends.cuda.cudnn_sdp_enabled()

    assert settings() == (False, True)
    for asked, inside in ((False, (False, True)), (True, (True, False))):
        with same_bits(asked):
            assert settings() == inside
        assert settings() == (False, True)
