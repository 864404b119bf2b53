"""Validation: fixed noise and times, means by bucket, the same in any batch."""

import pytest
import torch

from dit.diffusion.create import create_process
from dit.errors import DitError
from dit.rng import Purpose, normal
from dit.training.monitor.validation_loss import DRAW, NOISE, SEED, Validation, with_fixed_times
from dit.training.ranks.processes import start_processes
from tests.training.fakes import FakeCodec, FakeLatents, make_parts, make_recipe
from tests.training.test_batch import make_source


def make_validation(process, **changes):
    arguments = {
        "dataset": FakeLatents(12, seed=1),
        "source": make_source(),
        "process": process,
        "processes": start_processes(make_recipe().train),
        "num_samples": 12,
        "num_buckets": 4,
        "batch_size": 5,
    }
    return Validation(**(arguments | changes))


class Zero(torch.nn.Module):
    """A network that predicts nothing: its velocity loss is the mean square of noise - x_0, at any time."""

    def forward(self, x, t, y):
        return torch.zeros_like(x)


def test_loss_of_a_known_network():
    process = create_process(make_recipe().process)
    found, by_time = make_validation(process).measure(Zero())
    dataset, positions = FakeLatents(12, seed=1), range(12)
    draw = normal(SEED, Purpose.PROBE, positions, (2, 4, 4), step=DRAW)
    x_0 = FakeCodec().latents_from_moments(dataset.moments, draw)
    noise = normal(SEED, Purpose.PROBE, positions, (2, 4, 4), step=NOISE)
    expected = (noise - x_0).square().mean((1, 2, 3))
    assert found == pytest.approx(expected.mean().item(), rel=1e-6)
    # Sample i has its time in bucket i modulo 4: the times of a flow process are uniform.
    assert by_time == pytest.approx([expected[k::4].mean().item() for k in range(4)], rel=1e-6)


def test_it_does_not_depend_on_the_batch_size_and_leaves_the_network_as_it_was():
    model, process, *_ = make_parts(make_recipe())
    model.train()
    one, other = make_validation(process).measure(model), make_validation(process, batch_size=12).measure(model)
    assert one[0] == pytest.approx(other[0], rel=1e-6)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_last_batch_is_filled_up_where_blocks_are_compiled():
    model, process, *_ = make_parts(make_recipe())
    sizes = []
    model.register_forward_pre_hook(lambda network, inputs: sizes.append(len(inputs[0])))
    plain, filled = (make_validation(process, fills_up=fills_up).measure(model) for fills_up in (False, True))
    assert sizes == [5, 5, 2, 5, 5, 5]
    assert filled[0] == pytest.approx(plain[0], rel=1e-6)
    assert filled[1] == pytest.approx(plain[1], rel=1e-6)


def test_damaged_weights_stop():
    model, process, *_ = make_parts(make_recipe())
    torch.nn.init.constant_(model.final_layer.linear.bias, float("nan"))
    with pytest.raises(DitError, match="validation loss"):
        make_validation(process).measure(model)


def test_times_stay_fixed_while_an_adaptive_law_learns():
    config = make_recipe(**{"process.time_law": {"name": "adaptive", "num_buckets": 4}}).process
    process = create_process(config)
    validation = make_validation(with_fixed_times(process))
    before = validation.measure(Zero())
    process.time_law.update(torch.linspace(0.01, 0.99, 64), torch.linspace(0.1, 9.0, 64))
    assert validation.measure(Zero()) == before
    assert make_validation(process).measure(Zero()) != before
    plain = create_process(make_recipe().process)
    assert with_fixed_times(plain) is plain
