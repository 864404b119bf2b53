import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

from dit.evaluation import feature_parts
from dit.evaluation.feature_parts import load_networks, read_file_parts, write_file_parts
from dit.evaluation.image_files import open_image_files
from dit.evaluation.networks.network import describe
from dit.files import cache_folder
from dit.launcher import ALONE, Share
from tests.evaluation.small_network import SMALL, WIDTHS

CPU = torch.device("cpu")


@pytest.fixture
def images(tmp_path, monkeypatch):
    monkeypatch.setenv("DIT_CACHE", str(tmp_path / "cache"))
    pixels = np.random.default_rng(0).integers(0, 256, (23, 20, 20, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", pixels)
    return open_image_files(tmp_path / "x.npz")


def run(images, batch_size=5, share=ALONE):
    options = {"device": CPU, "batch_size": batch_size}
    networks = load_networks((SMALL,), CPU)
    write_file_parts(images, networks, title="samples", share=share, **options)
    return read_file_parts(images, networks, **options) if share.rank == 0 else None


def parts():
    return {path.name: path.read_bytes() for path in sorted(cache_folder("features").rglob("*.safetensors"))}


def test_features_are_the_networks_in_the_order_of_the_images(images):
    found = run(images)
    (pixels,) = images.batches(23)
    expected = describe(SMALL, SMALL.load(CPU), torch.tensor(pixels).permute(0, 3, 1, 2))
    for name in WIDTHS:
        torch.testing.assert_close(found.rows(name), expected[name])


def test_what_a_kill_left_is_not_computed_again(images, monkeypatch):
    run(images)
    whole, counted = parts(), []
    for name in ("00000005.safetensors", "00000020.safetensors"):
        next(cache_folder("features").rglob(name)).unlink()
    describe_batch = feature_parts.describe_batch
    monkeypatch.setattr(
        feature_parts, "describe_batch", lambda batch, *rest: counted.append(len(batch)) or describe_batch(batch, *rest)
    )
    run(images)
    assert counted == [5, 3]
    assert parts() == whole
    run(images)
    assert counted == [5, 3]


def test_another_batch_size_has_parts_of_its_own(images):
    run(images)
    before = len(parts())
    run(images, batch_size=23)
    assert len(list(cache_folder("features").iterdir())) == 2
    assert before == 5


def test_any_number_of_processes_writes_the_same_parts_in_turn(images, monkeypatch):
    run(images)
    whole = parts()
    for path in cache_folder("features").rglob("*.safetensors"):
        path.unlink()
    run(images, share=Share(2, 3))
    assert list(parts()) == ["00000010.safetensors"]
    run(images, share=Share(1, 3))
    assert list(parts()) == ["00000005.safetensors", "00000010.safetensors", "00000020.safetensors"]
    run(images, share=Share(0, 3))
    assert parts() == whole


def test_the_hash_of_all_images_does_not_depend_on_batches_or_files(images, tmp_path):
    (pixels,) = images.batches(23)
    for number, image in enumerate(pixels):
        (tmp_path / "folder").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "folder" / f"{number}.png")
    found = {run(images).pixels_sha256, run(images, batch_size=7).pixels_sha256}
    found.add(run(open_image_files(tmp_path / "folder")).pixels_sha256)
    hashes = b"".join(hashlib.sha256(image.tobytes()).digest() for image in pixels)
    assert found == {hashlib.sha256(hashes).hexdigest()}
