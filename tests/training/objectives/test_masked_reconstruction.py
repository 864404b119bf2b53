"""MaskDiT's two losses against the original's, and the falling share of tokens left out."""

import pytest
import torch

from dit.diffusion.config import EdmConfig
from dit.diffusion.create import create_process
from dit.diffusion.timesteps import UniformLaw
from dit.training.objectives import masked_reconstruction
from dit.training.objectives.config import MaskedReconstructionConfig
from dit.training.objectives.masked_reconstruction import MaskedReconstruction
from dit.training.objectives.objective import Objective, WithHeads
from tests.goldens import assert_close
from tests.models.test_goldens import labels_of, read
from tests.training.fakes import make_recipe
from tests.training.objectives.passes import make_batch, surroundings_of


def make_loss(network, **fields):
    return MaskedReconstruction(MaskedReconstructionConfig(**fields), surroundings_of(network))


def test_goldens(monkeypatch):
    network, golden, _ = read("maskdit")
    process = create_process(EdmConfig(sigma_data=0.5))
    process.time_law = UniformLaw()  # of the times that are given
    monkeypatch.setattr(masked_reconstruction, "draw_keep", lambda *_: golden["ids_keep"])
    x_0 = golden["loss_data"]
    noise = (golden["sigma_x"] - x_0) / golden["sigma"].view(-1, 1, 1, 1)
    loss = make_loss(network)
    trained = WithHeads(network, {"masked_reconstruction": loss})
    objective = Objective(process, trained, trained, {"masked_reconstruction": loss})
    batch = make_batch(x_0, labels_of(golden["y"]), noise, golden["sigma"].double() / 80)
    losses = objective.losses(batch, 0)
    assert_close(losses.loss, golden["loss_dsm"], 2e-5)  # of losses, as tests/goldens/README.md says
    assert_close(losses.terms["masked_reconstruction"], golden["loss_mae"], 2e-5)
    torch.testing.assert_close(objective.total(losses), losses.loss + 0.1 * golden["loss_mae"], rtol=1e-4, atol=0)


def test_the_ratio_falls():
    network, *_ = read("maskdit")
    assert make_loss(network).ratio(10**6) == 0.5
    falling = make_loss(network, schedule="falling")
    steps = falling.surroundings.max_steps
    assert [falling.ratio(step) for step in (0, steps // 2, steps)] == pytest.approx([0.5, 0.125, 0.0])
    assert steps == make_recipe().train.max_steps
