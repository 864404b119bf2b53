"""`data.source` that names latents: what is opened, how it is split, and what is refused."""

import numpy as np
import pytest
import torch

from dit.data.config import DataConfig
from dit.data.order import positions_to_indices
from dit.errors import ConfigError, DitError
from dit.latents.codec import load_codec
from dit.latents.config import LatentsConfig
from dit.latents.statistics import normalise_measured, read_statistics
from dit.latents.stored import open_stored
from tests.latents.caches import random_moments, write_cache, write_splits
from tests.latents.conftest import small_kl, small_tiny
from tests.latents.peers.writers import edm_files, write_fast_dit, write_folder, write_lightningdit, write_zip

N = 30
LABELS = torch.arange(N) % 3


@pytest.fixture
def codec(saved):
    """A Gaussian autoencoder of 4 channels and half the side."""
    return load_codec(saved(small_kl(latent_channels=4)))


def config(source, **options):
    return DataConfig(source=str(source), image_size=8, **options)


def stored(source, **options):
    return open_stored(config(source, **options), LatentsConfig())


def test_both_splits_of_a_cache_are_opened(tmp_path, codec):
    folder = write_splits(tmp_path / "out", codec.fingerprint)
    both = stored(folder)
    both.check(config(folder, flip=True), codec, is_measured=False)
    assert (len(both.train), len(both.val)) == (11, 5)
    alone = stored(both.train.folder)
    assert (len(alone.train), len(alone.val)) == (11, 0)
    assert both.train.fingerprint == alone.train.fingerprint
    assert len(stored(folder, limit=4).train) == 4
    assert stored(folder, limit=4).train.labels.tolist() == both.train.labels[[0, 2, 5, 8]].tolist()


def test_images_are_no_latents(tmp_path):
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "1.png").touch()
    assert [stored(source) for source in (tmp_path, tmp_path / "cats" / "1.png", "mnist", "org/name")] == [None] * 4


def test_of_several_caches_one_is_to_be_named(tmp_path):
    write_splits(tmp_path / "out", "a" * 64)
    write_splits(tmp_path / "out", "b" * 64, num=(12, 5))
    with pytest.raises(ConfigError, match=r"expected one cache of the split train, found train-a{24}, train-b{24}; "):
        stored(tmp_path / "out")
    assert len(stored(tmp_path / "out" / ("train-" + "b" * 24)).train) == 12


def test_held_out_latents_of_another_autoencoder_are_refused(tmp_path):
    write_splits(tmp_path / "out", "a" * 64)
    for path in (tmp_path / "out").glob("val-*"):
        path.rename(tmp_path / "kept")
    write_splits(tmp_path / "other", "b" * 64)
    (other,) = (tmp_path / "other").glob("val-*")
    other.rename(tmp_path / "out" / other.name)
    with pytest.raises(DitError, match=r"expected held-out latents of the autoencoder and classes of .*train-a"):
        stored(tmp_path / "out")


def test_a_share_of_every_class_is_held_out_of_latents_of_others(tmp_path):
    z = torch.randn(N, 4, 4, 4)
    folder = write_lightningdit(tmp_path / "x", z, LABELS)
    both = stored(folder, val_fraction=0.2)
    assert np.bincount(both.train.labels).tolist() == [8, 8, 8]
    assert np.bincount(both.val.labels).tolist() == [2, 2, 2]
    rows = [both.train.get([i])[0] for i in range(24)] + [both.val.get([i])[0] for i in range(6)]
    assert torch.equal(torch.cat(rows).flatten(1).sum(1).sort().values, z.flatten(1).sum(1).sort().values)
    assert sum(both.train.part_sizes) == 24
    again = stored(folder, val_fraction=0.2, split_seed=1)
    assert again.train.fingerprint != both.train.fingerprint
    assert len(stored(folder, val_fraction=0).val) == 0


@pytest.mark.parametrize(
    ("options", "vae", "error", "problem"),
    [
        (
            {"image_size": 16},
            {},
            ConfigError,
            r"data.image_size: expected 8, for the latents in .* are 4 x 4, found 16",
        ),
        ({}, {"latent_channels": 3}, ConfigError, "expected an autoencoder of 4 channels, as .* have, found one of 3"),
        (
            {},
            {"norm_num_groups": 2},
            DitError,
            r"expected latents of the autoencoder with fingerprint .*, found those of",
        ),
    ],
)
def test_d8_latents_that_do_not_fit_the_recipe_are_refused(tmp_path, codec, saved, options, vae, error, problem):
    folder = write_splits(tmp_path / "out", codec.fingerprint)
    other = load_codec(saved(small_kl(**{"latent_channels": 4} | vae), "other"))
    with pytest.raises(error, match=problem):
        stored(folder).check(config(folder).model_copy(update=options), other, is_measured=False)


