import json
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from dit.errors import ConfigError, DitError
from dit.latents.codec import Codec, load_codec, slice_size_on
from dit.latents.config import LatentsConfig, LatentsDescription
from tests.latents.conftest import small_dc, small_kl, small_tiny


def images(channels: int = 3, size: int = 16, num: int = 4) -> torch.Tensor:
    return torch.rand(num, channels, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


@torch.no_grad()
def test_gaussian_encoder_against_diffusers(saved):
    vae = small_kl(scaling_factor=0.18215, shift_factor=0.5)
    codec = load_codec(saved(vae))
    assert (codec.image_channels, codec.latent_channels, codec.num_moments, codec.downscale) == (3, 3, 6, 2)
    posterior = vae.encode(images()).latent_dist
    moments = codec.encode(images())
    # Two libraries' sums of the same products, in the order that their kernels take on this processor: a few times
    # 2^-24 of values near 1, far within the 1e-5 of assert_close. The draw is element by element, of one input.
    assert_close(moments, posterior.parameters)
    noise = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    z = posterior.sample(torch.Generator().manual_seed(5))
    assert_close(codec.draw(posterior.parameters, noise), z)
    latents = (z - 0.5) * 0.18215  # as Flux and Stable Diffusion 3 scale theirs
    assert_close(codec.latents_from_moments(moments, noise), latents)
    pixels = vae.decode(latents / 0.18215 + 0.5).sample
    assert_close(codec.decode(latents), (127.5 * pixels + 128).clamp(0, 255).to(torch.uint8), atol=1, rtol=0)


def test_pixels_become_bytes_by_rounding_to_the_nearest_or_down():
    codec = load_codec("pixels_grey")
    levels = torch.tensor([-3.0, 0.0, 0.4, 0.6, 127.4, 254.6, 255.0, 300.0])
    found = {}
    for codec.rounding in ("nearest", "down"):
        found[codec.rounding] = codec.decode((levels / 127.5 - 1).view(1, 1, 2, 4)).flatten().tolist()
    assert found == {"nearest": [0, 0, 0, 1, 127, 255, 255, 255], "down": [0, 0, 0, 0, 127, 254, 255, 255]}


@torch.no_grad()
def test_log_variances_are_clamped(saved):
    codec = load_codec(saved(small_kl()))
    moments = torch.cat([torch.zeros(1, 3, 1, 1), torch.tensor([-1e6, 0.0, 1e6]).view(1, 3, 1, 1)], dim=1)
    expected = torch.tensor([-15.0, 0.0, 10.0]).exp().view(1, 3, 1, 1)
    assert_close(codec.draw(moments, torch.ones(1, 3, 1, 1)), expected)


@torch.no_grad()
@pytest.mark.parametrize(
    ("make", "output", "channels", "scale"), [(small_tiny, "latents", 4, 1.0), (small_dc, "latent", 8, 0.41407)]
)
def test_deterministic_encoders_against_diffusers(saved, make, output, channels, scale):
    vae = make()
    codec = load_codec(saved(vae))
    assert (codec.latent_channels, codec.num_moments, codec.downscale) == (channels, channels, 4)
    z = getattr(vae.encode(images()), output)
    moments = codec.encode(images())
    assert_close(moments, z)
    assert_close(codec.latents_from_moments(moments, torch.randn(4, channels, 4, 4)), z * scale)
    expected = (127.5 * vae.decode(z).sample + 128).clamp(0, 255).to(torch.uint8)
    assert_close(codec.decode(z * scale), expected, atol=1, rtol=0)


def test_pixels_are_truncated_and_clamped(saved, monkeypatch):
    codec = load_codec(saved(small_kl()))
    values = torch.tensor([-2.0, -1.0, -0.5, 0.0, 0.9999, 1.0, 3.0])
    pixels = values.view(1, 1, 1, 7).expand(1, 3, 2, 7)
    monkeypatch.setattr(codec.autoencoder, "decode", lambda _: pixels)
    assert codec.decode(torch.zeros(1, 3, 1, 1))[0, 0, 0].tolist() == [0, 0, 64, 128, 255, 255, 255]


@pytest.mark.parametrize(
    ("own", "given", "scale", "shift"),
    [
        ({"scaling_factor": 0.5, "shift_factor": 0.1}, {}, [0.5] * 3, [0.1] * 3),
        (
            {"scaling_factor": 0.5, "latents_mean": (1.0, 2.0, 3.0), "latents_std": (2.0, 4.0, 5.0)},
            {},
            [0.25, 0.125, 0.1],
            [1, 2, 3],
        ),
        ({"scaling_factor": 0.5, "shift_factor": 0.1}, {"scale": 3.0}, [3.0] * 3, [0.1] * 3),
        ({"scaling_factor": 0.5, "shift_factor": 0.1}, {"scale": 3.0, "shift": 0.0}, [3.0] * 3, [0.0] * 3),
        ({"scaling_factor": 0.5}, {"mean": (1.0, 0.0, -1.0), "std": (2.0, 1.0, 0.5)}, [0.5, 1, 2], [1, 0, -1]),
    ],
)
def test_normalisation_comes_from_the_recipe_or_the_autoencoder(saved, own, given, scale, shift):
    codec = load_codec(LatentsConfig(vae=saved(small_kl(**own)), **given))
    z = torch.randn(2, 3, 4, 5)
    expected = (z - torch.tensor(shift).view(3, 1, 1)) * torch.tensor(scale).view(3, 1, 1)
    assert_close(codec.normalise(z), expected)
    assert_close(codec.denormalise(codec.normalise(z)), z)


def test_normalisation_has_to_fit(saved):
    folder = saved(small_kl())
    with pytest.raises(ConfigError, match=r"latents\.scale: expected 3 numbers, one per channel .*, found 2"):
        load_codec(LatentsConfig(vae=folder, std=(1.0, 2.0)))
    path = Path(folder, "config.json")
    config = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in config.items() if key != "scaling_factor"}))
    with pytest.raises(ConfigError, match=r"latents\.scale: .* has neither scaling_factor nor latents_std"):
        load_codec(folder)
    assert load_codec(LatentsConfig(vae=folder, scale=2.0)).scale.flatten().tolist() == [2.0] * 3


