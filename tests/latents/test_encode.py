import multiprocessing
import os
import shutil
import sys
import time
import warnings

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import dit.latents.part_encoder
import dit.latents.plan
from dit.data.config import DataConfig
from dit.data.images import open_images
from dit.errors import ConfigError, DitError, Preempted
from dit.latents.claims import Claims
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
    """Let a part hold two batches of four images."""
    monkeypatch.setattr(dit.latents.plan, "PART_ROWS", 8)


@pytest.fixture
def small_workers(monkeypatch):
    """Let worker processes read, few as the images are."""
    monkeypatch.setattr(dit.latents.part_encoder, "WORTHWHILE", 1)


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


@pytest.mark.parametrize("num_workers", [0, 2])
def test_broken_images_are_skipped_counted_and_listed_on_request(
    tmp_path, photos, codec, small_parts, small_workers, capfd, num_workers
):
    (photos / "cat" / "001.jpg").write_bytes(b"")
    (photos / "dog" / "003.jpg").write_bytes((photos / "dog" / "003.jpg").read_bytes()[:300])
    config = data(photos, val_fraction=0, on_error="skip", max_skipped=0.1, num_workers=num_workers)
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


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def in_processes(count, function, *arguments) -> list[int | None]:
    """Run a function in forks of this process, and return their exit codes."""
    children = [multiprocessing.get_context("fork").Process(target=function, args=arguments) for _ in range(count)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other tests may have left threads, which these forks do without
        for child in children:
            child.start()
    for child in children:
        child.join(60)
    return [child.exitcode for child in children]


def test_bytes_depend_neither_on_processes_nor_on_kills(
    tmp_path, photos, codec, small_parts, small_workers, monkeypatch
):
    """D12: killed with a part half done, and both of two processes with it whole but not reported."""
    (photos / "dog" / "003.jpg").write_bytes(b"")
    config = data(photos, flip=True, val_fraction=0, on_error="skip", max_skipped=0.1, num_workers=0)
    expected = encode_dataset(config, latents(tmp_path / "1"), codec).folder
    monkeypatch.setattr(dit.latents.part_encoder, "SAVE_SECONDS", -1)  # after every batch
    caches = tmp_path / "2" / "cache"
    for count, killed in (1, "00000:begun"), (2, "00001:whole"):
        monkeypatch.setenv("DIT_FAILPOINT", f"encode:part-{killed}:kill")
        assert in_processes(count, encode_dataset, config, latents(tmp_path / "2"), codec) == [-9] * count
        assert not list(caches.glob("train-*"))
    (working,) = caches.glob(".tmp-train-*")
    (working / ".tmp-part-00002.safetensors.1").write_bytes(b"half")  # as of one that was killed while it wrote
    monkeypatch.delenv("DIT_FAILPOINT")
    several = config.model_copy(update={"num_workers": 2})
    assert in_processes(2, encode_dataset, several, latents(tmp_path / "2"), codec) == [0, 0]
    assert [path.name for path in caches.iterdir() if not path.name.endswith(".lock")] == [expected.name]
    assert contents(caches / expected.name) == contents(expected)
    monkeypatch.setattr(codec, "encode", lambda _: pytest.fail("encoded again"))
    encode_dataset(several, latents(tmp_path / "2"), codec).verify()


def test_a_part_belongs_to_one_process_until_it_ends(tmp_path):
    def child():
        with Claims(tmp_path / "lock") as claims:
            found = [claims.take(number) for number in range(3)]
        sys.exit(sum(2**number for number, is_taken in enumerate(found) if is_taken))

    with Claims(tmp_path / "lock") as claims:
        assert [claims.take(0), claims.take(1)] == [True, True]
        assert in_processes(1, child) == [0b100]
        claims.release(1)
        assert in_processes(1, child) == [0b110]


def test_a_process_waits_for_the_parts_of_others(tmp_path, photos, codec, small_parts):
    finished = encode_dataset(data(photos), latents(tmp_path), codec).folder
    before = contents(finished)
    shutil.rmtree(finished)
    held = multiprocessing.get_context("fork").Event()

    def other():
        with Claims(finished.parent / f".{finished.name}.lock") as claims:
            claims.take(0)
            held.set()
            time.sleep(0.5)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        process = multiprocessing.get_context("fork").Process(target=other)
        process.start()
    assert held.wait(10)
    encode_dataset(data(photos), latents(tmp_path), codec)
    assert contents(finished) == before
    process.join()


def test_a_signal_keeps_what_was_encoded(tmp_path, photos, codec, small_parts, monkeypatch, capsys):
    config, encode, counted = data(photos, val_fraction=0), codec.encode, []

    def interrupted(images):
        counted.append(len(images))
        if len(counted) == 3:
            os.kill(os.getpid(), 15)
        return encode(images)

    monkeypatch.setattr(codec, "encode", interrupted)
    with pytest.raises(Preempted, match="stopped by SIGTERM with 12 of 21 images encoded; the same command goes on"):
        encode_dataset(config, latents(tmp_path), codec)
    monkeypatch.setattr("dit.display.LINE_SECONDS", -1)
    dataset = encode_dataset(config, latents(tmp_path), codec)
    assert counted == [4] * 6  # the last one is filled up
    shown = [line.split(" images")[0] for line in capsys.readouterr().err.splitlines()]
    assert list(dict.fromkeys(shown)) == [f"encode train: {count}/21" for count in (16, 20, 21)]
    assert_close(dataset.get(range(21))[0], encode(pixels(config)), atol=1e-5, rtol=0)


def test_a_full_disk_says_what_is_missing_and_keeps_finished_parts(tmp_path, photos, codec, small_parts, monkeypatch):
    monkeypatch.setenv("DIT_FAILPOINT", "write:part-00001.safetensors:enospc")
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1000))
    words = r"the disk is full; 8 of 17 images are encoded and stay valid, 12\.8 kB are missing for the rest"
    with pytest.raises(DitError, match=words):  # 9 images of 6 x 8 x 8 float32, but for what is free
        encode_dataset(data(photos), latents(tmp_path), codec)
    monkeypatch.delenv("DIT_FAILPOINT")
    assert len(encode_dataset(data(photos), latents(tmp_path), codec)) == 17


