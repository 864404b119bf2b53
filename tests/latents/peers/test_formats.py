"""Latents of others: their numbers come out as they were written, and what could run code is refused."""

import json
import pickle
import re

import numpy as np
import pytest
import torch

from dit.errors import DitError
from dit.latents.dataset import LatentDataset
from dit.latents.peers.formats import open_peer
from tests.latents.peers.writers import (
    edm_files,
    write_fast_dit,
    write_folder,
    write_lightningdit,
    write_zip,
)
from tests.zoo.conftest import CreatesFile

N = 11
LABELS = torch.arange(N) % 3


def latents(seed: int = 0) -> torch.Tensor:
    return torch.randn(N, 2, 4, 4, generator=torch.Generator().manual_seed(seed))


def opened(path) -> LatentDataset:
    peer = open_peer(path)
    assert peer is not None
    return LatentDataset(path, peer.index, peer.open_part)


ROWS = [10, 0, 5, 4, 5]


def test_fast_dit_stores_scaled_draws(tmp_path):
    dataset = opened(write_fast_dit(tmp_path / "features", latents(), LABELS))
    assert (len(dataset), dataset.latents_shape, dataset.moments_shape) == (N, (2, 4, 4), (2, 4, 4))
    moments, labels = dataset.get(ROWS)
    # one rounding of a product and one of a quotient in float32
    torch.testing.assert_close(moments, latents()[ROWS], rtol=2.4e-7, atol=0)
    assert labels.tolist() == dataset.labels[ROWS].tolist() == LABELS[ROWS].tolist()
    assert dataset.class_names == ("0", "1", "2")


@pytest.mark.parametrize("storage", [torch.float32, torch.bfloat16])
def test_lightningdit_stores_draws_of_both_views(tmp_path, storage):
    both = [latents(seed).to(storage) for seed in (0, 1)]
    folder = write_lightningdit(tmp_path / "x", both[0], LABELS, both[1], statistics=(torch.ones(2), torch.rand(2) + 1))
    dataset = opened(folder)
    flips = np.array([True, False, False, True, True])
    moments, labels = dataset.get(ROWS, flips)
    assert torch.equal(moments, torch.stack(both, 1)[ROWS, torch.from_numpy(flips).long()].float())
    assert labels.tolist() == LABELS[ROWS].tolist()
    assert dataset.part_sizes.tolist() == [4, 4, 3]
    mean, std = open_peer(folder).statistics
    assert mean.tolist() == [1, 1]
    assert (std > 1).all()


@pytest.mark.parametrize("place", ["folder", "vae-sd", "zip"])
@pytest.mark.parametrize("stem", ["img-mean-std-", "img"])
def test_edm_stores_mean_and_deviation(tmp_path, place, stem):
    mean, std = latents(), latents(1).abs()
    std[3, 0, 0, 0] = 0
    files = edm_files(mean, std, LABELS, stem)
    if place == "zip":
        path = write_zip(tmp_path / "latents.zip", files)
    else:
        path = tmp_path / "data"
        write_folder(path / "vae-sd" if place == "vae-sd" else path, files)
    dataset = opened(path)
    moments, labels = dataset.get(ROWS)
    assert torch.equal(moments[:, :2], mean[ROWS])
    torch.testing.assert_close((moments[:, 2:] / 2).exp(), std[ROWS], rtol=1e-6, atol=1e-6)
    assert labels.tolist() == LABELS[ROWS].tolist()
    assert dataset.moments_shape == (4, 4, 4)
    assert dataset.get([3])[0][0, 2, 0, 0] == -30  # a deviation of 0 is the least that an autoencoder has


def test_maskdit_stores_mean_and_log_variance(tmp_path):
    moments = latents(), latents(1) - 5
    dataset = opened(write_zip(tmp_path / "latents.zip", edm_files(*moments, LABELS, "img")))
    assert torch.equal(dataset.get(ROWS)[0], torch.cat(moments, 1)[ROWS])
    with pytest.raises(DitError, match=r"img-mean-std-000000\d\d.npy: expected standard deviations, found a negative"):
        opened(write_zip(tmp_path / "named.zip", edm_files(*moments, LABELS))).get(ROWS)