@pytest.mark.parametrize("fields", [{"mean": (0.0,), "shift": 1.0}, {"std": (1.0,), "scale": 1.0}, {"std": (0.0,)}])
def test_contradictory_normalisations_are_refused(fields):
    with pytest.raises(ValueError, match="found"):
        LatentsConfig(**fields)


def test_an_image_has_the_same_bytes_in_any_batch():
    codec = load_codec("mnist")
    latents = torch.randn(35, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = codec.decode(latents)
    assert expected.shape == (35, 1, 32, 32)
    order = torch.randperm(35, generator=torch.Generator().manual_seed(1))
    for size in (1, 3, 16, 35):
        found = torch.cat([codec.decode(part) for part in latents[order].split(size)])
        assert torch.equal(found, expected[order])


def test_memory_is_bounded_by_slices(saved, monkeypatch):
    codec = load_codec(saved(small_kl()))
    sizes = []
    decode = codec.autoencoder.decode
    monkeypatch.setattr(codec.autoencoder, "decode", lambda z: (sizes.append(len(z)), decode(z))[1])
    assert len(codec.decode(torch.randn(5, 3, 64, 64))) == 5  # images of 128 x 128
    assert len(codec.decode(torch.randn(5, 3, 32, 32))) == 5
    assert sizes == [1] * 5 + [4, 4]


def test_a_gpu_decodes_many_images_at_a_time():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [slice_size_on(cpu, size, size) for size in (32, 64, 256)] == [16, 4, 1]
    assert [slice_size_on(gpu, size, size) for size in (32, 256)] == [16, 16]


def test_decoding_what_is_not_finite_is_refused(saved):
    codec = load_codec(saved(small_kl()))
    with pytest.raises(DitError, match="NaN or infinity"):
        codec.decode(torch.full((1, 3, 8, 8), torch.nan))


def test_whole_numbers_are_encoded_as_decode_returns_them(saved):
    codec = load_codec(saved(small_kl()))
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3).view(1, 3, 16, 16)
    torch.testing.assert_close(codec.encode(pixels), codec.encode(pixels.double() / 127.5 - 1))
    for wrong, problem in (
        (pixels.long(), "int64"),
        (pixels[0], r"\(3, 16, 16\)"),
        (pixels[:, :1], r"\(1, 1, 16, 16\)"),
    ):
        with pytest.raises(ConfigError, match=f"^encode: expected images .*found .*{problem}"):
            codec.encode(wrong)


