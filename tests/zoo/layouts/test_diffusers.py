"""What is exported to diffusers works in diffusers alone, and comes back."""

import json
import math
import re
from contextlib import contextmanager

import pytest
import torch

from dit.diffusion.config import FlowConfig, GaussianConfig
from dit.errors import DitError
from dit.layers import embed
from dit.zoo.convert import convert, read_any
from dit.zoo.export import export
from dit.zoo.layouts.diffusers import obstacle, table_with_gap, table_without_gap
from dit.zoo.layouts.diffusers_autoencoder import fold_normalisation
from dit.zoo.layouts.original import ForeignModel, ReadOptions
from dit.zoo.pipeline import load_pipeline
from tests.zoo.conftest import TINY, random_model, write_run

NAMES = [f"digit {i}" for i in range(10)]


def exported_model(tmp_path, codec, description=None, **arguments):
    model = random_model(**TINY | {"learn_sigma": True} | arguments)
    run = write_run(
        tmp_path / "run",
        model=model,
        ema=model,
        codec=description or codec.describe(),
        process={"name": "gaussian", "learn_sigma": model.arguments.learn_sigma},
        sampling={"solver": "ddim", "steps": 4, "guidance": 2.0},
        class_names=NAMES[: model.arguments.num_classes],
    )
    return export(run, tmp_path / "native", samples=False)


def described(codec, **changed):
    return codec.describe().model_copy(update=changed)


@pytest.fixture
def native(tmp_path, mnist_codec):
    return exported_model(tmp_path, mnist_codec)


@pytest.fixture
def diffusers_pipe(native, tmp_path):
    convert(native, tmp_path / "diffusers", to="diffusers")
    return load_diffusers(tmp_path / "diffusers")


def load_diffusers(folder):
    from diffusers import DiTPipeline

    pipe = DiTPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@contextmanager