def test_latents_without_labels(tmp_path):
    dataset = opened(write_folder(tmp_path / "x", edm_files(latents(), latents().abs(), None)))
    assert (dataset.num_classes, dataset.labels.tolist()) == (0, [0] * N)


def test_a_thousand_classes_are_called_by_the_names_of_imagenet(tmp_path, capsys):
    labels = LABELS.clone()
    labels[0] = 999
    dataset = opened(write_fast_dit(tmp_path / "x", latents(), labels, prefix=""))
    assert dataset.class_names[:2] == ("tench", "goldfish")
    assert "its 1000 classes are taken for ImageNet's" in capsys.readouterr().err


def test_other_folders_are_no_latents(tmp_path):
    assert open_peer(tmp_path) is None
    (tmp_path / "features").mkdir()
    (tmp_path / "labels").mkdir()
    (tmp_path / "dataset.json").write_text("{}")
    (tmp_path / "weights.safetensors").write_bytes(b"junk")
    assert open_peer(tmp_path) is None
    assert open_peer(write_zip(tmp_path / "images.zip", {"dataset.json": b"{}", "0.png": b""})) is None


# --- bad input --------------------------------------------------------------------------------------------------------


def test_c8_pickles_are_not_executed(tmp_path):
    sentinel = tmp_path / "sentinel"
    code = np.array([CreatesFile(sentinel)], dtype=object)
    folder = write_fast_dit(tmp_path / "fast", latents(), LABELS)
    for path in (folder / "imagenet256_labels" / "0.npy", folder / "imagenet256_features" / "3.npy"):
        whole = path.read_bytes()
        np.save(path, code, allow_pickle=True)
        with pytest.raises(DitError, match=rf"{path}: expected a .npy file of numbers, found object, of which"):
            opened(folder).get([3])
        path.write_bytes(pickle.dumps(CreatesFile(sentinel)))
        with pytest.raises(DitError, match=rf"{path}: expected a .npy file of numbers, found the magic string"):
            opened(folder).get([3])
        path.write_bytes(whole)
    shards = write_lightningdit(tmp_path / "lightning", latents(), LABELS)
    torch.save({"mean": torch.zeros(2), "std": CreatesFile(sentinel)}, shards / "latents_stats.pt")
    holds = f"it holds {open.__module__}.open, which could run"  # io in Python 3.11, _io in 3.13
    with pytest.raises(DitError, match=rf"latents_stats\.pt: it was not loaded, for {holds}"):
        opened(shards)
    assert not sentinel.exists()


@pytest.mark.parametrize("name", ["../outside.npy", "/etc/outside.npy", "a/../../outside.npy"])
def test_d11_members_outside_of_the_archive_are_refused(tmp_path, name):
    files = edm_files(latents(), latents().abs(), LABELS)
    path = write_zip(tmp_path / "x.zip", files | {name: b""})
    with pytest.raises(DitError, match=rf"x\.zip: refused its member '{re.escape(name)}'"):
        opened(path)


def test_a_member_that_says_it_is_huge_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("dit.latents.peers.npy.MEMBER_BYTES", 100)
    with pytest.raises(DitError, match="of 384 bytes: expected files of at most 100 bytes"):
        opened(write_zip(tmp_path / "x.zip", edm_files(latents(), latents().abs(), LABELS)))


