"""Row S4 of the fault matrix, and the same bytes in any number of processes."""

import json
import multiprocessing
import os
import shutil
import threading
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from dit.errors import ConfigError, DitError
from dit.latents.writer import Writer
from dit.sampling.config import SamplingConfig
from dit.zoo.pictures import many
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


@pytest.mark.parametrize(("field", "key"), [("compilation", "compiled"), ("decoder_tile", "decoder_tile")])
def test_a_folder_of_images_made_otherwise_is_refused(pipe, tmp_path, field, key):
    sample_to_folder(pipe, wanted(2), tmp_path / "folder")
    settings = tmp_path / "folder" / "sampling.json"
    begun = json.loads(settings.read_text())
    settings.write_text(json.dumps({name: value for name, value in begun.items() if name != key}))
    sample_to_folder(pipe, wanted(2), tmp_path / "folder")  # of a version that did not write it
    other = wanted(2, **{field: "blocks" if field == "compilation" else 8})
    with pytest.raises(ConfigError, match=rf"sampling\.json: {key} is (off|None) there and (blocks|8) now"):
        sample_to_folder(pipe, other, tmp_path / "folder")


def read_as_adm_does(path):
    """Stream arr_0 out of the archive as ADM's evaluator does, through numpy's public readers of headers alone."""
    with zipfile.ZipFile(path) as archive, archive.open("arr_0.npy") as file:
        assert np.lib.format.read_magic(file) == (1, 0)
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
        assert not is_fortran
        assert not dtype.hasobject
        rows = [np.frombuffer(file.read(int(np.prod(shape[1:]))), dtype).reshape(shape[1:]) for _ in range(shape[0])]
        assert file.read() == b""
    return np.stack(rows)


def test_an_npz_holds_the_same_images_and_can_be_resumed(pipe, tmp_path):
    sample_to_folder(pipe, wanted(), tmp_path / "folder")
    path = tmp_path / "samples.npz"
    assert sample_to_npz(pipe, wanted(), path, rank=1, num_processes=2) == 3
    assert not path.exists()
    assert sample_to_npz(pipe, wanted(), path) == 4
    assert sorted(os.listdir(tmp_path)) == ["folder", "samples.npz"]
    images = read_as_adm_does(path)
    assert images.shape == (7, 32, 32, 1)
    assert images.dtype == np.uint8
    assert (images[5, :, :, 0] == read(tmp_path / "folder" / png_name(5))).all()
    with np.load(path, allow_pickle=False) as file:
        assert file["arr_1"].tolist() == list(range(7))
        about = json.loads(str(file["about"]))
    assert about == wanted().about() | {"decoded_at_a_time": 16}
    assert about["sampling"]["guidance"] == 1.5


def test_a_finished_npz_is_left_alone_and_another_one_refused(pipe, tmp_path):
    path = tmp_path / "samples.npz"
    sample_to_npz(pipe, wanted(), path)
    before = path.read_bytes()
    assert sample_to_npz(pipe, wanted(), path) == 0
    for other in (wanted(5), wanted(seed=4), wanted(labels=torch.ones(7, dtype=torch.int64))):
        with pytest.raises(ConfigError, match="expected a new file, found one of other images"):
            sample_to_npz(pipe, other, path)
    assert path.read_bytes() == before
    np.savez(path, arr_0=np.zeros((7, 32, 32, 1), np.uint8))
    with pytest.raises(ConfigError, match="expected a new file"):
        sample_to_npz(pipe, wanted(), path)


def test_the_first_process_waits_for_the_others_and_all_bytes_are_the_same(pipe, tmp_path):
    sample_to_npz(pipe, wanted(), tmp_path / "one.npz")
    path = tmp_path / "three.npz"
    options = [{"rank": rank, "num_processes": 3} for rank in range(3)]
    children = [
        multiprocessing.get_context("fork").Process(target=sample_to_npz, args=(pipe, wanted(), path), kwargs=kwargs)
        for kwargs in options
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert path.read_bytes() == (tmp_path / "one.npz").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["one.npz", "three.npz"]


def test_a_process_that_comes_after_the_end_makes_nothing(pipe, tmp_path, monkeypatch):
    """It began before the first one had gathered all, and looks for its parts when they are gone."""
    path = tmp_path / "samples.npz"
    sample_to_npz(pipe, wanted(), path)
    shutil.move(path, tmp_path / "kept")
    begin = many._begin

    def late(*arguments):
        begin(*arguments)
        shutil.move(tmp_path / "kept", path)

    monkeypatch.setattr(many, "_begin", late)
    assert sample_to_npz(pipe, wanted(), path, rank=1, num_processes=2) == 0
    assert os.listdir(tmp_path) == ["samples.npz"]


def test_what_a_kill_left_of_a_new_folder_is_no_other_content(pipe, tmp_path):
    (tmp_path / "many").mkdir()
    (tmp_path / "many" / ".tmp-sampling.json.123").write_text("{")
    assert sample_to_folder(pipe, wanted(), tmp_path / "many") == 7


def test_a_folder_of_something_else_is_refused(pipe, tmp_path):
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(ConfigError, match="new or empty folder"):
        sample_to_folder(pipe, wanted(), tmp_path)


def test_a_batch_is_sampled_while_another_is_written(pipe, tmp_path, monkeypatch):
    sample_to_folder(pipe, wanted(), tmp_path / "plain")
    second, draw, png, drawn = threading.Event(), type(pipe).draw, many._png, []

    def noted(*arguments, **options):
        drawn.append(None)
        if len(drawn) == 2:
            second.set()
        return draw(*arguments, **options)

    monkeypatch.setattr(type(pipe), "draw", noted)
    monkeypatch.setattr(many, "_png", lambda picture: png(picture) if second.wait(10) else None)
    assert sample_to_folder(pipe, wanted(), tmp_path / "overlapped") == 7
    assert contents(tmp_path / "overlapped") == contents(tmp_path / "plain")


def test_as_many_threads_as_beside_a_gpu_write_the_same_bytes(pipe, tmp_path, monkeypatch):
    sample_to_folder(pipe, wanted(), tmp_path / "one")
    monkeypatch.setattr(many, "Writer", lambda num_threads: Writer(many.GPU_WRITERS))
    assert sample_to_folder(pipe, wanted(), tmp_path / "four") == 7
    assert contents(tmp_path / "four") == contents(tmp_path / "one")


def test_an_error_of_a_write_ends_the_sampling_and_keeps_what_was_written(pipe, tmp_path, monkeypatch):
    write = many.write_bytes

    def full(path, content):
        if path.name == png_name(3):
            raise DitError("the disk is full")
        write(path, content)

    monkeypatch.setattr(many, "write_bytes", full)
    with pytest.raises(DitError, match="the disk is full"):
        sample_to_folder(pipe, wanted(), tmp_path / "out")
    assert {png_name(0), png_name(1), png_name(2)} <= set(os.listdir(tmp_path / "out"))
    assert "labels.json" not in os.listdir(tmp_path / "out")


def test_s3_nan_weights_stop_without_an_image(pipe, tmp_path):
    pipe.model.final_layer.linear.bias.data.fill_(float("nan"))
    with pytest.raises(DitError, match="not finite"):
        sample_to_folder(pipe, wanted(), tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["sampling.json"]
