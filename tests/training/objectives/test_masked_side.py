"""The loss of MDT's masked pass on the original's output, and the share of tokens left out."""

import numpy as np
import pytest
import torch

from dit.diffusion.config import GaussianConfig
from dit.diffusion.create import create_process
from dit.rng import StepDraws
from dit.training.objectives import masked_side
from dit.training.objectives.auxiliary import Pass
from dit.training.objectives.config import MaskedSideConfig
from dit.training.objectives.masked_side import MaskedSide
from dit.training.objectives.masks import draw_keep, is_kept, pixels_of
from dit.training.objectives.objective import WithHeads
from tests.models.test_goldens import read
from tests.training.objectives.passes import make_batch, surroundings_of


@pytest.mark.parametrize("name", ["mdt", "mdtv2"])
def test_golden(name, monkeypatch):
    """MDT's own process: noise is chosen so that the noised latents are the golden's input."""
    network, golden, _ = read(name)
    process = create_process(GaussianConfig())
    x_0, t = torch.randn(golden["x"].shape, generator=torch.Generator().manual_seed(0)), (golden["t"] + 1) / 1000
    alpha, sigma = (
        values.view(-1, 1, 1, 1).float() for values in (process.schedule.alpha(t), process.schedule.sigma(t))
    )
    noise, u = (golden["x"] - alpha * x_0) / sigma, (golden["t"] + 0.5).double() / 1000
    monkeypatch.setattr(masked_side, "draw_keep", lambda *_: golden["ids_keep"])
    monkeypatch.setattr(StepDraws, "normal", lambda *_: noise)
    batch = make_batch(x_0, golden["y"], torch.zeros_like(noise), u)
    seen = Pass(0, batch, process, WithHeads(network, {}), t, golden["out"])
    loss = MaskedSide(MaskedSideConfig(), surroundings_of(network))(seen)
    expected = process.losses(lambda *_: golden["masked_out"], x_0, golden["y"], noise=noise, u=u).loss
    # Of losses, as tests/goldens/README.md says; each for itself, for at step 0 the noise is large.
    torch.testing.assert_close(loss / expected, torch.ones(3), rtol=0, atol=2e-5)


def test_tokens_are_kept_evenly_and_in_any_order():
    network, *_ = read("mdt")
    arguments = network.arguments
    keep = draw_keep(StepDraws(0, 0, 3200, range(3200)), arguments, 0.3, torch.device("cpu"))
    assert keep.shape == (3200, 11)  # int(16 * 0.7)
    kept = is_kept(keep, arguments)
    assert torch.equal(kept.sum(1), torch.full((3200,), 11.0))
    for share in (
        kept.mean(0),
        *(torch.stack([(keep[:, k] == j).float().mean() for j in range(16)]) * 11 for k in (0,)),
    ):
        assert (share - 11 / 16).abs().max() < 5 * np.sqrt(11 / 3200)
    pixels = pixels_of(kept, arguments)
    assert pixels.shape == (3200, 1, 8, 8)
    assert torch.equal(pixels[:, 0, ::2, ::2].flatten(1), kept)
    assert torch.equal(pixels[:, 0, 1::2, 1::2].flatten(1), kept)


def test_one_token_at_least_is_kept():
    network, *_ = read("mdt")
    assert draw_keep(StepDraws(0, 0, 2, range(2)), network.arguments, 0.999, torch.device("cpu")).shape == (2, 1)


def test_the_ratio_is_drawn_for_each_step_between_its_bounds():
    network, *_ = read("mdt")
    loss = MaskedSide(MaskedSideConfig(ratio=(0.3, 0.5)), surroundings_of(network))
    ratios = [loss.ratio(step) for step in range(200)]
    assert 0.3 <= min(ratios) < 0.31
    assert 0.49 < max(ratios) <= 0.5
    assert np.mean(ratios) == pytest.approx(0.4, abs=0.02)
