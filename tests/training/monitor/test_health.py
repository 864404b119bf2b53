"""Dumps of bad steps, spikes, and what is said when memory runs out."""

import json

import numpy as np
import pytest
import torch

from dit.diffusion.process import Losses
from dit.training.batch import Batch
from dit.training.monitor.health import SpikeMonitor, bad_step_error, dump_bad_step, explain_out_of_memory
from tests.training.fakes import make_recipe


def make_part(positions, loss):
    count = len(positions)
    batch = Batch(
        positions=positions,
        indices=np.arange(count) + 100,
        x_0=torch.zeros(count),
        y=torch.arange(count),
        noise=torch.zeros(count),
        u=torch.zeros(count),
    )
    loss = torch.tensor(loss)
    return batch, Losses(loss=loss, t=torch.full((count,), 0.5), unweighted=loss)


def test_dump_lists_the_samples_whose_loss_is_bad(tmp_path):
    parts = [make_part([8, 9], [1.0, float("nan")]), make_part([10, 11], [float("inf"), 1.0])]
    path, count = dump_bad_step(tmp_path, 1, 0, parts, float("nan"))
    assert count == 2
    found = json.loads(path.read_text())
    assert (found["step"], found["rank"], found["grad_norm"]) == (2, 0, "nan")
    assert [row["position"] for row in found["samples"]] == [9, 10]
    assert [row["index"] for row in found["samples"]] == [101, 100]
    assert [row["loss"] for row in found["samples"]] == ["nan", "inf"]


def test_dump_lists_all_samples_where_only_the_gradient_is_bad(tmp_path):
    path, count = dump_bad_step(tmp_path, 1, 0, [make_part([8, 9], [1.0, 2.0])], float("inf"))
    assert count == 0
    assert [row["position"] for row in json.loads(path.read_text())["samples"]] == [8, 9]


def test_error_names_step_process_and_number_of_samples(tmp_path):
    message = str(bad_step_error(1, [0, 3], tmp_path, float("nan")))
    assert "step 2: found a loss that is not finite in 3 samples of process 1;" in message
    assert "gradient norm of inf" in str(bad_step_error(1, [0, 0], tmp_path, float("inf")))


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


def test_other_errors_are_not_explained_away():
    assert explain_out_of_memory(RuntimeError("shape mismatch"), make_recipe(), 1) is None
    assert explain_out_of_memory(KeyError("out of memory"), make_recipe(), 1) is None