def diffusers_frequencies():
    """Let our networks embed time as diffusers does, by 10000^(-i/127) in place of 10000^(-i/128)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            embed,
            "timestep_frequencies",
            lambda num, period, device: torch.exp(-math.log(period) * torch.arange(num, device=device) / (num - 1)),
        )
        yield


def compare_forward(theirs, ours, tolerance):
    torch.manual_seed(0)
    x = torch.randn(8, 4, 8, 8)
    t = torch.tensor([0, 1, 9, 100, 400, 700, 998, 999])
    y = torch.tensor([0, 9, 3, 5, 1, 2, 7, 10])
    with torch.no_grad(), diffusers_frequencies():
        expected = ours(x, t, y)
        found = theirs(x, timestep=t, class_labels=torch.where(y == 10, 1000, y)).sample
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * float(expected.abs().max()))


@pytest.mark.parametrize("learn_sigma", [True, False])
def test_the_network_is_ours_at_diffusers_frequencies(tmp_path, mnist_codec, learn_sigma):
    native = exported_model(tmp_path, mnist_codec, learn_sigma=learn_sigma)
    convert(native, tmp_path / "diffusers", to="diffusers")
    theirs = load_diffusers(tmp_path / "diffusers").transformer
    compare_forward(theirs, load_pipeline(native).model, 2e-6)  # 1e-4 is promised
    assert theirs.config.out_channels == (8 if learn_sigma else 4)


def test_diffusers_alone_samples_what_we_sample(diffusers_pipe, native):
    ours = load_pipeline(native)
    noise = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with diffusers_frequencies():
        from dit.sampling.sampler import sample

        latents = sample(ours.model, ours.process, torch.tensor([1, 2, 3]), (4, 8, 8), noise=noise,
                         sampling=ours.settings(guidance=2.0, steps=4)).latents  # fmt: skip
    found = diffusers_pipe(
        [1, 2, 3],
        guidance_scale=2.0,
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(1),
        output_type="np",
    ).images
    found = torch.as_tensor(found).permute(0, 3, 1, 2)
    expected = ours.decode(latents)
    assert found.shape == expected.shape == (3, 1, 32, 32)
    assert (found * 255 - expected).abs().max() <= 1.01  # rounded here, truncated there


def test_classes_have_their_names_in_diffusers(diffusers_pipe):
    assert diffusers_pipe.get_label_ids(["digit 3", "digit 7"]) == [3, 7]


def test_the_card_states_what_the_frequencies_cost(native, tmp_path):
    convert(native, tmp_path / "diffusers", to="diffusers")
    card = (tmp_path / "diffusers" / "README.md").read_text()
    assert "library_name: diffusers" in card
    assert "DiTPipeline.from_pretrained" in card
    assert "by 2.1% in the median and by 4.0% at most" in card
    assert "transformer/diffusion_pytorch_model.safetensors" in card


def test_provenance_and_defaults_come_back(native, tmp_path):
    convert(native, tmp_path / "diffusers", to="diffusers")
    back = read_any(tmp_path / "diffusers", ReadOptions()).config
    assert back.sampling == load_pipeline(native).config.sampling
    assert back.provenance.seed == 3
    assert back.class_names == NAMES


def test_a_normalisation_per_channel_is_folded_into_the_autoencoder(tmp_path, mnist_codec):
    from dit.latents.codec import Codec

    description = described(mnist_codec, scale=(0.5, 1.0, 2.0, 0.25), shift=(0.1, -0.2, 0.3, 2.0))
    native = exported_model(tmp_path, mnist_codec, description)
    convert(native, tmp_path / "diffusers", to="diffusers")
    vae = load_diffusers(tmp_path / "diffusers").vae
    assert (vae.config.scaling_factor, vae.config.shift_factor) == (1.0, None)
    codec = Codec.from_description(description)
    latents = torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        expected = codec.autoencoder.decode(codec.denormalise(latents))
        torch.testing.assert_close(vae.decode(latents).sample, expected, rtol=0, atol=1e-5)
    images = torch.rand(2, 1, 32, 32) * 2 - 1
    moments = codec.encode(images)
    noise = torch.randn(2, 4, 8, 8)
    drawn = vae.encode(images).latent_dist
    torch.testing.assert_close(drawn.mean + drawn.std * noise, codec.latents_from_moments(moments, noise),
                               rtol=0, atol=1e-5)  # fmt: skip
    for name, tensor in fold_normalisation(codec.autoencoder.state_dict(), torch.ones(4), torch.zeros(4)).items():
        assert torch.equal(tensor, codec.autoencoder.state_dict()[name])


def test_one_scale_is_written_as_the_scaling_factor(tmp_path, mnist_codec):
    description = described(mnist_codec, scale=(0.18215,) * 4, shift=(0.0,) * 4)
    convert(exported_model(tmp_path, mnist_codec, description), tmp_path / "diffusers", to="diffusers")
    vae = load_diffusers(tmp_path / "diffusers").vae
    assert vae.config.scaling_factor == pytest.approx(0.18215, rel=1e-6)
    for name, tensor in vae.state_dict().items():
        assert torch.equal(tensor, mnist_codec.autoencoder.state_dict()[name])
    again = read_any(tmp_path / "diffusers", ReadOptions()).config
    assert again.latents.scale == pytest.approx(description.scale, rel=1e-6)


def test_a_shift_without_a_place_for_it_is_left_to_code(tmp_path, mnist_codec):
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    config = mnist_codec.folder.config() | {"use_quant_conv": False, "use_post_quant_conv": False, "shift_factor": 0.5}
    AutoencoderKL.from_config(config).save_pretrained(tmp_path / "vae")
    from dit.latents.codec import load_codec

    description = described(load_codec(str(tmp_path / "vae")), vae=str(tmp_path / "vae"))
    native = exported_model(tmp_path, None, description)
    (notice,) = convert(native, tmp_path / "diffusers", to="diffusers")
    assert "without post_quant_conv and quant_conv to fold that into" in notice
    assert list((tmp_path / "diffusers").glob("pipeline_*.py"))


@pytest.mark.parametrize(
    ("arguments", "change", "message"),
    [
        (
            {"learn_sigma": False},
            {"process": FlowConfig()},
            "it samples by epsilon .* this model's process is flow",
        ),
        ({"input_size": (8, 4)}, {}, "its images are square, and this model's latents are 8x4"),
        ({"num_classes": 1001}, {}, "its null class is 1000, and this model has 1001 classes"),
        ({"mlp_ratio": 2.0}, {}, "its MLP is 4 times as wide as the tokens, and this model's 2 times"),
        ({"qk_norm": True}, {}, "its queries and keys are not normalised, and this model's are"),
        ({}, {"process": GaussianConfig(betas="scaled_linear")}, "its betas are linear or cosine"),
        ({}, {"process": GaussianConfig(first_step=1)}, "its steps count from 0, and this model's from 1"),
        ({}, {"latents": None}, "its autoencoder is not known"),
    ],
)
def test_what_the_pipeline_cannot_hold_is_told_with_the_reason(native, arguments, change, message):
    model = random_model(**TINY | {"learn_sigma": True} | arguments)
    config = read_any(native, ReadOptions()).config
    description = config.model.model_copy(update={"arguments": model.arguments})
    config = config.model_copy(update={"model": description, "process": GaussianConfig(), **change})
    assert re.match(message, obstacle(ForeignModel(config, dict(model.state_dict()))) or "")


def test_another_position_embedding_is_an_obstacle(native):
    model = read_any(native, ReadOptions())
    model.tensors["pos_embed"] = model.tensors["pos_embed"] + 1
    assert (obstacle(model) or "").startswith("its position embedding is computed")


@pytest.mark.parametrize(("num_rows", "num_classes"), [(11, 10), (10, 10), (1001, 1000), (1, 0), (2, 1)])
def test_the_null_row_moves_to_1000_and_back(num_rows, num_classes):
    table = torch.randn(num_rows, 4)
    wide = table_with_gap(table, num_classes)
    assert wide.shape == (1001, 4)
    assert torch.equal(wide[:num_classes], table[:num_classes])
    if num_rows > num_classes:
        assert torch.equal(wide[1000], table[-1])
    back, found = table_without_gap(wide)
    assert found == num_classes
    assert torch.equal(back, table)


def test_a_class_with_a_row_of_zeros_is_kept_where_it_has_a_name():
    table = torch.randn(6, 4)
    table[4] = 0
    assert torch.equal(table_without_gap(table_with_gap(table, 5), num_labels=5)[0], table)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("transformer/config.json", {"norm_type": "ada_norm_single"}, "norm_type: expected 'ada_norm_zero'"),
        ("transformer/config.json", {"sample_size": "8"}, "sample_size: expected a whole number, found '8'"),
        ("transformer/config.json", {"num_attention_heads": 5}, "num_heads: expected a divisor"),
        ("scheduler/scheduler_config.json", {"prediction_type": "v_prediction"}, "found v_prediction"),
        ("scheduler/scheduler_config.json", {"beta_end": 0.03}, "expected epsilon with linear betas from 0.0001"),
        ("model_index.json", {"id2label": {"a": "b"}}, "id2label: expected class ids and names"),
    ],
)
def test_what_is_no_dit_is_refused(native, tmp_path, file, change, message):
    convert(native, tmp_path / "d", to="diffusers")
    path = tmp_path / "d" / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DitError, match=message):
        convert(tmp_path / "d", tmp_path / "back")


def test_cosine_betas_come_back(tmp_path, native):
    model = read_any(native, ReadOptions())
    from dit.zoo.layouts.diffusers import read_diffusers, write_diffusers

    model.config = model.config.model_copy(update={"process": GaussianConfig(betas="cosine", num_steps=500)})
    (tmp_path / "d").mkdir()
    write_diffusers(model, tmp_path / "d")
    process = read_diffusers(tmp_path / "d", ReadOptions()).config.process
    assert (process.betas, process.num_steps) == ("cosine", 500)
    from diffusers import DDIMScheduler

    from dit.diffusion.create import create_process

    theirs = DDIMScheduler.from_pretrained(tmp_path / "d" / "scheduler").alphas_cumprod
    torch.testing.assert_close(theirs.double(), create_process(process).schedule.alphas_cumprod, rtol=1e-4, atol=1e-6)
