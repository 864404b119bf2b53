import io

import pytest
import torch
from PIL import Image

from dit.sampling.config import SamplingConfig
from dit.zoo.pictures import interpolate, invert_image, save_gif, trace, trajectory_frames, trajectory_strip
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


def test_trajectories_become_an_animation_and_a_strip(pipe):
    trajectory = trace(pipe, torch.tensor([1, 2]), SAMPLING)
    animation = Image.open(io.BytesIO(save_gif(trajectory_frames(pipe, trajectory, columns=2))))
    assert animation.n_frames == 5
    strip = trajectory_strip(pipe, trajectory, columns=3)
    assert strip.size == (3 * 66 - 2, 4 * 66 - 2)


def test_an_inverted_image_comes_back(pipe):
    """A network of random weights still has an ODE, and going there and back along it is an identity."""
    image = torch.randint(0, 256, (1, 1, 32, 32), dtype=torch.uint8)
    result = invert_image(pipe, image, 3, SamplingConfig(solver="heun", steps=64))
    assert result.latent_error < 0.05
    assert result.picture.size == (4 * 66 - 2, 64)
    coarse = invert_image(pipe, image, 3, SamplingConfig(solver="euler", steps=2))
    assert coarse.latent_error > 2 * result.latent_error


@pytest.mark.parametrize("between", ["seeds", "classes"])
def test_rows_of_an_interpolation_go_from_one_sample_to_another(pipe, between):
    labels = torch.tensor([1, 4])
    picture = interpolate(pipe, labels, SAMPLING, between=between, seed=2, columns=3)
    assert picture.size == (3 * 66 - 2, 2 * 66 - 2)
    first = pipe([1, 4], seed=2, solver="euler", steps=4, guidance=1.0)[0]
    assert list(picture.crop((0, 0, 64, 64)).get_flattened_data()) == list(
        first.resize((64, 64), 0).get_flattened_data()
    )
