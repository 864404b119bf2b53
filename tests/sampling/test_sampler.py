import json

import pytest
import torch

from dit.diffusion.config import FlowConfig, GaussianConfig
from dit.diffusion.create import create_process
from dit.errors import ConfigError, DitError
from dit.sampling.config import SamplingConfig
from dit.sampling.grid import respaced_ddim_steps, respaced_steps
from dit.sampling.sampler import sample
from tests.goldens import FOLDER, assert_close, load_network, load_tensors

SHAPE = (4, 8, 8)
GAUSSIAN = create_process(GaussianConfig())
FLOW = create_process(FlowConfig(learn_sigma=True))
PLAIN, Y = create_process(FlowConfig()), torch.tensor([0])
SIT = create_process(FlowConfig(time_scale=-1.0, time_offset=1.0, output_sign=-1, learn_sigma=True))


@pytest.fixture(scope="module")
def network():
    return load_network("dit_p2_sigma")[0]


def replay(network, process, golden, sampling, num_samples=2):
    """Sample with the golden's noises and return the state after each step: (N, B, C, H, W)."""
    before = []
    result = sample(
        network,
        process,
        golden["y"][:num_samples],
        SHAPE,
        sampling=sampling,
        noise=golden["noise0"][:num_samples],
        step_noise=golden["step_noise"][:, :num_samples],
        callback=lambda k, t, x, x_0: before.append(x),
    )
    return torch.stack([*before[1:], result.latents]), result.num_calls


@pytest.mark.parametrize(
    ("name", "sampling"),
    [
        ("ddpm_10", SamplingConfig(solver="ddpm", steps=10)),
        ("ddpm_10_cfg4", SamplingConfig(solver="ddpm", steps=10, guidance=4.0, guidance_channels=3)),
        ("ddim_25", SamplingConfig(solver="ddim", steps=25)),
    ],
)
def test_trajectories_match_the_original_at_every_step(network, name, sampling):
    golden = load_tensors(name)
    trajectory, num_calls = replay(network, GAUSSIAN, golden, sampling)
    assert num_calls == len(golden["timesteps"]) * (2 if sampling.guidance != 1 else 1)
    for actual, expected in zip(trajectory, golden["trajectory"][:, :2], strict=True):
        assert_close(actual, expected, 1e-5)


def test_published_flow_trajectories_match_the_original():
    network, golden = load_network("sit_linear_velocity")
    states = []
    result = sample(
        network,
        SIT,
        torch.tensor([0, 1]),
        SHAPE,
        sampling=SamplingConfig(solver="euler", steps=10),
        noise=golden["ode_noise"],
        callback=lambda k, t, x, x_0: states.append(x),
    )
    for actual, expected in zip([*states, result.latents], golden["ode_euler"], strict=True):
        assert_close(actual, expected, 1e-5)


def test_kept_steps_match_the_original():
    for respacing, expected in json.loads((FOLDER / "respacing.json").read_text()).items():
        ddim = respacing.startswith("ddim")
        choose = respaced_ddim_steps if ddim else respaced_steps
        assert choose(1000, int(respacing.removeprefix("ddim"))) == expected


def test_a_ddim_count_without_an_integer_stride_is_refused():
    with pytest.raises(ConfigError, match=r"keeps 37; the nearest are \d+ and \d+"):
        respaced_ddim_steps(1000, 37)
    with pytest.raises(ConfigError, match="at most the process's 1000 steps, found 1001"):
        respaced_steps(1000, 1001)


def test_null_labels_equal_dropped_labels(network):
    """Guidance at w=0 is the unconditional branch: the network on the null class."""
    y = torch.tensor([0, 3])
    sampling = SamplingConfig(solver="ddim", steps=5)
    unconditional = sample(network, GAUSSIAN, y, SHAPE, sampling=sampling.model_copy(update={"guidance": 0.0})).latents
    null = sample(network, GAUSSIAN, torch.full_like(y, network.null_class), SHAPE, sampling=sampling).latents
    torch.testing.assert_close(unconditional, null, rtol=1e-5, atol=1e-5)


