import os
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import dit.latents.encode
from dit.data.config import DataConfig
from dit.data.images import open_images
from dit.errors import ConfigError, DitError
from dit.latents.codec import load_codec
from dit.latents.config import LatentsConfig
from dit.latents.encode import encode_dataset
from tests.data.pictures import write_folder
from tests.latents.conftest import small_kl

SIZE = 16


@pytest.fixture
def photos(tmp_path):
    return write_folder(tmp_path / "photos", {"cat": 9, "dog": 12})


@pytest.fixture
def codec(saved):
    return load_codec(saved(small_kl()))


@pytest.fixture
def small_parts(monkeypatch):
    """Let a part hold two batches of four images: 6 moments of 8 x 8 in float32."""
    monkeypatch.setattr(dit.latents.encode, "PART_BYTES", 8 * 6 * 8 * 8 * 4)


def data(photos, **fields) -> DataConfig:
    return DataConfig(**({"source": str(photos), "image_size": SIZE, "val_fraction": 0.2} | fields))


def latents(tmp_path, **fields) -> LatentsConfig:
    return LatentsConfig(**({"cache": str(tmp_path / "cache"), "batch_size": 4} | fields))


def pixels(config, split="train") -> torch.Tensor:
    images = open_images(config, split)
    array = np.stack([images.read(i) for i in range(len(images))])
    return torch.from_numpy(array).permute(0, 3, 1, 2).float() / 127.5 - 1


@pytest.mark.parametrize("split", ["train", "val"])
def test_moments_and_labels_are_those_of_the_images(tmp_path, photos, codec, small_parts, split):
    config = data(photos)
    dataset = encode_dataset(config, latents(tmp_path), codec, split)
    images = open_images(config, split)
    assert len(dataset.index.parts) == (3 if split == "train" else 1)
    assert len(dataset) == len(images) == (17 if split == "train" else 4)
    assert dataset.class_names == ("cat", "dog")
    assert dataset.num_classes == 2
    assert (dataset.latents_shape, dataset.moments_shape) == ((3, 8, 8), (6, 8, 8))
    order = np.random.default_rng(0).permutation(len(images))
    moments, labels = dataset.get(order)
    assert_close(moments, codec.encode(pixels(config, split))[order], atol=1e-5, rtol=0)
    np.testing.assert_array_equal(labels, images.labels[order])
    np.testing.assert_array_equal(dataset.labels, images.labels)


def test_mirrored_images_of_the_training_split(tmp_path, photos, codec, small_parts):
    config = data(photos, flip=True)
    dataset = encode_dataset(config, latents(tmp_path), codec)
    flips = np.arange(17) % 3 == 0
    images = pixels(config)
    images[flips] = images[flips].flip(-1)
    assert_close(dataset.get(range(17), flips)[0], codec.encode(images), atol=1e-5, rtol=0)
    held_out = encode_dataset(config, latents(tmp_path), codec, "val")
    with pytest.raises(ConfigError, match=r"data\.flip: expected latents with mirrored images, found none"):
        held_out.get([0], np.array([True]))


