"""Every family against its original implementation, from published names to samples (see goldens/README.md).

The state is read as a user's file is: recognised, renamed, its arguments told by its shapes and by what is given.
"""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn.functional import linear, silu

from dit.diffusion.config import AverageVelocityConfig, EdmConfig, FlowConfig, ProcessConfig, VelocityWeighting
from dit.diffusion.create import create_process
from dit.diffusion.total_derivative import total_derivative
from dit.models.registry import build
from dit.sampling.config import SamplingConfig
from dit.sampling.guidance import Guidance
from dit.sampling.sampler import Sampled, sample
from dit.zoo.layouts.architecture import describe_network
from dit.zoo.layouts.table import from_native, recognise, to_native
from tests.goldens import FOLDER, assert_close

# Another order of additions moves a float32 forward by less than 1e-6 of its largest entry; guidance and the steps of a
# trajectory carry that on.
FORWARD, SAMPLED = 2e-6, 1e-5

# Name of the file -> what its shapes do not tell.
GIVEN: dict[str, dict[str, Any]] = {
    "lightningdit": {"num_heads": 3},
    "lightningdit_options": {"num_heads": 2},
    "rae_dit": {"num_heads": 2},
    "jit": {"context_start": 1},
    "meanflow": {"num_heads": 4},
    "imeanflow": {"input_size": 8},
    "pmf": {},
    "mdt": {"decode_layers": 2},
    "mdtv2": {},
    "uvit": {"num_heads": 4},
    "ddt": {"input_size": 8, "encoder_depth": 3},
    "rae_ditdh": {"num_heads": 2, "head_num_heads": 3},
    "maskdit": {"num_heads": 4, "decoder_num_heads": 4},
    "repa": {"num_heads": 3},
    "repae": {"num_heads": 2},
}
CONDITIONS = {"r": "r", "h": "h", "guidance": "omega", "t_min": "t_min", "t_max": "t_max"}
DATA_AT_1 = FlowConfig(time_scale=-1, time_offset=1, output_sign=-1)
RAW_TIME = FlowConfig(time_scale=1)
IMAGE = FlowConfig(prediction="x0", velocity_floor=0.05, weighting=VelocityWeighting(), time_scale=-1, time_offset=1)


