import numpy as np
import pytest
from PIL import Image

from dit.data.config import DataConfig
from dit.data.images import open_images
from dit.data.mnist import mnist_images
from dit.errors import DitError
from tests.data.pictures import encoded, noise, write_folder


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "photos", {"cat": 10, "dog": 20}, suffix=".png")


def config(folder, **fields) -> DataConfig:
    return DataConfig(**({"source": str(folder), "image_size": 16} | fields))


@pytest.mark.parametrize("split", ["train", "val"])
def test_mnist(split):
    images = open_images(DataConfig(image_size=32), split)
    pixels, labels = mnist_images(split)
    assert images.class_names == tuple("0123456789")
    np.testing.assert_array_equal(images.labels, labels)
    np.testing.assert_array_equal(images.read(5)[:, :, 0], pixels[5])


def test_held_out_images_are_a_share_of_every_class_and_not_trained_on(folder):
    train, val = (open_images(config(folder, val_fraction=0.2), split) for split in ("train", "val"))
    assert train.class_names == val.class_names == ("cat", "dog")
    assert np.bincount(train.labels).tolist() == [8, 16]
    assert np.bincount(val.labels).tolist() == [2, 4]
    pixels = [source.read(i).tobytes() for source in (train, val) for i in range(len(source))]
    assert len(set(pixels)) == 30


def test_labels_belong_to_their_images(folder):
    for split in ("train", "val"):
        images = open_images(config(folder, val_fraction=0.3, image_size=20), split)
        for i in range(len(images)):
            number = images.labels[i]
            candidates = [noise(20, 24, seed=1000 * number + k) for k in range(20)]
            assert any((np.asarray(image)[:, 2:22] == images.read(i)).all() for image in candidates)


def test_a_held_out_split_of_the_source_is_used_whole_and_shuffled(tmp_path):
    write_folder(tmp_path / "train", {"a": 5, "b": 5})
    write_folder(tmp_path / "val", {"b": 20, "a": 20})
    train, val = (open_images(config(tmp_path, val_fraction=0.5), split) for split in ("train", "val"))
    assert (len(train), len(val)) == (10, 40)
    assert 5 <= val.labels[:20].sum() <= 15
    assert train.labels.tolist() == [0] * 5 + [1] * 5


def test_a_broken_image_is_named_when_it_is_read(folder):
    """D1, D2."""
    (folder / "cat" / "000.png").write_bytes(encoded(noise(50, 50), "PNG")[:500])
    (folder / "cat" / "001.png").write_bytes(b"")
    images = open_images(config(folder, val_fraction=0))
    with pytest.raises(DitError, match=r"photos/cat/000\.png: expected a whole image"):
        images.read(0)
    with pytest.raises(DitError, match=r"photos/cat/001\.png: expected an image, found an empty file"):
        images.read(1)
    (folder / "cat" / "002.png").unlink()
    with pytest.raises(DitError, match=r"photos/cat/002\.png: expected an image, found No such file"):
        images.read(2)
    assert images.read(3).shape == (16, 16, 3)


def test_fingerprint_follows_the_content_and_not_the_place(folder, tmp_path):
    def fingerprint(source=folder, split="train", channels=None, **fields):
        return open_images(config(source, **fields), split, channels=channels).fingerprint

    first = fingerprint()
    folder.rename(tmp_path / "moved")
    folder = tmp_path / "moved"
    assert fingerprint(folder) == first
    others = [
        fingerprint(folder, "val"),
        fingerprint(folder, image_size=24),
        fingerprint(folder, channels=1),
        fingerprint(folder, val_fraction=0.3),
        fingerprint(folder, split_seed=1),
        fingerprint(folder, label_column=None),
    ]
    pixels = np.asarray(Image.open(folder / "cat" / "000.png")).copy()
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(folder / "cat" / "000.png")
    others.append(fingerprint(folder))
    (folder / "dog" / "000.png").rename(folder / "cat" / "new.png")
    others.append(fingerprint(folder))
    assert len({first, *others}) == len(others) + 1


def test_too_many_bad_labels_stop_after_all(tmp_path):
    from datasets import Dataset

    from tests.data.test_sources import table

    whole = table(10).to_dict() | {"label": [0, 1] * 4 + [None, -1]}
    Dataset.from_dict(whole, features=table().features).save_to_disk(str(tmp_path / "x"))
    fields = {"on_error": "skip", "val_fraction": 0.0, "image_size": 9}
    images = open_images(config(tmp_path / "x", **fields, max_skipped=0.2))
    assert len(images) == 8
    assert len(images.rejected) == 2
    with pytest.raises(DitError, match=r"data\.max_skipped: expected at most 10\.00% bad labels, found 2 in 10 images"):
        open_images(config(tmp_path / "x", **fields, max_skipped=0.1))


def test_a_limit_spreads_evenly_over_the_classes(tmp_path):
    folder = write_folder(tmp_path / "images", {"cat": 6, "dog": 3})
    config = DataConfig(source=str(folder), image_size=16, val_fraction=0)
    whole, some = open_images(config), open_images(config.model_copy(update={"limit": 6}))
    chosen = [0, 1, 3, 4, 6, 7]
    assert some.labels.tolist() == whole.labels[chosen].tolist() == [0] * 4 + [1] * 2
    assert [some.name(row) for row in range(6)] == [whole.name(row) for row in chosen]
    np.testing.assert_array_equal(some.read(5), whole.read(7))
    assert some.fingerprint != whole.fingerprint
    assert open_images(config.model_copy(update={"limit": 9})).fingerprint == whole.fingerprint
