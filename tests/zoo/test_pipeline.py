"""From classes to pictures: rows S2, S3 and S5 of the fault matrix, and samples that depend on nothing else."""

import pytest
import torch

from dit.diffusion.create import create_process
from dit.errors import ConfigError, DitError
from dit.rng import Purpose, normal
from dit.sampling.config import SamplingConfig
from dit.sampling.sampler import sample
from dit.zoo.pipeline import Pipeline, load_pipeline
from tests.zoo.conftest import TINY, random_model


def make(codec, *, class_names=(), **overrides):
    sampling, process = SamplingConfig(solver="euler", steps=2, guidance=1.5), create_process({"name": "flow"})
    model = random_model(**TINY | overrides)
    return Pipeline.of("dit_ti_2", model, process, codec, class_names=class_names, sampling=sampling)


@pytest.fixture
def pipe(mnist_codec):
    return make(mnist_codec, class_names=["zero", "one", "two", *"3456789"])


def test_pictures_come_out_in_the_order_asked_for(pipe):
    pictures = pipe(["two", 0], num=5, seed=1)
    assert [(picture.size, picture.mode) for picture in pictures] == [((32, 32), "L")] * 5
    assert pipe.labels(["two", 0], num=5).tolist() == [2, 0, 2, 0, 2]


def test_every_class_is_drawn_by_default(pipe):
    assert pipe.labels().tolist() == list(range(10))
    assert pipe.labels(num=12).tolist() == [*range(10), 0, 1]


def test_it_is_the_one_sampling_loop(pipe):
    y = torch.tensor([3, 4])
    expected = sample(pipe.model, pipe.process, y, (4, 8, 8), sampling=pipe.config.sampling, seed=7).latents
    assert torch.equal(pipe.sample_latents([3, 4], seed=7), expected)


def test_own_noise_takes_the_place_of_the_seeds_in_every_batch(pipe):
    noise = normal(7, Purpose.START_NOISE, range(3), pipe.latent_shape)
    expected = pipe.sample_latents([1, 2, 3], seed=7, batch_size=2)
    assert torch.equal(pipe.sample_latents([1, 2, 3], noise=noise, batch_size=2), expected)
    with pytest.raises(ConfigError, match=r"noise: expected a tensor \(2, 4, 8, 8\), found \(3, 4, 8, 8\)"):
        pipe.sample_latents([1, 2], noise=noise)


def test_a_callback_sees_every_step_of_every_batch(pipe):
    seen = []
    pipe.sample_latents([1, 2, 3], batch_size=2, callback=lambda k, t, x, x_0: seen.append((k, t, x)))
    assert [(k, t) for k, t, _ in seen] == [(0, 1.0), (1, 0.5), (0, 1.0), (1, 0.5)]
    noise = normal(0, Purpose.START_NOISE, range(3), pipe.latent_shape)
    assert torch.equal(torch.cat([seen[0][2], seen[2][2]]), noise)


def test_images_come_as_a_tensor_too(pipe):
    images = pipe.sample_images([4, 5], seed=3)
    assert (images.dtype, tuple(images.shape)) == (torch.uint8, (2, 1, 32, 32))
    assert [image.tobytes() for image in pipe([4, 5], seed=3)] == [image.numpy().tobytes() for image in images]


def test_what_is_saved_loads_and_gives_the_same_images(pipe, tmp_path):
    folder = pipe.save_pretrained(tmp_path / "model")
    again = Pipeline.from_pretrained(folder, dtype=torch.float32)
    assert again.class_names[:3] == ["zero", "one", "two"]
    assert torch.equal(again.sample_latents([1, 2], seed=5), pipe.sample_latents([1, 2], seed=5))
    assert (folder / "README.md").is_file()
    with pytest.raises(ConfigError, match="expected a new or empty folder"):
        pipe.save_pretrained(folder)


def test_weights_with_nan_are_not_saved(pipe, tmp_path):
    next(pipe.model.parameters()).data[0] = float("nan")
    with pytest.raises(DitError, match="1 tensors hold NaN"):
        pipe.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_settings_replace_the_models_defaults(pipe):
    settings = pipe.settings(steps=3, solver=None, guidance=2)
    assert (settings.steps, settings.solver.name, settings.guidance) == (3, "euler", 2.0)
    assert not torch.equal(pipe.sample_latents(1, steps=3), pipe.sample_latents(1))


