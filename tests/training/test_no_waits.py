"""On a GPU the host waits for nothing in a step: counted on tensors that only say that they are on one."""

import pytest
import torch

from dit.diffusion import average_velocity
from tests.training.fake_cuda import CUDA, make_step, watched
from tests.training.fakes import make_recipe

GAUSSIAN = {"process.name": "gaussian", "process.learn_sigma": True, "model.learn_sigma": True}
AVERAGE = {"process.name": "average_velocity", "model.learn_sigma": None}
MEANFLOW = {"name": "meanflow", "guidance": 2.0, "guidance_mix": 0.3}
AUXILIARY = [
    "velocity_direction",
    {"name": "dispersive", "block": 1, "group": 4},
    {"name": "self_alignment", "block": 1, "teacher_block": 2},
    {"name": "contrastive_flow", "group": 4},
]
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer")  # where a network is copied
RECIPES = {
    "flow": {},
    "weighted": {"process.weighting": {"name": "min_snr"}, "process.time_law": {"name": "logit_normal"}},
    "gaussian": GAUSSIAN,
    "edm": {"process.name": "edm"},
    "meanflow": AVERAGE | {"model.name": "meanflow_ti_2", "process.loss": MEANFLOW},
    "imf": AVERAGE
    | {"model.name": "imf_ti_2", "model.head_depth": 1, "model.velocity_head": True, "process.condition": "h"}
    | {"process.loss": {"name": "imf"}},
    "auxiliary": {"objective.auxiliary": AUXILIARY},
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_step_waits_for_nothing(name, monkeypatch):
    if name == "imf":  # its blocks' own parameters are not for forward-mode derivatives of fakes
        monkeypatch.setattr(
            average_velocity, "total_derivative", lambda model, function, x, t, v: function(model, x, t)
        )
    with watched() as waits:
        step = make_step(waits, make_recipe(**RECIPES[name]), num_micros=2)
        waits.found.clear()
        step(0)
        assert waits.found == []


@pytest.mark.parametrize("name", ["flow", "gaussian", "edm"])
def test_all_coefficients_go_over_at_once(name):
    with watched() as waits:
        step = make_step(waits, make_recipe(**RECIPES[name]))
        waits.num_copies = 0
        step(0)
        # Moments, labels, coefficients, and the buckets of the times.
        assert waits.num_copies == 4


def test_waits_are_found():
    with watched() as waits:
        x = torch.empty(2, device=CUDA)
        x.cpu(), torch.empty(3).to(CUDA), torch.empty(3).to(CUDA, non_blocking=True), x.copy_(torch.empty(2))
        assert len(waits.found) == 4
        waits.pin(torch.empty(3)).to(CUDA, non_blocking=True)
        assert len(waits.found) == 4
