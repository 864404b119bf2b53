"""Images read by worker processes: in order, with bad ones named, and a dead worker's file too."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from dit.data.config import DataConfig
from dit.data.image_source import images_in_memory
from dit.data.images import open_images
from dit.data.request import Request
from dit.data.workers import PREFETCHED, ImageReader
from dit.errors import DitError
from dit.launcher import run_in_processes
from tests.data.pictures import write_folder


@pytest.fixture
def images():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3)).astype(np.uint8)
    return images_in_memory(pixels, np.zeros(40, np.int64), (), DataConfig(image_size=8))


def read(images, batches, num_workers):
    with ImageReader(images, num_workers) as reader:
        return [
            (batch.rows, batch.pixels.clone(), batch.problems)  # a batch lies in memory shared with its worker
            for batch in reader.read(map(Request.plain, batches))
        ]


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_batches_come_in_order(images, num_workers):
    batches = [range(start, start + 5) for start in range(0, 40, 5)]
    state = torch.get_rng_state()
    found = read(images, batches, num_workers)
    assert [rows for rows, _, _ in found] == [tuple(batch) for batch in batches]
    expected = np.stack([images.read(row) for row in range(40)])
    np.testing.assert_array_equal(torch.cat([pixels for _, pixels, _ in found]), expected)
    assert torch.equal(torch.get_rng_state(), state)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("num_workers", [0, 2])
def test_images_are_mirrored_and_cut_out_as_the_request_says(num_workers):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 16, 3)).astype(np.uint8)
    images = images_in_memory(pixels, np.zeros(3, np.int64), (), DataConfig(image_size=8))
    rows, flips = np.array([2, 0, 2]), np.array([True, False, False])  # an image can be in a batch twice
    with ImageReader(images, num_workers) as reader:
        centre, cut = (
            batch.pixels.numpy().copy()
            for batch in reader.read([Request(rows, flips), Request(rows, flips, np.array([0, 0.99, 0.5]))])
        )
    np.testing.assert_array_equal(centre, [pixels[2, :, 11:3:-1], pixels[0, :, 4:12], pixels[2, :, 4:12]])
    np.testing.assert_array_equal(cut, [pixels[2, :, 7::-1], pixels[0, :, 8:], pixels[2, :, 4:12]])


def test_no_more_is_asked_for_than_is_read_ahead(images):
    asked = []

    def batches():
        for row in range(40):
            asked.append(row)
            yield Request.plain([row])

    with ImageReader(images, 2) as reader:
        next(iter(reader.read(batches())))
        assert len(asked) <= 2 * PREFETCHED + 1
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("num_workers", [0, 2])
def test_bad_images_are_named_in_workers_too(images, num_workers):
    def failing(row):
        if row % 4 == 1:
            raise DitError(f"{row}.jpg: expected a whole image")
        return images.read(row)

    (first, _, problems), (second, pixels, _) = read(replace(images, read=failing), [[4, 5, 6], [1]], num_workers)
    assert (first, second, len(pixels)) == ((4, 6), (), 0)
    assert problems == ("5.jpg: expected a whole image",)


def test_a_dead_worker_names_the_file_that_it_was_at(tmp_path, monkeypatch):
    """D10."""
    folder = write_folder(tmp_path / "images", {"cat": 12})
    monkeypatch.setenv("DIT_FAILPOINT", "read:7:kill")
    opened = open_images(DataConfig(source=str(folder), image_size=16, val_fraction=0))
    batches = [range(start, start + 2) for start in range(0, 12, 2)]
    with pytest.raises(DitError, match=r"cat/007\.jpg: a worker process died while it read this "):
        read(opened, batches, 2)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("error", [EOFError(), ConnectionResetError("reset by peer")])
def test_a_worker_that_died_with_a_batch_on_its_way_is_told_as_well(images, monkeypatch, error):
    def failing(*_):
        raise error
        yield

    dead = iter([[], [], [3]])  # it breaks the connection before the system reports its end
    monkeypatch.setattr(ImageReader, "_loader", failing)
    monkeypatch.setattr("dit.data.workers._Worker.rows_of_the_dead", lambda _: next(dead))
    with pytest.raises(DitError, match=rf"^{images.name(3)}: a worker process died .* \((EOFError|reset by peer)\)"):
        read(images, [[0]], 2)


def test_errors_that_are_no_workers_stay_what_they_are(images):
    def fail():
        with ImageReader(images, 2) as reader:
            for _ in reader.read(map(Request.plain, [[0], [1], [2]])):
                raise RuntimeError("of the program's own")

    with pytest.raises(RuntimeError, match="of the program's own"):
        fail()
    assert multiprocessing.active_children() == []


def test_signals_to_all_processes_are_left_to_the_parent(images):
    with ImageReader(images, 2) as reader:
        found = reader.read(Request.plain([row]) for row in range(40))
        next(found)
        for child in multiprocessing.active_children():
            assert child.pid is not None
            for number in (signal.SIGINT, signal.SIGTERM):
                os.kill(child.pid, number)
        assert len(list(found)) == 39


def test_workers_do_not_outlive_the_process_that_they_read_for(images, tmp_path):
    def slow(row):
        time.sleep(60 * (row > 0))
        return images.read(row)

    def read_and_die():
        with ImageReader(replace(images, read=slow), 2) as reader:
            next(reader.read(Request.plain([row]) for row in range(40)))
            for child in multiprocessing.active_children():
                (tmp_path / str(child.pid)).touch()
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(DitError, match="process 0 of 1 failed with exit code -9"):
        run_in_processes(1, read_and_die)
    workers = [f"/proc/{path.name}" for path in tmp_path.iterdir()]
    assert len(workers) == 2
    deadline = time.monotonic() + 10
    while any(map(os.path.exists, workers)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(os.path.exists, workers))


def test_a_death_is_told_where_the_next_batch_is_asked_for(images):
    """Not in the middle of a training step, as torch's own handler of SIGCHLD would."""
    handler = signal.getsignal(signal.SIGCHLD)
    with ImageReader(images, 1) as reader:
        found = reader.read(Request.plain([row]) for row in range(40))
        next(found)
        (child,) = multiprocessing.active_children()
        child.kill()
        child.join()
        assert signal.getsignal(signal.SIGCHLD) == handler
        with pytest.raises(DitError, match="a worker process died"):
            list(found)
