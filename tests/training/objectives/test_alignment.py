"""The alignment with an encoder's features against REPA's and REPA-E's loss, and the way of an image to the encoder."""

import pytest
import timm
import torch
from torch import nn

from dit.diffusion.create import create_process
from dit.encoders.encoder import Tokens
from dit.training.objectives import alignment
from dit.training.objectives.alignment import Alignment
from dit.training.objectives.config import AlignmentConfig
from dit.training.objectives.objective import WithHeads
from tests.goldens import assert_close
from tests.models.test_goldens import RAW_TIME, read
from tests.training.objectives.passes import make_batch, pass_of_tokens, surroundings_of


class Known(nn.Module):
    """An encoder whose features are given."""

    def __init__(self, features):
        super().__init__()
        self.features, self.network = features, nn.Identity()
        self.network.num_features = features.shape[2]

    def forward(self, images):
        return Tokens(self.features, None)


@pytest.mark.parametrize(("name", "data"), [("repa", "loss_data"), ("repae", "normalised_eval")])
def test_golden(name, data, monkeypatch):
    network, golden, config = read(name, "config")
    monkeypatch.setattr(alignment, "load_encoder", lambda *_, **__: Known(golden["features.0"]))
    section = AlignmentConfig(block=config["encoder_depth"], head_width=config["projector_dim"])
    loss = Alignment(section, surroundings_of(network))
    prefix = "state.projectors.0."
    loss.head.load_state_dict({key.removeprefix(prefix): golden[key] for key in golden if key.startswith(prefix)})
    process, t = create_process(RAW_TIME), golden["t"].double()
    x_t = process.corrupt(golden[data], golden["loss_noise"], t)
    _, tokens = WithHeads(network, {"alignment": loss})(
        x_t, process.model_time(t), golden["y"], tokens_for=["alignment"]
    )
    actual = loss(pass_of_tokens(tokens["alignment"], images=torch.zeros(3, 3, 8, 8, dtype=torch.uint8)))
    assert actual.shape == (3,)
    assert_close(actual.mean(), golden["loss_projection"], 5e-6)  # as its README says


@pytest.fixture
def untrained(monkeypatch):
    """Let timm give networks with random weights: pretrained ones need a network connection."""
    create_model = timm.create_model

    def create(name, *, pretrained):
        torch.manual_seed(0)
        return create_model(name, pretrained=False, depth=1)

    monkeypatch.setattr(timm, "create_model", create)


def test_the_image_on_its_way_to_the_encoder(untrained):
    """REPA's order: normalise, resize to 14 pixels a token, features without class and register tokens."""
    network, *_ = read("repa")  # 3 x 3 tokens
    name = "vit_small_patch14_reg4_dinov2.lvd142m"
    loss = Alignment(AlignmentConfig(block=1, encoder=f"timm/{name}"), surroundings_of(network))
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    encoder = timm.create_model(name, pretrained=True).eval()
    encoder.set_input_size(img_size=(42, 42))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    resized = nn.functional.interpolate((images / 255 - mean) / std, (42, 42), mode="bicubic")
    with torch.no_grad():
        expected = encoder.forward_features(resized)[:, 5:]
    features = loss.features(make_batch(*[torch.zeros(2)] * 4, images=images))
    assert features.shape == (2, 9, 384)
    # The order of two linear maps differs: rounding of float32.
    torch.testing.assert_close(features, expected, rtol=0, atol=2e-5)
    assert [layer.out_features for layer in loss.head if isinstance(layer, nn.Linear)] == [2048, 2048, 384]