def test_non_finite_outputs_stop_the_sampling(network):
    def broken(x, t, y):
        return torch.full((len(x), 8, 8, 8), float("nan"))

    with pytest.raises(DitError, match="not finite"):
        sample(broken, GAUSSIAN, torch.tensor([0]), SHAPE, sampling=SamplingConfig(solver="ddim", steps=5))


@pytest.mark.parametrize("update", [{"steps": 0}, {"guidance": float("nan")}, {"solver": "magic"}])
def test_values_that_make_no_sense_are_refused(update):
    with pytest.raises(ValueError, match=next(iter(update))):
        SamplingConfig(**update)


def test_a_grid_that_the_process_lacks_is_refused(network):
    with pytest.raises(ConfigError, match=r"sampling\.grid: respaced needs"):
        sample(network, FLOW, torch.tensor([0]), SHAPE, sampling=SamplingConfig(grid="respaced"))


def saying(**capabilities):
    """A network that returns 0.5 and what it is told besides time and class, added up."""

    def model(x, t, y, **conditions):
        return torch.full_like(x, 0.5) + sum((v[:, None, None, None] for v in conditions.values()), torch.zeros(()))

    vars(model).update(capabilities)
    return model


@pytest.mark.parametrize(
    ("model", "weaker", "message"),
    [
        (saying(), None, "sampling.guidance: expected 1, for the model has no null class"),
        (saying(null_class=None), None, "sampling.guidance: expected 1, for the model has no null class"),
        (
            saying(condition_names=("r",), null_class=7),
            None,
            "sampling.guidance: expected 1, .* takes no other, found 2",
        ),
        (
            saying(condition_names=("guidance",)),
            saying(),
            "guide: expected none, for this network was trained with its",
        ),
    ],
)
def test_guidance_that_the_network_cannot_have_is_refused(model, weaker, message):
    with pytest.raises(ConfigError, match=message):
        sample(model, PLAIN, Y, SHAPE, sampling=SamplingConfig(guidance=2.0, steps=2), weaker=weaker)


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (("h", "guidance", "t_min", "t_max"), {"guidance": 0.0}, "guidance: expected at least 1, .* found 0"),
        (
            ("h", "guidance", "t_min", "t_max"),
            {"guidance": 2, "guidance_channels": 3},
            "guidance_channels: expected it",
        ),
        (("h", "guidance", "t_min", "t_max"), {"guidance_rescale": 0.5}, "guidance_rescale: expected it left out"),
        (("r",), {"guidance_interval": [0.1, 0.5]}, r"guidance_interval: expected it left out, .* found \[0.1, 0.5\]"),
        (("r",), {"guidance_steps": [0, 1]}, "guidance_steps: expected it left out"),
    ],
)
def test_options_that_a_network_with_guidance_in_it_does_not_use_are_refused(names, options, message):
    sampling = SamplingConfig.model_validate({"steps": 2, **options})
    with pytest.raises(ConfigError, match=rf"sampling\.{message}"):
        sample(saying(condition_names=names), PLAIN, Y, SHAPE, sampling=sampling)


def test_an_unconditional_network_is_called_once_at_any_scale():
    drawn = [
        sample(saying(null_class=0), PLAIN, Y, SHAPE, sampling=SamplingConfig(guidance=w, steps=2)) for w in (1.0, 3.0)
    ]
    assert torch.equal(drawn[0].latents, drawn[1].latents)
    assert drawn[1].num_calls == 4


def test_a_network_trained_with_guidance_is_told_it_and_its_interval():
    """Its output, the velocity, is 0.5 + w + t_min + t_max, at w = 1 between 0 and 1 unless it is told otherwise."""
    model, noise = saying(condition_names=("guidance", "t_min", "t_max")), torch.zeros(1, *SHAPE)
    for options, velocity in (({}, 2.5), ({"guidance": 3.0, "guidance_interval": [0.25, 0.75]}, 4.5)):
        drawn = sample(model, PLAIN, Y, SHAPE, sampling=SamplingConfig(steps=2, **options), noise=noise)
        assert torch.equal(drawn.latents, noise - velocity)
        assert drawn.num_calls == 4
