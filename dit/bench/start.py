"""`start`: from the command to its answer, imports included, each in a process of its own."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from dit.bench.harness import Row, race
from dit.bench.peers import diffusers_dit
from dit.bench.programs import program_seconds
from dit.bench.settings import Settings
from dit.diffusion.config import GaussianConfig
from dit.latents.codec import load_codec
from dit.models.dit import DiT
from dit.models.variants import resolve_arguments
from dit.sampling.config import SamplingConfig
from dit.sampling.solvers import SolverOptions
from dit.zoo.folder.config import FolderConfig, ModelDescription, write_config

STEPS = 20
_THEIRS = """
from diffusers import DiTPipeline
pipe = DiTPipeline.from_pretrained({folder!r})
pipe.set_progress_bar_config(disable=True)
pipe([3], guidance_scale=1.5, num_inference_steps={steps}).images[0].save({out!r})
"""


def run(settings: Settings) -> list[Row]:
    """Measure the help, a configuration error and the first image."""
    settings.say("start: help")
    answers = race(
        {
            "dit": lambda: program_seconds(["-m", "dit", "--help"]),
            "python -c pass": lambda: program_seconds(["-c", "pass"]),
            "import torch": lambda: program_seconds(["-c", "import torch"]),
        },
        rounds=settings.rounds,
        say=settings.say,
    )
    rows = answers.rows("start", "dit --help", ours="dit")
    settings.say("start: first image")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_models(folder)
        image = str(folder / "image.png")
        own = ["-m", "dit", "sample", str(folder / "ours"), "--classes", "3", "--out", image]
        work = _THEIRS.format(folder=str(folder / "theirs"), steps=STEPS, out=image)
        images = race(
            {"dit": lambda: program_seconds(own), "DiTPipeline": lambda: program_seconds(["-c", work])},
            rounds=max(1, settings.rounds // 2),
            warmups=0,
            say=settings.say,
        )
    return rows + images.rows("start", "dit_ti_2, first image", ours="dit")


def write_models(folder: Path) -> None:
    """Write the same small network, with random weights, as an exported folder and as a pipeline of diffusers."""
    from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline  # pyright: ignore[reportPrivateImportUsage]

    arguments = resolve_arguments("dit_ti_2", input_size=8)  # 1000 classes: DiTPipeline's null class is the 1000th
    codec = load_codec("mnist")
    (folder / "ours").mkdir()
    save_file(DiT(**arguments).state_dict(), folder / "ours" / "model.safetensors")
    config = FolderConfig(
        model=ModelDescription(name="dit_ti_2", arguments=arguments),
        process=GaussianConfig(),
        latents=codec.describe(),
        sampling=SamplingConfig(solver=SolverOptions(name="ddim"), steps=STEPS, guidance=1.5),
    )
    write_config(folder / "ours", config)
    network: Any = diffusers_dit(arguments, torch.float32)
    scheduler: Any = DDIMScheduler()
    vae: Any = AutoencoderKL.from_pretrained(codec.folder.path)
    DiTPipeline(transformer=network, vae=vae, scheduler=scheduler).save_pretrained(folder / "theirs")
