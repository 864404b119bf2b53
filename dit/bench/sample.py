"""`sample`: whole samplings with guidance, in network calls; the decoder is measured by `decode`.

Equal: 20 DDIM steps on both sides. Defaults: ours against 50 DDIM steps of DiTPipeline in float32, of which 5 are timed
and scaled up, for their cost is the same in every step.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from dit.bench.harness import Row, Run, race
from dit.bench.peers import diffusers_dit, fast_network, kl_autoencoder
from dit.bench.settings import Settings
from dit.diffusion.config import GaussianConfig
from dit.diffusion.create import create_process
from dit.errors import ConfigError
from dit.layers.precision import has_bf16
from dit.models.dit.arguments import DiTArguments
from dit.models.dit.network import DiT
from dit.models.families import arguments_of
from dit.sampling.config import SamplingConfig
from dit.sampling.sampler import sample
from dit.sampling.solvers import SolverOptions

CASES = (("dit_s_2", 4),)
STEPS, TIMED, THEIR_STEPS = 20, 5, 50
DEFAULT_SOLVER, DEFAULT_STEPS = "dpmpp_2m", 15
"""What zoo entries of this process sample with."""


def run(settings: Settings) -> Iterator[Row]:
    """Measure equal settings, then defaults.

    Raises:
        ConfigError: DiTPipeline has no such network.
    """
    ((name, batch, share),) = settings.cases(CASES)
    if not isinstance(arguments_of(name), DiTArguments):
        raise ConfigError(f"--model: expected a DiT, which DiTPipeline samples from too, found {name}")
    model = fast_network(name, settings)
    share = replace(share, budget=share.budget / 2)
    dtype = torch.bfloat16 if has_bf16(settings.device) else torch.float32
    label = f"DiTPipeline {str(dtype).removeprefix('torch.')}"
    settings.say(f"sample {name}, {batch} guided images, {STEPS} DDIM steps")
    equal = {"dit": lambda: _ours(model, batch, "ddim", STEPS)}
    equal[label] = lambda: _theirs(model, batch, STEPS, dtype, settings)
    yield from race("sample", f"{name} {batch} images, {STEPS} DDIM steps", equal, share)
    settings.say(f"sample {name}, defaults against defaults")
    label = f"DiTPipeline {THEIR_STEPS} DDIM steps float32"
    defaults = {"dit": lambda: _ours(model, batch, DEFAULT_SOLVER, DEFAULT_STEPS)}
    defaults[label] = lambda: _theirs(model, batch, TIMED, torch.float32, settings)
    case = f"{name} {batch} images, {DEFAULT_SOLVER} {DEFAULT_STEPS}"
    yield from race("sample", case, defaults, share, scale={label: THEIR_STEPS / TIMED})


def _ours(model: DiT, batch: int, solver: str, steps: int) -> Run:
    process = create_process(GaussianConfig())
    sampling = SamplingConfig(guidance=4.0, solver=SolverOptions(name=solver), steps=steps)
    shape = (model.arguments.in_channels, *model.arguments.input_size)
    y = torch.arange(batch, device=next(model.parameters()).device)
    return lambda: sample(model, process, y, shape, sampling=sampling).latents


def _theirs(model: DiT, batch: int, steps: int, dtype: torch.dtype, settings: Settings) -> Run:
    """Sample with diffusers' pipeline, with random weights and a decoder that takes no time."""
    from diffusers import DDIMScheduler, DiTPipeline  # pyright: ignore[reportPrivateImportUsage]

    network, scheduler = diffusers_dit(model.arguments, dtype), DDIMScheduler()
    vae = nn.Module.to(kl_autoencoder((32, 32, 32, 32), layers=1), dtype)
    pipe: Any = DiTPipeline(transformer=network, vae=vae, scheduler=scheduler)  # pyright: ignore[reportArgumentType]
    pipe = pipe.to(settings.device)
    if settings.device.type == "cuda" and dtype != torch.float32:  # every block in place, as its documentation advises
        for block in network.get_submodule("transformer_blocks").children():
            block.compile()
    pipe.set_progress_bar_config(disable=True)
    classes = list(range(batch))
    return lambda: pipe(classes, guidance_scale=4.0, num_inference_steps=steps, output_type="np").images
