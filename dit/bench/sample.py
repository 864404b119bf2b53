"""`sample`: whole samplings of DiT-S/2 with guidance, in network calls; the decoder is measured by `decode`.

Equal: 20 DDIM steps on both sides. Defaults: ours against 50 DDIM steps of DiTPipeline in float32 and 250 DDPM steps
of the original in float32; of theirs 5 steps are timed and scaled up, for their cost is the same in every step.
"""

from typing import Any

import torch
from torch import nn

from dit.bench.decode import small_vae
from dit.bench.harness import Race, Row, Run, race
from dit.bench.limits import forward_seconds
from dit.bench.peers import PlainDiT, diffusers_dit
from dit.bench.settings import Settings
from dit.diffusion.config import GaussianConfig
from dit.diffusion.create import create_process
from dit.diffusion.process import Process
from dit.layers.precision import bf16_pays
from dit.models.dit import DiT
from dit.models.variants import resolve_arguments
from dit.sampling.config import SamplingConfig
from dit.sampling.sample import sample
from dit.sampling.solvers import SolverOptions

BATCH = 4
STEPS = 20
TIMED = 5
DEFAULT = SamplingConfig(solver=SolverOptions(name="dpmpp_2m"), steps=15, guidance=4.0)
"""What zoo entries of this process sample with."""


def run(settings: Settings) -> list[Row]:
    """Measure equal settings, then defaults."""
    arguments = resolve_arguments("dit_s_2")
    process = create_process(GaussianConfig())
    model = DiT(**arguments).eval().requires_grad_(False)
    plain = PlainDiT(arguments).eval().requires_grad_(False).copy_from(model)
    if bf16_pays("cpu", arguments["hidden_size"]):  # as `load_pipeline` does
        model.blocks_in(torch.bfloat16)
    in_float32, in_bf16 = pipeline(arguments, torch.float32), pipeline(arguments, torch.bfloat16)
    steps = TIMED if settings.quick else STEPS
    settings.say(f"sample dit_s_2, {BATCH} guided images, {steps} DDIM steps")
    equal = SamplingConfig(solver=SolverOptions(name="ddim"), steps=steps, guidance=4.0)
    contenders: dict[str, Run] = {
        "dit": lambda: ours(model, process, equal),
        "DiTPipeline bf16": lambda: theirs(in_bf16, steps),
    }
    limit = forward_seconds(arguments, 2 * BATCH, torch.bfloat16)
    result = race(contenders, rounds=settings.rounds, warmups=0, say=settings.say)
    rows = result.rows("sample", f"dit_s_2 {BATCH} images, {steps} DDIM steps", ours="dit", limit=steps * limit)
    if settings.quick:
        return rows
    settings.say("sample dit_s_2, defaults against defaults")
    times = race(
        {
            "dit": lambda: ours(model, process, DEFAULT),
            "DiTPipeline 50 DDIM steps float32": lambda: theirs(in_float32, TIMED),
            "original 250 DDPM steps float32": lambda: original(plain, process),
        },
        rounds=max(1, settings.rounds // 2),
        warmups=0,
        say=settings.say,
    )
    scale = {
        "dit": 1.0,
        "DiTPipeline 50 DDIM steps float32": 50 / TIMED,
        "original 250 DDPM steps float32": 250 / TIMED,
    }
    scaled = {name: [scale[name] * value for value in seconds] for name, seconds in times.seconds.items()}
    case = f"dit_s_2 {BATCH} images, {DEFAULT.solver.name} {DEFAULT.steps}"
    return rows + Race(scaled, times.first).rows("sample", case, ours="dit", limit=DEFAULT.steps * limit)


def ours(model: DiT, process: Process, sampling: SamplingConfig) -> torch.Tensor:
    """Sample with our loop."""
    return sample(model, process, torch.arange(BATCH), (4, 32, 32), sampling=sampling).latents


@torch.inference_mode()
def original(plain: PlainDiT, process: Process) -> torch.Tensor:
    """Take the first steps of 250 of the original's sampling: guided, in float32."""
    first = SamplingConfig(solver=SolverOptions(name="ddpm"), steps=TIMED, guidance=4.0)
    network = _AsModel(plain)
    return sample(network, process, torch.arange(BATCH), (4, 32, 32), sampling=first).latents


class _AsModel:
    """A network with a null class and nothing more."""

    null_class = 1000
    num_classes = 1000

    def __init__(self, network: PlainDiT) -> None:
        self.network = network

    def __call__(self, x_t: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.network(x_t, t, y)


def pipeline(arguments: dict[str, Any], dtype: torch.dtype) -> Any:
    """Return diffusers' pipeline with a network of random weights and a decoder that takes no time."""
    from diffusers import DDIMScheduler, DiTPipeline  # pyright: ignore[reportPrivateImportUsage]

    network: Any = diffusers_dit(arguments, dtype)
    scheduler: Any = DDIMScheduler()
    vae: Any = nn.Module.to(small_vae(), dtype)
    pipe = DiTPipeline(transformer=network, vae=vae, scheduler=scheduler)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def theirs(pipe: Any, steps: int) -> Any:
    """Sample with diffusers' pipeline."""
    return pipe(list(range(BATCH)), guidance_scale=4.0, num_inference_steps=steps, output_type="np").images
