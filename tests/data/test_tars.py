import io
import json
import pickle
import tarfile

import numpy as np
import pytest

from dit.data.config import DataConfig
from dit.data.images import open_images
from dit.errors import DitError
from tests.data.pictures import encoded, noise

CSV = b"file_name,label\n0.png,3\n1.png,1\n"


def png(seed: int) -> bytes:
    return encoded(noise(9, 9, seed=seed), "PNG")


def write_tar(path, members: dict[str, bytes], mode="w"):
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def opened(source, split="train", **fields):
    return open_images(DataConfig(**{"source": str(source), "image_size": 9, "val_fraction": 0.0} | fields), split)


@pytest.mark.parametrize(
    ("members", "fields", "labels"),
    [
        ({"0.cls": b"3", "1.cls": b"1"}, {}, [3, 1]),
        ({"0.txt": b"b\n", "1.txt": b"a"}, {"label_column": "txt"}, [1, 0]),
        ({"0.json": b'{"label": 3, "w": [9]}', "1.json": b'{"label": 1, "w": 9}'}, {}, [3, 1]),
        ({"0.json": b'{"a": 1, "b": 3}', "1.json": b'{"b": 1}'}, {"label_column": "json.b"}, [3, 1]),
        ({"0.json": b"3", "1.json": b"1"}, {"label_column": "json"}, [3, 1]),
        ({"labels.csv": CSV}, {}, [3, 1]),
        ({"metadata.jsonl": b'{"file_name": "1.png", "label": 1}\n{"file_name": "0.png", "label": 3}\n'}, {}, [3, 1]),
        ({"labels.json": json.dumps({"0.png": "b", "1.png": "a"}).encode()}, {}, [1, 0]),
        ({"labels.json": json.dumps([{"file_name": f"{i}.png", "age": i} for i in (1, 0)]).encode()},
         {"label_column": "age"}, [0, 1]),
    ],
)  # fmt: skip
def test_labels_in_an_archive(tmp_path, members, fields, labels):
    path = write_tar(tmp_path / "tars" / "a.tar", {"0.png": png(0), "1.png": png(1)} | members)
    for source in (path, path.parent):
        images = opened(source, **fields)
        assert images.labels.tolist() == labels
        np.testing.assert_array_equal(images.read(1), np.asarray(noise(9, 9, seed=1)))


def test_labels_beside_an_archive_and_splits_by_name(tmp_path):
    write_tar(tmp_path / "train-0.tar", {"./deep/0.png": png(0)})
    write_tar(tmp_path / "val-0.tar", {"deep/1.png": png(1)})
    (tmp_path / "metadata.csv").write_bytes(b"file_name,label\ndeep/0.png,0\n1.png,0\n")
    for split, seed in (("train", 0), ("val", 1)):
        images = opened(tmp_path, split)
        assert images.labels.tolist() == [0]
        np.testing.assert_array_equal(images.read(0), np.asarray(noise(9, 9, seed=seed)))


def test_folders_in_an_archive_are_classes_and_suffixes_may_differ(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"dog/0.png": png(0), "cat/0.jpg": encoded(noise(9, 9), "JPEG")})
    assert (opened(path).class_names, opened(path).labels.tolist()) == (("cat", "dog"), [1, 0])


def test_a_compressed_archive_of_samples(tmp_path):
    path = tmp_path / "a.tar.gz"
    samples = {"0.png": png(0), "0.json": b'{"label": 3}', "1.png": png(1), "1.json": b'{"label": 1}'}
    images = opened(write_tar(path, samples, "w:gz"))
    assert images.labels.tolist() == [3, 1]
    np.testing.assert_array_equal(images.read(1), np.asarray(noise(9, 9, seed=1)))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DitError, match=r"^[^\n]*a\.tar\.gz"):
        opened(path)


class Sentinel:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("name", ["/x.png", "a/../../x.png", "0.pkl", "0.npy"])
def test_dangerous_members_are_refused(tmp_path, name, mode):
    """D11."""
    path = write_tar(tmp_path / "x.tar", {name: pickle.dumps(Sentinel(tmp_path / "executed"))}, mode)
    with pytest.raises(DitError, match="refused its member"):
        opened(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({}, "expected images, found none"),
        ({"0.png": b"", "0.cls": b"x"}, r"0\.cls: expected a label in UTF-8, found"),
        ({"0.png": b"", "0.txt": b"k\xe4"}, r"0\.txt: expected a label in UTF-8, found"),
        ({"0.png": b"", "labels.csv": b"file_name,label\n0.png,k\xe4"}, r"labels\.csv: expected a table of"),
        ({"0.png": b"", "labels.csv": b"name,label\n0.png,k"}, r"labels\.csv: expected rows with file_name"),
        ({"0.png": b"", "0.cls": b"1", "1.png": b""}, r"record 1: label: expected .* found None"),
        ({"0.png": b""}, "expected one of the columns png, found 'label'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, members, problem):
    with pytest.raises(DitError, match=problem) as caught:
        opened(write_tar(tmp_path / "x.tar", members))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [0, 300, 1000, 1700, 2048, 2300])
def test_an_archive_cut_short_is_named(tmp_path, cut):
    """In data, in a header, and between two files: the first sample is whole in the last two."""
    path = write_tar(tmp_path / "x.tar", {"0.cls": b"1", "0.png": png(0), "1.cls": b"1", "1.png": png(1)})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DitError, match=r"^[^\n]*x\.tar: expected a whole tar archive"):
        opened(path)
