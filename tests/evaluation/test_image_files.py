import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from dit.errors import ConfigError, DitError
from dit.evaluation.image_files import open_image_files

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 6, 5, 3), dtype=np.uint8)


def png(image, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format=kind)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Numbered without leading zeros: 10.png comes behind 9.png."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number, image in enumerate(IMAGES):
        (folder / f"{number}.png").write_bytes(png(image))
    (folder / "sampling.json").write_text("{}")
    return folder


def all_of(images, batch_size=5):
    batches = list(images.batches(batch_size))
    assert {len(batch) for batch in batches[:-1]} <= {batch_size}
    return np.concatenate(batches)


def test_a_folder_a_tar_and_an_npz_hold_the_same_images_in_their_order(folder, tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for path in sorted(folder.glob("*.png"), reverse=True):
            archive.add(path, path.name)
    np.savez(tmp_path / "x.npz", IMAGES)
    for source in (folder, tmp_path / "x.tar", tmp_path / "x.npz"):
        found = open_image_files(source)
        assert (found.num, found.size, found.labels) == (12, (6, 5), None)
        np.testing.assert_array_equal(all_of(found), IMAGES)
    assert open_image_files(folder).sha256 == open_image_files(tmp_path / "x.tar").sha256
    (folder / "3.png").write_bytes(png(IMAGES[0]))
    assert open_image_files(folder).sha256 != open_image_files(tmp_path / "x.tar").sha256


@pytest.mark.parametrize("names", [("arr_0", "arr_1"), ("images", "labels")])
def test_labels_come_with_the_images(folder, tmp_path, names):
    labels = list(range(6)) * 2
    np.savez(tmp_path / "x.npz", **dict(zip(names, (IMAGES, np.array(labels)), strict=True)))
    assert open_image_files(tmp_path / "x.npz").labels.tolist() == labels
    (folder / "labels.json").write_text(json.dumps({f"{i}.png": label for i, label in enumerate(labels)}))
    (folder / "sampling.json").write_text(json.dumps({"seed": 5, "labels": labels}))
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for path in folder.iterdir():
            archive.add(path, path.name)
    for source in (folder, tmp_path / "x.tar"):
        found = open_image_files(source)
        assert (found.labels.tolist(), found.about) == (labels, {"seed": 5})
    (folder / "labels.json").write_text('{"0.png": 1}')
    with pytest.raises(DitError, match=r"expected a class for each image in labels\.json"):
        open_image_files(folder)
    (folder / "labels.json").write_text("[")
    with pytest.raises(DitError, match=r"expected labels\.json in JSON"):
        open_image_files(folder)
    others = (np.zeros(3, int), np.zeros(12), np.full(12, np.nan), np.array(["three"] * 12))
    for labels in others:
        np.savez(tmp_path / "y.npz", **dict(zip(names, (IMAGES, labels), strict=True)))
        with pytest.raises(DitError, match=rf"expected {names[1]} \(12,\) whole numbers, found {labels.dtype}"):
            open_image_files(tmp_path / "y.npz")


def test_grey_images_become_rgb(tmp_path):
    np.savez(tmp_path / "x.npz", IMAGES[..., :1])
    found = all_of(open_image_files(tmp_path / "x.npz"))
    np.testing.assert_array_equal(found, np.repeat(IMAGES[..., :1], 3, axis=3))


def test_jpegs_are_refused_unless_asked_for(folder):
    (folder / "3.png").unlink()
    (folder / "3.jpg").write_bytes(png(IMAGES[3], "JPEG"))
    with pytest.raises(ConfigError, match=r"expected PNGs, found 3\.jpg: lossy .*--allow_jpeg"):
        open_image_files(folder)
    assert open_image_files(folder, allow_jpeg=True).num == 12
    (folder / "3.jpg").rename(folder / "3.png")  # by another name too
    with pytest.raises(DitError, match=r"3\.png: expected what its name says, a whole PNG or JPEG, found another file"):
        all_of(open_image_files(folder))


def test_an_image_of_another_size_or_broken_is_named(folder):
    (folder / "7.png").write_bytes(png(IMAGES[7][:4]))
    with pytest.raises(DitError, match=r"7\.png: expected 6 x 5 pixels as the first image, found 4 x 5"):
        all_of(open_image_files(folder))
    (folder / "7.png").write_bytes(png(IMAGES[7])[:60])
    with pytest.raises(DitError, match=r"7\.png: expected a whole PNG, found a broken one"):
        all_of(open_image_files(folder))


def test_what_holds_no_images_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", IMAGES.astype(np.float32))
    with pytest.raises(DitError, match=r"expected arr_0 uint8 \(N, height, width, 3\), found float32"):
        open_image_files(tmp_path / "x.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DitError, match="expected PNGs, found none"):
        open_image_files(tmp_path / "empty")
    (tmp_path / "text").write_text("x")
    with pytest.raises(ConfigError, match=r"expected an \.npz, a folder or a tar of PNGs"):
        open_image_files(tmp_path / "text")
