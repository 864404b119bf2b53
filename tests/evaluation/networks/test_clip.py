import timm
import torch

from dit.evaluation.networks import clip
from dit.evaluation.networks.clip import load_clip


def test_the_projection_is_timms_scaled_to_length_one(monkeypatch):
    """A shallow tower with random weights: the published one has 24 blocks."""
    create_model = timm.create_model

    def create(name, *, pretrained):
        torch.manual_seed(0)
        return create_model(name, pretrained=False, depth=1, embed_dim=64, num_heads=2)

    monkeypatch.setattr(timm, "create_model", create)
    loaded = load_clip(torch.device("cpu"))
    images = torch.randint(0, 256, (2, 3, clip.SIZE, clip.SIZE)).float()
    with torch.inference_mode():
        found = loaded.forward(images)["projection"]
        config = timm.get_pretrained_cfg(clip.NAME.removeprefix("timm/"))
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (config.mean, config.std))
        expected = create("vit_large_patch14_clip_quickgelu_336.openai", pretrained=True).eval()(
            (images / 255 - mean) / std
        )
    assert found.shape == (2, clip.WIDTHS["projection"])
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(found, expected / expected.norm(dim=1, keepdim=True))
