"""Proof 15: diffusers' schedulers as a second oracle: the same network, noise and grid give the same samples."""

import pytest
import torch

from dit.diffusion.config import FlowConfig, GaussianConfig
from dit.diffusion.create import create_process
from dit.sampling.config import SamplingConfig
from dit.sampling.sample import sample

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


def run(scheduler, timesteps, x, **options):
    scheduler.set_timesteps(**timesteps)
    for t in scheduler.timesteps:
        output = network(x, torch.as_tensor(t).float().expand(len(x)), Y)
        x = scheduler.step(output, t, x, **options).prev_sample
    return x, scheduler.timesteps


def times_of(timesteps):
    return [(float(t) + 1) / 1000 for t in timesteps]


def test_proof_15_ddim():
    from diffusers import DDIMScheduler

    x = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0))
    scheduler = DDIMScheduler(**LINEAR, clip_sample=False, set_alpha_to_one=True, timestep_spacing="leading")
    expected, _ = run(scheduler, {"num_inference_steps": 20}, x)
    sampling = SamplingConfig(solver="ddim", steps=20)
    actual = sample(network, GAUSSIAN, Y, SHAPE, sampling=sampling, noise=x).latents
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_proof_15_ddim_with_noise(noise):
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(**LINEAR, clip_sample=False, set_alpha_to_one=True, timestep_spacing="leading")
    scheduler.set_timesteps(20)
    step_noise = torch.randn(20, *noise.shape, generator=torch.Generator().manual_seed(1))
    x = noise
    for t, z in zip(scheduler.timesteps, step_noise, strict=True):
        x = scheduler.step(network(x, t.float().expand(len(x)), Y), t, x, eta=0.7, variance_noise=z).prev_sample
    sampling = SamplingConfig(solver={"name": "ddim", "eta": 0.7}, steps=20)
    actual = sample(network, GAUSSIAN, Y, SHAPE, sampling=sampling, noise=noise, step_noise=step_noise).latents
    torch.testing.assert_close(actual, x, rtol=1e-4, atol=1e-4)


