"""Images encoded when they are asked for: the answers of a cache, without one."""

import multiprocessing
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

import dit.latents.plan
from dit.data.config import DataConfig
from dit.data.request import Request
from dit.errors import ConfigError, DitError
from dit.latents.codec import load_codec
from dit.latents.config import LatentsConfig
from dit.latents.encode import encode_dataset
from dit.latents.image_dataset import ImageDataset
from dit.latents.plan import make_plan
from tests.data.pictures import noise, write_folder
from tests.latents.conftest import small_kl

NUM_IMAGES = 20


@pytest.fixture
def photos(tmp_path):
    return write_folder(tmp_path / "photos", {"cat": 8, "dog": 12})


def configs(photos, tmp_path, **fields):
    options = {"source": str(photos), "image_size": 16, "val_fraction": 0, "flip": True}
    return DataConfig(**options | fields), LatentsConfig(batch_size=4, cache=str(tmp_path / "cache"))


def make_requests(num_batches=5, batch_size=6):
    draw = np.random.default_rng(0)
    for _ in range(num_batches):  # with repetitions, as where an epoch ends within a batch
        yield Request(draw.integers(0, NUM_IMAGES, batch_size), draw.random(batch_size) < 0.5)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [
        ("pixels", 0.0),
        ("kl", 1e-5),  # float32, in a batch beside other images
    ],
)
def test_answers_are_those_of_a_cache(photos, tmp_path, saved, monkeypatch, kind, tolerance, num_workers):
    monkeypatch.setattr(dit.latents.plan, "PART_ROWS", 8)
    data, latents = configs(photos, tmp_path, num_workers=num_workers)
    codec = load_codec("pixels" if kind == "pixels" else saved(small_kl()))
    cached, dataset = encode_dataset(data, latents, codec), ImageDataset(make_plan(data, latents, codec, "train"))
    for name in ("class_names", "num_classes", "latents_shape", "fingerprint"):
        assert getattr(dataset, name) == getattr(cached, name)
    assert len(dataset) == len(cached) == NUM_IMAGES
    np.testing.assert_array_equal(dataset.part_sizes, cached.part_sizes)
    np.testing.assert_array_equal(dataset.part_sizes, [8, 8, 4])
    answers = list(dataset.read(make_requests()))
    for rows, expected, request in zip(answers, cached.read(make_requests()), make_requests(), strict=True):
        np.testing.assert_array_equal(rows.request.indices, request.indices)
        assert_close(rows.moments, expected.moments, atol=tolerance, rtol=0)
        assert torch.equal(rows.labels, expected.labels)
    assert multiprocessing.active_children() == []


def test_two_batches_are_read_ahead_and_workers_end_with_the_reading(photos, tmp_path):
    data, latents = configs(photos, tmp_path, num_workers=1)
    dataset, asked = ImageDataset(make_plan(data, latents, load_codec("pixels"), "train")), []

    def requests():
        for number, request in enumerate(make_requests(num_batches=9, batch_size=16)):
            asked.append(number)
            yield request

    reading = dataset.read(requests())
    next(reading)
    assert max(asked) == 2  # counted from 0
    assert len(multiprocessing.active_children()) == 1
    reading.close()
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_broken_image_is_told_when_its_batch_is_due(photos, tmp_path, num_workers):
    data, latents = configs(photos, tmp_path, num_workers=num_workers)
    (photos / "dog" / "003.jpg").write_bytes(b"")
    reading = ImageDataset(make_plan(data, latents, load_codec("pixels"), "train")).read(
        Request.plain(range(start, start + 5)) for start in range(0, NUM_IMAGES, 5)
    )
    assert [len(next(reading).moments), len(next(reading).moments)] == [5, 5]
    with pytest.raises(DitError, match=r"dog/003\.jpg: expected an image, found an empty file"):
        next(reading)
    assert multiprocessing.active_children() == []


def test_answers_hold_the_images_where_they_are_asked_for(photos, tmp_path):
    data, latents = configs(photos, tmp_path)
    plan = make_plan(data, latents, load_codec("pixels"), "train")
    assert [rows.images for rows in ImageDataset(plan).read(make_requests(1))] == [None]
    (rows,) = ImageDataset(plan, keep_images=True).read(make_requests(1))
    assert rows.images is not None
    assert rows.images.dtype == torch.uint8
    assert_close(rows.images.float() / 127.5 - 1, rows.moments)  # of pixels, mirrored like them


def test_images_are_cut_out_where_the_request_says(photos, tmp_path):
    data, latents = configs(photos, tmp_path, crop="random")
    image = noise(20, 40)
    image.resize((20, 40)).save(photos / "cat" / "000.jpg")  # scaled to 16 x 32: 17 places
    dataset = ImageDataset(make_plan(data, latents, load_codec("pixels"), "train"))
    places = np.array([0.0, 8.5 / 17, 0.9999])
    requests = [
        Request(np.zeros(3, int), np.zeros(3, bool), places),
        Request(np.zeros(3, int), np.ones(3, bool), places),
        Request.plain([0, 0, 0]),
    ]
    found, mirrored, plain = (rows.moments for rows in dataset.read(requests))
    with Image.open(photos / "cat" / "000.jpg") as file:
        whole = np.asarray(file.resize((16, 32), Image.Resampling.BICUBIC)) / 127.5 - 1
    expected = torch.from_numpy(np.stack([whole[top : top + 16] for top in (0, 8, 16)])).permute(0, 3, 1, 2).float()
    assert_close(found, expected)
    assert_close(mirrored, expected.flip(-1))
    assert_close(plain, expected[[1, 1, 1]])


def test_a_source_that_cuts_its_images_itself_has_no_random_crops(photos, tmp_path):
    plan = make_plan(*configs(photos, tmp_path, crop="random"), load_codec("pixels"), "train")
    with pytest.raises(ConfigError, match=r"data\.crop: expected centre, since .*photos' cuts its images itself"):
        ImageDataset(replace(plan, images=replace(plan.images, read_at=None)))