def test_mirrored_images_are_asked_for_before_the_first_step(tmp_path, codec):
    folder = write_lightningdit(tmp_path / "x", torch.randn(N, 4, 4, 4), LABELS)
    with pytest.raises(ConfigError, match=r"data\.flip: expected latents with mirrored images, found none in .*x"):
        stored(folder).check(config(folder, flip=True), codec, is_measured=False)


def test_statistics_that_come_with_latents_are_held_against_the_normalisation(tmp_path, saved):
    mean, std = torch.tensor([1.0, -2.0, 0.0, 3.0]), torch.tensor([2.0, 1.0, 0.5, 4.0])
    folder = write_lightningdit(tmp_path / "x", torch.randn(N, 4, 4, 4), LABELS, statistics=(mean, std))
    vae = saved(small_kl(latent_channels=4))
    fits = load_codec(LatentsConfig(vae=vae, mean=(1.05, -2.0, 0.0, 3.0), std=(2.0, 1.0, 0.52, 4.0)))
    stored(folder).check(config(folder), fits, is_measured=False)
    wide = load_codec(LatentsConfig(vae=vae, mean=(1.0, -2.0, 0.0, 3.0), std=(2.0, 1.0, 0.6, 4.0)))
    with pytest.raises(DitError, match="are not the normalisation of"):
        stored(folder).check(config(folder), wide, is_measured=False)
    other = load_codec(vae)
    with pytest.raises(DitError, match=r"x: its statistics \(mean 1, deviation 2 of channel 0\) are not the normal"):
        stored(folder).check(config(folder), other, is_measured=False)
    stored(folder).check(config(folder), other, is_measured=True)
    normalise_measured(other, stored(folder).train, stored(folder).statistics)
    torch.testing.assert_close(other.shift.flatten(), mean)
    torch.testing.assert_close(1 / other.scale.flatten(), std)


def test_statistics_of_latents_of_others_are_kept_among_the_caches(tmp_path, codec, monkeypatch):
    monkeypatch.setenv("DIT_CACHE", str(tmp_path / "caches"))
    folder = write_lightningdit(tmp_path / "x", torch.randn(N, 4, 4, 4), LABELS)
    before = sorted(folder.iterdir())
    dataset = stored(folder).train
    normalise_measured(codec, dataset)
    assert sorted(folder.iterdir()) == before
    assert read_statistics(dataset) is not None
    assert read_statistics(stored(folder, split_seed=1).train) is None


# --- the same latents in every format ---------------------------------------------------------------------------------


def drawn(dataset, codec, *, flips=None):
    """Draw and normalise a batch, in the order of a training."""
    indices = positions_to_indices(range(16), len(dataset), seed=3)
    moments, labels = dataset.get(indices, flips)
    noise = torch.randn(16, *dataset.latents_shape, generator=torch.Generator().manual_seed(1))
    return codec.latents_from_moments(moments, noise), labels


def test_moments_of_others_are_drawn_as_ours(tmp_path, codec):
    moments = random_moments(N, views=1)
    mean, log_var = moments[:, 0].chunk(2, dim=1)
    cache = write_cache(tmp_path / "ours", moments, channels=4, vae=codec.fingerprint, labels=LABELS)
    expected, labels = drawn(stored(cache).train, codec)
    maskdit = write_zip(tmp_path / "x.zip", edm_files(mean, log_var, LABELS, "img"))
    repa = write_folder(tmp_path / "vae-sd", edm_files(mean, (log_var / 2).exp(), LABELS)).parent
    for source, tolerance in ((maskdit, 0), (repa, 1e-6)):  # a logarithm and an exponential in float32
        dataset = stored(source, val_fraction=0).train
        found, found_labels = drawn(dataset, codec)
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
        assert torch.equal(found_labels, labels)


@pytest.mark.parametrize("kind", ["gaussian", "deterministic"])
def test_draws_of_others_are_taken_as_they_are(tmp_path, codec, saved, kind):
    if kind == "deterministic":
        codec = load_codec(LatentsConfig(vae=saved(small_tiny(), "tiny"), scale=0.7, shift=0.1))
    z = random_moments(N, 4, views=2)
    expected = codec.normalise(z[:, 0][positions_to_indices(range(16), N, seed=3)])
    shards = write_lightningdit(tmp_path / "shards", z[:, 0], LABELS, z[:, 1])
    assert torch.equal(drawn(stored(shards, val_fraction=0).train, codec)[0], expected)
    fast = write_fast_dit(tmp_path / "fast", z[:, 0], LABELS)
    found = drawn(stored(fast, val_fraction=0).train, codec)[0]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)  # it is stored times 0.18215 in float32
    if kind == "deterministic":
        cache = write_cache(tmp_path / "ours", z, channels=4, vae=codec.fingerprint, labels=LABELS)
        flips = np.arange(16) % 3 == 0
        ours = drawn(stored(cache).train, codec, flips=flips)[0]
        assert torch.equal(drawn(stored(shards, val_fraction=0).train, codec, flips=flips)[0], ours)
