"""ImageNet's classes against the lists that timm carries."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from dit.data.config import DataConfig
from dit.data.imagenet import imagenet_classes, in_words, is_imagenet
from dit.data.images import open_images
from tests.data.pictures import encoded, noise


@pytest.fixture(scope="module")
def synsets() -> dict[str, str]:
    """Return id -> names of the 1000 classes."""
    spec = find_spec("timm")
    folder = Path((spec and spec.origin) or "").parent / "data" / "_info"
    lines = (folder / "imagenet_synset_to_lemma.txt").read_text().splitlines()
    names = dict(line.split("\t") for line in lines)
    return {key: names[key] for key in (folder / "imagenet_synsets.txt").read_text().split()}


def test_imagenet_has_a_thousand_different_names_in_the_usual_order(synsets):
    names = imagenet_classes()
    assert len(set(names)) == len(names) == 1000
    assert (names[0], names[207], names[360], names[980]) == ("tench", "golden retriever", "otter", "volcano")
    assert is_imagenet(names)
    assert is_imagenet(list(synsets.values()))
    assert not is_imagenet(sorted(synsets.values()))
    assert not is_imagenet(names[:999])


def test_synset_ids_are_put_in_words(synsets):
    ids = tuple(synsets)
    assert in_words(ids) == tuple(imagenet_classes())
    assert in_words(ids[1:]) == ids[1:]
    assert in_words(("cat", "dog")) == ("cat", "dog")


def test_folders_by_synset_id_are_recognised(tmp_path, synsets):
    picture = encoded(noise(8, 8), "JPEG")
    for name in synsets:
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / f"{name}_1.JPEG").write_bytes(picture)
    images = open_images(DataConfig(source=str(tmp_path), image_size=8, val_fraction=0))
    assert images.class_names == tuple(imagenet_classes())
    assert images.labels.tolist() == list(range(1000))
