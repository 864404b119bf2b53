"""Cached features: those that the encoder gives, of both views, and refused where they are of something else."""

import itertools

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dit.data.config import DataConfig
from dit.data.images import open_images
from dit.data.request import Request
from dit.encoders.load import load_encoder
from dit.errors import ConfigError
from dit.latents.codec import load_codec
from dit.latents.config import LatentsConfig
from dit.latents.encode import encode_dataset
from dit.latents.features import FeatureEncoder, WithFeatures, feature_caches, features_config, open_features
from dit.latents.image_dataset import ImageDataset
from dit.latents.plan import make_plan
from tests.data.pictures import write_folder
from tests.goldens import load_tensors

GRID = (3, 3)


def write_encoder(folder):
    """Write a small DINOv2 with registers of random weights: 32 features of patches of 4 pixels."""
    prefix, golden = "state.encoder.", load_tensors("families/rae_encoder")
    folder.mkdir()
    tensors = {name.removeprefix(prefix): value for name, value in golden.items() if name.startswith(prefix)}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text('{"num_attention_heads": 2}')
    return str(folder)


@pytest.fixture
def encoded(tmp_path):
    """Pictures as pixels and their features: what was encoded, data, latents and the encoder's name."""
    source, name = write_folder(tmp_path / "photos", {"cat": 5, "dog": 4}), write_encoder(tmp_path / "encoder")
    data = DataConfig(source=str(source), image_size=16, val_fraction=0.2, flip=True)
    latents = LatentsConfig(vae="pixels", cache=str(tmp_path / "out"), batch_size=4)
    encoder = FeatureEncoder(name, GRID[0], image_channels=3, device="cpu")
    features = encode_dataset(data, features_config(latents, name, tmp_path / "out"), encoder)
    return features, data, latents, name


def opened(tmp_path, images, name, *, grid=GRID, flip=True):
    return open_features(str(tmp_path / "out"), images, name, grid, flip=flip)


def test_features_are_the_encoders_of_both_views(encoded):
    features, data, _, name = encoded
    images = open_images(data, "train")
    pixels = torch.from_numpy(np.stack([images.read(i) for i in range(len(images))])).permute(0, 3, 1, 2)
    encoder = load_encoder(name, grid=GRID)
    with torch.no_grad():
        expected = [encoder(view.float() / 255).patches for view in (pixels, pixels.flip(-1))]
    assert features.storage == torch.bfloat16
    assert features.index.latents_shape == (32, *GRID)
    assert not torch.allclose(*expected, atol=0.1)
    for view, of_view in enumerate(expected):
        found, _ = features.get(range(len(images)), np.full(len(images), bool(view)))
        # The rounding of bfloat16, and batches of another size.
        torch.testing.assert_close(found.flatten(2).transpose(1, 2), of_view, rtol=2**-8, atol=1e-5)
    features.verify()


@pytest.mark.parametrize("ahead", [True, False])
def test_batches_hold_the_features_of_their_images(encoded, tmp_path, ahead):
    features, data, latents, name = encoded
    codec = load_codec(latents)
    ours = encode_dataset(data, latents, codec) if ahead else ImageDataset(make_plan(data, latents, codec, "train"))
    both = WithFeatures(ours, opened(tmp_path, ours, name))
    assert (len(both), both.num_features, both.num_classes) == (len(features), 32, 2)
    assert both.fingerprint not in (ours.fingerprint, features.fingerprint)
    requests = [Request(np.array([i, 1]), np.array([True, False])) for i in (3, 0, 2, 3)]
    reading = both.read(itertools.chain(requests, itertools.repeat(requests[0])))
    for request, rows in zip(requests, reading, strict=False):
        expected, _ = features.get(request.indices, request.flips)
        assert torch.equal(rows.features.float(), expected)
        assert torch.equal(rows.labels, torch.from_numpy(ours.labels[request.indices]))
    reading.close()


def test_some_of_the_latents_have_their_features(encoded, tmp_path):
    features, data, latents, name = encoded
    some = encode_dataset(data, latents, load_codec(latents)).take(np.array([4, 1]))
    found = opened(tmp_path, some, name).get([0, 1])[0]
    assert torch.equal(found, features.get([4, 1])[0])


def test_features_of_something_else_are_refused(encoded, tmp_path):
    features, data, latents, name = encoded
    codec = load_codec(latents)
    images = ImageDataset(make_plan(data, latents, codec, "train"))
    where = rf"^objective\.auxiliary: alignment\.features: {features.folder}: expected features of "
    with pytest.raises(ConfigError, match=where + r"timm/resnet50, found those of .*encoder"):
        opened(tmp_path, images, "timm/resnet50")
    with pytest.raises(ConfigError, match=where + r"4 x 4 patches, as .* found 3 x 3; .* --features_grid 4"):
        opened(tmp_path, images, name, grid=(4, 4))
    others = make_plan(data.model_copy(update={"image_size": 24}), latents, codec, "train")
    with pytest.raises(ConfigError, match=where + r"the images of data\.source, found those of others \(.*\(train\)"):
        opened(tmp_path, ImageDataset(others), name)
    other = load_tensors("families/rae_encoder")
    save_file({"other": next(iter(other.values()))}, tmp_path / "encoder" / "model.safetensors")
    with pytest.raises(ConfigError, match=where + r"the weights that are in .*encoder, found those of others"):
        opened(tmp_path, images, name)


def test_missing_mirror_images_are_refused(encoded, tmp_path):
    _, data, latents, name = encoded
    plain = data.model_copy(update={"flip": False})
    encoder = FeatureEncoder(name, GRID[0], image_channels=3, device="cpu")
    encode_dataset(plain, features_config(latents, name, tmp_path / "plain"), encoder)
    images = ImageDataset(make_plan(plain, latents, load_codec(latents), "train"))
    found = open_features(str(tmp_path / "plain"), images, name, GRID, flip=False)
    assert len(found) == len(images)
    with pytest.raises(ConfigError, match=r"features of mirrored images too \(data\.flip\), found none; .*--flip"):
        open_features(str(tmp_path / "plain"), images, name, GRID, flip=True)


def test_no_features_at_all_are_missed(tmp_path):
    with pytest.raises(ConfigError, match=rf"expected features that dit encode .* found none in {tmp_path}/features"):
        feature_caches(str(tmp_path))
