"""One process: device, precision, and exchanges that are the identity. Several: see test_loop.py."""

import os

import pytest
import torch

from dit.diffusion.process import UnderAutocast
from dit.errors import ConfigError
from dit.layers import precision
from dit.training.config import TrainConfig
from dit.training.ranks.processes import resolve_precision, start_processes

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_a_program_can_train_in_one_precision_after_another():
    assert start_processes(TrainConfig(mixed_precision="bf16")).accelerator.mixed_precision == "bf16"
    assert start_processes(TrainConfig(mixed_precision="fp32")).accelerator.mixed_precision == "no"


def test_exact_products_are_asked_for_before_the_first_one(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # and taken back afterwards
    for deterministic, expected in ((False, None), (True, ":4096:8")):
        monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
        start_processes(TrainConfig(deterministic=deterministic))
        assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == expected


def test_an_accelerator_of_the_programs_own_stays_whole():
    own = start_processes(TrainConfig(mixed_precision="bf16")).accelerator
    own.state.plugin = "its own"
    start_processes(TrainConfig(mixed_precision="bf16"))
    assert own.state.plugin == "its own"


def test_a_prepared_network_can_be_called_without_autocast():
    network, x = torch.nn.Linear(8, 8), torch.randn(4, 8)
    expected = network(x)
    prepared = start_processes(TrainConfig(mixed_precision="bf16")).prepare(network)
    assert isinstance(prepared, UnderAutocast)
    assert torch.equal(prepared.without_autocast(x), expected)
    assert not torch.equal(prepared(x), expected)


def test_precision_by_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **options: True)
    monkeypatch.setattr(precision, "has_bf16_matrix_unit", lambda: True)
    assert resolve_precision("auto", CPU, hidden_size=192) == "fp32"
    assert resolve_precision("auto", CPU, hidden_size=384) == "bf16"
    monkeypatch.setattr(precision, "has_bf16_matrix_unit", lambda: False)
    monkeypatch.setattr(precision, "has_fast_bf16_vectors", lambda: False)
    assert resolve_precision("auto", CPU, hidden_size=384) == "fp32"
    assert resolve_precision("auto", GPU) == "bf16"
    assert resolve_precision("fp16", GPU) == "fp16"
    assert resolve_precision("bf16", CPU) == "bf16"
    with pytest.raises(ConfigError, match=r"train\.mixed_precision: fp16 needs a GPU"):
        resolve_precision("fp16", CPU)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **options: False)
    assert resolve_precision("auto", GPU) == "fp32"