@pytest.mark.parametrize("kind", ["fast", "edm", "zip"])
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (np.zeros((1, 2, 4, 5), np.float32), "expected an array .*, found .*5"),
        (np.full((4, 4, 4), np.nan, np.float32), "NaN"),
        (b"", "expected a .npy file of numbers"),
        (-20, "expected a .npy file of numbers"),
        (np.array(["text"]), "expected a .npy file of numbers, found <U4"),
    ],
)
def test_bad_files_are_named(tmp_path, kind, content, problem):
    def bad(whole):
        if isinstance(content, np.ndarray):
            array = content.reshape(1, 4, 4, 4)[:, :2] if kind == "fast" and content.size == 64 else content
            np.save(tmp_path / "bad.npy", array)
            return (tmp_path / "bad.npy").read_bytes()
        return whole[:content] if isinstance(content, int) else content

    if kind == "fast":
        path = write_fast_dit(tmp_path / "x", latents(), LABELS)
        file, name = path / "imagenet256_features" / "7.npy", "7.npy"
        file.write_bytes(bad(file.read_bytes()))
    else:
        name = "00002/img-mean-std-00000007.npy"
        files = edm_files(latents(), latents().abs(), LABELS)
        files[name] = bad(files[name])
        path = write_folder(tmp_path / "x", files) if kind == "edm" else write_zip(tmp_path / "x.zip", files)
    dataset = opened(path)
    assert dataset.get([6, 8])[1].tolist() == [0, 2]
    with pytest.raises(DitError, match=rf"{name}: .*{problem}"):
        dataset.get([6, 7])


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ("{", "expected labels as"),
        ("{}", "expected labels as"),
        ('{"labels": 3}', "expected labels as"),
        (
            '{"labels": [["00000/img-mean-std-00000000.npy", 1]]}',
            "as the label of 00000/img-mean-std-00000001.npy, fou",
        ),
    ],
)
def test_d4_missing_labels_are_named(tmp_path, labels, problem):
    folder = write_folder(tmp_path / "x", edm_files(latents(), latents().abs(), LABELS))
    (folder / "dataset.json").write_text(labels)
    with pytest.raises(DitError, match=rf"dataset\.json: .*{problem}"):
        opened(folder)


@pytest.mark.parametrize("label", [-1, 10**12])
def test_d4_labels_out_of_range_are_refused(tmp_path, label):
    labels = LABELS.clone()
    labels[4] = label
    with pytest.raises(DitError, match=rf"expected labels in 0\.\.99999, found .*{label}"):
        opened(write_lightningdit(tmp_path / "x", latents(), labels))


def test_a_feature_without_a_label_is_named(tmp_path):
    folder = write_fast_dit(tmp_path / "x", latents(), LABELS)
    (folder / "imagenet256_labels" / "5.npy").unlink()
    with pytest.raises(DitError, match=r"imagenet256_labels/5\.npy: expected a file that can be read, found No such"):
        opened(folder)


@pytest.mark.parametrize("length", [0, 7, -1])
def test_d5_a_shard_cut_short_is_named(tmp_path, length):
    folder = write_lightningdit(tmp_path / "x", latents(), LABELS)
    path = folder / "latents_rank00_shard001.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DitError, match=r"shard001\.safetensors: expected a shard of latents, found"):
        opened(folder)


def test_shards_that_do_not_fit_together_are_refused(tmp_path):
    folder = write_lightningdit(tmp_path / "x", latents(), LABELS)
    write_lightningdit(tmp_path / "y", latents(), LABELS, latents(1), shard=20)
    first = folder / "latents_rank00_shard000.safetensors"
    (tmp_path / "y" / first.name).rename(folder / "z.safetensors")
    with pytest.raises(DitError, match=r"z\.safetensors: expected latents \(2, 4, 4\) with mirrored images False, as"):
        opened(folder)


def test_d9_numbers_that_are_not_finite_name_the_shard(tmp_path):
    z = latents()
    z[6, 1, 2, 3] = torch.inf
    dataset = opened(write_lightningdit(tmp_path / "x", z, LABELS))
    with pytest.raises(DitError, match=r"shard001\.safetensors: expected finite latents, found NaN or infinity at ind"):
        dataset.get([6])


@pytest.mark.parametrize(
    "content", [{"mean": torch.zeros(2)}, {"mean": torch.zeros(2), "std": torch.zeros(2)}, [1], {"mean": 1, "std": 2}]
)
def test_bad_statistics_are_refused(tmp_path, content):
    folder = write_lightningdit(tmp_path / "x", latents(), LABELS)
    torch.save(content, folder / "latents_stats.pt")
    with pytest.raises(DitError, match=r"latents_stats\.pt: expected"):
        opened(folder)


def test_the_fingerprint_follows_the_content(tmp_path):
    files = edm_files(latents(), latents().abs(), LABELS)
    folder = write_folder(tmp_path / "x", files)
    before = opened(folder).fingerprint
    assert opened(write_folder(tmp_path / "y", files)).fingerprint == before
    labels = json.loads(files["dataset.json"])
    labels["labels"][0][1] = 1
    (folder / "dataset.json").write_text(json.dumps(labels))
    assert opened(folder).fingerprint != before
