"""RAE: the decoder against the original's numbers, statistics of every position, and the codec around both."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dit.errors import ConfigError, DitError
from dit.latents.codec import Codec, load_codec
from dit.latents.config import LatentsConfig, LatentsDescription
from dit.latents.rae import RAE, positions, unpatchify
from tests.goldens import assert_close, load_tensors
from tests.latents.conftest import write_small_rae

WEIGHTS = "diffusion_pytorch_model.safetensors"
GOLDEN_CONFIG = {
    "encoder_hidden_size": 12,
    "encoder_patch_size": 2,
    "encoder_input_size": 6,
    "patch_size": 4,
    "decoder_hidden_size": 32,
    "decoder_intermediate_size": 48,
    "decoder_num_hidden_layers": 2,
    "decoder_num_attention_heads": 4,
}
NAMES = {  # of the original -> of diffusers
    "attention.attention.query": "attention.to_q",
    "attention.attention.key": "attention.to_k",
    "attention.attention.value": "attention.to_v",
    "attention.output.dense": "attention.to_out.0",
}


@pytest.fixture(scope="module")
def golden():
    return load_tensors("families/rae_decoder")


def golden_tensors(golden) -> dict[str, torch.Tensor]:
    tensors = {"decoder." + key.removeprefix("state."): golden[key] for key in golden if key.startswith("state.")}
    for old, new in NAMES.items():
        tensors = {name.replace(old, new): tensor for name, tensor in tensors.items()}
    return tensors | {
        "_latents_mean": golden["latent_mean"],
        "_latents_std": (golden["latent_var"] + 1e-5).sqrt() - 1e-5,
    }


@torch.no_grad()
def test_goldens_of_the_decoder(golden):
    """Tolerances of one forward, tests/goldens/README.md."""
    rae = RAE(GOLDEN_CONFIG, golden_tensors(golden), "golden")
    assert rae.statistics is not None
    mean, std = rae.statistics
    z = golden["z"] * std + mean
    assert_close(rae.decoder(z), golden["logits"], 2e-6)
    assert_close((rae.decode(z) + 1) / 2, golden["out"], 2e-6)
    assert_close(unpatchify(rae.decoder(golden["other_grid_z"]), 4), golden["other_grid_pixels"], 2e-6)


def test_positions_are_whole_numbers_on_any_grid(golden):
    assert_close(positions(32, 3), golden["state.decoder_pos_embed"], 1e-6)
    tensors = golden_tensors(golden)
    del tensors["decoder.decoder_pos_embed"]  # diffusers does not save them
    assert torch.equal(RAE(GOLDEN_CONFIG, tensors, "golden").decoder.decoder_pos_embed, positions(32, 3))


@torch.no_grad()
def test_the_decoder_is_that_of_diffusers(tmp_path):
    """On a grid of 16, where its positions are those of the original; its encoder is another library's."""
    from diffusers.models.autoencoders.autoencoder_rae import RAEDecoder

    sizes = {"hidden_size": 8, "decoder_hidden_size": 16, "decoder_num_hidden_layers": 1}
    torch.manual_seed(0)
    theirs = RAEDecoder(
        **sizes, decoder_num_attention_heads=2, decoder_intermediate_size=24, num_patches=256, patch_size=2
    ).eval()
    config = {
        "encoder_hidden_size": 8,
        "decoder_hidden_size": 16,
        "decoder_num_hidden_layers": 1,
        "patch_size": 2,
        "decoder_num_attention_heads": 2,
        "decoder_intermediate_size": 24,
    }
    tensors = {f"decoder.{name}": tensor for name, tensor in theirs.state_dict().items()}
    z = torch.randn(1, 8, 16, 16)
    expected = theirs(z.flatten(2).transpose(1, 2)).logits
    assert_close(RAE(config, tensors, "theirs").decoder(z), expected, 2e-6)


@torch.no_grad()
def test_images_to_latents_and_back(tmp_path):
    codec = load_codec(write_small_rae(tmp_path / "rae"))
    assert (codec.latent_channels, codec.num_moments, codec.downscale, codec.is_gaussian) == (32, 32, 8, False)
    encoder = load_tensors("families/rae_encoder")
    images = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    moments = codec.encode(2 * images - 1)
    again = load_codec(str(tmp_path / "rae"))
    again.autoencoder.image_size = None  # the golden's images have the size of the encoder's input
    small = torch.nn.functional.interpolate(images, size=(12, 12), mode="bicubic")
    assert again.autoencoder.encoder is None
    assert_close(moments, again.autoencoder.encode(2 * small - 1), 1e-6)  # the same numbers, doubled and halved
    assert_close(again.autoencoder.encode(2 * encoder["x"] - 1), encoder["out"], 3e-6)
    tensors = load_file(tmp_path / "rae" / WEIGHTS)
    latents = codec.latents_from_moments(moments, torch.zeros(2, 32, 3, 3))
    assert_close(latents, (moments - tensors["_latents_mean"]) / (tensors["_latents_std"] + 1e-5), 1e-6)
    pixels = codec.autoencoder.decode(moments)
    assert pixels.shape == (2, 3, 24, 24)
    decoded = codec.exact().decode(latents)
    assert_close(decoded.float(), (127.5 * pixels + 128).clamp(0, 255).trunc(), 1 / 255)  # a level where sums differ


