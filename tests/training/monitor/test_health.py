"""Dumps of bad steps, spikes, and what is said when memory runs out."""

import pytest
import torch

from dit.training.monitor.health import SpikeMonitor, explain_out_of_memory
from tests.training.fakes import make_recipe


def test_spike_is_reported_once_and_not_learnt():  # T10
    monitor = SpikeMonitor(6.0)
    quiet = [1 + 0.01 * (-1) ** step for step in range(60)]
    assert [monitor.add(step, loss) for step, loss in enumerate(quiet)] == [None] * 60
    assert monitor.add(60, 1.05) is None
    message = monitor.add(61, 2.0)
    assert message is not None
    assert "step 62" in message
    assert "2" in message
    assert monitor.num_spikes == 1
    assert 2.0 not in monitor.recent


def test_no_spike_before_there_is_something_to_compare_with():
    monitor = SpikeMonitor(6.0)
    assert [monitor.add(step, loss) for step, loss in enumerate([1.0, 100.0, 1.0])] == [None] * 3


def test_the_window_forgets():
    monitor = SpikeMonitor(6.0, window=5, warm_up=3)
    for step in range(20):
        monitor.add(step, float(-step))
    assert monitor.recent == [-15.0, -16.0, -17.0, -18.0, -19.0]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_out_of_memory_says_batch_and_resolution(error):  # T16
    recipe = make_recipe(**{"train.batch_size": 64, "train.gradient_accumulation": 2, "data.image_size": 32})
    message = str(explain_out_of_memory(error, recipe, 4))
    assert "8 images at a time" in message
    assert "latent size [4, 4], 32 pixels" in message