def test_proof_15_ddpm_with_learned_variance(noise):
    from diffusers import DDPMScheduler

    def learned(x, t, y):
        return torch.cat([network(x, t, y), torch.tanh(x.flip(1))], dim=1)

    scheduler = DDPMScheduler(**LINEAR, clip_sample=False, variance_type="learned_range", timestep_spacing="leading")
    scheduler.set_timesteps(20)
    x, generator = noise, torch.Generator().manual_seed(1)
    for t in scheduler.timesteps:
        output = learned(x, t.float().expand(len(x)), Y)
        x = scheduler.step(output, t, x, generator=generator).prev_sample
    generator = torch.Generator().manual_seed(1)
    step_noise = torch.stack([torch.randn(noise.shape, generator=generator) for _ in scheduler.timesteps])
    process = create_process(GaussianConfig())
    sampling = SamplingConfig(solver="ddpm", steps=20, grid="respaced_ddim")
    actual = sample(learned, process, Y, SHAPE, sampling=sampling, noise=noise, step_noise=step_noise).latents
    torch.testing.assert_close(actual, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variance", ["lower", "upper"])
def test_proof_15_ddpm(noise, variance):
    from diffusers import DDPMScheduler

    variance_type = {"lower": "fixed_small", "upper": "fixed_large"}[variance]
    scheduler = DDPMScheduler(**LINEAR, clip_sample=False, variance_type=variance_type, timestep_spacing="leading")
    expected, timesteps = run(scheduler, {"num_inference_steps": 20}, noise, generator=torch.Generator().manual_seed(1))
    # diffusers draws at every step but the last.
    generator = torch.Generator().manual_seed(1)
    step_noise = torch.stack([torch.randn(noise.shape, generator=generator) for _ in timesteps])
    sampling = SamplingConfig(solver={"name": "ddpm", "variance": variance}, steps=20, grid="respaced_ddim")
    actual = sample(network, GAUSSIAN, Y, SHAPE, sampling=sampling, noise=noise, step_noise=step_noise).latents
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("solver", "algorithm"), [("dpmpp_2m", "dpmsolver++"), ("dpmpp_2m_sde", "sde-dpmsolver++")])
def test_proof_15_dpmpp_2m(noise, solver, algorithm):
    from diffusers import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(
        **LINEAR, algorithm_type=algorithm, solver_order=2, final_sigmas_type="zero", timestep_spacing="linspace"
    )
    generator = torch.Generator().manual_seed(1)
    expected, timesteps = run(scheduler, {"num_inference_steps": STEPS}, noise, generator=generator)
    generator = torch.Generator().manual_seed(1)
    step_noise = torch.stack([torch.randn(noise.shape, generator=generator) for _ in timesteps])
    sampling = SamplingConfig(solver=solver, steps=STEPS, grid={"name": "list", "times": times_of(timesteps)})
    actual = sample(network, GAUSSIAN, Y, SHAPE, sampling=sampling, noise=noise, step_noise=step_noise).latents
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_proof_15_unipc(noise):
    from diffusers import UniPCMultistepScheduler

    scheduler = UniPCMultistepScheduler(
        **LINEAR, solver_order=2, solver_type="bh2", final_sigmas_type="zero", timestep_spacing="linspace"
    )
    expected, timesteps = run(scheduler, {"num_inference_steps": STEPS}, noise)
    sampling = SamplingConfig(solver="unipc", steps=STEPS, grid={"name": "list", "times": times_of(timesteps)})
    actual = sample(network, GAUSSIAN, Y, SHAPE, sampling=sampling, noise=noise).latents
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


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
    sampling = SamplingConfig(solver=solver, steps=STEPS, grid={"name": "list", "times": times})
    actual = sample(network, FLOW, Y, SHAPE, sampling=sampling, noise=noise).latents
    torch.testing.assert_close(actual, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("solver", "name"), [("euler", "FlowMatchEulerDiscreteScheduler"), ("heun", "FlowMatchHeunDiscreteScheduler")]
)
def test_proof_15_flow_euler_and_heun(noise, solver, name):
    import diffusers

    scheduler = getattr(diffusers, name)(num_train_timesteps=1000, shift=1.0)
    scheduler.set_timesteps(STEPS)
    x = noise
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t.expand(len(x)), Y), t, x).prev_sample
    times = list(dict.fromkeys(float(s) for s in scheduler.sigmas if s > 0))
    sampling = SamplingConfig(solver=solver, steps=len(times), grid={"name": "list", "times": times})
    actual = sample(network, FLOW, Y, SHAPE, sampling=sampling, noise=noise)
    if solver == "heun":
        # The scheduler's last step is Euler's, for it never evaluates at t=0; ours has a velocity there.
        assert actual.num_calls == 2 * len(times)
        torch.testing.assert_close(_heun_with_euler_at_the_end(noise, times), x, rtol=1e-4, atol=1e-4)
    else:
        torch.testing.assert_close(actual.latents, x, rtol=1e-4, atol=1e-4)


def _heun_with_euler_at_the_end(noise, times):
    from dit.diffusion.process import Denoised
    from dit.sampling.grid import grid_of_times
    from dit.sampling.solvers import SolverOptions
    from dit.sampling.solvers.ode import Euler, Heun

    grid = grid_of_times(FLOW.schedule, FLOW.prediction, torch.tensor([*times, 0.0]))

    def denoise(x, t) -> Denoised:
        return FLOW.denoise(network(x, FLOW.model_time(t).expand(len(x)), Y), x, t)

    x = noise
    for k in range(grid.num_steps):
        solver = Heun if k + 1 < grid.num_steps else Euler
        x = solver(SolverOptions(name="heun"))(x, k, grid, denoise, torch.zeros_like, None).x
    return x
