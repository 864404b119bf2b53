import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from dit.encoders.encoder import Encoder, Preparation
from dit.errors import DitError
from dit.evaluation.networks import dinov2
from dit.evaluation.networks.dinov2 import class_token, load_dinov2, with_published_positions
from dit.evaluation.networks.resize import torch_bicubic
from tests.evaluation.networks.golden_images import dinov2_state, golden_images
from tests.goldens import assert_close, load_tensors


@pytest.fixture
def tiny():
    """The golden network, as timm builds the published one: for images of 518 pixels."""
    network = VisionTransformer(
        img_size=518, patch_size=14, embed_dim=32, depth=2, num_heads=2, mlp_ratio=4, init_values=1.0, num_classes=0
    )
    shapes = {name: tuple(values.shape) for name, values in network.state_dict().items()}
    state = dinov2_state(shapes | {"mask_token": (1, 32)})
    del state["mask_token"]
    network.load_state_dict(state)
    return Encoder("tiny", network, Preparation((518, 518)))


@torch.no_grad()
def test_equals_the_golden_network(tiny):
    images = torch_bicubic(golden_images(0), 224)
    found = class_token(with_published_positions(tiny, 224), images)
    assert_close(found, load_tensors("evaluation")["dinov2_tiny/class_token"], 1e-5)


@torch.no_grad()
def test_timms_own_positions_are_other_ones(tiny):
    tiny.network.set_input_size((224, 224))
    tiny.preparation = Preparation((224, 224))
    found = class_token(tiny, torch_bicubic(golden_images(0), 224))
    expected = load_tensors("evaluation")["dinov2_tiny/class_token"]
    assert (found - expected).abs().max() > 0.005 * expected.abs().max()


@torch.no_grad()
def test_it_is_loaded_by_its_name_with_the_hash_of_its_own_weights(tiny, monkeypatch):
    monkeypatch.setattr(dinov2, "load_encoder", lambda name, field: tiny)
    before = dinov2.tensors_sha256(tiny.network.state_dict().items())
    loaded = load_dinov2(torch.device("cpu"))
    assert loaded.weights_sha256 == before
    assert loaded.forward(torch.zeros(1, 3, 224, 224))["class_token"].shape == (1, 32)


def test_weights_out_of_reach_are_one_line(monkeypatch):
    import timm

    def unreachable(name, *, pretrained):
        raise OSError("no route to host\nsecond line")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(
        DitError, match=r"^timm/vit_large_patch14_dinov2.lvd142m: expected its weights.*no route to host$"
    ):
        load_dinov2(torch.device("cpu"))