def test_another_batch_size_begins_anew_but_takes_what_is_finished(tmp_path, photos, codec, small_parts, monkeypatch):
    monkeypatch.setenv("DIT_FAILPOINT", "encode:part-00001:whole:raise")
    with pytest.raises(RuntimeError, match="injected"):
        encode_dataset(data(photos), latents(tmp_path), codec)
    monkeypatch.delenv("DIT_FAILPOINT")
    dataset = encode_dataset(data(photos), latents(tmp_path, batch_size=3), codec)
    assert dataset.index.identity.batch_size == 3
    assert encode_dataset(data(photos), latents(tmp_path), codec).index == dataset.index


def test_a_moment_that_is_not_finite_names_the_image(tmp_path, photos, codec, monkeypatch):
    """D9."""
    encode = codec.encode
    monkeypatch.setattr(codec, "encode", lambda images: encode(images) * 1e6)
    with pytest.raises(DitError, match=r"cat/\d+\.jpg: expected finite latents, .* float32 and stored in float16"):
        encode_dataset(data(photos), latents(tmp_path, storage="float16"), codec)


@pytest.mark.parametrize(("fields", "error"), [({"storage": "bfloat16"}, 2**-8), ({"precision": "bfloat16"}, 0.02)])
def test_half_precisions_have_caches_of_their_own(tmp_path, photos, codec, fields, error):
    """Rounding to eight bits errs by 2^-9 and at most 2^-8 of a value; arithmetic in it by a few of these."""
    exact = encode_dataset(data(photos), latents(tmp_path), codec)
    dataset = encode_dataset(data(photos), latents(tmp_path, **fields), codec)
    assert dataset.folder != exact.folder
    difference = dataset.get(range(17))[0] - exact.get(range(17))[0]
    assert 0 < difference.norm() < error * exact.get(range(17))[0].norm()
