"""Every benchmark, run really, at sizes that take seconds."""

import math
from types import SimpleNamespace

import pytest
import torch

from dit.bench import data, decode, encode, evaluate, from_disk, objectives, peers, run, sample, scaling
from dit.bench.names import BENCHMARKS
from dit.bench.settings import Settings

OBJECTIVES = ["with alignment, cached features", "with routing of half the tokens"]
PEERS = {
    "denoise": ["products alone", "forward float32", "diffusers float32"],
    "data": ["by sample", *2 * [".npy an image", "safe_open a sample"]],
    "encode": ["autoencoder alone"],
    "decode": ["diffusers float32"],
    "sample": ["DiTPipeline float32", "DiTPipeline 50 DDIM steps float32"],
    "train-step": [
        *OBJECTIVES,
        "dit with lora",
        "plain float32",
        "plain float32 compiled",
        "dit with muon",
        "dit with lora, memory",
    ],
    "evaluate": [
        *(
            "NumPy and SciPy",
            "torch-fidelity",
            "NumPy and SciPy",
            "torch-fidelity",
            "NumPy and SciPy",
            "torch-fidelity",
        ),
        *("sampling alone", *5 * ["NumPy and SciPy"]),
    ],
}


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name != "scaling"])
def test_it_runs_and_leaves_out_what_the_device_emulates(name, monkeypatch, capsys):
    monkeypatch.setattr("dit.bench.settings.has_bf16", lambda device: False)  # emulated it takes minutes
    monkeypatch.setattr(sample, "has_bf16", lambda device: False)
    monkeypatch.setattr("dit.training.weights.muon.has_bf16", lambda device: False)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, **options: None)
    monkeypatch.setattr(decode, "WIDTHS", (32, 32, 32, 32))
    monkeypatch.setattr(decode, "LATENT_SIZE", 2)
    monkeypatch.setattr(encode, "WIDTHS", (32, 32, 32, 32))
    monkeypatch.setattr(encode, "IMAGE_SIZE", 16)
    monkeypatch.setattr(encode, "NUM_IMAGES", 16)
    for size, value in {"NUM_SAMPLES": 8, "PART_ROWS": 4, "NUM_BATCHES": 2}.items():
        monkeypatch.setattr(data, size, value)
    for size, value in {"WIDTH": 16, "DIGITS": 4}.items():
        monkeypatch.setattr(evaluate, size, value)
    monkeypatch.setattr(from_disk, "WIDTHS", {"pool": 16, "spatial": 12, "logits": 8})
    monkeypatch.setattr(sample, "STEPS", 2)
    monkeypatch.setattr(sample, "TIMED", 1)
    monkeypatch.setattr(run, "pin_threads", lambda: 1)
    settings = Settings(
        torch.device("cpu"), rounds=1, budget=600, model="dit_ti_2", batch=40 if name == "evaluate" else 1
    )
    rows = list(run.run(name, settings))
    assert all(row.benchmark == name and math.isfinite(row.ratio) and row.ratio > 0 for row in rows)
    assert [row.peer for row in rows] == PEERS[name]
    assert ("has no bfloat16 in hardware" in capsys.readouterr().err) == (
        name not in ("data", "encode", "sample", "evaluate")
    )


def test_one_process_is_raced_by_two_with_whole_and_with_dealt_weights():
    small = {"hidden_size": 24, "input_size": 4, "depth": 1, "num_heads": 2}
    settings = Settings(torch.device("cpu"), rounds=2, budget=600, model="dit_ti_2", batch=2, arguments=small)
    rows = list(scaling.run(settings))
    assert [row.case.rpartition(" ")[2] for row in rows] == ["none", "fsdp2"]
    assert all(row.rounds == 2 and row.ratio > 0 and row.peer == "1 process" for row in rows)


def test_labels_are_where_the_network_is(monkeypatch):
    monkeypatch.setattr(sample, "sample", lambda model, process, y, shape, **options: SimpleNamespace(latents=y))
    model = peers.network("dit_ti_2", Settings(torch.device("meta")))
    assert sample._ours(model, 2, "ddim", 2)().device.type == "meta"


@pytest.mark.gpu
@pytest.mark.parametrize("name", BENCHMARKS)
def test_it_runs_on_a_gpu_and_tells_its_memory(name):
    pytest.importorskip("diffusers")
    settings = Settings(
        torch.device("cuda"), rounds=1, budget=60, model="dit_ti_2", batch=40 if name == "evaluate" else 2
    )
    for row in run.run(name, settings):
        print(row)
        assert row.ratio > 0
        assert name == "scaling" or row.unit != "ms" or row.memory is not None
        assert row.share is None or row.share < 1


def test_a_file_is_named_by_the_device_that_was_used():
    """Not by the machine's: a run on the CPU of a machine with a GPU is one of a CPU."""
    machine = {"device": "cpu", "gpu": None, "torch": "2.14.0+cu130", "bf16": False}
    assert run.result_path("all", machine).name == "all_cpu_torch-2.14.0_fp32.json"
    other = machine | {"device": "cuda", "gpu": "NVIDIA H100 80GB HBM3", "bf16": True}
    assert run.result_path("all", other).name == "all_NVIDIA-H100-80GB-HBM3_torch-2.14.0_bf16.json"


@pytest.mark.parametrize(("name", "peer"), [("meanflow_ti_2", "with loss meanflow"), ("imf_ti_2", "with loss imf")])
def test_networks_of_average_velocities_are_trained_by_their_loss(name, peer, monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, **options: None)
    settings = Settings(torch.device("cpu"), rounds=1, budget=600, arguments={"hidden_size": 24, "input_size": 4})
    assert [row.peer for row in objectives.measure(name, 2, settings)] == [peer]
