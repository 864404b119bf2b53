import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from dit.sampling.config import SamplingConfig
from dit.zoo.pictures.pictures import (
    MAX_FRAMES,
    interpolate,
    invert_image,
    save_gif,
    trace,
    trajectory_frames,
    trajectory_strip,
)
from tests.zoo.test_pipeline import make

SAMPLING = SamplingConfig(solver="euler", steps=4)


@pytest.fixture
def pipe(mnist_codec):
    return make(mnist_codec)


def test_a_trajectory_begins_with_noise_and_ends_with_the_samples(pipe):
    trajectory = trace(pipe, torch.tensor([1, 2]), SAMPLING, seed=5)
    assert len(trajectory.states) == len(trajectory.predicted) == 5
    latents = pipe.sample_latents([1, 2], seed=5, solver="euler", steps=4, guidance=1.0)
    assert torch.equal(trajectory.states[-1], latents)
    assert torch.equal(trajectory.predicted[-1], latents)
    assert not torch.equal(trajectory.states[0], trajectory.states[1])
    assert trajectory.times == [1, 0.75, 0.5, 0.25, 0]


def tile(picture, columns, rows, column, row):
    """Return one tile of 64 pixels of a picture whose words are above and at the left."""
    left, top = picture.width - 66 * columns + 2 + 66 * column, picture.height - 66 * rows + 2 + 66 * row
    return np.asarray(picture.convert("L").crop((left, top, left + 64, top + 64)))


def test_trajectories_become_an_animation_and_a_strip(pipe):
    trajectory = trace(pipe, torch.tensor([1, 2]), SAMPLING)
    frames = trajectory_frames(pipe, trajectory, columns=2)
    strip = trajectory_strip(pipe, trajectory, columns=3)
    for k, step in enumerate((0, 2, 4)):
        state, predicted = (pipe.decode(part[step]) for part in (trajectory.states, trajectory.predicted))
        rows = [
            image[0].numpy().repeat(2, 0).repeat(2, 1) for pair in zip(state, predicted, strict=True) for image in pair
        ]
        for row, image in enumerate(rows):
            np.testing.assert_array_equal(tile(strip, 3, 4, k, row), image)
        np.testing.assert_array_equal(tile(frames[step], 2, 1, 1, 0), rows[-1])
    animation = Image.open(io.BytesIO(save_gif(frames)))
    assert animation.n_frames == len(frames) == 5
    durations = []
    for k in range(5):
        animation.seek(k)
        durations.append(animation.info["duration"])
    assert durations == [250, 250, 250, 250, 2000]


def test_a_long_way_is_shown_by_few_frames_and_many_samples_in_rows(pipe):
    trajectory = trace(pipe, torch.tensor([1, 2, 3]), SAMPLING)
    long = replace(
        trajectory,
        states=trajectory.states * 50,
        predicted=trajectory.predicted * 50,
        times=[k / 249 for k in reversed(range(250))],
    )
    frames = trajectory_frames(pipe, long, columns=2)
    assert len(frames) == MAX_FRAMES
    assert len({frame.size for frame in frames}) == 1
    animation = Image.open(io.BytesIO(save_gif(frames)))
    assert animation.info["duration"] == 50


def test_an_inverted_image_comes_back(pipe):
    """A network of random weights still has an ODE, and going there and back along it is an identity."""
    image = torch.randint(0, 256, (1, 1, 32, 32), dtype=torch.uint8)
    result = invert_image(pipe, image, 3, SamplingConfig(solver="heun", steps=64))
    assert result.latent_error < 0.05
    assert result.picture.width == 4 * 130 - 2
    assert result.picture.height > 128
    coarse = invert_image(pipe, image, 3, SamplingConfig(solver="euler", steps=2))
    assert coarse.latent_error > 2 * result.latent_error


@pytest.mark.parametrize("between", ["seeds", "classes"])
def test_rows_of_an_interpolation_go_from_one_sample_to_another(pipe, between):
    labels = torch.tensor([1, 4])
    picture = interpolate(pipe, labels, SAMPLING, between=between, seed=2, columns=3)
    first = pipe([1, 4], seed=2, solver="euler", steps=4, guidance=1.0)[0]
    np.testing.assert_array_equal(tile(picture, 3, 2, 0, 0), np.asarray(first.resize((64, 64), 0)))
