"""Statistics of latents against sums over all of them at once."""

import json

import pytest
import torch

import dit.latents.statistics
from dit.errors import DitError
from dit.files import write_json
from dit.latents.codec import load_codec
from dit.latents.config import LatentsConfig
from dit.latents.dataset import LatentDataset
from dit.latents.statistics import measure_statistics, normalise_measured, read_statistics, write_statistics
from tests.latents.conftest import small_kl
from tests.latents.test_dataset import all_moments, write


@pytest.fixture
def dataset(tmp_path):
    return LatentDataset(write(tmp_path / "cache"))  # 10 samples in two views, 2 channels of mean and log-variance


def test_mean_and_deviation_of_a_draw(dataset, monkeypatch):
    moments = all_moments().double().flatten(0, 1)
    means, variances = moments[:, :2], moments[:, 2:].exp()
    expected = means.mean((0, 2, 3)), (means.var((0, 2, 3), correction=0) + variances.mean((0, 2, 3))).sqrt()
    for num_bytes in (1, 4 * 4 * 9 * 3, 2**26):  # one sample, three, all at a time
        monkeypatch.setattr(dit.latents.statistics, "CHUNK_BYTES", num_bytes)
        for found, value in zip(measure_statistics(dataset), expected, strict=True):
            torch.testing.assert_close(found, value, rtol=1e-12, atol=1e-12)  # sums of float64 in another order


def test_a_deterministic_encoder_has_no_variance_of_its_own(dataset, monkeypatch):
    monkeypatch.setattr(dataset, "latents_shape", (4, 3, 3))
    moments = all_moments().double().flatten(0, 1)
    mean, std = measure_statistics(dataset)
    torch.testing.assert_close(mean, moments.mean((0, 2, 3)), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(std, moments.std((0, 2, 3), correction=0), rtol=1e-12, atol=1e-12)


def test_latents_have_mean_0_and_variance_1(dataset, saved):
    codec = load_codec(LatentsConfig(vae=saved(small_kl(latent_channels=2)), normalise="measured"))
    assert codec.scale.flatten().tolist() == pytest.approx(
        [0.18215] * 2
    )  # the autoencoder's, until something is encoded
    normalise_measured(codec, dataset)
    draws = all_moments().flatten(0, 1).repeat(500, 1, 1, 1)
    noise = torch.randn(len(draws), 2, 3, 3, generator=torch.Generator().manual_seed(0))
    latents = codec.latents_from_moments(draws, noise)
    # 90,000 numbers a channel, equal shares of all moments: the noise alone leaves 1 / sqrt(90,000) = 0.0033.
    assert latents.mean((0, 2, 3)).abs().max() < 2e-2
    assert (latents.std((0, 2, 3)) - 1).abs().max() < 2e-2
    assert codec.describe().scale == tuple(codec.scale.flatten().tolist())


def test_they_are_measured_once(dataset, saved, monkeypatch):
    assert read_statistics(dataset) is None
    statistics = write_statistics(dataset)
    monkeypatch.setattr(dataset, "get", lambda *_: pytest.fail("measured again"))
    assert read_statistics(dataset) == statistics
    codec = load_codec(LatentsConfig(vae=saved(small_kl(latent_channels=2)), normalise="measured"))
    normalise_measured(codec, dataset)
    torch.testing.assert_close(codec.shift.flatten(), torch.tensor(statistics.mean))


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (
            lambda content: content.update(fingerprint="0" * 64),
            "of the latents with fingerprint ffff.*, found 2 of 0000",
        ),
        (lambda content: content.update(mean=[0.0]), "expected statistics of 2 channels"),
        (lambda content: content.update(std=[1.0, 0.0]), "found deviation 0.0 in 1"),
        (lambda content: content.update(std=[1.0, "x"]), "std"),
        (lambda content: content.pop("mean"), "mean"),
    ],
)
def test_other_statistics_are_refused(dataset, edit, problem):
    write_statistics(dataset)
    content = json.loads((dataset.folder / "statistics.json").read_text())
    edit(content)
    write_json(dataset.folder / "statistics.json", content)
    with pytest.raises(DitError, match=rf"statistics\.json: .*{problem}"):
        read_statistics(dataset)


def test_a_constant_channel_is_refused_and_leaves_nothing(tmp_path):
    moments = all_moments()
    moments[:, :, 1], moments[:, :, 3] = 5, -1e6
    dataset = LatentDataset(write(tmp_path / "cache", moments))
    dataset.latents_shape = (4, 3, 3)
    with pytest.raises(
        DitError, match=r"cache: expected latents that differ in every channel, found deviation 0\.0 in 1"
    ):
        write_statistics(dataset)
    assert not (dataset.folder / "statistics.json").exists()


def test_measured_or_given():
    with pytest.raises(ValueError, match="normalise: expected own, since std is given, found measured"):
        LatentsConfig(normalise="measured", std=(1.0,))


def test_an_autoencoder_without_a_scale_may_be_measured(saved, tmp_path):
    folder = saved(small_kl())
    config = json.loads((tmp_path / "vae" / "config.json").read_text())
    del config["scaling_factor"]
    write_json(tmp_path / "vae" / "config.json", config)
    assert load_codec(LatentsConfig(vae=folder, normalise="measured")).scale.flatten().tolist() == [1.0] * 3