def test_sizes_that_the_autoencoder_can_not_make(saved):
    codec = load_codec(saved(small_tiny()))
    assert codec.latent_size(64) == (16, 16)
    assert codec.latent_size((64, 32)) == (16, 8)
    with pytest.raises(ConfigError, match=r"data\.image_size: expected a multiple of 4, .* found 30"):
        codec.latent_size(30)


def test_description_round_trip_through_json(saved, tmp_path):
    codec = load_codec(LatentsConfig(vae=saved(small_kl()), scale=1 / 3, mean=(0.1, 0.2, 0.3)))
    described = Codec.from_description(
        LatentsDescription.model_validate_json(codec.describe().model_dump_json()), folder=tmp_path
    )
    latents = torch.randn(2, 3, 4, 4)
    assert torch.equal(described.scale, codec.scale)
    assert torch.equal(described.decode(latents), codec.decode(latents))
    assert described.describe() == codec.describe()


def test_a_copy_of_the_users_autoencoder_is_found_in_the_exported_folder(saved, tmp_path):
    codec = load_codec(saved(small_kl(), "original"))
    codec.save(tmp_path / "exported")
    codec.save(tmp_path / "exported")  # a run that is continued
    (tmp_path / "original").rename(tmp_path / "gone")
    description = codec.describe()
    assert str(tmp_path) not in description.model_dump_json()
    found = Codec.from_description(description, folder=tmp_path / "exported")
    assert torch.equal(found.decode(torch.ones(1, 3, 4, 4)), codec.decode(torch.ones(1, 3, 4, 4)))
    found.save(tmp_path / "again")
    assert (tmp_path / "again" / "vae" / "config.json").is_file()
    with pytest.raises(DitError, match="gone/vae: expected a copy of the autoencoder"):
        Codec.from_description(description, folder=tmp_path / "gone")
    with pytest.raises(ConfigError, match="expected a new or empty folder"):
        load_codec(saved(small_kl(act_fn="gelu"), "other")).save(tmp_path / "exported")


def test_embedded_autoencoders_need_no_copy(tmp_path):
    load_codec("mnist").save(tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_another_autoencoder_than_described_is_refused(saved, tmp_path):
    described = load_codec(saved(small_kl())).describe()
    other = small_kl()
    with torch.no_grad():
        other.decoder.conv_out.bias += 1
    saved(other)
    with pytest.raises(DitError, match=f"expected the autoencoder with fingerprint {described.fingerprint}, found"):
        Codec.from_description(described, folder=tmp_path)
    Codec.from_description(described.model_copy(update={"fingerprint": None}), folder=tmp_path)


@torch.no_grad()
def test_embedded_mnist_autoencoder_reconstructs_held_out_digits():
    """Its card states 30.9 dB from the mean; channels have mean 0 and variance 1 over the training set."""
    from dit.data.mnist import mnist_images

    codec = load_codec("mnist")

    def pixels(split, step):
        return torch.from_numpy(mnist_images(split)[0][::step])[:, None]

    held_out = pixels("val", 5)
    moments = codec.encode(held_out.float() / 127.5 - 1)
    error = codec.decode(codec.normalise(moments[:, :4])).float() - held_out.float()
    assert -10 * torch.log10((error / 255).square().mean()) > 30
    moments = codec.encode(pixels("train", 8).float() / 127.5 - 1)
    latents = codec.latents_from_moments(moments, torch.randn(500, 4, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert latents.mean((0, 2, 3)).abs().max() < 0.05
    assert (latents.std((0, 2, 3)) - 1).abs().max() < 0.05
