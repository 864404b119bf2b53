"""Row S4 of the fault matrix, and the same bytes in any number of processes."""

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from dit.errors import ConfigError, DitError
from dit.sampling.config import SamplingConfig
from dit.zoo.pictures.many import ManyImages, png_name, sample_to_folder, sample_to_npz
from tests.zoo.test_pipeline import make


@pytest.fixture
def pipe(mnist_codec):
    return make(mnist_codec)


def wanted(num=7, **changes):
    fields = {
        "labels": torch.arange(num) % 10,
        "sampling": SamplingConfig(solver="euler", steps=2, guidance=1.5),
        "seed": 3,
        "batch_size": 2,
        "weights": {"model.safetensors": "0" * 64},
    }
    return ManyImages(**(fields | changes))


def read(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_any_number_of_processes_writes_the_same_bytes(pipe, tmp_path):
    assert sample_to_folder(pipe, wanted(), tmp_path / "one") == 7
    made = [sample_to_folder(pipe, wanted(), tmp_path / "three", rank=rank, num_processes=3) for rank in (2, 0, 1)]
    assert made == [2, 3, 2]
    assert contents(tmp_path / "one") == contents(tmp_path / "three")
    assert read(tmp_path / "one" / "000006.png").shape == (32, 32)


def test_s4_an_interrupted_folder_gets_only_what_is_missing(pipe, tmp_path):
    sample_to_folder(pipe, wanted(), tmp_path / "whole")
    sample_to_folder(pipe, wanted(), tmp_path / "cut")
    kept = tmp_path / "cut" / png_name(0)
    before = kept.stat().st_mtime_ns
    for position in (3, 4, 5, 6):
        os.unlink(tmp_path / "cut" / png_name(position))
    assert sample_to_folder(pipe, wanted(), tmp_path / "cut") == 4
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert kept.stat().st_mtime_ns == before


def test_a_folder_of_fewer_images_is_extended(pipe, tmp_path):
    sample_to_folder(pipe, wanted(), tmp_path / "more")
    assert sample_to_folder(pipe, wanted(10), tmp_path / "more") == 3
    sample_to_folder(pipe, wanted(10), tmp_path / "whole")
    assert contents(tmp_path / "more") == contents(tmp_path / "whole")
    before = contents(tmp_path / "more")
    for other in (wanted(9), wanted(12, seed=4), wanted(12, labels=torch.ones(12, dtype=torch.int64))):
        with pytest.raises(ConfigError, match=r"sampling\.json: (num|seed|labels) is"):
            sample_to_folder(pipe, other, tmp_path / "more")
    assert contents(tmp_path / "more") == before


def test_a_folder_goes_on_with_as_many_images_decoded_at_a_time_as_it_began_with(pipe, tmp_path):
    sample_to_folder(pipe, wanted(2), tmp_path)
    settings = tmp_path / "sampling.json"
    begun = json.loads(settings.read_text())
    assert begun["decoded_at_a_time"] == 16
    for written, used in ((3, 3), (None, 16)):  # begun on another device; by a version that did not write it
        own = {key: value for key, value in (begun | {"decoded_at_a_time": written}).items() if value is not None}
        settings.write_text(json.dumps(own))
        sample_to_folder(pipe, wanted(4), tmp_path)
        assert pipe.codec.slice_size == json.loads(settings.read_text())["decoded_at_a_time"] == used
    settings.write_text(json.dumps(begun | {"decoded_at_a_time": "many"}))
    with pytest.raises(ConfigError, match="decoded_at_a_time is many there and 16 now"):
        sample_to_folder(pipe, wanted(4), tmp_path)


def test_an_npz_holds_the_same_images_and_can_be_resumed(pipe, tmp_path, monkeypatch):
    sample_to_folder(pipe, wanted(), tmp_path / "folder")
    path = tmp_path / "samples.npz"
    assert sample_to_npz(pipe, wanted(), path, rank=1, num_processes=2) == 3
    assert not path.exists()
    assert sample_to_npz(pipe, wanted(), path) == 4
    assert sorted(os.listdir(tmp_path)) == ["folder", "samples.npz"]
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    assert arrays["images"].shape == (7, 32, 32, 1)
    assert arrays["images"].dtype == np.uint8
    assert arrays["labels"].tolist() == list(range(7))
    assert (arrays["images"][5, :, :, 0] == read(tmp_path / "folder" / png_name(5))).all()
    with pytest.raises(ConfigError, match="expected a new file"):
        sample_to_npz(pipe, wanted(), path)


def test_a_folder_of_something_else_is_refused(pipe, tmp_path):
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(ConfigError, match="new or empty folder"):
        sample_to_folder(pipe, wanted(), tmp_path)


def test_s3_nan_weights_stop_without_an_image(pipe, tmp_path):
    pipe.model.final_layer.linear.bias.data.fill_(float("nan"))
    with pytest.raises(DitError, match="not finite"):
        sample_to_folder(pipe, wanted(), tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["sampling.json"]
