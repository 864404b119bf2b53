"""What a recipe leaves out is the weights' own."""

import pytest

from dit.config import check_recipe
from dit.diffusion.config import AverageVelocityConfig, FlowConfig, LogitNormalTime, MeanFlowLoss, UniformTime
from dit.errors import ConfigError
from dit.latents.config import LatentsDescription
from dit.zoo.finetune import check_process, complete
from dit.zoo.folder.config import FolderConfig, ModelDescription
from dit.zoo.source import Located
from tests.zoo.conftest import TINY

LATENTS = {
    "vae": "org/vae", "revision": "0123", "fingerprint": None, "class": "AutoencoderKL", "image_channels": 3,
    "latent_channels": 4, "downscale": 8, "scale": (0.5,) * 4, "shift": (0.0,) * 4,
}  # fmt: skip
PROCESS = {"name": "flow", "time_scale": -1.0, "time_offset": 1.0, "output_sign": -1, "time_law": {"name": "adaptive"}}


@pytest.fixture
def weights(tmp_path):
    """Weights of a narrow network with the process of SiT and an autoencoder of the Hub."""
    config = FolderConfig(
        model=ModelDescription(name="dit_ti_2", arguments={**TINY, "input_size": [8, 8], "class_dropout_prob": 0.2}),
        process=PROCESS,
        latents=LatentsDescription(**LATENTS),
        sampling={"solver": "euler", "steps": 7, "guidance": 3.0},
    )
    return Located(tmp_path, config, [])


def completed(weights, **sections):
    return check_recipe(complete(sections, weights))


def test_what_is_left_out_is_the_weights_own(weights):
    recipe = completed(weights, model={"pretrained": "x"}, train={"max_steps": 3})
    assert recipe.process == weights.config.process
    assert recipe.sampling == weights.config.sampling
    assert (recipe.model.name, recipe.model.hidden_size, recipe.model.class_dropout_prob) == ("dit_ti_2", 24, 0.2)
    assert (recipe.model.num_classes, recipe.model.input_size, recipe.model.pretrained) == (None, None, "x")
    assert (recipe.latents.vae, recipe.latents.scale, recipe.latents.shift) == ("org/vae@0123", 0.5, 0.0)
    assert (recipe.data.image_size, recipe.train.max_steps) == (64, 3)
    check_process(recipe, weights)


def test_what_the_recipe_says_stays(weights):
    recipe = completed(
        weights,
        model={"pretrained": "x", "depth": 3},
        process={"time_law": {"name": "logit_normal"}},
        latents={"cache": "c", "scale": 2.0},
        data={"image_size": 32},
        sampling={"steps": 9},
    )
    assert (recipe.model.name, recipe.model.hidden_size, recipe.model.depth) == ("dit_ti_2", 24, 3)
    assert recipe.process == weights.config.process.model_copy(update={"time_law": LogitNormalTime()})
    assert (recipe.latents.vae, recipe.latents.scale, recipe.latents.cache) == ("org/vae@0123", 2.0, "c")
    assert (recipe.data.image_size, recipe.sampling.steps, recipe.sampling.solver.name) == (32, 9, "euler")
    with pytest.raises(ConfigError, match=r"solver\.eta"):  # the weights' solver has no such option
        completed(weights, sampling={"solver": {"eta": 0.5}})
    recipe = completed(weights, model={"name": "dit_s_2"}, latents={"vae": "mnist"}, sampling={"solver": "heun"})
    assert (recipe.model.hidden_size, recipe.latents.scale, recipe.data.image_size) == (None, None, 256)
    assert (recipe.sampling.solver.name, recipe.sampling.guidance) == ("heun", 1.0)


def test_normalisations_by_channel_and_copied_autoencoders_are_kept(weights):
    description = LatentsDescription(**LATENTS | {"vae": "vae", "revision": None, "scale": (1, 2, 4, 8)})
    copied = Located(weights.folder, weights.config.model_copy(update={"latents": description}), [])
    latents = completed(copied).latents
    assert latents.vae == str(weights.folder / "vae")
    assert (latents.std, latents.mean) == ((1, 0.5, 0.25, 0.125), (0, 0, 0, 0))
    oblong = weights.config.model.arguments.model_copy(update={"input_size": (8, 16)})
    model = weights.config.model.model_copy(update={"arguments": oblong})
    oblong = Located(weights.folder, weights.config.model_copy(update={"model": model}), [])
    assert completed(oblong).data.image_size == 256


def test_another_process_has_to_be_asked_for(weights):
    flow = {"name": "flow"}
    with pytest.raises(ConfigError) as error:
        check_process(completed(weights, process=flow), weights)
    assert "process: time_scale 1000.0 (theirs: -1.0), time_offset 0.0 (theirs: 1.0)" in str(error.value)
    assert "process.retrain" in str(error.value)
    with pytest.raises(ConfigError, match=r"process: name gaussian \(theirs: flow\): the weights"):
        check_process(completed(weights, process={"name": "gaussian"}), weights)
    asked = completed(weights, process=flow | {"retrain": True})
    check_process(asked, weights)
    assert asked.process == FlowConfig(retrain=True)
    assert asked.sampling == check_recipe({}).sampling  # theirs is for their process


def test_a_flow_goes_on_as_its_average_velocities(weights):
    loss = {"name": "meanflow", "equal_share": 0.5}
    recipe = completed(weights, model={"name": "meanflow_ti_2"}, process={"name": "average_velocity", "loss": loss},
                       sampling={"solver": "euler", "steps": 1})  # fmt: skip
    check_process(recipe, weights)
    assert recipe.process == AverageVelocityConfig(
        time_scale=-1.0, time_offset=1.0, output_sign=-1, loss=MeanFlowLoss(equal_share=0.5)
    )
    other = {"name": "average_velocity", "time_scale": 1.0}
    with pytest.raises(ConfigError, match=r"process: time_scale 1\.0 \(theirs: -1\.0\): the weights"):
        check_process(completed(weights, model={"name": "meanflow_ti_2"}, process=other), weights)


def test_only_a_flow_of_velocities_goes_on_as_averages(weights):
    process = weights.config.process.model_copy(update={"prediction": "x0"})
    weights = Located(weights.folder, weights.config.model_copy(update={"process": process}), [])
    averages = {"name": "average_velocity"}
    with pytest.raises(ConfigError, match=r"process: name average_velocity \(theirs: flow\): the weights"):
        check_process(completed(weights, model={"name": "meanflow_ti_2"}, process=averages), weights)


def test_time_law_and_weighting_are_free(weights):
    other = PROCESS | {"time_law": {"name": "uniform"}, "weighting": {"name": "min_snr"}, "learn_sigma": True}
    recipe = completed(weights, process=other)
    check_process(recipe, weights)
    assert recipe.process.time_law == UniformTime()