def test_grey_images_for_a_one_channel_autoencoder_in_the_usual_place(tmp_path, photos, saved, monkeypatch):
    monkeypatch.delenv("DIT_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    codec = load_codec(saved(small_kl(in_channels=1, out_channels=1), "grey"))
    dataset = encode_dataset(data(photos), LatentsConfig(), codec)
    assert len(dataset) == 17
    assert dataset.folder.parent == tmp_path / ".cache" / "dit" / "latents"


def test_half_precision_storage(tmp_path, photos, codec):
    dataset = encode_dataset(data(photos), latents(tmp_path, storage="float16"), codec)
    moments = dataset.get(range(17))[0]
    assert moments.dtype == torch.float32
    assert_close(moments, codec.encode(pixels(data(photos))).half().float(), atol=2e-3, rtol=2e-3)


def test_the_cache_is_used_while_nothing_changes(tmp_path, photos, codec, saved, monkeypatch):
    config = latents(tmp_path)
    first = encode_dataset(data(photos), config, codec)
    other = small_kl()
    with torch.no_grad():
        other.encoder.conv_in.bias += 1
    folders = {
        first.folder,
        encode_dataset(data(photos), config, codec, "val").folder,
        encode_dataset(data(photos, flip=True), config, codec).folder,
        encode_dataset(data(photos, image_size=32), config, codec).folder,
        encode_dataset(data(photos), config, load_codec(saved(other, "other"))).folder,
    }
    assert len(folders) == 5
    assert all(folder.parent == tmp_path / "cache" for folder in folders)
    monkeypatch.setattr(codec, "encode", lambda _: pytest.fail("encoded again"))
    scaled = codec.with_normalisation([2.0] * 3, [1.0] * 3)  # is not in the moments
    again = encode_dataset(data(photos), config, scaled)
    assert again.folder == first.folder
    assert again.fingerprint == first.fingerprint


def test_latents_of_another_autoencoder_are_refused(tmp_path, photos, codec, saved):
    """D8."""
    folder = encode_dataset(data(photos), latents(tmp_path), codec).folder
    other = load_codec(saved(small_kl(act_fn="gelu"), "other"))
    found = encode_dataset(data(photos), latents(tmp_path), other).folder
    shutil.rmtree(folder)
    found.rename(folder)
    words = rf"fingerprint mismatch, .*vae='{codec.fingerprint}.*vae='{other.fingerprint}"
    with pytest.raises(DitError, match=words):
        encode_dataset(data(photos), latents(tmp_path), codec)


def test_broken_images_stop_and_leave_no_cache(tmp_path, photos, codec):
    """D1, D2."""
    (photos / "dog" / "003.jpg").write_bytes((photos / "dog" / "003.jpg").read_bytes()[:300])
    with pytest.raises(DitError, match=r"dog/003\.jpg: expected a whole image"):
        encode_dataset(data(photos, val_fraction=0), latents(tmp_path), codec)
    assert not list((tmp_path / "cache").glob("train-*"))


def test_broken_images_are_skipped_counted_and_listed_on_request(tmp_path, photos, codec, small_parts, capfd):
    (photos / "cat" / "001.jpg").write_bytes(b"")
    (photos / "dog" / "003.jpg").write_bytes((photos / "dog" / "003.jpg").read_bytes()[:300])
    config = data(photos, val_fraction=0, on_error="skip", max_skipped=0.1)
    dataset = encode_dataset(config, latents(tmp_path), codec)
    assert len(dataset) == 19
    assert dataset.labels.tolist() == [0] * 8 + [1] * 11
    assert [message.partition(": ")[0].rpartition("/")[2] for message in dataset.index.skipped] == [
        "001.jpg",
        "003.jpg",
    ]
    assert "skipped 2 images" in capfd.readouterr().err
    good = [i for i in range(21) if i not in (1, 9 + 3)]
    images = open_images(config)
    array = torch.from_numpy(np.stack([images.read(i) for i in good])).permute(0, 3, 1, 2).float() / 127.5 - 1
    assert_close(dataset.get(range(19))[0], codec.encode(array), atol=1e-5, rtol=0)
    with pytest.raises(DitError, match=r"data\.max_skipped: expected at most 5\.00% bad images, found 2 of 21"):
        encode_dataset(config.model_copy(update={"max_skipped": 0.05}), latents(tmp_path, storage="float16"), codec)


def test_a_finished_cache_is_held_to_the_policy_of_its_reader(tmp_path, photos, codec, small_parts, capfd):
    (photos / "cat" / "001.jpg").write_bytes(b"")
    lax = data(photos, val_fraction=0, on_error="skip", max_skipped=0.1)
    encode_dataset(lax, latents(tmp_path), codec)
    capfd.readouterr()
    encode_dataset(lax, latents(tmp_path), codec)
    assert "skipped 1 images" in capfd.readouterr().err
    with pytest.raises(DitError, match=r"data\.max_skipped: expected at most 1\.00% bad images, found 1"):
        encode_dataset(lax.model_copy(update={"max_skipped": 0.01}), latents(tmp_path), codec)
    with pytest.raises(DitError, match=r"001\.jpg.*1 bad images in all, listed in .*index\.json"):
        encode_dataset(lax.model_copy(update={"on_error": "stop"}), latents(tmp_path), codec)


def test_held_out_images_may_be_none(tmp_path, photos, codec):
    dataset = encode_dataset(data(photos, val_fraction=0), latents(tmp_path), codec, "val")
    assert len(dataset) == 0
    assert dataset.get([])[0].shape == (0, 6, 8, 8)


INTERRUPTED = """
import sys
import dit.latents.encode
from dit.data.config import DataConfig
from dit.latents.codec import load_codec
from dit.latents.config import LatentsConfig

dit.latents.encode.PART_BYTES = 8 * 6 * 8 * 8 * 4
source, vae, cache = sys.argv[1:]
data = DataConfig(source=source, image_size=16, val_fraction=0.0)
dit.latents.encode.encode_dataset(data, LatentsConfig(cache=cache, batch_size=4), load_codec(vae))
"""


def test_an_encoding_that_was_killed_is_finished_by_the_same_command(
    tmp_path, photos, codec, small_parts, monkeypatch, capsys
):
    """D12: after the second of three parts; the first two are not encoded again."""
    environment = os.environ | {"DIT_FAILPOINT": "encode:part-00001.safetensors:kill", "PYTHONPATH": os.getcwd()}
    arguments = [sys.executable, "-c", INTERRUPTED, str(photos), codec.folder.source, str(tmp_path / "cache")]
    ended = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    assert ended.returncode == -9, ended.stderr
    assert "failpoint fired" in ended.stderr
    assert not list((tmp_path / "cache").glob("train-*"))
    num_encoded = 0
    encode = codec.encode

    def counted(images):
        nonlocal num_encoded
        num_encoded += len(images)
        return encode(images)

    monkeypatch.setattr(codec, "encode", counted)
    monkeypatch.setattr("dit.display.LINE_SECONDS", -1)
    dataset = encode_dataset(data(photos, val_fraction=0), latents(tmp_path), codec)
    assert num_encoded == 21 - 16
    shown = [line.split(" images")[0] for line in capsys.readouterr().err.splitlines()]
    assert shown == [f"encode train: {count}/21" for count in (8, 16, 20, 21)]
    assert_close(dataset.get(range(21))[0], encode(pixels(data(photos, val_fraction=0))), atol=1e-5, rtol=0)
    assert sorted(path.name for path in (tmp_path / "cache").iterdir() if not path.name.endswith(".lock")) == [
        dataset.folder.name
    ]
    dataset.verify()


def test_a_full_disk_leaves_the_finished_parts(tmp_path, photos, codec, small_parts, monkeypatch):
    monkeypatch.setenv("DIT_FAILPOINT", "write:part-00001.safetensors:enospc")
    with pytest.raises(OSError, match="No space"):
        encode_dataset(data(photos), latents(tmp_path), codec)
    monkeypatch.delenv("DIT_FAILPOINT")
    assert len(encode_dataset(data(photos), latents(tmp_path), codec)) == 17


def test_a_second_process_waits_and_uses_what_the_first_made(tmp_path, photos, codec, monkeypatch):
    """The lock of a cache is held for a while; then the cache is there."""
    finished = encode_dataset(data(photos), latents(tmp_path), codec).folder
    hidden = finished.rename(tmp_path / "hidden")
    held = threading.Event()

    def other_process():  # locks belong to open files, so a thread that opens its own is as good as a process
        with dit.latents.encode._lock(finished):
            held.set()
            time.sleep(0.5)
            hidden.rename(finished)

    thread = threading.Thread(target=other_process)
    thread.start()
    assert held.wait(10)
    monkeypatch.setattr(codec, "encode", lambda _: pytest.fail("encoded again"))
    assert len(encode_dataset(data(photos), latents(tmp_path), codec)) == 17
    thread.join()
