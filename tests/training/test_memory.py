"""The memory of a step, counted without numbers, is that of one with them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dit.config import check_recipe
from dit.models import create_model
from dit.models.families import variants
from dit.training.activations import recompute_blocks
from dit.training.memory import Allocations, StepMemory, measure_passes, measure_step
from tests.training.fakes import make_recipe
from tests.training.forks import free_port

CPU = torch.device("cpu")
GROWTH = Path(__file__).with_name("measure_growth.py")


def test_allocations_are_counted_until_they_are_freed():
    known = torch.zeros(100)
    with Allocations([known]) as allocations:
        view = known[:50]
        one = torch.zeros(1000)
        same = one.view(10, 100)
        assert allocations.now == 4000
        other = one + 1
        assert allocations.now == 8000
        del one, same
        assert (allocations.now, allocations.peak) == (4000, 8000)
    assert view.shape == other[:50].shape


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
@pytest.mark.parametrize("kind", ["none", "blocks"])
def test_a_step_without_numbers_takes_what_one_with_them_takes(kind, autocast):
    options = {"hidden_size": 48, "depth": 3, "num_heads": 4, "num_classes": 3, "input_size": 8, "learn_sigma": False}
    recipe = make_recipe(
        **{f"model.{name}": value for name, value in options.items()},
        **{"train.activation_checkpointing": kind, "train.mixed_precision": "bf16" if autocast else "fp32"},
        **{"model.in_channels": 4, "ema.further_decays": [0.5], "train.gradient_accumulation": 2},
    )
    found, precision = measure_step(recipe, device=CPU, num_processes=2)
    network = recompute_blocks(create_model("dit_ti_2", in_channels=4, **options).train(), kind)
    activations, passes = measure_passes(network, 2, autocast)
    trained = sum(parameter.nbytes for parameter in network.parameters() if parameter.requires_grad)
    num_trained = sum(parameter.requires_grad for parameter in network.parameters())
    assert precision == recipe.train.mixed_precision
    assert found == StepMemory(
        parameters=trained + network.pos_embed.nbytes,
        gradients=trained,
        optimizer=2 * trained + 4 * num_trained,  # two moments, and a count for each tensor
        averages=2 * trained,
        activations=activations,
        passes=passes,
    )
    assert found.peak == found.parameters + found.optimizer + found.averages + max(passes, trained)


def test_parts_take_their_share_and_what_is_gathered():
    sizes = {
        "model.hidden_size": 48,
        "model.depth": 3,
        "train.gradient_accumulation": 1,
        "train.mixed_precision": "fp32",
    }
    plain, dealt, grouped = (
        measure_step(make_recipe(**sizes, **shard), device=CPU, num_processes=4)[0]
        for shard in ({}, {"train.shard": "fsdp2"}, {"train.shard": "hsdp", "train.shard_size": 2})
    )
    for found, parts in ((dealt, 4), (grouped, 2)):
        for kind in ("parameters", "gradients", "optimizer", "averages"):
            # Tensors that no even parts can be made of, and what is not trained, of which averages have parts as well.
            assert getattr(found, kind) == pytest.approx(getattr(plain, kind) / parts, rel=0.1)
        assert found.activations == plain.activations  # as many images, of as many numbers
        assert found.passes < plain.passes
    network = create_model("dit_ti_2", **make_recipe(**sizes).model.overrides())
    block = sum(parameter.nbytes for parameter in network.blocks[0].parameters())
    rest = sum(parameter.nbytes for parameter in network.parameters()) - 3 * block
    assert dealt.gathered == rest + 3 * block  # of two blocks the weights, of one the gradients
    half, _ = measure_step(
        make_recipe(**sizes | {"train.shard": "fsdp2", "train.mixed_precision": "bf16"}), device=CPU, num_processes=4
    )
    assert half.gathered == rest + 2 * block
    waiting, _ = measure_step(
        make_recipe(**sizes | {"train.shard": "fsdp2", "train.gradient_accumulation": 2}), device=CPU, num_processes=4
    )
    assert waiting.gathered == rest + 2 * block + rest + 3 * block


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["none", "blocks"])
def test_a_process_with_parts_grows_by_what_was_told(kind):
    port = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": "2",
        "ACCELERATE_USE_CPU": "true",
    }
    shared = {**os.environ, **port, "MALLOC_MMAP_THRESHOLD_": "65536"}
    processes = [
        subprocess.Popen(
            [sys.executable, GROWTH, kind, "fsdp2"],
            env={**shared, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    for process in processes:
        told, grown = map(int, process.communicate(timeout=300)[0].split())
        assert 0.85 < told / grown < 1.15


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["none", "blocks"])
def test_a_process_grows_by_what_was_told(kind):
    """Measured by the system; the C library is told to hand back what is freed, which it would keep in reserve."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run([sys.executable, GROWTH, kind], env=environment, capture_output=True, text=True, check=True)
    told, grown = map(int, done.stdout.split())
    assert 0.85 < told / grown < 1.15


@pytest.mark.filterwarnings("ignore:Mismatch dtype")  # a norm with float32 weights, which torch tells once
@pytest.mark.parametrize("name", ["mdt_ti_2", "uvit_ti_2", "imf_ti_2", "jit_ti_8"])
def test_networks_that_start_in_their_own_ways_can_be_measured(name):
    size = 4 * variants()[name].variants[name].get("patch_size", 1)
    model = {"name": name, "num_classes": 5, "input_size": [size, size]}
    recipe = check_recipe({"model": model, "train": {"batch_size": 4, "mixed_precision": "bf16"}})
    found, _ = measure_step(recipe, device=CPU, num_processes=1)
    network = create_model(name, num_classes=5, input_size=size)
    assert found.parameters == 4 * sum(parameter.numel() for parameter in network.parameters())
    assert found.activations > 0