def test_described_saved_and_found_again(tmp_path):
    codec = load_codec(write_small_rae(tmp_path / "rae"))
    codec.save(tmp_path / "exported")
    text = codec.describe().model_dump_json()
    assert len(text) < 1000
    (tmp_path / "rae").rename(tmp_path / "gone")
    description = LatentsDescription.model_validate_json(text)
    assert (description.class_name, description.scale, description.shift) == ("AutoencoderRAE", None, None)
    found = Codec.from_description(description, folder=tmp_path / "exported")
    assert torch.equal(found.scale, codec.scale)
    assert found.describe() == codec.describe()
    latents = torch.randn(2, 32, 3, 3)
    assert torch.equal(found.decode(latents), codec.decode(latents))


def test_statistics_are_part_of_its_identity(tmp_path):
    first = load_codec(write_small_rae(tmp_path / "vae"))
    tensors = load_file(tmp_path / "vae" / WEIGHTS)
    tensors["_latents_std"][3, 1, 2] += 0.1
    save_file(tensors, tmp_path / "vae" / WEIGHTS)
    with pytest.raises(DitError, match=f"expected the autoencoder with fingerprint {first.fingerprint}, found"):
        Codec.from_description(first.describe(), folder=tmp_path)


def test_a_recipe_may_replace_both_statistics_and_not_one(tmp_path):
    folder = write_small_rae(tmp_path / "rae")
    codec = load_codec(LatentsConfig(vae=folder, scale=2.0, shift=1.0))
    assert codec.describe().scale == (2.0,) * 32
    assert torch.equal(codec.normalise(torch.ones(1, 32, 3, 3)), torch.zeros(1, 32, 3, 3))
    for fields in ({"scale": 2.0}, {"mean": (0.0,) * 32}):
        with pytest.raises(ConfigError, match="has its own normalisation per position; give both"):
            load_codec(LatentsConfig(vae=folder, **fields))


def test_one_size_of_images(tmp_path):
    codec = load_codec(write_small_rae(tmp_path / "rae"))
    assert codec.latent_size(24) == (3, 3)
    with pytest.raises(ConfigError, match=r"data\.image_size: expected 24, the one size of .*, found 32"):
        codec.latent_size(32)


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"encoder_type": "mae"}, "expected encoder_type dinov2 and 3 channels, found mae"),
        ({"encoder_input_size": 13}, "encoder_input_size in whole patches"),
        ({"decoder_num_hidden_layers": 10**9}, "decoder_num_hidden_layers: expected a whole number from 1 to 256"),
        ({"decoder_num_attention_heads": 3}, "decoder_num_attention_heads that divide 16, found 3"),
        ({"patch_size": "8"}, "patch_size: expected a whole number from 1 to 256, found '8'"),
        ({"decoder_num_hidden_layers": 2}, "tensors are missing: decoder.decoder_layers.1."),
        ({"encoder_input_size": 16}, "expected _latents_mean of [32, 4, 4], found [32, 3, 3]"),
        ({"scaling_factor": 0}, "can't be loaded"),
    ],
)
def test_other_configurations_are_refused(tmp_path, config, problem):
    folder = write_small_rae(tmp_path / "rae", **config)
    with pytest.raises(DitError, match=re.escape(problem)) as caught:
        load_codec(folder)
    assert folder in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda tensors: tensors.pop("decoder.decoder_pred.bias"), "1 tensors are missing: decoder.decoder_pred.bias"),
        (lambda tensors: tensors.update(extra=torch.ones(1)), "1 tensors are unexpected: extra"),
        (
            lambda tensors: tensors["decoder.decoder_pred.bias"].fill_(torch.nan),
            "infinity in decoder.decoder_pred.bias",
        ),
        (lambda tensors: tensors["_latents_std"].zero_().sub_(1), "deviations above 0"),
        (
            lambda tensors: tensors.pop("encoder.embeddings.register_tokens"),
            "encoder: expected a DINOv2 with registers",
        ),
        (
            lambda tensors: tensors["encoder.embeddings.cls_token"].fill_(torch.inf),
            "infinity in encoder.embeddings.cls",
        ),
    ],
)
def test_damaged_weights_are_refused(tmp_path, edit, problem):
    """Those of the encoder when it is first needed."""
    folder = write_small_rae(tmp_path / "rae")
    tensors = load_file(Path(folder, WEIGHTS))
    edit(tensors)
    save_file(tensors, Path(folder, WEIGHTS))
    with pytest.raises(DitError, match=re.escape(problem)) as caught:
        load_codec(folder).encode(torch.zeros(1, 3, 24, 24))
    assert folder in str(caught.value)


def test_decoding_needs_no_encoder(tmp_path):
    folder = write_small_rae(tmp_path / "rae")
    assert json.loads(Path(folder, "config.json").read_text())["_class_name"] == "AutoencoderRAE"
    codec = load_codec(folder)
    codec.decode(torch.zeros(1, 32, 3, 3))
    assert codec.autoencoder.encoder is None