def test_an_image_does_not_depend_on_its_batch(pipe):
    together = pipe.sample_latents([1, 2, 3], seed=2)
    assert torch.allclose(pipe.sample_latents([1, 2, 3], seed=2, batch_size=2), together, atol=1e-5)
    assert not torch.allclose(pipe.sample_latents([1, 2, 3], seed=3), together, atol=1e-2)


def test_the_sampler_of_an_evaluation_gives_the_same_images_and_counts_calls(pipe):
    sampler = pipe.sampler(seed=2, steps=3)
    images = sampler(torch.tensor([1, 2, 3]), [0, 1, 2])
    assert (images.dtype, images.shape) == (torch.uint8, (3, 1, 32, 32))
    assert torch.equal(images, pipe.decode(pipe.sample_latents([1, 2, 3], seed=2, steps=3)))
    assert sampler.num_calls == 6  # three Euler steps, guided
    # A product of fewer rows may sum in another order, and a rounded difference is one of 255 levels.
    torch.testing.assert_close(sampler(torch.tensor([3]), [2]), images[2:], rtol=0, atol=1)


def test_an_unconditional_model_takes_no_classes(mnist_codec):
    pipe = make(mnist_codec, num_classes=0)
    assert len(pipe(num=3)) == 3
    with pytest.raises(ConfigError, match="classes: expected none, the model is unconditional"):
        pipe([1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "sampling: steps: expected a value greater than or equal to 1, found 0"),
        ({"guidance": float("nan")}, "sampling: guidance: expected a finite number, found nan"),
        ({"solver": "heum"}, "sampling: solver: expected 'ddpm'"),
        ({"stepz": 3}, "sampling: stepz: unknown key. Did you mean 'steps'"),
        ({"num": 0}, "num: expected a whole number of at least 1, found 0"),
        ({"seed": -1}, "seed: expected a whole number of at least 0, found -1"),
    ],
)
def test_s2_values_out_of_range_name_the_field(pipe, arguments, message):
    with pytest.raises(ConfigError) as caught:
        pipe([1], **arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_s3_weights_with_nan_stop_the_sampling(pipe):
    with torch.no_grad():
        pipe.model.final_layer.linear.weight[0, 0] = torch.nan
    with pytest.raises(DitError, match="not finite"):
        pipe([1])


def test_s5_a_size_the_model_cannot_make_is_refused_with_the_allowed_one(pipe):
    assert pipe.image_size == (32, 32)
    assert pipe([1], size=32)[0].size == (32, 32)
    with pytest.raises(ConfigError, match=r"size: expected 32x32, the only size that dit_ti_2 .* found 48x48"):
        pipe([1], size=48)
    with pytest.raises(ConfigError, match="found 32x64"):
        pipe([1], size=(32, 64))


def test_half_precision_weights_make_finite_images(tiny_run):
    run, _ = tiny_run
    pipe = load_pipeline(run, dtype=torch.bfloat16)
    assert {tensor.dtype for tensor in pipe.model.parameters()} == {torch.bfloat16}
    assert pipe.sample_latents([1, 2]).dtype == torch.float32


@pytest.mark.parametrize("source", ["nothing/here/at/all", "no_such_thing"])
def test_a_source_that_is_not_there_is_refused(source):
    with pytest.raises(ConfigError, match=f"{source}: expected a zoo name, a folder"):
        load_pipeline(source)


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(DitError, match=r"found neither config\.json nor run\.json"):
        load_pipeline(tmp_path)


def test_a_file_of_nothing_known_is_refused(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"x")
    (tmp_path / "x.pt").write_bytes(b"x")
    with pytest.raises(DitError, match=r"found no config\.json or run\.json near it"):
        load_pipeline(tmp_path / "x.safetensors")
    with pytest.raises(DitError, match=r"x\.pt: expected a \.safetensors file.*dit convert"):
        load_pipeline(tmp_path / "x.pt")
