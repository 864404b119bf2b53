"""Calls whose modulations were computed beforehand are the plain calls."""

import pytest
import torch

from dit.diffusion.config import FlowConfig, GaussianConfig
from dit.diffusion.create import create_process
from dit.models import prepared
from dit.sampling.config import SamplingConfig
from dit.sampling.sampler import sample
from tests.goldens import assert_close, load_network


@pytest.fixture(scope="module")
def network():
    return load_network("dit_p2_sigma")


def test_a_step_is_the_plain_call_also_where_not_all_steps_fit_into_memory(network, monkeypatch):
    monkeypatch.setattr(prepared, "MAX_BYTES", 1)
    model, golden = network
    x, y, times = golden["x"], golden["y"], torch.tensor([999.0, 500.0, 0.0])
    step = model.prepare(times, y)
    for i in (0, 2, 1):
        assert_close(step(x, i), model(x, times[i].expand(len(x)), y), 1e-6)


class Plain:
    """The network without its own way of sampling."""

    def __init__(self, model):
        self.model, self.null_class = model, model.null_class

    def __call__(self, x_t, t, y):
        return self.model(x_t, t, y)


OPTIONS = [{}, {"guidance": 3.0}, {"guidance": 3.0, "guidance_interval": [0.2, 0.7]}]
SOLVERS = ["ddpm", "ddim", "euler", "heun", "midpoint", "dpmpp_2m"]


@pytest.mark.parametrize(
    ("solver", "options"), [(name, options) for name in SOLVERS for options in OPTIONS] + [("dopri5", OPTIONS[-1])]
)
def test_samples_are_those_of_the_plain_network(network, solver, options):
    model, _ = network
    process = create_process(GaussianConfig() if solver in ("ddpm", "ddim") else FlowConfig(learn_sigma=True))
    sampling = SamplingConfig(solver=solver, steps=4, guidance_calls="two" if solver == "heun" else "one", **options)
    y = torch.tensor([0, 3, 3])
    fast, plain = (sample(m, process, y, (4, 8, 8), sampling=sampling) for m in (model, Plain(model)))
    assert fast.num_calls == plain.num_calls
    assert_close(fast.latents, plain.latents, 1e-5)


def test_the_modulations_are_computed_once_per_class(network, monkeypatch):
    model, _ = network
    seen = []
    for block in model.blocks:
        block.adaLN_modulation.register_forward_hook(lambda module, given, made: seen.append(tuple(made.shape[:2])))
    y = torch.tensor([0, 3, 3, 0])
    sampling = SamplingConfig(solver="ddim", steps=5, guidance=2.0)
    sample(model, create_process(GaussianConfig()), y, (4, 8, 8), sampling=sampling)
    assert seen == [(6, 3)] * len(model.blocks)  # 5 steps and the end; two classes and the null class
