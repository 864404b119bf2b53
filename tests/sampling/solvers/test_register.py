"""A solver from outside of the package, in recipes and in the sampling loop."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import torch
from pydantic import Field

import dit
from dit.config import check_recipe, load_recipe
from dit.diffusion.config import FlowConfig
from dit.diffusion.create import create_process
from dit.errors import ConfigError
from dit.sampling.config import SamplingConfig
from dit.sampling.sampler import sample
from dit.sampling.solvers import SOLVERS, SolverOptions
from dit.sampling.solvers.ode import velocity
from dit.sampling.solvers.step import Solver, Step
from dit.validation import dotted_fields

FLOW = create_process(FlowConfig())


class DampedOptions(SolverOptions):
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of each of Euler's steps that is taken."""


@dataclass(frozen=True)
class Damped(Solver):
    options: DampedOptions

    def __call__(self, x, k, grid, denoise, noise, memory):
        denoised, width = denoise(x, grid.t[k]), self.options.share * (grid.t[k + 1] - grid.t[k])
        return Step(x + width.to(x) * velocity(denoised, grid.schedule, grid.t[k]), denoised)


@pytest.fixture(autouse=True)
def registered():
    SamplingConfig(solver="euler")  # the table has been read before
    dit.register_solver("damped", DampedOptions, Damped)
    yield
    del SOLVERS["damped"]


def draw(solver):
    noise = torch.ones(1, 1, 2, 2)
    sampling = SamplingConfig(solver=solver, steps=8)
    return sample(lambda x, t, y: x, FLOW, torch.tensor([0]), (1, 2, 2), sampling=sampling, noise=noise).latents


def test_it_samples_with_its_options():
    """The velocity x shrinks the state by 1 - share / 8 at each of 8 steps."""
    assert torch.equal(draw("damped"), draw("euler"))
    torch.testing.assert_close(draw({"name": "damped", "share": 0.5}), torch.full((1, 1, 2, 2), (1 - 0.5 / 8) ** 8))


def test_recipes_know_it_and_check_its_options(tmp_path):
    (path := tmp_path / "r.yaml").write_text("sampling: {solver: damped}")
    assert load_recipe(path, {"sampling.solver.share": 0.5}).sampling.solver == DampedOptions(name="damped", share=0.5)
    assert "sampling.solver.share" in dict(dotted_fields(type(load_recipe(path))))
    with pytest.raises(ConfigError, match=r"^--sampling\.solver\.share: expected a value .* 1, found 2"):
        load_recipe(path, {"sampling.solver.share": 2})
    with pytest.raises(ConfigError, match=r"sampling\.solver\.eta: unknown key"):
        check_recipe({"sampling": {"solver": {"name": "damped", "eta": 0.5}}})


def test_a_name_is_taken_once():
    with pytest.raises(ConfigError, match="register_solver: expected a new name, found 'damped'"):
        dit.register_solver("damped", None, Damped)
