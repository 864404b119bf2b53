"""Proof 15: diffusers' schedulers as a second oracle: the same network, noise and grid give the same samples."""

import pytest
import torch

from dit.diffusion.config import FlowConfig, GaussianConfig
from dit.diffusion.create import create_process
from dit.sampling.config import SamplingConfig
from dit.sampling.sampler import sample

# diffusers turns tensors into numpy arrays in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

STEPS = 12
GAUSSIAN = create_process(GaussianConfig(learn_sigma=False))
FLOW = create_process(FlowConfig())
SHAPE = (2, 4, 4)
Y = torch.zeros(3, dtype=torch.int64)
LINEAR = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "prediction_type": "epsilon",
}


def network(x, t, y):
    """A smooth nonlinear function of state and time, bounded like a noise prediction."""
    return torch.tanh(0.7 * x + 0.3 * torch.sin(t.reshape(-1, *[1] * (x.dim() - 1)) / 300)) + 0.1 * x.flip(-1)


@pytest.fixture
def noise():
    return torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0))


def run(scheduler, num_steps, x, model=network, **options):
    scheduler.set_timesteps(num_steps)
    for t in scheduler.timesteps:
        x = scheduler.step(model(x, torch.as_tensor(t).float().expand(len(x)), Y), t, x, **options).prev_sample
    return x


def assert_same(expected, x, solver, steps, grid="auto", process=GAUSSIAN, model=network, atol=1e-4):
    """Compare with ours from the noise x; noises of steps are those that diffusers draws from generator 1, in turn."""
    generator = torch.Generator().manual_seed(1)
    step_noise = torch.stack([torch.randn(x.shape, generator=generator) for _ in range(steps)])
    sampling = SamplingConfig(solver=solver, steps=steps, grid=grid)
    actual = sample(model, process, Y, SHAPE, sampling=sampling, noise=x, step_noise=step_noise).latents
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=atol)


def times_of(scheduler):
    return {"name": "list", "times": [(float(t) + 1) / 1000 for t in scheduler.timesteps]}


@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_proof_15_ddim(noise, eta):
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(**LINEAR, clip_sample=False, set_alpha_to_one=True, timestep_spacing="leading")
    expected = run(scheduler, 20, noise, eta=eta, generator=torch.Generator().manual_seed(1))
    assert_same(expected, noise, {"name": "ddim", "eta": eta}, 20, atol=1e-4 if eta else 1e-5)


@pytest.mark.parametrize(
    ("variance", "theirs"), [("lower", "fixed_small"), ("upper", "fixed_large"), ("learned", "learned_range")]
)
def test_proof_15_ddpm(noise, variance, theirs):
    from diffusers import DDPMScheduler

    def learned(x, t, y):
        return torch.cat([network(x, t, y), torch.tanh(x.flip(1))], dim=1)

    model, process = (learned, create_process(GaussianConfig())) if variance == "learned" else (network, GAUSSIAN)
    scheduler = DDPMScheduler(**LINEAR, clip_sample=False, variance_type=theirs, timestep_spacing="leading")
    expected = run(scheduler, 20, noise, model, generator=torch.Generator().manual_seed(1))
    assert_same(expected, noise, {"name": "ddpm", "variance": variance}, 20, "respaced_ddim", process, model)


@pytest.mark.parametrize(("solver", "algorithm"), [("dpmpp_2m", "dpmsolver++"), ("dpmpp_2m_sde", "sde-dpmsolver++")])
def test_proof_15_dpmpp_2m(noise, solver, algorithm):
    from diffusers import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(
        **LINEAR, algorithm_type=algorithm, solver_order=2, final_sigmas_type="zero", timestep_spacing="linspace"
    )
    expected = run(scheduler, STEPS, noise, generator=torch.Generator().manual_seed(1))
    assert_same(expected, noise, solver, STEPS, times_of(scheduler))


def test_proof_15_unipc(noise):
    from diffusers import UniPCMultistepScheduler

    scheduler = UniPCMultistepScheduler(
        **LINEAR, solver_order=2, solver_type="bh2", final_sigmas_type="zero", timestep_spacing="linspace"
    )
    assert_same(run(scheduler, STEPS, noise), noise, "unipc", STEPS, times_of(scheduler))


@pytest.mark.parametrize("solver", ["dpmpp_2m", "unipc"])
def test_proof_15_flow_models_by_exponential_integrators(noise, solver):
    """A flow network, sampled through (alpha, sigma) = (1 - t, t)."""
    import diffusers

    name, options = {
        "dpmpp_2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
        "unipc": ("UniPCMultistepScheduler", {"solver_type": "bh2"}),
    }[solver]
    scheduler = getattr(diffusers, name)(
        num_train_timesteps=1000,
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=1.0,
        solver_order=2,
        final_sigmas_type="zero",
        **options,
    )
    scheduler.set_timesteps(STEPS)
    times = [float(sigma) for sigma in scheduler.sigmas[:-1]]
    x = noise
    for t, sigma in zip(scheduler.timesteps, times, strict=True):
        x = scheduler.step(network(x, torch.full((3,), 1000 * sigma), Y), t, x).prev_sample
    assert_same(x, noise, solver, STEPS, {"name": "list", "times": times}, FLOW)


@pytest.mark.parametrize(
    ("solver", "name"), [("euler", "FlowMatchEulerDiscreteScheduler"), ("heun", "FlowMatchHeunDiscreteScheduler")]
)
def test_proof_15_flow_euler_and_heun(noise, solver, name):
    import diffusers

    scheduler = getattr(diffusers, name)(num_train_timesteps=1000, shift=1.0)
    x = run(scheduler, STEPS, noise)
    times = list(dict.fromkeys(float(s) for s in scheduler.sigmas if s > 0))
    # The scheduler never evaluates at t=0.
    options = solver if solver == "euler" else {"name": "heun", "ends_with": "data"}
    assert_same(x, noise, options, len(times), {"name": "list", "times": times}, FLOW)