def load(name: str, said: str = "sampling") -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(FOLDER / "families" / f"{name}.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        return tensors, json.loads(file.metadata().get(said, "{}"))


def network_of(tensors: dict[str, Tensor], given: dict[str, Any], part: str = "state.") -> Any:
    state = {key.removeprefix(part): value for key, value in tensors.items() if key.startswith(part)}
    family, layout = recognise(state)
    native, left_out = to_native(state, layout)
    written = from_native(native, layout)
    assert set(written) == set(state) - set(left_out)
    assert all(torch.equal(written[key], state[key]) for key in written)
    model = describe_network(family, {key: tuple(value.shape) for key, value in native.items()}, given)
    network = build(model.name, model.arguments).eval().requires_grad_(False)
    network.load_state_dict(native, strict=True)
    return network


def read(name: str, said: str = "sampling") -> tuple[Any, dict[str, Tensor], dict[str, Any]]:
    tensors, facts = load(name, said)
    return network_of(tensors, GIVEN[name]), tensors, facts


def labels_of(y: Tensor) -> Tensor:
    """Return labels (B,) of one-hot rows (B, K), of which a zero row is the null class."""
    return y if y.ndim == 1 else torch.where(y.sum(1) > 0, y.argmax(1), y.shape[1])


@pytest.mark.parametrize("name", GIVEN)
def test_forward(name):
    network, golden, _ = read(name)
    conditions = {key: golden[told] for key, told in CONDITIONS.items() if told in golden}
    actual = network(golden["x"], golden["t"], labels_of(golden["y"]), **conditions)
    assert_close(actual, golden["out"], FORWARD)


@pytest.mark.parametrize("name", ["mdt", "mdtv2"])
def test_masked_forward(name):
    network, golden, _ = read(name)
    actual = network.forward_masked(golden["x"], golden["t"], golden["y"], golden["ids_keep"])
    assert_close(actual, golden["masked_out"], FORWARD)


@pytest.mark.parametrize("name", ["mdt", "mdtv2"])
def test_power_cosine_guidance(name):
    network, golden, _ = read(name)
    values = {"guidance": 3.8, "guidance_channels": 3, "guidance_schedule": "power_cosine", "guidance_power": 4.0}
    guidance = Guidance(network, network, 7, SamplingConfig.model_validate(values), 3, last_time=1 / 1000)
    for x, step, y, expected in zip(*(golden[f"cfg_{key}"][:2] for key in ("x", "t", "y", "out")), strict=True):
        actual, _ = guidance(x[None], (float(step) + 1) / 1000, step[None], y[None])
        assert_close(actual[0], expected, SAMPLED)


def test_maskdit_between_the_scales_of_its_process():
    network, golden, _ = read("maskdit")
    process, y = create_process(EdmConfig()), labels_of(golden["y"])

    def denoised(sigma: Tensor, **masked: Tensor) -> Tensor:
        t = sigma.double().expand(len(y)) / 80
        x, call = golden["sigma_x"], network.forward_masked if masked else network
        return process.denoise(call(process.model_input(x, t), process.model_time(t), y, **masked), x, t).x_0

    assert_close(denoised(golden["sigma"]), golden["denoised"], FORWARD)
    assert_close(denoised(golden["sigma"], keep=golden["ids_keep"]), golden["masked_denoised"], FORWARD)
    conditional = denoised(golden["guided_sigma"])
    y = torch.full_like(y, 7)
    unconditional = denoised(golden["guided_sigma"])
    assert_close(unconditional + 1.5 * (conditional - unconditional), golden["guided"], SAMPLED)


@pytest.mark.parametrize("name", ["imeanflow", "pmf"])
def test_the_velocity_beside_the_average(name):
    network, golden, _ = read(name)
    conditions = {key: golden[told] for key, told in CONDITIONS.items() if told in golden}
    both = network(golden["x"], golden["t"], golden["y"], heads="uv", **conditions)
    alone = network(golden["x"], golden["t"], golden["y"], heads="v", **conditions)
    velocity = both.chunk(2, dim=1)[1]
    assert torch.equal(velocity, alone)
    assert_close(velocity, golden["out_v"], FORWARD)


def test_the_halves_of_ddt():
    network, golden, _ = read("ddt")
    state = network.encode(golden["x"], golden["t"], golden["y"])
    assert_close(state, golden["encoder_state"], FORWARD)
    assert_close(network.decode(golden["reuse_x"], golden["encoder_state"]), golden["reuse_out"], FORWARD)


def test_the_tokens_that_repa_aligns():
    network, golden, config = read("repa", "config")
    _, (tokens,) = network.forward_intermediates(golden["x"], golden["t"], golden["y"], after=[config["encoder_depth"]])
    for i in (0, 2, 4):
        layer = (golden[f"state.projectors.0.{i}.{part}"] for part in ("weight", "bias"))
        tokens = linear(silu(tokens) if i else tokens, *layer)
    assert_close(tokens, golden["projected.0"], FORWARD)


# Name of the file -> its process, the time that the loss is taken at, the data and the loss.
LOSSES: dict[str, tuple[ProcessConfig, Callable[[dict[str, Tensor]], Tensor], str, str]] = {
    "lightningdit": (DATA_AT_1, lambda golden: 1 - golden["t"].double(), "loss_data", "loss_mse"),
    "lightningdit_options": (DATA_AT_1, lambda golden: 1 - golden["t"].double(), "loss_data", "loss_mse"),
    "jit": (IMAGE, lambda golden: 1 - golden["loss_t"].double(), "loss_data", "loss"),
    "rae_dit": (RAW_TIME, lambda golden: golden["t"].double(), "loss_data", "loss_mse"),
    "rae_ditdh": (RAW_TIME, lambda golden: golden["t"].double(), "loss_data", "loss_mse"),
    "repa": (RAW_TIME, lambda golden: golden["t"].double(), "loss_data", "loss_denoise"),
    "repae": (RAW_TIME, lambda golden: golden["t"].double(), "normalised_eval", "loss_denoise"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_loss(name):
    network, golden, _ = read(name)
    process, time, data, expected = LOSSES[name]
    y = golden.get("loss_y", golden["y"])
    losses = create_process(process).losses(network, golden[data], y, noise=golden["loss_noise"], u=time(golden))
    actual = losses.loss if golden[expected].numel() > 1 else losses.loss.mean(0, keepdim=True)
    assert_close(actual, golden[expected], 2 * FORWARD)  # a square doubles the relative error


def chosen_times(*columns: Tensor) -> Tensor:
    """Return the numbers u from which a process with uniform times makes these t and r, then further columns."""
    t, r, *further = (column.double() for column in columns)
    return torch.stack([t, r, torch.ones_like(t), *further], dim=1)


def of_meanflow(**options: Any) -> Any:
    loss = {"name": "meanflow", **options}
    config = AverageVelocityConfig.model_validate({"loss": loss, "time_law": {"name": "uniform"}})
    return create_process(config, null_class=7)


@pytest.mark.parametrize("suffix", ["", "_unguided"])
def test_loss_of_meanflow(suffix):
    network, golden, said = read("meanflow", "guidance")
    w, k = said["omega"] / (1 - said["kappa"]), said["kappa"]
    options = {"guidance": w, "guidance_mix": k, "guidance_interval": (said["t_min"], said["t_max"])}
    process = of_meanflow(**({} if suffix else options))
    z, y, noise = golden["z"], golden["train_y"], golden["noise"]
    t, r = golden["t"].double(), golden["r"].double()
    assert_close(process.corrupt(golden["data"], noise, t), z, FORWARD)
    velocity = process.guided(network, z, t, y, noise - golden["data"])
    derivative = total_derivative(
        network, lambda network, x, t: network(x, t, y, r=golden["r"]), z, golden["t"], velocity
    )
    assert_close(derivative, golden[f"dudt{suffix}"], FORWARD)
    assert torch.equal(process.derivative(network, z, t, r, y, along=velocity)[2], torch.zeros_like(z[2]))  # r = t
    assert_close(velocity - (t - r).float()[:, None, None, None] * derivative, golden[f"target{suffix}"], FORWARD)
    if suffix:
        return
    assert_close(velocity, golden["v_guided"], FORWARD)
    assert_close(process.average(network, z, t, r, y), golden["u"], FORWARD)
    losses = process.losses(network, golden["data"], y, noise=noise, u=chosen_times(t, r))
    assert_close(losses.unweighted * z[0].numel(), golden["squared_error"], 2 * FORWARD)
    assert_close(losses.loss, golden["loss_official"], 2 * FORWARD)


def test_loss_of_imf():
    network, golden, _ = read("imeanflow")
    config = {"condition": "h", "loss": {"name": "imf", "weight_power": 0.0}, "time_law": {"name": "uniform"}}
    process = create_process(AverageVelocityConfig.model_validate(config), null_class=7)
    z, y, noise = golden["z"], golden["train_y"], golden["noise"]
    t, r = golden["t"].double(), (golden["t"] - golden["h"]).double()
    equal = golden["h"] == 0
    assert_close(process.corrupt(golden["data"], noise, t), z, FORWARD)
    numbers = golden["omega"].double().log() / math.log(8), 2 * golden["t_min"], 2 * golden["t_max"] - 1
    told = process.draw_guidance(torch.stack([number.double() for number in numbers], dim=1), equal)
    acts = (golden["t"] >= told["t_min"].float()) & (golden["t"] <= told["t_max"].float())
    scale = torch.where(acts, told["guidance"], 1.0).float()
    along = process.second(network, z, t, y, scale, of=torch.ones_like(equal))
    assert_close(along, golden["v_cond"], FORWARD)

    def average(network, x, t):
        return network(x, t, y, h=t - r.float(), **{name: value.float() for name, value in told.items()})

    derivative = total_derivative(network, average, z, golden["t"], along)
    assert_close(derivative, golden["dudt"], FORWARD)
    ours = average(network, z, golden["t"]) + golden["h"][:, None, None, None] * derivative
    assert_close(ours, golden["V"], FORWARD)
    losses = process.losses(network, golden["data"], y, noise=noise, u=chosen_times(t, r, *numbers))
    assert_close(losses.terms["mse"] * z[0].numel(), golden["loss_u"], 2 * FORWARD)
    assert_close(losses.terms["mse_velocity"] * z[0].numel(), golden["loss_v"], 2 * FORWARD)
    assert_close(losses.loss, golden["loss_u"] + golden["loss_v"], 2 * FORWARD)


def draw(
    network: Any, process: ProcessConfig, y: Tensor, noise: Tensor, solver: str | dict[str, Any], **options: Any
) -> tuple[Sampled, list[Tensor]]:
    """Return samples and the states before each step."""
    extra = {key: options.pop(key) for key in ("weaker", "step_noise") if key in options}
    solver = {"name": solver} if isinstance(solver, str) else solver
    sampling = SamplingConfig.model_validate({"solver": solver, **options})
    states: list[Tensor] = []
    sampled = sample(
        network,
        create_process(process),
        y,
        noise.shape[1:],
        sampling=sampling,
        noise=noise,
        callback=lambda k, t, x, x_0: states.append(x),
        **extra,
    )
    return sampled, states


def assert_trajectory(drawn: tuple[Sampled, list[Tensor]], golden: Tensor) -> None:
    assert_close(torch.stack([*drawn[1], drawn[0].latents]), golden, SAMPLED)


@pytest.mark.parametrize("name", ["lightningdit", "lightningdit_options"])
@pytest.mark.parametrize("key", ["traj", "traj_guidance_off"])
def test_trajectory_of_lightningdit(name, key):
    network, golden, sampling = read(name)
    shift = sampling["timestep_shift"]
    options: dict[str, Any] = {"steps": sampling["points"] - 1}
    options["grid"] = {"name": "shifted", "shift": 1 / shift} if shift else {"name": "uniform"}
    if key == "traj":
        options |= {"guidance": sampling["cfg_scale"], "guidance_channels": 3}
        options["guidance_interval"] = [0.0, 1 - sampling["cfg_interval_start"]]
    drawn = draw(network, DATA_AT_1, golden["traj_y"], golden["traj_noise"], "euler", **options)
    assert_trajectory(drawn, golden[key])


def test_sample_of_jit():
    network, golden, sampling = read("jit")
    low, high = sampling["interval"]
    drawn, _ = draw(
        network,
        IMAGE,
        golden["sample_y"],
        golden["sample_noise"],
        "heun",
        steps=sampling["steps"],
        guidance=sampling["cfg"],
        guidance_interval=[1 - high, 1 - low],
    )
    assert_close(drawn.latents, golden["sample"], SAMPLED)


def test_one_step_of_meanflow():
    network, golden, _ = read("meanflow")
    drawn, _ = draw(network, AverageVelocityConfig(), golden["y"], golden["x"], "euler", steps=1)
    assert_close(drawn.latents, golden["one_step"], SAMPLED)


@pytest.mark.parametrize("name", ["imeanflow", "pmf"])
def test_two_steps_with_guidance_as_an_input(name):
    network, golden, sampling = read(name)
    drawn, _ = draw(
        network,
        AverageVelocityConfig(condition="h"),
        golden["sample_y"],
        golden["sample_noise"],
        "euler",
        steps=sampling["steps"],
        guidance=sampling["omega"],
        guidance_interval=[sampling["t_min"], sampling["t_max"]],
    )
    assert_close(drawn.latents, golden["sample_2step"], SAMPLED)


@pytest.mark.parametrize("key", ["traj", "traj_shared"])
def test_trajectory_of_ddt(key):
    network, golden, sampling = read("ddt")
    cache = {"cache": "encoder", "cache_interval": sampling["shared_every"]} if key == "traj_shared" else {}
    drawn = draw(
        network,
        DATA_AT_1,
        golden["traj_y"],
        golden["traj_noise"],
        "euler",
        steps=sampling["num_steps"],
        grid={"name": "uniform", "last_step": sampling["last_step"]},
        guidance=sampling["guidance"],
        guidance_interval=[0.0, 1 - sampling["guidance_interval_min"]],
        **cache,
    )
    assert_trajectory(drawn, golden[key])


@pytest.mark.parametrize(
    ("name", "key"),
    [("rae_dit", "traj_guidance_off")]
    + [("rae_ditdh", f"traj_{guidance}") for guidance in ("guidance_off", "cfg", "autoguidance")],
)
def test_trajectory_of_rae(name, key):
    network, golden, sampling = read(name)
    options: dict[str, Any] = {} if key == "traj_guidance_off" else {"guidance": sampling["cfg_scale"]}
    if key == "traj_autoguidance":
        options["weaker"] = network_of(golden, {"num_heads": 2, "head_num_heads": 2}, "guide.")
    drawn = draw(
        network,
        RAW_TIME,
        golden["traj_y"],
        golden["traj_noise"],
        "euler",
        steps=sampling["points"] - 1,
        grid={"name": "shifted", "shift": sampling["time_shift"], "t_end": 0.001},
        **options,
    )
    assert_trajectory(drawn, golden[key])


@pytest.mark.parametrize(("name", "key"), [("repa", "euler"), ("repa", "heun"), ("repa", "sde"), ("repae", "euler")])
def test_sample_of_repa(name, key):
    network, golden, sampling = read(name)
    options: dict[str, Any] = {}
    solver: str | dict[str, Any] = key
    if key == "heun":
        solver = {"name": "heun", "guided_by": "step", "ends_with": "data"}
    if key == "sde":
        solver = {"name": "euler_maruyama", "diffusion": "sigma", "diffusion_scale": 2.0}
        options = {"grid": {"name": "uniform", "last_step": 0.04}, "step_noise": golden["sde_draws"]}
    drawn, _ = draw(
        network,
        RAW_TIME,
        golden["traj_y"],
        golden["traj_noise"].double(),
        solver,
        steps=sampling["num_steps"],
        guidance=sampling["cfg_scale"],
        guidance_interval=[sampling["guidance_low"], sampling["guidance_high"]],
        **options,
    )
    assert_close(drawn.latents.float(), golden[f"sampled_{key}"], SAMPLED)
